//! Events about logins that behave as if somebody else had their password, and about whom an operator has blocked.

use jiff::Timestamp;
use staffetta_policy::conduct::Crossing;

use super::line::{Classic, Event, Json};
use super::text::Text;

impl Event for Crossing {
    const NAME: &'static str = "login_over_threshold";
    const LEVEL: &'static str = "warn";
    const ABOUT: &'static str = "A login came to a step of `[frontend.abuse]`.";
    const FIELDS: &'static [&'static str] = &["login", "hour", "signal", "count", "threshold", "step"];

    fn json(&self, json: &mut Json<'_>) {
        json.str("login", Text::from(&self.login).login())
            .display("hour", beginning(self.hour))
            .str("signal", self.signal.name())
            .number("count", self.count)
            .number("threshold", self.threshold)
            .str("step", self.step.name());
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let line = classic.line(None, "abuse").raw("warning: ").path("login=", Text::from(&self.login).login());
        line.raw(", hour=").display(beginning(self.hour)).raw(", signal=").raw(self.signal.name());
        line.raw(", count=").number(self.count).raw(", threshold=").number(self.threshold);
        line.raw(", step=").raw(self.step.name()).end();
    }
}

/// An operator has blocked a login, the clients of a network or a domain, or ended that.
#[derive(Clone, Copy, Debug)]
pub struct Barred<'a> {
    /// `login`, `client`, `domain`, `recipient`, `destination`, `slow`, `fewer`, `unpipelined` or `source`.
    pub kind: &'static str,
    /// Whom.
    pub name: &'a str,
    /// What was done: `blocked` or `unblocked`, `suppressed` or `unsuppressed`,
    /// `suspended`, `curbed` or `resumed`.
    pub verb: &'a str,
    /// Who did it.
    pub by: &'a str,
    /// Why, in the operator's words; may be empty.
    pub reason: &'a str,
}

impl Event for Barred<'_> {
    const NAME: &'static str = "administered";
    const ABOUT: &'static str = "An operator blocked a login, the clients of a network or a domain, suppressed a recipient, suspended a destination, \
         or ended that; or a rule suspended or curbed a destination, or suppressed a recipient.";
    const FIELDS: &'static [&'static str] = &["kind", "name", "action", "by", "reason"];

    fn json(&self, json: &mut Json<'_>) {
        json.str("kind", self.kind)
            .str("name", self.name())
            .str("action", self.verb)
            .str("by", Text::from(self.by).whole());
        json.str("reason", self.reason);
    }

    fn classic(&self, classic: &mut Classic<'_>) {
        let line = classic.line(None, "abuse").raw(self.kind).raw("=").text(self.name());
        line.raw(", ")
            .text(self.verb)
            .raw(" by ")
            .text(Text::from(self.by).whole())
            .raw(", reason=")
            .text(self.reason)
            .end();
    }
}

impl Barred<'_> {
    fn name(&self) -> Text<'_> {
        let name = Text::from(self.name);
        if self.kind == "login" { name.login() } else { name }
    }
}

/// When an hour begins, as RFC 3339 writes it.
fn beginning(hour: u64) -> Timestamp {
    let second = i64::try_from(hour).unwrap_or(i64::MAX).saturating_mul(3_600);
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}
