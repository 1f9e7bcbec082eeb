//! The guest itself: it boots, says what a command said and how it ended, keeps its disks over a cut, and tells when it
//! is gone.
#![allow(clippy::unwrap_used)]

use mailkeep_guest::{GuestError, Recipe};

#[test]
fn commands_disks_and_cuts() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::new().file("/etc/said", 0o600, "by the test\n").tools(&["mkfs.ext4"]);
    let guest = match recipe.and_then(|recipe| recipe.prepare(folder.path())) {
        Ok(guest) => guest,
        Err(GuestError::Missing { what }) => {
            assert!(std::env::var_os("MAILKEEP_REQUIRE_ALL").is_none_or(|value| value != "1"), "{what}");
            eprintln!("skipped: {what} is not there");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let disk = guest.disk("disk", 64).unwrap();
    let mut machine = guest.boot(&[&disk]).unwrap();
    let mut said = |line: &str| {
        let done = machine.run(line).unwrap();
        assert_eq!(done.code, 0, "{line}: {}", done.output);
        done.output
    };
    assert_eq!(said("id -u; cat /etc/said"), "0\nby the test\n".trim_end());
    assert_eq!(said("cat /sys/block/vda/size"), (64 * 2048).to_string());
    assert_eq!(said("true"), "");
    assert_eq!(said("wc -c <<!\n$(seq 10000)\n!"), "48894");
    said("mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt || { mkdir /mnt; mount /dev/vda /mnt; }");
    said("echo kept >/mnt/kept && sync && echo lost >/mnt/lost");
    let done = machine.run("echo out; echo err >&2; exit_with() { return 7; }; exit_with").unwrap();
    assert_eq!((done.code, done.output.as_str()), (7, "out\nerr"));
    machine.cut();

    let mut machine = guest.boot(&[&disk]).unwrap();
    assert_eq!(machine.run("mkdir /mnt; mount /dev/vda /mnt; cat /mnt/kept").unwrap().output, "kept");
    assert!(!machine.run("test -e /mnt/lost").unwrap().output.contains("lost"));
    machine.run("echo gone >/mnt/off").unwrap();
    machine.power_off().unwrap();
    let mut machine = guest.boot(&[&disk]).unwrap();
    assert_eq!(machine.run("mkdir /mnt; mount /dev/vda /mnt; cat /mnt/off").unwrap().output, "gone");

    let error = machine.run("sync; poweroff -f; sleep 100000").unwrap_err();
    assert!(matches!(&error, GuestError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("Power down"), "{error}");
}
