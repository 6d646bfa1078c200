//! Finds and ends the processes of a run: all of them, also those that left its process group,
//! lost their parents, or were started before a crash of the worker.
//!
//! A process belongs to a run when it is in the run's cgroup, carries the run's id in its initial
//! environment, or descends from one that does. A process that an unprivileged worker's playbook
//! started through `sudo` and then cut loose is found by cgroup only. Signals go through pidfds to
//! processes whose identity (id and start time) was checked, so never to a later one of that id.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;
use uuid::Uuid;

use crate::cgroup::Cgroup;

/// The variable that marks the processes of a run.
pub(crate) const MARKER: &str = "DISPATCHER_RUN_ID";
/// How often is looked whether processes are gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long killed processes may take to go.
const KILL_WITHIN: Duration = Duration::from_secs(10);

/// One process, ever.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
}

/// Which processes of a run are meant.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    run_id: Uuid,
    cgroup: Option<Cgroup>,
    async_only: bool,
}

impl Members {
    /// All of them.
    pub(crate) const fn all(run_id: Uuid, cgroup: Option<Cgroup>) -> Self {
        Self { run_id, cgroup, async_only: false }
    }

    /// Ansible's `async` tasks.
    pub(crate) const fn async_tasks(run_id: Uuid, cgroup: Option<Cgroup>) -> Self {
        Self { run_id, cgroup, async_only: true }
    }

    /// Those alive now.
    pub(crate) fn find(&self) -> BTreeSet<Identity> {
        let processes = snapshot();
        let in_cgroup = self.cgroup.as_ref().map(Cgroup::pids).unwrap_or_default();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let belongs = |pid: &i32| in_cgroup.contains(pid) || is_marked(*pid, self.run_id);
        let chosen = |pid: &i32| !self.async_only || is_async_wrapper(*pid);
        let roots = processes.keys().copied().filter(|pid| *pid != own);
        let roots = roots.filter(|pid| chosen(pid) && belongs(pid)).collect();
        let mut pids = with_descendants(&processes, roots);
        pids.remove(&own);
        let identity = |pid: i32| {
            let start_ticks = processes.get(&pid)?.start_ticks;
            Some(Identity { pid, start_ticks })
        };
        pids.into_iter().filter_map(identity).collect()
    }

    /// Ends them: SIGTERM, after the grace SIGKILL, until none is left. Says how many are, in spite
    /// of everything.
    pub(crate) async fn end(&self, grace: Duration) -> usize {
        let mut known = BTreeSet::new();
        let left = self.signal_until(&mut known, Signal::TERM, grace).await;
        if left == 0 {
            return 0;
        }
        if let (Some(cgroup), false) = (&self.cgroup, self.async_only) {
            cgroup.kill();
        }
        let left = self.signal_until(&mut known, Signal::KILL, KILL_WITHIN).await;
        if left > 0 {
            tracing::error!(run.id = %self.run_id, left, "processes of the run cannot be killed");
        }
        left
    }

    /// SIGTERM goes to each process once, SIGKILL again and again.
    async fn signal_until(
        &self,
        known: &mut BTreeSet<Identity>,
        signal: Signal,
        within: Duration,
    ) -> usize {
        let until = Instant::now() + within;
        let mut told = BTreeSet::new();
        loop {
            let members = self.clone();
            let found = tokio::task::spawn_blocking(move || members.find()).await;
            known.extend(found.unwrap_or_default());
            known.retain(|identity| is_alive(*identity));
            for identity in known.iter() {
                if told.insert(*identity) || signal == Signal::KILL {
                    send(*identity, signal);
                }
            }
            if known.is_empty() || Instant::now() >= until {
                return known.len();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// When a process started; none where there is no such process.
pub(crate) fn start_ticks(pid: i32) -> Option<u64> {
    Some(read_stat(pid)?.start_ticks)
}

struct Stat {
    parent: i32,
    start_ticks: u64,
}

fn snapshot() -> BTreeMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, read_stat(pid)?))).collect()
}

/// A process that is alive; a zombie is none.
fn read_stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<Stat> {
    // The name is in parentheses and may contain anything, also parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, start_ticks })
}

fn is_marked(pid: i32, run_id: Uuid) -> bool {
    let wanted = format!("{MARKER}={run_id}");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

fn is_async_wrapper(pid: i32) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument.ends_with(b"/async_wrapper.py"))
}

fn with_descendants(processes: &BTreeMap<i32, Stat>, roots: BTreeSet<i32>) -> BTreeSet<i32> {
    let mut found = roots;
    loop {
        let before = found.len();
        for (pid, stat) in processes {
            if found.contains(&stat.parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn is_alive(identity: Identity) -> bool {
    start_ticks(identity.pid) == Some(identity.start_ticks)
}

fn send(identity: Identity, signal: Signal) {
    let Some(pid) = Pid::from_raw(identity.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if is_alive(identity)
        && let Err(error) = pidfd_send_signal(&handle, signal)
    {
        tracing::warn!(pid = identity.pid, %error, "a process of the run takes no signal");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_are_read_whatever_the_name() {
        let stat = |state| {
            format!("42 (a) b (c)) {state} 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2")
        };
        let parsed = parse_stat(&stat("S")).unwrap();
        assert_eq!((parsed.parent, parsed.start_ticks), (7, 987));
        assert!(parse_stat(&stat("Z")).is_none());
        assert!(parse_stat("42 (x").is_none());
    }

    #[test]
    fn descendants_are_found_in_any_order() {
        let process = |parent| Stat { parent, start_ticks: 0 };
        let processes = BTreeMap::from([
            (1, process(0)),
            (2, process(9)),
            (5, process(2)),
            (7, process(1)),
            (9, process(1)),
        ]);
        assert_eq!(with_descendants(&processes, BTreeSet::from([9])), BTreeSet::from([2, 5, 9]));
    }

    #[tokio::test]
    async fn marked_processes_are_ended_although_they_ignore_sigterm_and_changed_session() {
        let run_id = Uuid::new_v4();
        let script = "trap '' TERM; setsid sleep 1000 & sleep 1000 & echo ready; wait";
        let mut child = tokio::process::Command::new("/bin/sh")
            .args(["-c", script])
            .env(MARKER, run_id.to_string())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let mut stdout = child.stdout.take().unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut ready).await.unwrap();
        let members = Members::all(run_id, None);
        assert!(members.find().len() >= 2);
        assert_eq!(Members::async_tasks(run_id, None).find().len(), 0);
        let reaped = tokio::spawn(async move { child.wait().await.unwrap() });
        assert_eq!(members.end(Duration::from_millis(200)).await, 0);
        assert!(members.find().is_empty());
        assert!(!reaped.await.unwrap().success());
    }
}
