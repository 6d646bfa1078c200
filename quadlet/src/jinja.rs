//! The engine of the templates, set up so that it gives the bytes that Ansible gives.
//!
//! What templates may use is in `templates/README.md`.

use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, syntax::SyntaxConfig, value};
use serde_json::{Map, Value};

/// Names with their values.
pub type Context = Map<String, Value>;

/// An engine without templates.
fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).keep_trailing_newline(true).build()?;
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    Ok(environment)
}

/// Renders a template. `name` is for error texts.
///
/// # Errors
/// When the template is not understood, or names what is not there.
pub fn render(name: &str, source: &str, context: &Context) -> Result<String, Error> {
    environment()?.render_named_str(name, source, value::Serde(context))
}

/// Evaluates an expression, as it is between double braces.
///
/// # Errors
/// As above.
pub fn evaluate(expression: &str, context: &Context) -> Result<Value, Error> {
    let environment = environment()?;
    let found = environment.compile_expression(expression)?.eval(value::Serde(context))?;
    serde_json::to_value(found)
        .map_err(|error| Error::new(minijinja::ErrorKind::BadSerialization, error.to_string()))
}
