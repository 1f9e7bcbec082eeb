//! Both ends on one socket pair: greeting, order, backpressure, and peers that are wrong, mute or gone.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use mailkeep_link::message::*;
use mailkeep_link::wire::Message;
use mailkeep_link::{AgentSide, BoxSide, LinkError, Options, limits, version};

fn options() -> Options {
    Options::new("test 1")
}

fn halves(stream: UnixStream) -> (Box<dyn Read + Send>, Box<dyn Write + Send>) {
    (Box::new(stream.try_clone().unwrap()), Box::new(LikeAPipe(stream)))
}

/// A pipe's writing end is closed by dropping it; a socket needs to be told.
struct LikeAPipe(UnixStream);

impl Write for LikeAPipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Drop for LikeAPipe {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }
}

fn connect() -> (BoxSide, AgentSide) {
    let (near, far) = UnixStream::pair().unwrap();
    let agent = thread::spawn(move || {
        let (input, output) = halves(far);
        AgentSide::open(input, output, &options()).unwrap()
    });
    let (input, output) = halves(near);
    (BoxSide::open(input, output, &options()).unwrap(), agent.join().unwrap())
}

/// An output whose far end is gone.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn data(chunk: u32) -> ToBox {
    let file = FileId { directory: DirectoryId(0), index: 0 };
    ToBox::Data(Data { file, chunk, bytes: vec![chunk as u8; 100_000].into() })
}

/// A reader that counts before it hands on: whoever has a message finds all its bytes counted.
struct Counted(UnixStream, std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Read for Counted {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(bytes)?;
        self.1.fetch_add(count, std::sync::atomic::Ordering::SeqCst);
        Ok(count)
    }
}

#[test]
fn what_is_compressed_on_the_way_arrives_as_it_was_said() {
    let (near, far) = UnixStream::pair().unwrap();
    let crossed = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let agent = thread::spawn(move || {
        let (input, output) = halves(far);
        AgentSide::open(input, output, &options()).unwrap()
    });
    let input = Counted(near.try_clone().unwrap(), crossed.clone());
    let near = BoxSide::open(Box::new(input), Box::new(LikeAPipe(near)), &options()).unwrap();
    let far = agent.join().unwrap();
    let mut said = 0;
    let mut wires = Vec::new();
    // On, off and on again in the middle of a stream; each part is heard before the next begins.
    for on in [false, true, false, true] {
        far.squeeze(on);
        let before = crossed.load(std::sync::atomic::Ordering::SeqCst);
        let (sender, from) = (far.sender(), said);
        let speaker =
            thread::spawn(move || (from..from + 50).for_each(|number| sender.send(data(number)).unwrap()));
        for number in from..from + 50 {
            assert_eq!(near.receive().unwrap(), data(number));
        }
        speaker.join().unwrap();
        said += 50;
        wires.push(crossed.load(std::sync::atomic::Ordering::SeqCst) - before);
    }
    assert!(wires[0] > 5_000_000 && wires[2] > 5_000_000, "{wires:?}");
    assert!(wires[1] < 500_000 && wires[3] < 500_000, "{wires:?}");
}

#[test]
fn a_greeting_that_never_ends_is_not_waited_for() {
    let (near, far) = UnixStream::pair().unwrap();
    let agent = thread::spawn(move || {
        let (input, output) = halves(far);
        let options = Options { silence: Duration::from_millis(300), ..options() };
        AgentSide::open(input, output, &options).map(|_| ())
    });
    // Its length says 1000 bytes; signs of life come in their place, for as long as somebody listens.
    (&near).write_all(&[0xe8, 3, 0, 0, 1]).unwrap();
    let mut said = 0;
    // A failed write is one that nobody listens to any more.
    while said < 990 && !agent.is_finished() && (&near).write_all(&[0]).is_ok() {
        said += 1;
        thread::sleep(Duration::from_millis(50));
    }
    let error = agent.join().unwrap().unwrap_err();
    assert!(matches!(error, LinkError::Silent { .. }), "{error}");
}

#[test]
fn messages_arrive_whole_and_in_order() {
    let (near, far) = connect();
    assert_eq!((near.version(), far.peer().program.as_str()), (version::HIGHEST, "test 1"));
    near.send(ToAgent::Configure(Configure { source: "x".into() })).unwrap();
    near.send(ToAgent::Resume).unwrap();
    assert!(matches!(far.receive().unwrap(), ToAgent::Configure(_)));
    assert!(matches!(far.receive().unwrap(), ToAgent::Resume));
    far.send(data(1)).unwrap();
    far.finish(Duration::from_secs(10)).unwrap();
    assert_eq!(near.receive().unwrap(), data(1));
    assert!(matches!(near.receive(), Err(LinkError::Closed)));
}

#[test]
fn an_agent_that_cannot_be_heard_ends_though_its_input_stays_open() {
    let (near, far) = UnixStream::pair().unwrap();
    let mut hello = Vec::new();
    let offer = Hello { lowest: 1, highest: 1, program: "box".into() };
    mailkeep_link::frame::Frame::from(ToAgent::Hello(offer).outgoing().unwrap()).put(&mut hello);
    (&near).write_all(&hello).unwrap();
    let mut options = options();
    // Without a failed writer's word only the silence would end it, and as such.
    options.silence = Duration::from_secs(20);
    let ended = AgentSide::open(Box::new(far), Box::new(Broken), &options).and_then(|agent| agent.receive());
    assert!(matches!(ended, Err(LinkError::Write(_))), "{ended:?}");
    drop(near);
}

