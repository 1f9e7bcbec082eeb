//! One traversal, live or final, from `PassBegun` to `PassEnded`.
//!
//! Threads: one walks, [`limits::READERS`] read what the box wants, one sends what it needs, one waits for everything
//! to be settled and says `PassEnded`. They meet in the ledger only, which bounds what is under way. The
//! dispatcher hands in `Want` and `Need` and never waits for any of them.
//!
//! A final pass is kept while mail is stopped and told when mail runs again (`frozen`); where it cannot be
//! kept, it is a pass as any other, over the link.

mod frozen;
mod journal;
mod known;
mod ledger;
mod memory;
mod read;
mod walk;

use std::cell::Cell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mailkeep_format::Timestamp;
use mailkeep_link::message::{Data, FileDone, Need, PassEnded, ReadOutcome, ToAgent, ToBox, Want};
use mailkeep_link::pace::Pace;
use mailkeep_link::{LinkError, Sender, SharedBytes};

use crate::error::AgentError;
use crate::open_files;
use crate::places::Places;
use crate::plan::Plan;
use crate::snapshot::Witness;
use crate::{limits, owners, priority};
pub(crate) use frozen::{Freeze, FrozenTree, NotFrozen, foresee};
pub(crate) use journal::Journal;
pub(crate) use known::KnownFolders;
use ledger::{Aborted, Candidate, Ledger, Piece, Place};
pub(crate) use memory::Memory;
use read::Say;
use walk::{Folder, FoldersSeen, Sink, Walk, Walked, Watched};

/// The sending half of the link to the box.
pub type ToBoxSender = Sender<ToBox, ToAgent>;

/// A traversal that is under way.
#[derive(Debug)]
pub struct Pass {
    ledger: Arc<Ledger>,
    needs: mpsc::Sender<Need>,
    threads: Vec<JoinHandle<()>>,
    walked: Arc<Mutex<Option<Walked>>>,
}

/// What a finished pass leaves for the check afterwards, or for the next pass.
#[derive(Debug)]
pub struct Seen {
    watched: Vec<Watched>,
    clock: Timestamp,
    folders: FoldersSeen,
    /// Directories within the roots at which another file system or subvolume begins.
    pub(crate) borders: Vec<PathBuf>,
    recent: HashMap<u64, u64>,
    /// What happens in folders since they were looked at.
    pub(crate) journal: Option<Journal>,
    /// What a live pass has seen, if it was to remember.
    pub(crate) memory: Option<Memory>,
    /// How long the walk took, milliseconds.
    pub(crate) millis: u64,
}

/// What the first thread of a pass does.
enum Work {
    Walk(Box<Order>, Box<Plan>),
    Play(Box<FrozenTree>, Option<Arc<Pace>>),
}

/// What becomes of what a live pass has seen.
#[derive(Debug, Default)]
pub(crate) enum Remember {
    /// Nothing.
    #[default]
    Nothing,
    /// This pass leaves it behind.
    This,
    /// This pass says only what is another than that.
    Earlier(Memory),
}

/// What a pass is to do.
#[derive(Debug)]
pub struct Order {
    /// What to walk.
    pub profile: Arc<Places>,
    /// Mail is stopped.
    pub is_final: bool,
    /// The server's clock at the start.
    pub clock: Timestamp,
    /// The folder that stands in for `/.mailkeep`.
    pub export: Option<PathBuf>,
    /// Folders that need not be listed if they have not changed.
    pub(crate) known: Option<KnownFolders>,
    /// What happened in folders since an earlier pass, or an empty one to be begun.
    pub(crate) journal: Option<Journal>,
    /// What a live pass has seen and the box does not need to be told again, or what this one is to leave behind.
    pub(crate) memory: Remember,
    /// How fast files may be read.
    pub pace: Option<Arc<Pace>>,
    /// The box has nothing: contents are sent as they are read.
    pub unasked: bool,
}

impl Pass {
    /// Starts the threads of a pass. `PassBegun` has been sent already.
    ///
    /// # Errors
    /// A root is missing, or there are no threads.
    pub fn begin(order: Order, link: &ToBoxSender) -> Result<Pass, AgentError> {
        let mut plan = Plan::new(&order.profile)?;
        if let Some(export) = &order.export {
            plan.top.at(Path::new("/.mailkeep")).instead = Some(export.clone());
        }
        let humble = !order.is_final;
        Pass::of(Work::Walk(Box::new(order), Box::new(plan)), humble, Witness::default(), link)
    }

