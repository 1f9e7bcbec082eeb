//! Decodes cyrus.header, in both styles: one list `%(T e N name I id Q root A %(…) U (…))` since 3.6, and three
//! lines before (quota root TAB unique id; keywords; rights). After `mailbox_read_header` in Cyrus' sources.

use super::mailbox_list::{MailboxName, UniqueId};
use crate::error::MailError;
use crate::limits::CYRUS_HEADER_BYTES;

const MAGIC: &[u8] = b"\xa1\x02\x8b\x0dCyrus mailbox header\n\"The best thing about this system was that it had lots of goals.\"\n\t--Jim Morris on Andrew\n";
/// Lists in lists that a header may have; a real one has two levels.
const DEPTH: usize = 8;

/// A decoded cyrus.header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CyrusHeader {
    /// The mailbox's internal name; written since 3.6.
    pub name: Option<MailboxName>,
    /// The mailbox's unique id; missing only in headers of 2.1 and before.
    pub unique_id: Option<UniqueId>,
    /// Letters of the mailbox's type, as in the exported list; written since 3.6.
    pub mailbox_type: Option<String>,
    /// The mailbox whose quota counts here.
    pub quota_root: Option<String>,
    /// Keywords by their number; a removed one leaves its number empty.
    pub keywords: Vec<Option<String>>,
    /// Identifiers with their rights.
    pub acl: Vec<(String, String)>,
}

impl CyrusHeader {
    /// Decodes the bytes of the whole file.
    pub fn parse(bytes: &[u8]) -> Result<CyrusHeader, MailError> {
        if bytes.len() > CYRUS_HEADER_BYTES {
            return Err(damaged(0, "the file is too large"));
        }
        let Some(body) = bytes.strip_prefix(MAGIC) else {
            return Err(damaged(0, "it does not begin as a mailbox header does"));
        };
        if body.starts_with(b"%") { from_list(body) } else { from_lines(body) }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn some_text(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| text(bytes))
}

fn from_lines(body: &[u8]) -> Result<CyrusHeader, MailError> {
    let mut lines = body.split(|byte| *byte == b'\n');
    let cut = || damaged(MAGIC.len() + body.len(), "the file ends too early");
    // The last piece has no line end, so a real line is one that another piece follows.
    if body.iter().filter(|byte| **byte == b'\n').count() < 3 {
        return Err(cut());
    }
    let (first, flags, rights) = match (lines.next(), lines.next(), lines.next()) {
        (Some(first), Some(flags), Some(rights)) => (first, flags, rights),
        _ => return Err(cut()),
    };
    let mut quota_and_id = first.split(|byte| *byte == b'\t');
    let quota_root = quota_and_id.next().and_then(some_text);
    let unique_id = quota_and_id.next().and_then(some_text).map(UniqueId::new);
    let keywords = flags.split(|byte| *byte == b' ').map(some_text);
    let mut acl = Vec::new();
    let mut words = rights.split(|byte| *byte == b'\t');
    while let (Some(who), Some(what)) = (words.next(), words.next()) {
        acl.push((text(who), text(what)));
    }
    Ok(CyrusHeader {
        quota_root,
        unique_id,
        keywords: without_trailing_none(keywords.collect()),
        acl,
        ..CyrusHeader::default()
    })
}

fn without_trailing_none(mut keywords: Vec<Option<String>>) -> Vec<Option<String>> {
    while keywords.last().is_some_and(Option::is_none) {
        keywords.pop();
    }
    keywords
}

fn from_list(body: &[u8]) -> Result<CyrusHeader, MailError> {
    let mut reader = Reader { body, at: 0 };
    let Item::Pairs(pairs) = reader.item(0)? else {
        return Err(reader.damaged("a list of pairs belongs here"));
    };
    let mut header = CyrusHeader::default();
    for (key, item) in pairs {
        match (key.as_str(), item) {
            ("T", Item::Text(letters)) => header.mailbox_type = Some(letters),
            ("N", Item::Text(name)) => header.name = Some(MailboxName::new(name)),
            ("I", Item::Text(id)) => header.unique_id = Some(UniqueId::new(id)),
            ("Q", Item::Text(root)) => header.quota_root = Some(root),
            ("A", Item::Pairs(rights)) => {
                header.acl = rights
                    .into_iter()
                    .filter_map(|(who, what)| match what {
                        Item::Text(rights) => Some((who, rights)),
                        _ => None,
                    })
                    .collect();
            }
            ("U", Item::List(flags)) => {
                let keyword = |item| match item {
                    Item::Text(name) => Some(name),
                    _ => None,
                };
                header.keywords = without_trailing_none(flags.into_iter().map(keyword).collect());
            }
            // Later versions add keys (J, the JMAP id, is one); what is not known is not needed.
            _ => {}
        }
    }
    Ok(header)
}

enum Item {
    Nil,
    Text(String),
    List(Vec<Item>),
    Pairs(Vec<(String, Item)>),
}

/// Reads Cyrus' list syntax (lib/dlist.c): atoms, "quoted" strings, {n+} literals, (lists) and %(pairs).
struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn damaged(&self, problem: &str) -> MailError {
        damaged(MAGIC.len() + self.at, problem)
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn item(&mut self, depth: usize) -> Result<Item, MailError> {
        if depth > DEPTH {
            return Err(self.damaged("lists are nested too deeply"));
        }
        match (self.peek(), self.body.get(self.at + 1)) {
            (Some(b'%'), Some(b'(')) => {
                self.at += 2;
                let mut pairs = Vec::new();
                while !self.at_end_of_list()? {
                    let key = self.word()?.ok_or_else(|| self.damaged("a key belongs here"))?;
                    self.skip_blanks();
                    pairs.push((key, self.item(depth + 1)?));
                }
                Ok(Item::Pairs(pairs))
            }
            (Some(b'('), _) => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.at_end_of_list()? {
                    items.push(self.item(depth + 1)?);
                }
                Ok(Item::List(items))
            }
            _ => Ok(self.word()?.map_or(Item::Nil, Item::Text)),
        }
    }

