//! Crash points: places where the fault tests kill the process.
//!
//! In a build without the `crash-points` feature, [`point`] is empty.

/// Kills the process with SIGKILL when `DISPATCHER_CRASH_AT` names this point (`name`, or `name#3`
/// for the third time it is reached).
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::sync::{LazyLock, atomic::AtomicU32, atomic::Ordering};
    static TARGET: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let target = std::env::var("DISPATCHER_CRASH_AT").ok()?;
        let (name, nth) = target.split_once('#').unwrap_or((&target, "1"));
        Some((name.to_owned(), nth.parse().ok()?))
    });
    static REACHED: AtomicU32 = AtomicU32::new(0);
    let Some((target, nth)) = TARGET.as_ref() else { return };
    if target == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        std::process::abort();
    }
}

/// Nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn point(_name: &str) {}
