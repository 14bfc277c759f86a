//! Events about what other systems report.

use std::net::IpAddr;

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
        &["qid", "to", "from", "proof", "dsn", "class", "category", "scope", "remedy", "response"];

    fn json(&self, json: &mut Json<'_>) {
        json.display("qid", self.qid).str("to", self.to).str("from", self.from).str("proof", proof(self.proven));
        json.display("dsn", self.dsn).str("class", self.class.as_str()).str("category", self.class.category());
        json.str("scope", self.class.scope().as_str()).str("remedy", self.class.remedy().as_str());
        json.str("response", self.response);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let line = classic.line(None, "bounce").display(self.qid).path(": returned: to=", self.to);
        line.path(", from=", self.from).raw(", proof=").raw(proof(self.proven)).raw(", dsn=").display(self.dsn);
        line.raw(", class=").raw(self.class.as_str()).raw(" (").text(self.response).raw(")").end();
    }
}

/// Somebody complains about a message that he got, by way of his provider.
#[derive(Clone, Copy, Debug)]
pub struct Complaint<'a> {
    /// The report.
    pub qid: QueueId,
    /// Who got it; often withheld.
    pub to: Option<Text<'a>>,
    /// Whose message it was.
    pub from: Option<Text<'a>>,
    /// It left from an address that is this recipient's alone. Without that anybody may have written it.
    pub proven: bool,
    /// The kind of complaint.
    pub feedback: &'static str,
    /// Where the message came from.
    pub source: Option<IpAddr>,
    /// What wrote the report.
    pub user_agent: Option<Text<'a>>,
    /// The Message-ID of the message.
    pub message_id: Option<Text<'a>>,
}

impl Event for Complaint<'_> {
    const NAME: &'static str = "complaint";
    const ABOUT: &'static str = "A complaint about a message came in, to an address of `frontend.complaints`.";
    const FIELDS: &'static [&'static str] =
        &["qid", "to", "from", "proof", "feedback", "source_ip", "user_agent", "message_id"];

    fn json(&self, json: &mut Json<'_>) {
        json.display("qid", self.qid).opt("to", self.to).opt("from", self.from).str("proof", proof(self.proven));
        json.str("feedback", self.feedback);
        if let Some(source) = self.source {
            json.display("source_ip", source);
        }
        json.opt("user_agent", self.user_agent).opt("message_id", self.message_id.map(Text::whole));
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let line = classic.line(None, "bounce").display(self.qid).raw(": complaint: type=").raw(self.feedback);
        line.path(", to=", self.to.unwrap_or_default()).path(", from=", self.from.unwrap_or_default());
        line.raw(", proof=").raw(proof(self.proven)).end();
    }
}

const fn proof(proven: bool) -> &'static str {
    if proven { "verp" } else { "none" }
}
