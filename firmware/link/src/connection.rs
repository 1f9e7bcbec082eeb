//! The two ends of a connection, over any pair of byte streams: a child's pipes, or those of `ssh`.
//!
//! Two threads belong to an end: one reads and decodes, one writes and says `Alive` when there is nothing else to say.
//! They end when the streams do. An error on either is kept and given to every later call.
//!
//! An agent that cannot be heard any more has nothing to wait for: a failed writer ends what it receives, and it goes and
//! starts mail. The box reads on, because the agent's last words say why it ended.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::LinkError;
use crate::frame::{HEAD_LEN, fill, read_frame};
use crate::inbox::{Bounds, Inbox, WhenFull};
use crate::limits;
use crate::message::{Hello, ToAgent, ToBox};
use crate::outbox::Outbox;
use crate::packed::Unpacker;
use crate::version;
use crate::wire::Message;

/// The box's end: says [`ToAgent`], hears [`ToBox`].
pub type BoxSide = Connection<ToAgent, ToBox>;
/// The agent's end: says [`ToBox`], hears [`ToAgent`].
pub type AgentSide = Connection<ToBox, ToAgent>;

/// How an end behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Program and version, for people: `mailkeep 0.1.0`.
    pub program: String,
    /// How long the peer may be silent.
    pub silence: Duration,
}

impl Options {
    /// The usual silence of 60 s.
    pub fn new(program: impl Into<String>) -> Self {
        Options { program: program.into(), silence: limits::SILENCE }
    }
}

/// One end. Both streams are owned by its threads.
pub struct Connection<Out: Message, In: Message> {
    sender: Sender<Out, In>,
    /// Taken from the inbox many at a time.
    taken: Mutex<VecDeque<(In, usize)>>,
    peer: Hello,
    version: u32,
    /// Writes what it has said before it sleeps. The box only: it has an answer for all that it heard by then. The agent
    /// sleeps between two answers of the box while its other threads go on talking.
    answers: bool,
}

/// The sending half; any number of threads may have one.
pub struct Sender<Out: Message, In: Message> {
    shared: Arc<Shared<In>>,
    said: std::marker::PhantomData<fn(Out)>,
}

/// What an end does once nothing that it says arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenUnheard {
    /// Hears what the peer still says.
    ReadOn,
    /// Ends.
    End,
}

struct Shared<In> {
    inbox: Arc<Inbox<In>>,
    outbox: Arc<Outbox>,
}

impl<In> Drop for Shared<In> {
    fn drop(&mut self) {
        self.inbox.desert();
        self.outbox.desert();
    }
}

impl<Out: Message, In: Message> Clone for Sender<Out, In> {
    fn clone(&self) -> Self {
        Sender { shared: Arc::clone(&self.shared), said: std::marker::PhantomData }
    }
}

impl<Out: Message, In: Message> std::fmt::Debug for Sender<Out, In> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl<Out: Message, In: Message> std::fmt::Debug for Connection<Out, In> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).field("version", &self.version).finish()
    }
}

impl BoxSide {
    /// Greets the agent and agrees on a version. A slow consumer holds the agent back.
    ///
    /// # Errors
    /// [`LinkError::NotMailkeep`] if something else answers, [`LinkError::NoCommonVersion`], or that the way broke.
    pub fn open(
        input: Box<dyn Read + Send>,
        output: Box<dyn Write + Send>,
        options: &Options,
    ) -> Result<Self, LinkError> {
        let bounds = Bounds {
            messages: limits::INBOX_MESSAGES,
            bytes: limits::INBOX_BYTES,
            when_full: WhenFull::Wait,
        };
        let sender = Sender::start(input, output, bounds, WhenUnheard::ReadOn, options)?;
        let own = version::hello(&options.program);
        sender.send(ToAgent::hello(own.clone()))?;
        let agreed = Self::agree(sender, &own, options.silence)?;
        Ok(Connection { answers: true, ..agreed })
    }
}

