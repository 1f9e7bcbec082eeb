//! `older VERSION PROGRAM ARGUMENTS…` runs an agent and stands in its link: both ends hear from the other that it speaks no
//! higher version of the protocol than this one, so that each of them does what it does with an older peer.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result};
use mailkeep_link::frame::read_frame;
use mailkeep_link::message::{ToAgent, ToBox};
use mailkeep_link::wire::Message;

fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let version =
        words.next().and_then(|word| word.into_string().ok()).context("usage: older VERSION PROGRAM …")?;
    let version: u32 = version.parse().context("VERSION")?;
    let program = words.next().context("PROGRAM")?;
    let mut child = Command::new(program).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (to, from) = (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
    thread::spawn(move || {
        carry(std::io::stdin(), to, |message| match message {
            ToAgent::Hello(mut hello) => {
                hello.highest = hello.highest.min(version);
                ToAgent::Hello(hello)
            }
            other => other,
        })
    });
    carry(from, std::io::stdout(), |message| match message {
        ToBox::Hello(mut hello) => {
            hello.highest = hello.highest.min(version);
            ToBox::Hello(hello)
        }
        other => other,
    })?;
    let status = child.wait()?;
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}

/// Changes the first message and carries the rest as it is, to the end; dropping `output` closes it.
fn carry<M: Message>(
    mut input: impl Read,
    mut output: impl Write,
    change: impl FnOnce(M) -> M,
) -> Result<()> {
    let first = read_frame(&mut input, &mut || {})?;
    let message = change(M::incoming(first.kind, &first.payload.into())?);
    let mut bytes = Vec::new();
    message.encode()?.put(&mut bytes);
    output.write_all(&bytes)?;
    output.flush()?;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = input.read(&mut buffer) {
        if output.write_all(&buffer[..n]).and_then(|()| output.flush()).is_err() {
            break;
        }
    }
    Ok(())
}
