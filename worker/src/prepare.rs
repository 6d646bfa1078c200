//! Lays out ansible-runner's private data directory: project, inventory, variables, options.
//! Everything in it is for the worker's user only; the run's end removes it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use dispatcher_wire::inputs::RunInputs;

use crate::{journal::create_dir, vars};

/// The name of a playbook that came as a single file.
pub(crate) const SINGLE_PLAYBOOK: &str = "playbook.yml";

/// A private data directory.
#[derive(Clone, Debug)]
pub(crate) struct Private {
    path: PathBuf,
}

impl Private {
    /// A fresh one at this path.
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        let private = Self { path };
        for folder in ["project", "inventory", "env", "tmp"] {
            create_dir(&private.path.join(folder))?;
        }
        // ansible-runner would keep a second copy of all output.
        write_private(&private.path.join("env/settings"), "suppress_output_file: true\n")?;
        Ok(private)
    }

    /// Itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the playbook belongs.
    pub(crate) fn project(&self) -> PathBuf {
        self.path.join("project")
    }

    /// For files of the moment.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// Where a download goes before it is looked at.
    pub(crate) fn download(&self) -> PathBuf {
        self.path.join("download")
    }

    /// Where ansible-runner leaves a file per event.
    pub(crate) fn job_events(&self) -> PathBuf {
        self.path.join("artifacts/run/job_events")
    }

    /// Writes down how the playbook is to be executed.
    pub(crate) fn write_inputs(&self, inputs: &RunInputs) -> io::Result<()> {
        let options = vars::options(inputs)
            .map_err(|told| io::Error::new(io::ErrorKind::InvalidInput, told))?;
        if !options.is_empty() {
            write_private(&self.path.join("env/cmdline"), &options)?;
        }
        write_private(&self.path.join("env/extravars"), &vars::extra_vars(inputs))?;
        let inventory = inputs.inventory.clone();
        let inventory = inventory.unwrap_or_else(|| default_inventory(&self.temporary()));
        write_private(&self.path.join("inventory/hosts"), &inventory)
    }
}

/// This host itself. Modules run with the system's Python, where it is recent enough for current
/// Ansible, since that one has the bindings of the system's package manager.
fn default_inventory(temporary: &Path) -> String {
    let system = fs::canonicalize("/usr/bin/python3").unwrap_or_default();
    let minor =
        system.file_name().and_then(|name| name.to_str()?.strip_prefix("python3.")?.parse().ok());
    let python = match minor {
        Some(9_u32..) => "/usr/bin/python3",
        _ => "auto_silent",
    };
    let temporary = temporary.display().to_string().replace('"', "\\\"");
    format!(
        "localhost ansible_connection=local ansible_python_interpreter={python} \
         ansible_remote_tmp=\"{temporary}\"\n"
    )
}

/// Writes a new file for the worker's user only.
fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

/// Removes the files of events that were printed, which nobody reads: without this the output
/// would be on disk twice. What is being written is left alone.
pub(crate) fn sweep_job_events(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".json") && !name.ends_with("-partial.json") {
            // Removed at the run's end at the latest.
            drop(fs::remove_file(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn the_directory_holds_what_the_runner_needs_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let private = Private::create(dir.path().join("private")).unwrap();
        let secrets = BTreeMap::from([("token".to_owned(), "s3cret".into())]);
        let inputs = RunInputs {
            limit: Some("web".to_owned()),
            secrets: Some(secrets),
            ..RunInputs::default()
        };
        private.write_inputs(&inputs).unwrap();
        let read = |name: &str| fs::read_to_string(private.path().join(name)).unwrap();
        assert_eq!(read("env/cmdline"), "'--limit=web'");
        assert_eq!(read("env/extravars"), "{\"token\": !unsafe \"s3cret\"}\n");
        assert!(read("inventory/hosts").starts_with("localhost ansible_connection=local"));
        for name in ["env/cmdline", "env/extravars", "inventory/hosts", "env/settings"] {
            let mode = fs::metadata(private.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert!(Private::create(dir.path().join("private")).is_ok());
        assert!(!private.path().join("env/extravars").exists());
    }

    #[test]
    fn only_finished_event_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["1-a.json", "b-partial.json", "2-c.json.tmp"] {
            fs::write(dir.path().join(name), "{}").unwrap();
        }
        sweep_job_events(dir.path());
        sweep_job_events(&dir.path().join("missing"));
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["2-c.json.tmp", "b-partial.json"]);
    }
}
