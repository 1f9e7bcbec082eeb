//! What is searched for: terms that all have to fit, upper and lower case the same.

use crate::{Head, MailViewError, mime};

/// Terms that all have to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Each in sender or subject.
    words: Vec<String>,
    from: Vec<String>,
    to: Vec<String>,
    subject: Vec<String>,
    message_id: Vec<String>,
    text: Vec<String>,
    since: Option<i64>,
    before: Option<i64>,
}

impl Query {
    /// Reads terms as people type them; `day` tells when a day (`2024-05-01`) begins, seconds since 1970.
    ///
    /// # Errors
    /// A term that makes no sense, or none at all.
    pub fn parse(terms: &[String], day: &dyn Fn(&str) -> Option<i64>) -> Result<Query, MailViewError> {
        let mut query = Query::default();
        for term in terms {
            let wrong = |problem| MailViewError::Term { term: term.clone(), problem };
            let (key, value) =
                term.split_once(':').map_or(("", term.as_str()), |(key, value)| (key, value.trim()));
            let folded = || value.to_lowercase();
            let list = match key.to_ascii_lowercase().as_str() {
                "from" => &mut query.from,
                "to" => &mut query.to,
                "subject" => &mut query.subject,
                "text" => &mut query.text,
                "message-id" => {
                    query.message_id.push(mime::id(value).to_lowercase());
                    continue;
                }
                key @ ("since" | "before") => {
                    let time = day(value).ok_or_else(|| wrong("give a day as 2024-05-01"))?;
                    let bound = if key == "since" { &mut query.since } else { &mut query.before };
                    *bound = Some(time);
                    continue;
                }
                _ => {
                    if term.trim().is_empty() {
                        return Err(wrong("it is empty"));
                    }
                    query.words.push(term.trim().to_lowercase());
                    continue;
                }
            };
            if value.is_empty() {
                return Err(wrong("something has to follow the colon"));
            }
            list.push(folded());
        }
        if query == Query::default() {
            return Err(MailViewError::Term { term: String::new(), problem: "give at least one" });
        }
        Ok(query)
    }

    /// Whether a message of this INTERNALDATE can fit.
    pub fn fits_date(&self, internal_date: i64) -> bool {
        self.since.is_none_or(|since| internal_date >= since)
            && self.before.is_none_or(|before| internal_date < before)
    }

    /// Whether anything but the date is asked for.
    pub fn asks_for_header(&self) -> bool {
        let lists = [&self.words, &self.from, &self.to, &self.subject, &self.message_id];
        lists.iter().any(|list| !list.is_empty())
    }

    /// Whether the text of messages is asked for.
    pub fn asks_for_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// Whether a header fits.
    pub fn fits_head(&self, head: &Head) -> bool {
        let folded = |wanted: &[String], field: &str| {
            if wanted.is_empty() { String::new() } else { field.to_lowercase() }
        };
        let all = |wanted: &[String], field: &str| {
            let field = folded(wanted, field);
            wanted.iter().all(|word| field.contains(word.as_str()))
        };
        if !(all(&self.from, &head.from) && all(&self.subject, &head.subject) && all(&self.to, &head.to)) {
            return false;
        }
        if !self.message_id.iter().all(|id| head.message_id.to_lowercase() == *id) {
            return false;
        }
        let (from, subject) = (folded(&self.words, &head.from), folded(&self.words, &head.subject));
        self.words.iter().all(|word| from.contains(word.as_str()) || subject.contains(word.as_str()))
    }

    /// Whether the whole of a message fits in what is asked of its text.
    pub fn fits_text(&self, message: &[u8]) -> bool {
        if self.text.is_empty() {
            return true;
        }
        let text = mime::text_of(message).to_lowercase();
        self.text.iter().all(|word| text.contains(word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(terms: &[&str]) -> Result<Query, MailViewError> {
        let terms: Vec<String> = terms.iter().map(|term| (*term).to_owned()).collect();
        Query::parse(&terms, &|day| day.strip_prefix("day ")?.parse().ok())
    }

    #[test]
    fn all_terms_have_to_fit() {
        let head = Head {
            from: "Jörg Doe <j@x.org>".into(),
            to: "a@b.c".into(),
            subject: "Re: Größe: XL".into(),
            date: String::new(),
            message_id: "1@X".into(),
        };
        for (terms, fits) in [
            (&["from:jÖRG", "subject:grösse: xl"][..], false),
            (&["from:JÖRG", "subject:größe: xl"], true),
            (&["doe", "größe"], true),
            (&["doe", "a@b.c"], false),
            (&["to:A@B"], true),
            (&["message-id:<1@x>"], true),
            (&["message-id:1"], false),
            (&["re: größe"], true),
        ] {
            assert_eq!(query(terms).unwrap().fits_head(&head), fits, "{terms:?}");
        }
        let dated = query(&["since:day 5", "before:day 9"]).unwrap();
        assert_eq!([4, 5, 8, 9].map(|date| dated.fits_date(date)), [false, true, true, false]);
        assert!(!dated.asks_for_header() && !dated.asks_for_text());
        let text = query(&["text:GRÜN"]).unwrap();
        assert!(
            text.fits_text("Subject: x\r\n\r\nso grün\r\n".as_bytes()) && !text.fits_text(b"\r\nred\r\n")
        );
    }

    #[test]
    fn terms_that_make_no_sense_are_told() {
        for terms in [&["since:tomorrow"][..], &["from:"], &[" "], &[]] {
            assert!(matches!(query(terms), Err(MailViewError::Term { .. })), "{terms:?}");
        }
    }
}
