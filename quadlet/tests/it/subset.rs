//! Templates use the subset of Jinja that `templates/README.md` lists, and all of it.

use std::{collections::BTreeSet, fs, path::Path};

use quadletgen::render::templates;

type Words = BTreeSet<String>;

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
}

/// The parts of a template between braces, without texts in quotes.
fn inside(source: &str) -> Vec<(char, String)> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let kind = rest[at + 1..].chars().next().unwrap();
        let end = if kind == '{' { "}}" } else { "%}" };
        let body = &rest[at + 2..];
        // A mapping inside may end in braces, too; those of ours end their line in ` }`.
        let length = body.find(end).unwrap();
        found.push((kind, without_texts(&body[..length])));
        rest = &body[length + 2..];
    }
    found
}

fn without_texts(code: &str) -> String {
    let mut left = String::new();
    let mut quote = None;
    let mut escaped = false;
    for letter in code.chars() {
        match quote {
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            None => left.push(letter),
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(open) if open == letter => quote = None,
            Some(_) => {}
        }
    }
    left
}

/// Tags, filters, tests and functions that are used.
fn used() -> [Words; 4] {
    let mut found = [const { Words::new() }; 4];
    let derived = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates/derived.yml");
    let derived = fs::read_to_string(derived).unwrap();
    let sources = templates::ALL.iter().map(|(_, source)| *source).chain([derived.as_str()]);
    let mut macros = Words::new();
    for (kind, code) in sources.flat_map(inside) {
        let code = code.trim();
        if kind == '%' {
            found[0].insert(word(code));
        }
        if let Some(rest) = code.strip_prefix("macro ") {
            macros.insert(word(rest));
        }
        found[1].extend(code.split('|').skip(1).map(|rest| word(rest.trim_start())));
        let tests = code.split(" is ").skip(1);
        found[2].extend(tests.map(|rest| word(rest.strip_prefix("not ").unwrap_or(rest))));
        for (at, _) in code.match_indices('(') {
            let before: String = code[..at].chars().rev().collect();
            let name: String = word(&before).chars().rev().collect();
            let further = &before[name.len()..];
            assert!(!further.starts_with('.'), "a method of Python: {code}");
            let is_filter = further.trim_start().starts_with('|');
            let is_word = ["in", "if", "else", "and", "or", "not", ""].contains(&name.as_str());
            if !is_filter && !is_word {
                found[3].insert(name);
            }
        }
    }
    found[3].retain(|name| !macros.contains(name));
    found
}

#[test]
fn only_what_the_readme_lists_is_used() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates/README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, subset) = readme.split_once("<!-- subset -->").unwrap();
    let (subset, _) = subset.split_once("<!-- /subset -->").unwrap();
    let listed = |kind: &str| -> Words {
        let line = subset.lines().find(|line| line.starts_with(&format!("- {kind}:"))).unwrap();
        line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let [tags, filters, tests, functions] = used();
    assert_eq!(tags, listed("tags"));
    assert_eq!(filters, listed("filters"));
    assert_eq!(tests, listed("tests"));
    assert_eq!(functions, listed("functions"));
}
