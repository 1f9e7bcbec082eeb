//! Makes a tree with every kind of file, odd names, odd times, odd owners, extended attributes and ACLs.
//! What only root may make (devices, other owners) is left out where we are not root.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use crate::process::is_root;
use crate::rng::Rng;

/// Fills the new folder `root`. The same seed gives the same tree, times of change and inodes aside.
pub fn make(root: &Path, seed: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    fs::create_dir_all(root)?;
    contents(&root.join("content"), &mut rng).context("contents")?;
    names(&root.join("names")).context("names")?;
    links(&root.join("links")).context("links")?;
    special(&root.join("special")).context("special files")?;
    attributes(&root.join("attributes"), &mut rng).context("attributes")?;
    many(&root.join("many"), &mut rng).context("many files")?;
    deep(&root.join("deep")).context("deep nesting")?;
    // Times last: making anything changes the folder's.
    times(&root.join("times")).context("times")?;
    if is_root() {
        owners(&root.join("owners")).context("owners")?;
    }
    set_time(root, 1_500_000_000, 123_456_789)
}

fn contents(dir: &Path, rng: &mut Rng) -> Result<()> {
    fs::create_dir(dir)?;
    // Lengths around every border that a chunker may have.
    for len in [0, 1, 2, 4095, 4096, 16_383, 65_535, 65_536, 65_537, 262_144, 1_048_575, 1_048_577] {
        let mut data = vec![0; len];
        rng.fill(&mut data);
        fs::write(dir.join(format!("random-{len}")), data)?;
    }
    fs::write(dir.join("zeros"), vec![0; 3_000_000])?;
    fs::write(dir.join("lines"), "the same line again\r\n".repeat(60_000))?;
    let mut large = vec![0; 9_000_000];
    rng.fill(&mut large);
    fs::write(dir.join("large"), &large)?;
    // The same with a byte put in: most of its chunks repeat.
    large.insert(4_000_000, 7);
    fs::write(dir.join("large-shifted"), &large)?;
    fs::copy(dir.join("random-65537"), dir.join("twin-of-random-65537"))?;

    let mut sparse = File::create(dir.join("sparse"))?;
    for at in [0u64, 5_000_000, 20_000_001] {
        sparse.seek(SeekFrom::Start(at))?;
        sparse.write_all(b"island")?;
    }
    sparse.set_len(33_000_000)?;
    File::create(dir.join("only-a-hole"))?.set_len(12_345_678)?;
    Ok(())
}

fn names(dir: &Path) -> Result<()> {
    fs::create_dir(dir)?;
    let mut names: Vec<Vec<u8>> = [
        " leading",
        "trailing ",
        "-rf",
        "new\nline",
        "tab\t",
        "quote'\"`",
        "*?[x]",
        "back\\slash",
        "$HOME",
        "%s%n",
        "..hidden",
        "...",
        "ümlaut",
        "e\u{301}",
        "\u{202e}right to left",
        "a;b&c|d",
        "#hash",
        "~",
        "CON",
        "\u{1b}[31m",
    ]
    .iter()
    .map(|n| n.as_bytes().to_vec())
    .collect();
    names.extend([vec![0xff, 0xfe], vec![b'x', 0x80, b'y'], vec![1], vec![b'n'; 255], vec![0xc3; 255]]);
    for name in names {
        let name = OsString::from_vec(name);
        fs::write(dir.join(&name), name.clone().into_vec())?;
        let folder = dir.join("folders").join(&name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("inside"), b"x")?;
    }
    Ok(())
}

fn links(dir: &Path) -> Result<()> {
    for folder in ["a", "b/c", "empty"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    for (i, len) in [(0, 10), (1, 100_000), (2, 0)] {
        let first = dir.join(format!("a/hard{i}"));
        fs::write(&first, vec![b'h'; len])?;
        for other in [format!("a/hard{i}-twin"), format!("b/c/hard{i}-far"), format!("z-hard{i}")] {
            fs::hard_link(&first, dir.join(other))?;
        }
    }
    // Equal bytes that are no link.
    fs::write(dir.join("a/no-link"), vec![b'h'; 10])?;
    let targets: [(&str, &str); 7] = [
        ("relative", "a/hard0"),
        ("up", "../links/b"),
        ("dangling", "nowhere/at/all"),
        ("absolute", "/etc/passwd"),
        ("absolute-dangling", "/no/such/place"),
        ("loop", "loop"),
        ("odd", "new\nline and spaces "),
    ];
    for (name, target) in targets {
        symlink(target, dir.join(name))?;
    }
    symlink("x".repeat(4000), dir.join("long"))?;
    symlink(OsString::from_vec(vec![0xff, b'/', 0xfe]), dir.join("not-utf8"))?;
    fs::hard_link(dir.join("relative"), dir.join("hard-link-to-symlink"))?;
    set_time_nofollow(&dir.join("relative"), 1_000_000_000, 5)
}

fn special(dir: &Path) -> Result<()> {
    fs::create_dir(dir)?;
    let node = |name: &str, kind, mode, device| {
        rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(mode), device)
            .with_context(|| format!("make {name}"))
    };
    node("fifo", FileType::Fifo, 0o640, 0)?;
    node("socket", FileType::Socket, 0o755, 0)?;
    if is_root() {
        // Numbers that belong to no driver here, and large minors that need the new encoding.
        node("char", FileType::CharacterDevice, 0o600, rustix::fs::makedev(240, 77))?;
        node("block", FileType::BlockDevice, 0o660, rustix::fs::makedev(241, 70_000))?;
        fs::hard_link(dir.join("char"), dir.join("char-twin"))?;
    }
    fs::hard_link(dir.join("fifo"), dir.join("fifo-twin"))?;
    Ok(())
}