    /// Steps over blanks, and over the closing bracket if it comes next.
    fn at_end_of_list(&mut self) -> Result<bool, MailError> {
        self.skip_blanks();
        match self.peek() {
            Some(b')') => {
                self.at += 1;
                Ok(true)
            }
            Some(b'\n') | None => Err(self.damaged("a list is not closed")),
            Some(_) => Ok(false),
        }
    }

    /// An atom, a quoted string or a literal; `None` for the atom NIL.
    fn word(&mut self) -> Result<Option<String>, MailError> {
        match self.peek() {
            Some(b'"') => self.quoted().map(Some),
            Some(b'{') => self.literal().map(Some),
            _ => {
                let rest = &self.body[self.at..];
                let end = rest
                    .iter()
                    .position(|b| matches!(b, b' ' | b'(' | b')' | b'\n' | b'"'))
                    .unwrap_or(rest.len());
                if end == 0 {
                    return Err(self.damaged("a word belongs here"));
                }
                self.at += end;
                Ok(if rest[..end].eq_ignore_ascii_case(b"NIL") { None } else { Some(text(&rest[..end])) })
            }
        }
    }

    fn quoted(&mut self) -> Result<String, MailError> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text(&bytes));
                }
                Some(b'\\') if self.at + 1 < self.body.len() => {
                    bytes.push(self.body[self.at + 1]);
                    self.at += 2;
                }
                Some(byte) => {
                    bytes.push(byte);
                    self.at += 1;
                }
                None => return Err(self.damaged("a quoted string is not closed")),
            }
        }
    }

    fn literal(&mut self) -> Result<String, MailError> {
        let wrong = self.damaged("a literal is cut or has no length");
        let rest = &self.body[self.at..];
        let Some(close) = rest.iter().take(24).position(|byte| *byte == b'}') else { return Err(wrong) };
        let digits = rest[1..close].strip_suffix(b"+").unwrap_or(&rest[1..close]);
        let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<usize>().ok());
        let after = &rest[close + 1..];
        let line_end = if after.starts_with(b"\r\n") { 2 } else { 1 };
        let bytes = length.and_then(|length| after.get(line_end..)?.get(..length));
        let Some(bytes) = bytes else { return Err(wrong) };
        self.at += close + 1 + line_end + bytes.len();
        Ok(text(bytes))
    }
}

