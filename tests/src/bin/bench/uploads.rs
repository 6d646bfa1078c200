//! Uploads of 1 MiB (opened), from receipt to applied: MiB opened per second of this process's
//! processor time, beside the bare reading of the same lines as JSON.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use dispatcher_api::{
    bus::{Topic, Wakeups},
    config::{dispatch::DispatchSettings, source::Source, uploads::UploadSettings},
    runs::model::{NewRoute, NewRun, NewRunHost},
    storage::Objects,
    store::Stores,
    uploads::{
        applier::Applier,
        receive::{Inbox, Sender},
    },
};
use dispatcher_tests::{foreign, satellite};
use dispatcher_wire::RunStatus;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::rows;

/// How many uploads are measured.
const UPLOADS: usize = 60;
/// What each opens to, about.
const OPENED: usize = 1 << 20;
/// Hosts behind the Satellite.
const HOSTS: usize = 8;
const LINE: &str = "ok: [host-17.example.org] => (item=a package of usual length)\n";

/// Measures uploads of runners and of Satellites on one database.
pub(crate) async fn measure(name: &str, stores: &Stores, directory: &Path) -> Result<()> {
    println!("{name}: uploads of 1 MiB, MiB/s opened per core; ours / bare = ratio");
    let mut source = Source::default();
    let settings = UploadSettings::read(&mut source, "https://d.example");
    let applier = Applier {
        uploads: stores.uploads.clone(),
        runs: stores.runs.clone(),
        objects: Objects::directory(&directory.join("objects"))?,
        wakeups: Wakeups::default(),
        settings,
        dispatch: DispatchSettings::read(&mut source, Some("https://d.example")),
    };
    let shutdown = CancellationToken::new();
    let applying = {
        let (applier, shutdown) = (applier.clone(), shutdown.clone());
        tokio::spawn(async move { applier.run(shutdown).await })
    };
    for (what, through) in [("of a runner", false), ("of a Satellite", true)] {
        let runs: Vec<NewRun> = (0..UPLOADS).map(|_| run(through)).collect();
        let archives = runs.iter().map(|run| archive(run, through));
        let archives = archives.collect::<Result<Vec<_>>>()?;
        stores.runs.create(&runs, None, &[]).await?;
        let opened: usize = archives.iter().map(|(plain, _)| plain.len()).sum();
        let before = processor_time()?;
        for (run, (_, packed)) in runs.iter().zip(&archives) {
            upload(&applier, run, packed).await?;
        }
        let ours = processor_time()? - before;
        let before = processor_time()?;
        for (plain, _) in &archives {
            let lines = plain.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            for line in lines {
                std::hint::black_box(serde_json::from_slice::<Value>(line)?);
            }
        }
        let bare = processor_time()? - before;
        let rate = |time: Duration| opened as f64 / 1_048_576.0 / time.as_secs_f64();
        let (ours, bare) = (rate(ours), rate(bare));
        println!("  {what:<34} {ours:>8.0} / {bare:>8.0} = {:.2}", ours / bare);
    }
    println!();
    shutdown.cancel();
    applying.await?;
    Ok(())
}

/// Sends one and waits until its run has ended.
async fn upload(applier: &Applier, run: &NewRun, packed: &[u8]) -> Result<()> {
    let inbox = Inbox {
        objects: &applier.objects,
        uploads: applier.uploads.as_ref(),
        wakeups: &applier.wakeups,
        max_size: applier.settings.max_size,
    };
    let sender = Sender { org_id: run.org_id.clone(), run_id: Some(run.id) };
    let ended = applier.wakeups.listen(Topic::Run(run.id));
    let pieces = [Ok::<_, String>(packed.to_vec().into())];
    inbox.receive(sender, futures_util::stream::iter(pieces)).await?;
    ended.wait(Duration::from_secs(60)).await;
    let detail = applier.runs.get(&run.org_id, run.id).await?.context("the run is there")?;
    ensure!(detail.run.status == RunStatus::Success, "the run is {}", detail.run.status);
    Ok(())
}

fn run(through: bool) -> NewRun {
    let host = |_| {
        let id = Uuid::new_v4();
        let host = id.to_string();
        NewRunHost { id, host, inventory_id: Some(id), subscription_manager_id: None }
    };
    NewRun {
        sat_id: through.then(Uuid::new_v4),
        sat_org_id: through.then(|| "5".to_owned()),
        hosts: if through { (0..HOSTS).map(host).collect() } else { Vec::new() },
        route: NewRoute::CloudConnector,
        ..rows::new_run("uploads", Uuid::new_v4())
    }
}

/// What a run reports in the end: plain, and packed.
fn archive(run: &NewRun, through: bool) -> Result<(Vec<u8>, Vec<u8>)> {
    let id = run.correlation_id;
    let mut events = Vec::new();
    if through {
        let console = LINE.repeat(OPENED / HOSTS / (LINE.len() + 1));
        for host in run.hosts.iter().filter_map(|host| host.inventory_id) {
            events.push(satellite::printed(id, host, 0, ""));
            events.push(satellite::printed(id, host, 1, &console));
            events.push(satellite::finished(id, host, "success"));
        }
        events.push(satellite::completed(id, "success"));
    } else {
        events = foreign::transcript(id, &["host-17.example.org"]);
        let end = events.pop();
        for counter in 2..OPENED / 330 {
            events.push(json!({
                "event": "runner_on_ok", "uuid": Uuid::new_v4(), "counter": counter,
                "stdout": LINE, "start_line": counter, "end_line": counter + 1,
                "event_data": { "host": "host-17.example.org", "playbook": "site.yml",
                    "playbook_uuid": id },
            }));
        }
        events.extend(end);
    }
    let plain = foreign::lines(&events);
    let packed = foreign::gzip(&plain)?;
    Ok((plain, packed))
}

/// What this process has used of processors.
fn processor_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").context("the name of the process")?;
    let ticks = |n| -> Result<u64> {
        Ok(rest.split(' ').nth(n).context("the time of the process")?.parse()?)
    };
    // A tick is a hundredth of a second on every Linux.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}
