//! Looking into snapshots and getting files back, with repositories that are real.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use support::{Lab, describe, sample};

/// A repository with two snapshots of `tree` and one of another source.
fn filled() -> (Lab, [String; 3]) {
    let lab = Lab::new();
    let tree = lab.path("tree");
    sample(&tree);
    let first = lab.store("tree", &tree, "/srv/data");
    fs::write(tree.join("user/anna/2."), "changed").unwrap();
    fs::write(tree.join("user/anna/new."), "new").unwrap();
    fs::remove_file(tree.join("user/anna/3.")).unwrap();
    let second = lab.store("tree", &tree, "/srv/data");
    let other = lab.store("other", &lab.path("tree/user"), "/home");
    (lab, [first, second, other])
}

#[test]
fn snapshots_are_listed_with_all_their_fields() {
    let (lab, [first, second, other]) = filled();
    let listed = lab.run(&["snapshots", "--json"]).of("snapshot");
    let ids: Vec<_> = listed.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&first, &second, &other]);
    for field in [
        "generation",
        "source",
        "time",
        "consistent",
        "mail_check",
        "files",
        "bytes",
        "added_bytes",
        "window_ms",
    ] {
        assert!(listed[0].get(field).is_some(), "{field} is missing");
    }
    assert_eq!(listed[0]["time"], "2023-11-14T22:13:20Z");
    assert_eq!((&listed[1]["generation"], &listed[1]["window_ms"]), (&2.into(), &500.into()));
    assert_eq!(lab.run(&["snapshots", "--source", "other", "--json"]).objects().len(), 1);
    let table = lab.run(&["snapshots"]).out;
    assert_eq!(table.lines().count(), 4);
    assert!(table.contains(&first[..10]) && table.contains("2023-11-14 22:13:20"), "{table}");
}

