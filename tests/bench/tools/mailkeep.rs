//! Ours: the spool as a generic source whose message files are written once, pulled by an agent on the same machine.
//!
//! A sweep has two phases with a sealed snapshot in between, so prune is measured as what reclaims the room: prune, the
//! next backup, prune, without the days of grace.

use std::fs;

use anyhow::Result;

use super::{Commands, Line, OURS, Place};
use crate::mounted;
use crate::rows::Row;

pub(super) struct Mailkeep;

impl Commands for Mailkeep {
    fn name(&self) -> &'static str {
        OURS
    }

    fn env(&self, at: &Place) -> Vec<(&'static str, String)> {
        vec![
            ("MAILKEEP_REPO", at.own("repo")),
            ("MAILKEEP_KEY_FILE", at.own("box.key")),
            ("MAILKEEP_AGENT_STATE", at.own("agent")),
            ("MAILKEEP_AGENT_BOOT", "no".into()),
            ("XDG_CONFIG_HOME", at.own("config")),
        ]
    }

    fn init(&self, at: &Place) -> Result<Vec<Line>> {
        let source = format!(
            "name = \"bench\"\nsystem = \"generic\"\n[transport]\nkind = \"local\"\n\
             [generic]\npaths = [{:?}]\nwrite-once = [\"*.\"]\n",
            at.spool()
        );
        fs::write(at.own("source.toml"), source)?;
        Ok(vec![at.line(&["init", "--recovery-out", &at.own("recovery.txt")])])
    }

    fn steps(&self, row: Row, at: &Place) -> Vec<Line> {
        let target = at.target().display().to_string();
        let source = at.own("source.toml");
        let backup = ["backup", "-q", "--source", &source];
        let prune = ["prune", "-q", "--keep-last", "1", "--grace", "0s"];
        let args: &[&str] = match row {
            Row::First | Row::NoChange | Row::Day => &backup,
            Row::Restore => &["restore", "latest", "-q", "--target", &target],
            Row::Folder => &["restore", "latest", "-q", "--target", &target, "--path", &at.folder_in_spool()],
            Row::FirstLs => return vec![through_mount(at, mounted::LIST)],
            Row::Mount => return vec![through_mount(at, mounted::READ)],
            Row::Verify => &["verify", "-q", "--read-data"],
            Row::Prune => return vec![at.line(&prune), at.line(&backup), at.line(&prune)],
        };
        vec![at.line(args)]
    }

    fn install(&self) -> &'static str {
        "cargo build --release"
    }
}

/// This program, as the reader of a mount.
fn through_mount(at: &Place, how: &str) -> Line {
    let me = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    let program = at.program.display().to_string();
    let (point, told) = (at.own("mnt"), at.told().display().to_string());
    let words = ["--mounted", how, &point, &at.spool(), &at.folder(), &program, &told];
    std::iter::once(me).chain(words.map(str::to_owned)).collect()
}
