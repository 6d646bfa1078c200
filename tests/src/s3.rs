//! A server of the S3 protocol of a test's own (s3s-fs, which keeps objects as files): its
//! directory, its free loopback port, signatures checked, gone with the test's process.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use crate::{
    guarded::{Guarded, directory, program},
    ports,
};

/// The key id that it knows.
pub const ACCESS_KEY: &str = "test-access-key";
/// Its secret.
pub const SECRET_KEY: &str = "test-secret-key";
/// The bucket that is there.
pub const BUCKET: &str = "dispatcher";
/// The region that signatures name; the server takes any.
pub const REGION: &str = "us-east-1";

/// A running S3 server.
pub struct PrivateS3 {
    guarded: Guarded,
    port: u16,
}

impl PrivateS3 {
    /// Starts one with an empty bucket and waits until it takes connections.
    ///
    /// # Errors
    /// When s3s-fs is not installed or does not start; says how to install it.
    pub async fn start() -> Result<Self> {
        let home = std::env::var("HOME").unwrap_or_default();
        let tools = Path::new(&home).join(".local/share/dispatcher/tools/bin");
        let cargo = Path::new(&home).join(".cargo/bin");
        let server = program("s3s-fs", &[&tools, &cargo], "run scripts/deps.sh test")?;
        let (directory, port) = (directory("s3")?, ports::free()?);
        let root = directory.path().join("buckets");
        std::fs::create_dir_all(root.join(BUCKET))?;
        let mut command = Command::new(server);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]).arg(root);
        let s3 = Self { guarded: Guarded::new(directory, &command, "")?, port };
        s3.restart().await?;
        Ok(s3)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Guarded {
        &self.guarded
    }

    /// Starts it again with what it held, and waits until it takes connections.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub async fn restart(&self) -> Result<()> {
        self.guarded.start()?;
        let address = ("127.0.0.1", self.port);
        let listens = async || TcpStream::connect(address).await.is_ok();
        self.guarded.until("took connections", listens).await
    }

    /// The names of all objects of the bucket below a prefix, sorted.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn objects(&self, prefix: &str) -> Result<Vec<String>> {
        let bucket = self.guarded.directory().join("buckets").join(BUCKET);
        let mut names = Vec::new();
        let mut folders = vec![bucket.join(prefix)];
        while let Some(folder) = folders.pop() {
            if !folder.exists() {
                continue;
            }
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let (path, kind): (PathBuf, _) = (entry.path(), entry.file_type()?);
                if kind.is_dir() {
                    folders.push(path);
                } else if !entry.file_name().to_string_lossy().starts_with('.') {
                    let name = path.strip_prefix(&bucket)?.to_str().context("a name in UTF-8")?;
                    names.push(name.to_owned());
                }
            }
        }
        names.sort();
        Ok(names)
    }
}
