//! Where tasks stand, by their keys: a few bytes for each, since the keys themselves lie with the tasks.

use super::TaskKey;
use hashbrown::HashTable;

/// Positions by key. Whoever holds it says which key stands at a position: keys are compared, not trusted to differ.
#[derive(Debug, Clone, Default)]
pub struct KeyIndex(HashTable<u32>);

/// A key is a hash already.
fn hash(key: &TaskKey) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&key.0[..8]);
    u64::from_le_bytes(first)
}

impl KeyIndex {
    /// The position whose key this is.
    pub fn get<'a>(&self, key: TaskKey, key_at: impl Fn(u32) -> &'a TaskKey) -> Option<u32> {
        self.0.find(hash(&key), |&position| *key_at(position) == key).copied()
    }

    /// Enters a position with its key; of two with the same key, the later one counts.
    pub fn insert<'a>(&mut self, position: u32, key_at: impl Fn(u32) -> &'a TaskKey) {
        let key = key_at(position);
        match self.0.find_mut(hash(key), |&other| key_at(other) == key) {
            Some(earlier) => *earlier = position,
            None => drop(self.0.insert_unique(hash(key), position, |&other| hash(key_at(other)))),
        }
    }

    /// Makes room for so many more.
    pub fn reserve<'a>(&mut self, more: usize, key_at: impl Fn(u32) -> &'a TaskKey) {
        self.0.reserve(more, |&position| hash(key_at(position)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_stand_and_strangers_are_not() {
        let keys: Vec<TaskKey> = (0..5000u32).map(|n| TaskKey::of(&n.to_le_bytes())).collect();
        let mut index = KeyIndex::default();
        index.reserve(10, |position| &keys[position as usize]);
        (0..5000).for_each(|position| index.insert(position, |position| &keys[position as usize]));
        let find = |key| index.get(key, |position| &keys[position as usize]);
        assert!((0..5000).all(|position| find(keys[position as usize]) == Some(position)));
        assert_eq!(find(TaskKey::of(b"a stranger")), None);
        // The same first bytes are not the same key.
        let mut twin = keys[7];
        twin.0[31] ^= 1;
        assert_eq!(find(twin), None);
        let same = [keys[7], keys[7]];
        let mut index = KeyIndex::default();
        (0..2).for_each(|position| index.insert(position, |position| &same[position as usize]));
        assert_eq!(index.get(keys[7], |position| &same[position as usize]), Some(1));
    }
}
