//! A mail server in memory that speaks the agent's side of the protocol over a socket pair, and does what a test tells
//! it at each step: change a file, cut the link, lie, fail.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use mailkeep_format::{ContentHash, Meta, Node, NodeKind, Timestamp};
use mailkeep_link::message::*;
use mailkeep_link::{AgentSide, LinkError, Options};
use mailkeep_mail::Source;
use mailkeep_puller::transport::Far;
use mailkeep_puller::{PullError, Transport};

/// What becomes of a file that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Read,
    Vanish,
    Fail,
    Grow,
    WrongHash,
}

#[derive(Clone, Debug)]
pub struct File {
    pub bytes: Vec<u8>,
    pub ctime: i64,
    pub inode: u64,
    pub fate: Fate,
}

/// What the server does after a step.
pub enum Then {
    GoOn,
    Cut,
    Fail(u8),
}

type Hook = Box<dyn FnMut(&str, &mut State) -> Then + Send>;

pub struct State {
    pub host: String,
    pub files: BTreeMap<String, File>,
    pub clock: i64,
    pub mail_runs: bool,
    pub can_stop: bool,
    pub events: Vec<String>,
    pub moved: Vec<String>,
    pub started_by_other: bool,
    /// The final pass can be kept, or why not.
    pub keeps: Result<String, String>,
    /// Keeping it fails in the window.
    pub stage_full: bool,
    pub problems: Vec<Problem>,
    /// The box has said that the final pass need not speak of what is as it was.
    pub remembers: bool,
    pub files_sent: u64,
    hook: Hook,
}

impl State {
    pub fn put(&mut self, path: &str, bytes: &[u8]) {
        let inode = self.files.get(path).map_or(self.files.len() as u64 + 100, |file| file.inode);
        let file = File { bytes: bytes.to_vec(), ctime: self.clock, inode, fate: Fate::Read };
        self.files.insert(path.to_owned(), file);
    }

    pub fn set_fate(&mut self, path: &str, fate: Fate) {
        self.files.get_mut(path).unwrap().fate = fate;
    }
}

/// The server, as the test and as the transport see it.
#[derive(Clone)]
pub struct Server {
    state: Arc<Mutex<State>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Server {
    pub fn new(can_stop: bool) -> Self {
        let state = State {
            host: "mail1".into(),
            files: BTreeMap::new(),
            clock: 10_000,
            mail_runs: true,
            can_stop,
            events: Vec::new(),
            moved: Vec::new(),
            started_by_other: false,
            keeps: Err(String::new()),
            stage_full: false,
            problems: Vec::new(),
            remembers: false,
            files_sent: 0,
            hook: Box::new(|_, _| Then::GoOn),
        };
        let server = Server { state: Arc::new(Mutex::new(state)), threads: Arc::default() };
        server.state().put("spool/a/1.", b"first message");
        server.state().put("spool/a/2.", b"second message");
        server.state().put("spool/b/1.", b"first message");
        server.state().put("etc/imapd.conf", b"configdirectory: /var");
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What to do at each step from now on. Steps: `configure`, `pass N live|final`, `file PATH`, `quiesce`, `recheck`,
    /// `resume`, `goodbye`, `eof`.
    pub fn at_each_step(&self, hook: impl FnMut(&str, &mut State) -> Then + Send + 'static) {
        self.state().hook = Box::new(hook);
    }

    /// Waits until no connection is served any more, and takes the steps that were made.
    pub fn events(&self) -> Vec<String> {
        for thread in std::mem::take(&mut *self.threads.lock().unwrap()) {
            thread.join().unwrap();
        }
        let steps = std::mem::take(&mut self.state().events);
        steps.into_iter().filter(|step| !step.starts_with("file")).collect()
    }
}

impl Transport for Server {
    fn connect(&self, _: &Source) -> Result<Far, PullError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let state = Arc::clone(&self.state);
        let thread = std::thread::spawn(move || serve(theirs, &state));
        self.threads.lock().unwrap().push(thread);
        Ok(Far { input: Box::new(ours.try_clone().unwrap()), output: Box::new(Closing(ours)), process: None })
    }
}

/// A socket's writing half that says so when it is dropped, as a pipe does.
struct Closing(UnixStream);

impl std::io::Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }
}

/// Why the conversation is over.
enum Over {
    Link,
    Cut,
    Resume,
}

impl From<LinkError> for Over {
    fn from(_: LinkError) -> Self {
        Over::Link
    }
}

