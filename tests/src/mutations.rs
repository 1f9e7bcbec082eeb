//! The list of safeguards that must not go unnoticed when they are taken out (`tests/mutate/list.toml`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One safeguard, and how it is taken out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// What the safeguard is.
    pub name: String,
    /// Where it stands, from the top of the tree.
    pub file: String,
    /// Its text, which occurs once in that file.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
    /// Arguments of `cargo test`, for each set of tests that is tried in turn.
    pub tests: Vec<String>,
    /// Why no test has to notice.
    pub spared: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutation: Vec<Mutation>,
}

/// The top of the tree.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The whole list.
///
/// # Errors
/// It cannot be read.
pub fn read() -> Result<Vec<Mutation>> {
    let path = root().join("tests/mutate/list.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let list: List = toml::from_str(&text).context("tests/mutate/list.toml")?;
    Ok(list.mutation)
}

impl Mutation {
    /// The text without the safeguard.
    ///
    /// # Errors
    /// The safeguard is not there, or more than once: the list has to follow the code.
    pub fn apply(&self, text: &str) -> Result<String> {
        let count = text.matches(&self.find).count();
        ensure!(count == 1, "{}: its text stands {count} times in {}, not once", self.name, self.file);
        Ok(text.replacen(&self.find, &self.replace, 1))
    }
}
