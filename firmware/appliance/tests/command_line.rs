//! `mailkeepd` as the system starts it: exit codes, one-line errors, what the service manager hears, signals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const MAILKEEPD: &str = env!("CARGO_BIN_EXE_mailkeepd");

/// A process that does not outlive its test, whatever comes of that.
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(MAILKEEPD)
        .args(args)
        .env_remove("MAILKEEP_BOX_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn box_in(folder: &Path, extra: &str) -> String {
    let source =
        "name = 'tree'\nsystem = 'generic'\n[transport]\nkind = 'local'\n[generic]\npaths = ['/srv']\n";
    std::fs::write(folder.join("tree.toml"), source).unwrap();
    let text = format!(
        "[box]\nstate-dir = 'state'\n[board]\nkind = 'bench'\n[board.bench]\ndisks = []\n{extra}\n\
         [[source]]\nfile = 'tree.toml'\n"
    );
    let path = folder.join("box.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn exit_codes_and_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = box_in(folder.path(), "");
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "[box]\nnmae = 'x'\n").unwrap();
    let bad = bad.to_str().unwrap();
    for (args, code) in [
        (&["--version"][..], 0),
        (&["--help"], 0),
        (&["--list-usb"], 0),
        (&["--config", &good, "--check-config"], 0),
        (&["--config", "/no/such/box.toml"], 78),
        (&["--config", bad], 78),
        (&["--config", bad, "--check-config"], 78),
        (&["--nonsense"], 64),
        (&["--config"], 64),
        (&["stray"], 64),
    ] {
        let output = run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        if code != 0 {
            assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        }
    }
    let said = String::from_utf8(run(&["--config", bad]).stderr).unwrap();
    assert!(said.contains("nmae") && said.contains("did you mean `name`?"), "{said}");
}

#[test]
fn garbage_as_config_is_one_line_and_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("box.toml");
    for garbage in [
        &b"\xff\xfe\0\0"[..],
        b"[[[[",
        b"a = ",
        b"\0",
        b"[board]\nkind = 'bench'\nbench = 3\n",
        &[b'['; 100_000],
    ] {
        std::fs::write(&path, garbage).unwrap();
        let output = run(&["--config", path.to_str().unwrap(), "--check-config"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(78), 1), "{said}");
    }
}

#[test]
fn systemd_hears_ready_alive_and_stopping_and_a_signal_ends_it_well() {
    for signal in ["TERM", "INT", "HUP"] {
        let folder = tempfile::tempdir().unwrap();
        let config = box_in(folder.path(), "");
        let socket_path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&socket_path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        // As systemd does it: the watchdog is meant for this very process.
        let child = Command::new("sh")
            .args(["-c", "WATCHDOG_PID=$$ exec \"$0\" --config \"$1\"", MAILKEEPD, &config])
            .env("NOTIFY_SOCKET", &socket_path)
            .env("WATCHDOG_USEC", "200000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Mortal(child);
        let mut heard = String::new();
        let mut hear_until = |wanted: &str, times: usize| {
            let mut buffer = [0; 1024];
            while heard.matches(wanted).count() < times {
                let length = match socket.recv(&mut buffer) {
                    // A machine that stood still for a moment.
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    received => received.unwrap_or_else(|error| panic!("no {wanted} in: {heard}: {error}")),
                };
                heard.push_str(&String::from_utf8_lossy(&buffer[..length]));
                heard.push('\n');
            }
        };
        hear_until("READY=1", 1);
        hear_until("WATCHDOG=1", 3);
        let pid = child.0.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        hear_until("STOPPING=1", 1);
        assert_eq!(child.0.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_names_what_the_program_says() {
    let unit = include_str!("../../../images/systemd/mailkeepd.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    assert_eq!(value("Type"), Some("notify"));
    assert!(value("WatchdogSec").is_some() && value("RestartPreventExitStatus") == Some("64 78"));
    let arguments: Vec<&str> = value("ExecStartPre").unwrap().split(' ').skip(1).collect();
    let folder = tempfile::tempdir().unwrap();
    let good = box_in(folder.path(), "");
    let code = run(&[&arguments[..], &["--config", &good]].concat()).status.code();
    assert_eq!(code, Some(0));
    // With the program where it is here.
    let path = folder.path().join("mailkeepd.service");
    std::fs::write(&path, unit.replace("/usr/local/bin/mailkeepd", MAILKEEPD)).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("mailkeepd.service:"), "{said}");
        }
        Err(error) => {
            assert!(std::env::var_os("MAILKEEP_REQUIRE_ALL").is_none_or(|value| value != "1"), "{error}");
        }
    }
}
