//! Runs one of OpenSSH's programs on this machine and reads what it says, within bounds.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::PairError;
use crate::limits::ANSWER_BYTES;

/// What a program said.
#[derive(Debug)]
pub(crate) struct Told {
    /// It ended with 0.
    pub(crate) ok: bool,
    /// Its exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// Its output.
    pub(crate) out: Vec<u8>,
    /// Its error output.
    pub(crate) errors: String,
}

impl Told {
    /// The output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// The last line of the error output, fit for a message.
    pub(crate) fn last_line(&self) -> String {
        last_line(&self.errors)
    }
}

/// The last line that says something, without control characters.
pub(crate) fn last_line(text: &str) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
    line.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

/// Runs a program to its end; `input` is all it gets to read.
pub(crate) fn run(program: &str, words: &[String], input: &[u8]) -> Result<Told, PairError> {
    let failed =
        |error: std::io::Error| PairError::Program { program: program.to_owned(), why: error.to_string() };
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (out, errors) = std::thread::scope(|threads| {
        threads.spawn(move || {
            // A program that does not want all of it says why in its own words.
            stdin.map(|mut stdin| stdin.write_all(input))
        });
        let errors = threads.spawn(move || bounded(stderr));
        let out = bounded(stdout);
        (out, errors.join().unwrap_or_default())
    });
    let status = child.wait().map_err(failed)?;
    let errors = String::from_utf8_lossy(&errors).into_owned();
    Ok(Told { ok: status.success(), code: status.code(), out, errors })
}

fn bounded(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What is cut off here fails where it is read.
        let _ = stream.take(ANSWER_BYTES as u64).read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_are_read_while_input_is_written() {
        let script = "cat; echo trouble >&2; exit 3";
        let big = vec![b'x'; 300_000];
        let told = run("sh", &["-c".into(), script.into()], &big).unwrap();
        assert_eq!((told.code, told.ok, told.out.len()), (Some(3), false, big.len()));
        assert_eq!(told.last_line(), "trouble");
        assert!(matches!(run("/no/such/program", &[], b""), Err(PairError::Program { .. })));
    }
}
