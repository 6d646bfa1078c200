//! What quadletgen costs beyond what systemd and Podman need for the same: ratios.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::deployed::Deployed;

async fn timed(deployed: &Deployed, script: &str) -> Result<Duration> {
    let begun = Instant::now();
    deployed.host.run(script).await?;
    Ok(begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_adds_little() -> Result<()> {
    let deployed = Deployed::applied("hratio", "").await?;
    // The same units, stopped behind its back and started by hand.
    let grown = timed(&deployed, "quadletgen scale 8").await?;
    deployed.ensure_scale(8).await?;
    let new = "dispatcher-api@4 dispatcher-api@5 dispatcher-api@6 dispatcher-api@7";
    deployed.host.run(&format!("systemctl stop {new}")).await?;
    let bare = timed(&deployed, &format!("systemctl daemon-reload; systemctl start {new}")).await?;
    let scale = grown.as_secs_f64() / bare.as_secs_f64();
    println!(
        "scale 4 to 8: {grown:.2?}, daemon-reload and start of the same: {bare:.2?}, ratio {scale:.2}"
    );
    deployed.host.run("quadletgen scale 4").await?;
    deployed.ensure_scale(4).await?;
    let rolled = timed(&deployed, "quadletgen roll --image localhost/dispatcher-api:2").await?;
    deployed.ensure_scale(4).await?;
    let restarts = "for n in 0 1 2 3; do systemctl restart dispatcher-api@$n; done";
    let bare = timed(&deployed, restarts).await?;
    let roll = rolled.as_secs_f64() / bare.as_secs_f64();
    println!(
        "roll of 4: {rolled:.2?}, four restarts with their drain: {bare:.2?}, ratio {roll:.2}"
    );
    Ok(())
}
