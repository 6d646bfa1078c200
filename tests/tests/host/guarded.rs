//! What the units keep away: other users of the host from an instance's socket, and an instance
//! from everything but its own.

use anyhow::{Result, ensure};

use crate::{host::Host, rendered};

const SOCKET: &str = "/run/dispatcher-api/0/api.sock";
const ASK: &str = "curl --silent --show-error --max-time 5 --unix-socket /run/dispatcher-api/0/api.sock http://localhost/health/live";

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_shut_off() -> Result<()> {
    let lines = "dispatcher_api_container_scale: 1\ndispatcher_worker_enabled: false\n";
    let deployed = rendered::started("hguard", lines).await?;
    let host = &deployed.host;
    strangers_are_refused(host).await?;
    nothing_is_left_to_it(host).await
}

async fn strangers_are_refused(host: &Host) -> Result<()> {
    host.run("useradd stranger").await?;
    host.run(&format!("test -S {SOCKET}")).await?;
    let stranger = format!("setpriv --reuid=stranger --regid=stranger --clear-groups {ASK}");
    let refused = host.attempt(&stranger).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success(), "a stranger is answered");
    // Curl tells a failed connection by 7, whatever the reason; the socket is there.
    ensure!(refused.status.code() == Some(7), "{said}");
    // HAProxy's user is let in by its group, which shows that it is not the command that fails.
    host.run(&format!("setpriv --reuid=haproxy --regid=haproxy --init-groups {ASK}")).await?;
    Ok(())
}

async fn nothing_is_left_to_it(host: &Host) -> Result<()> {
    let status = host
        .run("cat /proc/$(podman inspect --format '{{.State.Pid}}' dispatcher-api-0)/status")
        .await?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        ensure!(field(name) == ["0000000000000000"], "{name} {:?}", field(name));
    }
    ensure!(field("NoNewPrivs:") == ["1"] && field("Seccomp:") == ["2"], "{status}");
    let users = field("Uid:");
    ensure!(users.iter().all(|user| user.parse::<u64>().is_ok_and(|id| id > 65_535)), "{users:?}");
    let write = host.attempt("podman exec dispatcher-api-0 sh -c 'echo >/usr/file'").await?;
    ensure!(!write.status.success(), "the root is writable");
    Ok(())
}
