//! Looking at, mounting, flushing and unmounting disks: one thread does it, one order after the other.
//!
//! A disk is looked at read-only and unmounted again before its identity is reported. What is mounted is known
//! only here; every order is answered by exactly one event, also when it fails.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use mailkeep_board::disk::{Access, Medium, Mounted};
use mailkeep_board::{BoardError, btrfs};
use mailkeep_controller::disk::Insertion;
use mailkeep_controller::{Event, Fault, Identity};
use mailkeep_repository::LocalStorage;

use crate::engine::{Engine, Looked};
use crate::inbound::What;
use crate::words;

/// The repository's folder on a disk; a folder that is itself a repository serves too.
const REPOSITORY: &str = "mailkeep";

/// What is to be done with a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOrder {
    /// Whose is it?
    Inspect(Insertion, PathBuf),
    /// Mount for writing.
    Mount(Insertion, PathBuf),
    /// Flush and unmount.
    Eject(Insertion),
    /// It was pulled: drop its mount.
    Forget(Insertion),
}

/// Works off orders until nobody can give any more.
pub fn serve(engine: &dyn Engine, mount_dir: &Path, orders: &Receiver<DiskOrder>, report: &dyn Fn(What)) {
    let mut disks = Disks { engine, mount_dir, mounted: HashMap::new() };
    for order in orders {
        report(disks.obey(order));
    }
}

struct Disks<'a> {
    engine: &'a dyn Engine,
    mount_dir: &'a Path,
    mounted: HashMap<Insertion, Mounted>,
}

impl Disks<'_> {
    fn obey(&mut self, order: DiskOrder) -> What {
        match order {
            DiskOrder::Inspect(insertion, path) => self.inspect(insertion, &path),
            DiskOrder::Mount(insertion, path) => match self.mount(insertion, &path) {
                Ok(repository) => What::Mounted(insertion, repository),
                Err(error) => {
                    tracing::error!(disk = %path.display(), "{}", words::chain(&error));
                    What::Event(self.last_resort(insertion, &path, Event::MountFailed(insertion)))
                }
            },
            DiskOrder::Eject(insertion) => What::Event(self.eject(insertion)),
            DiskOrder::Forget(insertion) => What::Event(self.forget(insertion)),
        }
    }

    fn inspect(&self, insertion: Insertion, path: &Path) -> What {
        match self.mount_as(insertion, path, Access::Look) {
            Ok(mounted) => match self.whose(path, mounted) {
                Ok(looked) => What::Looked(insertion, looked),
                Err(()) => What::Event(Event::InspectFailed(insertion)),
            },
            Err(error) => {
                complain(path, &error);
                What::Event(self.last_resort(insertion, path, Event::InspectFailed(insertion)))
            }
        }
    }

    /// A disk that does not mount as it should: can it at least be read? `failed` is the answer if not.
    fn last_resort(&self, insertion: Insertion, path: &Path, failed: Event) -> Event {
        let rescued = Medium::at(path).and_then(|medium| medium.rescue(&self.point(insertion)));
        let identity = match rescued {
            Ok(mounted) => self.whose(path, mounted).map(|looked| looked.identity),
            Err(error) => {
                complain(path, &error);
                Err(())
            }
        };
        match identity {
            Ok(Identity::Ours) => {
                tracing::error!(disk = %path.display(), "{}", words::fault(Fault::DiskOnlyReadable));
                Event::OnlyReadable(insertion)
            }
            // Whose it is can wait; it is not touched in either case.
            Ok(_) | Err(()) => failed,
        }
    }

    /// Whose is this disk, which was only mounted to find that out?
    fn whose(&self, path: &Path, mounted: Mounted) -> Result<Looked, ()> {
        let looked = self.engine.identify(&repository_in(mounted.root()));
        let unmounted = mounted.unmount().map_err(|failed| {
            let (mounted, error) = *failed;
            complain(path, &error);
            // Opened read-only and let go of: a lazy unmount of it harms nothing.
            mounted.detach().map_err(|error| complain(path, &error)).ok();
        });
        let looked = looked.map_err(|error| {
            tracing::error!(disk = %path.display(), "{}", words::chain(&error));
        })?;
        unmounted?;
        let label = looked.disk.as_ref().map_or("", |disk| disk.label.as_str());
        tracing::info!(disk = %path.display(), identity = ?looked.identity, label, "looked at");
        Ok(looked)
    }

    fn mount(&mut self, insertion: Insertion, path: &Path) -> Result<PathBuf, BoardError> {
        let mounted = self.mount_as(insertion, path, Access::Use)?;
        let repository = repository_in(mounted.root());
        match btrfs::subvolume(&repository) {
            Ok(Some(subvolume)) => tracing::info!(disk = %path.display(), subvolume, "mounted, btrfs"),
            Ok(None) => tracing::info!(disk = %path.display(), "mounted"),
            Err(error) => tracing::warn!(disk = %path.display(), "{}", words::chain(&error)),
        }
        for line in LocalStorage::open(&repository).map(|storage| storage.advice()).unwrap_or_default() {
            tracing::warn!(disk = %path.display(), "{line}");
        }
        self.mounted.insert(insertion, mounted);
        Ok(repository)
    }

    fn mount_as(&self, insertion: Insertion, path: &Path, access: Access) -> Result<Mounted, BoardError> {
        Medium::at(path)?.mount(&self.point(insertion), access)
    }

    fn point(&self, insertion: Insertion) -> PathBuf {
        self.mount_dir.join(insertion.0.to_string())
    }

    fn eject(&mut self, insertion: Insertion) -> Event {
        let Some(mounted) = self.mounted.remove(&insertion) else { return Event::Unmounted(insertion) };
        match mounted.unmount() {
            Ok(()) => {
                tracing::info!(insertion = insertion.0, "flushed and unmounted");
                Event::Unmounted(insertion)
            }
            Err(failed) => {
                let (mounted, error) = *failed;
                tracing::error!(insertion = insertion.0, "{}", words::chain(&error));
                self.mounted.insert(insertion, mounted);
                Event::UnmountFailed(insertion)
            }
        }
    }

    fn forget(&mut self, insertion: Insertion) -> Event {
        match self.mounted.remove(&insertion).map(Mounted::detach) {
            None | Some(Ok(())) => Event::Unmounted(insertion),
            Some(Err(error)) => {
                tracing::error!(insertion = insertion.0, "{}", words::chain(&error));
                Event::UnmountFailed(insertion)
            }
        }
    }
}

fn complain(path: &Path, error: &BoardError) {
    tracing::error!(disk = %path.display(), "{}", words::chain(error));
}

fn repository_in(root: &Path) -> PathBuf {
    let folder = root.join(REPOSITORY);
    // The disk may come from anyone: a link in this place must not lead elsewhere.
    let is_folder = std::fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir());
    if is_folder { folder } else { root.to_owned() }
}
