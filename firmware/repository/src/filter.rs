//! A Bloom filter over chunk ids: says "not there" for nearly everything that is not there, without a look at the run.
//!
//! All bits of an id lie in one cache line. Ids are keyed hashes, so their bytes are as good as random draws.

use mailkeep_format::ChunkId;

/// Bits of memory per entry; with six bits set per id about 1.5 % of the absent ones get through.
const BITS_PER_ENTRY: u64 = 10;
const LINE_WORDS: usize = 8;

#[derive(Debug)]
pub(crate) struct Filter {
    lines: Vec<[u64; LINE_WORDS]>,
}

impl Filter {
    pub(crate) fn new(entries: u64) -> Self {
        let lines = (entries * BITS_PER_ENTRY / 512 + 1) as usize;
        Filter { lines: vec![[0; LINE_WORDS]; lines] }
    }

    pub(crate) fn add(&mut self, id: &ChunkId) {
        let (line, bits) = self.place(id);
        for (word, bit) in bits {
            self.lines[line][word] |= bit;
        }
    }

    /// `false` only if the id was never added.
    pub(crate) fn may_have(&self, id: &ChunkId) -> bool {
        let (line, mut bits) = self.place(id);
        bits.all(|(word, bit)| self.lines[line][word] & bit != 0)
    }

    fn place(&self, id: &ChunkId) -> (usize, impl Iterator<Item = (usize, u64)> + use<>) {
        // The start of an id orders a run; its other bytes are used here.
        let word = |at: usize| id.0[at..at + 8].iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        let (first, second) = (word(8), word(16));
        let line = (u128::from(first) * self.lines.len() as u128) >> 64;
        let bits = (0..6).map(move |turn| {
            let draw = second >> (turn * 9);
            ((draw & 7) as usize, 1u64 << ((draw >> 3) & 63))
        });
        (line as usize, bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ChunkId {
        let mut id = [0; 24];
        id.copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[..24]);
        ChunkId(id)
    }

    #[test]
    fn what_was_added_is_there_and_nearly_nothing_else() {
        let mut filter = Filter::new(20_000);
        (0..20_000).for_each(|number| filter.add(&id(number)));
        assert!((0..20_000).all(|number| filter.may_have(&id(number))));
        let through = (20_000..120_000).filter(|number| filter.may_have(&id(*number))).count();
        assert!(through < 3_500, "{through} of 100000 absent ids get through");
        assert!(!Filter::new(0).may_have(&id(1)));
    }
}
