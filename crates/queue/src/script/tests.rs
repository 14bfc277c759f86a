//! What the texts show about the scripts: no key is touched that was not declared.

use std::collections::BTreeSet;

use super::layout::{Layout, call};
use super::{Arg, LAYOUTS};
use crate::server::LocalServer;

/// A function of the scripts, and which of its parameters are keys.
struct Function<'a> {
    name: &'a str,
    text: &'a str,
    parameters: Vec<&'a str>,
    keys: Vec<usize>,
}

/// The word at the beginning.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The arguments up to the bracket that closes the call.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut all) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                all.push(text[start..at].trim());
                return all;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    all
}

/// What redis.call gets as its first key; TIME has none.
fn touched(text: &str) -> Vec<&str> {
    let calls = text.split("redis.call(").skip(1).map(arguments);
    calls
        .filter(|call| call[0] != "'TIME'")
        .flat_map(|call| if call[0] == "'UNLINK'" { call[1..].to_vec() } else { vec![call[1]] })
        .collect()
}

/// Which names hold keys: the declared ones, and what a loop or a local takes from a declared group.
fn known<'a>(layout: &Layout, text: &'a str, parameters: &[&'a str]) -> BTreeSet<&'a str> {
    let mut known: BTreeSet<&str> = layout.keys.iter().copied().chain(parameters.iter().copied()).collect();
    for group in layout.key_groups.iter().chain(parameters) {
        for part in text.split("for ").skip(1) {
            let Some((names, rest)) = part.split_once(" in ipairs(") else { continue };
            if word(rest) == *group && !names.contains('\n') {
                known.extend(names.split(", ").nth(1));
            }
        }
        known.extend(
            text.split("queue = ").skip(1).filter(|rest| rest.starts_with(&format!("{group}["))).map(|_| "queue"),
        );
    }
    known
}

fn is_key(layout: &Layout, known: &BTreeSet<&str>, text: &str) -> bool {
    match text.split_once('[') {
        Some((group, _)) => layout.key_groups.contains(&group),
        None => known.contains(text),
    }
}

/// The functions at the head of a script, and the rest of it.
fn functions(text: &str) -> (Vec<Function<'_>>, String) {
    let (mut all, mut rest) = (Vec::new(), String::new());
    for part in text.split("\n\n").flat_map(|part| part.split_inclusive("\nend\n")) {
        let Some((_, head)) = part.split_once("local function ") else {
            rest += part;
            continue;
        };
        let (name, text) = head.split_once('(').unwrap_or_default();
        let parameters = arguments(text);
        let used: Vec<&str> = touched(text).into_iter().chain(text.split("ipairs(").skip(1).map(word)).collect();
        let keys = (0..parameters.len()).filter(|&index| used.contains(&parameters[index])).collect();
        all.push(Function { name, text, parameters, keys });
    }
    (all, rest)
}

/// What is touched and was not declared.
fn undeclared(layout: &Layout, text: &str) -> Vec<String> {
    let (functions, body) = functions(text);
    let mut wrong = Vec::new();
    for function in &functions {
        let known = known(layout, function.text, &function.parameters);
        wrong.extend(touched(function.text).into_iter().filter(|key| !is_key(layout, &known, key)).map(str::to_owned));
    }
    let known = known(layout, &body, &[]);
    wrong.extend(touched(&body).into_iter().filter(|key| !is_key(layout, &known, key)).map(str::to_owned));
    for function in &functions {
        for call in body.split(&format!("{}(", function.name)).skip(1).map(arguments) {
            let given = function.keys.iter().map(|&index| call[index]);
            let declared = |key: &&str| is_key(layout, &known, key) || layout.key_groups.contains(key);
            wrong.extend(given.filter(|key| !declared(key)).map(str::to_owned));
        }
    }
    wrong
}

#[test]
fn no_script_touches_a_key_that_it_does_not_declare() {
    for layout in LAYOUTS {
        let one = layout.text.matches("redis.call").count() == 1;
        assert!(touched(layout.text).len() > usize::from(!one), "{}", layout.text);
        assert_eq!(undeclared(layout, layout.text), Vec::<String>::new(), "{}", layout.text);
        assert!(!layout.text.contains("KEYS") && !layout.text.contains("ARGV"), "only names: {}", layout.text);
    }
}

#[test]
fn a_key_that_was_made_up_or_that_is_an_argument_is_found() {
    let layout =
        Layout { flags: "", keys: &["due"], key_groups: &["chunks"], args: &["id"], arg_groups: &[], text: "" };
    let wrong = |text: &str| undeclared(&layout, text);
    assert_eq!(wrong("redis.call('GET', due)\nfor _, c in ipairs(chunks) do redis.call('DEL', c) end\n"), [""; 0]);
    assert_eq!(wrong("redis.call('GET', 'm:' .. id)\n"), ["'m:' .. id"]);
    assert_eq!(wrong("redis.call('UNLINK', due, id)\n"), ["id"]);
    assert_eq!(wrong("redis.call('GET', ids[1])\n"), ["ids[1]"]);
    let function = "local function put(key)\n  redis.call('GET', key)\nend\n";
    assert_eq!(wrong(&format!("{function}put(due)\nput(chunks[1])\n")), [""; 0]);
    assert_eq!(wrong(&format!("{function}put(id)\n")), ["id"]);
}

#[test]
fn names_get_their_places_by_their_order() {
    let layout =
        Layout { flags: " x", keys: &["a", "b"], key_groups: &["c"], args: &["d"], arg_groups: &["e"], text: "!" };
    let source = layout.source();
    assert!(source.starts_with("#!lua x\nlocal a, b = KEYS[1], KEYS[2]\nlocal d = ARGV[2]\n"), "{source}");
    assert!(
        source.contains("local high1, middle1, low1, high2, middle2, low2 = string.byte(ARGV[1], 1, -1)\n"),
        "{source}"
    );
    assert!(source.contains("local key_at, arg_at = 2, 2\n"), "{source}");
    assert!(source.ends_with(
        "local c = none; if high1 then c, key_at = group(KEYS, key_at, high1 * 65536 + middle1 * 256 + low1) end\n\
         local e = none; if high2 then e, arg_at = group(ARGV, arg_at, high2 * 65536 + middle2 * 256 + low2) end\n!"
    ));
}

#[test]
fn groups_of_every_size_arrive_whole_and_apart() {
    let layout = Layout {
        flags: "",
        keys: &["key"],
        key_groups: &["a", "b"],
        args: &["x"],
        arg_groups: &["c", "d"],
        text: "return { key, x, #a, a[#a] or '', #b, b[#b] or '', #c, c[#c] or '', #d, d[#d] or '' }",
    };
    let dir = tempfile::tempdir().unwrap();
    let server = LocalServer::start(dir.path()).unwrap();
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let digest: String = redis::cmd("SCRIPT").arg("LOAD").arg(layout.source()).query(&mut redis).unwrap();
    let names = |letter: char, size: usize| (1..=size).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    for sizes in
        [[0, 0, 0, 0], [1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 3], [2, 0, 1, 0], [255, 256, 257, 1], [70_000, 1, 1, 2]]
    {
        let [a, b, c, d] = [('a', 0), ('b', 1), ('c', 2), ('d', 3)].map(|(letter, at)| names(letter, sizes[at]));
        let [c, d] = [&c, &d].map(|group| group.iter().map(|text| Arg::from(text.as_str())).collect::<Vec<_>>());
        let call = call(&digest, &["k"], &[&a, &b], &[Arg::from(7)], &[&c, &d]);
        let answer: Vec<String> = call.query(&mut redis).unwrap();
        let groups = ['a', 'b', 'c', 'd'].into_iter().zip(sizes);
        let expected =
            groups.flat_map(|(letter, n)| [n.to_string(), if n > 0 { format!("{letter}{n}") } else { String::new() }]);
        assert_eq!(answer, ["k".to_owned(), "7".to_owned()].into_iter().chain(expected).collect::<Vec<_>>());
    }
}
