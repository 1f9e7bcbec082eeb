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
        // An empty variable is none.
        let set = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        let key_file = set(&global.key_file).or(config.key_file);
        Ok(Options {
            repo: set(&global.repo).or(config.repo),
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
