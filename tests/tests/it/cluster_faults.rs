//! Four instances behind a balancer, two workers, every backing service: under constant load each
//! of them in turn is killed and brought back, and halted for a while. Afterwards everything that
//! was acknowledged is accounted for exactly once.
//!
//! Halts are short, and last 15 s where `LONG=1` is set.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use dispatcher_tests::{
    account::{account, at_rest},
    agent::Agent,
    cluster::{Cluster, Plan},
    consumer::Consumer,
    load::{Load, Target},
    process::PATIENCE,
};

/// What is killed and halted.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Instance(usize),
    Worker(usize),
    Postgres,
    Redis,
    Rabbit,
    S3,
    Tracker,
}

use Victim::{Instance, Postgres, Rabbit, Redis, S3, Tracker, Worker};

const VICTIMS: [Victim; 11] = [
    Instance(0),
    Worker(0),
    Postgres,
    Instance(1),
    Redis,
    Instance(2),
    S3,
    Worker(1),
    Rabbit,
    Instance(3),
    Tracker,
];

/// How many runs are played for each that a real ansible-runner executes, where one is used.
const PLAYED_OF_REAL: usize = 16;

struct Scene {
    cluster: Arc<Cluster>,
    workers: Vec<Agent>,
}

impl Scene {
    async fn kill(&self, victim: Victim) {
        let cluster = &self.cluster;
        match victim {
            Instance(index) => cluster.instances[index].process.kill().unwrap(),
            Worker(index) => self.workers[index].process.kill_alone().unwrap(),
            Postgres => self.postgres(|cluster| cluster.postgres.kill().unwrap()).await,
            Redis => cluster.redis.as_ref().unwrap().process().kill().unwrap(),
            Rabbit => cluster.rabbit.as_ref().unwrap().process().kill().unwrap(),
            S3 => cluster.s3.as_ref().unwrap().process().kill().unwrap(),
            Tracker => cluster.tracker.as_ref().unwrap().kill().unwrap(),
        }
    }

    async fn start(&self, victim: Victim) {
        let cluster = &self.cluster;
        match victim {
            Instance(index) => cluster.instances[index].process.start().unwrap(),
            Worker(index) => self.workers[index].process.start().unwrap(),
            Postgres => self.postgres(|cluster| cluster.postgres.restart().unwrap()).await,
            Redis => cluster.redis.as_ref().unwrap().restart().await.unwrap(),
            Rabbit => cluster.rabbit.as_ref().unwrap().restart().await.unwrap(),
            S3 => cluster.s3.as_ref().unwrap().restart().await.unwrap(),
            Tracker => cluster.tracker.as_ref().unwrap().start().unwrap(),
        }
    }

    async fn halt(&self, victim: Victim, is_halted: bool) {
        let cluster = &self.cluster;
        let process = match victim {
            Instance(index) => &cluster.instances[index].process,
            Worker(index) => &self.workers[index].process,
            Redis => cluster.redis.as_ref().unwrap().process(),
            Rabbit => cluster.rabbit.as_ref().unwrap().process(),
            S3 => cluster.s3.as_ref().unwrap().process(),
            Tracker => cluster.tracker.as_ref().unwrap(),
            Postgres if is_halted => {
                return self.postgres(|cluster| cluster.postgres.pause().unwrap()).await;
            }
            Postgres => return self.postgres(|cluster| cluster.postgres.resume().unwrap()).await,
        };
        if is_halted { process.pause() } else { process.resume() }.unwrap();
    }

    async fn postgres(&self, act: impl FnOnce(&Cluster) + Send + 'static) {
        let cluster = Arc::clone(&self.cluster);
        tokio::task::spawn_blocking(move || act(&cluster)).await.unwrap();
    }

    /// Waits until everything works again; how long that took.
    async fn recovered(&self, victim: Victim) -> Duration {
        let started = Instant::now();
        self.cluster.until_ready().await.unwrap_or_else(|error| panic!("{victim:?}: {error}"));
        if let Worker(index) = victim {
            self.workers[index].until_connected(&self.cluster).await.unwrap();
        }
        started.elapsed()
    }
}

async fn scene(plan: &Plan, is_played: [bool; 2]) -> (Scene, Vec<Target>) {
    let cluster = Arc::new(Cluster::start(plan).await.unwrap());
    let (mut workers, mut targets) = (Vec::new(), Vec::new());
    for (index, is_played) in is_played.into_iter().enumerate() {
        let worker = Agent::start(&cluster, is_played).await.unwrap();
        worker.until_connected(&cluster).await.unwrap();
        let name = format!("play-{index}");
        let playbook = cluster.put_playbook(&name, &worker.playbook()).await.unwrap();
        targets.push(Target { recipient: worker.recipient, playbook });
        workers.push(worker);
    }
    (Scene { cluster, workers }, targets)
}

/// A moment in which load goes on undisturbed.
async fn undisturbed(moment: Duration) {
    tokio::time::sleep(moment).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_or_halts_nothing_acknowledged_is_lost_or_repeated() {
    let is_long = std::env::var("LONG").is_ok_and(|it| it == "1");
    let halt = if is_long { Duration::from_secs(15) } else { Duration::from_secs(1) };
    let between = Duration::from_millis(if is_long { 2000 } else { 200 });
    let plan = Plan::whole(4).with("CLOUD_CONNECTOR_IMPL", "mock").with("DB_POOL_TIMEOUT", "3");
    let plan = plan.with("EXECUTION_LEASE", "10").with("UPLOAD_LEASE", "10");
    // A real ansible-runner takes more of the machine than everything else together: it gets one run
    // of many, or it would have more of them waiting than it can ever do.
    let (scene, mut targets) = scene(&plan, [true, !is_long]).await;
    if is_long {
        targets.splice(0..1, std::iter::repeat_n(targets[0].clone(), PLAYED_OF_REAL));
    }
    let consumer = Consumer::start(scene.cluster.rabbit.as_ref().unwrap()).await.unwrap();
    let started = Instant::now();
    let load = Load::start(&scene.cluster.url(), targets).unwrap();
    undisturbed(between).await;
    let mut recoveries = BTreeMap::new();
    for victim in VICTIMS {
        scene.kill(victim).await;
        undisturbed(between).await;
        scene.start(victim).await;
        let killed = scene.recovered(victim).await;
        undisturbed(between).await;
        scene.halt(victim, true).await;
        undisturbed(halt).await;
        scene.halt(victim, false).await;
        let halted = scene.recovered(victim).await;
        undisturbed(between).await;
        recoveries.insert(format!("{victim:?}"), (killed, halted));
    }
    let notes = load.finish(PATIENCE).await.unwrap();
    let under_load = started.elapsed();
    let database = scene.cluster.database.client().await.unwrap();
    let rest = at_rest(&database, &notes).await;
    let executions: Vec<String> =
        scene.workers.iter().flat_map(|worker| worker.executions()).collect();
    let wrong = account(&database, &notes, &executions, &consumer).await.unwrap();
    println!("load for {under_load:.1?}, at rest {rest:.1?} after it");
    println!("{}", notes.summary());
    let (runs, uploads) = (notes.dispatched.len(), notes.uploads.len());
    println!("{runs} runs, {} executions, {uploads} uploads", executions.len());
    for (victim, (killed, halted)) in &recoveries {
        println!("{victim:12} back after a kill {killed:.1?}, after a halt {halted:.1?}");
    }
    assert!(wrong.is_empty(), "{} contradictions:\n{}", wrong.len(), wrong.join("\n"));
    rest.unwrap();
    assert!(runs > 20 && uploads > 10, "there was hardly any load");
}
