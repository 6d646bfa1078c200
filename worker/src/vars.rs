//! A run's inputs in the forms that Ansible reads: extra variables as YAML, options as a quoted
//! command line. Pure.

use std::fmt::Write as _;

use dispatcher_wire::inputs::RunInputs;
use serde_json::Value;

/// Extra variables and secrets as one YAML document. Secrets win over variables of their name, and
/// are taken literally: nothing in them is a template.
pub(crate) fn extra_vars(inputs: &RunInputs) -> String {
    let mut yaml = String::from("{");
    let secrets = inputs.secrets.iter().flatten();
    for (name, value) in inputs.extra_vars.iter().flatten() {
        if !inputs.secrets.as_ref().is_some_and(|secrets| secrets.contains_key(name)) {
            member(&mut yaml, name, value, false);
        }
    }
    secrets.for_each(|(name, value)| member(&mut yaml, name, value, true));
    yaml.push_str("}\n");
    yaml
}

fn member(yaml: &mut String, name: &str, value: &Value, literal: bool) {
    separate(yaml);
    quoted(yaml, name);
    yaml.push_str(": ");
    write_value(yaml, value, literal);
}

fn write_value(yaml: &mut String, value: &Value, literal: bool) {
    match value {
        Value::String(text) => {
            if literal {
                yaml.push_str("!unsafe ");
            }
            quoted(yaml, text);
        }
        Value::Array(items) => {
            yaml.push('[');
            for item in items {
                separate(yaml);
                write_value(yaml, item, literal);
            }
            yaml.push(']');
        }
        Value::Object(members) => {
            yaml.push('{');
            members.iter().for_each(|(name, value)| member(yaml, name, value, literal));
            yaml.push('}');
        }
        Value::Number(number) => yaml.push_str(&yaml_number(number)),
        Value::Null | Value::Bool(_) => yaml.push_str(&value.to_string()),
    }
}

/// YAML reads `1e5` as text: a number with an exponent needs a point.
fn yaml_number(number: &serde_json::Number) -> String {
    let text = number.to_string().replace('E', "e");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let point = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with(['-', '+']) { "" } else { "+" };
            format!("{mantissa}{point}e{sign}{exponent}")
        }
        None => text,
    }
}

fn separate(yaml: &mut String) {
    if !yaml.ends_with(['{', '[']) {
        yaml.push_str(", ");
    }
}

/// A double-quoted YAML string in ASCII: YAML forbids many characters that JSON allows.
fn quoted(yaml: &mut String, text: &str) {
    yaml.push('"');
    for char in text.chars() {
        match char {
            '"' => yaml.push_str("\\\""),
            '\\' => yaml.push_str("\\\\"),
            ' '..='~' => yaml.push(char),
            // Writing into a string cannot fail.
            _ => drop(write!(yaml, "\\U{:08x}", u32::from(char))),
        }
    }
    yaml.push('"');
}

/// The options of ansible-playbook, quoted for ansible-runner's `shlex.split`. Every value is part
/// of its option's word, so that none can be taken for an option.
pub(crate) fn options(inputs: &RunInputs) -> Result<String, String> {
    let mut words = Vec::new();
    if let Some(limit) = &inputs.limit {
        words.push(format!("--limit={limit}"));
    }
    if !inputs.tags.is_empty() {
        words.push(format!("--tags={}", inputs.tags.join(",")));
    }
    if !inputs.skip_tags.is_empty() {
        words.push(format!("--skip-tags={}", inputs.skip_tags.join(",")));
    }
    words.extend(inputs.check.then(|| "--check".to_owned()));
    words.extend(inputs.diff.then(|| "--diff".to_owned()));
    words.extend(
        (inputs.verbosity > 0).then(|| format!("-{}", "v".repeat(inputs.verbosity.min(5).into()))),
    );
    if words.iter().any(|word| word.contains('\0')) {
        return Err("limit, tags and skip_tags must not contain a NUL character".to_owned());
    }
    Ok(words.iter().map(|word| shell_quoted(word)).collect::<Vec<_>>().join(" "))
}

fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\"'\"'"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inputs(value: Value) -> RunInputs {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn secrets_are_literal_and_win() {
        let inputs = inputs(json!({
            "extra_vars": {"a": "{{ b }}", "s": "seen", "n": 1.5, "l": [1, null, true]},
            "secrets": {"s": "p{{\"\n\u{7f}é", "deep": {"k": ["x", 2]}},
        }));
        assert_eq!(
            extra_vars(&inputs),
            "{\"a\": \"{{ b }}\", \"n\": 1.5, \"l\": [1, null, true], \
             \"deep\": {\"k\": [!unsafe \"x\", 2]}, \
             \"s\": !unsafe \"p{{\\\"\\U0000000a\\U0000007f\\U000000e9\"}\n"
        );
        assert_eq!(extra_vars(&RunInputs::default()), "{}\n");
    }

    #[test]
    fn numbers_stay_numbers_in_yaml() {
        let number = |text: &str| yaml_number(&serde_json::from_str(text).unwrap());
        assert_eq!(number("12"), "12");
        assert_eq!(number("-1.25"), "-1.25");
        assert_eq!(number("1e300"), "1.0e+300");
        assert_eq!(number("2.5e-10"), "2.5e-10");
    }

    #[test]
    fn no_value_becomes_an_option() {
        let inputs = inputs(json!({
            "limit": "-x' --become '", "tags": ["a b", "--check"], "check": true, "verbosity": 2,
        }));
        let options = options(&inputs).unwrap();
        assert_eq!(
            options,
            "'--limit=-x'\"'\"' --become '\"'\"'' '--tags=a b,--check' '--check' '-vv'"
        );
        let nul = RunInputs { limit: Some("a\0".to_owned()), ..RunInputs::default() };
        assert!(super::options(&nul).is_err());
    }
}
