//! The programs that are compared: how each makes a repository, backs up, restores and verifies.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mailkeep_tests::process::have;
use mailkeep_tests::programs;

/// A step of a tool's life; each is measured on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A backup (first, no change or day, by when it is called).
    Backup,
    /// Everything back into an empty folder.
    Restore,
    /// Every byte of the repository checked.
    Verify,
}

/// One tool with a work folder of its own.
pub(crate) struct Tool {
    /// Its name in the table.
    pub name: &'static str,
    home: PathBuf,
    spool: PathBuf,
    mailkeep: Option<PathBuf>,
}

impl Tool {
    /// The tools that are installed here, ours first; the others are named on stderr.
    pub(crate) fn all(work: &Path, spool: &Path) -> Result<Vec<Tool>> {
        let mut tools = Vec::new();
        for name in ["mailkeep", "restic", "borg", "rsync"] {
            let mailkeep = if name == "mailkeep" { Some(programs::bin("mailkeep")?) } else { None };
            if mailkeep.is_none() && !have(name) {
                eprintln!("{name} is not installed: left out (apt-get install {name})");
                continue;
            }
            let home = work.join(name);
            fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
            tools.push(Tool { name, home, spool: spool.to_owned(), mailkeep });
        }
        Ok(tools)
    }

    /// Whether the tool has this step (rsync has nothing to verify).
    pub(crate) fn has(&self, step: Step) -> bool {
        !(self.name == "rsync" && step == Step::Verify)
    }

    /// Environment of every command.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let home = self.home.display();
        [
            ("HOME", format!("{home}")),
            ("RESTIC_PASSWORD", "bench".into()),
            ("RESTIC_REPOSITORY", format!("{home}/repo")),
            ("RESTIC_CACHE_DIR", format!("{home}/cache")),
            ("BORG_PASSPHRASE", "bench".into()),
            ("BORG_REPO", format!("{home}/repo")),
            ("BORG_BASE_DIR", format!("{home}")),
            ("MAILKEEP_REPO", format!("{home}/repo")),
            ("MAILKEEP_KEY_FILE", format!("{home}/box.key")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// The command that makes the repository; `None` where there is none to make.
    pub(crate) fn init(&self) -> Result<Option<Vec<String>>> {
        Ok(match self.name {
            "mailkeep" => {
                let source = format!(
                    "name = \"bench\"\nsystem = \"generic\"\n[transport]\nkind = \"local\"\n\
                     [generic]\npaths = [{:?}]\nwrite-once = [\"*.\"]\n",
                    self.spool.display().to_string()
                );
                fs::write(self.home.join("source.toml"), source)?;
                let recovery = self.home.join("recovery.txt").display().to_string();
                Some(self.words(&["init", "--recovery-out", &recovery]))
            }
            "restic" => Some(self.words(&["init", "-q"])),
            "borg" => Some(self.words(&["init", "-e", "repokey-blake2"])),
            _ => None,
        })
    }

    /// The command for a step. `round` makes names unique.
    pub(crate) fn command(&self, step: Step, round: usize) -> Vec<String> {
        let spool = self.spool.display().to_string();
        let source = self.home.join("source.toml").display().to_string();
        let target = self.target().display().to_string();
        let archive = format!("::{round}");
        match (self.name, step) {
            ("mailkeep", Step::Backup) => self.words(&["backup", "--source", &source, "-q"]),
            ("mailkeep", Step::Restore) => self.words(&["restore", "latest", "--target", &target, "-q"]),
            ("mailkeep", Step::Verify) => self.words(&["verify", "--read-data", "-q"]),
            ("restic", Step::Backup) => self.words(&["backup", "-q", "--compression", "auto", &spool]),
            ("restic", Step::Restore) => self.words(&["restore", "latest", "-q", "--target", &target]),
            ("restic", Step::Verify) => self.words(&["check", "-q", "--read-data"]),
            ("borg", Step::Backup) => self.words(&["create", "--compression", "zstd,3", &archive, &spool]),
            ("borg", Step::Restore) => self.words(&["extract", &format!("::{}", round.saturating_sub(1))]),
            ("borg", Step::Verify) => self.words(&["check", "--verify-data"]),
            ("rsync", Step::Backup) => self.words(&[
                "-a",
                "--delete",
                &format!("{spool}/"),
                &format!("{}/repo/", self.home.display()),
            ]),
            (_, _) => self.words(&["-a", &format!("{}/repo/", self.home.display()), &format!("{target}/")]),
        }
    }

    /// The folder in which a step runs and which it restores into; emptied before a restore.
    pub(crate) fn target(&self) -> PathBuf {
        self.home.join("restored")
    }

    /// Where its repository lies.
    pub(crate) fn repository(&self) -> PathBuf {
        self.home.join("repo")
    }

    fn words(&self, args: &[&str]) -> Vec<String> {
        let program = match &self.mailkeep {
            Some(path) => path.display().to_string(),
            None => self.name.to_owned(),
        };
        std::iter::once(program).chain(args.iter().map(|&word| word.to_owned())).collect()
    }
}
