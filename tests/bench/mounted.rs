//! A snapshot through the mount: what it costs to read all of it, and how soon it can be listed.
//!
//! The reader is this program (`--mounted`), which starts the mount and is measured together with it: one file after the
//! other as the folders list them, from the first byte to the last. `cat` would do the same at the cost of a process for
//! each few files; GNU tar does not read what it writes to /dev/null.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Advice, fadvise};
use rustix::mount::{UnmountFlags, unmount};

use crate::spool::Content;

/// How long a mount may take to be there.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes that are read at a time, as `cat` does.
const BUFFER: usize = 128 << 10;
/// Lists the root of the spool and the one folder, and reads nothing.
pub(crate) const LIST: &str = "list";
/// Reads everything.
pub(crate) const READ: &str = "read";

/// The mount's process; ended also when something fails.
struct Mount<'a> {
    child: Child,
    point: &'a Path,
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.point, UnmountFlags::DETACH);
        let _ = self.child.wait();
    }
}

/// `--mounted list|read POINT SPOOL FOLDER PROGRAM TOLD`: mounts on `POINT` with `PROGRAM mount`, looks at what the newest
/// snapshot has of `SPOOL` and its `FOLDER`, and unmounts. Writes to the file `TOLD` how
/// many files and bytes were read.
pub(crate) fn look(args: &[String]) -> Result<()> {
    let [how, point, spool, folder, program, told] = args else { bail!("--mounted wants six arguments") };
    let point = Path::new(point);
    fs::create_dir_all(point).with_context(|| format!("make {}", point.display()))?;
    let mut command = Command::new(program);
    command.args(["mount", "--foreground"]).arg(point).stdin(Stdio::null()).stdout(Stdio::null());
    let mut mount = Mount { child: command.spawn().with_context(|| format!("start {program}"))?, point };
    let start = Instant::now();
    let latest = point.join("latest");
    while fs::symlink_metadata(&latest).is_err() {
        ensure!(mount.child.try_wait()?.is_none(), "the mount has ended");
        ensure!(start.elapsed() < PATIENCE, "nothing is mounted");
        std::thread::sleep(Duration::from_millis(1));
    }
    let shown = latest.join(spool.trim_start_matches('/'));
    match how.as_str() {
        LIST => {
            for folder in [shown.clone(), shown.join(folder)] {
                ensure!(names(&folder)? > 0, "{} is empty", folder.display());
            }
        }
        READ => {
            let content = read(&shown, &mut vec![0; BUFFER])?;
            fs::write(told, format!("{} {}", content.files, content.bytes))?;
        }
        other => bail!("--mounted: no `{other}`"),
    }
    unmount(point, UnmountFlags::empty()).context("unmount")?;
    let status = mount.child.wait()?;
    ensure!(status.success(), "the mount ended with {status}");
    Ok(())
}

/// As `ls` does: the names and their kinds.
fn names(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        entry?.file_type()?;
        count += 1;
    }
    Ok(count)
}

fn read(folder: &Path, buffer: &mut [u8]) -> Result<Content> {
    let mut sum = Content::default();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let below = read(&entry.path(), buffer)?;
            sum.files += below.files;
            sum.bytes += below.bytes;
        } else if kind.is_file() {
            let path = entry.path();
            let failed = || format!("read {}", path.display());
            let mut file = File::open(&path).with_context(failed)?;
            sum.files += 1;
            loop {
                match file.read(buffer).with_context(failed)? {
                    0 => break,
                    count => sum.bytes += count as u64,
                }
            }
        }
    }
    Ok(sum)
}

/// Takes every file below a folder out of memory, as far as the kernel lets go of it.
pub(crate) fn chill(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            chill(&entry.path())?;
        } else if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
