//! READY and WATCHDOG from the process (`Notify=true`) against Podman's checks (`Notify=healthy`):
//! what starting, rolling and checking costs, and how soon a frozen process is replaced.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{deployed::Deployed, host, rendered};

const WAYS: [&str; 2] = ["true", "healthy"];

fn lines(notify: &str, scale: u32) -> String {
    format!(
        "dispatcher_api_container_scale: {scale}\ndispatcher_api_notify: \"{notify}\"\n\
         dispatcher_worker_enabled: false\n"
    )
}

async fn timed(deployed: &Deployed, script: &str) -> Result<Duration> {
    let begun = Instant::now();
    deployed.host.run(script).await.with_context(|| script.to_owned())?;
    Ok(begun.elapsed())
}

/// What all processes of the host have used so far.
async fn cpu(deployed: &Deployed) -> Result<Duration> {
    let text = deployed.host.run("sed -n 's/^usage_usec //p' /sys/fs/cgroup/cpu.stat").await?;
    Ok(Duration::from_micros(text.trim().parse()?))
}

/// Until another process stands in the place of a stopped one.
async fn replaced(deployed: &Deployed) -> Result<Duration> {
    let pid = "podman inspect --format '{{.State.Pid}}' dispatcher-api-1";
    let frozen = deployed.host.run(pid).await?;
    let frozen = frozen.trim();
    deployed.host.run(&format!("kill -STOP {frozen}")).await?;
    let begun = Instant::now();
    deployed
        .host
        .until(&format!(
            "new=$({pid}); test \"$new\" != {frozen}; test \"$new\" != 0; systemctl is-active --quiet dispatcher-api@1"
        ))
        .await?;
    Ok(begun.elapsed())
}

/// One way, and one line about it.
async fn way(notify: &str) -> Result<Duration> {
    let name = format!("hready-{notify}");
    let deployed = rendered::started(&name, &lines(notify, 4)).await?;
    deployed.host.run("systemctl stop 'dispatcher-api@*.service'").await?;
    let four = timed(
        &deployed,
        "systemctl start dispatcher-api@0 dispatcher-api@1 dispatcher-api@2 dispatcher-api@3",
    )
    .await?;
    let roll =
        timed(&deployed, "for n in 0 1 2 3; do systemctl restart dispatcher-api@$n; done").await?;
    let seconds = if host::is_long() { 60 } else { 10 };
    let before = cpu(&deployed).await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let share = (cpu(&deployed).await? - before).as_secs_f64() / seconds as f64;
    let thawed = replaced(&deployed).await?;
    rendered::write(&deployed, &name, &lines(notify, 8)).await?;
    let more = "systemctl stop 'dispatcher-api@*.service'";
    deployed.host.run(more).await?;
    let names: Vec<String> = (0..8).map(|n| format!("dispatcher-api@{n}")).collect();
    let eight = timed(&deployed, &format!("systemctl start {}", names.join(" "))).await?;
    println!(
        "Notify={notify}: start of 4 {four:.2?}, of 8 {eight:.2?}, restart of 4 one by one {roll:.2?}, \
         host at rest {:.1}% of a CPU, frozen process replaced after {thawed:.1?}",
        share * 100.0
    );
    Ok(thawed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_instance_is_replaced() -> Result<()> {
    // The chosen way in the short form; the other one is compared in the long form.
    for notify in if host::is_long() { &WAYS[..] } else { &WAYS[..1] } {
        way(notify).await?;
    }
    Ok(())
}
