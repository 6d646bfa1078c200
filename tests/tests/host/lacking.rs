//! A host that is not what it should be, seen by the first apply and by later ones: Podman too old, no
//! systemd, ports that are taken, disks that are full. What is wrong is said, and nothing is half done.

use anyhow::{Result, ensure};

use crate::{
    application::{self, Callers},
    deployed::{self, Deployed, differences},
    host::Host,
};

/// A Podman of another version; for all else it is the real one.
const OLD: &str = "\
mkdir -p /opt/old
printf '#!/bin/sh\\n[ \"$1\" != version ] || { echo 4.9.4; exit; }\\nexec /usr/bin/podman \"$@\"\\n' >/opt/old/podman
chmod 755 /opt/old/podman
";

/// It fails with this status, says this, and nothing has changed.
async fn refused(deployed: &Deployed, script: &str, status: i32, said: &[&str]) -> Result<()> {
    let before = deployed.everything().await?;
    let output = deployed.host.attempt(script).await?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(status), "{script}: {}: {text}", output.status);
    for part in said {
        ensure!(text.contains(part), "{script} does not say {part:?}: {text}");
    }
    let after = deployed.everything().await?;
    let changed = differences(&before, &after);
    // It may have noted what it was about to write, and has not written it.
    let changed: String =
        changed.lines().filter(|line| !line.ends_with("/manifest.json")).collect();
    ensure!(changed.is_empty(), "{script} has changed {changed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_cannot_is_told_so_before_anything_is_done() -> Result<()> {
    let deployed = application::prepared("hlacks").await?;
    let host = &deployed.host;
    host.run(OLD).await?;
    for command in ["init", "apply"] {
        let script = format!("PATH=/opt/old:$PATH quadletgen {command}");
        refused(&deployed, &script, 7, &["podman is 4.9.4", "5.0 or newer"]).await?;
    }
    // Where there is no systemd at all: in a container.
    let inside = "podman run --rm --user 0 --network none --volume /etc/dispatcher-api:/etc/dispatcher-api:ro \
                  --volume /usr/local/bin/quadletgen:/usr/local/bin/quadletgen:ro \
                  --entrypoint /usr/local/bin/quadletgen localhost/dispatcher-api:1 apply";
    refused(&deployed, inside, 7, &["systemd cannot be reached", "booted with systemd"]).await?;
    for (port, variable) in [
        (80, "dispatcher_haproxy_http_port"),
        (8404, "dispatcher_haproxy_stats_address"),
        (15001, "dispatcher_api_publish_port"),
    ] {
        // Our HAProxy does not run yet, and its package's has no entrance.
        host.run(&format!(
            "systemd-run --quiet --collect --unit=squatter socat tcp-listen:{port},fork,reuseaddr -"
        ))
        .await?;
        host.until(&format!("ss -Hltn 'sport = :{port}' | grep -q .")).await?;
        let taken = format!("port {port} is taken by socat");
        refused(&deployed, "quadletgen apply", 5, &[&taken, variable, "nothing was changed"])
            .await?;
        host.run("systemctl stop squatter").await?;
    }
    host.run("quadletgen apply").await?;
    deployed.ensure_scale(2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_are_told_and_survived() -> Result<()> {
    let host = Host::up("hfull").await?;
    // Small ones, in place of what the machine has: for containers, and for what quadletgen remembers.
    host.run(
        "mount -t tmpfs -o size=1200m tmpfs /var/lib/containers
         mkdir -p /var/lib/dispatcher-api; mount -t tmpfs -o size=1m tmpfs /var/lib/dispatcher-api",
    )
    .await?;
    host.load(&["debian", "dispatcher-api"]).await?;
    deployed::install_tool(&host).await?;
    application::pack(&host).await?;
    let deployed = application::told(host).await?;
    let host = &deployed.host;
    let fill = |directory: &str| format!("cat /dev/zero >{directory}/full 2>/dev/null || :");
    let no_space = "o space left";
    host.run(&fill("/var/lib/dispatcher-api")).await?;
    refused(&deployed, "quadletgen apply", 1, &[no_space, "/var/lib/dispatcher-api"]).await?;
    host.run("rm /var/lib/dispatcher-api/full; quadletgen apply").await?;
    deployed.ensure_scale(2).await?;
    host.run(&fill("/var/lib/dispatcher-api")).await?;
    refused(&deployed, "quadletgen scale 3", 1, &[no_space, "/var/lib/dispatcher-api"]).await?;
    host.run("rm /var/lib/dispatcher-api/full").await?;
    // No room for another container: those that are there serve on, and the rest follows when there is.
    host.run(&fill("/var/lib/containers")).await?;
    let callers = Callers::start(&deployed);
    let output = deployed.quadletgen("scale 3 --timeout 10").await?;
    callers.finish("no room for containers").await?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{}: {text}", output.status);
    ensure!(!output.status.success() && text.contains(no_space), "{}: {text}", output.status);
    host.run("rm /var/lib/containers/full; quadletgen scale 3").await?;
    deployed.ensure_scale(3).await
}
