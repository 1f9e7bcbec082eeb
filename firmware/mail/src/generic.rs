//! The profile of a source that is just trees of files (`system = "generic"`).
//!
//! A pattern without `/` is matched against the name alone; one with `/` against the path below its root
//! (a leading `/` only says that there is one). `*` and `?` stop at `/`, `**` does not.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::MailError;
use crate::patterns::Patterns;
use crate::scope::{FileClass, Presence, Root, without_nested};
use crate::source::GenericOptions;

/// Trees with patterns of what to leave out and what never changes.
#[derive(Debug, Clone)]
pub struct GenericProfile {
    roots: Vec<Root>,
    exclude: Patterns,
    write_once: Patterns,
    stopped: bool,
}

impl GenericProfile {
    /// From checked options; `stopped` says whether something is stopped for the final pass.
    pub(crate) fn new(options: &GenericOptions, stopped: bool) -> Result<GenericProfile, MailError> {
        let patterns = |key: &str, list: &[String]| {
            Patterns::new(list).map_err(|problem| MailError::BadValue {
                origin: "source file".to_owned(),
                key: key.to_owned(),
                problem,
            })
        };
        let roots = options
            .paths
            .iter()
            .map(|path| Root {
                path: path.clone(),
                presence: Presence::Required,
                named_by: "generic.paths in the source file".to_owned(),
            })
            .collect();
        Ok(GenericProfile {
            roots: without_nested(roots),
            exclude: patterns("generic.exclude", &options.exclude)?,
            write_once: patterns("generic.write-once", &options.write_once)?,
            stopped,
        })
    }

    pub(crate) fn roots(&self) -> &[Root] {
        &self.roots
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn has_write_once(&self) -> bool {
        !self.write_once.is_empty()
    }

    pub(crate) fn classify(&self, path: &Path, is_dir: bool) -> FileClass {
        let Some(below) = self.roots.iter().find_map(|root| below(&root.path, path)) else {
            return FileClass::Mutable;
        };
        // A root is wanted by name, whatever the patterns say.
        if below.as_os_str().is_empty() {
            return FileClass::Mutable;
        }
        if self.exclude.matches(below) {
            FileClass::Exclude
        } else if !is_dir && self.write_once.matches(below) {
            FileClass::Message
        } else {
            FileClass::Mutable
        }
    }
}

/// What of a path is below this root. As [`Path::strip_prefix`], which goes through both part by part; this is asked for every
/// file of a spool.
fn below<'a>(root: &Path, path: &'a Path) -> Option<&'a Path> {
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_prefix(root.as_os_str().as_bytes()) {
        Some([b'/', rest @ ..]) if !matches!(rest, [b'/' | b'.', ..]) => {
            Some(Path::new(OsStr::from_bytes(rest)))
        }
        _ => path.strip_prefix(root).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn profile(paths: &[&str], exclude: &[&str], write_once: &[&str]) -> GenericProfile {
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let options = GenericOptions {
            paths: paths.iter().map(PathBuf::from).collect(),
            exclude: strings(exclude),
            write_once: strings(write_once),
        };
        GenericProfile::new(&options, true).unwrap()
    }

    #[test]
    fn a_pattern_without_slash_is_about_the_name() {
        let p = profile(&["/srv/data"], &["*.tmp", "cache"], &["*.eml"]);
        assert_eq!(p.classify(Path::new("/srv/data/a/b/x.tmp"), false), FileClass::Exclude);
        assert_eq!(p.classify(Path::new("/srv/data/a/cache"), true), FileClass::Exclude);
        assert_eq!(p.classify(Path::new("/srv/data/a/m.eml"), false), FileClass::Message);
        assert_eq!(p.classify(Path::new("/srv/data/a/m.eml"), true), FileClass::Mutable);
        assert_eq!(p.classify(Path::new("/srv/data/x.tmp.keep"), false), FileClass::Mutable);
    }

    #[test]
    fn a_pattern_with_slash_is_about_the_path_below_the_root() {
        let p = profile(&["/srv/data"], &["/spool/*.log", "**/run/*", "deep/er/"], &[]);
        assert_eq!(p.classify(Path::new("/srv/data/spool/a.log"), false), FileClass::Exclude);
        assert_eq!(p.classify(Path::new("/srv/data/spool/b/a.log"), false), FileClass::Mutable);
        assert_eq!(p.classify(Path::new("/srv/data/x/y/run/pid"), false), FileClass::Exclude);
        assert_eq!(p.classify(Path::new("/srv/data/deep/er"), true), FileClass::Exclude);
    }

    #[test]
    fn a_root_is_never_excluded_by_its_own_name() {
        let p = profile(&["/srv/cache"], &["cache", "srv"], &[]);
        assert_eq!(p.classify(Path::new("/srv/cache"), true), FileClass::Mutable);
        assert_eq!(p.classify(Path::new("/srv/cache/cache"), true), FileClass::Exclude);
    }

    #[test]
    fn nested_roots_are_walked_once() {
        let p = profile(&["/srv/data/inner", "/srv/data", "/srv/data2", "/srv/data"], &[], &[]);
        let paths: Vec<_> = p.roots().iter().map(|r| r.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/srv/data", "/srv/data2"]);
    }

    #[test]
    fn what_is_below_a_root_is_what_its_parts_say() {
        let roots = ["/srv/data", "/srv/data/", "/", "/srv//data", "/srv/./data"];
        let paths = [
            "/srv/data",
            "/srv/data/",
            "/srv/data/a",
            "/srv/data/a/b.",
            "/srv/data//a",
            "/srv/data/./a",
            "/srv/data/.a",
            "/srv/database",
            "/srv/dat",
            "/a",
            "/",
            "/srv/data/a/",
            "/other/srv/data/a",
        ];
        for (root, path) in roots.iter().flat_map(|root| paths.iter().map(move |path| (root, path))) {
            let parts = Path::new(path).strip_prefix(root).ok();
            assert_eq!(below(Path::new(root), Path::new(path)), parts, "{path} below {root}");
        }
    }
}
