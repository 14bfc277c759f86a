//! The options of sendmail(1), as scripts of thirty years give them: in clusters (`-ti`), with their argument beside or
//! behind them (`-fuser`, `-f user`). What only a sendmail of its own could obey is taken and does nothing; what would
//! change the meaning of a call, and is not known, is refused.

use std::ffi::OsString;
use std::path::PathBuf;

use staffetta_mail::{Notify, Return};

/// Names the relay, before the configuration.
const SERVER: &str = "STAFFETTA_SENDMAIL_SERVER";
/// Names the configuration, as for every other command.
const CONFIG: &str = "STAFFETTA_CONFIG";

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mode: Mode,
    /// `-f`, `-r`: the sender of the envelope; empty is the null sender.
    pub(super) from: Option<String>,
    /// `-F`: the name of whoever sends.
    pub(super) name: Option<String>,
    /// `-t`: recipients are those of the header, too.
    pub(super) from_header: bool,
    /// `-i`, `-oi`: a dot alone is part of the text.
    pub(super) dots: bool,
    /// `-N`
    pub(super) notify: Option<Notify>,
    /// `-R`
    pub(super) ret: Option<Return>,
    /// `-V`
    pub(super) envid: Option<String>,
    /// `-v`: what the relay says.
    pub(super) verbose: bool,
    /// `-C`, `--config`, else the environment.
    pub(super) config: Option<PathBuf>,
    /// `--server`, else the environment.
    pub(super) server: Option<String>,
    pub(super) recipients: Vec<String>,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Send a message.
    #[default]
    Send,
    /// `-bp`: list the queue.
    List,
}

/// Without an argument, and without an effect here: they are about how sendmail would deliver, or what it is used for anyhow.
const HARMLESS: &[char] = &['m', 'n', 'U', 'G', 's', 'c', 'x'];
/// The same with an argument: hop count, log label, options, protocol, body type, log file, queue.
const HARMLESS_WITH: &[char] = &['h', 'L', 'O', 'p', 'B', 'X', 'A', 'D', 'Q'];
/// The same with an argument only beside them: errors, debugging.
const HARMLESS_BESIDE: &[char] = &['e', 'd'];

impl Options {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// What is wrong with the call, for who made it.
    pub(super) fn parse(arguments: Vec<OsString>) -> Result<Self, String> {
        let environment = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let config = environment(CONFIG).map(PathBuf::from);
        let mut options = Self { server: environment(SERVER), config, ..Self::default() };
        let mut arguments = arguments
            .into_iter()
            .map(|argument| argument.into_string().map_err(|argument| format!("{} is not UTF-8", argument.display())));
        while let Some(argument) = arguments.next().transpose()? {
            let mut value = |option: &str| match arguments.next() {
                Some(value) => value,
                None => Err(format!("{option} needs an argument")),
            };
            match argument.as_str() {
                "--" => break,
                "--server" => options.server = Some(value("--server")?),
                "--config" => options.config = Some(value("--config")?.into()),
                long if long.starts_with("--") => return Err(format!("there is no option {long}")),
                cluster if cluster.len() > 1 && cluster.starts_with('-') => options.cluster(cluster, value)?,
                recipient => options.recipients.push(recipient.to_owned()),
            }
        }
        options.recipients.extend(arguments.collect::<Result<Vec<_>, _>>()?);
        Ok(options)
    }

    /// `-ti`, `-fuser`, `-f user`.
    fn cluster(&mut self, cluster: &str, mut value: impl FnMut(&str) -> Result<String, String>) -> Result<(), String> {
        let mut rest = cluster[1..].chars();
        while let Some(letter) = rest.next() {
            let beside = rest.as_str();
            let mut argument = || if beside.is_empty() { value(&format!("-{letter}")) } else { Ok(beside.to_owned()) };
            match letter {
                't' => self.from_header = true,
                'i' => self.dots = true,
                'v' => self.verbose = true,
                'f' | 'r' => self.from = Some(argument()?),
                'F' => self.name = Some(argument()?),
                'N' => self.notify = Some(notify(&argument()?)?),
                'R' => self.ret = Some(ret(&argument()?)?),
                'V' => self.envid = Some(envid(&argument()?)?),
                'C' => self.config = Some(argument()?.into()),
                'b' => self.mode = mode(&argument()?)?,
                'o' => self.dots |= argument()? == "i",
                letter if HARMLESS.contains(&letter) => continue,
                letter if HARMLESS_WITH.contains(&letter) => drop(argument()?),
                letter if HARMLESS_BESIDE.contains(&letter) => {}
                letter => return Err(format!("there is no option -{letter}")),
            }
            if !matches!(letter, 't' | 'i' | 'v') {
                break;
            }
        }
        Ok(())
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "m" => Ok(Mode::Send),
        "p" => Ok(Mode::List),
        other => Err(format!("-b{other} is not available: only -bm, to send, and -bp, to list the queue")),
    }
}

