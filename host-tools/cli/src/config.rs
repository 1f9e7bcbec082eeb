//! The config file of this tool: TOML with `repo` and `key-file`, in the config folder or where `--config` says.
//!
//! The config folder is `/etc/mailkeep` for root, else `mailkeep` in the user's own config folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{self, Failure};

const KEYS: [&str; 2] = ["repo", "key-file"];
/// Likeness from which a known key is taken for the one that was meant (Jaro-Winkler).
const ALIKE: f64 = 0.7;
/// A config file is a few lines; more is something else.
const MAX_BYTES: u64 = 64 << 10;

/// What the config file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) repo: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

/// The folder for the config file and the box key.
pub(crate) fn folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/etc/mailkeep");
    }
    set("XDG_CONFIG_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".config")))
        .map_or_else(|| PathBuf::from("/etc/mailkeep"), |config| config.join("mailkeep"))
}

/// The folder for what this tool remembers; see `disks.rs`.
pub(crate) fn state_folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = set("MAILKEEP_STATE") {
        return named;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/mailkeep");
    }
    set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))
        .map_or_else(|| PathBuf::from("/var/lib/mailkeep"), |state| state.join("mailkeep"))
}

/// Reads the config file: the one that was named, else the default one if it is there.
pub(crate) fn load(named: Option<&Path>) -> Result<Config, Failure> {
    let path = named.map_or_else(|| folder().join("cli.toml"), Path::to_owned);
    let read = || {
        let length = std::fs::metadata(&path)?.len();
        if length > MAX_BYTES {
            return Err(io::Error::other(format!("{length} bytes are too many for a config file")));
        }
        std::fs::read_to_string(&path)
    };
    match read() {
        Ok(text) => parse(&text, &path),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(Failure::file(exit::CONFIG, "read the config file", &path, &error)),
    }
}

fn parse(text: &str, path: &Path) -> Result<Config, Failure> {
    let origin = path.display().to_string();
    let bad = |line: usize, what: String| {
        Failure::new(exit::CONFIG, format!("{origin}, line {line}: {what}")).at(origin.clone())
    };
    let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = line_of(error.span().map_or(0, |span| span.start));
        bad(line, error.message().lines().next().unwrap_or("not TOML").to_owned())
    })?;
    // A key's own line, for keys that parsed well: the first that begins with it.
    let line_with = |key: &str| {
        1 + text
            .lines()
            .position(|line| line.trim_start().trim_start_matches(['[', '"']).starts_with(key))
            .unwrap_or(0)
    };
    let mut config = Config::default();
    for (key, value) in table {
        let line = line_with(&key);
        let slot = match key.as_str() {
            "repo" => &mut config.repo,
            "key-file" => &mut config.key_file,
            unknown => {
                let failure = bad(line, format!("unknown key `{unknown}`"));
                return Err(match nearest(unknown) {
                    Some(known) => failure.hint(format!("did you mean `{known}`?")),
                    None => failure.hint("known keys are `repo` and `key-file`"),
                });
            }
        };
        let text = value.as_str().filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| bad(line, format!("`{key}` must be a path in quotes")))?;
        *slot = Some(PathBuf::from(text));
    }
    Ok(config)
}

fn nearest(unknown: &str) -> Option<&'static str> {
    let unknown = unknown.to_lowercase().replace('_', "-");
    KEYS.into_iter()
        .map(|known| (strsim::jaro_winkler(&unknown, known), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> (u8, String) {
        match parse(text, Path::new("cli.toml")) {
            Err(Failure::Told { code, what, hint, .. }) => {
                (code, format!("{what}; {}", hint.unwrap_or_default()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_keys_are_read_and_nothing_is_needed() {
        let config = parse("repo = \"/mnt/disk\"\nkey-file = \"/k\"\n", Path::new("c")).unwrap();
        assert_eq!(config.repo, Some(PathBuf::from("/mnt/disk")));
        assert_eq!(config.key_file, Some(PathBuf::from("/k")));
        assert_eq!(parse("# nothing\n", Path::new("c")).unwrap(), Config::default());
    }

    #[test]
    fn mistakes_name_file_line_and_the_nearest_key() {
        let unknown = told("repo = \"/x\"\nkey_file = \"/k\"\n");
        assert_eq!(
            unknown,
            (78, "cli.toml, line 2: unknown key `key_file`; did you mean `key-file`?".to_owned())
        );
        assert!(told("rpeo = \"/x\"").1.ends_with("did you mean `repo`?"));
        assert!(told("colour = 1").1.ends_with("known keys are `repo` and `key-file`"));
        assert_eq!(told("repo = 5\n").1, "cli.toml, line 1: `repo` must be a path in quotes; ");
        let (code, text) = told("repo = \"/x\"\nkey-file = \n");
        assert!(code == 78 && text.starts_with("cli.toml, line 2: "), "{text}");
    }
}
