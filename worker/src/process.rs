//! Starts ansible-runner as a process group (and cgroup) of its own, held at a gate until its start
//! is journaled, and pumps its output.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
};
use uuid::Uuid;

use crate::{
    cgroup::Cgroup,
    journal::StartedProcess,
    tree::{MARKER, start_ticks},
};

/// Joins the cgroup given first, waits at the gate, and becomes the program. A worker that dies
/// meanwhile closes the gate, and nothing starts. In a shell, since joining between fork and exec
/// takes unsafe code otherwise.
const GATE: &str = r#"[ -z "$1" ] || echo $$ > "$1" || :; shift; read -r go || exit 125; exec "$@" </dev/null 2>&1"#;
/// How much output is read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many chunks may wait for the reader.
const CHUNKS: usize = 4;

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) run_id: Uuid,
    pub(crate) command: Vec<OsString>,
    pub(crate) environment: BTreeMap<OsString, OsString>,
    pub(crate) folder: &'a Path,
    pub(crate) cgroup: Option<&'a Cgroup>,
}

/// A process at the gate.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    gate: Option<ChildStdin>,
    output: Option<ChildStdout>,
    identity: StartedProcess,
}

impl Process {
    /// Starts it up to the gate.
    pub(crate) fn spawn(launch: &Launch<'_>) -> io::Result<Self> {
        let join = launch.cgroup.map(|cgroup| cgroup.procs_file().into_os_string());
        let mut child = Command::new("/bin/sh")
            .args(["-c", GATE, "dispatcher-run"])
            .arg(join.unwrap_or_default())
            .args(&launch.command)
            .env_clear()
            .envs(&launch.environment)
            .env(MARKER, launch.run_id.to_string())
            .current_dir(launch.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        Ok(Self {
            gate: child.stdin.take(),
            output: child.stdout.take(),
            identity: StartedProcess { pid, start_ticks: start_ticks(pid).unwrap_or_default() },
            child,
        })
    }

    /// Which process it is.
    pub(crate) const fn identity(&self) -> StartedProcess {
        self.identity
    }

    /// Opens the gate.
    pub(crate) async fn release(&mut self) -> io::Result<()> {
        match self.gate.take() {
            Some(mut gate) => gate.write_all(b"go\n").await,
            None => Ok(()),
        }
    }

    /// Its output; a task that ends at its end, and the channel with it.
    pub(crate) fn pump(&mut self) -> (mpsc::Receiver<Bytes>, tokio::task::JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let output = self.output.take();
        (
            receiver,
            tokio::spawn(async move {
                if let Some(output) = output {
                    pump(output, sender).await;
                }
            }),
        )
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

async fn pump(mut output: ChildStdout, sender: mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match output.read(&mut buffer).await {
            Ok(0) => return,
            Ok(length) => {
                let chunk = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the output of ansible-runner cannot be read further");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(folder: &Path, script: &str) -> Process {
        let command = ["/bin/sh", "-c", script].map(OsString::from).to_vec();
        let environment = BTreeMap::from([("ONLY".into(), "this".into())]);
        let run_id = Uuid::nil();
        Process::spawn(&Launch { run_id, command, environment, folder, cgroup: None }).unwrap()
    }

    async fn output(mut process: Process) -> (String, ExitStatus) {
        let (mut chunks, pump) = process.pump();
        let mut text = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            text.extend_from_slice(&chunk);
        }
        pump.await.unwrap();
        (String::from_utf8(text).unwrap(), process.wait().await.unwrap())
    }

    #[tokio::test]
    async fn nothing_starts_before_the_gate_opens_or_when_it_never_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = launch(folder.path(), "touch started; echo out; echo err >&2; env");
        process.gate.take();
        let (text, status) = output(process).await;
        assert_eq!((text.as_str(), status.code()), ("", Some(125)));
        assert!(!folder.path().join("started").exists());
    }

    #[tokio::test]
    async fn the_environment_is_only_what_is_given_and_errors_are_output() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = launch(folder.path(), "echo out; echo err >&2; env; exit 3");
        assert!(process.identity().start_ticks > 0);
        process.release().await.unwrap();
        let (text, status) = output(process).await;
        assert!(text.starts_with("out\nerr\n"), "{text}");
        assert!(text.contains("ONLY=this") && text.contains(&format!("{MARKER}={}", Uuid::nil())));
        assert!(!text.contains("CARGO"), "{text}");
        assert_eq!(status.code(), Some(3));
    }
}
