//! What workers that wait cost: starts `dispatcher-api serve` on a private PostgreSQL, lets
//! thousands of workers wait for work at it, and prints the processor time and memory that the
//! process takes for them.
//!
//! Not a test: it prints, and never fails for being slow. `WORKERS=500 SECONDS=30` change it.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dispatcher_api::{keyring::Keyring, store::Stores};
use dispatcher_tests::{
    postgres::Database,
    process::{BASE, PATIENCE, SECRET_KEYS, Service},
    service::recipient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

/// How many workers wait, unless `WORKERS` says otherwise.
const WORKERS: usize = 2_000;
/// How long they are watched, unless `SECONDS` says otherwise: longer than one wait.
const SECONDS: u64 = 60;
/// How long a worker of ours waits in one request.
const WAIT_SECONDS: u64 = 25;

#[tokio::main]
async fn main() -> Result<()> {
    let workers = std::env::var("WORKERS").map_or(Ok(WORKERS), |number| number.parse())?;
    let seconds = std::env::var("SECONDS").map_or(Ok(SECONDS), |number| number.parse())?;
    let database = Database::migrated().await?;
    let stores = database.stores().await?;
    let keys = registered(&stores, workers).await?;
    let directory = tempfile::tempdir()?;
    let quiet = [("LOCAL_WORKER", "false"), ("LOG_LEVEL", "warn")];
    let service = Service::serve(directory.path(), &database.url, &quiet).await?;
    let pid = service.pid().context("it runs")?;
    let address = service.url.trim_start_matches("http://").to_owned();
    let before = resident(pid)?;

    let started = Instant::now();
    for (_, key) in &keys {
        tokio::spawn(wait_for_ever(address.clone(), key.clone()));
    }
    let ids: Vec<Uuid> = keys.iter().map(|(id, _)| *id).collect();
    while seen(&stores, &ids).await? < workers {
        ensure!(started.elapsed() < PATIENCE, "not all workers came to wait");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{workers} workers came to wait within {:.1} s", started.elapsed().as_secs_f64());

    let (start, used) = (Instant::now(), processor(pid)?);
    let mut most = resident(pid)?;
    while start.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        most = most.max(resident(pid)?);
    }
    let share = (processor(pid)? - used) / start.elapsed().as_secs_f64() * 100.0;
    println!("  processor  {share:>6.2} % of one core");
    println!("  memory     {:>6.1} MiB more than without them", mebibytes(most - before));
    println!("             {:>6.1} MiB in all", mebibytes(most));
    Ok(())
}

/// Registered recipients and their workers' keys.
async fn registered(stores: &Stores, number: usize) -> Result<Vec<(Uuid, String)>> {
    let keyring = Keyring::parse(SECRET_KEYS)?;
    let mut keys = Vec::with_capacity(number);
    for _ in 0..number {
        let (recipient, key) = recipient(&keyring);
        ensure!(stores.recipients.register(&recipient).await?, "a fresh id is in use");
        keys.push((recipient.id, key));
    }
    Ok(keys)
}

/// How many of them were seen.
async fn seen(stores: &Stores, ids: &[Uuid]) -> Result<usize> {
    let found = stores.recipients.find(ids).await?;
    Ok(found.values().filter(|one| one.last_seen.is_some()).count())
}

/// One wait after the other on one connection, as a worker does it.
async fn wait_for_ever(address: String, key: String) -> Result<()> {
    let body = format!("{{\"wait_seconds\":{WAIT_SECONDS}}}");
    let request = format!(
        "POST {BASE}/execution/wait HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(&address).await?;
    let mut answer = vec![0; 4096];
    loop {
        connection.write_all(request.as_bytes()).await?;
        // Answers are smaller than a packet and arrive whole.
        let length = connection.read(&mut answer).await?;
        let ok = answer.get(..length).is_some_and(|text| text.starts_with(b"HTTP/1.1 200"));
        ensure!(ok, "not answered with success");
    }
}

/// Seconds of processor time that a process has used.
fn processor(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("a line of /proc/…/stat")?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = fields.next().context("utime")?? + fields.next().context("stime")??;
    // The kernel's unit in this file is a hundredth of a second on every Linux there is.
    Ok(ticks as f64 / 100.0)
}

/// Bytes that a process keeps in memory.
fn resident(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