#[test]
fn show_is_the_manifest_and_its_text_cannot_drive_the_terminal() {
    let (lab, [first, ..]) = filled();
    let object = &lab.run(&["show", &first[..12], "--json"]).of("manifest")[0];
    assert_eq!((&object["id"], &object["source"]["name"]), (&first.as_str().into(), &"tree".into()));
    let text = lab.run(&["show", &first]).out;
    assert!(text.contains("Mail stopped  for 0.5 s: stop 0.1 s") && text.contains("a remark"), "{text}");
    assert!(!text.contains('\x1b'));
    let missing = lab.run(&["show", "0000000000"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("no snapshot 0000000000"), "{}", missing.err);
}

#[test]
fn listings_show_folders_files_and_whole_trees() {
    let (lab, [first, ..]) = filled();
    let folder = lab.run(&["ls", &first, "/srv/data"]).out;
    assert_eq!(folder.lines().count(), 3, "{folder}");
    assert!(folder.contains("odd\\u{a}name\\u{1b}[31m") && folder.contains("user/"), "{folder}");
    let nodes = lab.run(&["ls", "latest", "--source", "tree", "/srv/data/user", "-R", "--json"]).of("node");
    let find = |path: &str| nodes.iter().find(|node| node["path"] == path).unwrap();
    assert_eq!(find("/srv/data/user/link")["target"], "anna");
    assert_eq!(find("/srv/data/user/same")["links"], 2);
    assert_eq!(find("/srv/data/user/anna/2.")["size"], 7);
    assert_eq!((nodes.len(), &find("/srv/data/user/anna")["type"]), (43, &"dir".into()));
    let file = lab.run(&["ls", &first, "srv/data/user/anna/2."]).out;
    assert!(file.lines().count() == 1 && file.trim_end().ends_with("/srv/data/user/anna/2."), "{file}");
    let missing = lab.run(&["ls", &first, "/srv/nowhere"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("/srv/nowhere is not in the snapshot"), "{}", missing.err);
}

#[test]
fn find_looks_through_all_snapshots() {
    let (lab, [first, second, other]) = filled();
    let hits = |words: &[&str]| -> Vec<(String, String)> {
        let words: Vec<&str> = ["find", "--json"].iter().chain(words).copied().collect();
        let pair = |hit: &serde_json::Value| {
            (hit["snapshot"].as_str().unwrap().to_owned(), hit["path"].as_str().unwrap().to_owned())
        };
        lab.run(&words).of("match").iter().map(pair).collect()
    };
    let at = |snapshot: &String, path: &str| (snapshot.clone(), path.to_owned());
    assert_eq!(hits(&["3."]), [at(&first, "/srv/data/user/anna/3.")]);
    assert_eq!(hits(&["new.*"]), [at(&second, "/srv/data/user/anna/new."), at(&other, "/home/anna/new.")]);
    assert_eq!(hits(&["/home/*/1."]), [at(&other, "/home/anna/1.")]);
    assert_eq!(hits(&["**/anna/1."]).len(), 3);
    assert_eq!(hits(&["ANNA", "-i", "--source", "tree"]).len(), 2);
    assert_eq!(hits(&["ANNA"]), []);
    assert_eq!(lab.run(&["find", "nothing-like-this"]).out, "Nothing found.\n");
}

#[test]
fn diff_tells_what_changed() {
    let (lab, [first, second, _]) = filled();
    let said = lab.run(&["diff", &first, &second]);
    let lines: Vec<&str> = said.out.lines().take_while(|line| !line.is_empty()).skip(1).collect();
    let ends = |line: &&str| format!("{}  {}", &line[..1], line.rsplit("  ").next().unwrap());
    let folder = "/srv/data/user/anna";
    assert_eq!(
        lines.iter().map(ends).collect::<Vec<_>>(),
        [format!("M  {folder}/2."), format!("-  {folder}/3."), format!("+  {folder}/new.")]
    );
    assert!(lines[0].contains(" 7 B  ") && lines[2].contains("          -        3 B  "), "{}", said.out);
    let sum = &lab.run(&["diff", &first, &second, "--json", "--metadata"]).of("summary")[0];
    assert_eq!((&sum["added"], &sum["removed"], &sum["changed"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(lab.run(&["diff", &first, &first, "--json"]).objects().len(), 1);
}

#[test]
fn what_is_restored_equals_what_was_there_and_the_rehearsal_said_so() {
    let (lab, [_, second, _]) = filled();
    let target = lab.text("target");
    let words = ["restore", &second, "--target", &target, "--json"];
    let rehearsed = lab.run(&[&words[..], &["--dry-run"]].concat());
    assert!(!lab.path("target").exists());
    let done = lab.run(&words);
    assert_eq!((rehearsed.code, done.code), (0, 0), "{}{}", rehearsed.err, done.err);
    let (plan, sum) = (&rehearsed.of("summary")[0], &done.of("summary")[0]);
    for field in ["files", "bytes", "skipped", "problems", "folders"] {
        assert_eq!(plan[field], sum[field], "{field}");
    }
    assert_eq!((&sum["files"], &sum["problems"]), (&44.into(), &0.into()));
    let mut there = describe(&lab.path("tree"));
    let restored = describe(&lab.path("target/srv/data"));
    assert_eq!(there.keys().collect::<Vec<_>>(), restored.keys().collect::<Vec<_>>());
    there.retain(|path, line| restored.get(path) != Some(line));
    assert!(there.is_empty(), "{there:?}");
    let again = lab.run(&[&words[..], &["--overwrite", "if-changed"]].concat());
    let sum = &again.of("summary")[0];
    assert_eq!((&sum["files"], &sum["bytes"], &sum["skipped"]), (&0.into(), &0.into(), &44.into()));
}

#[test]
fn setuid_comes_back_of_a_tree_unless_it_is_left_out_and_that_is_told() {
    let lab = Lab::new();
    fs::create_dir(lab.path("tree")).unwrap();
    fs::write(lab.path("tree/tool"), "#!").unwrap();
    fs::set_permissions(lab.path("tree/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    let id = lab.store("mail1", &lab.path("tree"), "/srv/data");
    let tool = lab.path("target/srv/data/tool");
    let mode = || fs::metadata(&tool).unwrap().permissions().mode() & 0o7777;
    let target = lab.text("target");
    let words = ["restore", &id, "--target", &target];
    let cautious = [&words[..], &["--special", "leave-out"]].concat();
    let dry = lab.run(&[&cautious[..], &["--dry-run"]].concat());
    assert!(dry.out.contains("left-out /srv/data/tool") && dry.out.contains("1 left out"), "{}", dry.out);
    let done = lab.run(&cautious);
    assert_eq!((dry.code, done.code, mode()), (2, 2, 0o755), "{}", done.err);
    for told in ["/srv/data/tool: its setuid", "--special keep"] {
        assert!(done.err.contains(told), "{}", done.err);
    }
    // The lab's snapshots are of a generic tree.
    let kept = lab.run(&words);
    assert_eq!((kept.code, mode()), (0, 0o4755), "{}", kept.err);
}

#[test]
fn paths_policy_and_deleting_are_as_asked() {
    let (lab, [first, ..]) = filled();
    let target = lab.text("target");
    let words = ["restore", &first, "--target", &target, "--path", "/srv/data/user/anna"];
    assert_eq!(lab.run(&words).code, 0);
    assert!(!lab.path("target/srv/data/user/link").exists());
    let anna = lab.path("target/srv/data/user/anna");
    fs::write(anna.join("surplus"), "x").unwrap();
    fs::write(anna.join("1."), "mine").unwrap();
    let keep = lab.run(&[&words[..], &["--overwrite", "never"]].concat());
    assert_eq!(keep.code, 0);
    assert_eq!(fs::read_to_string(anna.join("1.")).unwrap(), "mine");
    assert!(anna.join("surplus").exists());
    let shown = lab.run(&[&words[..], &["--delete", "--dry-run"]].concat()).out;
    assert!(shown.contains("delete   /srv/data/user/anna/surplus"), "{shown}");
    assert!(anna.join("surplus").exists());
    assert_eq!(lab.run(&[&words[..], &["--delete"]].concat()).code, 0);
    assert!(!anna.join("surplus").exists());
    assert_ne!(fs::read_to_string(anna.join("1.")).unwrap(), "mine");
    let missing = lab.run(&["restore", &first, "--target", &target, "--path", "/nope"]);
    assert_eq!(missing.code, 1);
    let root = lab.run(&["restore", &first, "--target", "/", "--delete", "--dry-run"]);
    assert_eq!(root.code, 64);
    assert!(root.err.contains("will not delete in /"), "{}", root.err);
}

#[test]
fn damage_is_found_by_verify_and_costs_a_restore_only_what_is_damaged() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    sample(&tree);
    // Bytes that do not compress (xorshift), and so many of them that the middle of the pack is this file, though
    // several threads compress and blocks come in any order.
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let large: Vec<u8> = (0..3_000_000).flat_map(|_| next()).collect();
    fs::write(tree.join("large"), &large).unwrap();
    let first = lab.store("tree", &tree, "/srv/data");
    assert_eq!(lab.run(&["verify"]).code, 0);
    assert_eq!(lab.run(&["verify", "--read-data"]).code, 0);
    // In the middle of the largest pack there is a piece of the large file.
    let mut packs = Vec::new();
    for folder in fs::read_dir(lab.path("repo/packs")).unwrap() {
        packs.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|pack| pack.unwrap().path()));
    }
    let pack = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).unwrap();
    let said = lab.run(&["verify", "--read-data", "--json"]);
    assert_eq!(said.code, 65, "{}", said.out);
    assert!(!said.of("error").is_empty() && said.of("summary")[0]["damaged"] == true, "{}", said.out);
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(said.out.contains(&name[..16]), "the pack is not named: {}", said.out);
    let target = lab.text("target");
    let restored = lab.run(&["restore", &first, "--target", &target, "--json"]);
    assert_eq!(restored.code, 2, "{}", restored.err);
    let problems = restored.of("error").len();
    assert!(problems > 0 && restored.of("summary")[0]["problems"] == problems, "{}", restored.out);
    // Whatever was restored is right, and the rest is not there at all.
    let there = describe(&tree);
    let restored = describe(&lab.path("target/srv/data"));
    assert!(restored.len() > 30, "{}", restored.len());
    assert_eq!(restored.len() + problems, there.len());
    for (path, line) in restored.iter().filter(|(path, _)| !path.ends_with("large")) {
        assert_eq!(there.get(path), Some(line), "{path:?}");
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..5000 {
        fs::write(tree.join(format!("a-rather-long-name-{number}")), "").unwrap();
    }
    lab.store("tree", &tree, "/srv");
    for words in [&["ls", "latest", "-R"][..], &["ls", "latest", "/srv", "--json"], &["find", "*"]] {
        let mut child = lab.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        drop(reader);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{words:?}");
        assert!(!line.is_empty());
    }
}

#[test]
fn a_signal_ends_a_restore_with_130_and_the_next_one_finishes() {
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    // Empty ones: taking away files with blocks is slow on disks that discard them one by one.
    for number in 0..20_000 {
        fs::write(tree.join(number.to_string()), "").unwrap();
    }
    lab.store("tree", &tree, "/srv");
    // On a busy machine a restore may be done before it hears the signal; then the next target is for trying.
    let interrupted = (0..10).map(|number| lab.text(&format!("target{number}"))).find_map(|target| {
        let words = ["restore", "latest", "--target", &target];
        let child = lab.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !Path::new(&target).join("srv").exists() {
            std::thread::yield_now();
        }
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        (output.status.code() != Some(0)).then_some((target, output.status.code(), err))
    });
    let (target, code, err) = interrupted.expect("no restore heard the signal");
    assert_eq!(code, Some(130), "{err}");
    assert!(err.contains("interrupted; run it again"), "{err}");
    let names: Vec<_> = fs::read_dir(Path::new(&target).join("srv"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_encoded_bytes())
        .collect();
    assert!(names.len() < 20_000 && !names.iter().any(|name| name.starts_with(b".mailkeep")));
    let again = lab.run(&["restore", "latest", "--target", &target, "--overwrite", "if-changed", "--json"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let sum = &again.of("summary")[0];
    assert_eq!(sum["skipped"], names.len(), "{sum}");
    assert_eq!(describe(&Path::new(&target).join("srv")), describe(&tree));
}

#[test]
fn mounting_shows_the_files_in_foreground_and_background() {
    if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
        return;
    }
    let (lab, [first, _, other]) = filled();
    let point = lab.path("mnt");
    fs::create_dir(&point).unwrap();
    let unmount = || rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH);
    let said = lab.run(&["mount", &lab.text("mnt")]);
    assert_eq!(said.code, 0, "{}", said.err);
    let one = fs::read(point.join(format!("snapshots/{first}/srv/data/user/anna/1."))).unwrap();
    assert_eq!(one, fs::read(lab.path("tree/user/anna/1.")).unwrap());
    assert_eq!(fs::read_link(point.join("latest")).unwrap(), Path::new("snapshots").join(&other));
    unmount().unwrap();
    assert!(!point.join("latest").exists());

    let mut child =
        lab.command(&["mount", &lab.text("mnt"), "--foreground"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("3 snapshots are in"), "{line}");
    assert!(point.join("latest/home/anna/1.").exists());
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!point.join("latest").exists(), "still mounted");

    let refused = lab.run(&["mount", &lab.text("nowhere")]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("is not a folder that can be mounted on"), "{}", refused.err);
    assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
}

#[test]
fn a_mount_outlives_a_prune_that_moves_what_it_shows() {
    if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
        return;
    }
    let lab = Lab::new();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    // Bytes that do not shrink, so that each day's own are more than a quarter of its pack.
    let noise = |seed: u64| -> Vec<u8> {
        let step = |x: &mut u64| {
            *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            Some((*x >> 33) as u8)
        };
        let mut x = seed;
        std::iter::from_fn(|| step(&mut x)).take(200_000).collect()
    };
    fs::write(tree.join("always"), noise(1)).unwrap();
    for day in 2..5 {
        fs::write(tree.join("daily"), noise(day)).unwrap();
        lab.store("mail1", &tree, "/srv");
    }
    let point = lab.path("mnt");
    fs::create_dir(&point).unwrap();
    let said = lab.run(&["mount", &lab.text("mnt")]);
    assert_eq!(said.code, 0, "{}", said.err);
    let latest = || fs::read_link(point.join("latest")).unwrap();
    let fourth = latest();
    let prune = |keep: &str| {
        let said = lab.run(&["prune", "--keep-last", keep, "--grace", "0s"]);
        assert_eq!(said.code, 0, "{}", said.err);
    };
    let packs = || walk(&lab.path("repo/packs"));
    let before = packs();
    prune("1");
    fs::write(tree.join("daily"), noise(9)).unwrap();
    lab.store("mail1", &tree, "/srv");
    prune("2");
    let after = packs();
    assert!(before.iter().any(|pack| !after.contains(pack)), "no pack went: {before:?}");
    // Nothing of it was read before.
    let read = |snapshot: &Path, name: &str| fs::read(point.join(snapshot).join("srv").join(name));
    let seen = (read(&fourth, "always"), read(&fourth, "daily"));
    // And `latest` goes on to what came since.
    let tries = (0..3000).take_while(|_| latest() == fourth);
    tries.for_each(|_| std::thread::sleep(std::time::Duration::from_millis(100)));
    let newest = read(&latest(), "daily");
    rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(seen.0.unwrap() == noise(1) && seen.1.unwrap() == noise(4));
    assert!(newest.unwrap() == noise(9));
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn pages_and_completions_are_generated() {
    let lab = Lab::empty();
    let page = lab.run(&["generate", "man"]);
    assert!(page.code == 0 && page.out.starts_with(".ie") && page.out.contains("mailkeep"), "{}", page.out);
    let folder = lab.text("man");
    assert_eq!(lab.run(&["generate", "man", "--out", &folder]).code, 0);
    assert!(lab.path("man/mailkeep-restore.1").exists());
    for shell in ["bash", "zsh", "fish"] {
        assert!(lab.run(&["generate", "completions", shell]).out.contains("if-changed"), "{shell}");
    }
}