impl AgentSide {
    /// Waits for the box's greeting, answers it and agrees on a version.
    ///
    /// # Errors
    /// As [`BoxSide::open`].
    pub fn open(
        input: Box<dyn Read + Send>,
        output: Box<dyn Write + Send>,
        options: &Options,
    ) -> Result<Self, LinkError> {
        let bounds = Bounds {
            messages: limits::AGENT_INBOX_MESSAGES,
            bytes: limits::AGENT_INBOX_BYTES,
            when_full: WhenFull::Refuse,
        };
        let sender = Sender::start(input, output, bounds, WhenUnheard::End, options)?;
        let own = version::hello(&options.program);
        // Answered even if the versions do not meet, so that both sides can say which one is too old.
        sender.send(ToBox::hello(own.clone()))?;
        Self::agree(sender, &own, options.silence)
    }
}

impl<Out: Message, In: Message> Connection<Out, In> {
    fn agree(sender: Sender<Out, In>, own: &Hello, silence: Duration) -> Result<Self, LinkError> {
        let mut taken = VecDeque::new();
        // A greeting that says it is longer than it is would be filled up by signs of life, five bytes at a time.
        let until = Instant::now() + silence;
        let first = loop {
            let left = until.saturating_duration_since(Instant::now());
            match taken.pop_front() {
                Some((message, _)) => break message,
                None if left.is_zero() => return Err(LinkError::Silent { seconds: silence.as_secs() }),
                None => sender.shared.inbox.take_all(Some(left), &mut taken, &|| {})?,
            }
        };
        let first: In = first;
        let peer = first.into_hello().ok_or(LinkError::Rule { message: "Hello", rule: "it comes first" })?;
        let agreed = version::negotiate(own, &peer);
        if agreed.is_err() {
            // So that the peer gets our Hello and can tell its user the same.
            let _ = sender.shared.outbox.finish(Duration::from_secs(5));
        }
        Ok(Connection { version: agreed?, peer, sender, taken: Mutex::new(taken), answers: false })
    }

    /// The peer's greeting.
    pub fn peer(&self) -> &Hello {
        &self.peer
    }

    /// The protocol version both sides use.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Queues a message; waits while too much is queued.
    ///
    /// # Errors
    /// That the connection broke, now or earlier, or that the peer fell silent while we waited.
    pub fn send(&self, message: Out) -> Result<(), LinkError> {
        self.sender.send(message)
    }

    /// The next message that is not `Alive`.
    ///
    /// # Errors
    /// [`LinkError::Closed`] at the end, [`LinkError::Silent`], or what broke the connection. What the peer had said
    /// before is delivered first.
    pub fn receive(&self) -> Result<In, LinkError> {
        loop {
            if let Some(message) = self.take(None)? {
                return Ok(message);
            }
        }
    }

    /// The next message that is not `Alive`, or `None` if none comes within `patience`.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn receive_within(&self, patience: Duration) -> Result<Option<In>, LinkError> {
        self.take(Some(patience))
    }

    fn take(&self, patience: Option<Duration>) -> Result<Option<In>, LinkError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.is_empty() {
            let before_sleep = || {
                if self.answers {
                    self.sender.flush()
                }
            };
            self.sender.shared.inbox.take_all(patience, &mut taken, &before_sleep)?;
        }
        Ok(taken.pop_front().map(|(message, _)| message))
    }

    /// Whether the peer is still there, without taking anything.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn check(&self) -> Result<(), LinkError> {
        self.sender.check()
    }

    /// Sets how long the peer may be silent from now on.
    pub fn set_silence(&self, silence: Duration) {
        self.sender.shared.inbox.set_silence(silence);
    }

    /// Whether what is said from now on is compressed where that makes it shorter. Only after the peer has asked for it.
    pub fn squeeze(&self, on: bool) {
        self.sender.shared.outbox.squeeze(on && Out::PACKED.is_some());
    }

    /// A sending half for another thread.
    pub fn sender(&self) -> Sender<Out, In> {
        self.sender.clone()
    }

    /// Waits until everything said is written, at most `patience`, and ends the writing side.
    ///
    /// # Errors
    /// That something could not be written.
    pub fn finish(self, patience: Duration) -> Result<(), LinkError> {
        self.sender.shared.outbox.finish(patience)
    }
}

