//! The worst day: a machine with nothing but a Linux kernel and Debian's smallest tools, a disk, and a key on paper. What
//! README.txt on the disk says is typed there line by line; only the values of lines like `DISK=…` are the reader's own.
//!
//! The machine is the guest (`tests/guest`). The program is the static one of `make rescue` where that was run; else the
//! program under test with its libraries, so that the way is the same one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use mailkeep_guest::{GuestError, Machine, Prepared, Recipe};
use mailkeep_tests::cyrus::source::{Options, cyrus_source};
use mailkeep_tests::cyrus::{self, Cyrus, Layout};
use mailkeep_tests::mime::imap_date;
use mailkeep_tests::rig::{Rig, words};
use mailkeep_tests::{process, programs};

/// What README.txt asks for, of Debian's essential packages.
const TOOLS: [&str; 16] = [
    "bash",
    "cat",
    "chmod",
    "cp",
    "dirname",
    "find",
    "head",
    "ls",
    "lsblk",
    "mkdir",
    "mount",
    "rm",
    "sha256sum",
    "sort",
    "umount",
    "uname",
];
/// What the reader puts in.
const VALUES: [(&str, &str); 5] = [
    ("DISK", "/dev/vda"),
    ("WORD", "subject:contract"),
    ("MAILBOX", "user/alice"),
    ("NUMBER", "2"),
    ("TARGET", "/srv/rescue"),
];

/// The lines that are set in, with the reader's own values.
fn commands(readme: &str) -> Result<Vec<String>> {
    let mut unused: Vec<&str> = VALUES.iter().map(|(name, _)| *name).collect();
    let mut lines = Vec::new();
    for line in readme.lines().filter_map(|line| line.strip_prefix("     ")) {
        let name = line
            .split_once('=')
            .map(|(name, _)| name)
            .filter(|name| name.bytes().all(|b| b.is_ascii_uppercase()));
        lines.push(match name {
            Some(name) => {
                let value =
                    VALUES.iter().find(|(known, _)| *known == name).with_context(|| line.to_owned())?.1;
                unused.retain(|known| *known != name);
                format!("{name}={value}")
            }
            None => line.to_owned(),
        });
    }
    ensure!(unused.is_empty(), "README.txt asks for no {unused:?}");
    Ok(lines)
}

/// One script of them all, which stops at the first that fails and says which one that was.
fn script(lines: &[String]) -> String {
    let mut script = "set -e -o pipefail\n".to_owned();
    for (number, line) in lines.iter().enumerate() {
        script.push_str(&format!("echo '>>> {}'\n{line}\n", number + 1));
    }
    script + "echo '>>> done'\n"
}

/// The static program of `make rescue`, if that was run.
fn static_program() -> Result<Option<PathBuf>> {
    let built = programs::bin("mailkeep")?;
    let target = built.ancestors().nth(2).context("the target folder")?;
    let path = target.join(format!("rescue/mailkeep-{}", std::env::consts::ARCH));
    Ok(Some(path).filter(|path| path.is_file()))
}

/// Puts the program on the disk; whether it is one that needs libraries.
fn carry(disk: &Rig) -> Result<bool> {
    if let Some(program) = static_program()? {
        disk.ok(&words(&["rescue-kit", "--program", &program.display().to_string()]))?;
        return Ok(false);
    }
    eprintln!("`make rescue` was not run: the guest gets the program with its libraries");
    let folder = disk.repository().join("rescue");
    fs::create_dir_all(&folder)?;
    let to = folder.join(format!("mailkeep-{}", std::env::consts::ARCH));
    let strip = Command::new("strip").arg("-o").arg(&to).arg(programs::bin("mailkeep")?).status()?;
    ensure!(strip.success(), "strip");
    Ok(true)
}

/// A disk with an ext4 on which the repository lies in a folder, as on those of a box.
fn image(guest: &Prepared, repository: &Path, home: &Path) -> Result<PathBuf> {
    let root = home.join("root");
    fs::create_dir(&root)?;
    fs::rename(repository, root.join("mail backups"))?;
    let disk = guest.disk("disk", 256)?;
    let mut mkfs = Command::new("mkfs.ext4");
    process::run(mkfs.args(["-q", "-F", "-d"]).arg(&root).arg(&disk))?.expect_code("mkfs.ext4", 0)?;
    Ok(disk)
}

fn said(machine: &mut Machine, line: &str) -> Result<String> {
    let done = machine.run(line)?;
    ensure!(done.code == 0, "{line}: {} {}\n{}", done.code, done.output, machine.console());
    Ok(done.output)
}

/// What one line of the script printed.
fn of<'a>(output: &'a str, lines: &[String], begins: &str) -> Result<&'a str> {
    let number =
        lines.iter().position(|line| line.starts_with(begins)).with_context(|| begins.to_owned())? + 1;
    let rest = output.split_once(&format!(">>> {number}\n")).with_context(|| output.to_owned())?.1;
    Ok(rest.split(">>> ").next().unwrap_or_default())
}

