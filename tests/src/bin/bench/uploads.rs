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
use rustix::time::{ClockId, clock_gettime};
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
const HOST: &str = "host-17.example.org";
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
    for sender in [Sends::Runner, Sends::SmallEvents, Sends::Satellite] {
        let runs: Vec<NewRun> = (0..UPLOADS).map(|_| run(sender)).collect();
        let archives = runs.iter().map(|run| archive(run, sender));
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
        let what = sender.name();
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

/// Who sends what.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Sends {
    Runner,
    SmallEvents,
    Satellite,
}

impl Sends {
    const fn name(self) -> &'static str {
        match self {
            Self::Runner => "of a runner, as Ansible writes",
            Self::SmallEvents => "of a runner, small events only",
            Self::Satellite => "of a Satellite, eight hosts",
        }
    }
}

fn run(sender: Sends) -> NewRun {
    let through = sender == Sends::Satellite;
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
fn archive(run: &NewRun, sender: Sends) -> Result<(Vec<u8>, Vec<u8>)> {
    let id = run.correlation_id;
    let plain = match sender {
        Sends::Satellite => foreign::lines(&of_a_satellite(run)),
        Sends::Runner => of_a_runner(id, |counter| of_a_task(id, counter).into()),
        Sends::SmallEvents => of_a_runner(id, |counter| vec![small(id, counter)]),
    };
    let packed = foreign::gzip(&plain)?;
    Ok((plain, packed))
}

fn of_a_satellite(run: &NewRun) -> Vec<Value> {
    let id = run.correlation_id;
    let console = LINE.repeat(OPENED / HOSTS / (LINE.len() + 1));
    let of_host = |host| {
        [
            satellite::printed(id, host, 0, ""),
            satellite::printed(id, host, 1, &console),
            satellite::finished(id, host, "success"),
        ]
    };
    let mut events: Vec<Value> =
        run.hosts.iter().filter_map(|host| host.inventory_id).flat_map(of_host).collect();
    events.push(satellite::completed(id, "success"));
    events
}

fn of_a_runner(id: Uuid, events: impl Fn(usize) -> Vec<Value>) -> Vec<u8> {
    let mut frame = foreign::transcript(id, &[HOST]);
    let end: Vec<Value> = frame.pop().into_iter().collect();
    let mut lines = foreign::lines(&frame);
    for counter in (2..).step_by(2) {
        if lines.len() >= OPENED {
            break;
        }
        lines.extend(foreign::lines(&events(counter)));
    }
    lines.extend(foreign::lines(&end));
    lines
}

fn small(id: Uuid, counter: usize) -> Value {
    json!({
        "event": "runner_on_ok", "uuid": Uuid::new_v4(), "counter": counter, "stdout": LINE,
        "start_line": counter, "end_line": counter + 1,
        "event_data": { "host": HOST, "playbook": "site.yml", "playbook_uuid": id },
    })
}

/// What a task on a host comes to in the words of ansible-runner: when it starts, and its result.
fn of_a_task(id: Uuid, counter: usize) -> [Value; 2] {
    let event = |name: &str, offset: usize, stdout: &str, more: Value| {
        let mut data = json!({
            "playbook": "site.yml", "playbook_uuid": id, "play": "update", "play_uuid": id,
            "play_pattern": "all", "task": "install the packages", "task_uuid": id,
            "task_action": "ansible.builtin.package", "resolved_action": "ansible.builtin.dnf",
            "task_args": "", "task_path": "/tmp/project/site.yml:17", "host": HOST, "uuid": id,
        });
        if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
            data.extend(more);
        }
        json!({
            "uuid": Uuid::new_v4(), "counter": counter + offset, "stdout": stdout,
            "start_line": counter, "end_line": counter + offset, "runner_ident": id,
            "event": name, "pid": 1_149_259, "created": "2026-01-22T14:41:59.736129+00:00",
            "parent_uuid": id, "event_data": data,
        })
    };
    let result = json!({
        "remote_addr": HOST, "start": "2026-01-22T14:41:59.736129+00:00",
        "end": "2026-01-22T14:42:01.336129+00:00", "duration": 1.6, "event_loop": null,
        "res": { "changed": true, "msg": "", "rc": 0, "results": ["Installed: a-package-1.2-3.x86_64"],
            "invocation": { "module_args": { "name": ["a-package"], "state": "latest" } } },
    });
    [event("runner_on_start", 0, "", json!({})), event("runner_on_ok", 1, LINE, result)]
}

/// What this process has used of processors.
fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::ProcessCPUTime).try_into()?)
}
