//! Whether HAProxy accepts its files: as they are, or as they would be with some of them replaced.
//! Nothing that HAProxy reads is touched.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::program::{ProgramError, run};

/// How long HAProxy may take to read its files.
const WITHIN: Duration = Duration::from_secs(30);
/// The most lines of HAProxy's that an error repeats.
const MAX_LINES: usize = 20;

/// What HAProxy is started with.
#[derive(Clone, Debug)]
pub struct Files {
    /// The program.
    pub program: PathBuf,
    /// What is given to it with `-f`, in order: files, and directories of which it reads `*.cfg`.
    pub read: Vec<PathBuf>,
    /// Which of the files are ours; a mistake in any other is somebody else's.
    pub ours: Vec<PathBuf>,
}

/// A place that HAProxy complains of.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// The line.
    pub line: u32,
    /// Whether it is one of ours.
    pub is_ours: bool,
}

/// Why files were not accepted.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// HAProxy refuses them.
    #[error("{}", refusal(mistakes, output))]
    Refused {
        /// The places that it complains of, without doubles.
        mistakes: Vec<Mistake>,
        /// What it wrote.
        output: String,
    },
    /// HAProxy could not be asked.
    #[error("HAProxy's files cannot be checked: {0}")]
    Program(#[from] ProgramError),
    /// The files cannot be laid out for the check.
    #[error("HAProxy's files cannot be checked: {}: {source}", path.display())]
    Layout {
        /// The file or directory.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

fn refusal(mistakes: &[Mistake], output: &str) -> String {
    let mut text = "HAProxy refuses its configuration".to_owned();
    for Mistake { file, line, is_ours } in mistakes {
        let whose = if *is_ours { "" } else { " (not a file of Dispatcher: repair it first)" };
        let _ = write!(text, "\n  {} line {line}{whose}", file.display());
    }
    let said = output.lines().filter(|line| !line.starts_with("[NOTICE]"));
    for line in said.take(MAX_LINES) {
        let _ = write!(text, "\n  haproxy: {line}");
    }
    text
}

impl Files {
    /// Asks HAProxy; its warnings.
    ///
    /// # Errors
    /// When it refuses, with what it wrote.
    pub async fn check(&self) -> Result<Vec<String>, CheckError> {
        self.ask(&self.read, |output| output).await
    }

    /// Asks HAProxy what it would say with these files in place of what is there: whole contents
    /// by path. Others are read as they are.
    ///
    /// # Errors
    /// When it refuses, with what it wrote; its words name the real places.
    pub async fn check_with(
        &self,
        replaced: &[(PathBuf, String)],
    ) -> Result<Vec<String>, CheckError> {
        let layout = |path: &Path, source| CheckError::Layout { path: path.to_owned(), source };
        let temporary = tempfile::tempdir().map_err(|source| layout(Path::new("/tmp"), source))?;
        let mut read = Vec::new();
        for (index, path) in self.read.iter().enumerate() {
            let copy = temporary.path().join(index.to_string());
            lay_out(path, &copy, replaced).map_err(|source| layout(path, source))?;
            read.push(copy);
        }
        let real = |output: String| self.with_real_paths(output, &temporary);
        self.ask(&read, real).await
    }

    /// The directory to which HAProxy confines itself, from where it cannot open the sockets of
    /// instances: `chroot` in any of the files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn chroot(&self) -> io::Result<Option<PathBuf>> {
        let mut found = None;
        for path in &self.read {
            for file in files(path)? {
                let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
                found = text.lines().filter_map(chroot_of).next_back().or(found);
            }
        }
        Ok(found)
    }

    /// Where requests come in by files that are not ours: their `frontend` and `listen` sections,
    /// by name. Who has some uses this HAProxy already.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn foreign_entrances(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for path in &self.read {
            for file in files(path)?.into_iter().filter(|file| !self.ours.contains(file)) {
                let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
                found.extend(text.lines().filter_map(entrance_of));
            }
        }
        Ok(found)
    }

    async fn ask(
        &self,
        read: &[PathBuf],
        real: impl FnOnce(String) -> String,
    ) -> Result<Vec<String>, CheckError> {
        let mut arguments: Vec<&Path> = vec![Path::new("-c")];
        for path in read {
            arguments.extend([Path::new("-f"), path]);
        }
        let arguments: Vec<_> = arguments.iter().map(|path| path.as_os_str()).collect();
        let ended = run(&self.program, &arguments, WITHIN).await?;
        let output = real(ended.output);
        if !ended.is_success {
            let mistakes = self.mistakes(&output);
            return Err(CheckError::Refused { mistakes, output });
        }
        let warnings = output.lines().filter(|line| line.starts_with("[WARNING]"));
        Ok(warnings.map(str::to_owned).collect())
    }

    fn mistakes(&self, output: &str) -> Vec<Mistake> {
        let complaints = output.lines().filter(|line| line.starts_with("[ALERT]"));
        let mut mistakes: Vec<Mistake> = complaints.filter_map(|line| self.mistake(line)).collect();
        mistakes.sort();
        mistakes.dedup();
        mistakes
    }

    /// `… parsing [/path/of/file.cfg:12] …`
    fn mistake(&self, complaint: &str) -> Option<Mistake> {
        let (_, rest) = complaint.split_once("arsing [")?;
        let (place, _) = rest.split_once(']')?;
        let (file, line) = place.rsplit_once(':')?;
        let (file, line) = (PathBuf::from(file), line.parse().ok()?);
        let is_ours = self.ours.contains(&file);
        Some(Mistake { file, line, is_ours })
    }

    fn with_real_paths(&self, output: String, temporary: &TempDir) -> String {
        self.read.iter().enumerate().fold(output, |output, (index, path)| {
            let copy = temporary.path().join(index.to_string());
            output.replace(&copy.display().to_string(), &path.display().to_string())
        })
    }
}

