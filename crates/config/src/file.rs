//! How a file that a configuration names is read: a certificate, a key, a secret. One that never ends, or that waits for
//! somebody to write into it, must hold up nobody.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Octets that a file may have. Bundles of all authorities of the web have a fifth of it.
const MOST: usize = 4 * 1024 * 1024;

/// The content of a regular file (or a link to one), of 4 MiB at most.
///
/// # Errors
/// Of the system, and if it is something else or larger.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_file_within(path, MOST)
}

/// The same, of so many octets at most.
///
/// # Errors
/// As [`read_file`].
pub fn read_file_within(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    // Before it is opened: that alone waits for the other end of a pipe.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut content = Vec::new();
    let mut file = File::open(path)?;
    content.reserve_exact(usize::try_from(file.metadata()?.len()).unwrap_or(most).min(most));
    file.by_ref().take(most as u64).read_to_end(&mut content)?;
    if file.read(&mut [0])? > 0 {
        return Err(io::Error::other(format!("more than {} KiB", most / 1024)));
    }
    Ok(content)
}

/// The same of a text.
///
/// # Errors
/// As [`read_file`], and if it is no UTF-8.
pub fn read_text_file(path: &Path) -> io::Result<String> {
    String::from_utf8(read_file(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_and_one_that_is_too_large_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (size, read) in [(0, true), (2047, true), (2048, true), (2049, false)] {
            std::fs::write(&path, vec![b'x'; size]).unwrap();
            let content = read_file_within(&path, 2048);
            assert_eq!(content.map(|content| content.len()).ok(), read.then_some(size), "{size}");
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_text_file(&link).unwrap().len(), 2049);
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text_file(&link).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_never_ends_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
            assert_eq!(read_file(path).unwrap_err().to_string(), "not a file", "{}", path.display());
        }
    }
}
