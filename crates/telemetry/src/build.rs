//! Which build a program is: shown by `--version` and by `staffetta_build_info`.

/// A version, and the commit that it was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// Of the release.
    pub version: &'static str,
    /// What `scripts/commit` said, or `unknown`.
    pub commit: &'static str,
}

impl Build {
    /// Of a program that is none of ours, such as a test.
    pub const UNKNOWN: Self = Self::new("0", None);

    /// `commit` is empty where whoever built it had nothing to say, as an argument of a Dockerfile may be.
    #[must_use]
    pub const fn new(version: &'static str, commit: Option<&'static str>) -> Self {
        match commit {
            Some(commit) if !commit.is_empty() => Self { version, commit },
            _ => Self { version, commit: "unknown" },
        }
    }

    /// What stands behind the name of the program. It stays for as long as the process does, so it is asked for once.
    #[must_use]
    pub fn text(self) -> &'static str {
        Box::leak(format!("{} ({})", self.version, self.commit).into_boxed_str())
    }
}

/// The build of the program in whose `main.rs` this stands. The compiler knows that it depends on the variable: with another
/// commit the few lines of a `main` are compiled and linked anew, and no library is.
#[macro_export]
macro_rules! build {
    () => {
        $crate::Build::new(env!("CARGO_PKG_VERSION"), option_env!("STAFFETTA_COMMIT"))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_nobody_named_is_unknown() {
        assert_eq!(Build::new("1.2.3", None).text(), "1.2.3 (unknown)");
        assert_eq!(Build::new("1.2.3", Some("")), Build::new("1.2.3", None));
        assert_eq!(Build::new("1.2.3", Some("abc-dirty")).text(), "1.2.3 (abc-dirty)");
    }
}
