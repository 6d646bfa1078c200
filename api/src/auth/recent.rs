//! A memory of bounded size for what was needed lately: two generations, of which the older is
//! forgotten when the younger is full. Pure.

use std::{collections::HashMap, hash::Hash};

/// What was put in lately, at most twice as much as one generation holds.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// An empty memory whose generations hold so many.
    #[must_use]
    pub fn new(generation: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation }
    }

    /// What is remembered under a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Remembers it; what was put in longest ago may be forgotten for it.
    pub fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation && !self.young.contains_key(&key) {
            self.age();
        }
        self.young.insert(key, value);
    }

    /// Forgets the older generation; the younger becomes it.
    pub fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }

    /// How much is remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_the_size_is_bounded() {
        let mut recent = Recent::new(10);
        for number in 0..1000 {
            recent.put(number, number);
            assert!(recent.len() <= 20);
            assert!((0..10).all(|back| number < back || recent.get(&(number - back)).is_some()));
        }
        assert_eq!(recent.get(&900), None);
        recent.put(999, 1);
        assert_eq!(recent.get(&999), Some(&1));
    }
}
