//! Whatever the file says, the answer is a configuration or a list of mistakes.

use proptest::prelude::*;
use staffetta_config::Config;

const EXAMPLE: &str = include_str!("../example.toml");

/// Pieces that a configuration is made of, some of them where they do not belong.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        "\n",
        ",",
        ".",
        "\"",
        "'",
        "#",
        "\\",
        "redis",
        "url",
        "frontend",
        "listener",
        "delivery",
        "route",
        "timeouts",
        "1",
        "-9223372036854775809",
        "0x",
        "1e999",
        "nan",
        "\"5m\"",
        "\"é\"",
        "true",
        "1979-05-27",
        "\"\"\"",
        "\u{0}",
        "\r",
    ];
    prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// Every mistake has a place, and they come in the order of the file.
fn check(text: &str) -> Result<(), TestCaseError> {
    let Err(errors) = Config::parse(text, "f") else { return Ok(()) };
    prop_assert!(!errors.lines().is_empty());
    let place = |line: &String| line.strip_prefix("f:").and_then(|l| l.split(':').next()).and_then(|n| n.parse().ok());
    let places: Vec<usize> = errors.lines().iter().filter_map(place).collect();
    prop_assert!(places.is_sorted(), "{errors}");
    let lines = text.matches('\n').count() + 1;
    prop_assert!(places.iter().all(|&line| (1..=lines).contains(&line)), "{errors}");
    Ok(())
}

proptest! {
    #[test]
    fn made_of_pieces(pieces in prop::collection::vec(piece(), 0..60)) {
        check(&pieces.concat())?;
    }

    #[test]
    fn an_example_with_a_wound(at in 0..EXAMPLE.len(), length in 0usize..40, piece in piece()) {
        let mut text = EXAMPLE.to_owned();
        text.replace_range(at..(at + length).min(EXAMPLE.len()), &piece);
        check(&text)?;
    }
}
