//! `box.toml`: read as written ([`raw`]), then checked into a [`Config`] that can be run.
//!
//! Everything that can be known to be wrong before the box starts is found here, with the name of the key: an
//! unknown key, a source file that is not valid, a schedule that no clock ever reaches.

pub mod raw;
mod suggest;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailkeep_board::{BoardError, Layout};
use mailkeep_mail::source::parse_duration;
use mailkeep_mail::{MailError, Source};
use mailkeep_repository::limits;
use mailkeep_repository::retention::Keep;

use crate::disk_set::Rotation;
use crate::schedule::{Schedule, ScheduleError};
use crate::state_file::TOKEN_FILE;
use raw::{RawConfig, RawRetention, RawWeb};

/// How long a disk stays in the box before another one of the set is due, unless told otherwise.
const ROTATE_EVERY: Duration = Duration::from_secs(7 * 86_400);
/// More disks than this are no set that a person rotates.
const SET_MOST: u32 = 64;
/// Where the box keeps what it remembers, unless told otherwise.
const STATE_DIR: &str = "/var/lib/mailkeep";
/// The box key's file, beside `box.toml` unless told otherwise.
const KEY_FILE: &str = "box.key";

/// Why a configuration can't be used. Each is one line that names the file and the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {}: write one, or name it with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or has a key that is not known or has the wrong type.
    #[error("{}{}: {problem}", path.display(), at_line(*line))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: Option<usize>,
        /// What is wrong there.
        problem: String,
    },
    /// A value can't be used.
    #[error("{}: {key}: {problem}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key with its table.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The board can't be made out.
    #[error("{}: [board] cannot be used", path.display())]
    Board {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BoardError,
    },
    /// A source file can't be read.
    #[error("cannot read the source file {}", path.display())]
    ReadSource {
        /// The source file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A source file is not valid.
    #[error(transparent)]
    Source(#[from] MailError),
}

fn at_line(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

/// How a box is to run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The box's name.
    pub name: String,
    /// Where the box keeps what it remembers.
    pub state_dir: PathBuf,
    /// The box key.
    pub key_file: PathBuf,
    /// The front panel.
    pub board: Layout,
    /// Device paths at which disks appear, for boards that have no disks of their own.
    pub disk_paths: Vec<PathBuf>,
    /// How many disks rotate, and how often.
    pub rotation: Rotation,
    /// Without a proven backup for longer than this, the box says "overdue".
    pub overdue_after: Option<Duration>,
    /// In how many runs each disk is wholly read back.
    pub verify_runs: u32,
    /// Where the status page and the API are on the network, if they are there.
    pub listen: Option<String>,
    /// When backups begin by themselves.
    pub schedule: Option<Schedule>,
    /// Make up for a backup that was due while the box was off.
    pub catch_up: bool,
    /// What is backed up, in this order.
    pub sources: Vec<Source>,
    /// Servers that are kept up to date after each backup of the source that they stand by for.
    pub standbys: Vec<Standby>,
    /// Which old snapshots stay; `None`: all of them, for ever.
    pub retention: Option<Keep>,
    /// Tables that are known but have no effect in this version.
    pub without_effect: Vec<&'static str>,
}

/// A server that stands by for a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// Its name.
    pub name: String,
    /// The source that it stands by for.
    pub of: String,
    /// Its source file.
    pub file: PathBuf,
}

