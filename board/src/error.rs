//! What can go wrong on a board, one variant per deed that failed.

use std::path::PathBuf;

/// A board, a disk or a bus could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// A board file is not readable.
    #[error("cannot read board file {path}")]
    ReadLayout {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A board file is not a board file.
    #[error("board file {path} is not valid")]
    ParseLayout {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A board description lacks or contradicts something.
    #[error("board: {what}")]
    Layout {
        /// What, and what to do.
        what: String,
    },
    /// The GPIO chip can't be opened.
    #[error("no GPIO chip {chip}: name the right one under `chip`, or use board kind \"bench\"")]
    NoChip {
        /// The device file asked for.
        chip: PathBuf,
        /// Why.
        source: linux_embedded_hal::gpio_cdev::Error,
    },
    /// A line of the GPIO chip can't be had.
    #[error("cannot use line {line} of {chip} for {what}: is it taken by another driver?")]
    Line {
        /// The device file.
        chip: PathBuf,
        /// Offset of the line on the chip.
        line: u32,
        /// Lamp or button that it is for.
        what: &'static str,
        /// Why.
        source: linux_embedded_hal::gpio_cdev::Error,
    },
    /// A pin did not do what it was told; `embedded-hal` says no more than this.
    #[error("{what} does not respond: {detail}")]
    Pin {
        /// Lamp or button.
        what: &'static str,
        /// The driver's own words.
        detail: String,
    },
    /// The terminal can't be drawn on or read.
    #[error("cannot use the terminal for the bench board")]
    Terminal(#[source] std::io::Error),
    /// The input thread can't be started.
    #[error("cannot start the thread that watches the {what}")]
    Thread {
        /// What it watches.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A line on stdin is no command.
    #[error("`{line}` is no command: use b, r, B3, R5, BR, 1 to 9, 0 or q")]
    Command {
        /// What was read.
        line: String,
    },
    /// A disk is not where it should be.
    #[error("no disk at {path}")]
    NoDisk {
        /// Device, image or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The mount point can't be made.
    #[error("cannot make the mount point {path}")]
    MountPoint {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program of the system can't be started.
    #[error("cannot run {program}: is it installed?")]
    Run {
        /// Its name.
        program: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// mount(8) refused.
    #[error("cannot mount {path}: {said} (mounting needs root; a folder as bench disk does not)")]
    Mount {
        /// Device or image.
        path: PathBuf,
        /// What mount(8) said.
        said: String,
    },
    /// The disk was to be written to, and takes no writes.
    #[error("{path} is read-only: it is write-protected or failing; use another disk for backups")]
    ReadOnly {
        /// Device or image.
        path: PathBuf,
    },
    /// The disk can't even be read.
    #[error("{path} can't be read in any way ({said}); nothing was written to it")]
    BeyondRescue {
        /// Device or image.
        path: PathBuf,
        /// What mount(8) said in the end, or what helps.
        said: String,
    },
    /// umount(8) refused.
    #[error("cannot unmount {path}: {said}")]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What umount(8) said.
        said: String,
    },
    /// What was written may not be on the disk.
    #[error("cannot flush {path}: do not trust what was just written")]
    Flush {
        /// Mount point or device.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A path on a disk can't be asked about its file system.
    #[error("cannot ask {path} for its file system")]
    FileSystem {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// btrfs does not tell about a subvolume.
    #[error("cannot read the btrfs subvolume at {path}: {said}")]
    Subvolume {
        /// The path.
        path: PathBuf,
        /// The library's words.
        said: String,
    },
    /// There is no USB to be had on this machine.
    #[error("no USB here")]
    NoUsb(#[source] rusb::Error),
    /// The USB devices can't be listed.
    #[error("cannot list USB devices")]
    UsbList(#[source] rusb::Error),
}
