//! Changes that decoders stumble over: bits, lengths, pieces taken out, repeated or taken from another sample.

use mailkeep_tests::rng::Rng;

/// Bytes that mean something in most encodings: ends of varints, CBOR heads of long things, signs.
const TELLING: [u8; 16] =
    [0, 1, 0x17, 0x18, 0x1b, 0x5b, 0x7f, 0x80, 0x9b, 0xbb, 0xbf, 0xf6, 0xfb, 0xfe, 0xff, b'\n'];

/// One of the samples with a few changes.
pub(crate) fn changed(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = rng.pick(seeds).clone();
    for _ in 0..1 + rng.index(5) {
        change(&mut bytes, seeds, rng);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    let at = rng.index(bytes.len().max(1));
    let end = (at + 1 + rng.index(64)).min(bytes.len());
    match rng.below(9) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
        1 if !bytes.is_empty() => bytes[at] = *rng.pick(&TELLING),
        2 => {
            let mut noise = vec![0; 1 + rng.index(9)];
            rng.fill(&mut noise);
            drop(bytes.splice(at.min(bytes.len())..at.min(bytes.len()), noise));
        }
        3 if !bytes.is_empty() => drop(bytes.drain(at..end)),
        4 if !bytes.is_empty() => {
            let piece = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        5 => bytes.truncate(at),
        6 => {
            let other = rng.pick(seeds);
            let from = rng.index(other.len().max(1)).min(other.len());
            let to = (from + rng.index(200)).min(other.len());
            let piece = other[from..to].to_vec();
            drop(bytes.splice(at.min(bytes.len())..end.max(at.min(bytes.len())), piece));
        }
        // A length or number of eight bytes, all of them large.
        7 if bytes.len() >= 8 => {
            let at = at.min(bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&(u64::MAX >> rng.below(64)).to_le_bytes());
        }
        _ => bytes.extend(std::iter::repeat_n(*rng.pick(&TELLING), 1 + rng.index(40))),
    }
}
