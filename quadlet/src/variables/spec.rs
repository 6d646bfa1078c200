//! What variables there are: their types, choices and defaults, as the role's
//! `meta/argument_specs.yml` says. Nothing about them is said twice.

use std::{collections::BTreeSet, sync::LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Problems;

/// The one source, which Ansible reads, too.
const SOURCE: &str = include_str!("../../../ansible-role/meta/argument_specs.yml");
/// Where the role says which of them are its own and none of `deploy.yml`.
const ROLE: &str = include_str!("../../../ansible-role/vars/main.yml");

/// The type of a variable, in Ansible's words.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// Text.
    Str,
    /// An absolute path.
    Path,
    /// A whole number.
    Int,
    /// True or false.
    Bool,
    /// Several texts.
    List,
    /// Texts, numbers or switches by name.
    Dict,
}

impl Type {
    /// What people call it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Str => "a text",
            Self::Path => "an absolute path",
            Self::Int => "a whole number",
            Self::Bool => "true or false",
            Self::List => "a list of texts",
            Self::Dict => "names, each with a text, a whole number, true or false",
        }
    }
}

/// A variable.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Type,
    /// The type of what a list holds.
    #[serde(default)]
    pub elements: Option<Type>,
    /// The values that it may have; empty: any.
    #[serde(default)]
    pub choices: Vec<String>,
    /// Its value where it is not set.
    #[serde(default)]
    pub default: Value,
    /// What it does.
    pub description: String,
}

impl Variable {
    /// The value in its type, where it is allowed, whatever other variables say.
    ///
    /// # Errors
    /// A text with name, value and what is allowed.
    pub fn accept(&self, value: &Value) -> Result<Value, String> {
        super::validate::check(self, value)
    }
}

#[derive(Deserialize)]
struct File {
    argument_specs: Specs,
}

#[derive(Deserialize)]
struct Specs {
    main: Main,
}

#[derive(Deserialize)]
struct Main {
    options: Map<String, Value>,
}

#[derive(Deserialize)]
struct Role {
    #[serde(rename = "__dispatcher_api_role_only")]
    only: BTreeSet<String>,
}

/// The list, understood once.
static ALL: LazyLock<Result<Vec<Variable>, Problems>> = LazyLock::new(understood);

/// Every variable, in the order of the file.
///
/// # Errors
/// When the file is broken, which the tests of this crate rule out.
pub fn all() -> Result<&'static [Variable], Problems> {
    ALL.as_deref().map_err(Clone::clone)
}

fn understood() -> Result<Vec<Variable>, Problems> {
    let broken = |error: &dyn std::fmt::Display| {
        Problems::one(format!("the list of variables in this program is broken: {error}"))
    };
    let file: File = yaml_serde::from_str(SOURCE).map_err(|error| broken(&error))?;
    let role: Role = yaml_serde::from_str(ROLE).map_err(|error| broken(&error))?;
    let variable = |(name, value): (String, Value)| {
        let variable: Variable =
            serde_json::from_value(value).map_err(|error| broken(&format!("{name}: {error}")))?;
        Ok(Variable { name, ..variable })
    };
    let options = file.argument_specs.main.options.into_iter();
    options.filter(|(name, _)| !role.only.contains(name)).map(variable).collect()
}
