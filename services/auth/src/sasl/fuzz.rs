//! Mutated messages of all mechanisms: what must hold whatever a client says.

use secrecy::ExposeSecret as _;
use staffetta_config::Mechanism;
use staffetta_proto::auth::v1::Client;
use staffetta_testkit::fuzz::fuzz;
use zeroize::Zeroizing;

use super::{Denied, MAX_LOGIN, MAX_PASSWORD, Recalled, Step, start};

const WORDS: &[&[u8]] = &[
    b"\0",
    b"\0\0",
    b"\n",
    b"\r\n",
    b"john@example.org",
    b"*",
    b"=",
    b"\xc3\xa4",
    b"\xff",
    b" ",
    b"n,,n=",
    b",r=",
    b"p=tls-exporter,,n=",
    b"c=biws,r=",
    b",p=",
    b"=2C",
    b"n,,\x01",
    b"\x01",
    b"\x01\x01",
    b"user=",
    b"auth=Bearer ",
];

/// RFC 4616 section 2 and draft-murchison-sasl-login: an exchange is short, and what is verified could be an account's.
#[test]
fn fuzzed_messages_end_an_exchange_and_never_break_it() {
    let client = Client {
        tls_exporter: b"exporter".to_vec(),
        certified: vec!["john@example.org".to_owned()],
        ..Client::default()
    };
    fuzz("sasl", WORDS, |input| {
        for name in Mechanism::NAMES {
            // The first octet says whether there is an initial response; messages are lines.
            let initial = input.first().is_some_and(|octet| *octet != b'-');
            let mut messages =
                input.get(1..).unwrap_or_default().split(|octet| *octet == b'\n').map(|m| Zeroizing::new(m.to_vec()));
            let Some(mut mechanism) = start(name, &Mechanism::NAMES, &client) else { panic!("{name} is ours") };
            let mut step = mechanism.begin(if initial { messages.next() } else { None });
            let mut challenges = 0;
            loop {
                if let Step::Recall(login) = &step {
                    assert!(!login.is_empty() && login.len() <= MAX_LOGIN && !login.chars().any(char::is_control));
                    let verifier = crate::scheme::derived(b"x", b"salt", 1);
                    step = mechanism.recall(Recalled { login: login.clone(), verifier, refused: None });
                }
                if let Step::Redeem(bearer) = &step {
                    let login = bearer.login.clone().unwrap_or_default();
                    assert!(login.len() <= MAX_LOGIN && !login.chars().any(char::is_control));
                    assert!(bearer.token.expose_secret().bytes().all(|octet| octet.is_ascii_graphic()));
                    let denied = Denied { login, detail: "no", lacks_scope: false, scope: None, discovery: None };
                    step = mechanism.deny(denied);
                }
                let (Step::Challenge(_), Some(message)) = (&step, messages.next()) else { break };
                challenges += 1;
                assert!(challenges <= 3, "{name} asks without end");
                step = mechanism.respond(message);
            }
            assert!(!matches!(step, Step::Accept(_)), "{name}: nobody guesses a nonce");
            if let Step::Admit(names) = &step {
                assert_eq!((name, names), ("EXTERNAL", &client.certified));
            }
            if let Step::Verify(credentials) = step {
                let (login, password) = (&credentials.login, credentials.password.expose_secret());
                assert!(!login.is_empty() && login.len() <= MAX_LOGIN && !login.chars().any(char::is_control));
                assert!(!password.is_empty() && password.len() <= MAX_PASSWORD && !password.contains('\0'));
            }
        }
    });
}
