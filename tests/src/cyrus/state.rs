//! Everything about a server that IMAP and ManageSieve can tell, as comparable facts. Two servers are
//! equal to their users when their facts are equal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::imap::{Imap, Token, Untagged, quoted};
use super::server::{ADMIN, Cyrus};

/// Differences shown before the rest is only counted.
const SHOWN: usize = 40;
/// Metadata entries that say something about the host or the moment, not about the mail.
const VOLATILE: [&str; 2] = ["freespace", "lastpop"];

/// The facts of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImapState {
    facts: BTreeMap<String, String>,
    messages: usize,
    mailboxes: usize,
}

impl ImapState {
    /// Reads everything from a running server on which nothing else happens meanwhile.
    pub fn capture(server: &Cyrus) -> Result<Self> {
        let mut me = Self::default();
        me.capture_admin(server).context("capture as administrator")?;
        let mut bodies = BTreeSet::new();
        for user in server.users() {
            me.capture_user(server, user, &mut bodies).with_context(|| format!("capture as {user}"))?;
            me.capture_sieve(server, user).with_context(|| format!("capture sieve scripts of {user}"))?;
        }
        Ok(me)
    }

    /// Messages seen, each counted once per folder.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Mailboxes that the administrator sees.
    pub fn mailboxes(&self) -> usize {
        self.mailboxes
    }

    /// Facts whose name contains `name` and whose value contains `value`: shows that a kind is there at all.
    pub fn count(&self, name: &str, value: &str) -> usize {
        self.facts.iter().filter(|(k, v)| k.contains(name) && v.contains(value)).count()
    }

    /// What differs, readable; `None` if nothing does.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let keys: BTreeSet<&String> = self.facts.keys().chain(other.facts.keys()).collect();
        let mut lines = Vec::new();
        let mut count = 0;
        for key in keys {
            let (left, right) = (self.facts.get(key), other.facts.get(key));
            if left == right {
                continue;
            }
            count += 1;
            if count <= SHOWN {
                let shown = |v: Option<&String>| {
                    v.map_or("(not there)".to_owned(), |v| v.chars().take(400).collect())
                };
                lines.push(format!("{key}\n    left:  {}\n    right: {}", shown(left), shown(right)));
            }
        }
        (count > 0).then(|| format!("{count} of {} facts differ:\n{}", self.facts.len(), lines.join("\n")))
    }

    fn note(&mut self, key: String, value: String) {
        self.facts.insert(key, value);
    }

    fn capture_admin(&mut self, server: &Cyrus) -> Result<()> {
        let mut admin = server.imap(ADMIN)?;
        for (name, attributes) in list(&mut admin, "LIST")? {
            self.note(format!("mailbox {name}"), attributes);
            self.mailboxes += 1;
            let box_name = quoted(&name);
            for (what, command) in [("acl", "GETACL"), ("quota", "GETQUOTAROOT")] {
                let answers = admin.run(&format!("{command} {box_name}")).map(|a| shown(&a));
                self.note(format!("{what} {name}"), answers.unwrap_or_else(|e| e.to_string()));
            }
            let answers =
                admin.run(&format!("GETMETADATA (DEPTH infinity) {box_name} (/private /shared)"))?;
            self.note_metadata(ADMIN, &answers);
        }
        Ok(())
    }

    fn capture_user(&mut self, server: &Cyrus, user: &str, bodies: &mut BTreeSet<String>) -> Result<()> {
        let mut imap = server.imap(user)?;
        for (name, attributes) in list(&mut imap, "LSUB")? {
            self.note(format!("{user} subscribes {name}"), attributes);
        }
        for (name, attributes) in list(&mut imap, "LIST")? {
            self.note(format!("{user} sees {name}"), attributes.clone());
            if attributes.to_ascii_lowercase().contains("noselect") {
                continue;
            }
            let absolute = match name.strip_prefix("INBOX") {
                Some(rest) => format!("user/{user}{rest}"),
                None => name.clone(),
            };
            let with_bodies = bodies.insert(absolute);
            self.capture_mailbox(&mut imap, user, &name, with_bodies).with_context(|| name.clone())?;
        }
        Ok(())
    }

    fn capture_mailbox(&mut self, imap: &mut Imap, user: &str, name: &str, bodies: bool) -> Result<()> {
        let answers = imap.run(&format!("EXAMINE {}", quoted(name)))?;
        let mut parts = Vec::new();
        for code in ["UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ", "MAILBOXID"] {
            let value = answers.iter().find_map(|a| a.code(code));
            parts.push(format!("{code}={}", value.map_or("?".into(), |v| v.to_string())));
        }
        let exists = answers.iter().find(|a| a.is("EXISTS")).map_or("0".into(), |a| a.tokens[0].text());
        let flags = answers.iter().find(|a| a.is("FLAGS")).and_then(|a| a.tokens.get(1)).map(sorted);
        parts.push(format!("EXISTS={exists} FLAGS={}", flags.unwrap_or_default()));
        self.note(format!("{user} {name}"), parts.join(" "));

        let metadata =
            imap.run(&format!("GETMETADATA (DEPTH infinity) {} (/private /shared)", quoted(name)))?;
        self.note_metadata(user, &metadata);
        if exists != "0" {
            let body = if bodies { " BODY.PEEK[]" } else { "" };
            let fetched =
                imap.run(&format!("UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE MODSEQ{body})"))?;
            self.messages += if bodies { self.note_messages(user, name, "", &fetched)? } else { 0 };
            if !bodies {
                self.note_messages(user, name, "", &fetched)?;
            }
            let notes = imap.run("UID FETCH 1:* (ANNOTATION (/* (value.priv value.shared)))")?;
            self.note_messages(user, name, " annotations", &notes)?;
        }
        Ok(())
    }

    fn note_messages(&mut self, user: &str, name: &str, what: &str, answers: &[Untagged]) -> Result<usize> {
        let mut count = 0;
        for answer in answers.iter().filter(|a| a.is("FETCH")) {
            let items = answer.tokens.get(2).context("FETCH answer without items")?.list();
            let mut uid = String::new();
            let mut parts = Vec::new();
            for pair in items.chunks(2) {
                let [key, value] = pair else { continue };
                match key.text().as_str() {
                    "UID" => uid = value.text(),
                    "FLAGS" => parts.push(format!("flags={}", sorted(value))),
                    "BODY[]" => parts.push(format!(
                        "body={} bytes {}",
                        value.bytes().len(),
                        blake3::hash(value.bytes()).to_hex()
                    )),
                    other => parts.push(format!("{other}={}", value.shown())),
                }
            }
            parts.sort();
            self.note(format!("{user} {name} uid {uid}{what}"), parts.join(" "));
            count += 1;
        }
        Ok(count)
    }

    fn note_metadata(&mut self, user: &str, answers: &[Untagged]) {
        for answer in answers.iter().filter(|a| a.is("METADATA")) {
            let [_, mailbox, entries] = &answer.tokens[..] else { continue };
            for pair in entries.list().chunks(2) {
                let [entry, value] = pair else { continue };
                let entry = entry.text();
                let unset = value == &Token::Atom(b"NIL".to_vec());
                if !unset && !VOLATILE.iter().any(|v| entry.ends_with(v)) {
                    self.note(format!("metadata of {} for {user}: {entry}", mailbox.text()), value.shown());
                }
            }
        }
    }

    fn capture_sieve(&mut self, server: &Cyrus, user: &str) -> Result<()> {
        let mut sieve = server.sieve(user)?;
        for (name, active) in sieve.list()? {
            let text = sieve.get(&name)?;
            let state = if active { "active" } else { "inactive" };
            self.note(format!("sieve script {name} of {user}"), format!("{state}: {text}"));
        }
        Ok(())
    }
}

