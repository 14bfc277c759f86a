//! Paths of files.

use std::path::PathBuf;

use super::{Kind, Wrong, quoted};

/// The path of a file, not opened here.
pub(crate) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;
    const NOUN: &'static str = "the path of a file";

    fn allowed() -> String {
        "the path of a file".into()
    }

    fn parse(text: &str) -> Result<PathBuf, Wrong> {
        if text.is_empty() || text.contains('\0') {
            return Err(Wrong::not::<Self>(text));
        }
        Ok(text.into())
    }

    fn show(value: &PathBuf) -> String {
        quoted(&value.to_string_lossy())
    }
}
