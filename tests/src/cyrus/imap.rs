//! A small blocking IMAP client (RFC 3501, LITERAL+, CONDSTORE, ACL, QUOTA, METADATA) for the lab:
//! TCP_NODELAY, pipelined commands, answers as token trees. It trusts its server and is no product code.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::mime::base64;
use crate::process::HANG;

/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(5);

/// One token of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// An atom, number or flag.
    Atom(Vec<u8>),
    /// A quoted string or literal.
    Text(Vec<u8>),
    /// A parenthesised list.
    List(Vec<Token>),
}

impl Token {
    /// The bytes of an atom or string; empty for a list.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Token::Atom(b) | Token::Text(b) => b,
            Token::List(_) => b"",
        }
    }

    /// The bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The members of a list; none for anything else.
    pub fn list(&self) -> &[Token] {
        match self {
            Token::List(l) => l,
            _ => &[],
        }
    }

    /// Writes the token back in a fixed form, for comparing and reading.
    pub fn shown(&self) -> String {
        match self {
            Token::Atom(b) => String::from_utf8_lossy(b).into_owned(),
            Token::Text(b) => format!("{:?}", String::from_utf8_lossy(b)),
            Token::List(l) => format!("({})", l.iter().map(Token::shown).collect::<Vec<_>>().join(" ")),
        }
    }
}

/// An untagged answer: `* TOKENS…`, and the line as it came (literals left out).
#[derive(Clone, Debug)]
pub struct Untagged {
    /// The tokens after `*`.
    pub tokens: Vec<Token>,
    /// The line, for status texts such as `OK [UIDVALIDITY 7]`.
    pub line: String,
}

impl Untagged {
    /// Whether the answer's word (first, or second after a number) is `word`.
    pub fn is(&self, word: &str) -> bool {
        self.tokens.iter().take(2).any(|t| t.bytes().eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The number after `NAME ` in a bracketed status code.
    pub fn code(&self, name: &str) -> Option<u64> {
        let rest = self.line.split_once(&format!("[{name} "))?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }
}

/// A connection, logged in.
#[derive(Debug)]
pub struct Imap {
    input: BufReader<TcpStream>,
    output: TcpStream,
    tag: u64,
}

impl Imap {
    /// Connects and waits for the greeting. A master that is going down takes connections that nobody will ever
    /// answer, so the wait is short; after the greeting the server may take its time.
    pub fn connect(port: u16) -> Result<Self> {
        Self::connect_within(port, GREETING)
    }

    /// As [`Imap::connect`], with another patience.
    pub fn connect_within(port: u16, patience: Duration) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, patience).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(HANG))?;
        let mut me = Self { input: BufReader::new(stream.try_clone()?), output: stream, tag: 0 };
        let greeting = me.read_answer()?;
        if !greeting.starts_with(b"* OK") {
            bail!("greeting was {:?}", String::from_utf8_lossy(&greeting));
        }
        me.output.set_read_timeout(Some(HANG))?;
        Ok(me)
    }

    /// Connects and authenticates as `admin`, acting for `user` (PLAIN with an authorisation id).
    pub fn login_as(port: u16, admin: &str, password: &str, user: &str) -> Result<Self> {
        Self::connect(port)?.logged_in(admin, password, user)
    }

    /// Authenticates as `admin`, acting for `user`.
    pub fn logged_in(mut self, admin: &str, password: &str, user: &str) -> Result<Self> {
        let plain = base64(format!("{user}\0{admin}\0{password}").as_bytes());
        self.run(&format!("AUTHENTICATE PLAIN {plain}")).with_context(|| format!("log in as {user}"))?;
        Ok(self)
    }

    /// One command to its end; an answer other than OK is an error.
    pub fn run(&mut self, command: &str) -> Result<Vec<Untagged>> {
        let tag = self.send(&[command.as_bytes()])?;
        let (untagged, status) = self.finish(&tag)?;
        if !status.starts_with("OK") {
            bail!("{command}: {status}");
        }
        Ok(untagged)
    }

    /// Sends a command without waiting; parts are written one after the other.
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<String> {
        self.tag += 1;
        let tag = format!("a{}", self.tag);
        let mut data = format!("{tag} ").into_bytes();
        for part in parts {
            data.extend_from_slice(part);
        }
        data.extend_from_slice(b"\r\n");
        self.output.write_all(&data).context("send")?;
        Ok(tag)
    }

    /// Reads to the tagged end of `tag`: untagged answers and the status text.
    pub fn finish(&mut self, tag: &str) -> Result<(Vec<Untagged>, String)> {
        let mut untagged = Vec::new();
        loop {
            let answer = self.read_answer()?;
            if let Some(rest) = answer.strip_prefix(b"* ") {
                untagged.push(parse(rest)?);
            } else if answer.starts_with(format!("{tag} ").as_bytes()) {
                let status = String::from_utf8_lossy(&answer[tag.len() + 1..]).trim_end().to_owned();
                return Ok((untagged, status));
            }
        }
    }

    /// APPEND with flags and an IMAP date-time (`17-Jul-2003 02:44:25 +0200`), one round trip.
    pub fn append(&mut self, mailbox: &str, flags: &str, date: &str, message: &[u8]) -> Result<()> {
        let tag = self.send_append(mailbox, flags, date, message)?;
        let (_, status) = self.finish(&tag)?;
        if !status.starts_with("OK") {
            bail!("APPEND {mailbox}: {status}");
        }
        Ok(())
    }

    /// The first half of [`Imap::append`], for pipelining.
    pub fn send_append(&mut self, mailbox: &str, flags: &str, date: &str, message: &[u8]) -> Result<String> {
        let head = format!("APPEND {} ({flags}) \"{date}\" {{{}+}}\r\n", quoted(mailbox), message.len());
        self.send(&[head.as_bytes(), message])
    }

    /// Reads one answer: a line with the literals that belong to it, kept as `{n}CRLF` and bytes.
    fn read_answer(&mut self) -> Result<Vec<u8>> {
        let mut answer = Vec::new();
        loop {
            let start = answer.len();
            if self.input.read_until(b'\n', &mut answer).context("read")? == 0 {
                bail!("the server closed the connection");
            }
            let Some(n) = literal_length(&answer[start..]) else { return Ok(answer) };
            let at = answer.len();
            answer.resize(at + n, 0);
            self.input.read_exact(&mut answer[at..]).context("read literal")?;
        }
    }
}

