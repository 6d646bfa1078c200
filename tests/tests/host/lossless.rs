//! What an operator does to a deployment under load loses no request.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dispatcher_tests::steady::{Failure, Report, ensure_once};

use crate::{deployed::Deployed, load};

/// A load while something is done, some more before and after it.
async fn under_load(deployed: &Deployed, script: &str) -> Result<(Report, Duration)> {
    let caller = deployed.caller().await?;
    let load = load::start(&caller).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    let done = deployed.host.run(script).await;
    let took = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let report = load.finish().await?;
    if let Err(error) = done {
        return Err(error.context(report.summary()));
    }
    ensure_once(&report, &deployed.sql("select playbook_name from runs").await?)?;
    Ok((report, took))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_an_operator_does_loses_a_request() -> Result<()> {
    let deployed = Deployed::applied("hload", "").await?;
    let image = "quadletgen roll --image localhost/dispatcher-api:2";
    let setting =
        "echo 'api_log_level: WARNING' >>/etc/dispatcher-api/deploy.yml; quadletgen apply";
    let mut failed = Vec::new();
    for (script, scale) in [
        ("true", 4),
        ("quadletgen scale 8", 8),
        ("quadletgen scale 2", 2),
        ("quadletgen scale 4", 4),
        (image, 4),
        (setting, 4),
        ("systemctl restart dispatcher-api@1.service", 4),
        ("systemctl reload haproxy.service", 4),
    ] {
        let (report, took) = under_load(&deployed, script).await?;
        println!("{script}: {took:.1?}");
        if let Err(error) = load::ensure_whole(&report, script) {
            failed.push(format!("{error:#}"));
        }
        deployed.ensure_scale(scale).await?;
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_killed_takes_only_its_own_requests_along() -> Result<()> {
    let deployed = Deployed::applied("hkill", "").await?;
    let caller = deployed.caller().await?;
    let load = load::start(&caller).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let killed = load.elapsed();
    deployed.host.run("podman kill --signal KILL dispatcher-api-1").await?;
    let gone = load.elapsed();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let report = load.finish().await?;
    println!("kill -9: {}", report.summary());
    let is_stranger = |failure: &&Failure| failure.from > gone || failure.to < killed;
    let strangers = report.failures.iter().filter(is_stranger).map(Failure::line);
    let strangers: Vec<String> = strangers.collect();
    ensure!(strangers.is_empty(), "not in flight between {killed:?} and {gone:?}: {strangers:#?}");
    ensure_once(&report, &deployed.sql("select playbook_name from runs").await?)?;
    deployed.host.until("systemctl is-active dispatcher-api@1.service").await?;
    deployed.ensure_scale(4).await
}
