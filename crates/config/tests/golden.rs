//! Configurations from outside: good ones, bad ones with their messages, the reference page.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use staffetta_config::Config;

/// Tests run in the folder of their package.
fn folder(name: &str) -> PathBuf {
    Path::new(".").join(name)
}

/// Compares with a file; `GOLDEN=write` writes it instead.
#[track_caller]
fn golden(path: &Path, actual: &str) {
    if std::env::var_os("GOLDEN").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; GOLDEN=write accepts", path.display());
}

#[test]
fn each_bad_file_gets_all_its_messages() {
    let mut files: Vec<PathBuf> = fs::read_dir(folder("tests/bad")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(files.len() > 5);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let message = match Config::parse(&text, name) {
            Ok(_) => "accepted".to_owned(),
            Err(errors) => errors.to_string(),
        };
        golden(&path.with_extension("err"), &(message + "\n"));
    }
}

#[test]
fn the_reference_page_is_up_to_date() {
    golden(&folder("../../docs/configuration.md"), &Config::reference());
}

#[test]
fn the_example_is_accepted_without_a_warning() {
    let config = Config::parse(&fs::read_to_string(folder("example.toml")).unwrap(), "example.toml").unwrap();
    assert_eq!(config.warnings(), Vec::<String>::new());
    assert_eq!(config.frontend.listener.len(), 3);
    assert_eq!(config.delivery.timeouts.connect.as_secs(), 15);
    assert_eq!(config.delivery.timeouts.greeting.as_secs(), 300);
}

#[test]
fn the_effective_values_are_a_configuration_themselves() {
    for text in ["", &fs::read_to_string(folder("example.toml")).unwrap()] {
        let effective = Config::parse(text, "text").unwrap().effective();
        let again = Config::parse(&effective, "effective").map_err(|e| format!("{e}\n{effective}")).unwrap();
        assert_eq!(again.effective(), effective);
    }
}
