//! A minimal LMTP client (RFC 2033) for delivery through the server's sieve filters.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};

use crate::process::HANG;

/// Delivers one message to one local user.
pub(super) fn deliver(port: u16, user: &str, message: &[u8]) -> Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).context("connect to lmtpd")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANG))?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut output = stream;
    expect(&mut input, '2')?;
    let dialogue = [
        ("LHLO lab", '2'),
        ("MAIL FROM:<lab@example.net>", '2'),
        (&format!("RCPT TO:<{user}>"), '2'),
        ("DATA", '3'),
    ];
    for (line, answer) in dialogue {
        output.write_all(format!("{line}\r\n").as_bytes())?;
        expect(&mut input, answer).with_context(|| line.to_owned())?;
    }
    // Generated lines never start with a dot, so there is nothing to stuff.
    output.write_all(message)?;
    output.write_all(b".\r\n")?;
    expect(&mut input, '2').context("end of message")?;
    output.write_all(b"QUIT\r\n")?;
    Ok(())
}

fn expect(input: &mut impl BufRead, first: char) -> Result<()> {
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            bail!("lmtpd closed the connection");
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            if !line.starts_with(first) {
                bail!("lmtpd says {}", line.trim_end());
            }
            return Ok(());
        }
    }
}
