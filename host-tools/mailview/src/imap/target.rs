//! Where a server is: `imap://user@host:143`, `imaps://user@host`. A password in it is refused: it would stand in the
//! shell's history and in every listing of processes.

use super::error::ImapError;

/// A server and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// TLS from the first byte; else STARTTLS, or nothing where the server is this machine.
    pub tls: bool,
    /// Who logs in.
    pub user: String,
    /// Whom the login is to act for, as Cyrus lets an administrator do (`;AUTHZID=` has no standard; this is `user+other`).
    pub acts_for: Option<String>,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is none, names no user, or holds a password.
    pub fn parse(url: &str) -> Result<Target, ImapError> {
        let wrong = |problem| ImapError::Url { url: without_password(url), problem };
        let (tls, rest) = match url.split_once("://") {
            Some(("imap", rest)) => (false, rest),
            Some(("imaps", rest)) => (true, rest),
            _ => return Err(wrong("it begins with neither imap:// nor imaps://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = rest.rsplit_once('@').ok_or_else(|| wrong("write it as imap://USER@HOST"))?;
        if user.contains(':') {
            return Err(wrong("a password does not belong into it; use --password-file"));
        }
        let user =
            percent_decoded(user).filter(|user| !user.is_empty() && !user.contains(['\0', '\r', '\n']));
        let user = user.ok_or_else(|| wrong("the user's name is no name"))?;
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let default = if tls { 993 } else { 143 };
        let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port > 0));
        let port = port.ok_or_else(|| wrong("the port is no number"))?;
        if host.is_empty() || host.contains('/') {
            return Err(wrong("the host has no name, or something follows it"));
        }
        Ok(Target { host: host.to_owned(), port, tls, user, acts_for: None })
    }

    /// Whether nobody can listen on the way.
    pub fn is_here(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

fn without_password(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (user, place))) => {
            format!("{scheme}://{}@{place}", user.split(':').next().unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers() {
        for (url, host, port, tls, user) in [
            ("imap://bob@mail.example.org", "mail.example.org", 143, false, "bob"),
            ("imaps://bob%40example.org@mail/", "mail", 993, true, "bob@example.org"),
            ("imap://a@b.c@[::1]:1143", "::1", 1143, false, "a@b.c"),
            ("imap://x@127.0.0.1:7", "127.0.0.1", 7, false, "x"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (target.host.as_str(), target.port, target.tls, target.user.as_str()),
                (host, port, tls, user)
            );
        }
        assert!(Target::parse("imap://x@127.1.2.3").unwrap().is_here());
        for url in [
            "http://x@y",
            "imap://y",
            "imap://@y",
            "imap://x@y:0",
            "imap://x@y/INBOX",
            "imap://x@",
            "imap://%zz@y",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        let told = Target::parse("imap://x:secret@y").unwrap_err().to_string();
        assert!(told.contains("password") && !told.contains("secret"), "{told}");
    }
}
