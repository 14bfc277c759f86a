use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = v2::SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    header.extend(block);
    header
}

/// 198.51.100.7:40001 → 192.0.2.1:25
const TCP4: [u8; 12] = [198, 51, 100, 7, 192, 0, 2, 1, 0x9c, 0x41, 0, 25];

fn tcp6() -> Vec<u8> {
    let mut block = Vec::new();
    for ip in ["2001:db8::7", "::1"] {
        block.extend(ip.parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    block.extend([0x9c, 0x41, 0, 25]);
    block
}

/// Good headers, with what they say.
fn good() -> Vec<(Vec<u8>, Origin)> {
    let client = |text: &str| Origin::Client(text.parse().unwrap());
    let four = client("198.51.100.7:40001");
    let six = client("[2001:db8::7]:40001");
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let with = |tlvs: &[u8]| [&TCP4[..], tlvs].concat();
    vec![
        (b"PROXY TCP4 198.51.100.7 192.0.2.1 40001 25\r\n".to_vec(), four),
        (b"PROXY TCP6 2001:db8::7 ::1 40001 25\r\n".to_vec(), six),
        (b"PROXY TCP6 ::ffff:198.51.100.7 ::1 40001 25\r\n".to_vec(), four),
        (b"PROXY TCP4 198.51.100.7 192.0.2.1 0 65535\r\n".to_vec(), client("198.51.100.7:0")),
        (format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n").into_bytes(), client(&format!("[{longest}]:65535"))),
        (b"PROXY UNKNOWN\r\n".to_vec(), Origin::Unknown),
        (b"PROXY UNKNOWN anything at all\r\n".to_vec(), Origin::Unknown),
        (format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n").into_bytes(), Origin::Unknown),
        (v2(0x21, 0x11, &TCP4), four),
        (v2(0x21, 0x21, &tcp6()), six),
        (v2(0x21, 0x11, &with(b"\x05\x00\x04abcd\x20\x00\x03xyz")), four),
        (v2(0x21, 0x11, &with(&[0xe0; 5000])), four),
        (v2(0x21, 0x00, b""), Origin::Unknown),
        (v2(0x21, 0x00, b"whatever"), Origin::Unknown),
        (v2(0x21, 0x31, &[0; 216]), Origin::Unknown),
        (v2(0x20, 0x00, b""), Origin::Proxy),
        (v2(0x20, 0x11, &TCP4), Origin::Proxy),
        (v2(0x20, 0x11, b"abc"), Origin::Proxy),
        (v2(0x21, 0x11, &[&[255; 65535 - 12][..], &TCP4].concat()), client("255.255.255.255:65535")),
    ]
}

fn bad() -> Vec<Vec<u8>> {
    let mut rows: Vec<Vec<u8>> = [
        "EHLO client.test\r\n",
        "\0\u{1}\u{2} garbage\r\n",
        "proxy TCP4 198.51.100.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 1 2\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 1 2\r\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 1 2\rEHLO\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 1 2 3\r\n",
        "PROXY TCP4 198.51.100.7  192.0.2.1 1 2\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 1 2 \r\n",
        "PROXY  TCP4 198.51.100.7 192.0.2.1 1 2\r\n",
        "PROXY\tTCP4 198.51.100.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 198.51.100.777 192.0.2.1 1 2\r\n",
        "PROXY TCP4 198.51.100.07 192.0.2.1 1 2\r\n",
        "PROXY TCP4 198.51.100.7 nowhere 1 2\r\n",
        "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        "PROXY TCP4 198.51.100.7 ::1 1 2\r\n",
        "PROXY TCP6 198.51.100.7 192.0.2.1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 65536 2\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 1 99999\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 01 2\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 +1 2\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1 -1 2\r\n",
        "PROXY TCP4 198.51.100.7 192.0.2.1  2\r\n",
        "PROXY UDP4 198.51.100.7 192.0.2.1 1 2\r\n",
        "PROXY tcp4 198.51.100.7 192.0.2.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY unknown\r\n",
        "PROXY \r\n",
        "PROXY\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    rows.push(format!("PROXY UNKNOWN {}\r\n", "x".repeat(108 - 16)).into_bytes());
    rows.push(format!("PROXY TCP4 {}", "1".repeat(300)).into_bytes());
    rows.push(b"PROXY TCP4 198.51.100.7 192.0.2.\xff 1 2\r\n".to_vec());
    for (command, family, block) in [
        (0x11, 0x11, &TCP4[..]),
        (0x31, 0x11, &TCP4),
        (0x22, 0x11, &TCP4),
        (0x2f, 0x11, &TCP4),
        (0x21, 0x12, &TCP4),
        (0x21, 0x10, &TCP4),
        (0x21, 0x41, &TCP4),
        (0x21, 0x13, &TCP4),
        (0x21, 0x11, &TCP4[..11]),
        (0x21, 0x21, &TCP4),
        (0x21, 0x31, &[0; 215]),
    ] {
        rows.push(v2(command, family, block));
    }
    rows.push([&b"\r\n\r\n\0\r\nQUIX\n"[..], &v2(0x21, 0x11, &TCP4)[12..]].concat());
    rows
}

/// What the whole of `input` comes to when it arrives octet by octet.
fn step_by_step(input: &[u8]) -> Result<(Origin, usize), &'static str> {
    for end in 0..=input.len() {
        match parse(&input[..end]) {
            Ok(Parsed::Partial(missing)) => assert!(missing > 0),
            Ok(Parsed::Complete(origin, length)) => return Ok((origin, length)),
            Err(ProxyError::Malformed(why)) => return Err(why),
            Err(other) => panic!("{other}"),
        }
    }
    Err("unfinished")
}

#[test]
fn good_headers_are_understood_at_every_split_and_end_where_they_end() {
    for (header, origin) in good() {
        let shown = String::from_utf8_lossy(&header[..header.len().min(120)]).into_owned();
        assert_eq!(step_by_step(&header), Ok((origin, header.len())), "{shown:?}");
        for more in [&b"EHLO client.test\r\n"[..], b"PROXY UNKNOWN\r\n", b"\r\n", b"\0"] {
            let with_more = [&header[..], more].concat();
            match parse(&with_more) {
                Ok(Parsed::Complete(found, length)) => assert_eq!((found, length), (origin, header.len()), "{shown:?}"),
                other => panic!("{shown:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn bad_headers_are_refused_at_every_split_and_as_a_whole() {
    for header in bad() {
        let shown = String::from_utf8_lossy(&header).into_owned();
        assert!(step_by_step(&header).is_err_and(|why| why != "unfinished"), "{shown:?}");
        assert!(matches!(parse(&header), Err(ProxyError::Malformed(_))), "{shown:?}");
    }
}

/// The promise of `Partial`: so many octets belong to the header still. `read` would otherwise wait for nothing.
#[test]
fn what_is_said_to_be_missing_is_missing() {
    for (header, _) in good() {
        for end in 0..header.len() {
            if let Ok(Parsed::Partial(missing)) = parse(&header[..end]) {
                assert!(end + missing <= header.len(), "{end} + {missing} of {}", header.len());
            }
        }
    }
}

/// Whatever comes, the answer is the same in one piece and octet by octet, and no longer than what may be looked at.
#[test]
fn random_octets_never_panic_and_never_disagree_with_themselves() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let (good, bad) = (good(), bad());
    for _ in 0..20_000 {
        let base = match random() % 3 {
            0 => good[random() % good.len()].0.clone(),
            1 => bad[random() % bad.len()].clone(),
            _ => (0..random() % 64).map(|_| random() as u8).collect(),
        };
        let mut input = base[..base.len().min(300)].to_vec();
        for _ in 0..random() % 4 {
            if input.is_empty() {
                break;
            }
            let at = random() % input.len();
            match random() % 3 {
                0 => input[at] = random() as u8,
                1 => drop(input.remove(at)),
                _ => input.insert(at, b"\r\n\0 :.0"[random() % 7]),
            }
        }
        match (parse(&input), step_by_step(&input)) {
            (Ok(Parsed::Complete(origin, length)), stepped) => assert_eq!(stepped, Ok((origin, length)), "{input:?}"),
            (Ok(Parsed::Partial(_)), stepped) => {
                assert_eq!(stepped, Err("unfinished"), "{input:?}");
                assert!(input.len() < ROOM, "{input:?}");
            }
            (Err(_), stepped) => assert!(stepped.is_err_and(|why| why != "unfinished"), "{input:?}"),
        }
    }
}

#[test]
fn a_header_is_recognised_from_whoever_sends_it() {
    assert!(announces(b"PROXY TCP4 ") && announces(&v2(0x21, 0x11, &TCP4)));
    assert!(!announces(b"EHLO x\r\n") && !announces(b"PROX") && !announces(b"\r\n\r\n"));
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn the_header_is_taken_and_nothing_behind_it() {
    for (header, origin) in good() {
        let (mut proxy, mut tcp) = pair().await;
        let whole = [&header[..], b"EHLO client.test\r\n"].concat();
        let write = async {
            for piece in whole.chunks(whole.len() / 20 + 1) {
                proxy.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            proxy.shutdown().await.unwrap();
        };
        let (read, ()) = tokio::join!(read(&mut tcp), write);
        assert_eq!(read.unwrap(), origin);
        let mut rest = String::new();
        tcp.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "EHLO client.test\r\n");
    }
}

#[tokio::test]
async fn a_header_that_is_cut_off_or_does_not_come_is_an_error() {
    for (header, _) in good() {
        let (mut proxy, mut tcp) = pair().await;
        proxy.write_all(&header[..header.len() - 1]).await.unwrap();
        proxy.shutdown().await.unwrap();
        assert!(matches!(read(&mut tcp).await, Err(ProxyError::Lost(_))));
    }
    let (_proxy, mut tcp) = pair().await;
    assert!(matches!(read_within(&mut tcp, Duration::from_millis(10)).await, Err(ProxyError::Late)));
}
