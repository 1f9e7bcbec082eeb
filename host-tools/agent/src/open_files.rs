//! How many files this process may have open. It asks for more than it was started with, for the walk and the stage; what it
//! starts gets what it was started with itself: mail that was started by a backup has to be as if the system had.

use std::process::Command;
use std::sync::OnceLock;

use mailkeep_mail::source::Argv;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits;

/// The limit that was found, once it was raised.
static FOUND: OnceLock<u64> = OnceLock::new();

/// Lowers the limit in front of a program, which is left alone if that cannot be done: a service that is started with too
/// high a limit is better than one that is not. A shell, because between fork and exec there is no safe call of our own.
const LOWER: &str = "ulimit -S -n \"$0\" 2>/dev/null; exec \"$@\"";
const SHELL: &str = "/bin/sh";

/// Asks for as many as the agent can use; how many it has.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(limits::OPEN_FILES, |most| most.min(limits::OPEN_FILES));
    let Some(soft) = limit.current.filter(|soft| *soft < wanted) else {
        return limit.current.unwrap_or(wanted);
    };
    // Before it is raised: whoever starts something meanwhile lowers it in vain, and not too late.
    let _ = FOUND.set(soft);
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }) {
        Ok(()) => wanted,
        Err(_) => soft,
    }
}

/// A program that gets the limit which this one was started with.
pub fn as_found(argv: &Argv) -> Command {
    lowered(argv, FOUND.get().copied().filter(|_| std::path::Path::new(SHELL).exists()))
}

fn lowered(argv: &Argv, limit: Option<u64>) -> Command {
    let mut command = match limit {
        Some(limit) => {
            let mut shell = Command::new(SHELL);
            shell.arg("-c").arg(LOWER).arg(limit.to_string()).arg(argv.program());
            shell
        }
        None => Command::new(argv.program()),
    };
    command.args(argv.arguments());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_has_the_limit_and_its_words_as_they_are() {
        let argv = Argv::new("sh", ["-c", "ulimit -S -n; printf '<%s>' \"$@\"", "x", "a b", "$HOME", "\"'"]);
        let said = |limit| {
            let output = lowered(&argv, limit).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(said(Some(123)), "123\n<a b><$HOME><\"'>");
        let own = getrlimit(Resource::Nofile).current.unwrap();
        assert_eq!(said(None), format!("{own}\n<a b><$HOME><\"'>"));
        // One that cannot be had is no reason not to start.
        assert!(said(Some(u64::MAX - 1)).ends_with("<a b><$HOME><\"'>"));
    }
}
