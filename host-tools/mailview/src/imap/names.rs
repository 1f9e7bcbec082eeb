//! Where mailboxes of a snapshot are on a server, as whoever is logged in sees it (RFC 2342), and how their names are
//! written there.

use mailkeep_mail::cyrus::utf7;

use super::client::Client;
use super::error::ImapError;
use crate::Mailbox;

/// A folder on the server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Folder {
    /// As people read it, levels parted by `/`.
    pub shown: String,
    /// As the server writes it.
    pub(super) name: String,
}

/// What stands before the names of one's own folders, those of others, and those of nobody; as the server writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    own: String,
    others: String,
    shared: String,
    delimiter: char,
    /// Who we are to the server.
    user: String,
}

impl Names {
    /// Asks the server.
    ///
    /// # Errors
    /// The server is not there any more.
    pub fn of(client: &mut Client) -> Result<Names, ImapError> {
        let user = client.user().to_owned();
        let mut names = Names {
            own: "INBOX/".into(),
            others: "user/".into(),
            shared: String::new(),
            delimiter: '/',
            user,
        };
        if client.can("NAMESPACE") {
            client.run("NAMESPACE", "tell its namespaces", &mut |answer| {
                if let Some(rest) = answer.strip_prefix(b"* NAMESPACE ") {
                    names.learn(&String::from_utf8_lossy(rest));
                }
                Ok(())
            })?;
        } else {
            let mut delimiter = names.delimiter;
            client.run("LIST \"\" \"\"", "name its delimiter", &mut |answer| {
                // * LIST (\Noselect) "/" ""
                let text = String::from_utf8_lossy(answer).into_owned();
                if let Some(quoted) = text.split(") \"").nth(1) {
                    delimiter = quoted.trim_start_matches('\\').chars().next().unwrap_or(delimiter);
                }
                Ok(())
            })?;
            names.delimiter = delimiter;
            names.own = format!("INBOX{delimiter}");
            names.others = format!("user{delimiter}");
        }
        Ok(names)
    }

    /// `(("INBOX/" "/")) (("user/" "/")) NIL`: the first of each.
    fn learn(&mut self, text: &str) {
        let (mut depth, mut group) = (0usize, 0usize);
        let mut found: [Vec<String>; 3] = Default::default();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '(' => depth += 1,
                ')' => {
                    depth = depth.saturating_sub(1);
                    group += usize::from(depth == 0);
                }
                'N' | 'n' if depth == 0 => {
                    group += 1;
                    let _ = (letters.next(), letters.next());
                }
                '"' => {
                    let mut word = String::new();
                    while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
                        word.push(if letter == '\\' { letters.next().unwrap_or(letter) } else { letter });
                    }
                    if let Some(words) = found.get_mut(group) {
                        words.push(word);
                    }
                }
                _ => {}
            }
        }
        let [own, others, shared] = found;
        if let Some(delimiter) = own.get(1).and_then(|word| word.chars().next()) {
            self.delimiter = delimiter;
        }
        let first = |words: Vec<String>, otherwise: String| words.into_iter().next().unwrap_or(otherwise);
        self.own = first(own, String::new());
        self.others = first(others, format!("user{}", self.delimiter));
        self.shared = first(shared, String::new());
    }

    /// A folder as the user names it, levels parted by `/`.
    pub fn named(&self, name: &str) -> Folder {
        let levels: Vec<&str> = name.split('/').filter(|level| !level.is_empty()).collect();
        Folder { shown: levels.join("/"), name: self.joined("", &levels) }
    }

    /// A folder among the user's own, `Restored/…`.
    pub fn own(&self, levels: &[&str]) -> Folder {
        self.below(&self.own, levels)
    }

    /// The mailbox of the same name.
    pub fn same(&self, mailbox: &Mailbox) -> Folder {
        let (owner, levels) = parted(mailbox);
        let levels: Vec<&str> = levels.iter().map(String::as_str).collect();
        match owner {
            Some(owner) if self.is_me(&owner) => match levels[..] {
                [] => Folder { shown: "INBOX".into(), name: "INBOX".into() },
                _ => self.below(&self.own, &levels),
            },
            Some(owner) => {
                let mut all = vec![owner.as_str()];
                all.extend(levels);
                self.below(&self.others, &all)
            }
            None => self.below(&self.shared, &levels),
        }
    }

    /// The levels of a mailbox' name for a place below which it is put: those that its owner sees, others' with their
    /// owner before.
    pub fn levels(&self, mailbox: &Mailbox) -> Vec<String> {
        let (owner, mut levels) = parted(mailbox);
        match owner {
            Some(owner) if !self.is_me(&owner) => {
                levels.splice(0..0, ["user".to_owned(), owner]).for_each(drop)
            }
            Some(_) if levels.is_empty() => levels.push("INBOX".to_owned()),
            _ => {}
        }
        levels
    }

    /// Whether a mailbox is the user's own: then the `\Seen` of its index is the user's.
    pub fn is_own(&self, mailbox: &Mailbox) -> bool {
        parted(mailbox).0.is_some_and(|owner| self.is_me(&owner))
    }

    /// Who we are to the server.
    pub fn user(&self) -> &str {
        &self.user
    }

    fn is_me(&self, owner: &str) -> bool {
        let bare = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
        // A login may leave out the default domain, but a domain that is said is meant.
        owner == self.user
            || (!(owner.contains('@') && self.user.contains('@')) && bare(owner) == bare(&self.user))
    }

    fn below(&self, prefix: &str, levels: &[&str]) -> Folder {
        let before = prefix.trim_end_matches(self.delimiter);
        let decoded: Vec<String> = before
            .split(self.delimiter)
            .filter(|level| !level.is_empty())
            .map(utf7::decode)
            .chain(levels.iter().map(|level| (*level).to_owned()))
            .collect();
        Folder { shown: decoded.join("/"), name: self.joined(prefix, levels) }
    }

    fn joined(&self, prefix: &str, levels: &[&str]) -> String {
        // A level cannot hold what parts levels.
        let encoded = |level: &&str| utf7::encode(&level.replace(self.delimiter, "_"));
        let levels: Vec<String> = levels.iter().map(encoded).collect();
        format!("{prefix}{}", levels.join(self.delimiter.encode_utf8(&mut [0; 4])))
    }
}

