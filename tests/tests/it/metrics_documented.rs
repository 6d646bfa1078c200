//! What is measured is documented, and what is documented is measured.

use std::{collections::BTreeSet, path::Path};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of every source of the service and its libraries.
fn sources() -> Vec<(String, String)> {
    let folders = ["api/src", "auth-tracker", "worker/src"];
    let files = folders.iter().flat_map(|folder| walkdir::WalkDir::new(root().join(folder)));
    let files = files.map(|entry| entry.unwrap().into_path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    files
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

/// What a text says between two quotes at its beginning.
fn quoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.split_once('"').map(|(name, _)| name)
}

/// The first argument of a macro, whose inside the text is the beginning of.
fn first_argument(text: &str) -> &str {
    let mut depth = 0;
    let end = text.find(|c: char| {
        depth += i32::from("([{".contains(c)) - i32::from(")]}".contains(c));
        depth < 0 || (depth == 0 && c == ',')
    });
    &text[..end.unwrap_or(text.len())]
}

/// The names that metrics are made under, in one source: texts, or constants of this or any source.
fn made(text: &str, all: &[(String, String)]) -> BTreeSet<String> {
    let (own, mut names) = (constants(text), BTreeSet::new());
    for kind in ["counter!(", "gauge!(", "histogram!("] {
        for (at, _) in text.match_indices(kind) {
            let argument = first_argument(&text[at + kind.len()..]).trim();
            if let Some(name) = quoted(argument) {
                names.insert(name.to_owned());
                continue;
            }
            let words = argument.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let value = |word| own.iter().chain(all).find(|(name, _)| name == word);
            let found: Vec<_> = words.filter_map(value).map(|(_, value)| value.clone()).collect();
            assert!(
                !found.is_empty(),
                "a metric whose name is no text and no constant: {argument}"
            );
            names.extend(found);
        }
    }
    names
}

/// `const NAME: &str = "value"` of a source.
fn constants(text: &str) -> Vec<(String, String)> {
    let lines = text.split("const ").skip(1);
    let parsed = lines.filter_map(|line| {
        let (name, rest) = line.split_once(": &str = ")?;
        Some((name.to_owned(), quoted(rest.trim_start())?.to_owned()))
    });
    parsed.collect()
}

fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_made() {
    let sources = sources();
    let constants: Vec<_> = sources.iter().flat_map(|(_, text)| constants(text)).collect();
    let made: BTreeSet<String> =
        sources.iter().flat_map(|(_, text)| made(text, &constants)).collect();
    assert!(made.len() > 15, "{made:?}");
    let documented = documented();
    let missing: Vec<_> = made.difference(&documented).collect();
    assert!(missing.is_empty(), "made, and not in docs/metrics.md: {missing:?}");
    let unknown: Vec<_> = documented.difference(&made).collect();
    assert!(unknown.is_empty(), "in docs/metrics.md, and made nowhere: {unknown:?}");
}

#[test]
fn names_follow_the_custom() {
    for name in documented() {
        let known = [
            "dispatcher_",
            "echo_http_",
            "api_",
            "app_",
            "client_request_",
            "tenant_translator_",
            "validator_",
            "response_consumer_",
        ];
        assert!(known.iter().any(|prefix| name.starts_with(prefix)), "{name}");
    }
}

#[test]
fn the_check_itself_finds_what_it_should() {
    let text = "metrics::counter!(\"a_total\", \"x\" => 1); gauge!(\n  if f(1) { super::NAME } else { OTHER }\n)";
    let constants = constants("pub const NAME: &str = \"b\"; const OTHER: &str = \"c\";");
    let names: Vec<_> = made(text, &constants).into_iter().collect();
    assert_eq!(names, ["a_total", "b", "c"]);
}
