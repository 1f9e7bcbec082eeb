//! A snapshot that is mounted by the program, against the tree that it was taken of: with the tools that people use on it.
//! And how a mount ends, and what a damaged pack costs.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mailkeep_tests::process::{self, run, signal};
use mailkeep_tests::rig::{Rig, id, words};
use mailkeep_tests::rng::Rng;
use rustix::process::Signal;
use tempfile::TempDir;

struct Lab {
    rig: Rig,
    home: TempDir,
    /// What was backed up.
    tree: PathBuf,
    snapshot: String,
}

fn missing() -> Option<String> {
    if !Path::new("/dev/fuse").exists() || !process::is_root() {
        return Some("a mount with owners needs root and /dev/fuse".into());
    }
    ["fusermount3", "rsync", "setfattr", "diff", "grep", "find", "cp"]
        .into_iter()
        .find(|tool| !process::have(tool))
        .map(|tool| format!("{tool} is missing"))
}

/// A tree with what a file system can hold: owners, modes, times to the nanosecond, attributes, links of both kinds, holes,
/// names that are no text, empty and long files.
fn plant(tree: &Path) -> Result<()> {
    let mut rng = Rng::new(7);
    for (user, messages) in [("alice", 300), ("bob", 40)] {
        let folder = tree.join("user").join(user);
        fs::create_dir_all(&folder)?;
        for uid in 1..=messages {
            let path = folder.join(format!("{uid}."));
            let mut body = vec![0u8; 200 + rng.index(3000)];
            rng.fill(&mut body);
            let text: String = body.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
            fs::write(&path, format!("Subject: number {uid} of {user}\r\n\r\n{text}\r\n"))?;
            std::os::unix::fs::chown(&path, Some(1000 + (uid % 3) as u32), Some(8))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600 | (uid % 8) as u32))?;
        }
    }
    let odd = tree.join("odd");
    fs::create_dir_all(odd.join("empty folder"))?;
    let mut large = vec![0u8; 3_000_000];
    rng.fill(&mut large);
    fs::write(odd.join("large"), &large)?;
    fs::write(odd.join("nothing"), "")?;
    let sparse = fs::File::create(odd.join("sparse"))?;
    sparse.write_all_at(b"end", 5_000_000)?;
    use std::os::unix::ffi::OsStrExt;
    fs::write(odd.join(std::ffi::OsStr::from_bytes(b"no \xff text\n")), "x")?;
    fs::hard_link(odd.join("large"), odd.join("large too"))?;
    symlink("large", odd.join("link"))?;
    symlink("/nowhere/at all", odd.join("dangling"))?;
    run(Command::new("mkfifo").arg(odd.join("pipe")))?.expect_code("mkfifo", 0)?;
    run(Command::new("setfattr").args(["-n", "user.note", "-v", "ü"]).arg(odd.join("nothing")))?
        .expect_code("setfattr", 0)?;
    if process::have("setfacl") {
        // Not every file system has them.
        let _ = run(Command::new("setfacl").args(["-m", "u:1234:r"]).arg(odd.join("large")))?;
    }
    fs::set_permissions(odd.join("nothing"), fs::Permissions::from_mode(0o4751))?;
    for (name, time) in [
        ("large", "1999-12-31 23:59:59.123456789 UTC"),
        ("empty folder", "1969-07-20 20:17:40.000000001 UTC"),
    ] {
        run(Command::new("touch").args(["-h", "-d", time]).arg(odd.join(name)))?.expect_code("touch", 0)?;
    }
    Ok(())
}

