//! What the role changes under load loses no request; a change by hand is overruled, and said; the dump
//! before another image can be restored.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dispatcher_tests::steady::ensure_once;

use crate::{
    deployed::Deployed,
    load,
    playbook::{Ansible, Played},
    role::{bare, ensure_as_found, found},
};

/// A run of the role under load.
async fn under_load(deployed: &Deployed, ansible: &Ansible, words: &str) -> Result<Played> {
    let load = load::start(&deployed.caller().await?).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    let played = ansible.site(&["-e", words]).await;
    let took = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let report = load.finish().await?;
    println!("{words}: {took:.1?}, {}", report.summary());
    let played = played?;
    ensure_once(&report, &deployed.sql("select playbook_name from runs").await?)?;
    load::ensure_whole(&report, words)?;
    Ok(played)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_role_does_loses_a_request() -> Result<()> {
    let deployed = bare("hrload").await?;
    let ansible = Ansible::new(&deployed.host.inventory().await?)?;
    let before = found(&deployed.host).await?;
    ansible.site(&[]).await?;
    let image = "dispatcher_api_image=localhost/dispatcher-api:2";
    for (words, scale) in [
        ("api_log_level=WARNING".to_owned(), 4),
        (image.to_owned(), 4),
        (format!("{image} dispatcher_api_container_scale=8"), 8),
        (format!("{image} dci_api_container_scale=2"), 2),
    ] {
        under_load(&deployed, &ansible, &words).await?;
        deployed.ensure_scale(scale).await?;
    }
    overruled(&deployed, &ansible, image).await?;
    restored(&deployed).await?;
    // A restore ends where the inventory wants it.
    ansible.site(&["-e", image]).await?.ensure_unchanged()?;
    ansible.site(&["-e", "dispatcher_api_state=absent"]).await?;
    let kept = deployed.host.run("podman volume ls --quiet; podman ps --all --quiet").await?;
    ensure!(kept.trim().lines().count() == 4, "volumes are kept, and nothing runs: {kept}");
    ansible.site(&["-e", "dispatcher_api_state=absent dispatcher_remove_data=true"]).await?;
    ensure_as_found(&deployed.host, &before).await
}

async fn overruled(deployed: &Deployed, ansible: &Ansible, words: &str) -> Result<()> {
    deployed.host.run("quadletgen scale 3").await?;
    let said = ansible.site(&["-e", words]).await?.text;
    ensure!(said.contains("dispatcher_api_container_scale was 3 and becomes 4"), "{said}");
    deployed.ensure_scale(4).await
}

/// The rows at the time of the dump are there again, later ones are not.
async fn restored(deployed: &Deployed) -> Result<()> {
    let host = &deployed.host;
    let dumps = host.run("stat --format '%a %U' /var/backups/dispatcher-api/*.dump").await?;
    ensure!(dumps.trim() == "600 root", "one dump, before the other image: {dumps}");
    let before = deployed.sql("select count(*) from runs").await?;
    host.run("dispatcher-backup >/root/dump").await?;
    deployed.sql("truncate runs cascade").await?;
    ensure!(deployed.sql("select count(*) from runs").await?.trim() == "0");
    host.run("dispatcher-backup restore \"$(cat /root/dump)\"").await?;
    let after = deployed.sql("select count(*) from runs").await?;
    ensure!(before == after, "{before} runs before, {after} after");
    deployed.ensure_scale(4).await?;
    // What is no dump changes nothing.
    let state = deployed.state().await?;
    let refused =
        host.attempt("echo nonsense >/root/no; dispatcher-backup restore /root/no").await?;
    ensure!(!refused.status.success());
    ensure!(state == deployed.state().await?, "a restore that was refused has changed something");
    Ok(())
}
