//! The way to `mailkeepd`: its socket, for root on the box, or its address on the network with the token. What it says is
//! described in `firmware/appliance/API.md`.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::args::AtBox;
use crate::exit::{self, Failure};
use crate::text::the_box as text;

/// Where the box's configuration is, and what it says of the state folder, unless told otherwise.
const BOX_CONFIG: &str = "/etc/mailkeep/box.toml";
const STATE_DIR: &str = "/var/lib/mailkeep";
/// Its socket in there.
const SOCKET: &str = "control/box.sock";
/// A box that says nothing for this long is not there. It answers at once, whatever it does.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer of a box is longer.
const MOST: u64 = 4 << 20;
const MOST_TOKEN: u64 = 4096;

/// A box that can be asked.
pub(crate) struct TheBox {
    at: Place,
    token: Option<PathBuf>,
}

enum Place {
    Socket(PathBuf),
    /// Host and port.
    Network(String),
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl TheBox {
    /// The box that is meant: `--box`, else the one whose configuration is on this machine.
    pub(crate) fn find(args: &AtBox) -> Result<Self, Failure> {
        let at = match args.at.as_deref().filter(|at| !at.is_empty()) {
            Some(at) => match at.strip_prefix("http://") {
                Some(rest) => {
                    let host = rest.trim_end_matches('/');
                    let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
                    if !plain {
                        return Err(Failure::new(exit::USAGE, text::bad_address(at)));
                    }
                    let port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
                    Place::Network(if port { host.to_owned() } else { format!("{host}:80") })
                }
                None if at.contains("://") => return Err(Failure::new(exit::USAGE, text::bad_address(at))),
                None => Place::Socket(PathBuf::from(at)),
            },
            None => Place::Socket(state_dir().join(SOCKET)),
        };
        Ok(Self { at, token: args.token_file.clone() })
    }

    /// What it says of itself.
    pub(crate) fn status(&self) -> Result<Value, Failure> {
        let (code, body) = self.ask("GET", "/api/v1/status")?;
        let status = serde_json::from_slice(&body).ok().filter(|_| code == 200);
        status.ok_or_else(|| Failure::new(exit::FAILED, text::no_box(&self.place(), code)))
    }

    /// Has something done. `Err`: it was refused, with the reason.
    pub(crate) fn act(&self, path: &str) -> Result<String, Failure> {
        let (code, body) = self.ask("POST", path)?;
        let said: Option<Value> = serde_json::from_slice(&body).ok();
        let words = said.as_ref().and_then(|said| said["words"].as_str()).unwrap_or_default();
        match code {
            202 => Ok(words.to_owned()),
            401 => Err(Failure::new(exit::KEY, text::NO_TOKEN).hint(text::NO_TOKEN_HINT)),
            409 => Err(Failure::new(exit::FAILED, text::refused(words))),
            code => Err(Failure::new(exit::FAILED, text::no_box(&self.place(), code))),
        }
    }

    fn ask(&self, method: &str, path: &str) -> Result<(u16, Vec<u8>), Failure> {
        let absent = |error: io::Error| {
            let failure = Failure::new(exit::ABSENT, text::unreachable(&self.place(), &error.to_string()));
            failure.at(self.place()).hint(match error.kind() {
                io::ErrorKind::PermissionDenied => text::ROOT_HINT,
                _ => text::UNREACHABLE_HINT,
            })
        };
        let token = self.token()?;
        let mut stream = self.connect().map_err(absent)?;
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let host = match &self.at {
            Place::Network(host) => host.as_str(),
            Place::Socket(_) => "box",
        };
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Connection: close\r\n\r\n");
        let mut answer = Vec::new();
        stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.take(MOST).read_to_end(&mut answer))
            .map_err(absent)?;
        let (code, body) = parse(&answer)
            .ok_or_else(|| Failure::new(exit::FAILED, text::no_box(&self.place(), 0)).at(self.place()))?;
        Ok((code, body.to_owned()))
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.at {
            Place::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            Place::Network(host) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
                for address in host.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, PATIENCE) {
                        Ok(stream) => {
                            stream.set_read_timeout(Some(PATIENCE))?;
                            stream.set_write_timeout(Some(PATIENCE))?;
                            return Ok(Box::new(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let (Some(path), Place::Network(_)) = (&self.token, &self.at) else { return Ok(None) };
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MOST_TOKEN).read_to_string(&mut text))
            .map_err(|error| Failure::file(exit::KEY, "read the token file", path, &error))?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::new(exit::KEY, text::bad_token(&path.display().to_string())));
        }
        Ok(Some(token.to_owned()))
    }

    fn place(&self) -> String {
        match &self.at {
            Place::Socket(path) => path.display().to_string(),
            Place::Network(host) => format!("http://{host}"),
        }
    }
}

/// The code and the body of a whole answer.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let code = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((code, &answer[end + 4..]))
}

/// The state folder of the box on this machine. What is wrong in its configuration is for `mailkeepd` to tell.
fn state_dir() -> PathBuf {
    let named = std::env::var_os("MAILKEEP_BOX_CONFIG").filter(|value| !value.is_empty());
    let path = named.map_or_else(|| PathBuf::from(BOX_CONFIG), PathBuf::from);
    let table: toml::Table =
        std::fs::read_to_string(&path).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let given = table.get("box").and_then(|table| table.get("state-dir")).and_then(|value| value.as_str());
    path.parent().unwrap_or(Path::new("")).join(given.unwrap_or(STATE_DIR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_of_a_box_is_none() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"), Some((200, &b"{}"[..])));
        for bad in
            [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 2\r\n\r\n", b"\xff\r\n\r\n"]
        {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn a_place_is_a_socket_or_a_plain_address() {
        let place = |at: &str| {
            TheBox::find(&AtBox { at: Some(at.into()), token_file: None }).map(|found| found.place()).ok()
        };
        assert_eq!(place("/run/box.sock").as_deref(), Some("/run/box.sock"));
        assert_eq!(place("http://box:8080/").as_deref(), Some("http://box:8080"));
        assert_eq!(place("http://[fe80::1]").as_deref(), Some("http://[fe80::1]:80"));
        for bad in ["https://box", "http://", "http://a@b", "http://box/x"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
