//! `generate`: man pages and shell completions, made from the same description as `--help`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::App;
use crate::args::Cli;
use crate::exit::{self, Failure};
use crate::text;

/// The main page on stdout, or all pages into a folder.
pub(crate) fn man(app: &App, out: Option<&Path>) -> Result<u8, Failure> {
    match out {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder))
                .map_err(|error| Failure::file(exit::FAILED, "write man pages to", folder, &error))?;
            app.console.say(&text::report::pages_in(&folder.display().to_string()))?;
        }
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page)?;
            app.console.raw(&page)?;
        }
    }
    Ok(exit::DONE)
}

/// Completions on stdout.
pub(crate) fn completions(app: &App, shell: Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mailkeep", &mut script);
    app.console.raw(&script)?;
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{Command, ValueEnum};

    use super::*;

    /// Every verb of the parser with the words that lead to it, and the flags of its own that are not hidden.
    fn verbs() -> Vec<(Vec<String>, Vec<String>)> {
        fn below(command: &Command, way: &[String], all: &mut Vec<(Vec<String>, Vec<String>)>) {
            for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
                let way = [way, &[verb.get_name().to_owned()]].concat();
                let flags = verb.get_arguments().filter(|flag| !flag.is_hide_set() && !flag.is_global_set());
                let flags = flags.filter_map(|flag| flag.get_long().map(str::to_owned)).collect();
                all.push((way.clone(), flags));
                below(verb, &way, all);
            }
        }
        let mut command = Cli::command();
        command.build();
        let mut all = Vec::new();
        below(&command, &[], &mut all);
        all
    }

    #[test]
    fn every_verb_and_flag_of_the_parser_has_its_place_in_the_man_pages() {
        let verbs = verbs();
        assert!(
            verbs.len() > 35 && verbs.iter().map(|(_, flags)| flags.len()).sum::<usize>() > 90,
            "{verbs:?}"
        );
        let folder = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder.path()).unwrap();
        for (way, flags) in &verbs {
            let name = format!("mailkeep-{}.1", way.join("-"));
            let page = fs::read_to_string(folder.path().join(&name)).expect(&name).replace("\\-", "-");
            for flag in flags {
                assert!(page.contains(&format!("--{flag}")), "{name} lacks --{flag}");
            }
        }
        let pages = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(pages, verbs.len() + 1, "there is a page of no verb");
    }

    #[test]
    fn every_verb_and_flag_of_the_parser_can_be_completed() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mailkeep", &mut script);
            let script = String::from_utf8(script).unwrap();
            for (way, flags) in verbs() {
                // In fish a flag is `-l NAME` in a line that names its verb; elsewhere `--NAME` in some block.
                let of_verb: Vec<&str> = match shell {
                    Shell::Fish => {
                        script.lines().filter(|line| way.iter().all(|word| line.contains(word))).collect()
                    }
                    _ => script.lines().collect(),
                };
                let prefix = if shell == Shell::Fish { "-l " } else { "--" };
                for flag in flags {
                    let wanted = format!("{prefix}{flag}");
                    let is_there = |line: &&str| {
                        line.match_indices(&wanted).any(|(at, _)| {
                            !line[at + wanted.len()..]
                                .starts_with(|next: char| next == '-' || next.is_alphanumeric())
                        })
                    };
                    assert!(of_verb.iter().any(is_there), "{shell}: {way:?} lacks {wanted}");
                }
                let word = way.last().unwrap();
                assert!(script.contains(word.as_str()), "{shell} does not know {word}");
            }
        }
        assert_eq!(Shell::value_variants().len(), 5, "another shell: test it too");
    }
}
