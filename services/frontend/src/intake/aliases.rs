//! The aliases among the recipients of one message, from RCPT until it is queued.
//!
//! The client speaks of the alias until then; in the queue there are those to whom it leads, each with what was said of
//! the alias (RFC 3461 section 5.2.7): NOTIFY as it is, ORCPT with the name of the alias unless the client gave one.

use staffetta_mail::{Address, Envelope, Recipient};
use staffetta_smtp::xtext;

/// The longest ORCPT that servers must take (RFC 3461 section 5.4).
const MAX_ORCPT: usize = 500;
/// Recipients of one message, aliases followed, where fewer may be named: so that any alias alone can be.
const MOST: usize = 1000;

/// The aliases in the order in which they were named, each with those in its place. Empty for most messages.
#[derive(Debug, Default)]
pub(crate) struct Aliases(Vec<(Address, Vec<Recipient>)>);

/// The recipients in the place of one that is an alias.
pub(super) fn members(named: &Recipient, destinations: &[Address]) -> Vec<Recipient> {
    destinations.iter().map(|address| member(named, address)).collect()
}

/// One of them.
pub(super) fn member(named: &Recipient, address: &Address) -> Recipient {
    let own = || Some(xtext::orcpt(&named.address)).filter(|text| text.len() <= MAX_ORCPT);
    Recipient {
        address: address.clone(),
        notify: named.notify,
        orcpt: named.orcpt.clone().or_else(own),
        alias: Some(named.address.clone()),
    }
}

impl Aliases {
    /// Is there one?
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// May so many be added for a message that has `named` recipients already, of which a client may name `limit`? The
    /// others go with another message.
    pub(super) fn has_room(&self, members: usize, named: usize, limit: usize) -> bool {
        named == 0 || named + self.members() + members <= limit.max(MOST)
    }

    fn members(&self) -> usize {
        self.0.iter().map(|(_, members)| members.len()).sum()
    }

    pub(super) fn add(&mut self, alias: Address, members: Vec<Recipient>) {
        self.0.push((alias, members));
    }

    /// Is this one an alias that was named before?
    pub(super) fn has(&self, alias: &Address) -> bool {
        self.0.iter().any(|(known, _)| known == alias)
    }

    /// Puts the members into the place of their aliases.
    pub(super) fn expand(mut self, envelope: &mut Envelope) {
        for recipient in std::mem::take(&mut envelope.recipients) {
            match self.0.iter().position(|(alias, _)| *alias == recipient.address) {
                Some(place) => envelope.recipients.extend(self.0.swap_remove(place).1),
                None => envelope.recipients.push(recipient),
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use staffetta_mail::{Notify, ReversePath};

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    /// RFC 3461 section 5.2.7: what was said of the alias is said of those to whom it leads.
    #[test]
    fn members_stand_in_the_place_of_their_alias_with_what_was_said_of_it() {
        let notify = Some(Notify { success: true, ..Notify::default() });
        let info = Recipient { notify, ..Recipient::new(address("info+x@ours.test")) };
        let told =
            Recipient { orcpt: Some("rfc822;old@else.test".to_owned()), ..Recipient::new(address("team@ours.test")) };
        let mut aliases = Aliases::default();
        for (alias, to) in [(&info, ["john@ours.test", "x@else.test"]), (&told, ["lisa@ours.test", "john@ours.test"])] {
            aliases.add(alias.address.clone(), members(alias, &to.map(address)));
        }
        let plain = Recipient::new(address("mary@ours.test"));
        let mut envelope = Envelope::new(ReversePath::Null, vec![plain.clone(), info.clone(), told.clone()]);
        assert!(aliases.has(&info.address) && !aliases.has(&plain.address));
        aliases.expand(&mut envelope);
        let told_of: Vec<_> = envelope.recipients.iter().map(|to| (to.address.as_str(), to.orcpt.as_deref())).collect();
        let (ours, old) = (Some("rfc822;info+2Bx@ours.test"), Some("rfc822;old@else.test"));
        let expected = [
            ("mary@ours.test", None),
            ("john@ours.test", ours),
            ("x@else.test", ours),
            ("lisa@ours.test", old),
            ("john@ours.test", old),
        ];
        assert_eq!(told_of, expected);
        let named: Vec<_> = envelope.recipients.iter().map(|to| (to.alias.as_ref(), to.notify)).collect();
        let (info, team) = ((Some(&info.address), notify), (Some(&told.address), None));
        assert_eq!(named, [(None, None), info, info, team, team]);
    }

    #[test]
    fn an_alias_alone_always_has_room_and_none_makes_a_message_endless() {
        let mut aliases = Aliases::default();
        assert!(aliases.has_room(MOST, 0, 10));
        let named = Recipient::new(address("all@ours.test"));
        aliases.add(named.address.clone(), members(&named, &vec![address("x@else.test"); 600]));
        assert!(aliases.has_room(399, 1, 10) && !aliases.has_room(400, 1, 10));
        assert!(aliases.has_room(4_399, 1, 5_000) && !aliases.has_room(4_400, 1, 5_000));
    }
}
