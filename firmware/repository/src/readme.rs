//! The text that lies as README.txt on every disk, for a person who has nothing else. What is set in by five spaces in it is
//! typed literally by a test (`tests/tests/bare_machine.rs`), so that it stays true.

use mailkeep_format::RepositoryId;

/// The text for people, which lies as README.txt in the repository's folder.
pub(crate) fn readme(id: &RepositoryId, label: &str, encrypted: bool) -> String {
    // A label is anything; a line of it must not look like one of ours.
    let label: String =
        label.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(60).collect();
    let (key, typed) = match encrypted {
        true => (
            "its recovery key on paper",
            "TYPE THE KEY as on the paper (in groups or not), Enter, then Ctrl and D.",
        ),
        false => ("no key (not encrypted)", "THERE IS NO KEY: press only Ctrl and D."),
    };
    include_str!("README.txt")
        .replace("@REPOSITORY@", &id.hex())
        .replace("@KEY@", key)
        .replace("@TYPE@", typed)
        .replace("@LABEL@", &label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_short_plain_and_whole() {
        for (label, encrypted) in [("disk \"A\" \u{1b}[31m\nDO\u{e4}", true), (&"x".repeat(500), false)] {
            let text = readme(&RepositoryId([0xab; 16]), label, encrypted);
            assert!(text.lines().count() <= 60, "{} lines", text.lines().count());
            assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
            let long = text.lines().find(|line| line.len() > 79);
            assert_eq!(long, None);
            assert!(text.contains(&"ab".repeat(16)) && !text.contains('@'), "{text}");
        }
    }
}
