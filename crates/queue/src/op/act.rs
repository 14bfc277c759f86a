//! What operators do to mail, and whom they block, is in the mail log. They have no log of their own that anybody keeps, so it
//! is noted in the partition, of mail in the step that does it, and a worker writes it down.

use redis::Cmd;
use staffetta_mail::QueueId;

use crate::admin::{Act, Object};
use crate::error::Fault;
use crate::script;
use crate::shared::Shared;
use crate::value;
use crate::{Entry, Error, Target};

/// Notes taken at once.
const GROUP: usize = 200;

/// The lines of a note behind the first: id, what was done, who did it, to which recipients.
pub(crate) fn note<'a>(id: QueueId, verb: &str, recipients: impl Iterator<Item = &'a str>) -> String {
    let mut text = format!("{id}\n{verb}\n{}", operator());
    for recipient in recipients {
        text.push('\n');
        text.push_str(recipient);
    }
    text
}

/// What stands in the place of the id where an act is about no message.
const NO_MESSAGE: &str = "-";
/// What stands before the number, where it is about what a selection has found. No kind of target.
const SELECTION: &str = "selection ";
/// Characters of a selection that are kept.
const LONGEST: usize = 500;

/// Who runs this program, by what the system says.
fn operator() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let name = named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

impl Shared {
    /// A note of what is done to the recipients of these jobs.
    pub(crate) fn note_of(entry: &Entry, verb: &str, jobs: Option<&[u16]>) -> String {
        let meant = entry.jobs.iter().filter(|job| jobs.is_none_or(|numbers| numbers.contains(&job.number)));
        note(entry.message.id, verb, meant.flat_map(|job| entry.addresses(job)))
    }

    /// Notes what a settlement has done.
    pub(crate) async fn note_act(&self, id: QueueId, ended: bool, note: &str) -> Result<(), Fault> {
        let acts = &self.partition(id.partition()).acts;
        let call = script::Note { acts, ended: ended.into(), act: note.into() }.call();
        self.node(id.partition()).admin.ask(call).await.map(drop)
    }

    /// Notes that a target was blocked or unblocked, in the first partition: it belongs to none.
    pub(crate) async fn note_target(&self, target: &Target, verb: &str, reason: &str) -> Result<(), Fault> {
        self.note_apart(&format!("{NO_MESSAGE}\n{verb}\n{}\n{target}\n{reason}", operator())).await
    }

    /// Notes what was done to so many deliveries that a selection has found, in the first partition: they may be in all.
    pub(crate) async fn note_selection(&self, verb: &str, selection: &str, deliveries: u64) -> Result<(), Fault> {
        let line: String = selection.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        self.note_apart(&format!("{NO_MESSAGE}\n{verb}\n{}\n{SELECTION}{deliveries}\n{line}", operator())).await
    }

    /// In the first partition.
    async fn note_apart(&self, note: &str) -> Result<(), Fault> {
        let call = script::Note { acts: &self.partition(0).acts, ended: false.into(), act: note.into() }.call();
        self.node(0).admin.ask(call).await.map(drop)
    }

    /// Takes notes out of a partition; nobody else gets them.
    pub(crate) async fn take_acts(&self, partition: u16) -> Result<Vec<Act>, Error> {
        let mut command = Cmd::new();
        command.arg("LPOP").arg(&self.partition(partition).acts).arg(GROUP);
        let answer = self.node(partition).settles.call(command, 128).await?;
        Ok(value::array(&answer).iter().filter_map(value::str).filter_map(parse).collect())
    }
}

fn parse(text: &str) -> Option<Act> {
    let mut lines = text.split('\n');
    let ended = lines.next()? == "1";
    let id = lines.next()?;
    let mut next = || lines.next().map(str::to_owned);
    let (verb, by) = (next()?, next()?);
    let object = if id == NO_MESSAGE {
        let (about, words) = (next()?, next()?);
        match about.strip_prefix(SELECTION) {
            Some(number) => Object::Selection { selection: words, deliveries: number.parse().ok()? },
            None => Object::Target { target: Target::parse(&about)?, reason: words },
        }
    } else {
        Object::Mail { id: id.parse().ok()?, ended, recipients: lines.map(str::to_owned).collect() }
    };
    Some(Act { object, verb, by })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_it_was_made() {
        let id = QueueId::new(3, 1_790_000_000_000, 77);
        let text = format!("1\n{}", note(id, "deleted", ["a@x.example", "\"b c\"@y.example"].into_iter()));
        let act = parse(&text).unwrap();
        let recipients = vec!["a@x.example".to_owned(), "\"b c\"@y.example".to_owned()];
        assert_eq!((act.object, &*act.verb), (Object::Mail { id, ended: true, recipients }, "deleted"));
        assert!(!act.by.is_empty());
        let act = parse("0\n-\nblocked\nroot\nlogin john doe\na thief").unwrap();
        let (target, reason) = (Target::login("john doe").unwrap(), "a thief".to_owned());
        assert_eq!((act.object, &*act.by), (Object::Target { target, reason }, "root"));
        let act = parse("0\n-\nheld\nroot\nselection 12\n--domain x.example").unwrap();
        let selection = "--domain x.example".to_owned();
        assert_eq!((act.object, &*act.verb), (Object::Selection { selection, deliveries: 12 }, "held"));
        assert!(parse("1\nx\ndeleted\nroot").is_none() && parse("").is_none());
    }
}
