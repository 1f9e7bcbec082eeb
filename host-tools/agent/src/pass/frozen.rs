//! The final pass while mail is stopped, without the box. Where a file system can take a snapshot, that is all: what it
//! holds is walked when mail runs again. The rest of the tree is walked at once, what will be said of it is recorded,
//! and what the box will want is put on the stage. Mail is started then, and the recording is played over the link.
//!
//! Which files the box will want is foreseen by its own rule: those that changed since the last live pass began (less the
//! seconds of a coarse clock), and all of folders that this pass did not meet under their path. That is foresight and no
//! promise: what is wanted and not on the stage is read when mail runs, and counts only if it still is as it was listed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mailkeep_format::Timestamp;
use mailkeep_link::message::{Hint, ToBox};

use super::journal::Journal;
use super::known::KnownFolders;
use super::ledger::{Aborted, Candidate, Ledger, Piece, Place, Then};
use super::memory::Memory;
use super::read::Say;
use super::walk::{Folder, FoldersSeen, Sink, Walk, Walked};
use super::{Seen, millis, moved};
use crate::error::{AgentError, one_line};
use crate::limits;
use crate::places::Places;
use crate::plan::Plan;
use crate::snapshot::{Snapshots, Ways};
use crate::stage::record::{Item, Player, Recorder};
use crate::stage::{self, NotKept, Stage};

/// What is to be frozen.
pub(crate) struct Freeze {
    pub(crate) profile: Arc<Places>,
    /// The folder that stands in for `/.mailkeep`.
    pub(crate) export: PathBuf,
    pub(crate) known: Option<KnownFolders>,
    /// The last live pass.
    pub(crate) seen: Seen,
    /// The box was told nothing of what that saw and has changed since, and is to be told only that.
    pub(crate) recalls: bool,
    /// Start of this one.
    pub(crate) clock: Timestamp,
    /// A private folder.
    pub(crate) spare: PathBuf,
    /// Which trees a snapshot can keep.
    pub(crate) ways: Ways,
    /// Most descriptors that may be held.
    pub(crate) descriptors: usize,
}

/// A tree as it was.
#[derive(Debug)]
pub(crate) struct FrozenTree {
    pub(crate) clock: Timestamp,
    pub(crate) profile: Arc<Places>,
    pub(crate) plan: Plan,
    /// For what the snapshots hold.
    pub(crate) known: Option<KnownFolders>,
    pub(crate) memory: Option<Memory>,
    pub(crate) snapshots: Snapshots,
    /// How it was kept, in words.
    pub(crate) how: String,
    pub(crate) player: Player,
    pub(crate) stage: Arc<Stage>,
    pub(crate) walked: Walked,
    /// One line for each directory that moved while it was walked.
    pub(crate) moved: Vec<String>,
    pub(crate) millis: u64,
}

/// Why a tree could not be kept.
#[derive(Debug)]
pub(crate) struct NotFrozen {
    /// In one line.
    pub(crate) why: String,
    /// For the pass over the link.
    pub(crate) known: Option<Box<KnownFolders>>,
    pub(crate) memory: Option<Box<Memory>>,
    /// What was taken before that showed.
    pub(crate) snapshots: Snapshots,
}

impl NotFrozen {
    /// Nothing is left of what was done.
    pub(crate) fn unknown(why: &str) -> NotFrozen {
        NotFrozen { why: why.to_owned(), known: None, memory: None, snapshots: Snapshots::default() }
    }
}

impl Freeze {
    /// Walks, records and stages.
    ///
    /// # Errors
    /// Why it cannot be kept; nothing is kept then.
    pub(crate) fn run(mut self, called_off: &AtomicBool) -> Result<FrozenTree, NotFrozen> {
        let known = self.known.take();
        let memory = self.seen.memory.take().filter(|_| self.recalls);
        match self.keep(known.as_ref(), memory.as_ref(), called_off) {
            Ok(tree) => Ok(FrozenTree { known, memory, ..tree }),
            Err((why, snapshots)) => {
                let (known, memory) = (known.map(Box::new), memory.map(Box::new));
                Err(NotFrozen { why, known, memory, snapshots })
            }
        }
    }

