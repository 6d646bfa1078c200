//! Totals of lists, remembered for a moment where counting was much work (decision 7).
//!
//! A small total is always counted afresh, so that a client which dispatches and lists sees itself.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a total is good.
const GOOD_FOR: Duration = Duration::from_secs(2);
/// From which total on counting is much work.
const WORTH_REMEMBERING: i64 = 10_000;
/// The most that are remembered.
const MOST: usize = 1_000;

/// Totals by what was counted.
#[derive(Debug, Default)]
pub(super) struct Totals {
    known: Mutex<HashMap<String, (Instant, i64)>>,
}

impl Totals {
    /// The total of that filter, if it was counted a moment ago.
    pub(super) fn get(&self, filter: &str) -> Option<i64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(filter).filter(|(at, _)| at.elapsed() < GOOD_FOR).map(|(_, total)| *total)
    }

    /// Remembers a total that was counted just now.
    pub(super) fn put(&self, filter: String, total: i64) {
        if total < WORTH_REMEMBERING {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, (at, _)| at.elapsed() < GOOD_FOR);
        }
        if known.len() < MOST {
            known.insert(filter, (Instant::now(), total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_totals_are_remembered_and_not_too_many() {
        let totals = Totals::default();
        totals.put("small".to_owned(), WORTH_REMEMBERING - 1);
        assert_eq!(totals.get("small"), None);
        for n in 0..MOST + 10 {
            totals.put(n.to_string(), WORTH_REMEMBERING);
        }
        assert_eq!(totals.get("0"), Some(WORTH_REMEMBERING));
        assert_eq!(totals.known.lock().unwrap().len(), MOST);
    }
}
