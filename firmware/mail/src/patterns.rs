//! Patterns of file names: without a slash they are about the name, with one about the path below the root.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Compiled patterns; the text of an error says which pattern is wrong and why.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    on_name: GlobSet,
    on_path: GlobSet,
}

impl Patterns {
    pub(crate) fn new(patterns: &[String]) -> Result<Patterns, String> {
        let (mut on_name, mut on_path) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let below = pattern.strip_suffix('/').unwrap_or(pattern);
            let set = if below.contains('/') { &mut on_path } else { &mut on_name };
            let glob = GlobBuilder::new(below.strip_prefix('/').unwrap_or(below))
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| format!("\"{pattern}\" is no pattern: {}", error.kind()))?;
            set.add(glob);
        }
        let built = |set: GlobSetBuilder| {
            set.build().map_err(|error| format!("the patterns are too large together: {}", error.kind()))
        };
        Ok(Patterns { on_name: built(on_name)?, on_path: built(on_path)? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.on_name.is_empty() && self.on_path.is_empty()
    }

    pub(crate) fn matches(&self, below: &Path) -> bool {
        // A set takes a path apart before it notices that it is empty.
        let by_name = || below.file_name().is_some_and(|name| self.on_name.is_match(Path::new(name)));
        (!self.on_name.is_empty() && by_name()) || (!self.on_path.is_empty() && self.on_path.is_match(below))
    }
}
