//! Whether the loops that accept connections still turn: each is asked for a number, and gives it
//! back when it comes by, whether or not there is a connection or room for one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What the loops of one server are asked, and have answered.
#[derive(Debug)]
pub(super) struct Pulse {
    asked: watch::Sender<u64>,
    answered: Mutex<Vec<u64>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { asked: watch::Sender::new(0), answered: Mutex::default() }
    }
}

impl Pulse {
    /// One more loop: its number, and what it is asked.
    pub(super) fn join(&self) -> (usize, watch::Receiver<u64>) {
        let mut answered = self.lock();
        answered.push(*self.asked.borrow());
        (answered.len() - 1, self.asked.subscribe())
    }

    /// A loop gives back what it was asked.
    pub(super) fn answer(&self, of: usize, number: u64) {
        if let Some(answered) = self.lock().get_mut(of) {
            *answered = number;
        }
    }

    /// Whether all loops have answered since the last call of this. Asks them anew.
    pub(super) fn beats(&self) -> bool {
        let asked = *self.asked.borrow();
        let all = self.lock().iter().all(|answered| *answered == asked);
        self.asked.send_replace(asked + 1);
        all
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_answer_is_noticed() {
        let pulse = Pulse::default();
        let ((one, asked), (other, _)) = (pulse.join(), pulse.join());
        assert!(pulse.beats());
        pulse.answer(one, *asked.borrow());
        assert!(!pulse.beats(), "the other is silent");
        for of in [one, other] {
            pulse.answer(of, *asked.borrow());
        }
        assert!(pulse.beats());
    }
}
