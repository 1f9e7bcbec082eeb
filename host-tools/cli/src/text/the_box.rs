//! What `status` and `eject` say.

pub(crate) const STATUS: &str = "Show how the box stands: lamps, disks, faults, the next disk to bring";
pub(crate) const STATUS_LONG: &str = "Show how the box stands: lamps, disks, faults, the next disk to bring.\n\nOn the box \
    itself it is asked through its socket, which is root's; from elsewhere with --box http://HOST:PORT, where `[web] listen` \
    in box.toml names that port. The exit code is 0 if all is well, 2 if the box shows a fault or a backup is overdue, 75 if \
    there is no box.";
pub(crate) const EJECT: &str = "Flush and unmount the disk in the box, and wait until it may be taken out";
pub(crate) const EJECT_DISK: &str =
    "Only if it is this one: its name, as `mailkeep status` shows it, or its id";
pub(crate) const AT: &str = "The box: its socket, or http://HOST:PORT [default: the box on this machine]";
pub(crate) const TOKEN: &str = "File with the token of the box (web.token in its state folder)";
pub(crate) const TRUST: &str = "Say that a disk in doubt is right as it is: its name or id";
pub(crate) const FORGET: &str = "Take a disk that is gone for good out of the set: its name or id";

pub(crate) const COLUMNS: [&str; 6] = ["DISK", "WHERE", "LAST GOOD", "SNAPSHOT", "FREE", "ID"];
pub(crate) const IN_USE: &str = "it is in use";
pub(crate) const NO_TOKEN: &str = "the box does this only for who has its token";
pub(crate) const NO_TOKEN_HINT: &str =
    "copy web.token from the state folder of the box and name it with --token-file";
pub(crate) const ROOT_HINT: &str = "the socket is root's: use sudo, or --box http://HOST:PORT";
pub(crate) const UNREACHABLE_HINT: &str =
    "is mailkeepd running? From another machine name it with --box http://HOST:PORT";

pub(crate) fn unreachable(place: &str, why: &str) -> String {
    format!("cannot reach the box at {place}: {why}")
}

pub(crate) fn bad_address(at: &str) -> String {
    format!("`{at}` is no address of a box: write http://HOST:PORT, or the path of its socket")
}

pub(crate) fn bad_token(path: &str) -> String {
    format!("{path} holds no token")
}

pub(crate) fn no_box(place: &str, code: u16) -> String {
    match code {
        0 => format!("what answers at {place} is no box"),
        code => format!("what answers at {place} is no box, or one of another version (HTTP {code})"),
    }
}

pub(crate) fn refused(why: &str) -> String {
    format!("the box refuses: {why}")
}

pub(crate) fn other_disk(wanted: &str, found: Option<&str>) -> String {
    match found {
        Some(found) => format!("disk \"{wanted}\" is not in the box: \"{found}\" is"),
        None => format!("disk \"{wanted}\" is not in the box"),
    }
}

pub(crate) fn no_such_disk(wanted: &str) -> String {
    format!("no disk \"{wanted}\" belongs to the set")
}

pub(crate) fn safe(label: Option<&str>) -> String {
    match label {
        Some(label) => format!("\"{label}\" is flushed and unmounted: safe to remove."),
        None => "The disk is flushed and unmounted: safe to remove.".to_owned(),
    }
}

pub(crate) fn not_ejected(why: &str) -> String {
    format!("the disk was not ejected: {why}")
}
