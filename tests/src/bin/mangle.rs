//! `mangle WAY KIND OFFSET PROGRAM ARGUMENTS…` runs a program and spoils what crosses its standard input
//! (`in`) or output (`out`) at that byte: `flip` changes one bit, `cut` ends the stream there, `noise`
//! continues with random bytes, `repeat` sends the last 4 KiB again, `stop` keeps silent from there on
//! until its own input ends. For the suites that play a hostile or broken link.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use mailkeep_tests::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flip,
    Cut,
    Noise,
    Repeat,
    Stop,
}

fn main() -> Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let mut text =
        || words.next().and_then(|w| w.into_string().ok()).context("usage: mangle WAY KIND OFFSET PROGRAM …");
    let inward = text()? == "in";
    let kind = match text()?.as_str() {
        "flip" => Kind::Flip,
        "cut" => Kind::Cut,
        "noise" => Kind::Noise,
        "repeat" => Kind::Repeat,
        "stop" => Kind::Stop,
        other => bail!("unknown kind {other}"),
    };
    let offset: usize = text()?.parse().context("OFFSET")?;
    let program = words.next().context("PROGRAM")?;
    let mut child = Command::new(program).args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (to, from) = (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
    let spoil = |wanted: bool| wanted.then_some((kind, offset));
    let (into, out_of) = (spoil(inward), spoil(!inward));
    thread::spawn(move || carry(std::io::stdin(), to, into));
    carry(from, std::io::stdout(), out_of);
    let status = child.wait()?;
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}

/// Copies to the end, spoiling at the offset; dropping `output` closes it.
fn carry(mut input: impl Read, mut output: impl Write, spoil: Option<(Kind, usize)>) {
    let mut buffer = vec![0; 1 << 16];
    let mut done = 0;
    let mut silent = false;
    while let Ok(n @ 1..) = input.read(&mut buffer) {
        let data = &mut buffer[..n];
        if silent {
            continue;
        }
        let here = spoil.filter(|(_, offset)| (done..done + n).contains(offset));
        done += n;
        let Some((kind, offset)) = here else {
            if output.write_all(data).and_then(|()| output.flush()).is_err() {
                return;
            }
            continue;
        };
        let at = offset - (done - n);
        let written = match kind {
            Kind::Flip => {
                data[at] ^= 1 << (offset % 8);
                output.write_all(data)
            }
            Kind::Cut => {
                let _ = output.write_all(&data[..at]).and_then(|()| output.flush());
                return;
            }
            Kind::Noise => {
                Rng::new(offset as u64).fill(&mut data[at..]);
                output.write_all(data)
            }
            Kind::Repeat => {
                output.write_all(data).and_then(|()| output.write_all(&data[n.saturating_sub(4096)..]))
            }
            Kind::Stop => {
                silent = true;
                output.write_all(&data[..at])
            }
        };
        if written.and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}
