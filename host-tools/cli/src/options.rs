//! From raw flags to checked options: the one place where flag, environment and config file come together.

use std::path::PathBuf;

use crate::args::Global;
use crate::config;
use crate::exit::{self, Failure};
use crate::text;

/// Global options after flag > environment > config file > default.
#[derive(Debug)]
pub(crate) struct Options {
    repo: Option<PathBuf>,
    /// The key file to open repositories with.
    pub(crate) key_file: PathBuf,
    /// The key file was named by somebody; else it is the default one.
    pub(crate) key_file_named: bool,
}

impl Options {
    /// Checks the global flags.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let config = config::load(global.config.as_deref())?;
        // Read here and not by clap, for which an empty variable is a mistake; to people it is none.
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let key_file = global.key_file.clone().or_else(|| variable("MAILKEEP_KEY_FILE")).or(config.key_file);
        Ok(Options {
            repo: global.repo.clone().or_else(|| variable("MAILKEEP_REPO")).or(config.repo),
            key_file_named: key_file.is_some(),
            key_file: key_file.unwrap_or_else(|| config::folder().join("box.key")),
        })
    }

    /// The repository's folder.
    pub(crate) fn repo(&self) -> Result<&PathBuf, Failure> {
        let missing = || Failure::new(exit::USAGE, text::NO_REPO).hint(text::NO_REPO_HINT);
        self.repo.as_ref().ok_or_else(missing)
    }
}
