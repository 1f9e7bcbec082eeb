//! What is said of a tree that a snapshot keeps, by an agent that was told to remember the live pass: only what is another than
//! that saw, as it was while mail was stopped, whatever happens to it afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mailkeep_format::Timestamp;
use mailkeep_link::message::{Known, KnownFolder, ToAgent};

use super::{Agent, Copy, Said, wait_for};

/// Folders: two at rest, one in which an index changes, one in which names do, and one in which they do before the journal's
/// eyes. All of it is old enough to be believed when this returns.
pub fn lay_out(spool: &Path) {
    for folder in ["rest", "rest/deep", "index", "names", "told"] {
        let folder = spool.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [("1.", "one"), ("2.", "two"), ("cyrus.index", "index one")] {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let made = seconds();
    wait_for("the folders to be old", || seconds() > made + 3);
}

fn seconds() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

/// A folder as the box may know it, so that the journal watches it.
fn known(folder: &Path) -> ToAgent {
    let stat = fs::metadata(folder).unwrap();
    let time = |seconds: i64, nanos: i64| Timestamp { seconds, nanos: nanos as u32 };
    let folder = KnownFolder {
        path: folder.as_os_str().as_bytes().to_vec(),
        inode: stat.ino(),
        mtime: time(stat.mtime(), stat.mtime_nsec()),
        ctime: time(stat.ctime(), stat.ctime_nsec()),
        entries: vec![(2, b"cyrus.index".to_vec())],
    };
    ToAgent::Known(Known { clock: time(seconds(), 0), folders: vec![folder] })
}

/// The names that were said to be in a folder, or anywhere below it.
fn names(copy: &Copy, folder: &Path) -> BTreeSet<PathBuf> {
    let below = copy.nodes.keys().filter_map(|path| path.strip_prefix(folder).ok());
    below.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned).collect()
}

fn set(names: &[&str]) -> BTreeSet<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

/// Both passes of a configured agent, and the window between them; `how` begins what it says of the way the tree is kept,
/// and `itself` is what it says of the spool's own folder.
pub fn only_what_is_another_is_said(agent: &Agent, spool: &Path, how: &str, itself: Said) {
    let at = |name: &str| spool.join(name);
    let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
    let remove = |name: &str| fs::remove_file(at(name)).unwrap();
    agent.send(known(&at("told")));
    let live = agent.pass(1, false);
    assert_eq!(live.said[&at("told")], Said::WhatMayChange);
    let prepared = agent.prepare();
    assert!(prepared.able && prepared.why.starts_with(how), "{prepared:?}");
    agent.send(ToAgent::Remember);

    // Until mail is stopped.
    write("index/cyrus.index", "index two");
    for folder in ["names", "told"] {
        remove(&format!("{folder}/1."));
        write(&format!("{folder}/3."), "three");
    }
    fs::create_dir(at("names/new")).unwrap();
    write("names/new/1.", "new");
    let frozen = agent.freeze();
    assert!(frozen.whole && frozen.moved.is_empty() && frozen.why.starts_with(how), "{frozen:?}");
    agent.resumed();

    // Mail runs, and nowhere is anything as it was.
    for folder in ["rest", "rest/deep", "index", "names", "told"] {
        remove(&format!("{folder}/2."));
        write(&format!("{folder}/4."), "four");
        write(&format!("{folder}/cyrus.index"), "index three");
    }
    for folder in ["names", "told"] {
        remove(&format!("{folder}/3."));
    }
    fs::remove_dir_all(at("names/new")).unwrap();
    rustix::fs::syncfs(fs::File::open(spool).unwrap()).unwrap();

    let copy = agent.pass(2, true);
    assert_eq!(copy.problems, Vec::<String>::new());
    assert_eq!(copy.said[spool], itself);
    if itself == Said::WhatHasChanged {
        let spoken_of = names(&copy, spool).into_iter().filter(|path| path.components().count() == 1);
        assert_eq!(spoken_of.collect::<BTreeSet<_>>(), set(&["index", "names", "told"]));
    }
    // Not a word of what is at rest.
    for folder in ["rest", "user"] {
        let folder = at(folder);
        assert_eq!(names(&copy, &folder), set(&[]), "{folder:?}");
        assert!(!copy.gone.iter().any(|path| path.starts_with(&folder)), "{:?}", copy.gone);
    }
    assert_eq!(copy.said[&at("index")], Said::WhatHasChanged);
    assert_eq!(names(&copy, &at("index")), set(&["cyrus.index"]));
    assert_eq!(copy.bytes(&at("index/cyrus.index")), b"index two");
    // Its times tell that names changed, and nothing which.
    assert_eq!(copy.said[&at("names")], Said::All);
    assert_eq!(names(&copy, &at("names")), set(&["2.", "3.", "cyrus.index", "new", "new/1."]));
    for (name, text) in [("2.", "two"), ("3.", "three"), ("cyrus.index", "index one"), ("new/1.", "new")] {
        assert_eq!(copy.bytes(&at("names").join(name)), text.as_bytes(), "{name}");
    }
    // The journal tells what happened since the live pass, and when is seen in what is kept.
    assert_eq!(copy.said[&at("told")], Said::WhatHasChanged);
    let told = names(&copy, &at("told"));
    assert!(told.is_subset(&set(&["2.", "3.", "cyrus.index"])) && told.contains(Path::new("3.")), "{told:?}");
    assert_eq!(copy.bytes(&at("told/3.")), b"three");
    assert!(copy.gone.contains(&at("told/1.")), "{:?}", copy.gone);
}
