//! A key as a person reads it from paper: letters in groups of four. What was mistyped is told by group.
//!
//! The text of an age identity is Bech32 (BIP 173): `AGE-SECRET-KEY-1`, then 52 letters of key and 6 of checksum. Within 89
//! letters, which is just what an identity has with its prefix expanded, two words differ in at least five places, so that
//! up to two wrong letters can be found. They are only pointed at: the paper says what is right, not a guess. No text from
//! here repeats a letter of what was typed.

use std::collections::{BTreeSet, HashMap};

use zeroize::Zeroizing;

/// Why something that was typed is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// It is something else.
    Other,
    /// It is a key with letters that are wrong; where to look, by group, without a letter of the key.
    Typing(String),
}

/// Letters in a group on paper.
pub const GROUP: usize = 4;
/// What every identity begins with; it need not be typed.
pub const PREFIX: &str = "AGE-SECRET-KEY-1";
/// Letters that follow it.
pub const LETTERS: usize = 58;

/// Letters of Bech32 by their value. None of them looks like another one: there is no 1, B, I or O.
const CHARSET: &[u8; 32] = b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";
/// The generator of the checksum.
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
/// Fewer or more letters than this are no key that was mistyped but something else.
const PLAUSIBLE: std::ops::RangeInclusive<usize> = LETTERS - 12..=LETTERS + 12;

/// The letters after [`PREFIX`] in groups, of the text of an identity.
pub fn groups(identity: &str) -> Vec<&str> {
    let letters = identity.strip_prefix(PREFIX).unwrap_or(identity);
    let cut = |at: usize| &letters[at..(at + GROUP).min(letters.len())];
    // Byte positions: the text of an identity is ASCII.
    if letters.is_ascii() { (0..letters.len()).step_by(GROUP).map(cut).collect() } else { vec![letters] }
}

/// The identity that was typed, as age writes it: in groups or not, large or small letters, on one line or several, with
/// or without the prefix. Lines that begin with `#` are passed over.
///
/// # Errors
/// [`Mistake`].
pub(crate) fn read(text: &str) -> Result<Zeroizing<String>, Mistake> {
    let (letters, prefixed) = normalised(text)?;
    if !prefixed && !PLAUSIBLE.contains(&letters.len()) {
        return Err(Mistake::Other);
    }
    let values: Zeroizing<Vec<u8>> = Zeroizing::new(letters.bytes().filter_map(value).collect());
    if values.len() == LETTERS && residue(&values) == 0 {
        return Ok(Zeroizing::new(format!("{PREFIX}{}", *letters)));
    }
    let at = match values.len() {
        LETTERS => substituted(&values),
        57 => missing(&values),
        59 => surplus(&values),
        _ => BTreeSet::new(),
    };
    Err(Mistake::Typing(why(values.len(), &at)))
}

/// The letters after the prefix in capitals, and whether there was a prefix.
fn normalised(text: &str) -> Result<(Zeroizing<String>, bool), Mistake> {
    let mut letters = Zeroizing::new(String::with_capacity(text.len()));
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        for letter in line.chars().filter(|letter| !letter.is_whitespace() && *letter != '-') {
            if !letter.is_ascii_alphanumeric() {
                return Err(Mistake::Other);
            }
            letters.push(letter.to_ascii_uppercase());
        }
    }
    let bare = Zeroizing::new(PREFIX.replace('-', ""));
    let (rest, prefixed) = match letters.strip_prefix(bare.as_str()) {
        Some(rest) => (rest, true),
        None => (letters.as_str(), false),
    };
    // Letters that no key has are read as what they look like; the checksum has the last word.
    let seen = rest.chars().map(|letter| match letter {
        'O' => '0',
        'B' => '8',
        'I' | '1' => 'L',
        other => other,
    });
    Ok((Zeroizing::new(seen.collect()), prefixed))
}

fn value(letter: u8) -> Option<u8> {
    CHARSET.iter().position(|known| *known == letter).and_then(|at| u8::try_from(at).ok())
}

fn step(sum: u32, value: u8) -> u32 {
    let top = sum >> 25;
    let sum = ((sum & 0x01ff_ffff) << 5) ^ u32::from(value);
    GENERATOR
        .iter()
        .enumerate()
        .filter(|(bit, _)| (top >> bit) & 1 == 1)
        .fold(sum, |sum, (_, term)| sum ^ term)
}

/// 0 if the checksum is right; else what all wrong letters together add to it.
fn residue(values: &[u8]) -> u32 {
    let prefix = || PREFIX[..PREFIX.len() - 1].bytes().map(|letter| letter.to_ascii_lowercase());
    let expanded = prefix().map(|letter| letter >> 5).chain([0]).chain(prefix().map(|letter| letter & 31));
    expanded.chain(values.iter().copied()).fold(1, step) ^ 1
}

fn group(at: usize) -> usize {
    at / GROUP + 1
}