    /// Tells what was frozen, while mail runs. `PassBegun` has been sent already. It ends well only if `witness` says of the
    /// snapshots that they were what they should be to the end.
    ///
    /// # Errors
    /// There are no threads.
    pub(crate) fn replay(
        tree: FrozenTree,
        pace: Option<Arc<Pace>>,
        witness: Witness,
        link: &ToBoxSender,
    ) -> Result<Pass, AgentError> {
        Pass::of(Work::Play(Box::new(tree), pace), true, witness, link)
    }

    fn of(work: Work, humble: bool, witness: Witness, link: &ToBoxSender) -> Result<Pass, AgentError> {
        let ledger = Ledger::new(pieces_ahead());
        let walked = Arc::new(Mutex::new(None));
        let (needs, needed) = mpsc::channel();
        let mut pass = Pass { ledger: Arc::clone(&ledger), needs, threads: Vec::new(), walked };
        let voice = link.clone();
        let start = move || {
            let started = pass.start(work, &voice, needed);
            started.map(|()| pass)
        };
        let started = if humble { priority::humbly(start).unwrap_or_else(Err) } else { start() };
        let started = started.and_then(|mut pass| pass.settle(witness, link).map(|()| pass));
        started.map_err(|error| {
            ledger.abort();
            AgentError::Thread(error)
        })
    }

    fn start(&mut self, work: Work, link: &ToBoxSender, needed: mpsc::Receiver<Need>) -> std::io::Result<()> {
        let (ledger, link, walked) = (Arc::clone(&self.ledger), link.clone(), Arc::clone(&self.walked));
        let pace = match &work {
            Work::Walk(order, _) => order.pace.clone(),
            Work::Play(_, pace) => pace.clone(),
        };
        let unasked = matches!(&work, Work::Walk(order, _) if order.unasked);
        self.thread("walk", {
            let (ledger, voice) = (Arc::clone(&ledger), Voice::new(&ledger, &link));
            move || {
                let done = match work {
                    Work::Walk(order, plan) => walk_all(*order, &plan, &ledger, &voice),
                    Work::Play(tree, _) => play_all(*tree, &ledger, &voice).map(Ok),
                };
                match done {
                    Ok(Ok(done)) => {
                        *walked.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
                        ledger.walked();
                    }
                    Ok(Err(error)) => ledger.fail(error),
                    Err(Aborted) => {}
                }
            }
        })?;
        for number in 0..limits::READERS {
            let (ledger, voice) = (Arc::clone(&ledger), Voice::new(&ledger, &link));
            let pace = pace.clone();
            self.thread(&format!("read-{number}"), move || {
                while let Some(job) = ledger.next_job() {
                    let read = read::read(&job, &ledger, pace.as_deref(), unasked, &voice);
                    let Ok(outcome) = read else { return };
                    if let Some(outcome) = ledger.read(job.file, outcome) {
                        if voice.done(&ledger, job.file, outcome).is_err() {
                            return;
                        }
                    }
                }
            })?;
        }
        self.thread("send", {
            let (ledger, voice) = (Arc::clone(&ledger), Voice::new(&ledger, &link));
            move || {
                for need in needed {
                    match answer(&need, &ledger, &voice) {
                        Ok(()) => {}
                        Err(Some(error)) => return ledger.fail(error),
                        Err(None) => return,
                    }
                }
            }
        })
    }

    /// Starts the thread that says the last word.
    fn settle(&mut self, witness: Witness, link: &ToBoxSender) -> std::io::Result<()> {
        let ledger = Arc::clone(&self.ledger);
        let walked = Arc::clone(&self.walked);
        let voice = Voice::new(&ledger, link);
        self.thread("settle", move || {
            let Ok(bytes_read) = ledger.settled() else { return };
            if let Err(error) = witness.check() {
                return ledger.fail(error);
            }
            let walked = walked.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(walked) = walked.as_ref() else { return };
            let (users, groups) = owners::names(&walked.owners.users, &walked.owners.groups);
            let _ = voice.say(ToBox::PassEnded(PassEnded { bytes_read, users, groups }));
        })
    }

