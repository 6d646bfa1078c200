//! Every case of the conformance suite is called: one that is forgotten would prove nothing.

use std::{collections::BTreeSet, path::Path};

/// What follows `start` up to `end`, wherever it stands in the files of a directory, with the name
/// of the file.
fn names(directory: &str, start: &str, end: &str) -> BTreeSet<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let name = line.strip_prefix(start).and_then(|rest| rest.split_once(end));
            found.extend(name.map(|(name, _)| (stem.clone(), name.to_owned())));
        }
    }
    found
}

#[test]
fn every_case_is_called() {
    let cases = names("src/conformance", "pub async fn ", "(subject: &Subject)");
    let called = names("tests/it/cases", "    ", "(&subject().await).await;");
    let called: BTreeSet<(String, String)> = called
        .into_iter()
        .filter_map(|(_, call)| {
            let (module, name) = call.split_once("::")?;
            Some((module.to_owned(), name.to_owned()))
        })
        .collect();
    assert!(cases.len() > 90, "only {} cases were found", cases.len());
    assert_eq!(cases, called);
}
