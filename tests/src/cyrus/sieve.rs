//! A small ManageSieve client (RFC 5804): enough to put, activate, list and read scripts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};

use crate::mime::base64;
use crate::process::HANG;

/// A connection, logged in.
#[derive(Debug)]
pub struct Sieve {
    input: BufReader<TcpStream>,
    output: TcpStream,
}

impl Sieve {
    /// Connects and authenticates as `admin`, acting for `user`.
    pub fn login_as(port: u16, admin: &str, password: &str, user: &str) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("connect to timsieved")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANG))?;
        let mut me = Self { input: BufReader::new(stream.try_clone()?), output: stream };
        me.answer().context("greeting")?;
        let plain = base64(format!("{user}\0{admin}\0{password}").as_bytes());
        me.run(&format!("AUTHENTICATE \"PLAIN\" \"{plain}\""))?;
        Ok(me)
    }

    /// Stores a script.
    pub fn put(&mut self, name: &str, script: &str) -> Result<()> {
        self.run(&format!("PUTSCRIPT \"{name}\" {{{}+}}\r\n{script}", script.len())).map(drop)
    }

    /// Makes a script the one that runs.
    pub fn activate(&mut self, name: &str) -> Result<()> {
        self.run(&format!("SETACTIVE \"{name}\"")).map(drop)
    }

    /// Names of all scripts, and whether each is active.
    pub fn list(&mut self) -> Result<Vec<(String, bool)>> {
        let lines = self.run("LISTSCRIPTS")?;
        Ok(lines
            .iter()
            .filter_map(|l| l.strip_prefix('"')?.split_once('"'))
            .map(|(name, rest)| (name.to_owned(), rest.trim() == "ACTIVE"))
            .collect())
    }

    /// The text of a script.
    pub fn get(&mut self, name: &str) -> Result<String> {
        Ok(self.run(&format!("GETSCRIPT \"{name}\""))?.join("\n"))
    }

    fn run(&mut self, command: &str) -> Result<Vec<String>> {
        self.output.write_all(format!("{command}\r\n").as_bytes()).context("send")?;
        self.answer().with_context(|| command.split(' ').next().unwrap_or("").to_owned())
    }

    /// Lines and literals up to OK; NO and BYE are errors.
    fn answer(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.input.read_line(&mut line).context("read")? == 0 {
                bail!("timsieved closed the connection");
            }
            let line = line.trim_end().to_owned();
            if line == "OK" || line.starts_with("OK ") {
                return Ok(lines);
            }
            if line.starts_with("NO") || line.starts_with("BYE") {
                bail!("timsieved says {line}");
            }
            let length = line.strip_prefix('{').and_then(|l| l.strip_suffix('}'));
            match length.and_then(|l| l.trim_end_matches('+').parse::<usize>().ok()) {
                Some(n) => {
                    let mut text = vec![0; n];
                    self.input.read_exact(&mut text).context("read literal")?;
                    lines.push(String::from_utf8_lossy(&text).into_owned());
                }
                None => lines.push(line),
            }
        }
    }
}