impl Lab {
    fn new() -> Result<Option<Lab>> {
        if let Some(why) = missing() {
            process::skip(&why)?;
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let rig = Rig::new(home.path())?;
        let tree = home.path().join("tree");
        plant(&tree)?;
        let source = home.path().join("tree.toml");
        let paths = format!(
            "name = \"tree\"\nsystem = \"generic\"\n[transport]\nkind = \"local\"\n[generic]\npaths = [{tree:?}]\n"
        );
        fs::write(&source, paths)?;
        let snapshot = id(&rig.backup(&source)?)?;
        Ok(Some(Lab { rig, home, tree, snapshot }))
    }

    fn mount(&self) -> Result<Mount> {
        let point = self.home.path().join("mnt");
        fs::create_dir_all(&point)?;
        let log = fs::File::create(self.home.path().join("mount.log"))?;
        let mut command = self.rig.command(&words(&["mount", "--foreground"]));
        command.arg(&point).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut mount = Mount { child: command.spawn()?, point };
        let start = Instant::now();
        while fs::symlink_metadata(mount.point.join("latest")).is_err() {
            if let Some(status) = mount.child.try_wait()? {
                bail!("the mount ended: {status}: {}", self.log()?);
            }
            ensure!(start.elapsed() < process::HANG, "nothing is mounted");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(mount)
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.home.path().join("mount.log"))?)
    }

    /// The tree in the mount.
    fn shown(&self, mount: &Mount) -> Result<PathBuf> {
        let inside = self.tree.strip_prefix("/")?;
        Ok(mount.point.join("snapshots").join(&self.snapshot).join(inside))
    }
}

/// A mount by a program of its own.
struct Mount {
    child: Child,
    point: PathBuf,
}

impl Mount {
    /// Waits until the program has ended; nothing is mounted then.
    fn ended(mut self) -> Result<()> {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(start.elapsed() < process::HANG, "the mount does not end");
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        ensure!(status.success(), "the mount ended with {status}");
        ensure!(fs::read_dir(&self.point)?.next().is_none(), "something is still mounted");
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Runs a tool and wants silence.
fn silent(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output = run(command)?.expect_code(&shown, 0)?;
    ensure!(output.out().is_empty() && output.err().is_empty(), "{shown}: {}{}", output.out(), output.err());
    Ok(())
}

/// Everything there is to know of the files below a folder but their contents and inode numbers: those only by which
/// names share one.
fn metadata(folder: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut links: Vec<(u64, PathBuf)> = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(folder.join(&at))? {
            let name = at.join(entry?.file_name());
            let path = folder.join(&name);
            let meta = fs::symlink_metadata(&path)?;
            let mut xattrs = Vec::new();
            for attribute in xattr::list(&path)? {
                let value = xattr::get(&path, &attribute)?;
                xattrs.push((attribute, value));
            }
            xattrs.sort();
            let target = if meta.is_symlink() { Some(fs::read_link(&path)?) } else { None };
            let size = if meta.is_dir() { 0 } else { meta.len() };
            let count = if meta.is_dir() { 0 } else { meta.nlink() };
            if meta.is_dir() {
                folders.push(name.clone());
            } else if meta.nlink() > 1 {
                links.push((meta.ino(), name.clone()));
            }
            let (mode, owner, time) =
                (meta.mode(), (meta.uid(), meta.gid()), (meta.mtime(), meta.mtime_nsec()));
            lines.push(format!("{name:?} {mode:o} {owner:?} {size} {count} {time:?} {target:?} {xattrs:?}"));
        }
    }
    links.sort();
    let mut groups: Vec<Vec<&PathBuf>> = links
        .chunk_by(|one, other| one.0 == other.0)
        .map(|same| same.iter().map(|(_, name)| name).collect())
        .collect();
    groups.sort();
    lines.push(format!("{groups:?}"));
    lines.sort();
    Ok(lines)
}

#[test]
fn a_mounted_snapshot_is_the_tree_that_it_was_taken_of() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    let mount = lab.mount()?;
    let shown = lab.shown(&mount)?;
    let (here, there) = (metadata(&lab.tree)?, metadata(&shown)?);
    let different: Vec<_> = here.iter().filter(|line| !there.contains(line)).collect();
    ensure!(here == there, "metadata differ: {different:#?}");
    // A pipe has no contents to be compared.
    fs::remove_file(lab.tree.join("odd/pipe"))?;
    silent(Command::new("diff").args(["-r", "--no-dereference", "-x", "pipe"]).arg(&lab.tree).arg(&shown))?;
    run(Command::new("mkfifo").arg(lab.tree.join("odd/pipe")))?.expect_code("mkfifo", 0)?;
    run(Command::new("touch").arg("-r").arg(shown.join("odd")).arg(lab.tree.join("odd")))?
        .expect_code("touch", 0)?;
    run(Command::new("touch").arg("-r").arg(shown.join("odd/pipe")).arg(lab.tree.join("odd/pipe")))?
        .expect_code("touch", 0)?;
    // With the slash its contents are meant.
    let slash = |path: &Path| format!("{}/", path.display());
    let mut rsync = Command::new("rsync");
    silent(
        rsync
            .args(["-aHAX", "--dry-run", "--itemize-changes", "--delete", "--checksum"])
            .arg(slash(&shown))
            .arg(slash(&lab.tree)),
    )?;