#[test]
fn a_disk_and_a_sheet_of_paper_are_enough() -> Result<()> {
    if let Some(why) = cyrus::missing() {
        return process::skip(&why);
    }
    let home = tempfile::tempdir()?;
    // As a person would: the key is only on paper.
    let disk = Rig::new(home.path())?;
    let sheet = home.path().join("sheet.txt");
    disk.ok(&words(&["key", "add-recovery", "--sheet", &sheet.display().to_string()]))?;
    ensure!(fs::metadata(&sheet)?.permissions().mode() & 0o777 == 0o600);
    let server = Cyrus::create(&home.path().join("server"), &["alice"], Layout::Uuid)?;
    server.start()?;
    let mut imap = server.imap("alice")?;
    imap.run("CREATE INBOX")?;
    let letters = [("old", "old"), ("the contract", "Gr\u{fc}\u{df}e"), ("new", "new")];
    for (subject, body) in letters {
        let letter = format!("From: j@x.org\r\nSubject: {subject}\r\n\r\n{body}\r\n");
        imap.append("INBOX", "", &imap_date(1_600_000_000), letter.as_bytes())?;
    }
    drop(imap);
    let source = cyrus_source(&home.path().join("lab.toml"), &server, &Options::default())?;
    disk.good_backup(&source)?;
    let needs_libraries = carry(&disk)?;

    let typed: String = fs::read_to_string(&sheet)?
        .lines()
        .filter_map(|line| {
            line.strip_prefix("groups ")?.get(9..).map(|groups| format!("{}\n", groups.to_lowercase()))
        })
        .collect();
    ensure!(typed.split_whitespace().count() == 15, "the sheet has no groups");
    // One letter is wrong at first: q and p are both letters of a key.
    let first = if typed.starts_with('q') { "p" } else { "q" };
    let mistyped = format!("{first}{}", &typed[1..]);
    let readme = fs::read_to_string(disk.repository().join("README.txt"))?;
    let lines = commands(&readme)?;
    let recipe = Recipe::new()
        .modules(&["ext4", "fuse"])
        .file("/root/script", 0o600, &script(&lines))
        .file("/root/typed", 0o600, &typed)
        .file("/root/mistyped", 0o600, &mistyped)
        .tools(&TOOLS)
        .map(|recipe| match programs::bin("mailkeep") {
            Ok(program) if needs_libraries => recipe.program(&program),
            _ => recipe,
        });
    let guest = match recipe.and_then(|recipe| recipe.prepare(home.path())) {
        Ok(guest) => guest,
        Err(GuestError::Missing { what }) => return process::skip(&format!("{what} is not there")),
        Err(error) => bail!(error),
    };
    let image = image(&guest, disk.repository(), home.path())?;
    let mut machine = guest.boot(&[&image])?;

    // A typing error is told by its group and ends nothing but that line.
    let wrong = machine.run("bash /root/script </root/mistyped 2>&1")?;
    ensure!(wrong.code == 77 && wrong.output.contains("look at group 1 again"), "{}", wrong.output);
    ensure!(!wrong.output.to_lowercase().contains(&typed[..14]), "the key is shown");
    said(&mut machine, "cd /; umount /mnt/disk")?;

    let output = said(&mut machine, "bash /root/script </root/typed 2>&1")?;
    ensure!(output.ends_with(">>> done"), "{output}");
    let here = |begins: &str| of(&output, &lines, begins);
    ensure!(here("lsblk")?.contains("vda"), "{output}");
    ensure!(
        here("/tmp/mailkeep snapshots")?.contains("mail1")
            || here("/tmp/mailkeep snapshots")?.contains("lab"),
        "{output}"
    );
    ensure!(here("/tmp/mailkeep mail search")?.contains("the contract"), "{output}");
    ensure!(here("ls ")?.contains("2.eml"), "{output}");
    // The disk was only read, and nothing of the key is left.
    ensure!(
        said(&mut machine, "grep ' /mnt/disk ' /proc/mounts")?.contains(" ro,"),
        "it was mounted for writing"
    );
    said(&mut machine, "test ! -e /dev/shm/key && test $(stat -c %a /tmp/mail.eml) = 600")?;

    let message =
        process::run(Command::new("find").arg(server.root()).args(["-name", "2.", "-type", "f"]))?.out();
    let message = Path::new(message.lines().next().context("the message on the server")?);
    let bytes = fs::read(message)?;
    ensure!(bytes.ends_with("Gr\u{fc}\u{df}e\r\n".as_bytes()));
    let cat = said(&mut machine, "cat /tmp/mail.eml | base64 | tr -d '\\n'; echo")?;
    let whole =
        said(&mut machine, &format!("cat /srv/rescue{} | base64 | tr -d '\\n'; echo", message.display()))?;
    let expected = process::run(Command::new("base64").args(["-w", "0"]).arg(message))?.out();
    ensure!(cat.trim() == expected.trim(), "{cat}");
    ensure!(whole.trim() == expected.trim(), "{whole}");
    ensure!(said(&mut machine, "grep -c '^From ' /tmp/mailbox.mbox")?.trim() == "3");
    machine.power_off()?;
    server.stop()
}
