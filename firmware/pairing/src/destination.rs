//! Where to log in, as it is typed: `USER@HOST`, `USER@HOST:PORT`, `ssh://USER@HOST:PORT`, or a name from ssh_config.

use crate::PairError;
use crate::tool;

/// A server as ssh will reach it, after the person's ssh_config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// As ssh is to be told, without the user: an alias keeps its meaning.
    pub alias: String,
    /// Host name or address.
    pub host: String,
    /// Who logs in.
    pub user: String,
    /// TCP port.
    pub port: u16,
}

/// What was typed, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl Destination {
    /// Takes apart what was typed and asks ssh what it means. `port` goes before a port in the text.
    ///
    /// # Errors
    /// [`PairError::BadDestination`], or ssh is not there.
    pub fn resolve(text: &str, port: Option<u16>) -> Result<Self, PairError> {
        let typed = Typed::parse(text).ok_or_else(|| PairError::BadDestination { text: text.to_owned() })?;
        let mut words = vec!["-G".to_owned()];
        if let Some(port) = port.or(typed.port) {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        // Without a name of the person's own choice: reading all mail and stopping the service is root's work.
        let user = typed.user.unwrap_or_else(|| "root".to_owned());
        words.extend(["-l".to_owned(), user.clone(), "--".to_owned(), typed.host.clone()]);
        let told = tool::run("ssh", &words, b"")?;
        if !told.ok {
            return Err(PairError::Program { program: "ssh -G".to_owned(), why: told.last_line() });
        }
        let told = told.text();
        let value = |key: &str| told.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        Ok(Destination {
            host: value("hostname").unwrap_or(&typed.host).to_owned(),
            port: value("port").and_then(|port| port.parse().ok()).unwrap_or(22),
            user,
            alias: typed.host,
        })
    }

    /// How the server is called in known_hosts(5).
    pub fn known_as(&self) -> String {
        if self.port == 22 { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) }
    }
}

impl Typed {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("ssh://").unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, port) = match rest.strip_prefix('[') {
            // [2001:db8::1]:2222
            Some(inside) => {
                let (host, after) = inside.split_once(']')?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => match rest.split_once(':') {
                // More than one colon is an address of IPv6 without a port.
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (rest, None),
            },
        };
        let port = match port {
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
            None => None,
        };
        // Letters that a source file accepts: neither an option nor a shell's business.
        let plain = |text: &str, more: &str| {
            !text.is_empty()
                && text.len() <= 255
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let good = plain(host, "-_.:%") && user.is_none_or(|user| plain(user, "-_."));
        good.then(|| Typed { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(user: Option<&str>, host: &str, port: Option<u16>) -> Option<Typed> {
        Some(Typed { user: user.map(str::to_owned), host: host.to_owned(), port })
    }

    #[test]
    fn all_usual_ways_to_write_a_server_are_understood() {
        assert_eq!(Typed::parse("root@mail1"), typed(Some("root"), "mail1", None));
        assert_eq!(Typed::parse("mail1.example.org"), typed(None, "mail1.example.org", None));
        assert_eq!(Typed::parse("adm@10.0.0.1:2222"), typed(Some("adm"), "10.0.0.1", Some(2222)));
        assert_eq!(Typed::parse("ssh://adm@mail1:22/"), typed(Some("adm"), "mail1", Some(22)));
        assert_eq!(Typed::parse("root@[2001:db8::1]:23"), typed(Some("root"), "2001:db8::1", Some(23)));
        assert_eq!(Typed::parse("root@2001:db8::1"), typed(Some("root"), "2001:db8::1", None));
    }

    #[test]
    fn options_shells_and_nonsense_are_refused() {
        for text in [
            "",
            "@",
            "root@",
            "@host",
            "-oProxyCommand=x",
            "root@-x",
            "a b@h",
            "r@h;id",
            "r@h:0",
            "r@h:99999",
            "r@$(id)",
        ] {
            assert_eq!(Typed::parse(text), None, "{text}");
        }
    }
}
