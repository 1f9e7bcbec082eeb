//! Which part of a snapshot was asked for.

use std::sync::Arc;

use crate::path::normalise;
use crate::{PathSet, RestoreError};

/// The paths that were asked for; none means everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    paths: Vec<Vec<u8>>,
    /// In place of paths: these, which are known to be there.
    exactly: Option<Arc<PathSet>>,
}

/// How a path stands to what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// Not asked for.
    Outside,
    /// A folder on the way to something that was asked for.
    Above,
    /// Asked for, itself or with a folder that holds it.
    Inside,
}

impl Selection {
    pub(crate) fn new(paths: &[Vec<u8>], exactly: Option<Arc<PathSet>>) -> Result<Self, RestoreError> {
        let paths = paths.iter().map(|path| normalise(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Selection { paths, exactly })
    }

    pub(crate) fn paths(&self) -> &[Vec<u8>] {
        &self.paths
    }

    /// Where `path` (normalised) stands.
    pub(crate) fn of(&self, path: &[u8]) -> Coverage {
        if let Some(exactly) = &self.exactly {
            return match exactly.has(path) {
                true => Coverage::Inside,
                false if exactly.is_above(path) => Coverage::Above,
                false => Coverage::Outside,
            };
        }
        if self.paths.is_empty() || self.paths.iter().any(|asked| within(path, asked)) {
            Coverage::Inside
        } else if self.paths.iter().any(|asked| within(asked, path)) {
            Coverage::Above
        } else {
            Coverage::Outside
        }
    }
}

/// Whether `path` is `folder` or lies in it.
fn within(path: &[u8], folder: &[u8]) -> bool {
    folder == b"/" || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_and_the_way_there() {
        let asked = Selection::new(&[b"var/spool/a/".to_vec(), b"/etc/x".to_vec()], None).unwrap();
        for (path, coverage) in [
            ("/", Coverage::Above),
            ("/var/spool", Coverage::Above),
            ("/var/spool/a", Coverage::Inside),
            ("/var/spool/a/b/c", Coverage::Inside),
            ("/var/spool/ab", Coverage::Outside),
            ("/var/log", Coverage::Outside),
            ("/etc/x", Coverage::Inside),
            ("/etc/xy", Coverage::Outside),
        ] {
            assert_eq!(asked.of(path.as_bytes()), coverage, "{path}");
        }
        assert_eq!(Selection::default().of(b"/any"), Coverage::Inside);
        assert_eq!(Selection::new(&[b"/".to_vec()], None).unwrap().of(b"/any"), Coverage::Inside);
    }
}