fn serve(stream: UnixStream, state: &Mutex<State>) {
    let cutter = stream.try_clone().unwrap();
    let writer = Closing(stream.try_clone().unwrap());
    let Ok(link) = AgentSide::open(Box::new(stream), Box::new(writer), &Options::new("fake 1")) else {
        return;
    };
    let mut agent = Agent { link, state };
    loop {
        match agent.converse() {
            Err(Over::Resume) => {
                if agent.resume().is_err() {
                    break;
                }
            }
            Err(Over::Cut) => {
                cutter.shutdown(std::net::Shutdown::Both).unwrap();
                break;
            }
            Err(Over::Link) => break,
            Ok(()) => {
                let _ = agent.link.finish(std::time::Duration::from_secs(5));
                return;
            }
        }
    }
    let mut state = state.lock().unwrap();
    state.events.push("eof".into());
    state.mail_runs = true;
}

struct Agent<'a> {
    link: AgentSide,
    state: &'a Mutex<State>,
}

impl Agent<'_> {
    fn step(&self, step: &str) -> Result<(), Over> {
        let mut state = self.state.lock().unwrap();
        state.events.push(step.to_owned());
        let mut hook = std::mem::replace(&mut state.hook, Box::new(|_, _| Then::GoOn));
        let then = hook(step, &mut state);
        state.hook = hook;
        match then {
            Then::GoOn => Ok(()),
            Then::Cut => Err(Over::Cut),
            Then::Fail(exit_code) => {
                state.mail_runs = true;
                drop(state);
                let what = format!("cannot {step}\nat all");
                self.link.send(ToBox::Failed(Failed { what, hint: "look at it".into(), exit_code }))?;
                Err(Over::Link)
            }
        }
    }

    fn converse(&mut self) -> Result<(), Over> {
        loop {
            match self.link.receive()? {
                ToAgent::Configure(_) => {
                    self.step("configure")?;
                    let (host, can_stop) = {
                        let state = self.state.lock().unwrap();
                        (state.host.clone(), state.can_stop)
                    };
                    self.link.send(ToBox::Configured(Configured {
                        host,
                        boot_id: "b".into(),
                        versions: vec![("cyrus".into(), "3.6.1".into())],
                        quiesce: can_stop.then(|| "stop and start by a fake".into()),
                        roots: vec!["/spool".into()],
                        rescued: false,
                        rules: None,
                        lead_millis: can_stop.then_some(65_000),
                    }))?;
                }
                ToAgent::BeginPass(begin) => self.pass(begin)?,
                ToAgent::Quiesce(_) => {
                    self.state.lock().unwrap().mail_runs = false;
                    self.step("quiesce")?;
                    self.link.send(ToBox::Quiesced(Quiesced {
                        stop_ms: 3,
                        export_ms: 2,
                        has_list: false,
                    }))?;
                }
                ToAgent::Prepare => {
                    let keeps = self.state.lock().unwrap().keeps.clone();
                    self.link.send(ToBox::Prepared(Prepared {
                        able: keeps.is_ok(),
                        why: keeps.unwrap_or_else(|why| why),
                        bytes: 1,
                        millis: 1,
                    }))?;
                }
                ToAgent::Freeze(_) => {
                    self.state.lock().unwrap().mail_runs = false;
                    self.step("freeze")?;
                    let quiesced = Quiesced { stop_ms: 3, export_ms: 2, has_list: false };
                    self.link.send(ToBox::Quiesced(quiesced))?;
                    let (whole, how, moved) = {
                        let state = self.state.lock().unwrap();
                        (!state.stage_full, state.keeps.clone().unwrap_or_default(), state.moved.clone())
                    };
                    let why = if whole { how } else { "the stage is full".to_owned() };
                    let frozen = Frozen { whole, why, millis: 5, files: 2, bytes: 9, moved };
                    self.link.send(ToBox::Frozen(frozen))?;
                    if whole {
                        self.resume()?;
                    }
                }
                ToAgent::Recheck => {
                    self.step("recheck")?;
                    let moved = self.state.lock().unwrap().moved.clone();
                    self.link.send(ToBox::Rechecked(Rechecked { moved }))?;
                }
                ToAgent::Resume => self.resume()?,
                ToAgent::Remember => self.state.lock().unwrap().remembers = true,
                ToAgent::Goodbye => return self.step("goodbye"),
                ToAgent::Want(_) | ToAgent::Need(_) => {}
                other => panic!("the box said {other:?}"),
            }
        }
    }

    fn resume(&mut self) -> Result<(), Over> {
        self.step("resume")?;
        let started_by_other = {
            let mut state = self.state.lock().unwrap();
            state.mail_runs = true;
            state.started_by_other
        };
        self.link.send(ToBox::Resumed(Resumed { start_ms: 4, window_ms: 11, started_by_other }))?;
        Ok(())
    }

    fn pass(&mut self, begin: BeginPass) -> Result<(), Over> {
        {
            let mut state = self.state.lock().unwrap();
            state.clock += 1_000;
            let clock = Timestamp { seconds: state.clock, nanos: 0 };
            drop(state);
            self.link.send(ToBox::PassBegun(PassBegun { clock }))?;
        }
        self.step(&format!("pass {} {}", begin.number, if begin.is_final { "final" } else { "live" }))?;
        let files = self.state.lock().unwrap().files.clone();
        let problems = self.state.lock().unwrap().problems.clone();
        for problem in problems {
            self.link.send(ToBox::Problem(problem))?;
        }
        let mut next = 0;
        self.directory("", None, &mut next, &files)?;
        let users = vec![(8, "mail".into()), (8, "twice".into()), (0, "root".into())];
        self.link.send(ToBox::PassEnded(PassEnded {
            bytes_read: 77,
            users,
            groups: vec![(12, "man".into())],
        }))?;
        Ok(())
    }

    fn directory(
        &mut self,
        path: &str,
        parent: Option<FileId>,
        next: &mut u32,
        files: &BTreeMap<String, File>,
    ) -> Result<(), Over> {
        let id = DirectoryId(*next);
        *next += 1;
        let names: BTreeSet<String> = files
            .keys()
            .filter_map(|file| file.strip_prefix(path))
            .map(|rest| rest.split('/').next().unwrap().to_owned())
            .collect();
        let nodes: Vec<Node> = names
            .iter()
            .map(|name| match files.get(&format!("{path}{name}")) {
                Some(file) => node(name, file),
                None => {
                    let meta = Meta { mode: 0o755, links: 1, ..Meta::default() };
                    let kind = NodeKind::Directory { content: Vec::new() };
                    Node { name: name.clone().into_bytes(), meta, kind }
                }
            })
            .collect();
        let hints =
            nodes.iter().map(|node| if node.is_directory() { Hint::Descend } else { Hint::Plain }).collect();
        self.link.send(ToBox::Entries(Entries {
            directory: id,
            parent,
            first: 0,
            last: true,
            nodes: nodes.clone(),
            hints,
        }))?;
        let want = match self.link.receive()? {
            ToAgent::Want(want) => want,
            ToAgent::Resume => return Err(Over::Resume),
            ToAgent::Goodbye => return Err(Over::Link),
            other => panic!("the box said {other:?} instead of Want"),
        };
        for index in want.files {
            let name = &names.iter().nth(index as usize).unwrap();
            self.file(FileId { directory: id, index }, &format!("{path}{name}"), &nodes[index as usize])?;
        }
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.is_directory()) {
            let name = String::from_utf8(node.name.clone()).unwrap();
            let place = FileId { directory: id, index: index as u32 };
            self.directory(&format!("{path}{name}/"), Some(place), next, files)?;
        }
        Ok(())
    }

    fn file(&mut self, id: FileId, path: &str, node: &Node) -> Result<(), Over> {
        self.step(&format!("file {path}"))?;
        let file = self.state.lock().unwrap().files.get(path).cloned();
        let outcome = match file {
            None => ReadOutcome::Vanished,
            Some(File { fate: Fate::Vanish, .. }) => ReadOutcome::Vanished,
            Some(File { fate: Fate::Fail, .. }) => ReadOutcome::Failed { why: "Input/output error".into() },
            Some(file) => {
                let mut bytes = file.bytes.clone();
                if file.fate == Fate::Grow {
                    bytes.extend_from_slice(b" and more");
                }
                let hash = ContentHash::of(&bytes);
                let chunks = vec![(hash, bytes.len() as u32)];
                self.link.send(ToBox::Chunks(Chunks { file: id, first: 0, chunks }))?;
                let need = match self.link.receive()? {
                    ToAgent::Need(need) => need,
                    ToAgent::Resume => return Err(Over::Resume),
                    other => panic!("the box said {other:?} instead of Need"),
                };
                for chunk in need.chunks {
                    let mut bytes = bytes.clone();
                    if file.fate == Fate::WrongHash {
                        bytes[0] ^= 1;
                    }
                    self.link.send(ToBox::Data(Data { file: id, chunk, bytes: bytes.into() }))?;
                }
                self.state.lock().unwrap().files_sent += 1;
                ReadOutcome::Read { node: node.clone(), steady: file.fate != Fate::Grow }
            }
        };
        self.link.send(ToBox::FileDone(FileDone { file: id, outcome }))?;
        Ok(())
    }
}

fn node(name: &str, file: &File) -> Node {
    let time = Timestamp { seconds: file.ctime, nanos: 1 };
    let meta = Meta {
        mode: 0o600,
        uid: 8,
        gid: 12,
        mtime: Timestamp { seconds: 5, nanos: 0 },
        ctime: time,
        inode: file.inode,
        links: 1,
        ..Meta::default()
    };
    let kind = NodeKind::File { size: file.bytes.len() as u64, sparse: false, content: Vec::new() };
    Node { name: name.as_bytes().to_vec(), meta, kind }
}