    fn thread(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let ledger = Arc::clone(&self.ledger);
        let body = move || {
            // A panic must end the run, not leave it hanging.
            let guard = FailOnPanic(ledger);
            work();
            std::mem::forget(guard);
        };
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(body)?);
        Ok(())
    }

    /// The box has answered a piece of a listing.
    ///
    /// # Errors
    /// It answered what was not asked.
    pub fn want(&self, want: &Want) -> Result<(), AgentError> {
        self.ledger.want(want.directory, want.first, &want.files)
    }

    /// The box has answered a piece of a file.
    pub fn need(&self, need: Need) {
        // After a failure nobody listens; the failure is what counts.
        let _ = self.needs.send(need);
    }

    /// What made the pass fail, if it did.
    pub fn failure(&self) -> Option<AgentError> {
        self.ledger.take_failure()
    }

    /// Stops all threads without waiting for them: some may sit in a write to a box that does not read.
    pub fn abort(&self) {
        self.ledger.abort();
    }

    /// For a pass that has ended.
    ///
    /// # Errors
    /// It has not.
    pub fn finish(self) -> Result<Seen, AgentError> {
        if !self.ledger.has_ended() || self.ledger.is_aborted() {
            self.abort();
            return Err(self
                .failure()
                .unwrap_or(AgentError::OutOfOrder { said: "something else within a pass" }));
        }
        drop(self.needs);
        for thread in self.threads {
            let _ = thread.join();
        }
        let walked = self.walked.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let Walked { watched, folders, borders, recent, clock, journal, memory, millis, .. } = walked;
        Ok(Seen { watched, folders, borders, recent, clock, journal, memory, millis })
    }
}

impl Seen {
    /// Looks again at every directory that the final pass listed; one line for each that moved.
    pub fn moved(&mut self) -> Vec<String> {
        let mut all = moved(&self.watched);
        all.extend(self.journal.iter_mut().flat_map(Journal::moved));
        all
    }
}

fn moved(all: &[Watched]) -> Vec<String> {
    const LISTED: usize = 100;
    let mut paths: Vec<PathBuf> = Vec::with_capacity(all.len());
    let mut moved = Vec::new();
    let mut count = 0usize;
    for watched in all {
        let parent = watched.parent.and_then(|parent| paths.get(parent as usize));
        let name = std::os::unix::ffi::OsStrExt::from_bytes(&watched.name);
        let path = parent.map_or_else(|| PathBuf::from("/"), |parent| parent.join::<&std::ffi::OsStr>(name));
        // Above the roots only what leads there has to be the same.
        let on_the_way =
            watched.facts.mtime == Default::default() && watched.facts.ctime == Default::default();
        let now = rustix::fs::lstat(&path).map(|stat| crate::meta::Facts::of(&stat));
        let same = now.is_ok_and(|now| {
            let place = now.inode == watched.facts.inode && now.device == watched.facts.device;
            place && (on_the_way || (now.mtime == watched.facts.mtime && now.ctime == watched.facts.ctime))
        });
        if !same {
            count += 1;
            if moved.len() < LISTED {
                moved.push(format!("{} changed after it was listed", path.display()));
            }
        }
        paths.push(path);
    }
    if count > moved.len() {
        moved.push(format!("and {} more", count - moved.len()));
    }
    moved
}

/// Walks a tree as it is now.
fn walk_all(
    order: Order,
    plan: &Plan,
    ledger: &Ledger,
    voice: &Voice,
) -> Result<Result<Walked, AgentError>, Aborted> {
    let began = Instant::now();
    let line = Line { ledger, voice, waited: Cell::default() };
    let Order { profile, is_final, known, journal, memory, clock, .. } = order;
    let walk = Walk::new(&profile, plan, known.as_ref(), &line, is_final, clock).with(journal);
    let walk = match &memory {
        Remember::Nothing => walk,
        Remember::This => walk.remembering(),
        Remember::Earlier(memory) => walk.recalling(Some(memory)),
    };
    let mut walked = walk.run()?;
    if let Ok(walked) = &mut walked {
        walked.millis = millis(began.elapsed().saturating_sub(line.waited.get()));
    }
    Ok(walked)
}

