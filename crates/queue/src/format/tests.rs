//! The octets of every version, written once and for ever: a change that makes one of these fail is a new version.

#![expect(clippy::unwrap_used, reason = "tests")]

use staffetta_mail::{BodyType, Notify, Recipient, Return, ReversePath, SpanContext};

use super::*;
use crate::{Codec, Kept};

const STAMP: [u8; 8] = *b"stampsta";

/// Everything that version 1 can say.
const FULL: [&str; 2] = [
    "017374616d707374610113616e6e614073656e6465722e6578616d706c65030b7840612e6578616d706c650101000101127266633832323b7840612e6578616d706c650b7940422e6578616d706c6500000b7a40612e6578616d706c650100000000010101010851513331343135390a7375626d697373696f6e010120010db8000000000000000000000025066c6170746f700104616e6e61c0cf2480d8c1a28c348098ffcd010209612e6578616d706c6509622e6578616d706c650300010003",
    "027374616d70737461cd010313616e6e614073656e6465722e6578616d706c650524030b7840612e6578616d706c6505010506127266633832323b7840612e6578616d706c65050d030b7940422e6578616d706c650510030b7a40612e6578616d706c650501000701010801010a0851513331343135390c0a7375626d697373696f6e0e1020010db800000000000000000000002510066c6170746f701204616e6e611503c0cf24170680d8c1a28c3419058098ffcd011b09612e6578616d706c651b09622e6578616d706c651d030001001f0403c0cf24",
];
/// Hardly anything, with its body.
const BARE: [&str; 2] = [
    "017374616d7073746100010a706f73746d6173746572000000000006626f756e63650100c000020700000680d8c1a28c34e0d40301096c6f63616c686f73740000626f64790d0a",
    "027374616d707374613b0300050c030a706f73746d61737465720c06626f756e63650e04c00002071000150106170680d8c1a28c341903e0d4031b096c6f63616c686f7374626f64790d0a",
];
const STATES: [&str; 2] = [
    "03010200bc050f34353020342e322e30206c6174657201040200",
    "00020301030400070300bc05080f34353020342e322e30206c617465720a03040200",
];
const FIRST_STATES: [&str; 2] = ["010001010000", "00020301010701010800"];
/// Only version 2 can say it: a prefix in front of chunks; pieces in the store.
const PREFIXED: &str = "027374616d70737461d0010313616e6e614073656e6465722e6578616d706c650524030b7840612e6578616d706c6505010506127266633832323b7840612e6578616d706c65050d030b7940422e6578616d706c650510030b7a40612e6578616d706c650501000701010801010a0851513331343135390c0a7375626d697373696f6e0e1020010db800000000000000000000002510066c6170746f701204616e6e611503c0cf24170680d8c1a28c3419058098ffcd011b09612e6578616d706c651b09622e6578616d706c651d030001001f0403c0cf24230113444b494d2d5369676e61747572653a20780d0a";
const OBJECTS: &str = "027374616d70737461cd010313616e6e614073656e6465722e6578616d706c650524030b7840612e6578616d706c6505010506127266633832323b7840612e6578616d706c65050d030b7940422e6578616d706c650510030b7a40612e6578616d706c650501000701010801010a0851513331343135390c0a7375626d697373696f6e0e1020010db800000000000000000000002510066c6170746f701204616e6e611503c0cf24170680d8c1a28c3419058098ffcd011b09612e6578616d706c651b09622e6578616d706c651d030001002b0402c0cf24";

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn full() -> (Envelope, Origin) {
    let recipient = |text: &str| Recipient::new(text.parse().unwrap());
    let notify = Notify { success: true, failure: false, delay: true };
    let envelope = Envelope {
        sender: ReversePath::Address("anna@sender.example".parse().unwrap()),
        recipients: vec![
            Recipient { notify: Some(notify), orcpt: Some("rfc822;x@a.example".into()), ..recipient("x@a.example") },
            recipient("y@B.example"),
            Recipient { notify: Some(Notify::default()), ..recipient("z@a.example") },
        ],
        body: BodyType::EightBitMime,
        ret: Some(Return::Headers),
        envid: Some("QQ314159".into()),
        smtputf8: false,
        require_tls: false,
        tls_optional: false,
    };
    let origin = Origin {
        listener: "submission".into(),
        client: Some("2001:db8::25".parse().unwrap()),
        helo: "laptop".into(),
        login: Some("anna".into()),
        span: None,
    };
    (envelope, origin)
}

