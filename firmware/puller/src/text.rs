//! Words of strangers made fit for a terminal, a log and a manifest.

use mailkeep_link::message::ToBox;

use crate::limits::TEXT_MAX;

/// One line of bounded length without control characters.
pub(crate) fn line(text: &str) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(TEXT_MAX + 1)
        .collect();
    if line.chars().count() > TEXT_MAX {
        line.pop();
        line.push('…');
    }
    line
}

/// A path as text; paths may be long, so it is the front that is left out.
pub(crate) fn path(bytes: &[u8]) -> String {
    let text: Vec<char> = String::from_utf8_lossy(bytes)
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect();
    if text.len() <= 2 * TEXT_MAX {
        return text.into_iter().collect();
    }
    std::iter::once('…').chain(text[text.len() - 2 * TEXT_MAX..].iter().copied()).collect()
}

/// Name of a message, for errors.
pub(crate) fn name_of(message: &ToBox) -> &'static str {
    match message {
        ToBox::Hello(_) => "Hello",
        ToBox::Configured(_) => "Configured",
        ToBox::PassBegun(_) => "PassBegun",
        ToBox::Entries(_) => "Entries",
        ToBox::Chunks(_) => "Chunks",
        ToBox::Data(_) => "Data",
        ToBox::FileDone(_) => "FileDone",
        ToBox::PassEnded(_) => "PassEnded",
        ToBox::Quiesced(_) => "Quiesced",
        ToBox::Rechecked(_) => "Rechecked",
        ToBox::Resumed(_) => "Resumed",
        ToBox::Problem(_) => "Problem",
        ToBox::Failed(_) => "Failed",
        ToBox::Unchanged(_) => "Unchanged",
        ToBox::Amended(_) => "Amended",
        ToBox::Prepared(_) => "Prepared",
        ToBox::Frozen(_) => "Frozen",
        ToBox::Alive => "Alive",
        ToBox::Trees(_) => "Trees",
        ToBox::Held(_) => "Held",
        ToBox::Took(_) => "Took",
        ToBox::Raised(_) => "Raised",
        ToBox::Swapped(_) => "Swapped",
        ToBox::Done(_) => "Done",
        ToBox::Listed(_) => "Listed",
        ToBox::Looked(_) => "Looked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_becomes_one_short_line() {
        assert_eq!(line(" a\nb\x1b[2J "), "a b [2J");
        assert_eq!(line(&"x".repeat(10_000)).chars().count(), TEXT_MAX + 1);
        assert!(line(&"x".repeat(10_000)).ends_with('…'));
        assert_eq!(path(b"/a\n\xff"), "/a?\u{fffd}");
        assert!(path("/ä".repeat(5_000).as_bytes()).starts_with('…'));
    }
}
