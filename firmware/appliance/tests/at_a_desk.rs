//! The box as one meets it from a desk: socket, network, page, events, metrics. Hazards: a lamp that says something else on
//! the page than on the box, an eject while busy, a stranger on the network who does something, a request that takes the
//! box down, a field that nobody has described.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use mailkeep_appliance::engine::{DiskName, Engine, EngineError, Looked, News, Pruned, Sealed, Work};
use mailkeep_controller::{Fault, Identity, Phase};
use serde_json::Value;
use support::Box1;

/// Longest wait for an answer; only reached when a test fails.
const PATIENCE: Duration = Duration::from_secs(300);

/// Backs up when the test lets it.
struct Gate(Mutex<mpsc::Receiver<()>>);

impl Engine for Gate {
    fn identify(&self, _: &Path) -> Result<Looked, EngineError> {
        let disk = DiskName { id: "aa".into(), label: "<b>disk</b>".into() };
        Ok(Looked { identity: Identity::Ours, disk: Some(disk), doubt: None })
    }

    fn backup(&self, work: Work<'_>, news: &(dyn Fn(News) + Sync)) -> Result<Sealed, EngineError> {
        news(News::Phase(Phase::Window));
        loop {
            if work.cancel.load(Ordering::Relaxed) {
                return Err(EngineError::Cancelled);
            }
            match self.0.lock().unwrap().recv_timeout(Duration::from_millis(10)) {
                Ok(()) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the test has ended"),
            }
        }
        Ok(Sealed {
            snapshot: "ab".into(),
            generation: 1,
            complete: true,
            window_ms: None,
            files: 1,
            added_bytes: 1,
            remarks: Vec::new(),
            doubted: false,
            shrunk: None,
        })
    }

    fn verify(&self, _: Work<'_>, _: &Sealed, _: &(dyn Fn(News) + Sync)) -> Result<(), EngineError> {
        Ok(())
    }

    fn prune(
        &self,
        _: &Path,
        _: &[String],
        _: &Arc<AtomicBool>,
        _: &(dyn Fn(News) + Sync),
    ) -> Result<Option<Pruned>, EngineError> {
        Ok(None)
    }
}

struct Desk {
    folder: tempfile::TempDir,
    running: Box1,
    gate: mpsc::Sender<()>,
}

