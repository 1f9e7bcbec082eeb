//! Another wall clock for some processes: a library that is loaded before all others and adds to the time what stands in
//! a file, at this very moment. Clocks that nobody sets are left alone, and so is what the kernel writes into files.
//!
//! It holds no lock: a process that is killed in it (and here they are) must not stop another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run;

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t shift(void) {
    const char *path = getenv("LAB_CLOCK");
    char text[32];
    long length = 0;
    int before = errno;
    int file = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        length = syscall(SYS_read, file, text, sizeof text - 1);
        syscall(SYS_close, file);
    }
    errno = before;
    if (length <= 0) return 0;
    text[length] = 0;
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out) *out = precise.tv_sec;
    return precise.tv_sec;
}
"#;

/// A wall clock of one's own.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// One that goes right, with its files in this folder.
    ///
    /// # Errors
    /// There is no C compiler.
    pub fn new(folder: &Path) -> Result<Clock> {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        fs::write(&source, LIBRARY)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O", "-o"]).arg(&library).arg(&source);
        run(&mut compiler)?.expect_code("cc", 0)?;
        let clock = Clock { library, file: folder.join("clock") };
        clock.put(0)?;
        Ok(clock)
    }

    /// Puts it forward or back by so many seconds from the right time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, seconds: i64) -> Result<()> {
        let next = self.file.with_extension("next");
        fs::write(&next, seconds.to_string())?;
        fs::rename(&next, &self.file).context("put the clock")
    }

    /// What a shell script says so that all it starts go by this clock.
    pub fn shell(&self) -> String {
        format!("export LD_PRELOAD={} LAB_CLOCK={}\n", self.library.display(), self.file.display())
    }
}
