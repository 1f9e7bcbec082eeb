//! Edits the text of an authorized_keys file (sshd(8)): our line in, our line out, every other byte as it was. Pure.

/// The options that make a key good for one program only. `restrict` is everything that sshd can forbid, also what
/// later versions of it will know (OpenSSH 7.2 and newer).
pub fn line(kind: &str, blob: &str, command: &str, comment: &str) -> String {
    // Inside the quotes only a quote itself is special.
    let command = command.replace('"', "\\\"");
    format!("restrict,command=\"{command}\" {kind} {blob} {comment}")
}

/// The file with `line` at its end and nothing else of the key `blob`.
pub fn with(text: &[u8], blob: &str, line: &str) -> Vec<u8> {
    let mut edited = without(text, blob);
    if edited.last().is_some_and(|last| *last != b'\n') {
        edited.push(b'\n');
    }
    edited.extend_from_slice(line.as_bytes());
    edited.push(b'\n');
    edited
}

/// The file without the lines of the key `blob`.
pub fn without(text: &[u8], blob: &str) -> Vec<u8> {
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| !has(line, blob)).flatten().copied().collect()
}

/// The lines of the key `blob`.
pub fn lines_of(text: &[u8], blob: &str) -> Vec<u8> {
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| has(line, blob)).flatten().copied().collect()
}

/// The file with these lines of the key `blob`, which it had before, and no other of that key.
pub fn as_before(text: &[u8], blob: &str, lines: &[u8]) -> Vec<u8> {
    let mut edited = without(text, blob);
    if !lines.is_empty() && edited.last().is_some_and(|last| *last != b'\n') {
        edited.push(b'\n');
    }
    edited.extend_from_slice(lines);
    edited
}

/// The file without the lines of any of these keys.
pub fn without_all(text: &[u8], blobs: &[String]) -> Vec<u8> {
    blobs.iter().fold(text.to_owned(), |text, blob| without(&text, blob))
}

/// Whether a line of some key calls `program`: another box uses the agent as well.
pub fn calls(text: &[u8], program: &str) -> bool {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii_start().starts_with(b"#"))
        .any(|line| line.windows(program.len()).any(|part| part == program.as_bytes()))
}

fn has(line: &[u8], blob: &str) -> bool {
    let commented = line.trim_ascii_start().starts_with(b"#");
    !commented && line.split(u8::is_ascii_whitespace).any(|word| word == blob.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOB: &str = "AAAAC3NzaC1lZDI1NTE5";

    #[test]
    fn the_line_forbids_all_and_forces_the_agent() {
        let line = line("ssh-ed25519", BLOB, "'/opt/a \"b\"/agent' serve", "mailkeep mail1");
        assert_eq!(
            line,
            format!("restrict,command=\"'/opt/a \\\"b\\\"/agent' serve\" ssh-ed25519 {BLOB} mailkeep mail1")
        );
    }

    #[test]
    fn a_comment_that_mentions_the_key_stays() {
        let text = format!("# was {BLOB} once\nssh-rsa AAAA x\n");
        assert_eq!(without(text.as_bytes(), BLOB), text.as_bytes());
        assert!(!calls(b"# /a/agent serve\n", "/a/agent"));
        assert!(calls(b"restrict,command=\"/a/agent serve\" ssh-rsa A\n", "/a/agent"));
    }

    proptest! {
        /// In and out again leaves every line as it was, whatever the file holds; only a missing last newline comes to be.
        #[test]
        fn other_lines_are_never_touched(mut text in "([ -~]{0,40}\n){0,6}[ -~]{0,40}") {
            text = text.replace(BLOB, "");
            let line = line("ssh-ed25519", BLOB, "agent serve", "c");
            let once = with(text.as_bytes(), BLOB, &line);
            prop_assert_eq!(with(&once, BLOB, &line), once.clone());
            let back = without(&once, BLOB);
            let mut whole = text.clone().into_bytes();
            if whole.last().is_some_and(|last| *last != b'\n') {
                whole.push(b'\n');
            }
            prop_assert_eq!(&back, &whole);
            // Renewed and taken back, the key has the line that it had.
            let renewed = with(&once, BLOB, &line.replace("serve", "serve --role backup"));
            prop_assert_eq!(as_before(&renewed, BLOB, &lines_of(&once, BLOB)), once);
            prop_assert_eq!(as_before(&renewed, BLOB, b""), whole);
        }
    }
}