fn bare() -> (Envelope, Origin) {
    let envelope = Envelope::new(ReversePath::Null, vec![Recipient::new("postmaster".parse().unwrap())]);
    let client = Some("192.0.2.7".parse().unwrap());
    (envelope, Origin { listener: "bounce".into(), client, helo: String::new(), login: None, span: None })
}

fn draft<'a>((envelope, origin): &'a (Envelope, Origin), destinations: &'a [Destination]) -> Draft<'a> {
    Draft {
        envelope,
        origin,
        size: 600_000,
        long_lines: false,
        arrived: 1_790_000_000_000,
        lifetime: 432_000_000,
        counted_for: None,
        destinations,
        assignment: &[0, 1, 0],
        body: Some(Chunks::in_redis(3, 600_000)),
        prefix: b"",
        inline: b"",
    }
}

fn small<'a>(of: &'a (Envelope, Origin), destinations: &'a [Destination]) -> Draft<'a> {
    let (size, lifetime, body) = (6, 60_000, None);
    Draft { size, lifetime, assignment: &[], body, inline: b"body\r\n", ..draft(of, destinations) }
}

/// What was read says what was written.
fn same(parsed: &Parsed, bytes: &[u8], draft: &Draft<'_>) {
    assert_eq!((&parsed.envelope, &parsed.origin), (draft.envelope, draft.origin));
    assert_eq!((parsed.size, parsed.arrived, parsed.lifetime), (draft.size, draft.arrived, draft.lifetime));
    assert_eq!(parsed.long_lines, draft.long_lines);
    assert_eq!(parsed.counted_for.as_deref(), draft.counted_for);
    assert_eq!((&*parsed.destinations, &*parsed.assignment), (draft.destinations, draft.assignment));
    assert_eq!(parsed.body, draft.body);
    assert_eq!(bytes[parsed.rest..], [draft.prefix, draft.inline].concat());
}

#[test]
fn every_version_of_a_record_has_its_octets() {
    let (full, bare) = (full(), bare());
    let (ab, local) = (["a.example", "b.example"].map(Destination::new), ["localhost"].map(Destination::new));
    for version in [1, 2] {
        for (golden, draft) in [(FULL, draft(&full, &ab)), (BARE, small(&bare, &local))] {
            let golden = octets(golden[usize::from(version) - 1]);
            assert_eq!(hex(&draft.encode(version, STAMP).unwrap()), hex(&golden), "version {version}");
            same(&Parsed::read(&golden, NEWEST).unwrap(), &golden, &draft);
        }
    }
}

#[test]
fn what_the_older_version_cannot_say_is_not_written_for_its_readers() {
    let (full, ab) = (full(), ["a.example", "b.example"].map(Destination::new));
    let prefixed = Draft { prefix: b"DKIM-Signature: x\r\n", ..draft(&full, &ab) };
    let body = Some(Chunks { kept: Kept::InStore, ..Chunks::in_redis(2, 600_000) });
    for (golden, draft) in [(PREFIXED, &prefixed), (OBJECTS, &Draft { body, ..draft(&full, &ab) })] {
        assert_eq!(draft.encode(1, STAMP), Err(WriteError(1)));
        let written = draft.encode(2, STAMP).unwrap();
        assert_eq!(hex(&written), hex(&octets(golden)));
        let parsed = Parsed::read(&written, NEWEST).unwrap();
        same(&parsed, &written, draft);
        assert_eq!(parsed.prefix, draft.prefix.len());
        assert_eq!(Parsed::read(&written, 1), Err(ReadError::Version(2)));
    }
    // In front of an inline body it is a part of the body.
    let inline = Draft { body: None, inline: b"body", ..prefixed };
    let written = inline.encode(1, STAMP).unwrap();
    same(&Parsed::read(&written, 1).unwrap(), &written, &inline);
}

