//! A small interpreter of OpenAPI-like schemas for the bodies of contract routes: the reasons and
//! JSON pointers that existing clients know, the first error only, defaults put in place.
//!
//! Pure: it knows values and rules, neither requests nor routes (see [`bodies`] and [`components`] for
//! the schemas). The documents are made of the same schemas ([`super::openapi`]).

pub mod bodies;
pub mod components;
mod text;

use serde_json::{Map, Value};

pub use text::Format;

/// What a value must look like.
#[derive(Debug)]
pub enum Schema {
    /// A list.
    Array {
        /// What each item must look like.
        items: &'static Schema,
        /// Fewest items.
        min: usize,
        /// Most items.
        max: Option<usize>,
    },
    /// An object; members that are not named are accepted and ignored.
    Object {
        /// The members that are checked.
        properties: &'static [(&'static str, Schema)],
        /// The members that must be there, in the order in which their absence is reported.
        required: &'static [&'static str],
    },
    /// An object whose members are all strings.
    StringMap,
    /// A string.
    String {
        /// Fewest characters.
        min: usize,
        /// Most characters.
        max: Option<usize>,
        /// What it must look like beyond its length.
        format: Option<Format>,
    },
    /// A whole number.
    Integer {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
        /// Takes the place of an absent or null member.
        default: Option<i64>,
    },
    /// What another schema says, which has a name.
    Named(&'static Component),
    /// Anything here: it is checked after the schema, and documents describe it under this name.
    Elsewhere(&'static str),
}

/// A schema with the name that it has in documents and that generated clients know.
#[derive(Debug)]
pub struct Component {
    /// The name.
    pub name: &'static str,
    /// What it means, for people.
    pub about: &'static str,
    /// Whether nothing new should use it.
    pub deprecated: bool,
    /// Members of an object in the order that generated constructors take them in, behind those that are
    /// required; what is not named comes last.
    pub order: &'static [&'static str],
    /// What a value must look like.
    pub schema: Schema,
}

impl Component {
    const fn new(name: &'static str, about: &'static str, schema: Schema) -> Self {
        Self { name, about, deprecated: false, order: &[], schema }
    }
}

/// What is wrong with a value, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// From the inside out, as it is collected on the way back.
    path: Vec<String>,
    reason: String,
}

impl Violation {
    /// A violation of the value at hand.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { path: Vec::new(), reason: reason.into() }
    }

    /// The same, seen from the value that holds it under `key`.
    #[must_use]
    pub fn under(mut self, key: impl Into<String>) -> Self {
        self.path.push(key.into());
        self
    }

    /// `Error at "<pointer>": <reason>`, or the reason alone at the root.
    #[must_use]
    pub fn text(&self) -> String {
        if self.path.is_empty() {
            return self.reason.clone();
        }
        let pointer: String = self.path.iter().rev().flat_map(|key| ["/", key.as_str()]).collect();
        format!("Error at \"{pointer}\": {}", self.reason)
    }

    /// The message of a contract route, which ends at the first line.
    #[must_use]
    pub fn body_message(&self) -> String {
        self.message_against(None)
    }

    /// The same where the body's schema stands elsewhere in the document, and is named.
    #[must_use]
    pub fn message_against(&self, reference: Option<&str>) -> String {
        let reference = reference.map(|name| format!(" {name}")).unwrap_or_default();
        let text =
            format!("request body has an error: doesn't match schema{reference}: {}", self.text());
        text.lines().next().unwrap_or_default().to_owned()
    }
}

impl Schema {
    /// Any string.
    pub const TEXT: Self = Self::String { min: 0, max: None, format: None };