/// A file, or a directory with links to what it holds and the replaced ones in their place.
fn lay_out(path: &Path, copy: &Path, replaced: &[(PathBuf, String)]) -> io::Result<()> {
    let content = |path: &Path| replaced.iter().find(|(replaced, _)| replaced == path);
    if let Some((_, text)) = content(path) {
        return std::fs::write(copy, text);
    }
    let inside = replaced.iter().filter(|(file, _)| file.parent() == Some(path));
    if path.is_file() || (!path.is_dir() && inside.clone().next().is_none()) {
        return std::os::unix::fs::symlink(std::path::absolute(path)?, copy);
    }
    std::fs::create_dir(copy)?;
    for (file, text) in inside {
        let Some(name) = file.file_name() else { continue };
        std::fs::write(copy.join(name), text)?;
    }
    if !path.is_dir() {
        return Ok(());
    }
    for file in files(path)? {
        let Some(name) = file.file_name() else { continue };
        if content(&file).is_none() {
            std::os::unix::fs::symlink(std::path::absolute(&file)?, copy.join(name))?;
        }
    }
    Ok(())
}

/// The files that HAProxy reads there: the file itself, or of a directory `*.cfg` without those
/// that begin with a dot, by name.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".cfg") && !text.starts_with('.') {
            files.push(path.join(&name));
        }
    }
    files.sort();
    Ok(files)
}

fn chroot_of(line: &str) -> Option<PathBuf> {
    let mut words = line.split_whitespace();
    (words.next() == Some("chroot")).then(|| words.next().map(PathBuf::from)).flatten()
}

fn entrance_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let is_entrance = matches!(words.next(), Some("frontend" | "listen"));
    is_entrance.then(|| words.next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_of(ours: &str) -> Files {
        Files { program: "haproxy".into(), read: Vec::new(), ours: vec![ours.into()] }
    }

    #[test]
    fn the_places_of_mistakes_are_read_and_ours_are_told_from_others() {
        let output = "\
[NOTICE]   (1) : haproxy version is 2.6.12-1+deb12u4
[ALERT]    (1) : config : parsing [/c/10.cfg:63] : unknown keyword 'nonsense' in 'backend' section
[ALERT]    (1) : config : Error(s) found in configuration file : /c/10.cfg
[ALERT]    (1) : config : parsing [/c/20.cfg:1]: unknown keyword 'bogus' out of section.
[ALERT]    (1) : config : Parsing [/c/20.cfg:1]: frontend 'a' has the same name
[ALERT]    (1) : config : Fatal errors found in configuration.
";
        let mistakes = files_of("/c/10.cfg").mistakes(output);
        let mistake = |file: &str, line, is_ours| Mistake { file: file.into(), line, is_ours };
        assert_eq!(mistakes, [mistake("/c/10.cfg", 63, true), mistake("/c/20.cfg", 1, false)]);
        let error = CheckError::Refused { mistakes, output: output.to_owned() }.to_string();
        assert!(error.contains("/c/10.cfg line 63\n"), "{error}");
        assert!(error.contains("/c/20.cfg line 1 (not a file of Dispatcher"), "{error}");
        assert!(error.contains("unknown keyword 'bogus'"), "{error}");
        assert!(!error.contains("[NOTICE]"), "{error}");
    }

    #[test]
    fn a_directory_is_read_as_haproxy_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["20.cfg", "10.cfg", ".30.cfg", "40.cfg.old"] {
            std::fs::write(directory.path().join(name), "global\n    chroot /var/lib/x\n").unwrap();
        }
        let expected = ["10.cfg", "20.cfg"].map(|name| directory.path().join(name));
        assert_eq!(files(directory.path()).unwrap(), expected);
        let mut read = files_of("");
        assert_eq!(read.chroot().unwrap(), None);
        read.read.push(directory.path().to_owned());
        assert_eq!(read.chroot().unwrap(), Some("/var/lib/x".into()));
        let (ours, theirs) = (directory.path().join("10.cfg"), directory.path().join("20.cfg"));
        std::fs::write(&ours, "frontend ours\n").unwrap();
        std::fs::write(&theirs, "# frontend no\n  listen theirs\nbackend x\n").unwrap();
        read.ours.push(ours);
        assert_eq!(read.foreign_entrances().unwrap(), ["theirs"]);
    }
}
