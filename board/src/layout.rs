//! Board files: which board it is, and where its lamps, buttons and disks are.
//!
//! The same keys stand in a board file (`boards/*.toml`) and in the `[board]` table of the box's configuration.
//! [`RawLayout`] is the text as written; [`RawLayout::check`] makes a [`Layout`] of it that can be opened.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::BoardError;
use crate::lamp::Polarity;

/// Slots that a bench board can have: keys 1 to 9.
const BENCH_SLOTS: usize = 9;

/// A board description as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawLayout {
    /// `bench` or `linux-gpio`.
    pub kind: Option<String>,
    /// A board file to take instead of all other keys.
    pub file: Option<PathBuf>,
    /// A name for people.
    pub name: Option<String>,
    /// GPIO character device.
    pub chip: Option<PathBuf>,
    /// Lines of the lamps.
    pub lamp: Option<RawLamps>,
    /// Lines of the buttons.
    pub button: Option<RawButtons>,
    /// What the bench board needs.
    pub bench: Option<RawBench>,
}

/// Lines of the lamps, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLamps {
    status: RawLine,
    disk: RawLine,
    fault: RawLine,
}

/// Lines of the buttons, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawButtons {
    backup: RawLine,
    restore: RawLine,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLine {
    line: u32,
    #[serde(default)]
    active_low: bool,
}

/// The bench board, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBench {
    /// Images or folders that stand for disks; the first is disk 1.
    #[serde(default)]
    pub disks: Vec<PathBuf>,
    /// The disk that is in at start.
    pub insert: Option<usize>,
}

/// A line of a GPIO chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Offset on the chip.
    pub offset: u32,
    /// Which level means lit or pressed.
    pub polarity: Polarity,
}

/// A board that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// The bench board.
    Bench(BenchLayout),
    /// Lamps and buttons on GPIO lines.
    LinuxGpio(GpioLayout),
}

/// What the bench board needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchLayout {
    /// Images or folders that stand for disks.
    pub disks: Vec<PathBuf>,
    /// Index of the disk that is in at start.
    pub insert: Option<usize>,
}

/// What a GPIO front panel needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpioLayout {
    /// GPIO character device.
    pub chip: PathBuf,
    /// STATUS, DISK, FAULT.
    pub lamps: [Line; 3],
    /// BACKUP, RESTORE.
    pub buttons: [Line; 2],
}

impl RawLayout {
    /// Reads a board file.
    ///
    /// # Errors
    /// [`BoardError::ReadLayout`], [`BoardError::ParseLayout`].
    pub fn read(path: &Path) -> Result<Self, BoardError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BoardError::ReadLayout { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|source| BoardError::ParseLayout { path: path.to_owned(), source: Box::new(source) })
    }

    /// Makes sure that the description is complete. Relative paths are taken from `base`.
    ///
    /// # Errors
    /// [`BoardError::Layout`], and those of [`RawLayout::read`] where a file is named.
    pub fn check(self, base: &Path) -> Result<Layout, BoardError> {
        if let Some(file) = self.file {
            let path = base.join(file);
            let raw = Self::read(&path)?;
            if raw.file.is_some() {
                return Err(layout("a board file may not name another file"));
            }
            return raw.check(path.parent().unwrap_or(base));
        }
        match self.kind.as_deref() {
            Some("bench") => check_bench(self.bench.unwrap_or_default(), base).map(Layout::Bench),
            Some("linux-gpio") => check_gpio(self.chip, self.lamp, self.button).map(Layout::LinuxGpio),
            Some(other) => {
                Err(layout(format!("unknown kind \"{other}\": use kind = \"bench\" or \"linux-gpio\"")))
            }
            None => Err(layout("no kind: set kind = \"bench\" or \"linux-gpio\", or name a board file")),
        }
    }
}

fn layout(what: impl Into<String>) -> BoardError {
    BoardError::Layout { what: what.into() }
}

fn check_bench(raw: RawBench, base: &Path) -> Result<BenchLayout, BoardError> {
    if raw.disks.len() > BENCH_SLOTS {
        return Err(layout(format!("{} bench disks: there are keys for {BENCH_SLOTS}", raw.disks.len())));
    }
    let insert = match raw.insert {
        None | Some(0) => None,
        Some(number) if number <= raw.disks.len() => Some(number - 1),
        Some(number) => {
            return Err(layout(format!("insert = {number}: there are {} bench disks", raw.disks.len())));
        }
    };
    Ok(BenchLayout { disks: raw.disks.into_iter().map(|disk| base.join(disk)).collect(), insert })
}

fn check_gpio(
    chip: Option<PathBuf>,
    lamps: Option<RawLamps>,
    buttons: Option<RawButtons>,
) -> Result<GpioLayout, BoardError> {
    let chip = chip.ok_or_else(|| layout("no chip: set chip = \"/dev/gpiochip0\" or the like"))?;
    let lamps = lamps.ok_or_else(|| layout("no lamps: set lamp.status, lamp.disk and lamp.fault"))?;
    let buttons = buttons.ok_or_else(|| layout("no buttons: set button.backup and button.restore"))?;
    let line = |raw: RawLine| Line {
        offset: raw.line,
        polarity: if raw.active_low { Polarity::ActiveLow } else { Polarity::ActiveHigh },
    };
    let lamps = [lamps.status, lamps.disk, lamps.fault].map(line);
    let buttons = [buttons.backup, buttons.restore].map(line);
    let all: Vec<u32> = lamps.iter().chain(&buttons).map(|line| line.offset).collect();
    for (place, offset) in all.iter().enumerate() {
        if all[..place].contains(offset) {
            return Err(layout(format!("line {offset} is used twice")));
        }
    }
    Ok(GpioLayout { chip, lamps, buttons })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Layout, BoardError> {
        toml::from_str::<RawLayout>(text).unwrap().check(Path::new("/base"))
    }

    #[test]
    fn the_boards_that_come_with_it_are_valid() {
        let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        let mut seen = 0;
        for entry in std::fs::read_dir(&boards).unwrap() {
            let path = entry.unwrap().path();
            let layout = RawLayout::read(&path).unwrap().check(&boards).unwrap();
            match path.file_name().unwrap().to_str().unwrap() {
                "bench.toml" => assert!(matches!(layout, Layout::Bench(_))),
                _ => assert!(matches!(layout, Layout::LinuxGpio(_)), "{path:?}"),
            }
            seen += 1;
        }
        assert!(seen >= 2);
    }

    #[test]
    fn a_board_file_is_found_beside_the_config_and_its_disks_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let sub = folder.path().join("sub");
        std::fs::create_dir(&sub).unwrap();
        std::fs::write(
            sub.join("b.toml"),
            "kind = 'bench'\nbench.disks = ['a.img', '/abs']\nbench.insert = 2",
        )
        .unwrap();
        let raw: RawLayout = toml::from_str("file = 'sub/b.toml'").unwrap();
        let layout = raw.check(folder.path()).unwrap();
        let disks = vec![sub.join("a.img"), PathBuf::from("/abs")];
        assert_eq!(layout, Layout::Bench(BenchLayout { disks, insert: Some(1) }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("", "no kind"),
            ("kind = 'benhc'", "\"benhc\""),
            ("kind = 'bench'\nbench.insert = 1", "insert = 1"),
            ("kind = 'linux-gpio'", "no chip"),
            (
                "kind = 'linux-gpio'\nchip = 'x'\nlamp.status.line = 1\nlamp.disk.line = 2\nlamp.fault.line = 3\n\
                 button.backup.line = 4\nbutton.restore.line = 2",
                "line 2 is used twice",
            ),
        ] {
            let error = check(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
