//! A profile: what of a server is backed up, and what each name there means. Agent and puller use the same
//! profile: the agent to walk, the puller to judge what came.
//!
//! A profile is pure: paths are compared letter by letter, nothing is looked up. It is made from the source
//! file and, for Cyrus, from the configuration that the source file names, read through a closure: on the
//! server that is the file system, on the box whatever the agent has sent.

use std::io;
use std::path::Path;

use crate::cyrus::profile::CyrusProfile;
use crate::error::MailError;
use crate::generic::GenericProfile;
use crate::scope::{BESIDE, ExtraFile, FileClass, Root};
use crate::source::{Source, System};

/// What is backed up of a source.
#[derive(Debug, Clone)]
pub enum Profile {
    /// A Cyrus server.
    Cyrus(CyrusProfile),
    /// Trees of whatever kind.
    Generic(GenericProfile),
}

impl Profile {
    /// The profile of a source. `read_file` is asked for the mail server's configuration files only, and may
    /// be asked for any path that those include.
    pub fn new(
        source: &Source,
        read_file: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Profile, MailError> {
        Ok(match &source.system {
            System::Cyrus(options) => Profile::Cyrus(CyrusProfile::new(options, read_file)?),
            System::Generic(options) => {
                let stopped = source.quiesce.stop.is_some();
                Profile::Generic(GenericProfile::new(options, stopped)?)
            }
        })
    }

    /// The trees to walk: absolute, none inside another, in a fixed order.
    pub fn roots(&self) -> &[Root] {
        match self {
            Profile::Cyrus(cyrus) => cyrus.roots(),
            Profile::Generic(generic) => generic.roots(),
        }
    }

    /// Single files to take beside the roots: none lies inside a root.
    pub fn files(&self) -> &[ExtraFile] {
        match self {
            Profile::Cyrus(cyrus) => cyrus.files(),
            Profile::Generic(_) => &[],
        }
    }

    /// What an absolute path means. A directory gets [`FileClass::Mutable`] (enter it), `ExcludeContents` or
    /// `Exclude`; anything else gets any class but `ExcludeContents`. The walker asks from the root
    /// downwards and never asks about what lies inside a directory that it does not enter.
    pub fn classify(&self, path: &Path, is_dir: bool) -> FileClass {
        if is_dir && path.file_name().is_some_and(|name| name == BESIDE) {
            return FileClass::Exclude;
        }
        match self {
            Profile::Cyrus(cyrus) => cyrus.classify(path, is_dir),
            Profile::Generic(generic) => generic.classify(path, is_dir),
        }
    }

    /// Whether files directly in this directory may be of the kind that never changes under its name
    /// ([`FileClass::Message`]).
    pub fn may_hold_messages(&self, directory: &Path) -> bool {
        match self {
            // Whatever the UID.
            Profile::Cyrus(cyrus) => cyrus.classify(&directory.join("1."), false) == FileClass::Message,
            Profile::Generic(generic) => generic.has_write_once(),
        }
    }

    /// Whether it proves that somebody still wrote, if a file vanishes between the listing and the reading of
    /// the final pass. In a live pass vanishing is always harmless.
    pub fn vanish_is_error_in_final(&self, path: &Path) -> bool {
        match self {
            Profile::Cyrus(cyrus) => cyrus.classify(path, false).is_kept(),
            Profile::Generic(generic) => generic.is_stopped() && generic.classify(path, false).is_kept(),
        }
    }

    /// Whether the system has a list of mailboxes that is exported inside the window.
    pub fn has_mailbox_list(&self) -> bool {
        matches!(self, Profile::Cyrus(_))
    }

    /// What the person should know about what this profile leaves out, one line each.
    pub fn notes(&self) -> &[String] {
        match self {
            Profile::Cyrus(cyrus) => cyrus.notes(),
            Profile::Generic(_) => &[],
        }
    }
}