impl<Out: Message, In: Message> Sender<Out, In> {
    fn start(
        mut input: Box<dyn Read + Send>,
        mut output: Box<dyn Write + Send>,
        bounds: Bounds,
        unheard: WhenUnheard,
        options: &Options,
    ) -> Result<Self, LinkError> {
        let inbox = Arc::new(Inbox::new(bounds, options.silence));
        let outbox = Arc::new(Outbox::new(Out::PACKED));
        let alive = Out::alive().outgoing()?;
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        {
            let inbox = Arc::clone(&inbox);
            thread("link-read")
                .spawn(move || {
                    let why = read_all(&mut *input, &inbox);
                    inbox.end(why);
                })
                .map_err(|error| LinkError::Thread(error.into()))?;
        }
        {
            let (inbox, outbox) = (Arc::clone(&inbox), Arc::clone(&outbox));
            thread("link-write")
                .spawn(move || {
                    if let (Err(why), WhenUnheard::End) = (outbox.run(&mut *output, &alive), unheard) {
                        inbox.end(why);
                    }
                })
                .map_err(|error| LinkError::Thread(error.into()))?;
        }
        Ok(Sender { shared: Arc::new(Shared { inbox, outbox }), said: std::marker::PhantomData })
    }

    /// Queues a message; waits while too much is queued.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send(&self, message: Out) -> Result<(), LinkError> {
        self.shared.outbox.push(message.outgoing()?, &|| self.shared.inbox.check())
    }

    /// What is queued is written now and not gathered with what may follow: for whoever is about to wait for the answer.
    pub fn flush(&self) {
        self.shared.outbox.hurry();
    }

    /// Whether the peer is still there.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn check(&self) -> Result<(), LinkError> {
        self.shared.inbox.check()
    }
}

/// The reading thread; returns why it ended.
fn read_all<In: Message>(input: &mut dyn Read, inbox: &Inbox<In>) -> LinkError {
    let mut heard = || inbox.heard();
    let mut messages = Vec::new();
    if let Err(why) = take_opening::<In>(input, inbox, &mut heard) {
        return why;
    }
    let mut unpacker = Unpacker::default();
    loop {
        let decoded = unpacker.decode(&mut messages);
        // The whole buffer is kept for its parts; it counts with the first of them.
        let counted: usize = messages.iter().map(|(_, size)| size).sum();
        if let Some((_, size)) = messages.first_mut() {
            *size += unpacker.buffer_len().saturating_sub(counted);
        }
        // What was said before something went wrong is heard first.
        if !messages.is_empty() && !inbox.push_all(&mut messages) {
            return LinkError::Finished;
        }
        let more = match decoded {
            Ok(true) => unpacker.read_more(input, &mut heard),
            Ok(false) => Ok(()),
            Err(why) => Err(why),
        };
        if let Err(why) = more {
            return why;
        }
    }
}

/// The first frame must be a `Hello`. What else comes (a banner of the login shell, "command not found") is shown.
fn take_opening<In: Message>(
    input: &mut dyn Read,
    inbox: &Inbox<In>,
    heard: &mut dyn FnMut(),
) -> Result<(), LinkError> {
    const HELLO_MAX: u32 = 4096;
    let mut head = [0u8; HEAD_LEN];
    let got = fill(input, &mut head, heard)?;
    if got == 0 {
        return Err(LinkError::Closed);
    }
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if got < HEAD_LEN || head[4] != In::HELLO || length > HELLO_MAX {
        let mut rest = [0u8; 80];
        // One read, not a full buffer: a shell that prompts would keep us waiting.
        let more = input.read(&mut rest).unwrap_or(0);
        let said = [&head[..got], &rest[..more]].concat();
        let said = String::from_utf8_lossy(&said).trim().chars().take(80).collect();
        return Err(LinkError::NotMailkeep { said });
    }
    let mut whole: &mut dyn Read = &mut (&head[..]).chain(input);
    let frame = read_frame(&mut whole, heard)?;
    let length = frame.wire_len();
    let message = In::incoming(frame.kind, &frame.payload.into())?;
    inbox.push_all(&mut vec![(message, length)]);
    Ok(())
}