/// Groups in which one letter, or two, stand for others.
fn substituted(values: &[u8]) -> BTreeSet<usize> {
    let wrong = residue(values);
    let mut adds = HashMap::new();
    for at in 0..LETTERS {
        for change in 1..32_u32 {
            let sum = (at + 1..LETTERS).fold(change, |sum, _| step(sum, 0));
            if sum == wrong {
                return BTreeSet::from([group(at)]);
            }
            adds.insert(sum, at);
        }
    }
    let pair = adds.iter().find_map(|(sum, one)| Some((*one, *adds.get(&(sum ^ wrong))?)));
    pair.map_or_else(BTreeSet::new, |(one, other)| BTreeSet::from([group(one), group(other)]))
}

/// Groups in which one letter more makes it right.
fn missing(values: &[u8]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for at in 0..=values.len() {
        for letter in 0..32 {
            let mut whole = Zeroizing::new(values.to_vec());
            whole.insert(at, letter);
            if residue(&whole) == 0 {
                found.insert(group(at));
            }
        }
    }
    found
}

/// Groups in which one letter less makes it right.
fn surplus(values: &[u8]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for at in 0..values.len() {
        let mut whole = Zeroizing::new(values.to_vec());
        whole.remove(at);
        if residue(&whole) == 0 {
            found.insert(group(at.min(LETTERS - 1)));
        }
    }
    found
}

fn why(count: usize, at: &BTreeSet<usize>) -> String {
    let numbers: Vec<String> = at.iter().map(usize::to_string).collect();
    let places = match numbers.len() {
        0 => "compare every group of four letters with the paper".to_owned(),
        1 => format!("look at group {} again", numbers[0]),
        _ => format!("look at groups {} again", numbers.join(" and ")),
    };
    match count {
        LETTERS if at.is_empty() => format!("more than two letters are wrong; {places}"),
        LETTERS => places,
        57 | 59 if !at.is_empty() => {
            format!("one letter {}; {places}", if count < LETTERS { "is missing" } else { "is too many" })
        }
        _ => format!("it has {count} letters after {PREFIX}, and {LETTERS} are expected; {places}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    /// One that is nobody's: made for this test.
    fn text() -> String {
        Identity::generate().to_text().to_string()
    }

    fn told(typed: &str) -> String {
        match read(typed) {
            Err(Mistake::Typing(why)) => why,
            Err(Mistake::Other) => panic!("it passed for no key"),
            Ok(_) => panic!("it passed for a key"),
        }
    }

    fn other(letter: u8) -> u8 {
        if letter == b'Q' { b'P' } else { b'Q' }
    }

    #[test]
    fn a_key_can_be_typed_in_many_ways() {
        let text = text();
        let groups = groups(&text);
        assert_eq!((groups.len(), groups.concat()), (15, text[PREFIX.len()..].to_owned()));
        assert_eq!(groups.last().unwrap().len(), 2);
        let lines = format!("# from paper\n\n{}\n{}\n", groups[..8].join(" "), groups[8..].join("-"));
        let poor = text[PREFIX.len()..].replace('0', "o").replace('8', "b").replace('L', "i");
        for typed in
            [text.clone(), text.to_lowercase(), lines.to_lowercase(), lines, format!("{PREFIX}\n{poor}")]
        {
            assert_eq!(*read(&typed).unwrap(), text);
            assert_eq!(*Identity::parse(&typed).unwrap().to_text(), *text);
        }
        for other in [
            "",
            "hunter2",
            "# only a remark\n",
            "age1qqqqqqqqqqqqqqqqqqqqqqqqqqq",
            "ä",
            "-----BEGIN KEY-----",
        ] {
            assert_eq!(read(other).unwrap_err(), Mistake::Other, "{other}");
        }
        let twice = format!("{text}\n{text}\n");
        assert!(told(&twice).contains("58 are expected"));
    }

    #[test]
    fn the_group_with_the_mistake_is_told_and_nothing_of_the_key() {
        let text = text();
        let start = PREFIX.len();
        let mut typed = text.clone().into_bytes();
        for at in 0..LETTERS {
            let right = typed[start + at];
            typed[start + at] = other(right);
            let said = told(std::str::from_utf8(&typed).unwrap());
            assert!(said.contains(&format!("look at group {} again", at / 4 + 1)), "{at}: {said}");
            typed[start + at] = right;
        }
        for (one, two) in [(0, 57), (3, 4), (20, 21), (40, 11)] {
            let mut typed = text.clone().into_bytes();
            for at in [one, two] {
                typed[start + at] = other(typed[start + at]);
            }
            let said = told(std::str::from_utf8(&typed).unwrap());
            let groups = BTreeSet::from([one / 4 + 1, two / 4 + 1]);
            let shown: Vec<String> = groups.iter().map(usize::to_string).collect();
            assert!(said.contains(&format!("{} again", shown.join(" and "))), "{one} {two}: {said}");
        }
        for at in 0..LETTERS {
            let mut fewer = text.clone();
            fewer.remove(start + at);
            let mut more = text.clone();
            more.insert(start + at, 'Q');
            for (typed, what) in [(fewer, "one letter is missing"), (more, "one letter is too many")] {
                let said = told(&typed);
                assert!(said.contains(what) && said.contains(&(at / 4 + 1).to_string()), "{at}: {said}");
                assert!(!said.contains(&text[start..start + 8]));
            }
        }
        let said = told(&text[..text.len() - 6]);
        assert!(said.contains("it has 52 letters"), "{said}");
    }
}
