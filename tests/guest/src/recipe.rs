//! What a guest is made of, and its first start.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::archive::Archive;
use crate::kernel::Kernel;
use crate::machine::Prepared;
use crate::{GuestError, programs};

/// Modules that every guest has: its disks.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_blk"];

/// What a guest is made of.
#[derive(Debug, Default)]
pub struct Recipe {
    programs: Vec<PathBuf>,
    modules: Vec<String>,
    files: Vec<(PathBuf, u32, Vec<u8>)>,
}

impl Recipe {
    /// A shell and nothing else.
    pub fn new() -> Recipe {
        Recipe::default()
    }

    /// Adds a program by its path on this machine, under which it will be found in the guest too.
    #[must_use]
    pub fn program(mut self, path: &Path) -> Recipe {
        self.programs.push(path.to_owned());
        self
    }

    /// Adds programs by their names.
    ///
    /// # Errors
    /// One is not there.
    pub fn tools(mut self, names: &[&str]) -> Result<Recipe, GuestError> {
        for name in names {
            self.programs.push(programs::find(name)?);
        }
        Ok(self)
    }

    /// Adds modules of the kernel; those that they need come by themselves.
    #[must_use]
    pub fn modules(mut self, names: &[&str]) -> Recipe {
        self.modules.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Adds a file of root's.
    #[must_use]
    pub fn file(mut self, path: &str, permissions: u32, text: &str) -> Recipe {
        self.files.push((path.into(), permissions, text.as_bytes().to_vec()));
        self
    }

    /// Makes the archive in this folder, from which machines are booted.
    ///
    /// # Errors
    /// Something is missing on this machine.
    pub fn prepare(self, folder: &Path) -> Result<Prepared, GuestError> {
        let kernel = Kernel::find()?;
        let qemu = programs::find("qemu-system-x86_64")?;
        let path = folder.join("root.cpio");
        let out = File::create(&path).map_err(GuestError::file("make", &path))?;
        let mut archive = Archive::new(BufWriter::new(out));
        self.fill(&mut archive, &kernel)?;
        archive.finish().map_err(GuestError::file("write", &path))?;
        Ok(Prepared { qemu, kernel: kernel.image, archive: path, folder: folder.to_owned() })
    }

    fn fill(&self, archive: &mut Archive<BufWriter<File>>, kernel: &Kernel) -> Result<(), GuestError> {
        let packed = |path: &'static str| GuestError::file("pack", path);
        // As on Debian, where everything lies below /usr.
        for name in ["bin", "sbin", "lib", "lib64"] {
            let (link, target) = (Path::new("/").join(name), Path::new("usr").join(name));
            archive.folder(&Path::new("/").join(&target)).map_err(packed("/usr"))?;
            archive.link(&link, &target).map_err(packed("/usr"))?;
        }
        archive.device(Path::new("/dev/console"), (5, 1)).map_err(packed("/dev/console"))?;
        programs::pack(archive, &programs::find("busybox")?)?;
        archive.link(Path::new("/usr/bin/sh"), Path::new("busybox")).map_err(packed("/bin/sh"))?;
        let init = include_str!("init.sh");
        archive.file(Path::new("/init"), 0o755, init.as_bytes()).map_err(packed("/init"))?;
        let passwd = b"root:x:0:0:root:/root:/bin/sh\n";
        archive.file(Path::new("/etc/passwd"), 0o644, passwd).map_err(packed("/etc/passwd"))?;
        archive.file(Path::new("/etc/group"), 0o644, b"root:x:0:\n").map_err(packed("/etc/group"))?;
        for program in &self.programs {
            programs::pack(archive, program)?;
        }
        let names: Vec<&str> = MODULES.into_iter().chain(self.modules.iter().map(String::as_str)).collect();
        let mut order = String::new();
        for (number, path) in kernel.with_needed(&names)?.iter().enumerate() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let place = format!("/lib-modules/{number:03}-{name}");
            let bytes = fs::read(path).map_err(GuestError::file("read", path))?;
            archive.file(Path::new(&place), 0o644, &bytes).map_err(GuestError::file("pack", path))?;
            order.push_str(&place);
            order.push('\n');
        }
        archive.file(Path::new("/modules"), 0o644, order.as_bytes()).map_err(packed("/modules"))?;
        for (path, permissions, bytes) in &self.files {
            archive.file(path, *permissions, bytes).map_err(GuestError::file("pack", path))?;
        }
        Ok(())
    }
}
