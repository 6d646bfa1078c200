//! The processes of an HAProxy with a master, as its master socket lists them.

/// The master, and the worker that serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Processes {
    /// The master's process id.
    pub master: u32,
    /// How often it was reloaded.
    pub reloads: u64,
    /// How many of the last reloads failed, one after the other.
    pub failed: u64,
    /// The worker that serves.
    pub worker: Option<u32>,
    /// Workers that were replaced and still end what they began.
    pub old_workers: Vec<u32>,
}

impl Processes {
    /// Reads the answer to `show proc`; nothing where it is none.
    #[must_use]
    pub fn of(answer: &str) -> Option<Self> {
        let (mut section, mut found) = ("", None);
        let (mut workers, mut old_workers) = (Vec::new(), Vec::new());
        for line in answer.lines() {
            if let Some(name) = line.strip_prefix('#') {
                section = name.trim();
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some(pid), Some(kind)) = (words.next(), words.next()) else { continue };
            let Ok(pid) = pid.parse() else { continue };
            match (kind, section) {
                ("master", _) => found = Some((pid, counts(line)?)),
                ("worker", "workers") => workers.push(pid),
                ("worker", "old workers") => old_workers.push(pid),
                _ => {}
            }
        }
        let (master, (reloads, failed)) = found?;
        Some(Self { master, reloads, failed, worker: workers.first().copied(), old_workers })
    }
}

/// `<pid> master <reloads> [failed: <failed>] <uptime> <version>`; old versions say nothing of failures.
fn counts(line: &str) -> Option<(u64, u64)> {
    let reloads = line.split_whitespace().nth(2)?.parse().ok()?;
    let failed = line.split_once("[failed: ").and_then(|(_, rest)| rest.split_once(']'));
    Some((reloads, failed.and_then(|(count, _)| count.parse().ok()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "\
#<PID>          <type>          <reloads>       <uptime>        <version>      
2710            master          2 [failed: 1]   0d00h00m03s     2.6.12-1+deb12u4
# workers
3052            worker          1               0d00h00m02s     2.6.12-1+deb12u4
# old workers
2742            worker          2               0d00h00m43s     2.6.12-1+deb12u4
# programs

";

    #[test]
    fn the_master_and_its_workers_are_told_apart() {
        let expected = Processes {
            master: 2710,
            reloads: 2,
            failed: 1,
            worker: Some(3052),
            old_workers: vec![2742],
        };
        assert_eq!(Processes::of(BOTH), Some(expected));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", "Success=1\n--\n", "Unknown command\n", "12 worker 0\n"] {
            assert_eq!(Processes::of(text), None, "{text:?}");
        }
    }
}
