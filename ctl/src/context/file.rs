//! The contexts file: named dispatchers with their keys, readable by its owner only, replaced as a
//! whole. Errors name the file and the place in it, never its content.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, Permissions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    connection::Key,
    login::session::Login,
    trouble::{Result, Trouble},
};

/// The largest contexts file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The longest name of a context.
const MAX_NAME: usize = 64;

/// A named dispatcher.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its address.
    pub(crate) url: String,
    /// The key itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Key>,
    /// A file with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    /// What a person who logged in was given; comes before a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<Login>,
    /// The organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) org: Option<String>,
    /// Whether the key may travel over plain http to another machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) insecure: bool,
}

/// All contexts.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Reads the file; an absent one has no contexts.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Trouble::usage(format!("cannot read `{shown}`: {error}"))),
        };
        let failed = |error| Trouble::usage(format!("cannot read `{shown}`: {error}"));
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        let mut text = String::new();
        Read::by_ref(&mut file).take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        let contexts = parse(&text, path)?;
        if mode & 0o077 != 0 && contexts.hold_a_key() {
            return Err(Trouble::usage(format!(
                "`{shown}` holds keys and may be read by others (mode {mode:04o})"
            ))
            .hint(format!("run: chmod 600 {shown}")));
        }
        Ok(contexts)
    }

    fn hold_a_key(&self) -> bool {
        self.contexts.values().any(|context| context.key.is_some() || context.login.is_some())
    }

    /// Replaces the file: its readers see the old one or the new one, whole.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let failed = |error: std::io::Error| {
            Trouble::usage(format!("cannot write `{}`: {error}", path.display()))
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        let mut file = tempfile::Builder::new()
            .prefix(".contexts-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder)
            .map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// The context of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&Context> {
        self.contexts.get(name).ok_or_else(|| self.unknown(name))
    }

    /// Says that a name is unknown, and which are known.
    pub(crate) fn unknown(&self, name: &str) -> Trouble {
        let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
        Trouble::usage(format!("there is no context `{name}`")).hint(if known.is_empty() {
            "there is none at all; add one with `dispatchctl context set NAME --url URL`".to_owned()
        } else {
            format!("known: {}", known.join(", "))
        })
    }
}

/// serde's own messages may quote a value, and the value may be a key: only the place is told.
fn parse(text: &str, path: &Path) -> Result<Contexts> {
    serde_json::from_str(text).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "does not have the form of a contexts file",
            _ => "is not valid JSON",
        };
        let (path, line, column) = (path.display(), error.line(), error.column());
        Trouble::usage(format!("`{path}` {what} (line {line}, column {column})"))
            .hint("mend it, or move it away and use `dispatchctl context set` again")
    })
}

/// Whether a context may be called this.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return Err(Trouble::usage(format!("`{name}` cannot name a context"))
            .hint(format!("allowed: 1 to {MAX_NAME} letters, digits, `.`, `_` and `-`")));
    }
    Ok(())
}

/// Where the file is: `$XDG_CONFIG_HOME/dispatcher/`, else `~/.config/dispatcher/`.
pub(crate) fn path(var: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let absolute = |name| var(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .ok_or_else(|| {
            Trouble::usage("neither XDG_CONFIG_HOME nor HOME says where contexts are kept")
        })?;
    Ok(config.join("dispatcher").join("contexts.json"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn some() -> Contexts {
        let context = Context {
            url: "https://d.example".to_owned(),
            key: Some(Key::parse("abcDEF123", "here").unwrap()),
            ..Context::default()
        };
        Contexts {
            current: Some("prod".to_owned()),
            contexts: BTreeMap::from([("prod".to_owned(), context)]),
        }
    }

    #[test]
    fn the_file_is_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/dispatcher/contexts.json");
        assert_eq!(Contexts::load(&path).unwrap(), Contexts::default());
        some().save(&path).unwrap();
        some().save(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing left over");
        assert_eq!(Contexts::load(&path).unwrap(), some());
    }

    #[test]
    fn a_file_with_keys_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contexts.json");
        some().save(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let trouble = Contexts::load(&path).unwrap_err();
        assert!(trouble.message().contains("0644"), "{}", trouble.message());
    }

    #[test]
    fn a_broken_file_is_named_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contexts.json");
        for (text, part) in [
            (r#"{"contexts": {"a": {"url": "u", "key": "#, "not valid JSON"),
            (r#"{"contexts": "abcDEF123"}"#, "form"),
            (r#"{"contexts": {"a": {"url": "u", "key": "abc DEF123"}}}"#, "form"),
        ] {
            fs::write(&path, text).unwrap();
            let trouble = Contexts::load(&path).unwrap_err();
            let message = trouble.message();
            assert!(message.contains("contexts.json") && message.contains(part), "{message}");
            assert!(message.contains("line 1") && !message.contains("DEF123"), "{message}");
        }
    }

    #[test]
    fn the_file_is_where_the_environment_says() {
        let path = |xdg: Option<&str>, home: Option<&str>| {
            let (xdg, home) = (xdg.map(str::to_owned), home.map(str::to_owned));
            path(&move |name| if name == "HOME" { home.clone() } else { xdg.clone() })
        };
        let is = |found: Result<PathBuf>, want: &str| assert_eq!(found.unwrap(), Path::new(want));
        is(path(Some("/x"), Some("/h")), "/x/dispatcher/contexts.json");
        is(path(Some("relative"), Some("/h")), "/h/.config/dispatcher/contexts.json");
        assert!(path(None, None).is_err());
    }
}