fn damaged(offset: usize, problem: &str) -> MailError {
    MailError::Damaged { what: "cyrus.header", offset, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8]) -> Result<CyrusHeader, MailError> {
        CyrusHeader::parse(&[MAGIC, body].concat())
    }

    #[test]
    fn the_list_of_3_6() {
        let header = parse(
            b"%(T e N \"user.john.Ab \\\"cd\" I p4ya8khoveyv Q user.john A %(john lrswi \"a b\" lr) U (Work NIL $Junk NIL) Z (1 (2)))\n",
        )
        .unwrap();
        assert_eq!(header.name.unwrap().as_str(), "user.john.Ab \"cd");
        assert_eq!(header.unique_id.unwrap().as_str(), "p4ya8khoveyv");
        assert_eq!(header.mailbox_type.as_deref(), Some("e"));
        assert_eq!(header.quota_root.as_deref(), Some("user.john"));
        assert_eq!(header.keywords, [Some("Work".into()), None, Some("$Junk".into())]);
        assert_eq!(header.acl, [("john".into(), "lrswi".into()), ("a b".into(), "lr".into())]);
        let literal = parse(b"%(N {5+}\r\na)\n\"b I x)\n").unwrap();
        assert_eq!(literal.name.unwrap().as_str(), "a)\n\"b");
    }

    #[test]
    fn the_three_lines_before() {
        let header = parse(b"user.john\t2f8a4c15\nWork  $Junk\njohn\tlrswipcda\tanyone\tlr\t\n").unwrap();
        assert_eq!(header.quota_root.as_deref(), Some("user.john"));
        assert_eq!(header.unique_id.unwrap().as_str(), "2f8a4c15");
        assert_eq!(header.keywords, [Some("Work".into()), None, Some("$Junk".into())]);
        assert_eq!(header.acl, [("john".into(), "lrswipcda".into()), ("anyone".into(), "lr".into())]);
        let bare = parse(b"\t2f8a4c15\n\n\n").unwrap();
        assert_eq!((bare.quota_root, bare.keywords.len(), bare.acl.len()), (None, 0, 0));
        assert_eq!(parse(b"user.john\n\n\n").unwrap().unique_id, None, "2.1 had no unique id");
    }

    #[test]
    fn cut_and_foreign_files_are_refused() {
        for body in [
            &b"%(T e"[..],
            b"%(T e N",
            b"%(T e N \"x",
            b"%(N {99+}\r\nx)\n",
            b"%(N {x}\r\nx)\n",
            b"%x",
            b"%(()())",
            b"a\tb\nc\n",
            b"",
        ] {
            assert!(parse(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        assert!(CyrusHeader::parse(b"\xa1\x02\x8b\x0dtwoskip file").is_err());
        assert!(parse(&[b"%(N ".as_slice(), &b"(".repeat(10_000)].concat()).is_err(), "depth is bounded");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = parse(&body);
            let _ = parse(&[b"%(".as_slice(), &body].concat());
        }

        #[test]
        fn no_list_like_text_makes_it_panic(body in "%\\([ ()%\"{}0-9+\\\\NILa\r\n]{0,80}") {
            let _ = parse(body.as_bytes());
        }
    }
}
