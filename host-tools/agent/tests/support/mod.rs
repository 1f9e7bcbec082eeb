//! A box that takes everything, and a mail service of two shell scripts and a greeter.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod mounts;
pub mod recalled;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mailkeep_format::{ContentHash, Node};
use mailkeep_link::message::*;
use mailkeep_link::{BoxSide, LinkError, Options};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything; only reached when a test fails.
const PATIENCE: Duration = Duration::from_secs(300);

/// An agent process with the box's end of its link.
pub struct Agent {
    pub child: Child,
    pub link: Option<BoxSide>,
}

impl Agent {
    pub fn start(state: &Path) -> Agent {
        Agent::start_with(state, &["serve"], &Options::new("test"))
    }

    /// Called with these words, by a box that offers this.
    pub fn start_with(state: &Path, words: &[&str], options: &Options) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailkeep-agent"));
        command.args(words);
        Agent::start_command(command, state, options)
    }

    /// An agent that is called like this.
    pub fn start_command(mut command: Command, state: &Path, options: &Options) -> Agent {
        let mut child = command
            .env("MAILKEEP_AGENT_STATE", state)
            .env("MAILKEEP_AGENT_BOOT", "no")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own: one that loses its parents while a member is stopped is sent SIGHUP and SIGCONT.
            .process_group(0)
            .spawn()
            .unwrap();
        let (output, input) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let link = BoxSide::open(Box::new(input), Box::new(output), options).unwrap();
        Agent { child, link: Some(link) }
    }

    pub fn link(&self) -> &BoxSide {
        self.link.as_ref().unwrap()
    }

    pub fn send(&self, message: ToAgent) {
        self.link().send(message).unwrap();
    }

    /// The next message but remarks.
    pub fn receive(&self) -> Result<ToBox, LinkError> {
        loop {
            match self.link().receive()? {
                ToBox::Problem(_) => {}
                message => return Ok(message),
            }
        }
    }

    pub fn configure(&self, source: &str) -> Configured {
        self.send(ToAgent::Configure(Configure { source: source.to_owned() }));
        match self.receive().unwrap() {
            ToBox::Configured(configured) => configured,
            other => panic!("{other:?}"),
        }
    }

    pub fn quiesce(&self, deadline_seconds: u32) -> ToBox {
        self.send(ToAgent::Quiesce(Quiesce { deadline_seconds }));
        self.receive().unwrap()
    }

    pub fn stop_mail(&self, deadline_seconds: u32) -> Quiesced {
        match self.quiesce(deadline_seconds) {
            ToBox::Quiesced(quiesced) => quiesced,
            other => panic!("{other:?}"),
        }
    }

    /// Asks whether a final pass could be kept.
    pub fn prepare(&self) -> Prepared {
        self.send(ToAgent::Prepare);
        match self.receive().unwrap() {
            ToBox::Prepared(prepared) => prepared,
            other => panic!("{other:?}"),
        }
    }

    /// Stops mail and has the final pass kept; mail is started after it.
    pub fn freeze(&self) -> Frozen {
        self.send(ToAgent::Freeze(Quiesce { deadline_seconds: 600 }));
        let quiesced = self.receive().unwrap();
        assert!(matches!(quiesced, ToBox::Quiesced(_)), "{quiesced:?}");
        match self.receive().unwrap() {
            ToBox::Frozen(frozen) => frozen,
            other => panic!("{other:?}"),
        }
    }

    /// What is said when mail runs again.
    pub fn resumed(&self) -> Resumed {
        match self.receive().unwrap() {
            ToBox::Resumed(resumed) => resumed,
            other => panic!("{other:?}"),
        }
    }

    pub fn resume(&self) -> Resumed {
        self.send(ToAgent::Resume);
        match self.receive().unwrap() {
            ToBox::Resumed(resumed) => resumed,
            other => panic!("{other:?}"),
        }
    }

    pub fn recheck(&self) -> Vec<String> {
        self.send(ToAgent::Recheck);
        match self.receive().unwrap() {
            ToBox::Rechecked(rechecked) => rechecked.moved,
            other => panic!("{other:?}"),
        }
    }

    /// A whole pass in which everything is wanted and needed.
    pub fn pass(&self, number: u32, is_final: bool) -> Copy {
        self.send(ToAgent::BeginPass(BeginPass { number, is_final }));
        let mut copy = Copy::default();
        loop {
            match self.link().receive().unwrap() {
                ToBox::PassBegun(_) => {}
                ToBox::Problem(problem) => copy.problems.push(format!("{}: {}", problem.path, problem.what)),
                ToBox::Entries(entries) => self.send(ToAgent::Want(copy.listed(entries))),
                ToBox::Amended(piece) => self.send(ToAgent::Want(copy.amended(piece))),
                ToBox::Unchanged(piece) => self.send(ToAgent::Want(copy.unchanged(&piece))),
                ToBox::Chunks(chunks) => {
                    let numbers = chunks.first..chunks.first + chunks.chunks.len() as u32;
                    copy.announced.entry(chunks.file).or_default().extend(chunks.chunks);
                    let need = Need { file: chunks.file, first: chunks.first, chunks: numbers.collect() };
                    self.send(ToAgent::Need(need));
                }
                ToBox::Data(data) => {
                    let (hash, length) = copy.announced[&data.file][data.chunk as usize];
                    assert_eq!(hash, ContentHash::of(&data.bytes));
                    assert_eq!(length as usize, data.bytes.len());
                    copy.data.entry(data.file).or_default().extend_from_slice(&data.bytes);
                }
                ToBox::FileDone(done) => {
                    copy.outstanding -= 1;
                    let path = copy.paths[&done.file].clone();
                    let bytes = copy.data.remove(&done.file).unwrap_or_default();
                    copy.outcomes.insert(path, (done.outcome, bytes));
                }
                ToBox::PassEnded(ended) => {
                    assert_eq!(copy.outstanding, 0, "a file was wanted and never done");
                    copy.ended = Some(ended);
                    return copy;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Closes the link and waits for the exit code.
    pub fn end(mut self) -> Option<i32> {
        let code = self.wait_after_hanging_up();
        drop(self);
        code
    }

    fn wait_after_hanging_up(&mut self) -> Option<i32> {
        drop(self.link.take());
        wait_for("the agent's end", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }

    pub fn goodbye(self) {
        self.send(ToAgent::Goodbye);
        assert_eq!(self.end(), Some(0));
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Takes the process away at once, as `kill -9` does.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is said of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    All,
    WhatMayChange,
    WhatHasChanged,
}

/// What a pass brought.
#[derive(Default)]
pub struct Copy {
    /// What was said of each directory that was spoken of.
    pub said: BTreeMap<PathBuf, Said>,
    /// Names that are gone, by word.
    pub gone: BTreeSet<PathBuf>,
    pub nodes: BTreeMap<PathBuf, (Node, Hint)>,
    pub outcomes: BTreeMap<PathBuf, (ReadOutcome, Vec<u8>)>,
    pub problems: Vec<String>,
    pub ended: Option<PassEnded>,
    directories: BTreeMap<u32, PathBuf>,
    paths: std::collections::HashMap<FileId, PathBuf>,
    announced: std::collections::HashMap<FileId, Vec<(ContentHash, u32)>>,
    data: std::collections::HashMap<FileId, Vec<u8>>,
    outstanding: usize,
}

impl Copy {
    fn listed(&mut self, entries: Entries) -> Want {
        let directory = match entries.parent {
            None => PathBuf::from("/"),
            Some(place) => self.paths[&place].clone(),
        };
        self.said.insert(directory.clone(), Said::All);
        self.directories.insert(entries.directory.0, directory.clone());
        let found = (entries.first..).zip(entries.nodes.into_iter().zip(entries.hints));
        let files = self.found(entries.directory, &directory, found);
        Want { directory: entries.directory, first: entries.first, files }
    }

    fn amended(&mut self, piece: Amended) -> Want {
        let directory = self.paths[&piece.parent].clone();
        assert!(self.said.insert(directory.clone(), Said::WhatHasChanged).is_none(), "{directory:?}");
        self.gone.extend(piece.gone.iter().map(|name| below(&directory, name)));
        let found = (0..).map(|slot| 2 * slot + 1).zip(piece.nodes.into_iter().zip(piece.hints));
        let files = self.found(piece.directory, &directory, found);
        Want { directory: piece.directory, first: 0, files }
    }

    /// Of a folder without folders of its own; nothing in it is wanted.
    fn unchanged(&mut self, piece: &Unchanged) -> Want {
        let directory = self.paths[&piece.parent].clone();
        assert!(self.said.insert(directory.clone(), Said::WhatMayChange).is_none(), "{directory:?}");
        Want { directory: piece.directory, first: 0, files: Vec::new() }
    }

    /// The files among what was found.
    fn found(
        &mut self,
        id: DirectoryId,
        directory: &Path,
        found: impl Iterator<Item = (u32, (Node, Hint))>,
    ) -> Vec<u32> {
        let mut files = Vec::new();
        for (index, (node, hint)) in found {
            let path = below(directory, &node.name);
            self.paths.insert(FileId { directory: id, index }, path.clone());
            if node.is_file() {
                files.push(index);
                self.outstanding += 1;
            }
            assert!(self.nodes.insert(path.clone(), (node, hint)).is_none(), "{path:?} comes twice");
        }
        files
    }

    /// The bytes of a file that was read whole and in peace.
    pub fn bytes(&self, path: &Path) -> &[u8] {
        match self.outcomes.get(path) {
            Some((ReadOutcome::Read { steady: true, .. }, bytes)) => bytes,
            other => panic!("{path:?}: {:?}", other.map(|(outcome, _)| outcome)),
        }
    }
}

fn below(directory: &Path, name: &[u8]) -> PathBuf {
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
    directory.join(name)
}

/// A mail service that consists of a greeter, a start script and a stop script, with a spool.
pub struct Mail {
    pub dir: tempfile::TempDir,
    port: u16,
}

impl Mail {
    /// Set up and started.
    pub fn new() -> Mail {
        Mail::new_in(&std::env::temp_dir())
    }

    /// The same, in a folder of its own below this one.
    pub fn new_in(place: &Path) -> Mail {
        let dir = tempfile::tempdir_in(place).unwrap();
        let port = free_port();
        let mail = Mail { dir, port };
        fs::create_dir(mail.path("spool")).unwrap();
        fs::write(mail.path("spool/1."), "Subject: one\r\n\r\nHello.\r\n").unwrap();
        let base = mail.dir.path().display().to_string();
        let greeter = std::env::current_exe().unwrap().display().to_string();
        // A knob is a file: `fail-start` fails one start, `lame-start` makes one start say that all went well and do
        // nothing, `hang-stop` hangs, `slow-stop` and `slow-start` take their time, `wait-stop` waits until it is gone.
        mail.script(
            "start",
            &format!(
                "echo start >> {base}/log\n\
                 if [ -e {base}/fail-start ]; then rm {base}/fail-start; echo 'no luck'; exit 1; fi\n\
                 if [ -e {base}/lame-start ]; then rm {base}/lame-start; exit 0; fi\n\
                 [ -e {base}/pid ] && kill -0 $(cat {base}/pid) 2>/dev/null && exit 0\n\
                 [ -e {base}/slow-start ] && sleep 3\n\
                 MAIL_PORT={port} setsid {greeter} --ignored --exact greeter_process --nocapture \
                 </dev/null >/dev/null 2>&1 &\n\
                 echo $! > {base}/pid\n"
            ),
        );
        mail.script(
            "stop",
            &format!(
                "echo stop >> {base}/log\n\
                 if [ -e {base}/hang-stop ]; then echo hanging; while :; do sleep 1; done; fi\n\
                 [ -e {base}/slow-stop ] && sleep 2\n\
                 while [ -e {base}/wait-stop ]; do sleep 0.05; done\n\
                 pid=$(cat {base}/pid)\nkill $pid || exit 1\n\
                 while grep -qs . /proc/$pid/cmdline; do sleep 0.02; done\n\
                 rm {base}/pid\necho stopped >> {base}/log\n"
            ),
        );
        assert!(Command::new(mail.path("start")).status().unwrap().success());
        wait_for("mail", || mail.is_up());
        mail
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    pub fn state(&self) -> PathBuf {
        let path = self.path("state");
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// Sets a knob.
    pub fn set(&self, knob: &str) {
        fs::write(self.path(knob), "").unwrap();
    }

    pub fn source(&self, more: &str) -> String {
        format!(
            "name = \"mail1\"\nsystem = \"generic\"\n[transport]\nkind = \"local\"\n\
             [generic]\npaths = [{spool:?}]\nwrite-once = [\"*.\"]\n\
             [quiesce]\nmode = \"command\"\nstop = [{stop:?}]\nstart = [{start:?}]\n\
             probe = \"imap://127.0.0.1:{port}\"\n{more}\n",
            spool = self.path("spool"),
            stop = self.path("stop"),
            start = self.path("start"),
            port = self.port,
        )
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn is_up(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut stream, &mut text);
        text.starts_with("* OK")
    }

    /// How often something was written to the log of the scripts.
    pub fn count(&self, word: &str) -> usize {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().filter(|line| *line == word).count()
    }

    /// The window is closed: no intent, no guard.
    pub fn settled(&self) -> bool {
        let folder = self.folder();
        let lock =
            fs::File::options().write(true).create(true).truncate(false).open(folder.join("guard.lock"));
        let free = rustix::fs::flock(lock.unwrap(), rustix::fs::FlockOperation::NonBlockingLockExclusive);
        !folder.join("intent.json").exists() && free.is_ok()
    }

    /// The intent of the open window, as far as its times go.
    pub fn note(&self) -> Option<Note> {
        let text = fs::read(self.folder().join("intent.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// How long the last starts took, in milliseconds.
    pub fn starts(&self) -> Vec<u64> {
        let text = fs::read(self.folder().join("starts.json")).unwrap_or(b"{}".to_vec());
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        value["millis"].as_array().into_iter().flatten().map(|millis| millis.as_u64().unwrap()).collect()
    }

    /// When a guard last wrote a line with these words into its log, since boot.
    fn guard_said(&self, words: &str) -> Option<Duration> {
        let log = fs::read_to_string(self.folder().join("guard.log")).ok()?;
        let line = log.lines().rfind(|line| line.contains(words))?;
        let seconds = line.split_once("(boot and ")?.1.split_once(" s)")?.0;
        Some(Duration::from_secs_f64(seconds.parse().ok()?))
    }

    /// When a guard last began to start mail, since boot.
    pub fn guard_began(&self) -> Option<Duration> {
        self.guard_said(": mail is started")
    }

    /// How long it was at it, by its own clock: the wait for a stop that is still at work, the start, the look afterwards.
    pub fn guard_worked(&self) -> Duration {
        self.guard_said("mail answers again").unwrap() - self.guard_began().unwrap()
    }

    /// The token of the open window.
    pub fn token(&self) -> String {
        fs::read_to_string(self.folder().join("armed")).unwrap()
    }

    /// The agent's folder for this service.
    pub fn folder(&self) -> PathBuf {
        let mut paths = fs::read_dir(self.state()).unwrap().map(|entry| entry.unwrap().path());
        let service = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("service-");
        paths.find(service).expect("a folder of the service")
    }

    /// The guard of the open window.
    pub fn guard(&self) -> Option<Pid> {
        let folder = self.path("state").display().to_string();
        fs::read_dir("/proc").unwrap().find_map(|entry| {
            let entry = entry.ok()?;
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(" guard ") && line.contains(&folder)).then(|| Pid::from_raw(pid))?
        })
    }
}

/// The times of an intent.
#[derive(Debug, serde::Deserialize)]
pub struct Note {
    pub lead_ms: u64,
    deadline_seconds: u64,
    written_since_boot_ms: u64,
}

impl Note {
    /// When mail has to answer, since boot.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.written_since_boot_ms) + Duration::from_secs(self.deadline_seconds)
    }

    /// When the guard has to start it.
    pub fn start_at(&self) -> Duration {
        self.deadline() - Duration::from_millis(self.lead_ms)
    }

    /// How long that is from now.
    pub fn left(&self) -> Duration {
        self.start_at().saturating_sub(mailkeep_agent::window::intent::since_boot())
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        if let Some(guard) = self.guard() {
            let _ = kill_process(guard, Signal::KILL);
        }
        let pid = fs::read_to_string(self.path("pid")).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Mail {
    pub fn script(&self, name: &str, text: &str) {
        // Written by a child: a file that this process has open for writing is inherited by whatever another test forks
        // at this moment, and cannot be run until that has gone ("text file busy").
        let mut writer = Command::new("sh")
            .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
            .arg(self.path(name))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let text = format!("#!/bin/sh\n{text}");
        std::io::Write::write_all(&mut writer.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
    }
}

/// The living children of a process.
pub fn children(parent: i32) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(')').map(|(_, after)| after.to_owned()).unwrap_or_default();
        after.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()) == Some(parent)
    };
    pids.filter(of).filter_map(Pid::from_raw).collect()
}

/// A port that nobody listens on, and that is not given away while its owner is down for a while: below those that the
/// kernel hands out, and never the same twice in this process.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = (std::process::id() % 100) as u16 * 40;
    loop {
        let port = 7_000 + base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 4_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The process that greets; `Mail` runs it from the test program.
pub fn greet_for_ever() {
    let Some(port) = std::env::var("MAIL_PORT").ok().and_then(|port| port.parse::<u16>().ok()) else {
        return;
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for stream in listener.incoming().flatten() {
        let _ = std::io::Write::write_all(&mut &stream, b"* OK test service ready\r\n");
    }
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited too long for {what}");
        sleep(Duration::from_millis(20));
    }
}
