//! Changes one variable in the text of `deploy.yml` and leaves the rest as it is: order, comments,
//! blank lines. What comes out is understood again before anybody gets it.

use serde_json::Value;

use super::{Problems, deploy};

/// The text with `name` set to `value`, a number or a text.
///
/// # Errors
/// When the text is not understood, or the variable spreads over several lines.
pub fn set(text: &str, name: &str, value: &Value) -> Result<String, Problems> {
    let wanted = |text: &str| deploy::parse(text).map_err(Problems::one);
    let mut after = wanted(text)?;
    after.insert(name.to_owned(), value.clone());
    let written = with_line(text, name, value);
    match wanted(&written) {
        Ok(found) if found == after => Ok(written),
        _ => Err(Problems::one(format!(
            "{name} cannot be changed in deploy.yml by itself, since it does not stand on one line \
             of its own: set it to {value} by hand, then apply"
        ))),
    }
}

fn with_line(text: &str, name: &str, value: &Value) -> String {
    let mut is_done = false;
    let mut written = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        match (is_done, rest_of(line, name)) {
            (false, Some(rest)) => {
                is_done = true;
                written.push_str(&format!("{name}: {value}{}", comment(rest)));
                written.push_str(end(line));
            }
            _ => written.push_str(line),
        }
    }
    if !is_done {
        if !written.is_empty() && !written.ends_with('\n') {
            written.push('\n');
        }
        written.push_str(&format!("{name}: {value}\n"));
    }
    written
}

/// What follows the name and its colon, where the line begins with them.
fn rest_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let bare = line.strip_prefix(name);
    let quoted = || line.strip_prefix(['"', '\''])?.strip_prefix(name)?.strip_prefix(['"', '\'']);
    let rest = bare.or_else(quoted)?.trim_start_matches([' ', '\t']).strip_prefix(':')?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r'])).then_some(rest)
}

/// The comment behind the value, with the blanks before it.
fn comment(rest: &str) -> &str {
    let rest = rest.trim_end_matches(['\n', '\r']);
    let mut quote = None;
    for (at, letter) in rest.char_indices() {
        let before = rest.get(..at).unwrap_or_default();
        match (quote, letter) {
            (None, '"' | '\'') if before.trim().is_empty() => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            (None, '#') if before.ends_with([' ', '\t']) => {
                return rest.get(before.trim_end().len()..).unwrap_or_default();
            }
            _ => {}
        }
    }
    ""
}

fn end(line: &str) -> &str {
    line.get(line.trim_end_matches(['\n', '\r']).len()..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAME: &str = "dispatcher_api_container_scale";

    #[test]
    fn one_line_changes_and_nothing_else() {
        let text = "---\n# How many.\ndispatcher_api_container_scale: 4   # for now\n\n\
                    dispatcher_public_url: https://d.example.com\n# end";
        assert_eq!(set(text, NAME, &json!(8)).unwrap(), text.replace(": 4 ", ": 8 "));
    }

    #[test]
    fn what_is_not_there_is_added_at_the_end() {
        assert_eq!(set("", NAME, &json!(8)).unwrap(), format!("{NAME}: 8\n"));
        assert_eq!(set("a: 1", NAME, &json!(8)).unwrap(), format!("a: 1\n{NAME}: 8\n"));
        assert_eq!(
            set("# only this\n", NAME, &json!(0)).unwrap(),
            format!("# only this\n{NAME}: 0\n")
        );
    }

    #[test]
    fn texts_are_quoted_and_quoted_ones_replaced() {
        let text = "dispatcher_api_image: 'a#b' # pinned\r\nx: 1\r\n";
        assert_eq!(
            set(text, "dispatcher_api_image", &json!("r.example.com/d@sha256:ab")).unwrap(),
            "dispatcher_api_image: \"r.example.com/d@sha256:ab\" # pinned\r\nx: 1\r\n"
        );
        assert_eq!(set("\"a\" : 1\n", "a", &json!(2)).unwrap(), "a: 2\n");
    }

    #[test]
    fn a_name_inside_something_else_is_left_alone() {
        let text = "dispatcher_settings:\n  a: 1\nab: 2\n";
        assert_eq!(set(text, "a", &json!(3)).unwrap(), format!("{text}a: 3\n"));
    }

    #[test]
    fn what_spreads_over_lines_is_refused_by_name() {
        for text in ["a: |\n  1\n", "a:\n  - 1\n", "{a: 1, b: 2}\n", "a: \"x\n  y\"\n"] {
            let error = set(text, "a", &json!(3)).unwrap_err().to_string();
            assert!(error.contains("a cannot be changed"), "{text}: {error}");
        }
        assert!(set("a: 1\na: 2\n", "a", &json!(3)).is_err());
        assert!(set("- 1\n", "a", &json!(3)).is_err());
    }
}
