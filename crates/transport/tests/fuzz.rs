//! Mutated PROXY headers: what must hold whatever a load balancer, or who claims to be one, sends.

use staffetta_testkit::fuzz::fuzz;
use staffetta_transport::proxy::{Parsed, announces, parse};

const WORDS: &[&[u8]] = &[
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"192.0.2.1 ",
    b"2001:db8::1 ",
    b"::ffff:192.0.2.1 ",
    b"65535",
    b"65536",
    b"00",
    b" ",
    b"\r\n",
    b"\r",
    b"\n",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x20",
    b"\x21",
    b"\x11\0\x0c",
    b"\x21\0\x24",
    b"\xff\xff",
];
/// What is looked at of a connection, at most.
const ROOM: usize = 256;

/// proxy-protocol.txt sections 2.1 and 2.2: a header is read the same however it is split, and it is known in little room
/// whether it is one.
#[test]
fn a_proxy_header_is_read_the_same_however_it_is_split() {
    fuzz("proxy", WORDS, |input| {
        let whole = parse(input);
        assert!(!matches!(whole, Ok(Parsed::Partial(_))) || input.len() < ROOM, "undecided");
        let mut refused = false;
        for seen in 0..=input.len().min(ROOM) {
            match parse(&input[..seen]) {
                Ok(Parsed::Partial(missing)) => {
                    assert!(missing > 0 && !refused, "after {seen}");
                    if let Ok(Parsed::Complete(_, length)) = whole {
                        assert!(seen + missing <= length, "more is asked for than there is, after {seen}");
                    }
                }
                Ok(complete @ Parsed::Complete(_, length)) => {
                    assert!(!refused && length > 0 && length <= 16 + 65_535);
                    assert_eq!(whole.as_ref().ok(), Some(&complete), "after {seen}");
                    assert!(announces(input), "a header that is not known for one");
                }
                Err(_) => {
                    refused = true;
                    assert!(whole.is_err(), "after {seen}");
                }
            }
        }
    });
}