    let copy = lab.home.path().join("copy");
    silent(Command::new("cp").arg("-a").arg(&shown).arg(&copy))?;
    ensure!(metadata(&copy)? == here, "what cp -a made differs");
    let count = |path: &Path| -> Result<usize> {
        let mut find = Command::new("find");
        Ok(run(find.arg(path).args(["-type", "f", "-name", "*."]))?
            .expect_code("find", 0)?
            .out()
            .lines()
            .count())
    };
    ensure!((count(&lab.tree)?, count(&shown)?) == (340, 340));
    let grep = |path: &Path| -> Result<Vec<String>> {
        let mut grep = Command::new("grep");
        let grep = grep.args(["-r", "-l", "-D", "skip", "number 17 of"]).arg(".").current_dir(path);
        let mut found: Vec<String> =
            run(grep)?.expect_code("grep", 0)?.out().lines().map(str::to_owned).collect();
        found.sort();
        Ok(found)
    };
    ensure!(grep(&shown)? == grep(&lab.tree)? && grep(&shown)?.len() == 2);

    // Several at once, each in an order of its own.
    let mut files = Vec::new();
    for user in ["alice", "bob"] {
        for entry in fs::read_dir(lab.tree.join("user").join(user))? {
            files.push(Path::new("user").join(user).join(entry?.file_name()));
        }
    }
    files.extend(["odd/large", "odd/sparse"].map(PathBuf::from));
    std::thread::scope(|scope| -> Result<()> {
        let readers: Vec<_> = (0..6)
            .map(|seed| {
                let mut files = files.clone();
                let (tree, shown) = (&lab.tree, &shown);
                scope.spawn(move || -> Result<()> {
                    let mut rng = Rng::new(seed);
                    for at in (1..files.len()).rev() {
                        files.swap(at, rng.index(at + 1));
                    }
                    for file in &files {
                        ensure!(
                            fs::read(tree.join(file))? == fs::read(shown.join(file))?,
                            "{}",
                            file.display()
                        );
                    }
                    Ok(())
                })
            })
            .collect();
        readers.into_iter().try_for_each(|reader| reader.join().ok().context("a reader")?)
    })?;
    signal(mount.child.id(), Signal::TERM);
    mount.ended()?;
    ensure!(lab.log()?.is_empty(), "{}", lab.log()?);
    Ok(())
}

#[test]
fn a_mount_ends_when_it_is_told_to_also_while_a_file_is_open() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    for how in ["fusermount3", "umount", "TERM", "INT"] {
        let mount = lab.mount()?;
        let file = lab.shown(&mount)?.join("odd/large");
        match how {
            "TERM" | "INT" => {
                // By a signal it goes away under whoever still reads.
                let mut open = fs::File::open(&file)?;
                open.read_exact(&mut [0; 10])?;
                signal(mount.child.id(), if how == "INT" { Signal::INT } else { Signal::TERM });
                let start = Instant::now();
                while fs::read_dir(&mount.point)?.next().is_some() {
                    ensure!(start.elapsed() < process::HANG, "{how}: still mounted");
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                drop(open);
            }
            tool => {
                fs::read(&file)?;
                let mut command = Command::new(tool);
                if tool == "fusermount3" {
                    command.arg("-u");
                }
                silent(command.arg(&mount.point))?;
            }
        }
        mount.ended().with_context(|| how.to_owned())?;
        ensure!(lab.log()?.is_empty(), "{how}: {}", lab.log()?);
    }
    Ok(())
}

