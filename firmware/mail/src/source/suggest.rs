//! Finds the known word that an unknown one was probably meant to be.

use crate::limits::SUGGESTION_EDITS;

/// The candidate with the smallest edit distance to `word`, or `None` if all are too far away to be a guess.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = normal(word);
    // A short word is only like another short word: half of its letters at most may differ.
    let most = SUGGESTION_EDITS.min(word.len().div_ceil(2));
    candidates
        .into_iter()
        .map(|known| (distance(&word, &normal(known)), known))
        .filter(|(edits, _)| *edits <= most)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, known)| known)
}

/// `outage_budget` and `Outage-Budget` are `outage-budget` to a human reader.
fn normal(word: &str) -> Vec<char> {
    word.chars().take(64).flat_map(char::to_lowercase).map(|c| if c == '_' { '-' } else { c }).collect()
}

/// Optimal string alignment: insert, delete, replace, or swap two neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut cells = vec![0usize; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let at = |row: usize, column: usize| cells[row * width + column];
            let edits = if i == 0 {
                j
            } else if j == 0 {
                i
            } else {
                let replaced = at(i - 1, j - 1) + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(at(i - 1, j) + 1).min(at(i, j - 1) + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(at(i - 2, j - 2) + 1);
                }
                least
            };
            cells[i * width + j] = edits;
        }
    }
    cells[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_key() {
        let known = ["outage-budget", "name", "system", "stop", "start"];
        assert_eq!(nearest("outage_budget", known), Some("outage-budget"));
        assert_eq!(nearest("outage-bugdet", known), Some("outage-budget"));
        assert_eq!(nearest("sytsem", known), Some("system"));
        assert_eq!(nearest("stpo", known), Some("stop"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn swapped_neighbours_are_one_edit() {
        let letters = |s: &str| s.chars().collect::<Vec<_>>();
        assert_eq!(distance(&letters("ab"), &letters("ba")), 1);
        assert_eq!(distance(&letters("kitten"), &letters("sitting")), 3);
    }
}