/// As in RFC 3461 section 4.1.
fn notify(text: &str) -> Result<Notify, String> {
    let mut notify = Notify::default();
    if text.eq_ignore_ascii_case("never") {
        return Ok(notify);
    }
    for word in text.split(',') {
        match word.to_ascii_lowercase().as_str() {
            "success" => notify.success = true,
            "failure" => notify.failure = true,
            "delay" => notify.delay = true,
            _ => {
                return Err(format!(
                    "-N {text}: allowed are never, or success, failure and delay with commas between them"
                ));
            }
        }
    }
    Ok(notify)
}

fn ret(text: &str) -> Result<Return, String> {
    match text.to_ascii_lowercase().as_str() {
        "full" => Ok(Return::Full),
        "hdrs" => Ok(Return::Headers),
        _ => Err(format!("-R {text}: allowed are full and hdrs")),
    }
}

/// As xtext (RFC 3461 section 4); an identifier has 100 characters at most.
fn envid(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 100 || !text.bytes().all(|octet| octet.is_ascii_graphic() || octet == b' ') {
        return Err(format!("-V {text:?}: allowed are 1 to 100 printable characters"));
    }
    let mut xtext = String::with_capacity(text.len());
    for octet in text.bytes() {
        if matches!(octet, b'+' | b'=' | b' ') {
            xtext.push_str(&format!("+{octet:02X}"));
        } else {
            xtext.push(char::from(octet));
        }
    }
    Ok(xtext)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect())
    }

    /// What callers are known to say: cron, PHP, mailx, monit, mdadm, git, logwatch.
    #[test]
    fn what_is_asked_for_is_understood_in_every_way_it_is_written() {
        let sent = |from: Option<&str>, from_header, dots, recipients: &[&str]| Options {
            from: from.map(str::to_owned),
            from_header,
            dots,
            recipients: recipients.iter().map(|&word| word.to_owned()).collect(),
            ..Options::default()
        };
        for (line, expected) in [
            ("-i -t -fuser@x", sent(Some("user@x"), true, true, &[])),
            ("-ti -f user@x", sent(Some("user@x"), true, true, &[])),
            (
                "-i -FCronDaemon -B8BITMIME -oem root",
                Options { name: Some("CronDaemon".into()), ..sent(None, false, true, &["root"]) },
            ),
            ("-oi -oem -odb -om -f root -- -odd@x.test", sent(Some("root"), false, true, &["-odd@x.test"])),
            ("-bm -U -m -n -h 3 -G -O ErrorMode=m -em a b@x", sent(None, false, false, &["a", "b@x"])),
            ("-r a@x -v b@x", Options { verbose: true, ..sent(Some("a@x"), false, false, &["b@x"]) }),
            ("-o i a", sent(None, false, true, &["a"])),
            ("-bp", Options { mode: Mode::List, ..Options::default() }),
        ] {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
        let dsn = parse("-N success,delay -Rhdrs -V a+b=1 --server h:25 --config /x a").unwrap();
        assert_eq!(dsn.notify, Some(Notify { success: true, failure: false, delay: true }));
        assert_eq!((dsn.ret, dsn.envid.as_deref()), (Some(Return::Headers), Some("a+2Bb+3D1")));
        assert_eq!((dsn.server.as_deref(), dsn.config), (Some("h:25"), Some("/x".into())));
        assert_eq!(parse("-Nnever a").unwrap().notify, Some(Notify::default()));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (line, word) in [
            ("-bs", "-bs"),
            ("-bd", "-bd"),
            ("-q", "-q"),
            ("-q30m", "-q"),
            ("-I", "-I"),
            ("--help-me a", "--help-me"),
            ("-f", "-f needs"),
            ("-N sometimes a", "sometimes"),
            ("-R all a", "all"),
            ("--server", "--server needs"),
        ] {
            assert!(parse(line).unwrap_err().contains(word), "{line}");
        }
    }
}
