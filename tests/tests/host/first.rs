//! A bare host and no setting: `init` and `apply` make a service that runs a playbook on the host
//! itself, and a reboot changes nothing of that. Uninstalled, nothing is left.

use anyhow::{Result, ensure};

use crate::deployed::Deployed;

const PLAYBOOK: &str = "\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.shell: echo once >>/root/executions
";

/// A playbook, followed to its success with the command line's own tool.
const RUN: &str = "\
cat >/root/play.yml
DISPATCHER_KEY=$(podman secret inspect --showsecret --format '{{.SecretData}}' dispatcher-psk-operator)
export DISPATCHER_KEY DISPATCHER_ORG=${DISPATCHER_ORG:-default}
dispatchctl --url http://127.0.0.1 run /root/play.yml --follow 2>&1
";

async fn works(deployed: &Deployed, executions: usize) -> Result<()> {
    deployed.ensure_scale(4).await?;
    let host = &deployed.host;
    host.run("systemctl is-active dispatcher-auth-tracker.service dispatcher-worker.service")
        .await?;
    // Podman's first check may come before what it checks; the next one finds it well.
    host.until(
        "failed=$(systemctl --failed --plain --no-legend); echo $failed >&2; test -z \"$failed\"",
    )
    .await?;
    let said = host.feed(RUN, PLAYBOOK.as_bytes()).await?;
    ensure!(said.contains("success"), "{said}");
    let times = host.run("wc -l </root/executions").await?;
    ensure!(times.trim() == executions.to_string(), "executed {times} times");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_host_gets_a_service_that_survives_a_reboot() -> Result<()> {
    let deployed = Deployed::applied("hfirst", "").await?;
    works(&deployed, 1).await?;
    // Nothing is left to do, and nothing is done.
    let before = deployed.state().await?;
    deployed.host.run("quadletgen apply").await?;
    ensure!(before == deployed.state().await?, "a second apply changes something");
    deployed.host.run("quadletgen status; quadletgen diff").await?;
    deployed.host.reboot().await?;
    works(&deployed, 2).await?;
    goes_without_a_trace(&deployed).await
}

/// First what runs, which leaves data and secrets; then those, of which the first step has kept a note.
async fn goes_without_a_trace(deployed: &Deployed) -> Result<()> {
    let host = &deployed.host;
    host.run("quadletgen uninstall").await?;
    let running = host.run("podman ps --quiet").await?;
    ensure!(running.trim().is_empty(), "{running}");
    host.run(
        "podman volume exists dispatcher-postgresql && test -s /etc/dispatcher-api/deploy.yml",
    )
    .await?;
    host.run("quadletgen uninstall --data").await?;
    let left = host
        .run(
            "podman volume ls --quiet; podman secret ls --noheading; podman network ls --quiet --filter name=dispatcher
             find /etc/containers/systemd /etc/haproxy/conf.d /var/lib/dispatcher-worker -type f 2>/dev/null || :
             systemctl list-units --all --plain --no-legend 'dispatcher-*'",
        )
        .await?;
    ensure!(left.trim().is_empty(), "{left}");
    Ok(())
}
