//! Asks Podman's generator for the units of systemd, and systemd what it thinks of them.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{Finding, Severity};
use crate::{
    entry::{Entry, What},
    host::program::Program,
    layout::Layout,
};

/// Where distributions put the generator.
const GENERATORS: [&str; 2] = ["/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet"];

/// Units as they would be after an apply, in directories of their own.
struct Trial {
    directory: TempDir,
}

/// What the generator and systemd find wrong.
pub(super) async fn ask(entries: &[Entry], layout: &Layout) -> Vec<Finding> {
    let trial = match Trial::lay_out(entries, layout) {
        Ok(trial) => trial,
        Err(error) => {
            let text = format!("the units cannot be laid out for the check: {error}");
            return vec![Finding::new(Severity::Unchecked, "Podman's generator", text)];
        }
    };
    let mut findings = trial.generate(layout).await;
    findings.extend(trial.verify(layout).await);
    findings
}

impl Trial {
    /// Ours, and what others have beside them, which ours may refer to.
    fn lay_out(entries: &[Entry], layout: &Layout) -> io::Result<Self> {
        let trial = Self { directory: tempfile::tempdir()? };
        for directory in [trial.quadlets(), trial.units()] {
            fs::create_dir(directory)?;
        }
        copy_others(&layout.quadlets, &trial.quadlets(), entries)?;
        for entry in entries {
            let quadlet =
                entry.path.strip_prefix(&layout.quadlets).map(|path| trial.quadlets().join(path));
            let unit =
                || entry.path.strip_prefix(&layout.units).map(|path| trial.units().join(path));
            let Ok(path) = quadlet.or_else(|_| unit()) else { continue };
            put(&path, &entry.what)?;
        }
        Ok(trial)
    }

    fn quadlets(&self) -> PathBuf {
        self.directory.path().join("quadlets")
    }

    fn units(&self) -> PathBuf {
        self.directory.path().join("units")
    }

    async fn generate(&self, layout: &Layout) -> Vec<Finding> {
        let about = "Podman's generator";
        let Some(generator) = GENERATORS.iter().find(|path| Path::new(path).exists()) else {
            let text = format!(
                "it is on this machine in none of {}: install Podman 5, or check on the host itself",
                GENERATORS.join(", ")
            );
            return vec![Finding::new(Severity::Unchecked, about, text)];
        };
        let out = self.units().display().to_string();
        let mut arguments = vec!["-no-kmsg-log".to_owned()];
        arguments.extend(layout.is_user.then(|| "-user".to_owned()));
        arguments.extend([out.clone(), out.clone(), out]);
        let program = Program::new(generator)
            .args(arguments)
            .env("QUADLET_UNIT_DIRS", &self.quadlets().display().to_string());
        match program.output(None).await {
            Err(error) => vec![Finding::new(Severity::Unchecked, about, error.to_string())],
            Ok(output) => {
                let said = output.said();
                let lines = said.lines().filter(|line| !line.is_empty());
                let real = |line: &str| {
                    line.replace(
                        &self.quadlets().display().to_string(),
                        &layout.quadlets.display().to_string(),
                    )
                };
                let severity = if output.is_success { Severity::Doubtful } else { Severity::Wrong };
                let mut found: Vec<_> =
                    lines.map(|line| Finding::new(severity, about, real(line))).collect();
                if found.is_empty() {
                    let severity = if output.is_success { Severity::Fine } else { Severity::Wrong };
                    let text =
                        if output.is_success { "accepted".to_owned() } else { output.status };
                    found.push(Finding::new(severity, about, text));
                }
                found
            }
        }
    }

    /// systemd reads every unit; its status says nothing, its words do.
    async fn verify(&self, layout: &Layout) -> Vec<Finding> {
        let about = "systemd-analyze verify";
        let units = match services(&self.units()) {
            Ok(units) => units,
            Err(error) => return vec![Finding::new(Severity::Unchecked, about, error.to_string())],
        };
        let directory = self.units().display().to_string();
        let program = Program::new("systemd-analyze")
            .args(layout.is_user.then(|| "--user".to_owned()))
            .args(["verify".to_owned(), "--man=no".to_owned(), "--recursive-errors=no".to_owned()])
            .args(units.iter().map(|path| path.display().to_string()))
            .env("SYSTEMD_UNIT_PATH", &format!("{directory}:"));
        let output = match program.output(None).await {
            Ok(output) => output,
            Err(error) => {
                return vec![Finding::new(Severity::Unchecked, about, error.to_string())];
            }
        };
        let said = format!("{}\n{}", output.stderr, output.stdout);
        let mut found: Vec<Finding> = said
            .lines()
            .filter(|line| line.contains(&directory))
            .filter_map(|line| judged(line, &directory))
            .collect();
        found.dedup();
        if found.is_empty() {
            found.push(Finding::new(Severity::Fine, about, format!("{} units", units.len())));
        }
        found
    }
}

/// A line of systemd's: programs that come with the image or with Podman may be missing here.
fn judged(line: &str, directory: &str) -> Option<Finding> {
    let text = line.replace(&format!("{directory}/"), "");
    let severity =
        if text.contains("is not executable") { Severity::Doubtful } else { Severity::Wrong };
    Some(Finding::new(severity, "systemd-analyze verify", text))
}

fn services(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for item in fs::read_dir(directory)? {
        let path = item?.path();
        let is_unit = path.extension().is_some_and(|kind| kind == "service" || kind == "target");
        let is_template =
            path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with('@'));
        if is_unit && !is_template {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Units of others, by one level: files, and drop-ins of ours that are not rendered here.
fn copy_others(from: &Path, to: &Path, entries: &[Entry]) -> io::Result<()> {
    let items = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        items => items?,
    };
    for item in items {
        let path = item?.path();
        let Some(name) = path.file_name() else { continue };
        let is_ours = entries.iter().any(|entry| entry.path == path);
        let is_old = name.to_string_lossy().starts_with("dispatcher");
        if path.is_file() && !is_ours && !is_old {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

fn put(path: &Path, what: &What) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match what {
        What::File { content, .. } => fs::write(path, content),
        What::Link { target } => symlink(target, path),
    }
}
