//! Runs the built program, and fills repositories through the writer directly, without agent and link.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use mailkeep_repository::format::manifest::{PassKind, PassRecord, SourceInfo, Stats, Window};
use mailkeep_repository::format::{ChunkKind, ChunkRef, Meta, Node, NodeKind, Timestamp};
use mailkeep_repository::{Draft, KeySource, LocalStorage, LogMonitor, Repository, Writer, WriterOptions};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a repository, its key, and nothing of the machine's own config.
pub struct Lab {
    pub folder: TempDir,
}

/// What the program said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The objects of one kind.
    pub fn of(&self, message_type: &str) -> Vec<Value> {
        self.objects().into_iter().filter(|object| object["message_type"] == message_type).collect()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program with an environment of its own, so that nothing of this machine or this shell comes in.
pub fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mailkeep"));
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", home).env("TZ", "UTC");
    command.env("MAILKEEP_STATE", home.join("state")).stdin(Stdio::null());
    command
}

impl Lab {
    /// An empty folder.
    pub fn empty() -> Self {
        Lab { folder: TempDir::new().unwrap() }
    }

    /// With a repository made by `init`.
    pub fn new() -> Self {
        let lab = Lab::empty();
        let made = lab.run(&["init", "--label", "lab", "--recovery-out", &lab.text("recovery")]);
        assert_eq!(made.code, 0, "{}", made.err);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = program(self.folder.path());
        command.arg("--repo").arg(self.path("repo")).arg("--key-file").arg(self.path("key")).args(words);
        command
    }

    pub fn run(&self, words: &[&str]) -> Said {
        self.command(words).output().unwrap().into()
    }

    pub fn repository(&self) -> Repository {
        let storage = LocalStorage::open(&self.path("repo")).unwrap();
        Repository::open(Arc::new(storage), &KeySource::File(self.path("key")), &LogMonitor).unwrap()
    }

    /// Seals a snapshot of a folder, which appears in it under `at`; gives its id.
    pub fn store(&self, source: &str, folder: &Path, at: &str) -> String {
        let mut writer = self.repository().writer(&WriterOptions::default(), &LogMonitor).unwrap();
        let mut stats = Stats { files: 0, directories: 0, bytes: 0, added_bytes: 0 };
        let mut content = put_folder(&mut writer, folder, &mut stats);
        for name in at.split('/').filter(|name| !name.is_empty()).rev() {
            let meta = Meta { mode: 0o755, links: 1, ..meta_of(&fs::metadata(folder).unwrap()) };
            let kind = NodeKind::Directory { content };
            content = writer.put_tree(&[Node { name: name.as_bytes().to_vec(), meta, kind }]).unwrap();
        }
        let pass = PassRecord {
            kind: PassKind::Final,
            clock: Timestamp { seconds: 1_700_000_000, nanos: 0 },
            files_seen: stats.files,
            files_changed: stats.files,
            bytes_read: stats.bytes,
            bytes_sent: stats.bytes,
            millis: 1500,
        };
        let draft = Draft {
            program: "test 0".to_owned(),
            source: SourceInfo {
                name: source.to_owned(),
                system: "generic".to_owned(),
                host: "here\x1b[2J".to_owned(),
            },
            started: 1_700_000_000,
            consistent: true,
            remarks: vec!["a remark".to_owned()],
            passes: vec![pass],
            window: Some(Window { stop_ms: 100, export_ms: 20, freeze_ms: 300, start_ms: 80, total_ms: 500 }),
            versions: vec![("cyrus".to_owned(), "3.6.1".to_owned())],
            users: vec![(0, "root".to_owned())],
            groups: vec![(0, "root".to_owned())],
            root: content,
            stats,
            mail_check: None,
        };
        writer.seal(draft, &LogMonitor).unwrap().id.hex()
    }
}

fn meta_of(meta: &fs::Metadata) -> Meta {
    let time = |seconds, nanos: i64| Timestamp { seconds, nanos: nanos as u32 };
    let links = if meta.is_dir() { 1 } else { meta.nlink() as u32 };
    Meta {
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
        links,
        device: if links > 1 { meta.dev() } else { 0 },
        xattrs: Vec::new(),
    }
}

fn put_folder(writer: &mut Writer, folder: &Path, stats: &mut Stats) -> Vec<ChunkRef> {
    let mut nodes = BTreeMap::new();
    // In one order on every file system, so that the same things share a block.
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = if meta.is_dir() {
            stats.directories += 1;
            NodeKind::Directory { content: put_folder(writer, &path, stats) }
        } else if meta.is_symlink() {
            NodeKind::Symlink { target: fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes() }
        } else if meta.file_type().is_fifo() {
            NodeKind::Fifo
        } else {
            let bytes = fs::read(&path).unwrap();
            stats.files += 1;
            stats.bytes += bytes.len() as u64;
            let content =
                bytes.chunks(60_000).map(|part| writer.put(ChunkKind::Data, part).unwrap()).collect();
            NodeKind::File { size: bytes.len() as u64, sparse: false, content }
        };
        let name = path.file_name().unwrap().as_encoded_bytes().to_vec();
        nodes.insert(name.clone(), Node { name, meta: meta_of(&meta), kind });
    }
    writer.put_tree(&nodes.into_values().collect::<Vec<_>>()).unwrap()
}

/// A folder with mails, a link, a pipe and a hard link.
pub fn sample(folder: &Path) {
    fs::create_dir_all(folder.join("user/anna")).unwrap();
    for number in 1..=40u64 {
        let body: String =
            (0..number * 50).map(|at| format!("{:x} ", at.wrapping_mul(number ^ 0x9e37_79b9))).collect();
        fs::write(folder.join(format!("user/anna/{number}.")), body).unwrap();
    }
    fs::write(folder.join("odd\nname\x1b[31m"), b"x").unwrap();
    fs::hard_link(folder.join("user/anna/1."), folder.join("user/same")).unwrap();
    std::os::unix::fs::symlink("anna", folder.join("user/link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
}

/// Kind, mode, owner, time and contents of everything below a folder, by path.
pub fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let what = if meta.is_file() {
                format!("{:?} links {}", fs::read(&path).unwrap(), meta.nlink())
            } else if meta.is_symlink() {
                format!("{:?}", fs::read_link(&path).unwrap())
            } else {
                String::new()
            };
            let line = format!(
                "{:?} {:o} {}:{} {}.{} {what}",
                meta.file_type(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec()
            );
            if meta.is_dir() {
                waiting.push(path.clone());
            }
            found.insert(path.strip_prefix(root).unwrap().to_owned(), line);
        }
    }
    found
}