/// Starts a Cyrus on each of two copies of the files of `server`, the first taken while it was stopped, and sees that they
/// are equal to their users. Gives the restored one; both are gone when they are dropped.
///
/// # Errors
/// They differ; the text says where.
pub fn imap_is_equal(truth: &Path, restored: &Path, server: &Cyrus) -> Result<Cyrus> {
    let truth = Cyrus::adopt(truth, server.root(), server.users())?;
    let restored = Cyrus::adopt(restored, server.root(), server.users())?;
    truth.start().context("start the truth")?;
    restored.start().context("start the restored server")?;
    let (left, right) = (ImapState::capture(&truth)?, ImapState::capture(&restored)?);
    ensure!(left.messages() > 0, "the truth holds no mail: {} mailboxes", left.mailboxes());
    match left.difference(&right) {
        Some(difference) => {
            bail!("the window (left) and the restored server (right) differ over IMAP: {difference}")
        }
        None => Ok(restored),
    }
}

/// Names and attributes of LIST or LSUB.
fn list(imap: &mut Imap, command: &str) -> Result<Vec<(String, String)>> {
    let answers = imap.run(&format!("{command} \"\" \"*\""))?;
    let rows = answers.iter().filter(|a| a.is(command)).filter_map(|a| match &a.tokens[..] {
        [_, attributes, _, name] => Some((name.text(), sorted(attributes))),
        _ => None,
    });
    Ok(rows.collect())
}

/// A flag list in a fixed order, without `\Recent`, which depends on who looked last.
fn sorted(list: &Token) -> String {
    let mut flags: Vec<String> = list.list().iter().map(Token::text).filter(|f| f != "\\Recent").collect();
    flags.sort();
    format!("({})", flags.join(" "))
}

fn shown(answers: &[Untagged]) -> String {
    let lines = answers.iter().map(|a| a.tokens.iter().map(Token::shown).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("; ")
}
