//! Finds the known key that an unknown one was probably meant to be.

/// More edits than this are another word.
const MOST_EDITS: usize = 3;

/// The candidate with the fewest edits, unless all are too far away to be a guess.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = MOST_EDITS.min(word.chars().count().div_ceil(2));
    candidates
        .map(|known| (edits(word, known), known))
        .filter(|(edits, _)| *edits <= most)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| known)
}

/// Levenshtein's distance, row by row; `_` and `-` are the same letter.
fn edits(a: &str, b: &str) -> usize {
    let letters =
        |text: &str| text.chars().take(64).map(|c| if c == '_' { '-' } else { c }).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let keys = ["state-dir", "name", "key-file"];
        for (word, known) in [
            ("state_dir", Some("state-dir")),
            ("stat-dir", Some("state-dir")),
            ("nam", Some("name")),
            ("x", None),
            ("password", None),
        ] {
            assert_eq!(nearest(word, keys.into_iter()), known, "{word}");
        }
    }
}