impl Config {
    /// Reads and checks a configuration, with all files that it names.
    ///
    /// # Errors
    /// A [`ConfigError`]; nothing has been started or changed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let raw = raw::parse(&text).map_err(|(line, problem)| ConfigError::Syntax {
            path: path.to_owned(),
            line,
            problem,
        })?;
        Check { path, base: path.parent().unwrap_or(Path::new("")) }.config(raw)
    }

    /// The configuration as a person reads it, one fact a line.
    pub fn describe(&self) -> String {
        let mut lines = vec![
            format!("box        {}", self.name),
            format!("state      {}", self.state_dir.display()),
            format!("box key    {}", self.key_file.display()),
        ];
        lines.push(match &self.board {
            Layout::Bench(bench) => format!("board      bench, {} disks", bench.disks.len()),
            Layout::LinuxGpio(gpio) => format!("board      GPIO lines of {}", gpio.chip.display()),
        });
        for source in &self.sources {
            lines.push(format!("source     {} ({})", source.name.as_str(), source.system.word()));
        }
        for standby in &self.standbys {
            lines.push(format!("standby    {} for {}, after each backup of it", standby.name, standby.of));
        }
        lines.push(match &self.schedule {
            None => "schedule   none: backups begin by button".to_owned(),
            Some(schedule) => {
                format!("schedule   {schedule}{}", if self.catch_up { ", catches up" } else { "" })
            }
        });
        lines.push(match &self.retention {
            None => "retention  none: nothing is ever removed".to_owned(),
            Some(keep) => format!("retention  {}", rules(keep)),
        });
        if let Some(size) = self.rotation.set_size.filter(|size| *size > 1) {
            lines.push(format!("disks      {size}, each for {}", days(self.rotation.every)));
        }
        if let Some(after) = self.overdue_after {
            lines.push(format!("overdue    after {} hours without a proven backup", after.as_secs() / 3600));
        }
        if let Some(listen) = &self.listen {
            let token = self.state_dir.join(TOKEN_FILE);
            lines.push(format!("page       http://{listen}/; the token is in {}", token.display()));
        }
        for table in &self.without_effect {
            lines.push(format!("note       {table} has no effect in this version"));
        }
        lines.join("\n")
    }
}

fn days(seconds: i64) -> String {
    match (seconds / 86_400, seconds % 86_400) {
        (1, 0) => "1 day".to_owned(),
        (days, 0) => format!("{days} days"),
        _ => format!("{} hours", seconds / 3600),
    }
}

fn rules(keep: &Keep) -> String {
    let rules = [
        ("last", keep.last),
        ("hourly", keep.hourly),
        ("daily", keep.daily),
        ("weekly", keep.weekly),
        ("monthly", keep.monthly),
        ("yearly", keep.yearly),
    ];
    let given = rules.into_iter().filter(|(_, count)| *count > 0);
    given.map(|(rule, count)| format!("keep-{rule} {count}")).collect::<Vec<_>>().join(", ")
}

struct Check<'a> {
    path: &'a Path,
    base: &'a Path,
}

