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