#[test]
fn a_box_that_cannot_be_heard_still_hears_the_last_words() {
    let (near, far) = UnixStream::pair().unwrap();
    let mut said = Vec::new();
    let offer = Hello { lowest: 1, highest: 1, program: "agent".into() };
    let words = Failed { what: "it broke".into(), hint: String::new(), exit_code: 1 };
    for message in [ToBox::Hello(offer), ToBox::Failed(words.clone())] {
        mailkeep_link::frame::Frame::from(message.outgoing().unwrap()).put(&mut said);
    }
    let the_box = thread::spawn(move || {
        BoxSide::open(Box::new(near), Box::new(Broken), &options()).and_then(|link| link.receive())
    });
    (&far).write_all(&said).unwrap();
    let heard = the_box.join().unwrap();
    assert!(matches!(&heard, Ok(ToBox::Failed(failed)) if *failed == words), "{heard:?}");
}

#[test]
fn two_ends_that_only_talk_do_not_block_each_other() {
    let (near, far) = connect();
    const COUNT: u32 = 3000;
    let talker = thread::spawn(move || {
        (0..COUNT).for_each(|number| far.send(data(number)).unwrap());
        let wants = (0..COUNT).filter(|_| matches!(far.receive().unwrap(), ToAgent::Want(_))).count();
        assert_eq!(wants, COUNT as usize);
    });
    // Nothing is received here until all is said: 300 MB press against a small inbox meanwhile.
    for first in 0..COUNT {
        near.send(ToAgent::Want(Want { directory: DirectoryId(0), first, files: vec![first; 1] })).unwrap();
    }
    for number in 0..COUNT {
        assert_eq!(near.receive().unwrap(), data(number));
    }
    talker.join().unwrap();
}

#[test]
fn a_mute_peer_is_reported_as_silent_and_a_slow_one_is_not() {
    let (near, far) = UnixStream::pair().unwrap();
    let (input, output) = halves(near);
    let mute = BoxSide::open(input, output, &Options { silence: Duration::from_millis(300), ..options() });
    assert!(matches!(mute, Err(LinkError::Silent { .. })));
    drop(far);

    let (near, far) = connect();
    far.set_silence(Duration::from_secs(30));
    assert_eq!(far.receive_within(Duration::from_millis(50)).unwrap(), None);
    far.set_silence(Duration::from_millis(200));
    assert!(matches!(far.receive(), Err(LinkError::Silent { .. })));
    drop(near);
}

#[test]
fn a_talking_end_notices_that_nobody_reads() {
    let (near, far) = UnixStream::pair().unwrap();
    let box_side = thread::spawn(move || {
        let mut stream = near;
        let hello = ToAgent::Hello(mailkeep_link::version::hello("mute")).encode().unwrap();
        let mut bytes = Vec::new();
        hello.put(&mut bytes);
        stream.write_all(&bytes).unwrap();
        stream
    });
    let (input, output) = halves(far);
    let agent = AgentSide::open(input, output, &Options { silence: Duration::from_millis(500), ..options() })
        .unwrap();
    let _open_but_not_read = box_side.join().unwrap();
    let broke = (0..).find_map(|number| agent.send(data(number)).err()).unwrap();
    assert!(matches!(broke, LinkError::Silent { .. }), "{broke}");
}

#[test]
fn a_login_banner_is_shown_instead_of_decoded() {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"Welcome to mail1! 3 updates can be applied.\n").unwrap();
    let (input, output) = halves(near);
    let error = BoxSide::open(input, output, &options()).unwrap_err();
    assert!(
        matches!(&error, LinkError::NotMailkeep { said } if said.starts_with("Welcome to mail1!")),
        "{error}"
    );
}

#[test]
fn both_sides_say_which_one_is_too_old() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let next = version::HIGHEST + 1;
    let newer = Hello { lowest: next, highest: next + 1, program: "mailkeep-agent 7".into() };
    let mut bytes = Vec::new();
    ToBox::Hello(newer).encode().unwrap().put(&mut bytes);
    far.write_all(&bytes).unwrap();
    let (input, output) = halves(near);
    let error = BoxSide::open(input, output, &options()).unwrap_err().to_string();
    assert!(error.contains("update the near side"), "{error}");
}

#[test]
fn garbage_and_cuts_after_the_greeting_end_the_connection() {
    for (bytes, cut) in [
        (vec![1, 0, 0, 0, 200, 0], false),
        (vec![0xff, 0xff, 0xff, 0xff, 132], false),
        (vec![3, 0, 0, 0, 132, 9], true),
    ] {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut all = Vec::new();
        ToBox::Hello(mailkeep_link::version::hello("x")).encode().unwrap().put(&mut all);
        all.extend(bytes);
        far.write_all(&all).unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        let (input, output) = halves(near);
        let side = BoxSide::open(input, output, &options()).unwrap();
        let error = side.receive().unwrap_err();
        assert_eq!(matches!(error, LinkError::Cut), cut, "{error}");
        assert!(!matches!(error, LinkError::Closed));
    }
}

#[test]
fn a_box_that_floods_the_agent_is_broken_off() {
    let (near, far) = connect();
    let flood = thread::spawn(move || {
        // A box that behaves never has so many unanswered pieces to speak about.
        let _ = (0..limits::AGENT_INBOX_MESSAGES + 10).try_for_each(|_| near.send(ToAgent::Recheck));
        near
    });
    while far.check().is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
    let taken = (0..).find_map(|count| far.receive().err().map(|error| (count, error))).unwrap();
    assert!(matches!(taken, (limits::AGENT_INBOX_MESSAGES, LinkError::Flooded)), "{taken:?}");
    drop(flood.join().unwrap());
}