impl Check<'_> {
    fn config(&self, raw: RawConfig) -> Result<Config, ConfigError> {
        let board = raw
            .board
            .ok_or_else(|| {
                self.bad("board", "is missing: add [board] with kind = \"bench\" or \"linux-gpio\"")
            })?
            .check(self.base)
            .map_err(|source| ConfigError::Board { path: self.path.to_owned(), source })?;
        let overdue_after = match raw.disks.overdue_after.as_deref() {
            None => None,
            Some(text) => {
                Some(parse_duration(text).map_err(|problem| self.bad("disks.overdue-after", problem))?)
            }
        };
        let schedule = match raw.schedule.backup.as_deref() {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|error: ScheduleError| self.bad("schedule.backup", error.to_string()))?,
            ),
        };
        let without_effect = [("[notify]", raw.notify.is_some())];
        let sources = self.sources(raw.source)?;
        Ok(Config {
            name: self.name(raw.r#box.name)?,
            state_dir: self.base.join(raw.r#box.state_dir.unwrap_or_else(|| STATE_DIR.into())),
            key_file: self.base.join(raw.r#box.key_file.unwrap_or_else(|| KEY_FILE.into())),
            rotation: self.rotation(raw.disks.set_size, raw.disks.rotate_every.as_deref())?,
            disk_paths: self.disk_paths(raw.disks.paths, &board)?,
            board,
            overdue_after,
            verify_runs: self.verify_runs(raw.disks.verify_runs)?,
            listen: self.listen(raw.web)?,
            schedule,
            catch_up: raw.schedule.catch_up.unwrap_or(true),
            standbys: self.standbys(raw.standby, &sources)?,
            sources,
            retention: self.retention(raw.retention)?,
            without_effect: without_effect
                .into_iter()
                .filter(|(_, set)| *set)
                .map(|(name, _)| name)
                .collect(),
        })
    }

    fn listen(&self, raw: Option<RawWeb>) -> Result<Option<String>, ConfigError> {
        let listen = raw.and_then(|web| web.listen);
        if let Some(listen) = &listen {
            let address: Result<SocketAddr, _> = listen.parse();
            let problem = |_| self.bad("web.listen", "must be an address with a port, as \"0.0.0.0:8080\"");
            address.map_err(problem)?;
        }
        Ok(listen)
    }

    fn rotation(&self, set_size: Option<u32>, every: Option<&str>) -> Result<Rotation, ConfigError> {
        if set_size.is_some_and(|size| !(1..=SET_MOST).contains(&size)) {
            return Err(self.bad("disks.set-size", format!("must be 1 to {SET_MOST}")));
        }
        let every = every.map_or(Ok(ROTATE_EVERY), parse_duration);
        let every = every.map_err(|problem| self.bad("disks.rotate-every", problem))?;
        Ok(Rotation { set_size, every: i64::try_from(every.as_secs()).unwrap_or(i64::MAX) })
    }

    fn verify_runs(&self, runs: Option<u32>) -> Result<u32, ConfigError> {
        let runs = runs.unwrap_or(limits::SLICES);
        if !(1..=limits::SLICES_MAX).contains(&runs) {
            return Err(self.bad("disks.verify-runs", format!("must be 1 to {}", limits::SLICES_MAX)));
        }
        Ok(runs)
    }

    fn retention(&self, raw: Option<RawRetention>) -> Result<Option<Keep>, ConfigError> {
        let Some(raw) = raw else { return Ok(None) };
        let count = |key: &str, count: Option<u32>| match count {
            Some(0) => {
                Err(self.bad(&format!("retention.{key}"), "must be at least 1: leave it out for none"))
            }
            other => Ok(other.unwrap_or(0)),
        };
        let keep = Keep {
            last: count("keep-last", raw.keep_last)?,
            hourly: count("keep-hourly", raw.keep_hourly)?,
            daily: count("keep-daily", raw.keep_daily)?,
            weekly: count("keep-weekly", raw.keep_weekly)?,
            monthly: count("keep-monthly", raw.keep_monthly)?,
            yearly: count("keep-yearly", raw.keep_yearly)?,
        };
        Ok((!keep.is_empty()).then_some(keep))
    }

    fn name(&self, name: Option<String>) -> Result<String, ConfigError> {
        let name = name.unwrap_or_else(|| "mailkeep".to_owned());
        if name.is_empty() || name.len() > 63 || name.chars().any(char::is_control) {
            return Err(self.bad("box.name", "must have 1 to 63 bytes and no control characters"));
        }
        Ok(name)
    }

    fn disk_paths(&self, paths: Vec<PathBuf>, board: &Layout) -> Result<Vec<PathBuf>, ConfigError> {
        match board {
            Layout::Bench(_) if !paths.is_empty() => {
                Err(self.bad("disks.paths", "is for real boards: the bench board has board.bench.disks"))
            }
            Layout::LinuxGpio(_) if paths.is_empty() => {
                Err(self.bad("disks.paths", "is missing: name the disks, as /dev/disk/by-id/…-part1"))
            }
            Layout::Bench(_) | Layout::LinuxGpio(_) => {
                Ok(paths.into_iter().map(|path| self.base.join(path)).collect())
            }
        }
    }

    fn sources(&self, raw: Vec<raw::RawSource>) -> Result<Vec<Source>, ConfigError> {
        if raw.is_empty() {
            return Err(self.bad("source", "is missing: add [[source]] with file = \"…\""));
        }
        let mut sources: Vec<Source> = Vec::new();
        for entry in raw {
            let source = self.source_file("source", entry)?.1;
            if sources.iter().any(|known| known.name == source.name) {
                return Err(self.bad("source", format!("\"{}\" is named twice", source.name.as_str())));
            }
            sources.push(source);
        }
        Ok(sources)
    }

    fn source_file(&self, table: &str, entry: raw::RawSource) -> Result<(PathBuf, Source), ConfigError> {
        let file = entry.file.ok_or_else(|| self.bad(&format!("{table}.file"), "is missing"))?;
        let path = self.base.join(file);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::ReadSource { path: path.clone(), source })?;
        let source = Source::parse(&text, &path.display().to_string())?;
        Ok((path, source))
    }

    fn standbys(&self, raw: Vec<raw::RawSource>, sources: &[Source]) -> Result<Vec<Standby>, ConfigError> {
        let mut standbys: Vec<Standby> = Vec::new();
        for entry in raw {
            let (file, source) = self.source_file("standby", entry)?;
            let name = source.name.as_str().to_owned();
            let Some(standby) = source.standby else {
                let what =
                    format!("{name} has no section [standby] with of = \"NAME\" in {}", file.display());
                return Err(self.bad("standby", what));
            };
            let of = standby.of.as_str().to_owned();
            if sources.iter().all(|source| source.name.as_str() != of) {
                return Err(self
                    .bad("standby", format!("{name} stands by for \"{of}\", which is no [[source]] here")));
            }
            // Its snapshots would be those of a server without mail, and each backup would meet a stopped one.
            if sources.iter().any(|source| source.name.as_str() == name) {
                return Err(self.bad("standby", format!("{name} is a [[source]] as well: it cannot be both")));
            }
            if standbys.iter().any(|known| known.name == name) {
                return Err(self.bad("standby", format!("\"{name}\" is named twice")));
            }
            standbys.push(Standby { name, of, file });
        }
        Ok(standbys)
    }

    fn bad(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value { path: self.path.to_owned(), key: key.to_owned(), problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "name = 'tree'\nsystem = 'generic'\n[transport]\nkind = 'local'\n[generic]\npaths = ['/srv']\n";
    const GOOD: &str = "[box]\nname = 'b'\nstate-dir = 'state'\n[board]\nkind = 'bench'\n[board.bench]\n\
                        disks = ['d1']\ninsert = 1\n[[source]]\nfile = 'tree.toml'\n";

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tree.toml"), SOURCE).unwrap();
        let standby = SOURCE.replace("'tree'", "'second'");
        for (name, of) in [("second", "tree"), ("stranger", "nobody")] {
            std::fs::write(
                folder.path().join(format!("{name}.toml")),
                format!("{standby}[standby]\nof = '{of}'\n"),
            )
            .unwrap();
        }
        let path = folder.path().join("box.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn a_small_bench_config_is_enough() {
        let config = load(GOOD).unwrap();
        assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("state"));
        assert!(config.key_file.ends_with("box.key"));
        assert_eq!(config.sources[0].name.as_str(), "tree");
        assert!(config.schedule.is_none() && config.catch_up);
        assert_eq!(config.retention, None, "without rules nothing is ever removed");
        assert_eq!(load(&format!("{GOOD}[retention]\n")).unwrap().retention, None);
    }

    #[test]
    fn a_standby_is_of_a_source() {
        let config = load(&format!("{GOOD}[[standby]]\nfile = 'second.toml'\n")).unwrap();
        let [standby] = &config.standbys[..] else { panic!("{:?}", config.standbys) };
        assert_eq!((standby.name.as_str(), standby.of.as_str()), ("second", "tree"));
        assert!(standby.file.is_absolute() && config.describe().contains("standby    second for tree"));
    }

    #[test]
    fn every_documented_table_is_known() {
        let all = format!(
            "{GOOD}[disks]\nset-size = 3\nrotate-every = '1d'\noverdue-after = '2d'\nverify-runs = 7\n[schedule]\nbackup = '02:30'\ncatch-up = false\n\
             [retention]\nkeep-daily = 14\nkeep-weekly = 8\n[web]\nlisten = '0.0.0.0:80'\n[notify]\nmail = 'a@b'\n"
        );
        let config = load(&all).unwrap();
        assert_eq!(config.overdue_after, Some(Duration::from_secs(2 * 86_400)));
        assert!(!config.catch_up);
        assert_eq!(config.verify_runs, 7);
        let words = config.describe();
        for line in [
            "02:30",
            "3, each for 1 day",
            "after 48 hours",
            "page       http://0.0.0.0:80/",
            "[notify] has no effect",
            "retention  keep-daily 14, keep-weekly 8",
        ] {
            assert!(words.contains(line), "{line}: {words}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_in_one_line() {
        for (text, words) in [
            ("", "board: is missing"),
            ("[box]\nnmae = 'x'\n", ":2: unknown key `nmae` (did you mean `name`?)"),
            ("[bord]\nkind = 'bench'\n", "unknown key `bord` (did you mean `board`?)"),
            ("[board]\nkind = 'bench'\n[board.bench]\ndsks = []\n", "did you mean `disks`?"),
            ("[schedule]\nbackup = 3\n", "invalid type"),
            ("not toml", ":1: "),
            (&GOOD.replace("tree.toml", "no.toml"), "no.toml"),
            (&format!("{GOOD}[[source]]\nfile = 'tree.toml'\n"), "named twice"),
            (&format!("{GOOD}[[standby]]\nfile = 'tree.toml'\n"), "standby: tree has no section [standby]"),
            (&format!("{GOOD}[[standby]]\nfile = 'stranger.toml'\n"), "\"nobody\", which is no [[source]]"),
            (
                &format!("{GOOD}{}", "[[standby]]\nfile = 'second.toml'\n".repeat(2)),
                "\"second\" is named twice",
            ),
            (
                &format!("{GOOD}[[source]]\nfile = 'second.toml'\n[[standby]]\nfile = 'second.toml'\n"),
                "it cannot be both",
            ),
            (&format!("{GOOD}[[standby]]\n"), "standby.file: is missing"),
            (&format!("{GOOD}[schedule]\nbackup = '25:00'\n"), "schedule.backup: "),
            (&format!("{GOOD}[disks]\noverdue-after = '2'\n"), "disks.overdue-after: "),
            (&format!("{GOOD}[web]\nlisten = '8080'\n"), "web.listen: must be an address"),
            (&format!("{GOOD}[disks]\nset-size = 0\n"), "disks.set-size: must be 1 to"),
            (&format!("{GOOD}[disks]\nrotate-every = 'x'\n"), "disks.rotate-every: "),
            (&format!("{GOOD}[disks]\nverify-runs = 0\n"), "disks.verify-runs: must be 1 to"),
            (&format!("{GOOD}[retention]\nkeep-daily = 0\n"), "retention.keep-daily: must be at least 1"),
            (&format!("{GOOD}[retention]\nkeep-daily = -1\n"), "invalid value"),
            (&format!("{GOOD}[disks]\npaths = ['/dev/sda1']\n"), "disks.paths: "),
            (&GOOD.replace("insert = 1", "insert = 4"), "[board] cannot be used"),
            ("[board]\nkind = 'bench'\n", "source: is missing"),
        ] {
            let text = load(text).unwrap_err().to_string();
            assert!(text.contains(words) && text.lines().count() == 1, "{words}: {text}");
        }
    }
}
