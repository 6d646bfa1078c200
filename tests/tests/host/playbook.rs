//! Ansible on this machine, whose inventory is throw-away hosts: `site.yml` or another play.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long a play may take.
const WITHIN: Duration = Duration::from_secs(900);

/// An inventory, and a place for what belongs to it.
pub(crate) struct Ansible {
    directory: TempDir,
}

/// A play that went through.
pub(crate) struct Played {
    /// What it said.
    pub(crate) text: String,
    /// How much it has changed, by host.
    pub(crate) changed: BTreeMap<String, u32>,
}

impl Played {
    /// It has changed nothing anywhere.
    pub(crate) fn ensure_unchanged(&self) -> Result<()> {
        ensure!(self.changed.values().all(|count| *count == 0), "{}", self.text);
        Ok(())
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned()
}

/// Where `make deps` puts Ansible.
fn program() -> Result<PathBuf> {
    let own =
        || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share/dispatcher/ansible"));
    let home = std::env::var_os("DISPATCHER_ANSIBLE_HOME").map(PathBuf::from).or_else(own);
    let found = home.context("HOME is not set")?.join("bin/ansible-playbook");
    ensure!(found.exists(), "{} is missing: run `make deps`", found.display());
    Ok(found)
}

fn recap(text: &str) -> BTreeMap<String, u32> {
    let line = |line: &str| {
        let (host, counts) = line.split_once(" : ")?;
        let changed = counts.split_whitespace().find_map(|count| count.strip_prefix("changed="))?;
        Some((host.trim().to_owned(), changed.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

impl Ansible {
    /// With this inventory, in the form of an ini file.
    pub(crate) fn new(inventory: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("hosts.ini"), inventory)?;
        Ok(Self { directory })
    }

    /// A file beside the inventory.
    pub(crate) fn file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, content)?;
        Ok(path)
    }

    fn command(&self, play: &Path, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(program()?);
        command
            .arg("--inventory")
            .arg(self.directory.path().join("hosts.ini"))
            .arg(play)
            .args(arguments)
            .current_dir(repository())
            .env("LC_ALL", "C.UTF-8")
            .env("ANSIBLE_HOME", self.directory.path().join("home"))
            .env("ANSIBLE_ROLES_PATH", repository().join("roles"))
            .env("ANSIBLE_PIPELINING", "true")
            .env("ANSIBLE_NOCOLOR", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// A play, which must go through.
    pub(crate) async fn play(&self, play: &Path, arguments: &[&str]) -> Result<Played> {
        let output = self.attempt(play, arguments).await?;
        ensure!(output.0, "ansible-playbook {arguments:?}:\n{}", output.1);
        Ok(Played { changed: recap(&output.1), text: output.1 })
    }

    /// A play: whether it went through, and what it said.
    pub(crate) async fn attempt(&self, play: &Path, arguments: &[&str]) -> Result<(bool, String)> {
        let running = self.command(play, arguments)?.output();
        let output =
            tokio::time::timeout(WITHIN, running).await.context("no end of the play")??;
        let text =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok((output.status.success(), text.concat()))
    }

    /// `site.yml`, which must go through.
    pub(crate) async fn site(&self, arguments: &[&str]) -> Result<Played> {
        self.play(&repository().join("site.yml"), arguments).await
    }

    /// `site.yml`, killed after that time with all that it has started here; whether it was still at it.
    pub(crate) async fn killed(&self, after: Duration, arguments: &[&str]) -> Result<bool> {
        let mut command = self.command(&repository().join("site.yml"), arguments)?;
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let ended = tokio::time::timeout(after, child.wait()).await;
        if ended.is_ok() {
            return Ok(false);
        }
        kill(&mut child).await?;
        Ok(true)
    }
}

async fn kill(child: &mut Child) -> Result<()> {
    let group = child.id().context("it runs")?.to_string();
    Command::new("kill").args(["-9", "--", &format!("-{group}")]).status().await?;
    child.wait().await?;
    Ok(())
}
