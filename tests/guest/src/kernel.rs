//! A kernel of Debian's, unpacked and not installed, and its modules.
//!
//! `images/packages.sh` unpacks the package into [`PLACE`]. Which modules one needs stands in it (`depends=` in its
//! section `.modinfo`); what is built into the kernel is listed beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::GuestError;

/// Where a package with a kernel is unpacked.
pub const PLACE: &str = "/var/cache/mailkeep-guest/kernel";

/// A kernel with its modules.
#[derive(Debug)]
pub struct Kernel {
    /// What a boot loader starts.
    pub image: PathBuf,
    modules: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Kernel {
    /// The one that is unpacked here.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Kernel, GuestError> {
        Kernel::find_in(Path::new(PLACE))
    }

    fn find_in(place: &Path) -> Result<Kernel, GuestError> {
        let missing = || GuestError::Missing { what: format!("a kernel in {}", place.display()) };
        let image = one_of(&place.join("boot"), "vmlinuz-").ok_or_else(missing)?;
        let base = one_of(&place.join("lib/modules"), "").ok_or_else(missing)?;
        let list = base.join("modules.builtin");
        let text = fs::read_to_string(&list).map_err(GuestError::file("read", &list))?;
        let mut modules = BTreeMap::new();
        collect(&base.join("kernel"), &mut modules)?;
        let built_in = text.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Kernel { image, modules, built_in })
    }

    /// The files of these modules and of those that they need, in the order in which they can be loaded.
    ///
    /// # Errors
    /// One is not there.
    pub fn with_needed(&self, names: &[&str]) -> Result<Vec<PathBuf>, GuestError> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.add(&name.replace('-', "_"), &mut order, &mut seen)?;
        }
        Ok(order)
    }

    fn add(
        &self,
        name: &str,
        order: &mut Vec<PathBuf>,
        seen: &mut BTreeSet<String>,
    ) -> Result<(), GuestError> {
        if self.built_in.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.modules.get(name);
        let path = path.ok_or_else(|| GuestError::Missing { what: format!("the kernel module {name}") })?;
        let bytes = fs::read(path).map_err(GuestError::file("read", path))?;
        for needed in needed_by(&bytes) {
            self.add(&needed.replace('-', "_"), order, seen)?;
        }
        order.push(path.clone());
        Ok(())
    }
}

/// What stands behind `depends=` in a module.
fn needed_by(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let text: Vec<u8> = module[at + KEY.len()..].iter().copied().take_while(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The name of a module by its file, as the kernel says it.
fn module_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".ko")?.replace('-', "_"))
}

fn collect(folder: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<(), GuestError> {
    for entry in fs::read_dir(folder).map_err(GuestError::file("read", folder))? {
        let path = entry.map_err(GuestError::file("read", folder))?.path();
        if path.is_dir() {
            collect(&path, modules)?;
        } else if let Some(name) = module_name(&path) {
            modules.insert(name, path);
        }
    }
    Ok(())
}

/// The last entry of a folder, by name, that begins like this.
fn one_of(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let paths = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))).max()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_those_that_they_need() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().join("lib/modules/1.0");
        fs::create_dir_all(base.join("kernel/md")).unwrap();
        fs::create_dir_all(place.path().join("boot")).unwrap();
        fs::write(place.path().join("boot/vmlinuz-1.0"), "").unwrap();
        fs::write(base.join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        let module = |name: &str, needs: &str| {
            fs::write(base.join("kernel/md").join(name), format!("ELF\0depends={needs}\0name=x\0")).unwrap();
        };
        module("dm-mod.ko", "");
        module("dm-bufio.ko", "dm-mod");
        module("dm-snapshot.ko", "dm-bufio,dm-mod,ext4");
        let kernel = Kernel::find_in(place.path()).unwrap();
        let order = kernel.with_needed(&["dm-snapshot", "dm_mod", "ext4"]).unwrap();
        let names: Vec<_> = order.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["dm-mod.ko", "dm-bufio.ko", "dm-snapshot.ko"]);
        assert!(kernel.with_needed(&["dm-none"]).unwrap_err().to_string().contains("dm_none"));
        assert!(Kernel::find_in(&base).is_err());
    }
}
