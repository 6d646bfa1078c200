//! One throw-away host of `tests/testhost/testhost`, gone when dropped.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// How long anything on a host may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The image of the service, and the same programs in another image.
pub(crate) const IMAGES: [&str; 2] = ["localhost/dispatcher-api:1", "localhost/dispatcher-api:2"];

/// A running host.
pub(crate) struct Host {
    name: String,
    /// Where this machine reaches it.
    pub(crate) address: Ipv4Addr,
}

/// Whether everything is to be tested, however long it takes.
pub(crate) fn is_long() -> bool {
    std::env::var_os("LONG").is_some_and(|value| value == "1")
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testhost")
}

/// What a command printed; its standard error is the error where it failed.
fn printed(output: Output, what: &str) -> Result<String> {
    let error = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        bail!("{what}: {}\n{}\n{}", output.status, text.trim(), error.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

impl Host {
    /// Boots one.
    pub(crate) async fn up(name: &str) -> Result<Self> {
        let output = Command::new(scripts().join("testhost")).args(["up", name]).output().await?;
        let line = printed(output, "testhost up")?;
        let address = line.split_whitespace().nth(1).context("testhost up says no address")?;
        Ok(Self { name: name.to_owned(), address: address.parse()? })
    }

    /// Boots one with these images.
    pub(crate) async fn with_images(name: &str, images: &[&str]) -> Result<Self> {
        let host = Self::up(name).await?;
        host.load(images).await?;
        Ok(host)
    }

    /// Loads images.
    pub(crate) async fn load(&self, images: &[&str]) -> Result<()> {
        let mut load = Command::new(scripts().join("images"));
        load.args(["load", &self.name]).args(images);
        printed(load.output().await?, "images load (make test-host makes them)")?;
        Ok(())
    }

    /// Its line in an inventory of Ansible's.
    pub(crate) async fn inventory(&self) -> Result<String> {
        let output = Command::new(scripts().join("testhost")).arg("list").output().await?;
        let list = printed(output, "testhost list")?;
        let own = |line: &&str| line.split_whitespace().next() == Some(&self.name);
        list.lines().find(own).map(str::to_owned).context("testhost list does not know it")
    }

    /// Runs a script of the shell as root, and says how it ended.
    pub(crate) async fn attempt(&self, script: &str) -> Result<Output> {
        Ok(self.command(script).output().await?)
    }

    /// The same, which must succeed: what it printed.
    pub(crate) async fn run(&self, script: &str) -> Result<String> {
        let output = tokio::time::timeout(PATIENCE, self.attempt(script)).await;
        printed(output.with_context(|| format!("no end on {}: {script}", self.name))??, script)
    }

    /// The same, with this on its standard input.
    pub(crate) async fn feed(&self, script: &str, input: &[u8]) -> Result<String> {
        let mut command = self.command(script);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("it has a standard input")?;
        stdin.write_all(input).await?;
        drop(stdin);
        printed(child.wait_with_output().await?, script)
    }

    /// A script of the shell as root, not begun yet; killed when dropped.
    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = Command::new(scripts().join("testhost"));
        command.args(["exec", &self.name, "--", "sh", "-euc", script]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Shuts it down and boots it again.
    pub(crate) async fn reboot(&self) -> Result<()> {
        let mut command = Command::new(scripts().join("testhost"));
        printed(command.args(["reboot", &self.name]).output().await?, "testhost reboot")?;
        Ok(())
    }

    /// Waits until a script succeeds.
    pub(crate) async fn until(&self, script: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.attempt(script).await?.status.success() {
            if Instant::now() > deadline {
                self.run(script).await.with_context(|| format!("never: {script}"))?;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // For whoever wants to look at it afterwards.
        if std::env::var_os("KEEP_HOSTS").is_some() {
            return;
        }
        let mut down = std::process::Command::new(scripts().join("testhost"));
        if let Err(error) = down.args(["down", &self.name]).output() {
            eprintln!("the host {} stays: {error}", self.name);
        }
    }
}