    fn keep(
        mut self,
        known: Option<&KnownFolders>,
        memory: Option<&Memory>,
        called_off: &AtomicBool,
    ) -> Result<FrozenTree, (String, Snapshots)> {
        let began = Instant::now();
        if self.clock < self.seen.clock {
            return Err(("the server's clock went back".to_owned(), Snapshots::default()));
        }
        let mut plan = Plan::new(&self.profile).map_err(|error| (one_line(&error), Snapshots::default()))?;
        plan.top.at(Path::new("/.mailkeep")).instead = Some(self.export);
        let snapshots = self.ways.take(&|| called_off.load(Ordering::Relaxed));
        snapshots.tell(&mut plan);
        let freezer = Freezer {
            since: self.seen.clock.minus_seconds(limits::SETTLED_SECONDS),
            folders: self.seen.folders,
            called_off,
            state: RefCell::new(State {
                recorder: Recorder::new(self.spare.clone()),
                stage: Stage::new(self.spare, self.descriptors, limits::STAGE_BYTES),
                why: None,
            }),
        };
        let walk = Walk::new(&self.profile, &plan, known, &freezer, true, self.clock);
        let walked = walk.with(self.seen.journal.take()).recalling(memory).run();
        let State { recorder, stage, why } = freezer.state.into_inner();
        let played = match walked {
            Ok(Ok(walked)) => match recorder.play() {
                Ok(player) => Ok((walked, player)),
                Err(error) => Err(format!("the walk could not be recorded: {error}")),
            },
            Ok(Err(error)) => Err(one_line(&error)),
            Err(Aborted) => Err(why.unwrap_or_else(|| "it was called off".to_owned())),
        };
        let (mut walked, player) = match played {
            Ok(played) => played,
            Err(why) => return Err((why, snapshots)),
        };
        let mut moved = moved(&walked.watched);
        moved.extend(walked.journal.iter_mut().flat_map(Journal::moved));
        Ok(FrozenTree {
            clock: self.clock,
            profile: self.profile,
            plan,
            known: None,
            memory: None,
            snapshots,
            how: self.ways.describe(),
            player,
            stage: Arc::new(stage),
            walked,
            moved,
            millis: millis(began.elapsed()),
        })
    }
}

/// Whether what is likely to change until the window would have room on the stage; bytes that are expected, or why not.
pub(crate) fn foresee(seen: &Seen, roots: &[PathBuf], spare: &Path, now: Timestamp) -> Result<u64, String> {
    if now < seen.clock {
        return Err("the server's clock went back".to_owned());
    }
    let mut expected = 0u64;
    let mut by_device: HashMap<u64, u64> = HashMap::new();
    for root in roots {
        let Ok(stat) = rustix::fs::stat(root) else { continue };
        let device = crate::meta::Facts::of(&stat).device;
        if by_device.contains_key(&device) {
            continue;
        }
        let room = stage::room_for(root, spare).map_err(|error| {
            format!("nothing can be kept on the file system of {}: {error}", root.display())
        })?;
        let recent = seen.recent.get(&device).copied().unwrap_or(0);
        let needed = recent.saturating_mul(2).saturating_add(limits::STAGE_MARGIN);
        if needed > room.min(limits::STAGE_BYTES) {
            return Err(format!(
                "the file system of {} has room for {} MB of what changes, {} MB are needed",
                root.display(),
                room >> 20,
                needed >> 20
            ));
        }
        by_device.insert(device, recent);
        expected = expected.saturating_add(recent);
    }
    Ok(expected)
}

struct Freezer<'a> {
    /// What changed since then is staged.
    since: Timestamp,
    folders: FoldersSeen,
    called_off: &'a AtomicBool,
    state: RefCell<State>,
}

struct State {
    recorder: Recorder,
    stage: Stage,
    why: Option<String>,
}

