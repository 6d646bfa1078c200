//! Failed attempts to be let in, limited by where they come from: a token bucket per source, from
//! which only failures take. Pure: time is given.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::recent::Recent;

/// In which every bucket becomes full again.
const REFILL: Duration = Duration::from_secs(60);
/// How many sources one generation of the memory holds. Beyond that those that failed longest ago
/// are forgotten: somebody with so many addresses is not held up by a limit per address.
const SOURCES: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// The buckets of all sources.
#[derive(Debug)]
pub struct Attempts {
    per_minute: f64,
    buckets: Mutex<Recent<IpAddr, Bucket>>,
}

impl Attempts {
    /// So many failures a minute for each source; 0 is no limit.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute: per_minute.into(), buckets: Mutex::new(Recent::new(SOURCES)) }
    }

    /// How long this source has to wait before it is listened to again. `None`: it is.
    #[must_use]
    pub fn wait(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        if self.per_minute == 0.0 {
            return None;
        }
        let bucket = *self.lock().get(&counted_as(source))?;
        let missing = 1.0 - self.filled(bucket, now);
        (missing > 0.0).then(|| REFILL.mul_f64(missing / self.per_minute))
    }

    /// Counts a failure of this source.
    pub fn failed(&self, source: IpAddr, now: Instant) {
        if self.per_minute == 0.0 {
            return;
        }
        let (source, mut buckets) = (counted_as(source), self.lock());
        let full = Bucket { left: self.per_minute, at: now };
        let left = self.filled(buckets.get(&source).copied().unwrap_or(full), now) - 1.0;
        buckets.put(source, Bucket { left: left.max(0.0), at: now });
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.at).div_duration_f64(REFILL);
        (bucket.left + passed * self.per_minute).min(self.per_minute)
    }

    fn lock(&self) -> MutexGuard<'_, Recent<IpAddr, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The network that a site gets in IPv6 counts as one source, since whoever has it has all of it.
fn counted_as(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let site = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(site))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_failures_count_and_time_forgives() {
        let (attempts, now, source) = (Attempts::new(60), Instant::now(), address("192.0.2.1"));
        assert_eq!(attempts.wait(source, now), None);
        (0..60).for_each(|_| attempts.failed(source, now));
        let wait = attempts.wait(source, now).unwrap();
        assert!(wait > Duration::from_millis(900) && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(attempts.wait(address("192.0.2.2"), now), None);
        assert_eq!(attempts.wait(source, now + Duration::from_millis(1001)), None);
        (0..100).for_each(|_| attempts.failed(source, now));
        assert_eq!(attempts.wait(source, now + Duration::from_millis(1001)), None, "no debts");
        let later = now + Duration::from_secs(3600);
        (0..59).for_each(|_| attempts.failed(source, later));
        assert_eq!(attempts.wait(source, later), None, "not more than a minute's worth is saved");
        attempts.failed(source, later);
        assert!(attempts.wait(source, later).is_some());
    }

    #[test]
    fn a_site_with_ipv6_and_a_mapped_address_are_one_source_each() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        attempts.failed(address("2001:db8:1:2:3::4"), now);
        assert!(attempts.wait(address("2001:db8:1:2::1"), now).is_some());
        assert!(attempts.wait(address("2001:db8:1:3::1"), now).is_none());
        attempts.failed(address("::ffff:192.0.2.1"), now);
        assert!(attempts.wait(address("192.0.2.1"), now).is_some());
    }

    #[test]
    fn the_memory_is_bounded_and_zero_is_no_limit() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        for number in 0..u32::try_from(SOURCES * 3).unwrap() {
            attempts.failed(IpAddr::V4(number.into()), now);
        }
        assert!(attempts.lock().len() <= 2 * SOURCES);
        let off = Attempts::new(0);
        off.failed(address("192.0.2.1"), now);
        assert!(off.lock().is_empty() && off.wait(address("192.0.2.1"), now).is_none());
    }
}
