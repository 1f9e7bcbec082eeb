//! A command line that makes no sense: one line, exit code 64; help and version are none of that.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use clap::Error;
use clap::error::ErrorKind;

use crate::console::colour_is_wanted;
use crate::exit;
use crate::text;

/// Writes what clap has to say and gives the exit code.
pub(crate) fn refuse(error: &Error) -> u8 {
    let rendered = error.render();
    let shown = |terminal: bool| {
        if terminal && colour_is_wanted() { rendered.ansi().to_string() } else { rendered.to_string() }
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let mut out = io::stdout();
            // `mailkeep --help | head` is no failure.
            let _ = write!(out, "{}", shown(out.is_terminal())).and_then(|()| out.flush());
            exit::DONE
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let mut out = io::stderr();
            let _ = write!(out, "{}", shown(out.is_terminal()));
            exit::USAGE
        }
        _ => {
            let what = one_line(&rendered.to_string());
            let hint = text::see_help(&verbs(std::env::args_os().skip(1)));
            if std::env::args_os().any(|word| word == "--json") {
                let object = serde_json::json!({
                    "message_type": "error", "what": what, "path": null, "hint": hint,
                });
                let _ = writeln!(io::stdout(), "{object}");
            }
            let _ = writeln!(io::stderr(), "mailkeep: {what}; {hint}");
            exit::USAGE
        }
    }
}

/// The verb that was meant, and the one below it: those words that lead to one.
fn verbs(words: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut command = <crate::args::Cli as clap::CommandFactory>::command();
    let mut verbs = Vec::new();
    for word in words {
        if let Some(verb) = command.find_subcommand(&word).cloned() {
            verbs.push(verb.get_name().to_owned());
            command = verb;
        }
    }
    verbs
}

/// clap writes several lines, of which the first ones and the tips say something.
fn one_line(rendered: &str) -> String {
    let said = rendered.split("\n\nUsage:").next().unwrap_or(rendered);
    let said = said.split("\n\nFor more information").next().unwrap_or(said);
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let mut line = String::new();
    for part in said.lines().map(str::trim).filter(|part| !part.is_empty()) {
        match part.strip_prefix("tip: ") {
            Some(tip) => {
                line.push_str("; ");
                line.push_str(tip);
            }
            None if line.is_empty() => line.push_str(part),
            None => {
                line.push(' ');
                line.push_str(part);
            }
        }
    }
    // What was typed may hold anything.
    line.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn line(words: &[&str]) -> String {
        let error = crate::args::Cli::try_parse_from(words.iter().copied()).unwrap_err();
        one_line(&error.render().to_string())
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        assert_eq!(
            line(&["mailkeep", "restore"]),
            "the following required arguments were not provided: --target <DIR> <SNAPSHOT>"
        );
        assert_eq!(
            line(&["mailkeep", "snapshots", "--souce", "x"]),
            "unexpected argument '--souce' found; a similar argument exists: '--source'"
        );
        let overwrite = line(&["mailkeep", "restore", "x", "--target", "y", "--overwrite", "\x1b[2Jz\n"]);
        assert!(!overwrite.contains(char::is_control), "{overwrite:?}");
        assert!(overwrite.contains("always, if-changed, never"), "{overwrite}");
    }
}
