//! The ends of the scale: none, and more than a host has any use for.

use anyhow::{Result, ensure};

use crate::{deployed::Deployed, rendered};

#[tokio::test(flavor = "multi_thread")]
async fn none_and_back_again() -> Result<()> {
    let deployed = Deployed::applied("hzero", "").await?;
    for scale in [0, 4] {
        deployed.host.run(&format!("quadletgen scale {scale}")).await?;
        deployed.ensure_scale(scale).await?;
    }
    let links = "ls /etc/containers/systemd | grep -c '^dispatcher-api@[0-9]'";
    ensure!(deployed.host.run(links).await?.trim() == "4");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_takes_sixty_four_instances() -> Result<()> {
    let lines = "dispatcher_api_container_scale: 64\n";
    let deployed = rendered::written("hmany", lines).await?;
    let host = &deployed.host;
    host.run(
        "QUADLET_UNIT_DIRS=/etc/containers/systemd /usr/libexec/podman/quadlet -dryrun >/dev/null",
    )
    .await?;
    let units = host
        .run("ls /run/systemd/generator/ | grep -c '^dispatcher-api@[0-9][0-9]*.service$'")
        .await?;
    ensure!(units.trim() == "64", "{units} units");
    let said = host
        .run("systemd-analyze verify '/run/systemd/generator/dispatcher-api@63.service' 2>&1 || :")
        .await?;
    ensure!(!said.contains("dispatcher"), "{said}");
    host.run("haproxy -c -q -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d").await?;
    Ok(())
}
