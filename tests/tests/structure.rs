//! Holds the structure of the tree: who may use whom, no cycles between modules, the fence around serde_cbor, a head on
//! every file, and nothing beyond the agreed top level.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// For each room: its folder, and the rooms that it may use. The arrows of the design.
const ROOMS: &[(&str, &str, &[&str])] = &[
    ("format", "firmware/format", &[]),
    ("repository", "firmware/repository", &["format"]),
    ("mail", "firmware/mail", &[]),
    ("link", "firmware/link", &["format"]),
    ("puller", "firmware/puller", &["format", "repository", "link", "mail"]),
    ("pairing", "firmware/pairing", &["puller", "mail"]),
    ("controller", "firmware/controller", &[]),
    (
        "appliance",
        "firmware/appliance",
        &["format", "repository", "mail", "link", "puller", "controller", "restorer", "board"],
    ),
    ("agent", "host-tools/agent", &["link", "mail", "format"]),
    ("restorer", "host-tools/restorer", &["repository", "format", "mail"]),
    ("mailview", "host-tools/mailview", &["restorer", "repository", "mail"]),
    ("mount", "host-tools/mount", &["mailview", "restorer"]),
    ("rebuild", "host-tools/rebuild", &["restorer", "puller", "link", "mail", "format"]),
    ("drill", "host-tools/drill", &["mailview", "restorer", "repository", "mail", "format"]),
    (
        "cli",
        "host-tools/cli",
        &["drill", "rebuild", "mount", "mailview", "restorer", "repository", "puller", "pairing", "mail"],
    ),
    ("board", "board", &[]),
    // Only tests need it.
    ("guest", "tests/guest", &[]),
];

/// What may lie at the top; everything else is a room's business.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitattributes",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "board",
    "clippy.toml",
    "deny.toml",
    "firmware",
    "host-tools",
    "images",
    "rustfmt.toml",
    "tests",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn rooms_use_only_the_rooms_they_may() {
    for (name, folder, allowed) in ROOMS {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        // What only tests need (dev-dependencies) may point further, never what is shipped.
        for table in ["dependencies", "build-dependencies"] {
            let Some(used) = manifest.get(table).and_then(|table| table.as_table()) else { continue };
            for room in used.keys().filter_map(|key| key.strip_prefix("mailkeep-")) {
                assert!(allowed.contains(&room), "{name} ({folder}) must not use {room}");
            }
        }
    }
}

#[test]
fn every_crate_is_a_known_room() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let members: BTreeSet<&str> =
        manifest["workspace"]["members"].as_array().unwrap().iter().filter_map(|m| m.as_str()).collect();
    let known: BTreeSet<&str> = ROOMS.iter().map(|(_, folder, _)| *folder).chain(["tests"]).collect();
    assert_eq!(members, known);
}

#[test]
fn only_the_fence_names_serde_cbor() {
    for file in sources() {
        let shown = file.strip_prefix(root()).unwrap().display().to_string();
        let fenced = shown.starts_with("firmware/format/") || shown == "tests/tests/structure.rs";
        assert!(
            fenced || !fs::read_to_string(&file).unwrap().contains("serde_cbor"),
            "{shown} names serde_cbor"
        );
    }
    for (name, folder, _) in ROOMS {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        assert!(*name == "format" || !text.contains("serde_cbor"), "{folder}/Cargo.toml names serde_cbor");
    }
}

#[test]
fn every_licence_is_on_the_list() {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let allowed: BTreeSet<&str> =
        deny["licenses"]["allow"].as_array().unwrap().iter().filter_map(|licence| licence.as_str()).collect();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = std::process::Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    // The lock file also names what optional features would bring; only what is built counts.
    let built: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|node| node["deps"].as_array().unwrap())
        .filter_map(|dependency| dependency["pkg"].as_str())
        .collect();
    assert!(built.len() > 50);
    for package in
        packages.iter().filter(|package| package["id"].as_str().is_some_and(|id| built.contains(id)))
    {
        let name = package["name"].as_str().unwrap();
        let Some(expression) = package["license"].as_str() else { panic!("{name} names no licence") };
        // The expressions in use are flat: alternatives, each a licence or all of several.
        let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
        let free = plain.split(" AND ").all(|all| all.split(" OR ").any(|one| allowed.contains(one.trim())));
        assert!(free, "{name} has the licence {expression}, which deny.toml does not allow");
    }
}

#[test]
fn every_file_says_what_it_owns() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} does not open with //!", file.display());
    }
}

#[test]
fn nothing_beyond_the_agreed_top_level() {
    let listed =
        std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "git ls-files failed; is this a checkout?");
    for path in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        let top = path.split('/').next().unwrap();
        assert!(TOP.contains(&top), "{path} lies beyond the agreed top level");
    }
}

#[test]
fn no_cycles_between_modules() {
    let mut cycles = Vec::new();
    for (name, folder, _) in ROOMS {
        let modules = Modules::read(&root().join(folder).join("src"));
        cycles.extend(modules.cycle().map(|cycle| format!("{name}: {}", cycle.join(" → "))));
    }
    assert!(cycles.is_empty(), "modules use each other in a circle: {cycles:#?}");
}