#[test]
fn a_damaged_pack_costs_the_files_in_its_block_and_is_named() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    // One byte in the middle of the largest pack: some block of file contents.
    let mut packs = Vec::new();
    for folder in fs::read_dir(lab.rig.repository().join("packs"))? {
        for pack in fs::read_dir(folder?.path())? {
            let pack = pack?;
            packs.push((pack.metadata()?.len(), pack.path()));
        }
    }
    packs.sort();
    let (length, pack) = packs.pop().context("no pack")?;
    let file = fs::OpenOptions::new().read(true).write(true).open(&pack)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, length / 2)?;
    file.write_all_at(&[byte[0] ^ 0x40], length / 2)?;
    file.sync_all()?;

    let mount = lab.mount()?;
    let shown = lab.shown(&mount)?;
    let (mut good, mut bad) = (0, Vec::new());
    for folder in ["user/alice", "user/bob", "odd"] {
        for entry in fs::read_dir(shown.join(folder))? {
            let entry = entry?;
            if !entry.file_type()?.is_file() {
                continue;
            }
            match fs::read(entry.path()) {
                Ok(bytes) => {
                    let truth = fs::read(lab.tree.join(folder).join(entry.file_name()))?;
                    ensure!(bytes == truth, "{} is wrong without a word", entry.path().display());
                    good += 1;
                }
                Err(error) => {
                    ensure!(error.raw_os_error() == Some(5), "{}: {error}", entry.path().display());
                    bad.push(entry.file_name());
                }
            }
        }
    }
    ensure!(good > 0 && !bad.is_empty(), "{good} good, bad: {bad:?}");
    signal(mount.child.id(), Signal::TERM);
    mount.ended()?;
    let log = lab.log()?;
    let name = pack.file_name().context("name")?.to_string_lossy().into_owned();
    for file in bad {
        // A file with two names is told by the one that was looked up first.
        let file = file.to_string_lossy().trim_end_matches(" too").to_owned();
        let told = log.lines().any(|line| line.contains(&format!("/{file}")) && line.contains(&name));
        ensure!(told, "no line names {file} and {name}:\n{log}");
    }
    Ok(())
}

/// Waits until a child has ended; by force if it does not.
fn gone(child: &mut Child, point: &Path, what: &str) -> Result<()> {
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > process::HANG {
            run(Command::new("umount").arg("-f").arg(point))?;
            bail!("{what} hangs");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn a_mount_that_is_killed_lets_go_of_whoever_reads_in_it() -> Result<()> {
    let Some(lab) = Lab::new()? else { return Ok(()) };
    for _ in 0..5 {
        let mut mount = lab.mount()?;
        let shown = lab.shown(&mount)?;
        let mut readers = Vec::new();
        for _ in 0..2 {
            let mut find = Command::new("find");
            find.arg(&shown).args(["-type", "f", "-exec", "cat", "{}", "+"]);
            readers.push(find.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?);
        }
        // In the middle of it: the rest is more than a pipe holds.
        readers[0].stdout.as_mut().context("stdout")?.read_exact(&mut [0; 20_000])?;
        signal(mount.child.id(), Signal::KILL);
        for reader in &mut readers {
            drop(reader.stdout.take());
        }
        gone(&mut mount.child, &mount.point, "the mount")?;
        for reader in &mut readers {
            gone(reader, &mount.point, "a reader")?;
        }
        silent(Command::new("umount").arg("-l").arg(&mount.point))?;
    }
    Ok(())
}
