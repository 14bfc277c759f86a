//! Password schemes against `doveadm pw`, both ways: what it writes is verified here, what is written here it verifies.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use staffetta_auth::scheme;

fn doveadm(arguments: &[&str]) -> Output {
    // An empty configuration: that of the machine is not ours.
    Command::new("doveadm").args(["-c", "/dev/null", "pw"]).args(arguments).output().unwrap()
}

/// In ASCII: Dovecot prepares no others, and the terminal's character set is not ours.
const PASSWORD: &str = "sum {mer}$un:1";

#[test]
fn what_doveadm_writes_is_verified() {
    for scheme in scheme::names().chain(["MD5", "SHA1", "PLAIN", "CLEARTEXT", "CLEAR", "CRYPT"]) {
        let binary = !scheme.contains("CRYPT") && !scheme.contains("ARGON") && !["PBKDF2", "MD5"].contains(&scheme);
        let suffixes: &[&str] = if binary && scheme != "SCRAM-SHA-256" { &["", ".hex", ".b64"] } else { &[""] };
        for suffix in suffixes {
            let output = doveadm(&["-s", &format!("{scheme}{suffix}"), "-p", PASSWORD]);
            let stored = String::from_utf8(output.stdout).unwrap();
            let stored = stored.trim();
            assert!(stored.starts_with('{'), "{scheme}{suffix}: {}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(scheme::verify(stored, PASSWORD.as_bytes()), Ok(true), "{stored}");
            assert_eq!(scheme::verify(stored, b"sum {mer}$un:2"), Ok(false), "{stored}");
        }
    }
}

#[test]
fn what_is_written_here_doveadm_verifies() {
    for scheme in scheme::names() {
        let stored = scheme::hash(scheme, &PASSWORD.into()).unwrap();
        let output = doveadm(&["-t", &stored, "-p", PASSWORD]);
        assert!(output.status.success(), "{stored}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!doveadm(&["-t", &stored, "-p", "sum {mer}$un:2"]).status.success(), "{stored}");
    }
}