/// Whoever does not know the field would send frames to a next hop.
#[test]
fn that_pieces_are_packed_must_not_be_overlooked() {
    let (full, ab) = (full(), ["a.example", "b.example"].map(Destination::new));
    for (kept, golden) in [(Kept::InRedis, "1f0403c0cf242f00"), (Kept::InStore, "2b0403c0cf242f00")] {
        let body = Some(Chunks { kept, codec: Codec::Zstd, ..Chunks::in_redis(3, 600_000) });
        let draft = Draft { body, ..draft(&full, &ab) };
        let written = draft.encode(2, STAMP).unwrap();
        assert!(hex(&written).ends_with(golden), "{}", hex(&written));
        same(&Parsed::read(&written, NEWEST).unwrap(), &written, &draft);
        assert_eq!(draft.encode(1, STAMP), Err(WriteError(1)));
        // The first number that this program does not know, and the same field in another place.
        let [mut newer, mut first] = [written.clone(), written.clone()];
        let at = newer.len() - 2;
        newer[at] = 0x35;
        assert_eq!(Parsed::read(&newer, NEWEST), Err(ReadError::Field(26)));
        let head = HEADER + 2;
        first[head..].rotate_right(2);
        assert_eq!(Parsed::read(&first, NEWEST).unwrap().body, body);
    }
}

/// Whoever does not know the field would look for the body where it was put at first. The record is longer than it was: that is how
/// workers see that theirs is of yesterday.
#[test]
fn where_a_body_was_moved_to_must_not_be_overlooked() {
    let (full, ab) = (full(), ["a.example", "b.example"].map(Destination::new));
    let of = |kept| {
        let body = Some(Chunks { kept, codec: Codec::Zstd, ..Chunks::in_redis(3, 600_000) });
        Draft { body, ..draft(&full, &ab) }
    };
    let was = of(Kept::InRedis).encode(2, STAMP).unwrap();
    let moved = with_offloaded_body(&was, NEWEST, 0x0a0b_0c0d).unwrap().unwrap();
    assert!(hex(&moved).ends_with("2b0403c0cf242f0037040a0b0c0d"), "{}", hex(&moved));
    assert!(moved.len() > was.len() && moved[..HEADER] == was[..HEADER]);
    same(&Parsed::read(&moved, NEWEST).unwrap(), &moved, &of(Kept::Offloaded(0x0a0b_0c0d)));
    let written = of(Kept::Offloaded(0x0a0b_0c0d)).encode(2, STAMP).unwrap();
    same(&Parsed::read(&written, NEWEST).unwrap(), &written, &of(Kept::Offloaded(0x0a0b_0c0d)));

    let mut cut = moved;
    let at = cut.len() - 5;
    // Two octets are no number of a move.
    cut[at] = 2;
    assert!(matches!(Parsed::read(&cut, NEWEST), Err(ReadError::Damaged(_))), "{:?}", Parsed::read(&cut, NEWEST));
    let old = of(Kept::InRedis);
    let old = Draft { body: Some(Chunks::in_redis(3, 600_000)), ..old }.encode(1, STAMP).unwrap();
    assert_eq!(with_offloaded_body(&old, NEWEST, 1), Ok(None), "version 1 has no words for it");
    assert_eq!(with_offloaded_body(b"", NEWEST, 1), Ok(None));
}

/// Nobody must read such a record who would not do what it asks: not even in a queue that stays with the older format.
#[test]
fn what_is_asked_of_the_next_hop_is_never_left_out() {
    let local = ["localhost"].map(Destination::new);
    for (number, golden) in [(18_u8, "2500"), (19, "2700")] {
        let (mut envelope, origin) = bare();
        (envelope.smtputf8, envelope.require_tls) = (number == 18, number == 19);
        let asking = (envelope, origin);
        let draft = small(&asking, &local);
        let written = draft.encode(1, STAMP).unwrap();
        assert!(hex(&written).contains(&format!("{golden}{}", hex(b"body"))), "{}", hex(&written));
        same(&Parsed::read(&written, NEWEST).unwrap(), &written, &draft);
        assert_eq!(Parsed::read(&written, 1), Err(ReadError::Version(2)));
    }
}

/// A reader of another time keeps the message from where the other side's TLS is broken, as ever.
#[test]
fn that_tls_is_optional_may_be_overlooked() {
    let local = ["localhost"].map(Destination::new);
    let (mut envelope, origin) = bare();
    envelope.tls_optional = true;
    let easy = (envelope, origin);
    let draft = small(&easy, &local);
    let written = draft.encode(2, STAMP).unwrap();
    assert!(hex(&written).contains(&format!("2c00{}", hex(b"body"))), "{}", hex(&written));
    same(&Parsed::read(&written, NEWEST).unwrap(), &written, &draft);
    let older = draft.encode(1, STAMP).unwrap();
    assert!(!Parsed::read(&older, 1).unwrap().envelope.tls_optional);
}

