//! A word model: made-up words with Zipf frequencies and habits (each word has its usual followers), so
//! that generated text compresses about as real mail does. Repeatable from a seed.

use crate::rng::Rng;

const ONSETS: &[&str] = &[
    "b", "br", "c", "ch", "d", "dr", "f", "g", "gr", "h", "k", "l", "m", "n", "p", "pr", "r", "s", "st", "t",
    "tr", "v", "w", "",
];
const VOWELS: &[&str] = &["a", "e", "i", "o", "u", "ea", "ie", "ou", "ai"];
const CODAS: &[&str] = &["", "", "n", "r", "s", "t", "l", "nd", "st", "ng", "m", "ck"];

/// A vocabulary with its habits.
#[derive(Clone, Debug)]
pub struct Words {
    words: Vec<String>,
    followers: Vec<[u16; 6]>,
}

impl Words {
    /// A vocabulary of `count` words.
    pub fn new(seed: u64, count: usize) -> Self {
        let mut rng = Rng::new(seed);
        let words: Vec<String> = (0..count).map(|rank| word(&mut rng, rank)).collect();
        let followers = (0..count).map(|_| std::array::from_fn(|_| zipf(&mut rng, count) as u16)).collect();
        Self { words, followers }
    }

    /// One word, common ones oftener.
    pub fn word<'a>(&'a self, rng: &mut Rng) -> &'a str {
        &self.words[zipf(rng, self.words.len())]
    }

    /// Appends about `len` bytes of sentences in lines of at most 76 columns with CRLF.
    pub fn text(&self, rng: &mut Rng, len: usize, out: &mut Vec<u8>) {
        let end = out.len() + len;
        let mut column = 0;
        let mut left_in_sentence = 0;
        let mut word = zipf(rng, self.words.len());
        while out.len() < end {
            let starts = left_in_sentence == 0;
            if starts {
                left_in_sentence = 4 + rng.below(16);
                if rng.chance(0.12) {
                    out.extend_from_slice(b"\r\n\r\n");
                    column = 0;
                }
            }
            word = if rng.chance(0.55) {
                usize::from(*rng.pick(&self.followers[word]))
            } else {
                zipf(rng, self.words.len())
            };
            let text = self.words[word].as_bytes();
            if column + text.len() + 2 > 76 {
                out.extend_from_slice(b"\r\n");
                column = 0;
            } else if column > 0 {
                out.push(b' ');
                column += 1;
            }
            let at = out.len();
            out.extend_from_slice(text);
            if starts {
                out[at].make_ascii_uppercase();
            }
            column += text.len();
            left_in_sentence -= 1;
            if left_in_sentence == 0 {
                out.push(b'.');
                column += 1;
            } else if rng.chance(0.08) {
                out.push(b',');
                column += 1;
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// A line of a few words, without an end.
    pub fn line(&self, rng: &mut Rng, words: usize) -> String {
        (0..words).map(|_| self.word(rng)).collect::<Vec<_>>().join(" ")
    }
}

/// A rank in `0..n`, small ones oftener (exponent about 1).
fn zipf(rng: &mut Rng, n: usize) -> usize {
    let rank = ((n as f64 + 1.0).powf(rng.unit()) - 1.0) as usize;
    rank.min(n - 1)
}

fn word(rng: &mut Rng, rank: usize) -> String {
    // Common words are short, as in every language.
    let syllables = 1 + (rank > 60) as u64 + rng.below(1 + (rank > 400) as u64 + (rank > 3000) as u64);
    (0..syllables).map(|_| format!("{}{}{}", rng.pick(ONSETS), rng.pick(VOWELS), rng.pick(CODAS))).collect()
}
