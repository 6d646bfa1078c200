//! Real workers: `dispatcher-worker` processes with their own state, registered with a one-time
//! token. Their ansible-runner is the real one, or a player that behaves like it in no time.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, ensure};
use uuid::Uuid;

use crate::{
    cluster::Cluster,
    guarded::{Guarded, directory},
    process::binary,
};

/// How many lines a played run prints.
pub const LINES: usize = 8;
/// What is played: the run's `marker` goes into the file of executions first, then numbered lines
/// come in steps, then the counts of a success. `$DIR` is the private data directory.
const PLAYER: &str = r#"#!/bin/sh
for DIR; do :; done
case " $* " in *" --version "*) echo 2.4.3; exit 0;; esac
marker=$(sed -n 's/.*"marker": "\([^"]*\)".*/\1/p' "$DIR/env/extravars")
echo "$marker" >>"@EXECUTIONS@"
pause=$(sed -n 's/.*"pause": "\([^"]*\)".*/\1/p' "$DIR/env/extravars")
counter=1
while [ "$counter" -le @LINES@ ]; do
    printf '{"uuid": "%s-%s", "counter": %s, "stdout": "line %s of %s", "start_line": %s, "end_line": %s, "event": "runner_on_ok", "event_data": {"host": "localhost"}}\n' \
        "$marker" "$counter" "$counter" "$counter" "$marker" "$((counter - 1))" "$counter"
    sleep "${pause:-0.05}"
    counter=$((counter + 1))
done
printf '{"uuid": "%s-end", "counter": %s, "stdout": "", "start_line": %s, "end_line": %s, "event": "playbook_on_stats", "event_data": {"processed": {"localhost": 1}, "failures": {}, "dark": {}}}\n' \
    "$marker" "$counter" "$counter" "$counter"
"#;

/// A worker.
pub struct Agent {
    /// Its recipient.
    pub recipient: Uuid,
    /// Its process.
    pub process: Guarded,
    executions: PathBuf,
}

impl Agent {
    /// Registers a worker and starts it. `is_played`: with the player in place of ansible-runner.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub async fn start(cluster: &Cluster, is_played: bool) -> Result<Self> {
        let (recipient, directory) = (Uuid::new_v4(), directory("worker")?);
        let path = directory.path().to_owned();
        let token = path.join("token");
        std::fs::write(&token, cluster.registration_token(recipient).await?)?;
        let executions = path.join("executions");
        let program = binary("dispatcher-worker")?;
        let runner = if is_played { Some(player(&path, &executions)?) } else { None };
        let command = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.args(arguments).env("DISPATCHER_URL", cluster.url());
            command.env("WORKER_STATE_DIR", path.join("state"));
            command.env("WORKER_CANCEL_GRACE", "2").env("WORKER_CONCURRENCY", "2");
            command.envs(runner.iter().map(|path| ("ANSIBLE_RUNNER", path)));
            command
        };
        let recipient_text = recipient.to_string();
        let mut register = command(&["register", "--recipient", &recipient_text, "--token-file"]);
        register.arg(&token).stdin(Stdio::null());
        let output = tokio::process::Command::from(register).output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "the worker was not registered: {said}");
        let process = Guarded::new(directory, &command(&["run"]), "")?;
        process.start()?;
        Ok(Self { recipient, process, executions })
    }

    /// Waits until the service knows that it is there.
    ///
    /// # Errors
    /// When it never does.
    pub async fn until_connected(&self, cluster: &Cluster) -> Result<()> {
        let body =
            serde_json::json!([{ "recipient": self.recipient, "org_id": crate::cluster::ORG }]);
        let is_connected = async || {
            let path = "/internal/v2/recipients/status";
            let request = cluster.request(reqwest::Method::POST, path).json(&body);
            let request = request.timeout(Duration::from_secs(5));
            let found = crate::cluster::answered::<serde_json::Value>(request).await;
            found.is_ok_and(|found| found.pointer("/0/connected") == Some(&true.into()))
        };
        self.process.until("was connected", is_connected).await
    }

    /// The markers of runs that were executed, once per execution.
    #[must_use]
    pub fn executions(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.executions).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The playbook that does what the player does, for the real ansible-runner.
    #[must_use]
    pub fn playbook(&self) -> String {
        format!(
            "- hosts: all\n  gather_facts: false\n  tasks:\n    \
             - ansible.builtin.shell: echo {{{{ marker }}}} >> {}\n    \
             - ansible.builtin.debug:\n        msg: \"line {{{{ item }}}} of {{{{ marker }}}}\"\n      \
             loop: \"{{{{ range(1, {LINES} + 1) | list }}}}\"\n",
            self.executions.display()
        )
    }
}

fn player(path: &Path, executions: &Path) -> Result<PathBuf> {
    let file = path.join("ansible-runner");
    let text = PLAYER.replace("@EXECUTIONS@", &executions.display().to_string());
    std::fs::write(&file, text.replace("@LINES@", &LINES.to_string()))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(file)
}