#[test]
fn the_cycle_check_sees_a_cycle() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("lib.rs"), "//! x\nmod a;\nmod b;\npub use b::B;\n").unwrap();
    fs::write(dir.path().join("a.rs"), "//! x\nuse crate::{B};\npub fn f(_: B) {}\n").unwrap();
    fs::write(dir.path().join("b.rs"), "//! x\npub struct B;\n").unwrap();
    assert_eq!(Modules::read(dir.path()).cycle(), None);
    fs::write(dir.path().join("b.rs"), "//! x\nuse crate::a;\npub struct B;\n").unwrap();
    assert!(Modules::read(dir.path()).cycle().is_some());
}

/// All Rust files of the workspace.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for top in ["firmware", "host-tools", "board", "tests"] {
        walk(&root().join(top), &mut files);
    }
    assert!(files.len() > 30, "the walk found only {} files", files.len());
    files
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A crate's modules, one per file, and who names whom.
struct Modules {
    uses: BTreeMap<String, BTreeSet<String>>,
}

impl Modules {
    fn read(src: &Path) -> Modules {
        let mut files = Vec::new();
        walk(src, &mut files);
        let texts: BTreeMap<String, String> = files
            .iter()
            .map(|file| {
                (module_of(file.strip_prefix(src).unwrap()), product_code(&fs::read_to_string(file).unwrap()))
            })
            .collect();
        let root = texts.get("").cloned().unwrap_or_default();
        let exports = exports(&root, &texts);
        let mut uses = BTreeMap::new();
        for (module, text) in &texts {
            // The root is the map of the crate: it names everything, and what names it means a re-export.
            if module.is_empty() {
                continue;
            }
            let mut named: BTreeSet<String> =
                paths(module, text).iter().filter_map(|path| resolve(path, &texts, &exports)).collect();
            named.remove(module);
            uses.insert(module.clone(), named);
        }
        Modules { uses }
    }

    fn cycle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.uses.keys().find_map(|start| self.visit(start, &mut Vec::new(), &mut done))
    }

    fn visit(&self, at: &str, trail: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
        if let Some(start) = trail.iter().position(|seen| seen == at) {
            return Some(trail[start..].iter().cloned().chain([at.to_owned()]).collect());
        }
        if !done.contains(at) {
            trail.push(at.to_owned());
            for next in self.uses.get(at).into_iter().flatten() {
                if let Some(cycle) = self.visit(next, trail, done) {
                    return Some(cycle);
                }
            }
            trail.pop();
            done.insert(at.to_owned());
        }
        None
    }
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; `lib.rs` and `main.rs` are the root.
fn module_of(path: &Path) -> String {
    let text = path.with_extension("").display().to_string().replace('/', "::");
    match text.as_str() {
        "lib" | "main" | "mod" => String::new(),
        other => other.strip_suffix("::mod").unwrap_or(other).to_owned(),
    }
}

/// The text without comments and without the tests at its end.
fn product_code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// All paths in `text` that start at `crate` or `super`, as paths from the root, with braces spread out.
fn paths(module: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    for (start, base) in [("crate::", ""), ("super::", parent)] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            // `super::super::` and `pub(in crate::…)` do not occur in this house.
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            spread(base, &text[at + start.len()..], &mut found);
        }
    }
    found
}

/// Spreads `a::{b, c::d}` behind `prefix` into single paths.
fn spread(prefix: &str, text: &str, found: &mut Vec<String>) {
    let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if let Some(inside) = text.strip_prefix('{') {
        let (mut depth, mut from) = (0, 0);
        for (at, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' => {
                    spread(prefix, inside[from..at].trim(), found);
                    from = at + 1;
                    if c == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    if end == 0 {
        return;
    }
    let name = &text[..end];
    match text[end..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '{') => {
            spread(&join(name), rest, found);
        }
        _ => found.push(join(if name == "self" { "" } else { name }).trim_end_matches(':').to_owned()),
    }
}

/// What the root re-exports: name → module.
fn exports(root: &str, texts: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    for statement in root.split("pub use ").skip(1) {
        let mut found = Vec::new();
        spread("", statement.split(';').next().unwrap().trim(), &mut found);
        for path in found {
            if let (Some(module), Some((_, name))) = (longest(&path, texts), path.rsplit_once("::")) {
                exports.insert(name.to_owned(), module);
            }
        }
    }
    exports
}

fn longest(path: &str, texts: &BTreeMap<String, String>) -> Option<String> {
    let mut path = path;
    loop {
        if texts.contains_key(path) && !path.is_empty() {
            return Some(path.to_owned());
        }
        path = path.rsplit_once("::")?.0;
    }
}

fn resolve(
    path: &str,
    texts: &BTreeMap<String, String>,
    exports: &BTreeMap<String, String>,
) -> Option<String> {
    longest(path, texts).or_else(|| exports.get(path.split("::").next()?).cloned())
}

/// The deadline of the restart guard goes by the clock since boot, which nobody sets. The time of day has three readers: the
/// intent's note for people, the guard's log, and the timer of systemd that stands beside the monotonic one.
#[test]
fn the_deadline_goes_by_no_clock_that_is_set() {
    let mut files = 0;
    for entry in fs::read_dir(root().join("host-tools/agent/src/window")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let allowed = match path.file_name().and_then(|name| name.to_str()) {
            Some("intent.rs" | "guard.rs" | "timer.rs") => 1,
            _ => 0,
        };
        assert_eq!(text.matches("SystemTime::now()").count(), allowed, "{}", path.display());
        files += 1;
    }
    assert!(files > 5, "the window has moved");
}
