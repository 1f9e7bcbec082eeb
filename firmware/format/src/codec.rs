//! Reading and writing the few primitives of the binary encodings: bytes, varints, length-prefixed strings.
//!
//! A varint is unsigned LEB128 in its shortest form, at most 10 bytes; signed values are zigzag-mapped first.

use crate::FormatError;

/// A cursor over untrusted bytes. Every method names `what` it is reading in its error.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Bytes not read so far.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes the next `count` bytes.
    ///
    /// # Errors
    /// [`FormatError::Truncated`].
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], FormatError> {
        if count > self.rest.len() {
            return Err(FormatError::Truncated { what });
        }
        let (head, tail) = self.rest.split_at(count);
        self.rest = tail;
        Ok(head)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`FormatError::Truncated`].
    pub fn byte(&mut self, what: &'static str) -> Result<u8, FormatError> {
        Ok(self.take(1, what)?[0])
    }

    /// Takes a fixed-size array.
    ///
    /// # Errors
    /// [`FormatError::Truncated`].
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], FormatError> {
        let mut array = [0u8; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// Takes an unsigned varint in its shortest form.
    ///
    /// # Errors
    /// Truncated, longer than needed, or above 64 bits.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(FormatError::malformed(what, "number above 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(FormatError::malformed(what, "number not in its shortest form"));
                }
                return Ok(value);
            }
        }
        Err(FormatError::malformed(what, "number above 64 bits"))
    }

    /// Takes a zigzag varint.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    pub fn signed(&mut self, what: &'static str) -> Result<i64, FormatError> {
        let raw = self.varint(what)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Takes a varint that must fit 32 bits.
    ///
    /// # Errors
    /// As [`Reader::varint`], and for larger values.
    pub fn varint32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        u32::try_from(self.varint(what)?).map_err(|_| FormatError::malformed(what, "number above 32 bits"))
    }

    /// Takes a varint length of at most `limit`, then that many bytes.
    ///
    /// # Errors
    /// Truncated, or longer than `limit`.
    pub fn bytes(&mut self, limit: usize, what: &'static str) -> Result<&'a [u8], FormatError> {
        let declared = self.varint(what)?;
        if declared > limit as u64 {
            return Err(FormatError::TooLarge { what, declared, limit: limit as u64 });
        }
        self.take(declared as usize, what)
    }
}

/// Appends an unsigned varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzag varint.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a varint length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_and_longer_forms_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Reader::new(&out).varint("n"), Ok(value));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX, -1_234_567] {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            assert_eq!(Reader::new(&out).signed("n"), Ok(value));
        }
        assert!(Reader::new(&[0x80, 0]).varint("n").is_err());
        assert!(Reader::new(&[0xff; 10]).varint("n").is_err());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint("n").is_err());
        assert!(Reader::new(&[0x80]).varint("n").is_err());
    }
}
