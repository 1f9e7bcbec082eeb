//! A small blocking IMAP4rev1 client. What the server says is read under limits, and none of it is believed beyond what is
//! asked: a line, a literal and an answer have a longest length, and waiting has an end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::error::ImapError;
use super::target::Target;
use super::tls::{Secured, secure};
use crate::limits;

enum Stream {
    Plain(TcpStream),
    Local(UnixStream),
    Secured(Box<Secured>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Local(stream) => stream.read(buffer),
            Stream::Secured(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Local(stream) => stream.write(bytes),
            Stream::Secured(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Local(stream) => stream.flush(),
            Stream::Secured(stream) => stream.flush(),
        }
    }
}

/// A connection, logged in.
pub struct Client {
    stream: BufReader<Stream>,
    host: String,
    port: u16,
    user: String,
    tag: u64,
    capabilities: Vec<String>,
}

impl Client {
    /// Connects and logs in. Certificates are those of the machine, or of the file `authorities`.
    ///
    /// # Errors
    /// Not there, not safe, or not let in.
    pub fn connect(target: &Target, password: &str, authorities: Option<&Path>) -> Result<Client, ImapError> {
        let (host, port) = (target.host.clone(), target.port);
        let lost = |source| ImapError::Connection { host: host.clone(), port, source };
        let wait = Duration::from_secs(limits::IMAP_WAIT_SECONDS);
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let mut stream = None;
        for address in (target.host.as_str(), port).to_socket_addrs().map_err(lost)? {
            match TcpStream::connect_timeout(&address, wait) {
                Ok(connected) => {
                    stream = Some(connected);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let stream = stream.ok_or(last).map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        stream.set_read_timeout(Some(wait)).map_err(lost)?;
        stream.set_write_timeout(Some(wait)).map_err(lost)?;
        let stream = match target.tls {
            true => Stream::Secured(Box::new(secure(stream, target, authorities)?)),
            false => Stream::Plain(stream),
        };
        let mut client = Client {
            stream: BufReader::new(stream),
            host: target.host.clone(),
            port,
            user: target.acts_for.clone().unwrap_or_else(|| target.user.clone()),
            tag: 0,
            capabilities: Vec::new(),
        };
        let greeting = client.answer()?;
        if !greeting.starts_with(b"* OK") && !greeting.starts_with(b"* PREAUTH") {
            return Err(nonsense(&greeting));
        }
        client.learn()?;
        if !target.tls && client.can("STARTTLS") {
            client.run("STARTTLS", "begin TLS", &mut |_| Ok(()))?;
            // What was said before is not to be believed any more.
            let Stream::Plain(stream) = client.stream.into_inner() else { return Err(nonsense(b"")) };
            let secured = Stream::Secured(Box::new(secure(stream, target, authorities)?));
            client.stream = BufReader::new(secured);
            client.learn()?;
        } else if !target.tls && !target.is_here() {
            return Err(ImapError::Clear { host: target.host.clone() });
        }
        client.log_in(target, password)?;
        client.learn()?;
        Ok(client)
    }

    /// Over a socket of this machine, to a server that takes everybody for whom he says he is, as one that is rehearsed
    /// does; also gives what it greeted with.
    ///
    /// # Errors
    /// It does not greet within `patience`, or does not let `user` in.
    pub fn over(
        stream: UnixStream,
        server: &str,
        user: &str,
        patience: Duration,
    ) -> Result<(Client, String), ImapError> {
        let lost = |source| ImapError::Connection { host: server.to_owned(), port: 0, source };
        let wait = Duration::from_secs(limits::IMAP_WAIT_SECONDS);
        let socket = stream.try_clone().map_err(lost)?;
        socket.set_read_timeout(Some(patience)).map_err(lost)?;
        socket.set_write_timeout(Some(wait)).map_err(lost)?;
        let mut client = Client {
            stream: BufReader::new(Stream::Local(stream)),
            host: server.to_owned(),
            port: 0,
            user: user.to_owned(),
            tag: 0,
            capabilities: Vec::new(),
        };
        let greeting = client.answer()?;
        if !greeting.starts_with(b"* OK") {
            return Err(nonsense(&greeting));
        }
        let said = first_words(&greeting);
        socket.set_read_timeout(Some(wait)).map_err(lost)?;
        let tag = client.send(format!("LOGIN {} {}", quoted(user), quoted("none")).as_bytes())?;
        client.finish(&tag, &format!("let {user} in"), &mut |_| Ok(()))?;
        client.learn()?;
        Ok((client, said))
    }

    fn log_in(&mut self, target: &Target, password: &str) -> Result<(), ImapError> {
        let what = format!("let {} in", target.user);
        if self.can("AUTH=PLAIN") {
            let plain =
                format!("{}\0{}\0{password}", target.acts_for.as_deref().unwrap_or_default(), target.user);
            let tag = self.send(b"AUTHENTICATE PLAIN")?;
            let answer = self.answer()?;
            if !answer.starts_with(b"+") {
                return Err(refused(&what, &answer));
            }
            self.write(format!("{}\r\n", base64(plain.as_bytes())).as_bytes())?;
            return self.finish(&tag, &what, &mut |_| Ok(()));
        }
        if target.acts_for.is_some() {
            return Err(ImapError::Refused { what, said: "it has no AUTHENTICATE PLAIN".to_owned() });
        }
        let tag = self.send(format!("LOGIN {} {}", quoted(&target.user), quoted(password)).as_bytes())?;
        self.finish(&tag, &what, &mut |_| Ok(()))
    }

    fn learn(&mut self) -> Result<(), ImapError> {
        let mut known = Vec::new();
        self.run("CAPABILITY", "tell what it can do", &mut |answer| {
            if let Some(rest) = answer.strip_prefix(b"* CAPABILITY") {
                let words = String::from_utf8_lossy(rest).to_ascii_uppercase();
                known = words.split_ascii_whitespace().map(str::to_owned).collect();
            }
            Ok(())
        })?;
        self.capabilities = known;
        Ok(())
    }

    /// For whom the login acts.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// Whether the server has said that it can do this.
    pub(super) fn can(&self, word: &str) -> bool {
        self.capabilities.iter().any(|known| known == word)
    }

    /// Runs a command to its end and hands each untagged answer to `each`: a line, with the literals in it.
    ///
    /// # Errors
    /// The server said no, or went away.
    pub fn run(
        &mut self,
        command: &str,
        what: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), ImapError>,
    ) -> Result<(), ImapError> {
        let tag = self.send(command.as_bytes())?;
        self.finish(&tag, what, each)
    }

    /// APPEND: `head` is the command up to the message.
    ///
    /// # Errors
    /// The server said no, or went away.
    pub fn append(&mut self, head: &str, message: &[u8], what: &str) -> Result<(), ImapError> {
        let tag = self.send(format!("{head} {{{}}}", message.len()).as_bytes())?;
        loop {
            let answer = self.answer()?;
            if answer.starts_with(b"+") {
                break;
            }
            if answer.starts_with(tag.as_bytes()) || answer.starts_with(b"* BYE") {
                return Err(refused(what, &answer));
            }
        }
        self.write(message)?;
        self.write(b"\r\n")?;
        self.finish(&tag, what, &mut |_| Ok(()))
    }

    /// Says goodbye.
    pub fn log_out(mut self) {
        // Whatever it answers, we are done.
        let _ = self.run("LOGOUT", "end", &mut |_| Ok(()));
    }

    fn send(&mut self, command: &[u8]) -> Result<String, ImapError> {
        self.tag += 1;
        let tag = format!("m{} ", self.tag);
        self.write(&[tag.as_bytes(), command, b"\r\n"].concat())?;
        Ok(tag)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ImapError> {
        let stream = self.stream.get_mut();
        let written = stream.write_all(bytes).and_then(|()| stream.flush());
        written.map_err(|source| self.lost(source))
    }

    fn finish(
        &mut self,
        tag: &str,
        what: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), ImapError>,
    ) -> Result<(), ImapError> {
        loop {
            let answer = self.answer()?;
            if let Some(rest) = answer.strip_prefix(tag.as_bytes()) {
                return if rest.starts_with(b"OK") { Ok(()) } else { Err(refused(what, &answer)) };
            }
            each(&answer)?;
        }
    }

    /// One answer: a line and the literals that belong to it.
    fn answer(&mut self) -> Result<Vec<u8>, ImapError> {
        let mut answer = Vec::new();
        loop {
            let start = answer.len();
            let mut limited = (&mut self.stream).take(limits::IMAP_LINE as u64);
            let read = limited.read_until(b'\n', &mut answer);
            let count = read.map_err(|source| self.lost(source))?;
            if count == 0 {
                return Err(self.lost(io::ErrorKind::UnexpectedEof.into()));
            }
            if !answer.ends_with(b"\n") || answer.len() > limits::IMAP_ANSWER {
                return Err(nonsense(&answer));
            }
            let Some(length) = literal(&answer[start..]) else { return Ok(answer) };
            if length > limits::IMAP_ANSWER {
                return Err(nonsense(&answer));
            }
            let at = answer.len();
            answer.resize(at + length, 0);
            let read = self.stream.read_exact(&mut answer[at..]);
            read.map_err(|source| self.lost(source))?;
        }
    }

    fn lost(&self, source: io::Error) -> ImapError {
        ImapError::Connection { host: self.host.clone(), port: self.port, source }
    }
}

/// A string as IMAP quotes it. Line ends cannot be quoted and are left out.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars().filter(|letter| !matches!(letter, '\r' | '\n' | '\0')) {
        if matches!(letter, '"' | '\\') {
            out.push('\\');
        }
        out.push(letter);
    }
    out.push('"');
    out
}

fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.trim_end_matches('+').parse().ok()
}

pub(super) fn nonsense(said: &[u8]) -> ImapError {
    ImapError::Nonsense { said: first_words(said) }
}

fn refused(what: &str, said: &[u8]) -> ImapError {
    let text = first_words(said);
    let said = text.split_once(' ').map_or(text.as_str(), |(_, rest)| rest).to_owned();
    ImapError::Refused { what: what.to_owned(), said }
}

fn first_words(said: &[u8]) -> String {
    let end = said.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(said.len());
    mailkeep_restorer::path::show(&said[..end.min(300)])
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            match place <= group.len() {
                true => text.push(DIGITS[(word >> (18 - 6 * place)) as usize & 63] as char),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_wire() {
        assert_eq!(quoted("a\"b\\c\r\n"), "\"a\\\"b\\\\c\"");
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes), text);
        }
        assert_eq!(literal(b"* 1 FETCH (BODY[] {12}\r\n"), Some(12));
        assert_eq!(literal(b"* OK {x}\r\n"), None);
    }
}
