//! File systems of a test's own: in memory, or in an image behind a loop device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; it goes with this, and its image with it.
pub struct Mounted {
    point: PathBuf,
    image: Option<PathBuf>,
}

/// Whether everything has to run.
fn required() -> bool {
    std::env::var_os("MAILKEEP_REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// Runs a command; what it said, if it failed.
pub fn run(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Mounted {
    /// One in memory; `None` where that is not allowed.
    pub fn tmpfs(point: &Path, options: &str) -> Option<Mounted> {
        Mounted::mount(point, None, &["-t", "tmpfs", "-o", options, "none"])
    }

    /// One in an image of so many megabytes, made by these words; `None` where that is not allowed.
    pub fn image(point: &Path, mkfs: &[&str], megabytes: u64) -> Option<Mounted> {
        let image = point.with_extension("img");
        fs::File::create_new(&image).unwrap().set_len(megabytes << 20).unwrap();
        let shown = image.display().to_string();
        let made = run(&[mkfs, &[shown.as_str()]].concat());
        if let Err(why) = made {
            fs::remove_file(&image).unwrap();
            return skip(&why);
        }
        let words = ["-o", "loop", shown.as_str()];
        Mounted::mount(point, Some(image.clone()), &words)
    }

    /// A btrfs of a gigabyte, of which only what is written takes room; data and metadata share it, so that one can be
    /// full without the other.
    pub fn btrfs(point: &Path) -> Option<Mounted> {
        Mounted::image(point, &["mkfs.btrfs", "-q", "--mixed"], 1024)
    }

    /// A folder as a FUSE shows it, which knows no files without names; `None` where that is not to be had.
    pub fn fuse(behind: &Path, point: &Path) -> Option<Mounted> {
        let (from, to) = (behind.display().to_string(), point.display().to_string());
        match run(&["bindfs", "-o", "nonempty", &from, &to]) {
            Ok(_) => Some(Mounted { point: point.to_owned(), image: None }),
            Err(why) => skip(&why),
        }
    }

    fn mount(point: &Path, image: Option<PathBuf>, words: &[&str]) -> Option<Mounted> {
        fs::create_dir_all(point).unwrap();
        let shown = point.display().to_string();
        let words = [&["mount"], words, &[shown.as_str()]].concat();
        // Another test may take the free loop device between mount's look and its grasp.
        let mut left = 50;
        loop {
            match run(&words) {
                Ok(_) => return Some(Mounted { point: point.to_owned(), image }),
                Err(_) if left > 0 => left -= 1,
                Err(why) => return skip(&why),
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
            if !rustix::process::geteuid().is_root() {
                left = 0;
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.point
    }
}

fn skip(why: &str) -> Option<Mounted> {
    assert!(!required(), "{why}");
    eprintln!("skipped: {why}");
    None
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run(&["umount", "--lazy", &self.point.display().to_string()]);
        if let Some(image) = &self.image {
            let _ = fs::remove_file(image);
        }
    }
}