/// Whose a mailbox is (with the domain, where there is one), and the levels below.
fn parted(mailbox: &Mailbox) -> (Option<String>, Vec<String>) {
    let (domain, rest) = mailbox.name.domain_and_rest();
    let mut levels: Vec<String> =
        rest.split('.').map(|level| utf7::decode(&level.replace('^', "."))).collect();
    if levels.len() < 2 || levels.first().is_none_or(|first| first != "user") {
        return (None, levels);
    }
    let owner = levels.drain(..2).nth(1).unwrap_or_default();
    (Some(domain.map_or(owner.clone(), |domain| format!("{owner}@{domain}"))), levels)
}

impl Mailbox {
    /// The user to whom it belongs, as he logs in; `None` if it belongs to nobody.
    pub fn owner(&self) -> Option<String> {
        parted(self).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailkeep_mail::cyrus::mailbox_list::MailboxName;

    fn names(user: &str, said: &str) -> Names {
        let mut names = Names {
            own: String::new(),
            others: String::new(),
            shared: String::new(),
            delimiter: '?',
            user: user.into(),
        };
        names.learn(said);
        names
    }

    fn mailbox(internal: &str) -> Mailbox {
        Mailbox {
            name: MailboxName::new(internal),
            shown: internal.to_owned(),
            unique_id: None,
            is_mail: true,
            is_listed: true,
            keywords: Vec::new(),
            acl: Vec::new(),
            header_folder: Vec::new(),
            index_folder: Vec::new(),
            folders: Vec::new(),
        }
    }

    #[test]
    fn a_mailbox_is_where_the_user_sees_it() {
        let plain = "((\"INBOX/\" \"/\")) ((\"user/\" \"/\")) ((\"\" \"/\"))\r\n";
        let other = "((\"\" \".\")) ((\"Other Users.\" \".\")) ((\"Shared.\" \".\")(\"x\" \".\"))\r\n";
        for (said, user, internal, shown, name) in [
            (plain, "alice", "user.alice", "INBOX", "INBOX"),
            (plain, "alice", "user.alice.Work.a^b", "INBOX/Work/a.b", "INBOX/Work/a.b"),
            (plain, "alice", "user.alice.Entw&APw-rfe", "INBOX/Entwürfe", "INBOX/Entw&APw-rfe"),
            (plain, "cyrus", "user.alice.Work", "user/alice/Work", "user/alice/Work"),
            (plain, "alice", "shared.all", "shared/all", "shared/all"),
            (plain, "alice@x.org", "x.org!user.alice.Work", "INBOX/Work", "INBOX/Work"),
            (plain, "alice@y.org", "x.org!user.alice.W", "user/alice@x.org/W", "user/alice@x.org/W"),
            (other, "alice", "user.alice.Work", "Work", "Work"),
            (other, "alice", "user.bob.Work", "Other Users/bob/Work", "Other Users.bob.Work"),
            (other, "alice", "list", "Shared/list", "Shared.list"),
            (other, "alice", "user.alice.a^b", "a.b", "a_b"),
        ] {
            let folder = names(user, said).same(&mailbox(internal));
            assert_eq!((folder.shown.as_str(), folder.name.as_str()), (shown, name), "{internal} for {user}");
        }
    }

    #[test]
    fn what_is_put_aside_keeps_its_levels() {
        let plain = names("alice", "((\"INBOX/\" \"/\")) NIL NIL\r\n");
        assert_eq!(plain.levels(&mailbox("user.alice")), ["INBOX"]);
        assert_eq!(plain.levels(&mailbox("user.alice.a.b")), ["a", "b"]);
        assert_eq!(plain.levels(&mailbox("user.bob.a")), ["user", "bob", "a"]);
        assert_eq!(plain.levels(&mailbox("shared.all")), ["shared", "all"]);
        let folder = plain.own(&["Restored", "2026-11-23", "Müll"]);
        assert_eq!(folder.shown, "INBOX/Restored/2026-11-23/Müll");
        assert_eq!(folder.name, "INBOX/Restored/2026-11-23/M&APw-ll");
        assert_eq!((plain.others.as_str(), plain.shared.as_str()), ("user/", ""));
        assert!(plain.is_own(&mailbox("user.alice.a")) && !plain.is_own(&mailbox("user.bob")));
    }

    #[test]
    fn nonsense_is_lived_with() {
        for said in ["", "((((", "\"", "NIL", "(\"\\", ") ) ) ) )", "N"] {
            let _ = names("a", said);
        }
    }
}