fn attributes(dir: &Path, rng: &mut Rng) -> Result<()> {
    fs::create_dir(dir)?;
    for mode in [0o0, 0o400, 0o111, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777] {
        let file = dir.join(format!("mode-{mode:04o}"));
        fs::write(&file, format!("{mode:o}"))?;
        fs::set_permissions(&file, Permissions::from_mode(mode))?;
        let folder = dir.join(format!("folder-{mode:04o}"));
        fs::create_dir(&folder)?;
        fs::write(folder.join("inside"), b"x")?;
        fs::set_permissions(&folder, Permissions::from_mode(mode))?;
    }
    let file = dir.join("xattrs");
    fs::write(&file, b"with attributes")?;
    let mut value = vec![0; 1500];
    rng.fill(&mut value);
    for (name, value) in
        [("user.text", &b"text"[..]), ("user.empty", b""), ("user.binary", &value), ("user.\u{fc}", b"\0\n")]
    {
        xattr::set(&file, name, value).with_context(|| name.to_owned())?;
    }
    let folder = dir.join("xattr-folder");
    fs::create_dir(&folder)?;
    xattr::set(&folder, "user.of.folder", b"yes")?;

    let acl_file = dir.join("acl");
    fs::write(&acl_file, b"with an ACL")?;
    xattr::set(&acl_file, "system.posix_acl_access", &acl(0o6, 0o4))?;
    let acl_folder = dir.join("acl-folder");
    fs::create_dir(&acl_folder)?;
    xattr::set(&acl_folder, "system.posix_acl_default", &acl(0o7, 0o5))?;
    // Made below a default ACL: a restorer must not let it be inherited a second time.
    fs::write(acl_folder.join("inherits"), b"x")?;
    fs::write(acl_folder.join("own-mode"), b"x")?;
    xattr::remove(acl_folder.join("own-mode"), "system.posix_acl_access")?;
    fs::set_permissions(acl_folder.join("own-mode"), Permissions::from_mode(0o604))?;
    if is_root() {
        // Changing the owner takes capabilities away, so they must be set after it.
        let capable = dir.join("capable");
        fs::write(&capable, b"#!/bin/true\n")?;
        lchown(&capable, Some(1234), Some(4321))?;
        let net_bind: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        xattr::set(&capable, "security.capability", &net_bind)?;
    }
    Ok(())
}

/// A POSIX ACL as the kernel stores it (acl(5), linux/posix_acl_xattr.h): owner, user 1234, group, mask, other.
fn acl(owner: u16, named: u16) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    let nobody = u32::MAX;
    for (tag, permissions, id) in [
        (1u16, owner, nobody),
        (2, named, 1234),
        (4, named, nobody),
        (0x10, named, nobody),
        (0x20, 0, nobody),
    ] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn many(dir: &Path, rng: &mut Rng) -> Result<()> {
    fs::create_dir(dir)?;
    for i in 0..1200 {
        let mut data = vec![0; rng.index(3000)];
        rng.fill(&mut data);
        fs::write(dir.join(format!("{i}.")), data)?;
    }
    Ok(())
}

fn deep(dir: &Path) -> Result<()> {
    let mut path = PathBuf::from(dir);
    for level in 0..70 {
        path.push(format!("level-{level}-with-a-rather-long-name"));
    }
    fs::create_dir_all(&path)?;
    fs::write(path.join("bottom"), b"here")?;
    Ok(())
}

fn times(dir: &Path) -> Result<()> {
    fs::create_dir(dir)?;
    let times: [(&str, i64, i64); 7] = [
        ("epoch", 0, 0),
        ("just-before-epoch", -1, 500_000_000),
        ("1915", -1_735_689_600, 1),
        ("last-ns", 1_600_000_000, 999_999_999),
        ("one-ns", 1_600_000_000, 1),
        ("2039", 2_177_452_800, 17),
        ("2400", 13_569_465_600, 42),
    ];
    for (name, seconds, ns) in times {
        fs::write(dir.join(name), name)?;
        set_time(&dir.join(name), seconds, ns)?;
        let folder = dir.join(format!("folder-{name}"));
        fs::create_dir(&folder)?;
        fs::write(folder.join("inside"), b"x")?;
        set_time(&folder, seconds, ns)?;
    }
    symlink("epoch", dir.join("link"))?;
    set_time_nofollow(&dir.join("link"), -86_400, 7)
}

fn owners(dir: &Path) -> Result<()> {
    fs::create_dir(dir)?;
    for (uid, gid) in [(1234, 4321), (0, 4321), (4_000_000_000, 3_999_999_999), (65_534, 65_534)] {
        let file = dir.join(format!("{uid}-{gid}"));
        fs::write(&file, b"owned")?;
        lchown(&file, Some(uid), Some(gid))?;
        fs::set_permissions(&file, Permissions::from_mode(0o4750))?;
        let folder = dir.join(format!("folder-{uid}-{gid}"));
        fs::create_dir(&folder)?;
        lchown(&folder, Some(uid), Some(gid))?;
        fs::set_permissions(&folder, Permissions::from_mode(0o2770))?;
    }
    symlink("1234-4321", dir.join("link"))?;
    lchown(dir.join("link"), Some(1234), Some(4321))?;
    Ok(())
}

fn set_time(path: &Path, seconds: i64, ns: i64) -> Result<()> {
    utimens(path, seconds, ns, AtFlags::empty())
}

fn set_time_nofollow(path: &Path, seconds: i64, ns: i64) -> Result<()> {
    utimens(path, seconds, ns, AtFlags::SYMLINK_NOFOLLOW)
}

fn utimens(path: &Path, seconds: i64, ns: i64, flags: AtFlags) -> Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: ns };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, flags)
        .with_context(|| format!("set times of {}", path.display()))
}
