//! What this worker says of its host. Everything that cannot be found out is left out.

use std::{fs, path::Path};

use dispatcher_wire::registration::{FACT_PAUSED, FACT_VERSION, Facts};
use dispatcher_worker::ansible;
use serde_json::Value;

use super::cli::Settings;

/// Looks around.
pub(super) async fn gather(settings: &Settings) -> Facts {
    let uname = rustix::system::uname();
    let mut facts = Facts::new();
    let mut add = |name: &str, value: Option<Value>| {
        facts.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("hostname", Some(host_name().into()));
    add("os", os().map(Value::from));
    add("kernel", Some(uname.release().to_string_lossy().into()));
    add("arch", Some(uname.machine().to_string_lossy().into()));
    add("cpus", std::thread::available_parallelism().ok().map(|cpus| cpus.get().into()));
    add("memory_bytes", memory().map(Value::from));
    match ansible::versions(settings.ansible_runner.as_deref()).await {
        Ok(found) => {
            add("ansible_version", Some(found.core.into()));
            add("ansible_runner_version", Some(found.runner.into()));
        }
        Err(why) => add("ansible_missing", Some(why.into())),
    }
    add(FACT_VERSION, Some(env!("CARGO_PKG_VERSION").into()));
    add("concurrency", Some(settings.concurrency.into()));
    add("verify", Some(settings.verify.to_string().into()));
    facts
}

/// The same, and why nothing new is taken.
pub(super) fn with_pause(facts: &Facts, paused: Option<&str>) -> Facts {
    let mut facts = facts.clone();
    facts.extend(paused.map(|why| (FACT_PAUSED.to_owned(), why.into())));
    facts
}

/// The host's name, without what databases cannot hold.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = name.chars().filter(|c| !c.is_control()).take(255).collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}

fn os() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').replace('\0', "")).filter(|name| !name.is_empty())
}

fn memory() -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
