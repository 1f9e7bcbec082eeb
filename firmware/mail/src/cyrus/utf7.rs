//! Modified UTF-7 (RFC 3501 §5.1.3), in which IMAP and Cyrus' spool write mailbox names: printable ASCII stands for
//! itself, `&-` for `&`, and everything else is UTF-16 in base64 (with `,` for `/`) between `&` and `-`.

/// What the name says. A piece that is no modified UTF-7 stays as it is written: the name then still leads to its mailbox.
pub fn decode(written: &str) -> String {
    let mut decoded = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        // Up to the `-`, or to where another piece begins.
        let next = rest[1..].find('&').map_or(rest.len(), |next| next + 1);
        let piece = rest[..next].find('-').map_or(&rest[..next], |end| &rest[..=end]);
        match shifted(piece) {
            Some(text) => decoded.push_str(&text),
            None => decoded.push_str(piece),
        }
        rest = &rest[piece.len()..];
    }
    decoded.push_str(rest);
    decoded
}

/// The name as it is written.
pub fn encode(name: &str) -> String {
    let mut written = String::with_capacity(name.len());
    let mut units: Vec<u16> = Vec::new();
    for letter in name.chars() {
        if matches!(letter, ' '..='~') {
            shift(&mut written, &mut units);
            written.push(letter);
            if letter == '&' {
                written.push('-');
            }
        } else {
            units.extend_from_slice(letter.encode_utf16(&mut [0; 2]));
        }
    }
    shift(&mut written, &mut units);
    written
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Decodes `&…-`; `None` if it is none, or would decode to something that has to stand for itself.
fn shifted(piece: &str) -> Option<String> {
    let digits = piece.strip_prefix('&')?.strip_suffix('-')?;
    if digits.is_empty() {
        return Some("&".to_owned());
    }
    let (mut bits, mut held, mut units) = (0u32, 0u32, Vec::new());
    for digit in digits.bytes() {
        let value = DIGITS.iter().position(|known| *known == digit)? as u32;
        (bits, held) = (bits << 6 | value, held + 6);
        if held >= 16 {
            held -= 16;
            units.push((bits >> held) as u16);
            bits &= (1 << held) - 1;
        }
    }
    // What is left is filling: less than a digit, and zero.
    if held >= 6 || bits != 0 {
        return None;
    }
    let text = String::from_utf16(&units).ok()?;
    text.chars().all(|letter| !matches!(letter, ' '..='~')).then_some(text)
}

fn shift(written: &mut String, units: &mut Vec<u16>) {
    if units.is_empty() {
        return;
    }
    written.push('&');
    let (mut bits, mut held) = (0u32, 0u32);
    for unit in units.drain(..) {
        (bits, held) = (bits << 16 | u32::from(unit), held + 16);
        while held >= 6 {
            held -= 6;
            written.push(DIGITS[(bits >> held) as usize & 63] as char);
            bits &= (1 << held) - 1;
        }
    }
    if held > 0 {
        written.push(DIGITS[(bits << (6 - held)) as usize & 63] as char);
    }
    written.push('-');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_standard_and_of_real_servers() {
        for (written, name) in [
            ("Entw&APw-rfe", "Entwürfe"),
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("Tom &- Jerry", "Tom & Jerry"),
            ("&2D3eAA-", "😀"),
            ("INBOX", "INBOX"),
            ("", ""),
        ] {
            assert_eq!(decode(written), name);
            assert_eq!(encode(name), written);
        }
    }

    #[test]
    fn what_is_no_utf7_stays_as_it_is() {
        for bad in ["a&b", "&", "&AP-", "&APw", "&APw/-", "&AGE-", "&2D0-", "&AAA"] {
            assert_eq!(decode(bad), bad);
        }
        assert_eq!(decode("&bad/&APw-"), "&bad/ü", "what follows is still read");
    }

    proptest::proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{0,30}") {
            proptest::prop_assert_eq!(decode(&encode(&name)), name);
        }

        #[test]
        fn no_text_makes_it_panic(written in "[&A-Za-z0-9+,/ -]{0,40}") {
            let _ = decode(&written);
        }
    }
}
