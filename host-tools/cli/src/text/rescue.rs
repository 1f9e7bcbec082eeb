//! What the rescue kit and the sheet with the recovery key say.

use mailkeep_repository::KitFile;

pub(crate) const ABOUT: &str = "Put README.txt and the programs that read this disk on it, or renew them";
pub(crate) const LONG: &str = "Put README.txt and the programs that read this disk on it, or renew them.\n\nThe programs are \
    mailkeep itself, static, for x86-64 and arm64 (`make rescue` builds them). Without --program they are looked for in \
    the folder `rescue` beside this program and in /usr/local/lib/mailkeep/rescue. They are written as rescue/mailkeep-MACHINE \
    with their SHA-256 in rescue/SHA256SUMS. Whoever can write on the disk can change both: keep the sums that this verb \
    shows where you keep the recovery key.";
pub(crate) const PROGRAM: &str = "Static mailkeep for the disk to carry (can be given several times)";
pub(crate) const CHECK: &str = "Only look whether what lies there is what was written";
pub(crate) const SHEET: &str =
    "Write the recovery key as a sheet to be printed to this new file: .html, else plain text";

pub(crate) const NOT_ON_THE_DISK: &str = "the disk carries no program for a rescue: `make rescue` builds them, `mailkeep rescue-kit` puts them there";
pub(crate) const RENEW_HINT: &str = "run `mailkeep rescue-kit`";
pub(crate) const COLUMNS: [&str; 4] = ["PROGRAM", "SIZE", "STATE", "SHA-256"];

/// Whether a program is what was written, in a word.
pub(crate) fn state(file: &KitFile) -> &'static str {
    match (file.whole, file.length) {
        (true, _) => "whole",
        (false, 0) => "missing",
        (false, _) => "changed",
    }
}

pub(crate) fn written(count: usize) -> String {
    match count {
        0 => "All of it was there already.".to_owned(),
        1 => "1 file was written.".to_owned(),
        _ => format!("{count} files were written."),
    }
}

pub(crate) fn not_written(why: &str) -> String {
    format!("the disk carries no program for a rescue: {why}; {RENEW_HINT} later")
}

pub(crate) fn damaged(count: usize) -> String {
    format!("{count} of the programs on this disk are not what was written: do not use them; {RENEW_HINT}")
}

pub(crate) fn carried(paths: &[String]) -> String {
    format!("The disk carries what it takes to read it: README.txt and {}.", paths.join(", "))
}

pub(crate) fn sheet_kept(path: &str) -> String {
    format!("The sheet with the recovery key is in {path}: print it, then delete the file.")
}

/// What stands on the sheet.
pub(crate) mod sheet {
    pub(crate) const TITLE: &str = "Mailkeep recovery key";
    pub(crate) const SECRET: &str =
        "Whoever has this key and the disk reads all mail. Keep it apart from the box and from the disks.";
    pub(crate) const DISK: &str = "Disk";
    pub(crate) const REPOSITORY: &str = "Repository";
    pub(crate) const DATE: &str = "Made on";
    pub(crate) const KEY: &str = "Key";
    pub(crate) const SUMS: &str = "SHA-256 of the programs on the disk, when this was made";
    pub(crate) const NO_SUMS: &str =
        "none was put on the disk: note here what `mailkeep rescue-kit` shows later";
    /// What to do, in three lines.
    pub(crate) const STEPS: [&str; 3] = [
        "1. Plug the disk into any Linux machine and do what README.txt on it says, step by step.",
        "2. Compare the sum that it shows for the program with the one below. Not the same: use another program.",
        "3. Type the letters of the key after AGE-SECRET-KEY-1, or scan the code. Spaces and large or small do not matter.",
    ];

    /// Numbers of the groups in a row.
    pub(crate) fn row(first: usize, last: usize) -> String {
        format!("groups {first} to {last}")
    }
}
