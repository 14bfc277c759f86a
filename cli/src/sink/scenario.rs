//! How a sink misbehaves.
//!
//! ```toml
//! starttls = "offered"      # offered | absent | broken
//!
//! [[rule]]                  # the first rule that fits answers
//! stage = "recipient"       # connect | mail | recipient | data | end
//! match = "full@"           # part of the sender (mail) or recipient (recipient, data, end); absent: always
//! times = 2                 # then the rule is spent; absent: for ever
//! reply = "452 4.2.2 Mailbox full"
//!
//! [[rule]]
//! stage = "end"
//! action = "drop"           # drop: close without a word; stall: say nothing more
//! ```

use serde::Deserialize;

/// What a sink does wrong. The default: nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// STARTTLS.
    #[serde(default)]
    pub starttls: StartTls,
    /// Tried in order.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// How STARTTLS behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartTls {
    /// It works.
    #[default]
    Offered,
    /// It is not offered.
    Absent,
    /// It is offered and accepted, and then the connection ends.
    Broken,
}

/// One deviation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// When it applies.
    pub stage: Stage,
    /// Only if the address contains this text.
    #[serde(default, rename = "match")]
    pub pattern: Option<String>,
    /// How often it applies.
    #[serde(default)]
    pub times: Option<u32>,
    /// A whole reply, such as `451 4.7.1 Try again`.
    #[serde(default)]
    pub reply: Option<String>,
    /// Or something ruder.
    #[serde(default)]
    pub action: Option<Action>,
}

/// A point in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Instead of the greeting.
    Connect,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// After the final dot.
    End,
}

/// What is done instead of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Close without a word.
    Drop,
    /// Say nothing more, keep the connection.
    Stall,
}

/// What a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deviation {
    Reply(String),
    Act(Action),
}

impl Scenario {
    /// From TOML.
    ///
    /// # Errors
    /// Says what is wrong, with the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for rule in &scenario.rules {
            match (&rule.reply, rule.action) {
                (Some(reply), None) if is_reply(reply) => {}
                (Some(reply), None) => return Err(format!("\"{reply}\" is not a reply such as 451 4.7.1 Try again")),
                (None, Some(_)) => {}
                _ => return Err("a rule needs either reply or action".to_owned()),
            }
        }
        Ok(scenario)
    }

    /// Adds a rule that replies.
    #[must_use]
    pub fn reply(mut self, stage: Stage, reply: &str) -> Self {
        self.rules.push(Rule { stage, pattern: None, times: None, reply: Some(reply.to_owned()), action: None });
        self
    }

    /// Adds a rule that acts.
    #[must_use]
    pub fn act(mut self, stage: Stage, action: Action) -> Self {
        self.rules.push(Rule { stage, pattern: None, times: None, reply: None, action: Some(action) });
        self
    }

    /// Limits the rule added last to addresses that contain `pattern`.
    #[must_use]
    pub fn only(mut self, pattern: &str) -> Self {
        if let Some(rule) = self.rules.last_mut() {
            rule.pattern = Some(pattern.to_owned());
        }
        self
    }

    /// Limits how often the rule added last applies.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        if let Some(rule) = self.rules.last_mut() {
            rule.times = Some(times);
        }
        self
    }

    /// Sets how STARTTLS behaves.
    #[must_use]
    pub fn starttls(mut self, starttls: StartTls) -> Self {
        self.starttls = starttls;
        self
    }

    /// The deviation due at `stage`, counted as used.
    pub(super) fn take(&mut self, stage: Stage, addresses: &[&str]) -> Option<Deviation> {
        let rule = self.rules.iter_mut().find(|rule| {
            rule.stage == stage
                && rule.times != Some(0)
                && rule.pattern.as_ref().is_none_or(|p| addresses.iter().any(|address| address.contains(p.as_str())))
        })?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        match (&rule.reply, rule.action) {
            (_, Some(action)) => Some(Deviation::Act(action)),
            (reply, None) => reply.clone().map(Deviation::Reply),
        }
    }
}

fn is_reply(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 4
        && matches!(bytes[0], b'2' | b'4' | b'5')
        && bytes[1..3].iter().all(u8::is_ascii_digit)
        && bytes[3] == b' '
        && !text.contains(['\r', '\n'])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn rules_are_used_up_in_order() {
        let mut scenario = Scenario::parse(
            r#"
            [[rule]]
            stage = "recipient"
            match = "full@"
            times = 1
            reply = "452 4.2.2 Mailbox full"
            [[rule]]
            stage = "recipient"
            action = "drop"
            "#,
        )
        .unwrap();
        let full = ["full@example.com"];
        assert_eq!(scenario.take(Stage::Recipient, &full), Some(Deviation::Reply("452 4.2.2 Mailbox full".into())));
        assert_eq!(scenario.take(Stage::Recipient, &full), Some(Deviation::Act(Action::Drop)));
        assert_eq!(scenario.take(Stage::Mail, &full), None);
    }

    #[test]
    fn a_wrong_scenario_is_refused() {
        for text in [
            "color = 1",
            "[[rule]]\nstage = \"lunch\"",
            "[[rule]]\nstage = \"end\"",
            "[[rule]]\nstage = \"end\"\nreply = \"later\"",
            "[[rule]]\nstage = \"end\"\nreply = \"451 later\"\naction = \"drop\"",
        ] {
            assert!(Scenario::parse(text).is_err(), "{text}");
        }
    }
}
