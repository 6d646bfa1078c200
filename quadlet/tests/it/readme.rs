//! The table of variables in the role's README is the specification's. `UPDATE=1` writes it anew.

use std::{env, fmt::Write as _, fs, path::Path};

use serde_json::{Map, Value};

const BEGIN: &str = "<!-- variables: made of meta/argument_specs.yml by `UPDATE=1 cargo test -p quadletgen readme` -->\n";
const END: &str = "<!-- /variables -->\n";

fn role(name: &str) -> String {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    repository.join("ansible-role").join(name).display().to_string()
}

fn options(text: &str) -> Map<String, Value> {
    let specs: Value = yaml_serde::from_str(text).unwrap();
    specs["argument_specs"]["main"]["options"].as_object().unwrap().clone()
}

fn default(option: &Value) -> String {
    match option.get("default") {
        Some(Value::String(text)) if text.is_empty() => "empty".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(value) => format!("`{value}`"),
        None => "–".to_owned(),
    }
}

fn kind(option: &Value) -> String {
    let choices = option.get("choices").and_then(Value::as_array);
    let choices = choices.map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    choices.map_or_else(|| option["type"].as_str().unwrap().to_owned(), |all| all.join(", "))
}

/// A table for each part of the specification, in its order.
fn tables(text: &str) -> String {
    let options = options(text);
    let mut tables = String::new();
    for line in text.lines() {
        if let Some(title) = line.trim().strip_prefix("# --- ") {
            let title = title.trim_end_matches('-').trim();
            let _ = write!(
                tables,
                "\n### {title}\n\n| variable | type | default | meaning |\n|---|---|---|---|\n"
            );
        }
        let name = line.strip_prefix("      ").and_then(|line| line.strip_suffix(':'));
        let Some((name, option)) = name.and_then(|name| Some((name, options.get(name)?))) else {
            continue;
        };
        let meaning = option["description"].as_str().unwrap().replace('|', "\\|");
        let _ =
            writeln!(tables, "| `{name}` | {} | {} | {meaning} |", kind(option), default(option));
    }
    tables
}

#[test]
fn the_readme_of_the_role_has_every_variable_of_its_specification() {
    let expected = tables(&fs::read_to_string(role("meta/argument_specs.yml")).unwrap());
    let readme = fs::read_to_string(role("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the mark before the tables");
    let (found, after) = rest.split_once(END).expect("the mark behind the tables");
    if env::var_os("UPDATE").is_some() {
        fs::write(role("README.md"), format!("{before}{BEGIN}{expected}\n{END}{after}")).unwrap();
        return;
    }
    assert_eq!(found.trim_end(), expected.trim_end(), "UPDATE=1 cargo test -p quadletgen readme");
}

#[test]
fn what_only_the_role_takes_is_specified() {
    let options = options(&fs::read_to_string(role("meta/argument_specs.yml")).unwrap());
    let vars: Value =
        yaml_serde::from_str(&fs::read_to_string(role("vars/main.yml")).unwrap()).unwrap();
    for name in vars["__dispatcher_api_role_only"].as_array().unwrap() {
        assert!(options.contains_key(name.as_str().unwrap()), "{name} is not specified");
    }
}
