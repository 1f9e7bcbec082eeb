//! What the agent does to itself it does not do to mail: whoever starts it, it begins as if it had been started by hand. And
//! what the agent reads, it reads as the humblest process of the server.

#![allow(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise")]

mod support;

use std::fs;
use std::process::{Command, Stdio};

use mailkeep_link::Options;
use mailkeep_link::message::{BeginPass, Quiesce, ToAgent, ToBox};
use support::{Agent, Mail, wait_for};

/// Not a test: the mail service that the scripts of [`Mail`] start.
#[test]
#[ignore = "run by the start script of the fake mail service"]
fn greeter_process() {
    support::greet_for_ever();
}

/// What a process gets from whoever starts it. Descriptors and masks are read by the shell itself: while it starts something,
/// it has others for a moment.
const RECORD: &str = r#"
echo "files $(ulimit -S -n) of $(ulimit -H -n)"
echo "umask $(umask)"
echo "folder $(pwd -P)"
echo "oom $(cat /proc/$$/oom_score_adj)"
echo "nice $(ps -o ni= -p $$ | tr -d ' ')"
echo "disk $(ionice -p $$)"
cd /proc/$$/fd; echo descriptors *; cd /
while read -r key value; do case $key in SigBlk:|SigIgn:|SigCgt:) echo "$key $value" ;; esac; done < /proc/$$/status
grep -vE '^Max open files' /proc/$$/limits
env | grep -vE '^(MAILKEEP_|_=|PWD=|OLDPWD=|SHLVL=)' | sort
"#;

/// As a local box calls the agent, and as one behind ssh does.
const NOISE: [(&str, &str); 5] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "262144"),
    ("MALLOC_TRIM_THRESHOLD_", "1048576"),
    ("SSH_CLIENT", "192.0.2.1 1 22"),
    ("SSH_ORIGINAL_COMMAND", "mailkeep-agent serve"),
];

/// A service whose start and stop note what they get.
fn recorded() -> (Mail, String) {
    let mail = Mail::new();
    for name in ["start", "stop"] {
        let (to, real) = (mail.path(&format!("{name}ed-with")), mail.path(name));
        let text = format!(
            "{{ {RECORD} }} > {to}.new 2>&1\nmv {to}.new {to}\nexec {real} \"$@\"\n",
            to = to.display(),
            real = real.display()
        );
        mail.script(&format!("{name}-and-note"), &text);
    }
    let source =
        mail.source("").replace("/start\"]", "/start-and-note\"]").replace("/stop\"]", "/stop-and-note\"]");
    (mail, source)
}

/// The program with few open files, another umask, and a place on the processor that is not the usual one. Signals are as a
/// login leaves them, however these tests were started (`nohup` and `&` have some ignored).
fn by_hand(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -S -n 256; umask 027; cd /; exec env --default-signal nice -n 1 \"$0\" \"$@\"",
            program,
        ])
        .args(words);
    command.stdin(Stdio::null());
    command
}

fn noted(mail: &Mail, name: &str) -> String {
    let path = mail.path(name);
    wait_for(name, || path.exists());
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_file(path).unwrap();
    text
}

fn agent(mail: &Mail) -> Agent {
    let mut command = by_hand(env!("CARGO_BIN_EXE_mailkeep-agent"), &["serve"]);
    command.envs(NOISE);
    Agent::start_command(command, &mail.state(), &Options::new("test"))
}

#[test]
fn mail_is_stopped_and_started_as_if_by_hand() {
    let (mail, source) = recorded();
    // What it is when an admin does it.
    let script = |name: &str| mail.path(name).display().to_string();
    assert!(by_hand(&script("stop-and-note"), &[]).status().unwrap().success());
    let stopped = noted(&mail, "stoped-with");
    assert!(by_hand(&script("start-and-note"), &[]).stdout(Stdio::null()).status().unwrap().success());
    let started = noted(&mail, "started-with");
    assert!(started.contains("files 256 of") && started.contains("umask 0027"), "{started}");
    wait_for("mail", || mail.is_up());

    // By a backup, after everything in the agent that lifts a limit or lowers a priority.
    let agent_of = agent(&mail);
    agent_of.configure(&source);
    agent_of.pass(1, false);
    agent_of.send(ToAgent::Freeze(Quiesce { deadline_seconds: 60 }));
    let mut resumed = false;
    while !resumed {
        resumed = matches!(agent_of.receive().unwrap(), ToBox::Resumed(_));
    }
    assert_eq!(noted(&mail, "stoped-with"), stopped);
    assert_eq!(noted(&mail, "started-with"), started);
    agent_of.goodbye();

    // By the guard, after the agent died.
    let agent_of = agent(&mail);
    agent_of.configure(&source);
    agent_of.pass(1, false);
    agent_of.stop_mail(60);
    noted(&mail, "stoped-with");
    agent_of.kill();
    assert_eq!(noted(&mail, "started-with"), started, "by the guard");
    wait_for("mail", || mail.is_up());
    wait_for("the guard's end", || mail.settled());
}

/// Nice value and I/O class of each thread of a process.
fn priorities(pid: u32) -> Vec<(String, i32, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| {
            let task = task.unwrap();
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let (head, rest) = stat.rsplit_once(')').unwrap();
            // Field 19 of proc_pid_stat(5), of which the first two are in `head`.
            let nice = rest.split_ascii_whitespace().nth(16).unwrap().parse().unwrap();
            let name = head.split_once('(').unwrap().1.to_owned();
            let id = task.file_name().into_string().unwrap();
            let class = Command::new("ionice").args(["-p", &id]).output().unwrap().stdout;
            Some((name, nice, String::from_utf8_lossy(&class).trim().to_owned()))
        })
        .collect()
}

#[test]
fn what_reads_while_mail_runs_lets_everything_else_go_first() {
    let mail = Mail::new();
    let agent = Agent::start(&mail.state());
    agent.configure(&mail.source(""));
    agent.send(ToAgent::BeginPass(BeginPass { number: 1, is_final: false }));
    // The pass waits for a word on what it has listed. Its threads need not be there yet, nor have their names.
    let pass = |name: &str| name.starts_with("read") || name == "send" || name == "humble";
    wait_for("the threads of the pass", || {
        let names: Vec<String> = priorities(agent.child.id()).into_iter().map(|(name, ..)| name).collect();
        names.iter().filter(|name| name.starts_with("read")).count() >= 2
            && names.iter().any(|name| name == "send")
    });
    let threads = priorities(agent.child.id());
    let (humble, others): (Vec<_>, Vec<_>) =
        threads.into_iter().partition(|(name, ..)| pass(name) || name == "walk");
    assert!(humble.iter().all(|(_, nice, class)| *nice == 19 && class == "idle"), "{humble:?}");
    // Those that listen to the box and start mail are as the login made them.
    let own = priorities(std::process::id());
    assert!(others.iter().any(|(name, ..)| name.starts_with("mailkeep-agent")), "{others:?}");
    assert!(
        others.iter().all(|(_, nice, class)| (*nice, class) == (own[0].1, &own[0].2)),
        "{others:?} {own:?}"
    );
}
