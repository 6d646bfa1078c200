//! What comments refer to by number is explained in `docs/decisions.md`.

use std::{collections::BTreeSet, path::Path};

/// The numbers (with dots inside) that follow `word` in a text, also after `and` and a comma.
fn numbers_after(text: &str, word: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (start, _) in text.match_indices(word) {
        let rest = text[start + word.len()..].trim_start_matches(['s', ' ']);
        let words = rest.split_inclusive(|c: char| !c.is_ascii_digit() && c != '.');
        for number in words.take_while(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            let number = number.trim_end_matches(|c: char| !c.is_ascii_digit());
            found.insert(number.to_owned());
        }
        if let Some((first, more)) = rest.split_once(" and ")
            && first.chars().all(|c| c.is_ascii_digit() || c == '.')
        {
            found.extend(
                more.split(|c: char| !c.is_ascii_digit() && c != '.').next().map(str::to_owned),
            );
        }
    }
    found.remove("");
    found.into_iter().map(|number| number.trim_end_matches('.').to_owned()).collect()
}

#[test]
fn every_decision_and_section_that_is_named_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/decisions.md")).unwrap();
    let (mut decisions, mut sections) = (BTreeSet::new(), BTreeSet::new());
    for part in ["api", "wire", "worker", "ctl", "tests/src", "tests/tests"] {
        let entries = walkdir::WalkDir::new(root.join(part)).into_iter().map(Result::unwrap);
        let is_source = |path: &Path| {
            path.extension().is_some_and(|ending| ending == "rs" || ending == "sql")
                && !path.ends_with("references.rs")
        };
        for entry in entries.filter(|entry| is_source(entry.path())) {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            decisions.extend(numbers_after(&text, "decision"));
            sections.extend(numbers_after(&text, "§"));
            sections.extend(numbers_after(&text, "contract, section"));
        }
    }
    assert!(decisions.len() > 5 && sections.len() > 5, "{decisions:?} {sections:?}");
    for number in decisions {
        let title = format!("\n## {number}. ");
        assert!(page.contains(&title), "decision {number} is named in the code and not explained");
    }
    for number in sections {
        let row = format!("\n| {number} | ");
        assert!(page.contains(&row), "section {number} of the contract is named and not explained");
    }
}

#[test]
fn the_check_itself_finds_what_it_should() {
    let found = |text, word| numbers_after(text, word).into_iter().collect::<Vec<_>>();
    assert_eq!(
        found("(decision 3): a; decisions 5 and 16. decision makers", "decision"),
        ["16", "3", "5"]
    );
    assert_eq!(found("(contract §1.14): b, contract's §3, §4.4.", "§"), ["1.14", "3", "4.4"]);
    assert_eq!(found("contract, sections 3 and 5.1; x", "contract, section"), ["3", "5.1"]);
}

#[test]
fn the_image_says_the_version_of_its_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let containerfile = std::fs::read_to_string(root.join("Containerfile")).unwrap();
    let own = format!("\nARG VERSION={}\n", env!("CARGO_PKG_VERSION"));
    assert!(containerfile.contains(&own), "the Containerfile does not say {own}");
}
