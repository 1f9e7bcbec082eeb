//! The programs that are compared. Each has a file that says how it makes a repository and does each row; all encrypt,
//! with zstd at their usual level (3 where it can be chosen), and keep caches outside of the repository.

mod borg;
mod bupstash;
mod mailkeep;
mod restic;
mod rsync;
mod rustic;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mailkeep_tests::process::have;
use mailkeep_tests::programs;

use crate::rows::Row;

/// Ours: it stands first in every table, and the ratios are to it.
pub(crate) const OURS: &str = "mailkeep";

/// A command line, its program first.
pub(crate) type Line = Vec<String>;

/// What one tool does.
trait Commands {
    /// Its name, which is its program's too.
    fn name(&self) -> &'static str;
    /// What all its commands find in their environment.
    fn env(&self, at: &Place) -> Vec<(&'static str, String)>;
    /// What makes a repository; not measured.
    fn init(&self, at: &Place) -> Result<Vec<Line>>;
    /// What does a row; nothing where the tool has no such thing.
    fn steps(&self, row: Row, at: &Place) -> Vec<Line>;
    /// How to get it.
    fn install(&self) -> &'static str;
}

/// Where a tool works. All commands run in its target folder.
pub(crate) struct Place {
    program: PathBuf,
    home: PathBuf,
    spool: PathBuf,
    /// The folder that is restored alone, from the root of the spool.
    folder: PathBuf,
}

impl Place {
    /// The folder that is restored into.
    pub(crate) fn target(&self) -> PathBuf {
        self.home.join("restored")
    }

    /// Where the repository lies.
    pub(crate) fn repository(&self) -> PathBuf {
        self.home.join("repo")
    }

    /// Where it says how much was read through a mount.
    pub(crate) fn told(&self) -> PathBuf {
        self.home.join("read.txt")
    }

    /// A path in the tool's own folder, beside the repository.
    fn own(&self, name: &str) -> String {
        self.home.join(name).display().to_string()
    }

    fn spool(&self) -> String {
        self.spool.display().to_string()
    }

    fn folder(&self) -> String {
        self.folder.display().to_string()
    }

    /// Where the one folder lies in the file system.
    fn folder_in_spool(&self) -> String {
        self.spool.join(&self.folder).display().to_string()
    }

    fn line<S: AsRef<str>>(&self, args: &[S]) -> Line {
        let program = self.program.display().to_string();
        std::iter::once(program).chain(args.iter().map(|word| word.as_ref().to_owned())).collect()
    }
}

/// One tool with a work folder of its own.
pub(crate) struct Tool {
    commands: Box<dyn Commands>,
    /// Where it works.
    pub(crate) place: Place,
}

impl Tool {
    /// The tools of these names (all if there are none) that are installed, ours first, and the names of those that are not.
    ///
    /// A peer is looked for in the folder `MAILKEEP_PEERS`, in its `bin`, and in PATH.
    pub(crate) fn all(
        wanted: &[String],
        work: &Path,
        spool: &Path,
        folder: &Path,
    ) -> Result<(Vec<Tool>, Vec<&'static str>)> {
        let known: Vec<Box<dyn Commands>> = vec![
            Box::new(mailkeep::Mailkeep),
            Box::new(restic::Restic),
            Box::new(borg::Borg),
            Box::new(bupstash::Bupstash),
            Box::new(rustic::Rustic),
            Box::new(rsync::Rsync),
        ];
        if let Some(unknown) = wanted.iter().find(|name| known.iter().all(|tool| tool.name() != **name)) {
            let names: Vec<_> = known.iter().map(|tool| tool.name()).collect();
            bail!("no tool `{unknown}`: there are {}", names.join(", "));
        }
        let (mut tools, mut missing) = (Vec::new(), Vec::new());
        for commands in known {
            let name = commands.name();
            if name != OURS && !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
                continue;
            }
            let program = if name == OURS { Some(programs::bin(name)?) } else { find(name) };
            let Some(program) = program else {
                eprintln!("{name} is not installed: left out ({})", commands.install());
                missing.push(name);
                continue;
            };
            let home = work.join(name);
            fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
            let place = Place { program, home, spool: spool.to_owned(), folder: folder.to_owned() };
            tools.push(Tool { commands, place });
        }
        Ok((tools, missing))
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.commands.name()
    }

    /// The environment of every command.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        let mut env = self.commands.env(&self.place);
        env.push(("HOME", self.place.home.display().to_string()));
        env
    }

    /// What makes its repository.
    pub(crate) fn init(&self) -> Result<Vec<Line>> {
        self.commands.init(&self.place)
    }

    /// What does a row; empty if the tool cannot.
    pub(crate) fn steps(&self, row: Row) -> Vec<Line> {
        self.commands.steps(row, &self.place)
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let peers = std::env::var_os("MAILKEEP_PEERS").map(PathBuf::from);
    let beside = peers.iter().flat_map(|folder| [folder.join(name), folder.join("bin").join(name)]);
    beside.into_iter().find(|path| path.is_file()).or_else(|| have(name).then(|| PathBuf::from(name)))
}
