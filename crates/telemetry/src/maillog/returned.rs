//! Events about what other systems report.

use staffetta_mail::{QueueId, Status};
use staffetta_policy::diagnosis::Class;

use super::line::{Classic, Event, Json};
use super::text::Text;

/// A report has come in about somebody who did not get a message.
#[derive(Clone, Copy, Debug)]
pub struct RemoteBounce<'a> {
    /// The report.
    pub qid: QueueId,
    /// Who did not get it.
    pub to: Text<'a>,
    /// Whose message it was: whoever gets the report.
    pub from: Text<'a>,
    /// The report came to an address that is this recipient's alone. Without that anybody may have written it.
    pub proven: bool,
    /// Why.
    pub dsn: Status,
    /// What it is of.
    pub class: Class,
    /// What the report quotes.
    pub response: Text<'a>,
}

impl Event for RemoteBounce<'_> {
    const NAME: &'static str = "remote_bounce";
    const ABOUT: &'static str = "A report came in: a system behind ours has not delivered a message to somebody.";
    const FIELDS: &'static [&'static str] =
        &["qid", "to", "from", "proof", "dsn", "class", "category", "scope", "response"];

    fn json(&self, json: &mut Json<'_>) {
        json.display("qid", self.qid).str("to", self.to).str("from", self.from).str("proof", self.proof());
        json.display("dsn", self.dsn).str("class", self.class.as_str()).str("category", self.class.category());
        json.str("scope", self.class.scope().as_str()).str("response", self.response);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let line = classic.line(None, "bounce").display(self.qid).path(": returned: to=", self.to);
        line.path(", from=", self.from).raw(", proof=").raw(self.proof()).raw(", dsn=").display(self.dsn);
        line.raw(", class=").raw(self.class.as_str()).raw(" (").text(self.response).raw(")").end();
    }
}

impl RemoteBounce<'_> {
    const fn proof(&self) -> &'static str {
        if self.proven { "verp" } else { "none" }
    }
}
