//! Paths inside of a snapshot: absolute, `/`-separated bytes as on the server. And how they are shown.

use std::fmt::Write as _;

use crate::RestoreError;

/// Brings a path as a person gives it into the one form used here: a leading `/`, no doubled or trailing ones.
///
/// # Errors
/// [`RestoreError::BadPath`] for `..`, a NUL, or nothing at all.
pub fn normalise(path: &[u8]) -> Result<Vec<u8>, RestoreError> {
    let bad = || RestoreError::BadPath { path: show(path) };
    if path.is_empty() {
        return Err(bad());
    }
    let mut clean = Vec::with_capacity(path.len() + 1);
    for part in parts(path) {
        if part == b".." || part.contains(&0) {
            return Err(bad());
        }
        if part != b"." {
            clean.push(b'/');
            clean.extend_from_slice(part);
        }
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Ok(clean)
}

/// The names along a path.
pub fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

/// The path of `name` in the folder `parent`.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent.strip_suffix(b"/").unwrap_or(parent));
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// The parent folder and last name of a normalised path; `None` for `/`.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let name = &path[slash + 1..];
    let parent = if slash == 0 { &b"/"[..] } else { &path[..slash] };
    (!name.is_empty()).then_some((parent, name))
}

/// Shows a path to a person. Names come from a mail server that may be hostile, so whatever a terminal would act on
/// is escaped, and bytes that are no UTF-8 appear as `\xNN`.
pub fn show(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || is_invisible_direction(character) {
                let _ = write!(shown, "{}", character.escape_unicode());
            } else {
                shown.push(character);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Characters that reorder the text around them without being seen.
fn is_invisible_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form_and_never_lead_upwards() {
        for (given, clean) in [("/", "/"), ("a", "/a"), ("//a/./b//", "/a/b"), ("/.", "/"), ("./a", "/a")] {
            assert_eq!(normalise(given.as_bytes()).ok(), Some(clean.as_bytes().to_vec()), "{given}");
        }
        for bad in ["", "..", "/a/../b", "a/..", "a\0b"] {
            assert!(normalise(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_is_its_parent_and_its_name() {
        assert_eq!(split(b"/a/b"), Some((&b"/a"[..], &b"b"[..])));
        assert_eq!(split(b"/a"), Some((&b"/"[..], &b"a"[..])));
        assert_eq!(split(b"/"), None);
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"/a", b"b"), b"/a/b");
    }

    #[test]
    fn names_cannot_drive_a_terminal() {
        assert_eq!(show("/Gesendete Objekte/Ä".as_bytes()), "/Gesendete Objekte/Ä");
        assert_eq!(show(b"/a\x1b[2Jb\n\xff"), "/a\\u{1b}[2Jb\\u{a}\\xff");
        assert_eq!(show("/a\u{202e}b".as_bytes()), "/a\\u{202e}b");
    }
}