/// Tells what was recorded, then walks what snapshots hold.
fn play_all(tree: FrozenTree, ledger: &Ledger, voice: &Voice) -> Result<Walked, Aborted> {
    let FrozenTree { player, stage, walked, profile, plan, known, memory, clock, .. } = tree;
    frozen::play(player, &stage, ledger, voice)?;
    drop(stage);
    let line = Line { ledger, voice, waited: Cell::default() };
    let walk = Walk::new(&profile, &plan, known.as_ref(), &line, true, clock);
    walk.recalling(memory.as_ref()).go_on(walked)
}

/// A walk's way to the box.
struct Line<'a> {
    ledger: &'a Ledger,
    voice: &'a Voice,
    /// How long the walk was held up by what is behind it.
    waited: Cell<Duration>,
}

impl Line<'_> {
    fn waiting<T>(&self, what_for: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = what_for();
        self.waited.set(self.waited.get() + began.elapsed());
        done
    }
}

impl Sink for Line<'_> {
    fn piece(&self, folder: &Folder<'_>, message: ToBox, files: Vec<Candidate>) -> Result<(), Aborted> {
        let (directory, first, cost) = match &message {
            ToBox::Entries(piece) => (piece.directory, piece.first, piece.nodes.len()),
            ToBox::Unchanged(piece) => (piece.directory, 0, piece.nodes.len()),
            ToBox::Amended(piece) => (piece.directory, 0, piece.nodes.len()),
            _ => return self.say(message),
        };
        let place = Place::Now(Arc::clone(folder.directory));
        self.waiting(|| {
            if !self.ledger.has_room(cost.max(1)) {
                self.voice.flush();
            }
            self.ledger.announce_piece(directory, first, Piece { place, files, cost: cost.max(1) })?;
            self.voice.say(message)
        })
    }

    fn say(&self, message: ToBox) -> Result<(), Aborted> {
        self.waiting(|| self.voice.say(message))
    }

    fn fail(&self, error: AgentError) {
        self.ledger.fail(error);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How many descriptors the stage may hold, by what the system allows.
pub(crate) fn staged_descriptors() -> usize {
    limits::STAGED_DESCRIPTORS.min(usize::try_from(open_files::raise() / 4).unwrap_or(0))
}

struct FailOnPanic(Arc<Ledger>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        self.0.fail(AgentError::Thread(std::io::Error::other("a thread of the pass died")));
    }
}

/// Sends what the box needs of one announced piece.
fn answer(need: &Need, ledger: &Ledger, voice: &Voice) -> Result<(), Option<AgentError>> {
    let announced = ledger.needed(need.file, need.first).map_err(Some)?;
    for number in &need.chunks {
        let range =
            number.checked_sub(need.first).and_then(|slot| announced.chunks.get(slot as usize)).cloned();
        let range = range.ok_or(Some(AgentError::OutOfOrder { said: "Need of what was not announced" }))?;
        let bytes = SharedBytes::part_of(&announced.bytes, range);
        voice.say(ToBox::Data(Data { file: need.file, chunk: *number, bytes })).map_err(|_| None)?;
    }
    ledger.release_bytes(announced.len());
    match ledger.paid(need.file) {
        Some(outcome) => voice.done(ledger, need.file, outcome).map_err(|_| None),
        None => Ok(()),
    }
}

/// The link, for a thread of a pass.
struct Voice {
    ledger: Arc<Ledger>,
    link: ToBoxSender,
}

impl Voice {
    fn new(ledger: &Arc<Ledger>, link: &ToBoxSender) -> Voice {
        Voice { ledger: Arc::clone(ledger), link: link.clone() }
    }

    fn done(
        &self,
        ledger: &Ledger,
        file: mailkeep_link::message::FileId,
        outcome: ReadOutcome,
    ) -> Result<(), Aborted> {
        self.say(ToBox::FileDone(FileDone { file, outcome }))?;
        ledger.file_finished();
        Ok(())
    }
}

impl Say for Voice {
    fn say(&self, message: ToBox) -> Result<(), Aborted> {
        if self.ledger.is_aborted() {
            return Err(Aborted);
        }
        self.link.send(message).map_err(|error: LinkError| {
            self.ledger.fail(AgentError::Link(error));
            Aborted
        })
    }

    fn flush(&self) {
        self.link.flush();
    }
}

/// How many directories may be held open, by what the system allows.
fn pieces_ahead() -> usize {
    limits::PIECES_AHEAD.min(usize::try_from(open_files::raise() / 4).unwrap_or(16)).max(16)
}
