//! What IMAP says of the messages of a mailbox, for comparing.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::imap::{Imap, quoted};

/// What is said of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Without `\Recent`, sorted.
    pub flags: Vec<String>,
    /// As IMAP writes it, in UTC.
    pub date: String,
    /// The whole of it.
    pub bytes: Vec<u8>,
}

/// A mailbox by UID.
pub type Facts = BTreeMap<u32, Fact>;

/// Reads a mailbox over IMAP.
pub fn over_imap(imap: &mut Imap, mailbox: &str) -> Result<Facts> {
    imap.run(&format!("EXAMINE {}", quoted(mailbox)))?;
    let mut facts = Facts::new();
    for answer in imap.run("UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])")? {
        if !answer.is("FETCH") {
            continue;
        }
        let items = answer.tokens[2].list();
        let after = |name: &str| {
            let at = items.iter().position(|token| token.text().eq_ignore_ascii_case(name));
            at.and_then(|at| items.get(at + 1)).with_context(|| format!("no {name}"))
        };
        let mut flags: Vec<String> = after("FLAGS")?.list().iter().map(|flag| flag.text()).collect();
        flags.retain(|flag| flag != "\\Recent");
        flags.sort();
        let date = after("INTERNALDATE")?.text();
        let bytes = after("BODY[]")?.bytes().to_vec();
        facts.insert(after("UID")?.text().parse()?, Fact { flags, date, bytes });
    }
    imap.run("UNSELECT")?;
    Ok(facts)
}

/// Flags, dates and bytes without the UIDs, which are new wherever a message is put back.
pub fn contents(facts: &Facts) -> Vec<(Vec<String>, String, Vec<u8>)> {
    let mut all: Vec<_> =
        facts.values().map(|fact| (fact.flags.clone(), fact.date.clone(), fact.bytes.clone())).collect();
    all.sort();
    all
}
