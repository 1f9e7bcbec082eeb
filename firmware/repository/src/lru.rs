//! A map that forgets what was not used for longest, bounded by weight and by count.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    by_age: BTreeMap<u64, K>,
    clock: u64,
    weight: usize,
    weight_max: usize,
    count_max: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Hash + Eq + Copy, V: Clone> Lru<K, V> {
    pub(crate) fn new(weight_max: usize, count_max: usize) -> Self {
        Lru { entries: HashMap::new(), by_age: BTreeMap::new(), clock: 0, weight: 0, weight_max, count_max }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        // The last one that was used is asked for again most of the time: nothing to reorder then.
        if entry.used != self.clock {
            self.by_age.remove(&entry.used);
            self.clock += 1;
            entry.used = self.clock;
            self.by_age.insert(self.clock, *key);
        }
        Some(entry.value.clone())
    }

    /// Adds a value and gives back what had to go for it. The newest value stays, however heavy it is.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) -> Vec<(K, V)> {
        let mut gone = Vec::new();
        if let Some(old) = self.entries.remove(&key) {
            self.by_age.remove(&old.used);
            self.weight -= old.weight;
            gone.push((key, old.value));
        }
        while !self.entries.is_empty()
            && (self.weight + weight > self.weight_max || self.entries.len() >= self.count_max)
        {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.weight -= entry.weight;
                gone.push((oldest, entry.value));
            }
        }
        self.clock += 1;
        self.weight += weight;
        self.by_age.insert(self.clock, key);
        self.entries.insert(key, Entry { value, weight, used: self.clock });
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = Lru::new(10, 100);
        assert!(lru.insert(1, 'a', 4).is_empty());
        assert!(lru.insert(2, 'b', 4).is_empty());
        assert_eq!(lru.get(&1), Some('a'));
        assert_eq!(lru.insert(3, 'c', 4), [(2, 'b')]);
        assert_eq!((lru.get(&1), lru.get(&2), lru.get(&3)), (Some('a'), None, Some('c')));
        assert_eq!(lru.insert(4, 'd', 40).len(), 2, "a heavy one pushes all others out and stays");
        assert_eq!(lru.get(&4), Some('d'));
        assert_eq!(lru.insert(4, 'e', 1), [(4, 'd')]);
        assert_eq!(lru.weight, 1);
    }

    #[test]
    fn the_count_is_bounded_too() {
        let mut lru = Lru::new(1000, 2);
        for key in 0..10 {
            lru.insert(key, key, 1);
        }
        assert_eq!((lru.entries.len(), lru.by_age.len(), lru.weight), (2, 2, 2));
        assert_eq!(lru.get(&9), Some(9));
    }
}
