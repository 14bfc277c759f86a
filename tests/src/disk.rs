//! A disk that is full for one process, whenever a test says so: half of what is written still fits.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::preload;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int is_full(int file) {
    const char *mark = getenv("STAFFETTA_TEST_FULL");
    struct stat what;
    return mark && access(mark, F_OK) == 0 && fstat(file, &what) == 0 && S_ISREG(what.st_mode);
}

ssize_t write(int file, const void *octets, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (is_full(file)) {
        if (count > 1) return real(file, octets, count / 2);
        errno = ENOSPC;
        return -1;
    }
    return real(file, octets, count);
}
"#;

/// The disk of one process.
pub struct Disk {
    mark: PathBuf,
    environment: Vec<OsString>,
}

impl Disk {
    /// One with room.
    ///
    /// # Errors
    /// Without a C compiler, which the build needs too.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        preload::build(folder, "disk", SOURCE)?;
        let mark = folder.join("disk.full");
        let mut variable = OsString::from("STAFFETTA_TEST_FULL=");
        variable.push(&mark);
        Ok(Self { mark, environment: vec![preload::environment(folder, "disk"), variable] })
    }

    /// For the environment of the process.
    pub fn environment(&self) -> Vec<OsString> {
        self.environment.clone()
    }

    /// From now on there is no room.
    ///
    /// # Errors
    /// Of the system.
    pub fn fill(&self) -> anyhow::Result<()> {
        Ok(fs::write(&self.mark, "")?)
    }

    /// There is room again.
    ///
    /// # Errors
    /// Of the system.
    pub fn clear(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(&self.mark)?)
    }
}
