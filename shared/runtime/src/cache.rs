//! A bounded map for what a run looks up again and again: names of organisations, answers of an upstream.

use std::{collections::HashMap, hash::Hash};

/// Keeps at most `2 × capacity` entries: when the young half is full it becomes the old half, and the former old half
/// is forgotten. A hit in the old half moves to the young one, so that what is in use stays.
#[derive(Debug)]
pub struct BoundedMap<K, V> {
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq + Clone, V: Clone> BoundedMap<K, V> {
    /// A map that forgets beyond `2 × capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), young: HashMap::new(), old: HashMap::new() }
    }

    /// The value of `key`, if it is remembered.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Remembers `value`.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let mut map = BoundedMap::new(2);
        map.insert(0, "kept");
        for key in 1..100 {
            map.insert(key, "passing");
            assert_eq!(map.get(&0), Some("kept"));
        }
        assert_eq!(map.get(&1), None);
        assert!(map.young.len() + map.old.len() <= 4);
    }
}
