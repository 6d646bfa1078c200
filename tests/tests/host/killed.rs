//! quadletgen is killed at random moments of what it does, under load. Run again, it ends where it
//! was asked to, and no request fails. Three times, fifty in the long form, or `KILLS`.

use std::time::Duration;

use anyhow::{Result, ensure};
use dispatcher_tests::steady::ensure_once;
use uuid::Uuid;

use crate::{deployed::Deployed, host, load};

/// A fraction, evenly spread.
pub(crate) fn random() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_quadletgen_is_repaired_by_the_next() -> Result<()> {
    let times = match std::env::var("KILLS") {
        Ok(number) => number.parse()?,
        Err(_) if host::is_long() => 50,
        Err(_) => 3,
    };
    let deployed = Deployed::applied("hrepair", "").await?;
    let mut longest = [8.0, 20.0];
    let load = load::start(&deployed.caller().await?).await?;
    let mut failed = Vec::new();
    for number in 0..times {
        let (command, scale) = match number % 4 {
            0 => ("scale 6", 6),
            1 => ("roll --image localhost/dispatcher-api:2", 6),
            2 => ("scale 3", 3),
            _ => ("roll --image localhost/dispatcher-api:1", 3),
        };
        let kind = number % 2;
        let after = Duration::from_secs_f64(longest[kind] * random());
        println!("{number}: {command}, killed after {after:.2?}");
        let mut child = deployed.host.command(&format!("exec quadletgen {command}"));
        let mut child = child.stdout(std::process::Stdio::null()).spawn()?;
        if tokio::time::timeout(after, child.wait()).await.is_err() {
            deployed.host.run("pkill -KILL -x quadletgen || :").await?;
            child.wait().await?;
        } else {
            // It was faster: the next kills fall into what it takes.
            longest[kind] = after.as_secs_f64();
        }
        let again = async {
            deployed.host.run(&format!("quadletgen {command}")).await?;
            deployed.ensure_scale(scale).await?;
            one_image(&deployed, scale).await
        };
        if let Err(error) = again.await {
            failed.push(format!("{number}: {command} killed after {after:?}: {error:#}"));
        }
    }
    let report = load.finish().await?;
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    ensure_once(&report, &deployed.sql("select playbook_name from runs").await?)?;
    load::ensure_whole(&report, "killed and repaired")
}

/// All instances have the image that is asked for.
async fn one_image(deployed: &Deployed, scale: u32) -> Result<()> {
    let names: Vec<String> = (0..scale).map(|n| format!("dispatcher-api-{n}")).collect();
    let show =
        format!("podman inspect --format '{{{{.ImageDigest}}}}' {} | sort -u", names.join(" "));
    let found = deployed.host.run(&show).await?;
    ensure!(found.lines().count() == 1, "several images: {found}");
    Ok(())
}
