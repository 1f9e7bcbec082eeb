//! `status` and `eject` against a box that answers as described in `firmware/appliance/API.md`. Hazards: "safe to remove" that
//! is said too early, the wrong disk that is ejected, a terminal that is steered by the name of a disk, a token on the wire
//! that was not asked for.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use support::{Lab, Said};

/// Gives these answers, one per request, and notes what was asked.
struct Fake {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn new(lab: &Lab, answers: Vec<(u16, String)>) -> Self {
        let socket = lab.path("box.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        std::thread::spawn(move || {
            for (code, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let head: Vec<String> = BufReader::new(&stream)
                    .lines()
                    .map(Result::unwrap)
                    .take_while(|line| !line.is_empty())
                    .collect();
                notes.lock().unwrap().push(head.join("\n"));
                write!(stream, "HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        Self { socket, asked }
    }

    fn run(&self, lab: &Lab, args: &[&str]) -> Said {
        lab.run(&[args, &["--box", self.socket.to_str().unwrap()]].concat())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|head| head.lines().next().unwrap().to_owned()).collect()
    }
}

fn status(disk: &str, faults: &str) -> (u16, String) {
    let text = format!(
        "{{\"name\": \"attic\", \"version\": \"0.1.0\", \"time\": 1780000000, \"clock_trusted\": true, \"lamps\": [
            {{\"lamp\": \"status\", \"pattern\": \"steady\", \"meaning\": \"last backup good\"}},
            {{\"lamp\": \"disk\", \"pattern\": \"slow\", \"meaning\": \"in use, do not remove\"}},
            {{\"lamp\": \"fault\", \"pattern\": \"off\", \"meaning\": \"fine\"}}],
          \"disk\": {{\"id\": \"a1\", \"label\": \"disk A\", \"state\": \"current\", {disk}}},
          \"job\": null, \"backup_owed\": false, \"last_proven\": 1780000000, \"last_good\": true, \"overdue\": false,
          \"next_backup\": null, \"faults\": [{faults}], \"news\": [],
          \"set\": [{{\"id\": \"a1\", \"in_the_box\": true, \"label\": \"disk A\", \"generation\": 7, \"doubt\": null}},
                    {{\"id\": \"b2\", \"in_the_box\": false, \"label\": \"disk\\u001b[2J B\", \"generation\": 5,
                     \"doubt\": \"went back in time\"}}],
          \"bring\": {{\"words\": \"bring \\\"disk B\\\" by Friday, 27 November\"}}}}"
    );
    (200, text)
}

const MOUNTED: &str = "\"in_use\": true, \"leaving\": false, \"safe_to_remove\": false";
const LEAVING: &str = "\"in_use\": true, \"leaving\": true, \"safe_to_remove\": false";
const SAFE: &str = "\"in_use\": false, \"leaving\": false, \"safe_to_remove\": true";
const FAULT: &str = "{\"fault\": \"eject-failed\", \"new\": true, \"since\": 1780000000, \"words\": \"It can't be unmounted.\"}";

fn words(code: u16, text: &str) -> (u16, String) {
    (code, format!("{{\"words\": \"{text}\"}}"))
}

#[test]
fn status_says_how_it_stands_and_its_code_whether_all_is_well() {
    let lab = Lab::new();
    let said = Fake::new(&lab, vec![status(SAFE, "")]).run(&lab, &["status"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    for part in [
        "attic, mailkeepd 0.1.0",
        "STATUS  steady  last backup good",
        "disk A: current, safe to remove",
        "bring \"disk B\" by Friday, 27 November",
        "went back in time",
        "mailkeep status --trust",
    ] {
        assert!(said.out.contains(part), "{part}:\n{}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "{:?}", said.out);
    let said = Fake::new(&lab, vec![status(SAFE, FAULT)]).run(&lab, &["--json", "status"]);
    assert_eq!(said.code, 2);
    assert_eq!(said.of("box_status")[0]["faults"][0]["fault"], "eject-failed");
    let said = Fake::new(&lab, vec![(200, "<html>".into())]).run(&lab, &["status"]);
    assert_eq!(said.code, 1, "{}", said.err);
}

#[test]
fn without_a_box_it_is_said_in_one_line_and_a_script_can_try_later() {
    let lab = Lab::new();
    for place in ["/no/such/box.sock", "http://127.0.0.1:1"] {
        let said = lab.run(&["status", "--box", place]);
        assert_eq!((said.code, said.out.as_str()), (75, ""), "{}", said.err);
        assert!(said.err.contains("cannot reach the box at") && said.err.contains(place), "{}", said.err);
    }
    assert_eq!(lab.run(&["eject", "--box", "https://box"]).code, 64);
}

#[test]
fn eject_returns_when_the_disk_may_be_taken_out_and_not_before() {
    let lab = Lab::new();
    let ejected = words(202, "It is under way.");
    let fake = Fake::new(
        &lab,
        vec![
            status(MOUNTED, ""),
            ejected.clone(),
            status(LEAVING, ""),
            status(LEAVING, ""),
            status(SAFE, ""),
        ],
    );
    let said = fake.run(&lab, &["eject", "disk A"]);
    assert_eq!((said.code, said.out.trim_end()), (0, "\"disk A\" is flushed and unmounted: safe to remove."));
    assert_eq!(fake.asked().len(), 5, "it waited");

    let fake =
        Fake::new(&lab, vec![status(MOUNTED, ""), ejected, status(LEAVING, ""), status(MOUNTED, FAULT)]);
    let said = fake.run(&lab, &["eject"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("It can't be unmounted."), "{}", said.err);

    let fake = Fake::new(&lab, vec![status(MOUNTED, ""), words(409, "The disk is in use.")]);
    let said = fake.run(&lab, &["eject", "a1"]);
    assert!(said.code == 1 && said.err.contains("the box refuses: The disk is in use."), "{}", said.err);

    let fake = Fake::new(&lab, vec![status(MOUNTED, "")]);
    let said = fake.run(&lab, &["eject", "disk B"]);
    assert_eq!(said.code, 75, "{}", said.err);
    assert!(said.err.contains("\"disk A\" is"), "{}", said.err);
    assert_eq!(fake.asked(), ["GET /api/v1/status HTTP/1.1"], "the other disk is left alone");
}

#[test]
fn a_doubt_is_settled_by_name_and_a_refusal_for_want_of_a_token_is_told() {
    let lab = Lab::new();
    let fake = Fake::new(&lab, vec![status(SAFE, ""), words(202, "taken as it is"), status(SAFE, "")]);
    assert_eq!(fake.run(&lab, &["status", "--trust", "b2"]).code, 0);
    assert_eq!(fake.asked()[1], "POST /api/v1/disks/b2/trust HTTP/1.1");
    std::fs::write(lab.path("token"), "secret-of-the-box\n").unwrap();
    let fake = Fake::new(&lab, vec![status(SAFE, ""), words(401, "no")]);
    let token = lab.path("token");
    let said = fake.run(&lab, &["eject", "--token-file", token.to_str().unwrap()]);
    assert_eq!(said.code, 77, "{}", said.err);
    let heads = fake.asked.lock().unwrap().join("\n");
    assert!(!heads.contains("secret"), "a socket needs no token: {heads}");
    let said = fake.run(&lab, &["status", "--trust", "disk C"]);
    assert_ne!(said.code, 0, "{}", said.out);
}
