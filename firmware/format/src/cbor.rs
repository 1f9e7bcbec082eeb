//! The CBOR fence: the only file that names `serde_cbor`, and the only way in and out of CBOR.
//!
//! `serde_cbor` is archived (RUSTSEC-2021-0127): it takes many encodings of one value, lets the last of two equal keys
//! win, and counts depth wrongly when a deserializer is used again. So the fence promises more than the crate does:
//! - [`to_vec`] writes the deterministic encoding of RFC 8949 §4.2.1: definite lengths, shortest integers, map keys
//!   unique and in bytewise order of their encoding; no floats, no tags;
//! - [`from_slice`] looks through untrusted bytes first (length, depth, item count, form), decodes with a fresh
//!   deserializer, encodes what came out again and refuses it unless the bytes are equal. One value, one encoding;
//!   unknown fields cannot hide.
//!
//! Hash and sign stored bytes, never bytes that were encoded again.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FormatError;
use crate::codec::Reader;

const WHAT: &str = "CBOR document";

/// Deepest nesting that any document may have; far below the 127 where `serde_cbor` gives up by itself.
pub const DEPTH_MAX: usize = 32;

/// What a document may cost. A caller's `max_depth` above [`DEPTH_MAX`] counts as [`DEPTH_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CborLimits {
    /// Longest document in bytes.
    pub max_len: usize,
    /// Deepest nesting of arrays and maps; a lone number has depth 0.
    pub max_depth: usize,
    /// Most items: every number, text, byte string, array, map and map key counts one.
    pub max_items: usize,
}

/// Encodes deterministically.
///
/// # Errors
/// [`FormatError::Malformed`] if the type cannot be expressed: floats, integers beyond 64 bits, maps with equal keys,
/// sequences of unknown length, nesting deeper than [`DEPTH_MAX`].
pub fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, FormatError> {
    let loose = serde_cbor::to_vec(value).map_err(|error| FormatError::malformed(WHAT, error.to_string()))?;
    let mut out = Vec::with_capacity(loose.len());
    let mut reader = Reader::new(&loose);
    sort_keys(&mut reader, &mut out, 0)?;
    Ok(out)
}

/// Decodes untrusted bytes that [`to_vec`] wrote; anything else is refused.
///
/// # Errors
/// [`FormatError`] for a document above `limits`, in any but the one encoding, or that does not fit `T` exactly.
pub fn from_slice<T: DeserializeOwned + Serialize>(
    bytes: &[u8],
    limits: &CborLimits,
) -> Result<T, FormatError> {
    let value: T = peek(bytes, limits)?;
    if to_vec(&value)? != bytes {
        return Err(FormatError::malformed(WHAT, "it has fields or forms that its type does not write"));
    }
    Ok(value)
}

/// Decodes a part of a document: fields that `T` does not have are passed over. For looking at versions and features
/// before the rest is taken to be of a known shape.
///
/// # Errors
/// As [`from_slice`], but for the exact fit.
pub(crate) fn peek<T: DeserializeOwned>(bytes: &[u8], limits: &CborLimits) -> Result<T, FormatError> {
    if bytes.len() > limits.max_len {
        return Err(FormatError::TooLarge {
            what: WHAT,
            declared: bytes.len() as u64,
            limit: limits.max_len as u64,
        });
    }
    let mut scan = Scan {
        whole: bytes,
        reader: Reader::new(bytes),
        items_left: limits.max_items,
        max_items: limits.max_items,
        max_depth: limits.max_depth.min(DEPTH_MAX),
    };
    scan.item(0)?;
    if scan.reader.remaining() > 0 {
        return Err(FormatError::malformed(WHAT, "bytes follow its end"));
    }
    // One deserializer for one document: a used one miscounts depth.
    serde_cbor::from_slice(bytes).map_err(|error| FormatError::malformed(WHAT, error.to_string()))
}