impl Freezer<'_> {
    fn give_up(&self, why: String) -> Aborted {
        self.state.borrow_mut().why.get_or_insert(why);
        Aborted
    }

    fn record(&self, item: &Item) -> Result<(), Aborted> {
        if self.called_off.load(Ordering::Relaxed) {
            return Err(Aborted);
        }
        let added = self.state.borrow_mut().recorder.add(item);
        added.map_err(|error| self.give_up(format!("the walk could not be recorded: {error}")))
    }
}

impl Sink for Freezer<'_> {
    fn piece(&self, folder: &Folder<'_>, message: ToBox, files: Vec<Candidate>) -> Result<(), Aborted> {
        let (nodes, hints): (&[_], &[_]) = match &message {
            ToBox::Entries(piece) => (&piece.nodes, &piece.hints),
            ToBox::Unchanged(piece) => (&piece.nodes, &piece.hints),
            ToBox::Amended(piece) => (&piece.nodes, &piece.hints),
            _ => (&[], &[]),
        };
        let met = folder.facts.is_some_and(|facts| self.folders.has(folder.path, facts.inode));
        let all = folder.is_stand_in || !met;
        let mut staged = Vec::new();
        let mut places = Vec::with_capacity(files.len());
        let listed = nodes.iter().zip(hints).filter(|(node, _)| node.is_file());
        for (candidate, (node, hint)) in files.iter().zip(listed) {
            places.push(candidate.index);
            if !all && node.meta.mtime.max(node.meta.ctime) < self.since {
                continue;
            }
            let kept = self.state.borrow_mut().stage.keep(folder.directory, node, *hint == Hint::Message);
            match kept {
                Ok(kept) => staged.push((candidate.index, kept)),
                Err(NotKept::Lost) => {}
                Err(NotKept::Full(why)) => return Err(self.give_up(why)),
            }
        }
        let path = if folder.is_stand_in { &[] } else { folder.path.as_os_str().as_bytes() };
        self.record(&Item { message, folder: path.to_vec(), places, staged })
    }

    fn say(&self, message: ToBox) -> Result<(), Aborted> {
        self.record(&Item { message, folder: Vec::new(), places: Vec::new(), staged: Vec::new() })
    }

    fn fail(&self, error: AgentError) {
        self.state.borrow_mut().why.get_or_insert(one_line(&error));
    }
}

/// Says what was recorded, and lets the files in it be asked for.
pub(crate) fn play(
    mut player: Player,
    stage: &Arc<Stage>,
    ledger: &Ledger,
    say: &dyn Say,
) -> Result<(), Aborted> {
    loop {
        let item = match player.next() {
            Ok(Some(item)) => item,
            Ok(None) => return Ok(()),
            Err(source) => {
                let path = "the recorded walk".into();
                ledger.fail(AgentError::State { action: "read", path, source });
                return Err(Aborted);
            }
        };
        let Item { message, folder, places, staged } = item;
        let (directory, first, nodes, hints): (_, _, &[_], &[_]) = match &message {
            ToBox::Entries(piece) => (piece.directory, piece.first, &piece.nodes, &piece.hints),
            ToBox::Unchanged(piece) => (piece.directory, 0, &piece.nodes, &piece.hints),
            ToBox::Amended(piece) => (piece.directory, 0, &piece.nodes, &piece.hints),
            _ => {
                say.say(message)?;
                continue;
            }
        };
        let mut staged = staged.into_iter().peekable();
        let listed = nodes.iter().zip(hints).filter(|(node, _)| node.is_file());
        let files = places.into_iter().zip(listed).map(|(index, (node, hint))| {
            let kept = staged.next_if(|(place, _)| *place == index).map(|(_, kept)| kept);
            let then = Then { node: node.clone(), staged: kept };
            Candidate::new(index, node, *hint, Some(Box::new(then)))
        });
        let files = files.collect();
        let folder = Arc::new(PathBuf::from(std::ffi::OsStr::from_bytes(&folder)));
        let place = Place::Then { stage: Arc::clone(stage), folder };
        let cost = nodes.len().max(1);
        if !ledger.has_room(cost) {
            say.flush();
        }
        ledger.announce_piece(directory, first, Piece { place, files, cost })?;
        say.say(message)?;
    }
}