/// For the mail log alone: a reader of another time delivers without it, and the older version has no room for it.
#[test]
fn the_alias_of_a_recipient_may_be_overlooked() {
    let local = ["localhost"].map(Destination::new);
    let (mut envelope, origin) = bare();
    envelope.recipients[0].alias = Some("a@b.c".parse().unwrap());
    let aliased = (envelope, origin);
    let draft = small(&aliased, &local);
    let written = draft.encode(2, STAMP).unwrap();
    assert!(hex(&written).contains(&format!("{}0805{}", hex(b"postmaster"), hex(b"a@b.c"))), "{}", hex(&written));
    same(&Parsed::read(&written, NEWEST).unwrap(), &written, &draft);
    let older = draft.encode(1, STAMP).unwrap();
    assert_eq!(Parsed::read(&older, 1).unwrap().envelope, bare().0);
}

/// A reader of another time delivers it, and leaves the count as it is.
#[test]
fn for_whom_a_message_counts_may_be_overlooked() {
    let (bare, local) = (bare(), ["localhost"].map(Destination::new));
    let draft = Draft { counted_for: Some("a@b.c"), ..small(&bare, &local) };
    let written = draft.encode(2, STAMP).unwrap();
    assert!(hex(&written).contains(&format!("3005{}1b09", hex(b"a@b.c"))), "{}", hex(&written));
    same(&Parsed::read(&written, NEWEST).unwrap(), &written, &draft);
    assert_eq!(Parsed::read(&draft.encode(1, STAMP).unwrap(), 1).unwrap().counted_for, None);
}

/// A reader of another time sends them as they are, as everybody did then.
#[test]
fn that_there_are_long_lines_may_be_overlooked() {
    let (bare, local) = (bare(), ["localhost"].map(Destination::new));
    let draft = Draft { long_lines: true, ..small(&bare, &local) };
    let written = draft.encode(2, STAMP).unwrap();
    assert!(hex(&written).contains(&format!("2800{}", hex(b"body"))), "{}", hex(&written));
    same(&Parsed::read(&written, NEWEST).unwrap(), &written, &draft);
    assert!(!Parsed::read(&draft.encode(1, STAMP).unwrap(), 1).unwrap().long_lines);
}

/// Only the jobs are others; a field of a newer program stays.
#[test]
fn the_trace_of_a_message_may_be_overlooked() {
    let (mut bare, local) = (bare(), [Destination::new("localhost")]);
    bare.1.span = SpanContext::new([7; 16], [9; 8]);
    let draft = small(&bare, &local);
    let written = draft.encode(2, STAMP).unwrap();
    let field = format!("3218{}{}", "07".repeat(16), "09".repeat(8));
    assert!(hex(&written).contains(&field), "{}", hex(&written));
    same(&Parsed::read(&written, NEWEST).unwrap(), &written, &draft);
    assert_eq!(Parsed::read(&draft.encode(1, STAMP).unwrap(), 1).unwrap().origin.span, None);
}

#[test]
fn a_record_gets_other_jobs_in_its_own_version() {
    let (full, bare) = (full(), bare());
    let (ab, local) = (["a.example", "b.example"].map(Destination::new), ["localhost"].map(Destination::new));
    let aba = ["a.example", "b.example", "a.example"].map(Destination::new);
    for version in [1, 2] {
        for draft in [draft(&full, &ab), small(&bare, &local)] {
            let written = draft.encode(version, STAMP).unwrap();
            let changed = with_jobs(&written, NEWEST, &aba, &[0, 1, 2]).unwrap();
            let other = Draft { destinations: &aba, assignment: &[0, 1, 2], ..draft.clone() };
            same(&Parsed::read(&changed, NEWEST).unwrap(), &changed, &other);
            assert_eq!(changed[..HEADER], written[..HEADER], "version {version}: the same enqueue");
        }
    }
    let written = small(&bare, &local).encode(2, STAMP).unwrap();
    assert_eq!(with_jobs(&written, 1, &ab, &[0, 1]), Err(ReadError::Version(2)));
    // An optional field 90 in front of all others.
    let newer =
        [&written[..HEADER], &[written[HEADER] + 5, 0xb4, 0x01, 2, b'n', b'w'], &written[HEADER + 1..]].concat();
    let changed = with_jobs(&newer, NEWEST, &ab, &[0, 1]).unwrap();
    assert!(hex(&changed).contains("b401026e77") && changed.ends_with(b"body\r\n"), "{}", hex(&changed));
    assert_eq!(Parsed::read(&changed, NEWEST).unwrap().destinations, ab);
}

