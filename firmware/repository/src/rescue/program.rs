//! A program for the disk: one static ELF file for one kind of machine, which needs nothing but a Linux kernel.

use thiserror::Error;

/// How the name of a program begins; the rest is what `uname -m` says.
const NAME: &str = "mailkeep-";
/// Machines by what ELF calls them: 64 bit, little-endian.
const MACHINES: [(u16, &str); 2] = [(62, "x86_64"), (183, "aarch64")];
/// Type of the program header that names the dynamic linker.
const INTERPRETER: u32 = 3;

/// Why a file cannot be carried by a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotAProgram {
    /// It is something else.
    #[error("it is no Linux program for x86-64 or arm64")]
    Foreign,
    /// It needs libraries.
    #[error("it is not static, so it would not run on every machine; `make rescue` builds one that does")]
    Dynamic,
}

/// A program for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RescueProgram {
    machine: &'static str,
    bytes: Vec<u8>,
}

impl RescueProgram {
    /// Takes the bytes of a static program; for which machine it is, they say themselves.
    ///
    /// # Errors
    /// [`NotAProgram`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, NotAProgram> {
        let machine = machine_of(&bytes).ok_or(NotAProgram::Foreign)?;
        if is_dynamic(&bytes).ok_or(NotAProgram::Foreign)? {
            return Err(NotAProgram::Dynamic);
        }
        Ok(RescueProgram { machine, bytes })
    }

    /// The machine it runs on, as `uname -m` says it.
    pub fn machine(&self) -> &'static str {
        self.machine
    }

    /// Its name on the disk.
    pub(crate) fn name(&self) -> String {
        format!("{NAME}{}", self.machine)
    }

    /// SHA-256 of it, in hexadecimal.
    pub fn sum(&self) -> String {
        super::sum_of(&self.bytes)
    }

    /// Where it lies in the repository's folder.
    pub fn path(&self) -> String {
        format!("{}/{}", crate::layout::RESCUE, self.name())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether a program on a disk can have this name.
pub(crate) fn is_name(name: &str) -> bool {
    name.strip_prefix(NAME).is_some_and(|machine| MACHINES.iter().any(|(_, known)| *known == machine))
}

fn machine_of(bytes: &[u8]) -> Option<&'static str> {
    // Magic, 64 bit, little-endian, version 1.
    bytes.strip_prefix(b"\x7fELF\x02\x01\x01")?;
    // A program, or one that may lie anywhere.
    matches!(u16_at(bytes, 16)?, 2 | 3).then_some(())?;
    let machine = u16_at(bytes, 18)?;
    MACHINES.iter().find(|(number, _)| *number == machine).map(|(_, name)| *name)
}

/// Whether a dynamic linker is asked for; `None` if the headers lead nowhere.
fn is_dynamic(bytes: &[u8]) -> Option<bool> {
    let start = usize::try_from(u64::from_le_bytes(bytes.get(32..40)?.try_into().ok()?)).ok()?;
    let (length, count) = (usize::from(u16_at(bytes, 54)?), usize::from(u16_at(bytes, 56)?));
    for number in 0..count {
        let at = start.checked_add(number.checked_mul(length)?)?;
        let kind = u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?);
        if kind == INTERPRETER {
            return Some(true);
        }
    }
    (count > 0).then_some(false)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_static_programs_are_taken() {
        // The test program itself needs a dynamic linker.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        if !cfg!(target_feature = "crt-static") {
            assert_eq!(RescueProgram::new(own.clone()), Err(NotAProgram::Dynamic));
        }
        for other in
            [Vec::new(), b"#!/bin/sh\n".to_vec(), b"\x7fELF".to_vec(), own[..60].to_vec(), own[..64].to_vec()]
        {
            assert_eq!(RescueProgram::new(other), Err(NotAProgram::Foreign));
        }
        assert!(is_name("mailkeep-x86_64") && is_name("mailkeep-aarch64"));
        for bad in ["mailkeep-", "mailkeep", "../mailkeep-x86_64", "mailkeep-riscv64", "mailkeep-x86_64/"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
