//! What a container is made from, as one digest: its unit with drop-ins, the environment files and
//! other units it names, the identities of its secrets. The digest travels as a label of the
//! container, so what really runs can be compared, whoever started it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::entry::{Concerns, Entry, What};

/// The label with the digest of what all instances of a unit share.
pub const SHARED: &str = "dispatcher.inputs";
/// The label with the digest of what is an instance's own.
pub const OWN: &str = "dispatcher.inputs.own";

/// A Quadlet unit, without its links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unit {
    /// `dispatcher-api@`, `dispatcher-redis`: the file's name without `.container`.
    pub stem: String,
    /// The digest.
    pub inputs: String,
    /// The secrets that it names.
    pub secrets: BTreeSet<String>,
}

/// All container units among these entries.
#[must_use]
pub fn units(entries: &[Entry], secrets: &BTreeMap<String, String>) -> Vec<Unit> {
    entries.iter().filter_map(|entry| unit(entry, entries, secrets)).collect()
}

fn unit(entry: &Entry, entries: &[Entry], secrets: &BTreeMap<String, String>) -> Option<Unit> {
    let What::File { content, .. } = &entry.what else { return None };
    let stem = entry.path.file_name()?.to_str()?.strip_suffix(".container")?;
    let mut digest = Sha256::new();
    let mut named = BTreeSet::new();
    add(&mut digest, content);
    for line in content.lines().filter(|line| !line.starts_with(['#', ';'])) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let first = value.split([',', ':']).next().unwrap_or_default().trim();
        let named_file = match key.trim() {
            "EnvironmentFile" => Some(value.trim().into()),
            "Network" | "Volume" | "Image" => Some(entry.path.with_file_name(first)),
            _ => None,
        };
        if let Some(text) = named_file.and_then(|path: PathBuf| content_at(entries, &path)) {
            add(&mut digest, text);
        }
        if key.trim() == "Secret" {
            add(&mut digest, secrets.get(first).map_or("absent", String::as_str));
            named.insert(first.to_owned());
        }
    }
    drop_ins(entries, &entry.path).for_each(|text| add(&mut digest, text));
    Some(Unit { stem: stem.to_owned(), inputs: hex(digest), secrets: named })
}

/// The digest of what is one instance's own; nothing where nothing is.
#[must_use]
pub fn own(entries: &[Entry], link: &Path) -> Option<String> {
    let mut texts = drop_ins(entries, link).peekable();
    texts.peek()?;
    let mut digest = Sha256::new();
    texts.for_each(|text| add(&mut digest, text));
    Some(hex(digest))
}

/// The name of that drop-in, and of that with what is an instance's own: of two with one name, the
/// instance's would stand for both.
pub const LABELS: [&str; 2] = ["90-inputs.conf", "91-own-inputs.conf"];

/// The drop-in that puts a digest onto a container.
#[must_use]
pub fn label(unit: &Path, name: &str, digest: &str, concerns: Concerns) -> Entry {
    let [shared, own] = LABELS;
    let file = if name == OWN { own } else { shared };
    let path = unit.with_file_name(format!("{}.d", file_name(unit))).join(file);
    let content = format!(
        "# Made by Dispatcher's toolkit: changes here are lost. What the container was made from.\n\
         [Container]\nLabel={name}={digest}\n"
    );
    Entry { path, what: What::File { content, mode: 0o644 }, concerns, is_secret: false }
}

/// One digest over all entries of a kind, paths included.
#[must_use]
pub fn of_entries<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let mut digest = Sha256::new();
    for entry in entries {
        add(&mut digest, &entry.path.to_string_lossy());
        match &entry.what {
            What::File { content, .. } => add(&mut digest, content),
            What::Link { target } => add(&mut digest, &target.to_string_lossy()),
        }
    }
    hex(digest)
}

fn content_at<'a>(entries: &'a [Entry], path: &Path) -> Option<&'a str> {
    match &entries.iter().find(|entry| entry.path == path)?.what {
        What::File { content, .. } => Some(content),
        What::Link { .. } => None,
    }
}

fn drop_ins<'a>(entries: &'a [Entry], unit: &Path) -> impl Iterator<Item = &'a str> {
    let directory = unit.with_file_name(format!("{}.d", file_name(unit)));
    entries.iter().filter(move |entry| entry.path.parent() == Some(&directory)).filter_map(
        |entry| match &entry.what {
            What::File { content, .. } => Some(content.as_str()),
            What::Link { .. } => None,
        },
    )
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Each text with its length, so that no two lists of texts are alike.
fn add(digest: &mut Sha256, text: &str) {
    digest.update(text.len().to_le_bytes());
    digest.update(text.as_bytes());
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> Entry {
        let what = What::File { content: content.into(), mode: 0o644 };
        Entry { path: path.into(), what, concerns: Concerns::Instances, is_secret: false }
    }

    fn host() -> Vec<Entry> {
        let unit = "[Container]\nEnvironmentFile=/etc/d/env\nSecret=key,type=env,target=KEY\nNetwork=d.network\n";
        vec![
            file("/etc/d/env", "A=1\n"),
            file("/q/d.network", "[Network]\n"),
            file("/q/d@.container", unit),
            file("/q/d@.container.d/10-image.conf", "[Container]\nImage=one\n"),
            file("/q/d@3.container.d/20-instance.conf", "[Container]\nPublishPort=1:1\n"),
            file("/q/other.volume", "[Volume]\n"),
        ]
    }

    fn digest(entries: &[Entry], secret: &str) -> String {
        units(entries, &BTreeMap::from([("key".to_owned(), secret.to_owned())])).remove(0).inputs
    }

    #[test]
    fn whatever_a_container_is_made_from_changes_its_digest_and_nothing_else_does() {
        let before = digest(&host(), "id1");
        assert_eq!(before, digest(&host(), "id1"));
        assert_ne!(before, digest(&host(), "id2"), "a replaced secret");
        for (index, matters) in [true, true, true, true, false, false].into_iter().enumerate() {
            let mut entries = host();
            let What::File { content, .. } = &mut entries[index].what else { panic!("a file") };
            content.push_str("# changed\n");
            assert_eq!(before != digest(&entries, "id1"), matters, "{:?}", entries[index].path);
        }
    }

    #[test]
    fn what_is_an_instances_own_is_told_apart() {
        assert!(own(&host(), Path::new("/q/d@3.container")).is_some());
        assert_eq!(own(&host(), Path::new("/q/d@2.container")), None);
    }

    #[test]
    fn an_instances_own_digest_takes_no_place_from_the_shared_one() {
        let name = |label: &str, unit: &str| {
            let entry = super::label(Path::new(unit), label, "1", Concerns::Instances);
            file_name(&entry.path)
        };
        assert_ne!(name(SHARED, "/q/d@.container"), name(OWN, "/q/d@3.container"));
    }

    #[test]
    fn the_secrets_of_a_unit_are_found() {
        let units = units(&host(), &BTreeMap::new());
        assert_eq!(units[0].secrets, BTreeSet::from(["key".to_owned()]));
        assert_eq!(units[0].stem, "d@");
    }
}