/// A mailbox name or string as a quoted string.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn literal_length(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|b| *b == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.trim_end_matches('+').parse().ok()
}

fn parse(data: &[u8]) -> Result<Untagged> {
    let line =
        String::from_utf8_lossy(data.split(|b| *b == b'\n').next().unwrap_or(b"")).trim_end().to_owned();
    let status = ["OK ", "NO ", "BAD ", "BYE ", "PREAUTH "].iter().any(|w| line.starts_with(w));
    if status {
        // Free text follows, which is no token list.
        let word = line.split(' ').next().unwrap_or("").as_bytes().to_vec();
        return Ok(Untagged { tokens: vec![Token::Atom(word)], line });
    }
    let mut at = 0;
    let tokens = parse_list(data, &mut at).with_context(|| format!("cannot read answer {line:?}"))?;
    Ok(Untagged { tokens, line })
}

fn parse_list(data: &[u8], at: &mut usize) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    while let Some(&byte) = data.get(*at) {
        match byte {
            b' ' | b'\r' | b'\n' => *at += 1,
            b')' => {
                *at += 1;
                return Ok(tokens);
            }
            b'(' => {
                *at += 1;
                tokens.push(Token::List(parse_list(data, at)?));
            }
            b'"' => tokens.push(Token::Text(parse_quoted(data, at)?)),
            b'{' => {
                let end = data[*at..].iter().position(|b| *b == b'\n').context("literal without line end")?;
                let n = literal_length(&data[*at..*at + end + 1]).context("bad literal")?;
                let start = *at + end + 1;
                tokens.push(Token::Text(data.get(start..start + n).context("short literal")?.to_vec()));
                *at = start + n;
            }
            _ => {
                let rest = &data[*at..];
                let len = rest.iter().position(|b| b" ()\r\n".contains(b)).unwrap_or(rest.len());
                tokens.push(Token::Atom(rest[..len].to_vec()));
                *at += len;
            }
        }
    }
    Ok(tokens)
}

fn parse_quoted(data: &[u8], at: &mut usize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    *at += 1;
    loop {
        match data.get(*at).context("string without end")? {
            b'"' => {
                *at += 1;
                return Ok(text);
            }
            b'\\' => {
                text.push(*data.get(*at + 1).context("string without end")?);
                *at += 2;
            }
            other => {
                text.push(*other);
                *at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_lists_come_apart() {
        let answer =
            parse(b"3 FETCH (UID 7 FLAGS (\\Seen $a) BODY[] {5}\r\nab)\r\n X \"q\\\"\")\r\n").unwrap();
        assert!(answer.is("FETCH"));
        let items = answer.tokens[2].list();
        assert_eq!(items[1].text(), "7");
        assert_eq!(items[3].shown(), "(\\Seen $a)");
        assert_eq!(items[5], Token::Text(b"ab)\r\n".to_vec()));
        assert_eq!(items[7].text(), "q\"");
    }

    #[test]
    fn status_codes_are_found() {
        let answer = parse(b"OK [UIDVALIDITY 1234] Ok (it's fine\r\n").unwrap();
        assert_eq!(answer.code("UIDVALIDITY"), Some(1234));
        assert_eq!(answer.code("UIDNEXT"), None);
    }
}