/// The head of one item: major type and argument, checked to be in its shortest form.
struct Head {
    major: u8,
    argument: u64,
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;

fn take_head(reader: &mut Reader<'_>) -> Result<Head, FormatError> {
    let first = reader.byte(WHAT)?;
    let (major, info) = (first >> 5, first & 0x1f);
    let (argument, least) = match info {
        0..=23 => (u64::from(info), 0),
        24 => (u64::from(reader.byte(WHAT)?), 24),
        25 => (u64::from(u16::from_be_bytes(reader.array(WHAT)?)), 1 << 8),
        26 => (u64::from(u32::from_be_bytes(reader.array(WHAT)?)), 1 << 16),
        27 => (u64::from_be_bytes(reader.array(WHAT)?), 1 << 32),
        _ => return Err(FormatError::malformed(WHAT, "indefinite length or reserved form")),
    };
    match major {
        UNSIGNED..=MAP if argument >= least => Ok(Head { major, argument }),
        UNSIGNED..=MAP => Err(FormatError::malformed(WHAT, "number not in its shortest form")),
        // false, true, null; what else is "simple" are floats and values nobody has assigned.
        SIMPLE if (20..=22).contains(&first.wrapping_sub(0xe0)) => Ok(Head { major, argument }),
        SIMPLE => Err(FormatError::malformed(WHAT, "float or unassigned simple value")),
        _ => Err(FormatError::malformed(WHAT, "tag")),
    }
}

/// Takes the bytes of a string whose head was just read.
fn take_string<'a>(reader: &mut Reader<'a>, head: &Head) -> Result<&'a [u8], FormatError> {
    let length = usize::try_from(head.argument).map_err(|_| FormatError::Truncated { what: WHAT })?;
    let bytes = reader.take(length, WHAT)?;
    if head.major == TEXT && std::str::from_utf8(bytes).is_err() {
        return Err(FormatError::malformed(WHAT, "text that is not UTF-8"));
    }
    Ok(bytes)
}

/// The look through a document before anything is decoded. It allocates nothing.
struct Scan<'a> {
    whole: &'a [u8],
    reader: Reader<'a>,
    items_left: usize,
    max_items: usize,
    max_depth: usize,
}

impl<'a> Scan<'a> {
    fn item(&mut self, depth: usize) -> Result<(), FormatError> {
        self.items_left = self.items_left.checked_sub(1).ok_or(FormatError::TooLarge {
            what: "CBOR item count",
            declared: self.max_items as u64 + 1,
            limit: self.max_items as u64,
        })?;
        let head = take_head(&mut self.reader)?;
        match head.major {
            UNSIGNED | NEGATIVE | SIMPLE => Ok(()),
            BYTES | TEXT => take_string(&mut self.reader, &head).map(drop),
            ARRAY => {
                self.enter(depth, head.argument, 1)?;
                (0..head.argument).try_for_each(|_| self.item(depth + 1))
            }
            _ => {
                self.enter(depth, head.argument, 2)?;
                let mut previous: Option<&'a [u8]> = None;
                for _ in 0..head.argument {
                    let start = self.position();
                    self.item(depth + 1)?;
                    let key = &self.whole[start..self.position()];
                    if previous.is_some_and(|previous| previous >= key) {
                        return Err(FormatError::malformed(WHAT, "map keys unordered or repeated"));
                    }
                    previous = Some(key);
                    self.item(depth + 1)?;
                }
                Ok(())
            }
        }
    }

    /// Checks a container before its first item is looked at: `count` entries of `width` items, each at least a byte.
    fn enter(&self, depth: usize, count: u64, width: u64) -> Result<(), FormatError> {
        if depth >= self.max_depth {
            return Err(FormatError::TooLarge {
                what: "CBOR nesting",
                declared: depth as u64 + 1,
                limit: self.max_depth as u64,
            });
        }
        let items = count.saturating_mul(width);
        if items > self.reader.remaining() as u64 {
            return Err(FormatError::Truncated { what: WHAT });
        }
        if items > self.items_left as u64 {
            return Err(FormatError::TooLarge {
                what: "CBOR item count",
                declared: items,
                limit: self.max_items as u64,
            });
        }
        Ok(())
    }

    fn position(&self) -> usize {
        self.whole.len() - self.reader.remaining()
    }
}