    /// Checks the value and puts defaults in place.
    ///
    /// # Errors
    /// The first violation, in the order of existing implementations: members by name, then
    /// required ones.
    pub fn apply(&self, value: &mut Value) -> Result<(), Violation> {
        match (self, value) {
            (Self::Elsewhere(_), _) => Ok(()),
            (Self::Named(component), value) => component.schema.apply(value),
            (_, Value::Null) => Err(Violation::new("Value is not nullable")),
            (Self::Array { items, min, max }, Value::Array(list)) => {
                apply_array(items, *min, *max, list)
            }
            (Self::Object { properties, required }, Value::Object(members)) => {
                apply_object(properties, required, members)
            }
            (Self::StringMap, Value::Object(members)) => apply_string_map(members),
            (Self::String { min, max, format }, Value::String(string)) => {
                text::check(string, *min, *max, *format)
            }
            (Self::Integer { min, max, .. }, number @ Value::Number(_)) => {
                apply_integer(*min, *max, number)
            }
            (schema, _) => Err(Violation::new(format!("value must be {}", schema.kind()))),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Array { .. } => "an array",
            Self::Object { .. } | Self::StringMap => "an object",
            Self::String { .. } => "a string",
            Self::Integer { .. } => "an integer",
            Self::Named(component) => component.schema.kind(),
            Self::Elsewhere(_) => "anything",
        }
    }

    /// The schema that counts, without its name.
    const fn unnamed(&self) -> &Self {
        match self {
            Self::Named(component) => component.schema.unnamed(),
            other => other,
        }
    }

    /// Where it stands in documents, if it has a name.
    #[must_use]
    pub fn reference(&self) -> Option<String> {
        match self {
            Self::Named(Component { name, .. }) | Self::Elsewhere(name) => {
                Some(format!("#/components/schemas/{name}"))
            }
            _ => None,
        }
    }
}

fn apply_array(
    items: &Schema,
    min: usize,
    max: Option<usize>,
    list: &mut [Value],
) -> Result<(), Violation> {
    if list.len() < min {
        return Err(Violation::new(format!("minimum number of items is {min}")));
    }
    if let Some(max) = max.filter(|max| list.len() > *max) {
        return Err(Violation::new(format!("maximum number of items is {max}")));
    }
    for (index, item) in list.iter_mut().enumerate() {
        items.apply(item).map_err(|violation| violation.under(index.to_string()))?;
    }
    Ok(())
}

fn apply_object(
    properties: &[(&'static str, Schema)],
    required: &[&'static str],
    members: &mut Map<String, Value>,
) -> Result<(), Violation> {
    for (name, schema) in properties {
        if let Schema::Integer { default: Some(default), .. } = schema.unnamed()
            && members.get(*name).is_none_or(Value::is_null)
        {
            members.insert((*name).to_owned(), Value::from(*default));
        }
    }
    for (name, schema) in properties {
        if let Some(member) = members.get_mut(*name) {
            schema.apply(member).map_err(|violation| violation.under(*name))?;
        }
    }
    match required.iter().find(|name| !members.contains_key(**name)) {
        Some(name) => Err(Violation::new(format!("property \"{name}\" is missing")).under(*name)),
        None => Ok(()),
    }
}

fn apply_string_map(members: &mut Map<String, Value>) -> Result<(), Violation> {
    let mut names: Vec<String> = members.keys().cloned().collect();
    names.sort_unstable();
    for name in names {
        text::no_nul(&name).map_err(|violation| violation.under(name.clone()))?;
        if let Some(member) = members.get_mut(&name) {
            Schema::TEXT.apply(member).map_err(|violation| violation.under(name))?;
        }
    }
    Ok(())
}

/// A number without a fraction counts as whole however it is written, and is stored as whole.
fn apply_integer(min: i64, max: i64, value: &mut Value) -> Result<(), Violation> {
    let number = match (value.as_i64(), value.as_f64()) {
        (Some(whole), _) => whole,
        (None, Some(number)) if number.fract() == 0.0 => saturate(number),
        _ => return Err(Violation::new("value must be an integer")),
    };
    if number < min {
        return Err(Violation::new(format!("number must be at least {min}")));
    }
    if number > max {
        return Err(Violation::new(format!("number must be at most {max}")));
    }
    *value = Value::from(number);
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "saturating is what is wanted")]
const fn saturate(number: f64) -> i64 {
    number as i64
}

#[cfg(test)]
mod tests;