impl Desk {
    /// A box with a disk in it, and a set of two of which one is in doubt.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("d1/mailkeep")).unwrap();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        let set = "{\"aa\": {\"label\": \"<b>disk</b>\", \"proven\": 1780000000, \"size_bytes\": 100, \"free_bytes\": 40},
                    \"bb\": {\"label\": \"other\", \"proven\": 4000000000, \"doubt\": \"went back in time\"}}";
        std::fs::write(folder.path().join("state/disks.json"), set).unwrap();
        let (gate, open) = mpsc::channel();
        let engine = Arc::new(Gate(Mutex::new(open)));
        let extra = "insert = 1\n[web]\nlisten = '127.0.0.1:0'\n[disks]\nset-size = 2";
        let mut running = Box1::start(folder.path(), extra, |_| engine);
        running.until("note Our disk is in. Press BACKUP to start a backup.");
        Self { folder, running, gate }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.folder.path().join("state").join(name)
    }

    fn socket(&self) -> UnixStream {
        let stream = UnixStream::connect(self.state("control/box.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Where it listens; it may still be on its way there.
    fn network(&self) -> TcpStream {
        let stream = loop {
            let address = std::fs::read_to_string(self.state("control/address")).unwrap_or_default();
            if let Some(address) = address.strip_suffix('\n') {
                break TcpStream::connect(address).unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn root(&self, request: &str) -> (u16, String) {
        exchange(self.socket(), request, "")
    }

    fn status(&self) -> Value {
        let (code, body) = self.root("GET /api/v1/status");
        assert_eq!(code, 200);
        serde_json::from_str(&body).unwrap()
    }

    /// Asks until the status is as wanted.
    fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// One request; the code and the body of its answer.
fn exchange(mut stream: impl Read + Write, request: &str, header: &str) -> (u16, String) {
    write!(stream, "{request} HTTP/1.1\r\nHost: box\r\n{header}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            keys(value, into);
        }),
        Value::Array(all) => all.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

#[test]
fn a_backup_and_an_eject_from_a_desk_and_every_field_is_described() {
    let desk = Desk::new();
    assert_eq!(std::fs::metadata(desk.state("control")).unwrap().permissions().mode() & 0o777, 0o700);
    let status = desk.status();
    assert_eq!(status["disk"]["state"], "behind", "the other one has a newer backup: {status}");
    assert_eq!(status["disk"]["label"], "<b>disk</b>");
    assert_eq!(status["disk"]["safe_to_remove"], true);
    assert_eq!(status["bring"]["label"], "other");
    assert_eq!(status["lamps"][1]["meaning"], "safe to remove");
    assert_eq!(desk.root("POST /api/v1/cancel").0, 409);

    assert_eq!(desk.root("POST /api/v1/backup").0, 202);
    let status = desk.until(|status| status["job"]["phase"] == "window");
    assert_eq!(
        (&status["job"]["mail_stopped"], &status["disk"]["safe_to_remove"]),
        (&true.into(), &false.into())
    );
    assert_eq!(status["lamps"][0]["pattern"], "fast");
    let (code, words) = desk.root("POST /api/v1/eject");
    assert!(code == 409 && words.contains("in use"), "{words}");
    assert_eq!(desk.root("POST /api/v1/backup").0, 409);
    let mut described = BTreeSet::new();
    keys(&status, &mut described);

    assert_eq!(desk.root("POST /api/v1/cancel").0, 202);
    desk.until(|status| status["job"].is_null() && status["disk"]["safe_to_remove"] == true);
    assert_eq!(desk.root("POST /api/v1/backup").0, 202);
    desk.gate.send(()).unwrap();
    let status =
        desk.until(|status| status["last_proven"].is_i64() && status["disk"]["safe_to_remove"] == true);
    assert_eq!((&status["last_good"], &status["backup_owed"]), (&true.into(), &false.into()));
    assert_eq!(desk.root("POST /api/v1/eject").0, 202);

    let api = include_str!("../API.md");
    described.extend(["fault", "new", "since"].map(str::to_owned));
    assert!(described.len() > 40, "{described:?}");
    for key in &described {
        assert!(api.contains(&format!("`{key}`")), "API.md does not describe `{key}`");
    }
    for fault in Fault::ALL {
        assert!(api.contains(&format!("`{}`", fault.word())), "API.md does not name {}", fault.word());
    }
    desk.running.end();
}

#[test]
fn on_the_network_everybody_may_read_and_only_the_token_does() {
    let desk = Desk::new();
    let ask = |request: &str, header: &str| exchange(desk.network(), request, header);
    let token = std::fs::read_to_string(desk.state("web.token")).unwrap();
    let token = token.trim();
    assert_eq!(ask("GET /api/v1/status", "").0, 200);
    let (code, page) = ask("GET /", "");
    assert_eq!(code, 200);
    assert!(page.contains("&lt;b&gt;disk&lt;/b&gt;") && !page.contains("<b>disk"), "{page}");
    assert!(page.contains("went back in time") && !page.contains("<script"), "{page}");
    let (code, metrics) = ask("GET /metrics", "");
    assert_eq!(code, 200);
    for line in [
        "mailkeep_up 1",
        "mailkeep_fault{fault=\"disk-full\"} 0",
        "mailkeep_disk_proven_timestamp_seconds{disk=\"other\",id=\"bb\"} 4000000000",
        "mailkeep_disk_in_the_box{disk=\"<b>disk</b>\",id=\"aa\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}:\n{metrics}");
    }
    for path in ["backup", "eject", "cancel", "disks/bb/trust", "disks/bb/forget"] {
        let path = format!("/api/v1/{path}");
        for header in [
            String::new(),
            "Authorization: Bearer \r\n".into(),
            format!("Authorization: Bearer {}\r\n", &token[1..]),
            format!("Authorization: Basic {token}\r\n"),
            format!("Cookie: token={token}\r\n"),
        ] {
            assert_eq!(ask(&format!("POST {path}"), &header).0, 401, "{path} {header}");
        }
        assert_eq!(
            ask(&format!("GET {path}"), &format!("Authorization: Bearer {token}\r\n")).0,
            405,
            "{path}"
        );
    }
    assert!(desk.status()["set"][1]["doubt"].is_string() && desk.status()["job"].is_null());

    let with = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(ask("POST /api/v1/disks/bb/trust", &with).0, 202);
    assert_eq!(ask("POST /api/v1/disks/bb/trust", &with).0, 409, "there is no doubt any more");
    assert!(desk.status()["set"][1]["doubt"].is_null());
    assert_eq!(ask("POST /api/v1/disks/aa/forget", &with).0, 409, "it is in the box");
    assert_eq!(ask("POST /api/v1/disks/bb/forget", &with).0, 202);
    assert_eq!(desk.status()["set"].as_array().unwrap().len(), 1);
    desk.running.end();
}

#[test]
fn events_tell_what_changes() {
    let desk = Desk::new();
    let mut stream = desk.network();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: box\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = || loop {
        let line = lines.next().unwrap().unwrap();
        if let Some(status) = line.strip_prefix("data: ") {
            return serde_json::from_str::<Value>(status).unwrap();
        }
    };
    assert!(next()["job"].is_null(), "the first comes at once");
    assert_eq!(desk.root("POST /api/v1/backup").0, 202);
    while next()["job"]["phase"] != "window" {}
    desk.gate.send(()).unwrap();
    while next()["last_good"] != true {}
    desk.running.end();
}

#[test]
fn a_thousand_hostile_requests_leave_it_sound() {
    let desk = Desk::new();
    let long = "x".repeat(100_000);
    let requests: Vec<Vec<u8>> = vec![
        b"\0\xff\xfe\x16\x03\x01".to_vec(),
        b"GET".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(500)).into_bytes(),
        b"POST /api/v1/eject HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"POST /api/v1/eject HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"
            .to_vec(),
        b"POST /api/v1/backup HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xff\r\n\r\n".to_vec(),
        b"GET /../../etc/shadow HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /api/v1/disks/%00%2e%2e/trust HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"POST /api/v1/disks/%ff/trust HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"DELETE /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            .to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
    ];
    for (number, request) in requests.iter().cycle().take(1_000).enumerate() {
        let mut stream = desk.network();
        // Whoever is thrown out while he still talks finds a closed connection: that is an answer too.
        let _ = stream.write_all(request);
        if number % 3 > 0 {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.take(1 << 20).read_to_end(&mut Vec::new());
        }
    }
    // Those who only hold the line keep nobody out who comes by the socket.
    let idle: Vec<TcpStream> = (0..200).map(|_| desk.network()).collect();
    let status = desk.status();
    assert!(status["job"].is_null() && status["disk"]["safe_to_remove"] == true, "{status}");
    assert_eq!(status["set"].as_array().unwrap().len(), 2);
    drop(idle);
    assert_eq!(exchange(desk.network(), "GET /api/v1/status", "").0, 200);
    desk.running.end();
}
