//! What of cyrus.conf(5) matters here: the commands that the master runs, and where its services listen.
//!
//! Each entry is one line, `name key=value key="value with spaces"`; `#` begins a comment. Anything else is passed over:
//! nothing that is decided by it is dangerous.

use crate::source::{Probe, ProbeProtocol};

/// One entry of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `cmd`: program and arguments.
    pub command: String,
    /// `listen`: a port, a service's name, either with a host before it, or a socket's path.
    pub listen: Option<String>,
}

/// The entries of all sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CyrusConf {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

impl CyrusConf {
    /// Reads the text.
    pub fn parse(text: &str) -> CyrusConf {
        let entries = text.lines().filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default();
            Some(Entry { command: value(line, "cmd")?, listen: value(line, "listen") })
        });
        CyrusConf { entries: entries.collect() }
    }

    /// Where mail may greet on this machine: the services that speak IMAP or POP3 in the clear, IMAP first.
    pub fn probes(&self) -> Vec<Probe> {
        let mut probes: Vec<Probe> = self.entries.iter().filter_map(Entry::probe).collect();
        probes.sort_by_key(|probe| probe.protocol != ProbeProtocol::Imap);
        probes
    }
}

impl Entry {
    /// Name of the program, without its folder.
    pub fn program(&self) -> &str {
        let word = self.command.split_ascii_whitespace().next().unwrap_or_default();
        word.rsplit('/').next().unwrap_or_default()
    }

    /// Whether one of the short options is given.
    pub fn has_option(&self, letter: char) -> bool {
        self.command.split_ascii_whitespace().skip(1).any(|word| {
            word.strip_prefix('-')
                .is_some_and(|letters| !letters.starts_with('-') && letters.contains(letter))
        })
    }

    fn probe(&self) -> Option<Probe> {
        let (protocol, usual) = match self.program() {
            "imapd" | "proxyd" => (ProbeProtocol::Imap, ("imap", 143)),
            "pop3d" | "pop3proxyd" => (ProbeProtocol::Pop3, ("pop3", 110)),
            _ => return None,
        };
        // `imapd -s` speaks TLS from the first byte: no greeting in the clear.
        if self.has_option('s') {
            return None;
        }
        let listen = self.listen.as_deref().filter(|listen| !listen.starts_with('/'))?;
        let (host, port) = match listen.strip_prefix('[') {
            Some(inside) => {
                inside.split_once(']').map(|(host, rest)| (host, rest.strip_prefix(':').unwrap_or("")))?
            }
            None => listen.rsplit_once(':').unwrap_or(("", listen)),
        };
        let port = if port.is_empty() || port == usual.0 {
            usual.1
        } else {
            port.parse().ok().filter(|p| *p != 0)?
        };
        // What listens on all addresses listens on the machine's own.
        let everywhere = matches!(host, "" | "*" | "0.0.0.0" | "::");
        let host = if everywhere { "127.0.0.1" } else { host };
        host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c)).then(|| Probe {
            protocol,
            host: host.to_owned(),
            port,
        })
    }
}

/// The value of a key in a line.
fn value(line: &str, key: &str) -> Option<String> {
    let at = line.match_indices(key).map(|(at, _)| at).find(|at| {
        let before = line[..*at].chars().next_back();
        before.is_some_and(char::is_whitespace) && line[at + key.len()..].starts_with('=')
    })?;
    let after = &line[at + key.len() + 1..];
    let value = match after.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => after.split_ascii_whitespace().next(),
    };
    value.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_tell_where_they_greet() {
        let conf = CyrusConf::parse(
            "SERVICES {\n  pop3 cmd=\"pop3d -U 30\" listen=\"127.0.0.1:1110\"\n  imap\t cmd=\"imapd\" listen=\"imap\" prefork=0\n\
             imaps cmd=\"imapd -s -U 30\" listen=\"imaps\"\n  six cmd=\"/usr/lib/imapd\" listen=\"[::1]:1143\"\n\
             all cmd=\"imapd\" listen=2143\n  lmtp cmd=\"lmtpd\" listen=\"/run/lmtp\"\n  # x cmd=\"imapd\" listen=\"9\"\n}\n",
        );
        let probes: Vec<String> = conf.probes().iter().map(Probe::to_string).collect();
        let expected =
            ["imap://127.0.0.1:143", "imap://[::1]:1143", "imap://127.0.0.1:2143", "pop3://127.0.0.1:1110"];
        assert_eq!(probes, expected);
    }

    #[test]
    fn options_and_programs_are_told_apart_from_their_arguments() {
        let conf =
            CyrusConf::parse("START {\n m cmd=\"/usr/lib/cyrus/bin/ctl_mboxlist -m -a\"\n n cmd=idled\n}\n");
        assert_eq!(conf.entries[0].program(), "ctl_mboxlist");
        assert!(
            conf.entries[0].has_option('m')
                && conf.entries[0].has_option('a')
                && !conf.entries[0].has_option('w')
        );
        assert_eq!((conf.entries[1].program(), conf.entries[1].listen.clone()), ("idled", None));
    }
}