#[test]
fn every_version_of_a_state_has_its_octets() {
    let late = State {
        attempts: 3,
        delay_noticed: true,
        remaining: vec![0, 700],
        reason: "450 4.2.0 later".into(),
        status: Some(Status::new(4, 2, 0)),
        unknown: Vec::new(),
    };
    let first = State { attempts: 1, remaining: vec![1], ..State::default() };
    for version in [1, 2] {
        for (golden, state) in [(STATES, &late), (FIRST_STATES, &first)] {
            let golden = octets(golden[usize::from(version) - 1]);
            assert_eq!(hex(&state.encode(version)), hex(&golden), "version {version}");
            let stored = [b"0".as_slice(), &golden].concat();
            assert_eq!(State::read(&stored, NEWEST).unwrap().as_ref(), Some(state));
        }
    }
    assert_eq!(State::read(b"3", NEWEST), Ok(None));
    assert_eq!(State::read(b"", NEWEST), Ok(None));
    let stored = [b"0".as_slice(), &late.encode(2)].concat();
    assert_eq!(State::read(&stored, 1), Err(ReadError::Version(2)));
}

/// A field that a newer program has put in front of the body and at the end of the head, of the recipient, of the state.
#[test]
fn unknown_fields_are_overlooked_unless_they_are_needed() {
    let bare = bare();
    let local = ["localhost"].map(Destination::new);
    let draft = small(&bare, &local);
    let with = |key: u64| {
        let written = draft.encode(2, STAMP).unwrap();
        let (length, head) = (usize::from(written[9]), 10);
        let mut field = Vec::new();
        fields::put(&mut field, key, b"news");
        let mut out = written[..9].to_vec();
        fields::put_number(&mut out, (length + field.len()) as u64);
        out.extend_from_slice(&written[head..head + length]);
        out.extend_from_slice(&field);
        out.extend_from_slice(&written[head + length..]);
        out
    };
    let newer = with(fields::optional(99));
    same(&Parsed::read(&newer, NEWEST).unwrap(), &newer, &draft);
    assert_eq!(Parsed::read(&with(fields::needed(99)), NEWEST), Err(ReadError::Field(99)));
}

#[test]
fn a_state_keeps_what_a_newer_program_has_added() {
    let mut stored = [b"0".as_slice(), &State { attempts: 1, ..State::default() }.encode(2)].concat();
    fields::put(&mut stored, fields::optional(99), b"news");
    let state = State::read(&stored, NEWEST).unwrap().unwrap();
    for version in [1, 2] {
        let again = [b"0".as_slice(), &State { attempts: 2, ..state.clone() }.encode(version)].concat();
        assert_eq!(State::read(&again, NEWEST).unwrap().unwrap().unknown, state.unknown);
        assert!(again.ends_with(b"news"));
    }
    fields::put(&mut stored, fields::needed(98), b"");
    assert_eq!(State::read(&stored, NEWEST), Err(ReadError::Field(98)));
}

#[test]
fn a_version_of_the_future_is_left_alone() {
    assert_eq!(Parsed::read(b"\x03stampsta....", NEWEST), Err(ReadError::Version(3)));
    assert_eq!(State::read(b"0\x00\x03...", NEWEST), Err(ReadError::Version(3)));
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let (full, ab) = (full(), ["a.example", "b.example"].map(Destination::new));
    for version in [1, 2] {
        let whole = draft(&full, &ab).encode(version, STAMP).unwrap();
        for end in 0..whole.len() {
            assert!(Parsed::read(&whole[..end], NEWEST).is_err(), "{version}: {end}");
        }
        for at in 0..whole.len() {
            for octet in [0, 1, 0x7f, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[at] = octet;
                let _ = Parsed::read(&broken, NEWEST);
                let _ = State::read(&broken, NEWEST);
            }
        }
    }
}
