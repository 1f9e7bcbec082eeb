//! The password of an IMAP server, from wherever it stands; never from the command line, where every user of this machine
//! could read it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::exit::{self, Failure};
use crate::text::mail;

/// The first line of the file, else of what the command writes, else of the environment.
pub(crate) fn password(file: Option<&Path>, command: Option<&str>) -> Result<String, Failure> {
    let missing = || Failure::new(exit::USAGE, mail::NO_PASSWORD).hint(mail::NO_PASSWORD_HINT);
    let text = if let Some(path) = file {
        std::fs::read_to_string(path).map_err(|error| Failure::file(exit::FAILED, "read", path, &error))?
    } else if let Some(command) = command {
        let failed = |why: String| Failure::new(exit::FAILED, format!("the password command failed: {why}"));
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = shell.output().map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(output.status.to_string()));
        }
        String::from_utf8(output.stdout).map_err(|error| failed(error.to_string()))?
    } else {
        std::env::var("MAILKEEP_IMAP_PASSWORD").map_err(|_| missing())?
    };
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() { Err(missing()) } else { Ok(line.to_owned()) }
}