/// Copies one item of our own loose encoding, putting map entries into bytewise order of their keys.
fn sort_keys(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), FormatError> {
    let head = take_head(reader)?;
    put_head(out, &head);
    match head.major {
        UNSIGNED | NEGATIVE | SIMPLE => return Ok(()),
        BYTES | TEXT => {
            out.extend_from_slice(take_string(reader, &head)?);
            return Ok(());
        }
        _ if depth >= DEPTH_MAX => return Err(FormatError::malformed(WHAT, "nested too deeply")),
        ARRAY => return (0..head.argument).try_for_each(|_| sort_keys(reader, out, depth + 1)),
        _ => {}
    }
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for _ in 0..head.argument {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        sort_keys(reader, &mut key, depth + 1)?;
        sort_keys(reader, &mut value, depth + 1)?;
        entries.push((key, value));
    }
    entries.sort();
    if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(FormatError::malformed(WHAT, "map with equal keys"));
    }
    for (key, value) in entries {
        out.extend_from_slice(&key);
        out.extend_from_slice(&value);
    }
    Ok(())
}

fn put_head(out: &mut Vec<u8>, head: &Head) {
    let major = head.major << 5;
    match head.argument {
        0..=23 => out.push(major | head.argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, head.argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(head.argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(head.argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&head.argument.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    const LIMITS: CborLimits = CborLimits { max_len: 10_000, max_depth: 6, max_items: 500 };

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Nothing,
        One(u64),
        Pair { left: i64, right: bool },
        Nested(Vec<Shape>),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Document {
        zeta: u64,
        a: Option<i64>,
        text: String,
        map: BTreeMap<String, u32>,
        tuple: (u8, String),
        shapes: Vec<Shape>,
    }

    fn shape() -> impl Strategy<Value = Shape> {
        let leaf = prop_oneof![
            Just(Shape::Nothing),
            any::<u64>().prop_map(Shape::One),
            (any::<i64>(), any::<bool>()).prop_map(|(left, right)| Shape::Pair { left, right }),
        ];
        leaf.prop_recursive(1, 4, 3, |inner| proptest::collection::vec(inner, 0..3).prop_map(Shape::Nested))
    }

    fn document() -> impl Strategy<Value = Document> {
        (
            prop_oneof![0u64..300, any::<u64>()],
            any::<Option<i64>>(),
            ".{0,30}",
            proptest::collection::btree_map("[a-z]{0,3}", any::<u32>(), 0..5),
            (any::<u8>(), "[a-z]{0,9}"),
            proptest::collection::vec(shape(), 0..4),
        )
            .prop_map(|(zeta, a, text, map, tuple, shapes)| Document {
                zeta,
                a,
                text,
                map,
                tuple,
                shapes,
            })
    }

    /// What `ciborium` makes of accepted bytes, as plain values.
    fn second_opinion(bytes: &[u8]) -> Document {
        ciborium::from_reader(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn documents_survive_and_a_second_decoder_agrees(document in document()) {
            let bytes = to_vec(&document).unwrap();
            prop_assert_eq!(second_opinion(&bytes), document.clone());
            prop_assert_eq!(from_slice::<Document>(&bytes, &LIMITS), Ok(document));
        }

        #[test]
        fn whatever_is_accepted_is_what_would_be_written(
            document in document(),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = to_vec(&document).unwrap();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(other) = from_slice::<Document>(&bytes, &LIMITS) {
                prop_assert_eq!(second_opinion(&bytes), other.clone());
                prop_assert_eq!(to_vec(&other), Ok(bytes));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(document) = from_slice::<Document>(&bytes, &LIMITS) {
                prop_assert_eq!(to_vec(&document), Ok(bytes));
            }
        }
    }

    #[test]
    fn keys_are_in_bytewise_order_of_their_encoding() {
        let map = BTreeMap::from([("b", 1u8), ("aa", 2), ("", 3)]);
        assert_eq!(to_vec(&map).unwrap(), b"\xa3\x60\x03\x61b\x01\x62aa\x02");
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two {
        a: u8,
        b: Option<u8>,
    }

    #[test]
    fn every_other_encoding_of_a_value_is_refused() {
        let good = b"\xa2\x61a\x01\x61b\x02";
        assert_eq!(from_slice::<Two>(good, &LIMITS), Ok(Two { a: 1, b: Some(2) }));
        let others: [(&str, &[u8]); 14] = [
            ("indefinite map", b"\xbf\x61a\x01\x61b\x02\xff"),
            ("keys out of order", b"\xa2\x61b\x02\x61a\x01"),
            ("key twice", b"\xa3\x61a\x01\x61a\x01\x61b\x02"),
            ("long integer", b"\xa2\x61a\x18\x01\x61b\x02"),
            ("longer integer", b"\xa2\x61a\x19\x00\x01\x61b\x02"),
            ("long length", b"\xa2\x78\x01a\x01\x61b\x02"),
            ("indefinite text", b"\xa2\x7f\x61a\xff\x01\x61b\x02"),
            ("key as bytes", b"\xa2\x41a\x01\x61b\x02"),
            ("key as number", b"\xa2\x00\x01\x01\x02"),
            ("struct as array", b"\x82\x01\x02"),
            ("tag", b"\xd9\xd9\xf7\xa2\x61a\x01\x61b\x02"),
            ("float", b"\xa2\x61a\xf9\x3c\x00\x61b\x02"),
            ("unknown field", b"\xa3\x61a\x01\x61b\x02\x61c\x03"),
            ("left-out null", b"\xa1\x61a\x01"),
        ];
        for (what, bytes) in others {
            assert!(from_slice::<Two>(bytes, &LIMITS).is_err(), "{what}");
        }
        for (what, tail) in [("undefined", b"\xf7".as_slice()), ("simple", b"\xf8\x20"), ("break", b"\xff")] {
            let bytes = [b"\xa2\x61a\x01\x61b", tail].concat();
            assert!(from_slice::<Two>(&bytes, &LIMITS).is_err(), "{what}");
        }
        assert!(from_slice::<Two>(&[good.as_slice(), b"\x00"].concat(), &LIMITS).is_err());
        assert!(from_slice::<String>(b"\x62\xff\xfe", &LIMITS).is_err());
    }

    /// Here nothing is encoded again and compared.
    #[test]
    fn who_only_looks_at_a_part_refuses_the_same_forms() {
        assert_eq!(peek::<Two>(b"\xa2\x61a\x01\x61b\x02", &LIMITS), Ok(Two { a: 1, b: Some(2) }));
        let others: [(&str, &[u8]); 6] = [
            ("long integer", b"\xa2\x61a\x18\x01\x61b\x02"),
            ("longer integer", b"\xa2\x61a\x19\x00\x01\x61b\x02"),
            ("long length", b"\xa2\x78\x01a\x01\x61b\x02"),
            ("indefinite map", b"\xbf\x61a\x01\x61b\x02\xff"),
            ("keys out of order", b"\xa2\x61b\x02\x61a\x01"),
            ("key twice", b"\xa3\x61a\x01\x61a\x01\x61b\x02"),
        ];
        for (what, bytes) in others {
            assert!(peek::<Two>(bytes, &LIMITS).is_err(), "{what}");
        }
    }

    #[test]
    fn limits_hold_before_anything_is_decoded() {
        let deep = |depth: usize| [vec![0x81; depth], vec![0x80]].concat();
        let refused = |bytes: &[u8], limits: &CborLimits| {
            matches!(
                from_slice::<Shape>(bytes, limits),
                Err(FormatError::TooLarge { .. } | FormatError::Truncated { .. })
            )
        };
        assert!(refused(&deep(6), &LIMITS));
        assert!(!refused(&deep(5), &LIMITS));
        let generous = CborLimits { max_len: 1 << 20, max_depth: 1 << 20, max_items: 1 << 20 };
        assert!(refused(&deep(DEPTH_MAX), &generous));
        assert!(refused(&deep(100_000), &generous));
        // Counts and lengths that the document cannot hold.
        for bomb in [b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(refused(bomb, &generous));
        }
        assert!(refused(b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", &generous));
        let numbers = to_vec(&vec![0u8; 499]).unwrap();
        assert!(from_slice::<Vec<u8>>(&numbers, &LIMITS).is_ok());
        assert!(refused(&to_vec(&vec![0u8; 500]).unwrap(), &LIMITS));
        assert!(refused(&vec![0; 10_001], &LIMITS));
    }

    #[test]
    fn what_has_no_one_encoding_is_not_written() {
        assert!(to_vec(&1.5f64).is_err());
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::ser::SerializeSeq::end(serializer.serialize_seq(None)?)
            }
        }
        assert!(to_vec(&Endless).is_err());
    }
}
