//! Instances that HAProxy reaches by TCP, at ports of the host, lose as little as those with sockets.

use anyhow::{Result, ensure};
use dispatcher_tests::steady::ensure_once;

use crate::{deployed::Deployed, load};

#[tokio::test(flavor = "multi_thread")]
async fn instances_at_ports_are_scaled_without_a_loss() -> Result<()> {
    let deployed = Deployed::applied("htcp", "dispatcher_api_upstream: tcp\n").await?;
    let host = &deployed.host;
    let servers =
        host.run("grep '^    server ' /etc/haproxy/conf.d/10_backend_dispatcher_api.cfg").await?;
    ensure!(servers.lines().all(|line| line.contains(" 127.0.0.1:1500")), "{servers}");
    let caller = deployed.caller().await?;
    let first = "systemctl show --property=MainPID --value dispatcher-api@0.service";
    let before = host.run(first).await?;
    for (command, scale) in [("scale 6", 6), ("scale 2", 2), ("apply", 2)] {
        let load = load::start(&caller).await?;
        let done = host.run(&format!("quadletgen {command}")).await;
        let report = load.finish().await?;
        println!("{}", done?);
        load::ensure_whole(&report, command)?;
        ensure_once(&report, &deployed.sql("select playbook_name from runs").await?)?;
        deployed.ensure_scale(scale).await?;
        ensure!(host.run(first).await? == before, "{command} has restarted an instance");
    }
    let load = load::start(&caller).await?;
    let done = host.run("quadletgen roll --image localhost/dispatcher-api:2").await;
    let report = load.finish().await?;
    done?;
    load::ensure_whole(&report, "roll")?;
    host.run("quadletgen status").await?;
    Ok(())
}
