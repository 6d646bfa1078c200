//! Asks HAProxy what it would say with the rendered files in place of those that it has.

use std::path::{Path, PathBuf};

use dispatcher_haproxy::check::{CheckError, Files};

use super::{Finding, Severity};
use crate::{
    entry::{Concerns, Entry, What},
    variables::Variables,
};

/// What HAProxy finds wrong.
pub(super) async fn ask(entries: &[Entry], variables: &Variables) -> Vec<Finding> {
    let about = "haproxy -c";
    if !variables.has_haproxy() {
        return Vec::new();
    }
    let directory = PathBuf::from(variables.text("haproxy_config_dir"));
    let base = PathBuf::from(variables.text("__dispatcher_haproxy_base_file"));
    let replaced: Vec<(PathBuf, String)> = entries.iter().filter_map(replacement).collect();
    let is_ours = replaced.iter().any(|(path, _)| *path == base);
    if !is_ours && !base.exists() {
        let text = format!("{} is not on this machine", base.display());
        return vec![Finding::new(Severity::Unchecked, about, text)];
    }
    let files = Files {
        program: program(variables),
        ours: replaced.iter().map(|(path, _)| path.clone()).collect(),
        read: vec![base, directory],
    };
    match files.check_with(&replaced).await {
        Ok(warnings) if warnings.is_empty() => {
            vec![Finding::new(Severity::Fine, about, "accepted")]
        }
        Ok(warnings) => {
            let finding = |text| Finding::new(Severity::Doubtful, about, text);
            warnings.into_iter().map(finding).collect()
        }
        Err(error @ CheckError::Refused { .. }) => {
            vec![Finding::new(Severity::Wrong, about, error.to_string())]
        }
        Err(error) => vec![Finding::new(Severity::Unchecked, about, error.to_string())],
    }
}

fn program(variables: &Variables) -> PathBuf {
    let named = Path::new(variables.text("dispatcher_haproxy_program"));
    if named.as_os_str().is_empty() { "haproxy".into() } else { named.to_owned() }
}

fn replacement(entry: &Entry) -> Option<(PathBuf, String)> {
    match (&entry.what, entry.concerns) {
        (What::File { content, .. }, Concerns::Haproxy) => {
            Some((entry.path.clone(), content.clone()))
        }
        _ => None,
    }
}
