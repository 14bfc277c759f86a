//! SCRAM-SHA-256 (RFC 5802, RFC 7677): the client proves that it knows the password and hears proof that the server has
//! its verifier; neither sends it. Under the name SCRAM-SHA-256-PLUS both also prove that they are the two ends of one TLS
//! connection (RFC 5802 section 6), by its exporter (RFC 9266) or by the server's certificate (RFC 5929 section 4).
//!
//! The machine asks for the verifier of a login with [`Step::Recall`] and is given one whoever that is: for a login that
//! does not exist, a decoy that no proof fits. The server's last word is a challenge, since `235` has no room for it
//! (RFC 4954 section 4): the client answers with nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use staffetta_proto::auth::v1::Client;
use subtle::ConstantTimeEq as _;

use super::{Mechanism, Message, Recalled, Step, escaped_login};
use crate::scheme::{Key, Verifier, mac};

/// Octets of chance in our part of the nonce.
const CHANCE: usize = 18;
/// Longest nonce of a client.
const MAX_NONCE: usize = 256;

/// What an exchange has to do with the connection that it is on.
pub(super) enum Binding {
    /// Nothing. A client that thinks so for want of an offer is right or, if there was one, has been deceived.
    Without { offered: bool },
    /// It is tied to the connection by either of these, where it has them.
    With { exporter: Vec<u8>, end_point: Vec<u8> },
}

/// One exchange.
pub(super) struct Scram {
    binding: Binding,
    turn: Turn,
}

/// What an exchange waits for.
#[derive(Default)]
enum Turn {
    /// The client's first message, or the verifier that it asks for.
    #[default]
    First,
    Recalling(First),
    /// The proof.
    Proof(Box<Proof>),
    /// The empty answer to our own proof.
    End(String),
}

/// What the client said first.
struct First {
    login: String,
    /// Flag of channel binding and authorisation identity, as they stood there, with what binds the channel.
    header: Vec<u8>,
    /// The rest of the message, which both sides sign.
    bare: String,
    nonce: String,
}

/// What a proof is measured by.
struct Proof {
    recalled: Recalled,
    login: String,
    header: Vec<u8>,
    nonce: String,
    /// What was said until now.
    said: String,
}

impl Mechanism for Scram {
    fn begin(&mut self, initial: Option<Message>) -> Step {
        match initial {
            Some(message) => self.respond(message),
            None => Step::Challenge(Vec::new()),
        }
    }

    fn respond(&mut self, message: Message) -> Step {
        let Ok(text) = std::str::from_utf8(&message) else { return Step::Malformed("the message is not UTF-8") };
        match std::mem::take(&mut self.turn) {
            Turn::First => match First::parse(text, &self.binding) {
                Ok(first) => {
                    let login = first.login.clone();
                    self.turn = Turn::Recalling(first);
                    Step::Recall(login)
                }
                Err(step) => step,
            },
            Turn::Proof(proof) => match proof.judge(text) {
                Ok((login, signature)) => {
                    self.turn = Turn::End(login);
                    Step::Challenge(format!("v={}", STANDARD.encode(signature)).into_bytes())
                }
                Err(step) => step,
            },
            Turn::End(login) if text.is_empty() => Step::Accept(login),
            Turn::End(_) => Step::Malformed("something came after the proof"),
            Turn::Recalling(_) => Step::Malformed("a message out of turn"),
        }
    }

    fn recall(&mut self, recalled: Recalled) -> Step {
        let Turn::Recalling(first) = std::mem::take(&mut self.turn) else {
            return Step::Malformed("a message out of turn");
        };
        let First { login, header, bare, nonce } = first;
        let nonce = nonce + &STANDARD.encode(rand::random::<[u8; CHANCE]>());
        let Verifier { salt, iterations, .. } = &recalled.verifier;
        let challenge = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        let said = format!("{bare},{challenge}");
        self.turn = Turn::Proof(Box::new(Proof { recalled, login, header, nonce, said }));
        Step::Challenge(challenge.into_bytes())
    }
}

impl Scram {
    pub(super) fn new(binding: Binding) -> Self {
        Self { binding, turn: Turn::First }
    }
}

impl Binding {
    /// `offered`: it is where there is something to bind to.
    pub(super) fn without(offered: bool, client: &Client) -> Self {
        let could = !client.tls_exporter.is_empty() || !client.tls_server_end_point.is_empty();
        Self::Without { offered: offered && could }
    }

    /// To this client's connection.
    pub(super) fn of(client: &Client) -> Self {
        Self::With { exporter: client.tls_exporter.clone(), end_point: client.tls_server_end_point.clone() }
    }

    /// What binds the channel, if the client's flag fits (RFC 5802 section 7: `gs2-cbind-flag`).
    fn chosen(&self, flag: &str) -> Result<&[u8], Refused> {
        match (self, flag) {
            (Self::Without { .. }, "n") | (Self::Without { offered: false }, "y") => Ok(&[]),
            // RFC 5802 section 6: the client can bind, and did not see that we can.
            (Self::Without { offered: true }, "y") => Err(Refused::Deceived),
            (Self::With { exporter, .. }, "p=tls-exporter") if !exporter.is_empty() => Ok(exporter),
            (Self::With { end_point, .. }, "p=tls-server-end-point") if !end_point.is_empty() => Ok(end_point),
            (Self::With { .. }, _) if flag.starts_with("p=") => Err(Refused::Unfit("no such channel binding here")),
            (Self::With { .. }, _) => Err(Refused::Unfit("SCRAM with PLUS binds to the channel")),
            (Self::Without { .. }, _) => Err(Refused::Unfit("SCRAM without PLUS does not bind to the channel")),
        }
    }
}

/// Why a flag of channel binding is not taken.
enum Refused {
    /// It makes no sense here.
    Unfit(&'static str),
    /// Somebody has taken the offer out of our list of mechanisms on the way.
    Deceived,
}

impl First {
    /// `gs2-header client-first-message-bare` (RFC 5802 section 7).
    fn parse(text: &str, binding: &Binding) -> Result<Self, Step> {
        let malformed = Step::Malformed;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("SCRAM begins with flag, identity, name and nonce"));
        };
        let bound = match binding.chosen(flag) {
            Err(Refused::Unfit(detail)) => return Err(malformed(detail)),
            chosen => chosen,
        };
        let mut fields = bare.split(',');
        let name = fields.next().and_then(|field| field.strip_prefix("n="));
        let name = name.ok_or(malformed("SCRAM wants the name first"))?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| (1..=MAX_NONCE).contains(&nonce.len()) && is_printable(nonce));
        let nonce = nonce.ok_or(malformed("SCRAM wants a nonce of printable characters"))?;
        let login = escaped_login(name)?;
        if !identity.is_empty() && identity.strip_prefix("a=") != Some(name) {
            return Err(Step::Refuse { login, detail: "asks to act for another identity" });
        }
        let Ok(bound) = bound else {
            return Err(Step::Refuse { login, detail: "somebody hides from the client that we bind to the channel" });
        };
        let header = [format!("{flag},{identity},").as_bytes(), bound].concat();
        Ok(Self { login, header, bare: bare.to_owned(), nonce: nonce.to_owned() })
    }
}

impl Proof {
    /// `client-final-message`: the login as the back end spells it, and what the client has to see to believe us.
    fn judge(self, text: &str) -> Result<(String, Key), Step> {
        let Self { recalled: Recalled { login: canonical, verifier, refused }, login, header, nonce, said } = self;
        let (signed, proof) = text.rsplit_once(",p=").ok_or(Step::Malformed("SCRAM wants a proof at the end"))?;
        let proof: Option<Key> = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok());
        let proof = proof.ok_or(Step::Malformed("the proof is not one of SHA-256"))?;
        let mut fields = signed.split(',');
        let bound = fields.next().and_then(|field| STANDARD.decode(field.strip_prefix("c=")?).ok());
        let bound = bound.ok_or(Step::Malformed("SCRAM wants what binds the channel first"))?;
        if fields.next().and_then(|field| field.strip_prefix("r=")) != Some(&nonce) {
            return Err(Step::Malformed("the nonce is not that of this exchange"));
        }
        // RFC 5802 section 7: channel-bindings-dont-match. Somebody may stand between the client and us.
        if bound != header {
            return Err(Step::Refuse { login, detail: "the client sees another channel, or has said another header" });
        }
        let whole = format!("{said},{signed}");
        let mut key = mac(&verifier.stored_key, whole.as_bytes());
        key.iter_mut().zip(proof).for_each(|(octet, proof)| *octet ^= proof);
        let right = bool::from(Key::from(Sha256::digest(key)).ct_eq(&verifier.stored_key));
        match refused {
            None if right => Ok((canonical, mac(&verifier.server_key, whole.as_bytes()))),
            None => Err(Step::Refuse { login, detail: "wrong password" }),
            Some(detail) => Err(Step::Refuse { login, detail }),
        }
    }
}

/// RFC 5802 section 7: `printable`.
fn is_printable(nonce: &str) -> bool {
    nonce.bytes().all(|octet| octet.is_ascii_graphic())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn message(text: &str) -> Message {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    fn unbound() -> Scram {
        Scram::new(Binding::without(false, &Client::default()))
    }

    fn bound(exporter: &[u8], end_point: &[u8]) -> Scram {
        Scram::new(Binding::With { exporter: exporter.to_vec(), end_point: end_point.to_vec() })
    }

    fn recalled(refused: Option<&'static str>) -> Recalled {
        let verifier = crate::scheme::derived(b"pencil", b"salt", 4096);
        Recalled { login: "John".to_owned(), verifier, refused }
    }

    /// The proof of RFC 5802 section 3 for what was said.
    fn proof(said: &str) -> String {
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(b"pencil", b"salt", 4096);
        let client_key = mac(&salted, b"Client Key");
        let signature = mac(&Sha256::digest(client_key).into(), said.as_bytes());
        STANDARD.encode(client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect::<Vec<u8>>())
    }

    /// Until the challenge, which is given with what both sides sign of it.
    fn started(refused: Option<&'static str>) -> (Scram, String, String) {
        let mut scram = unbound();
        let step = scram.begin(Some(message("n,,n=john,r=abc")));
        assert!(matches!(step, Step::Recall(login) if login == "john"));
        let Step::Challenge(challenge) = scram.recall(recalled(refused)) else { panic!("no challenge") };
        let challenge = String::from_utf8(challenge).unwrap();
        let nonce = challenge.split(',').next().unwrap().to_owned();
        (scram, format!("n=john,r=abc,{challenge}"), nonce)
    }

    #[test]
    fn rfc5802_5_an_exchange_ends_when_both_have_proven_it() {
        let (mut scram, said, nonce) = started(None);
        assert!(nonce.len() > "r=abc".len() + 20 && said.ends_with(",s=c2FsdA==,i=4096"), "{said}");
        let signed = format!("c=biws,{nonce}");
        let whole = format!("{said},{signed}");
        let step = scram.respond(message(&format!("{signed},p={}", proof(&whole))));
        let expected = format!("v={}", STANDARD.encode(mac(&recalled(None).verifier.server_key, whole.as_bytes())));
        assert!(matches!(step, Step::Challenge(text) if text == expected.as_bytes()));
        assert!(matches!(scram.respond(message("")), Step::Accept(login) if login == "John"));
    }

    #[test]
    fn a_right_proof_for_who_may_not_come_in_is_a_wrong_one() {
        let (mut scram, said, nonce) = started(Some("locked"));
        let signed = format!("c=biws,{nonce}");
        let step = scram.respond(message(&format!("{signed},p={}", proof(&format!("{said},{signed}")))));
        assert!(matches!(step, Step::Refuse { login, detail: "locked" } if login == "john"));
    }

    #[test]
    fn what_is_not_of_this_exchange_is_refused() {
        let other = format!("c=biws,r=abcd,p={}", proof("x"));
        let (_, _, nonce) = started(None);
        for (text, wrong) in [
            (format!("c=biws,{nonce},p={}", proof("x")), "another nonce"),
            (other, "a nonce of the client alone"),
            ("c=####,NONCE,p=PROOF".to_owned(), "no header"),
            ("NONCE,c=biws,p=PROOF".to_owned(), "out of order"),
            ("c=biws,NONCE".to_owned(), "no proof"),
            ("c=biws,NONCE,p=".to_owned(), "an empty proof"),
            ("c=biws,NONCE,p=YWJj".to_owned(), "a short proof"),
            ("c=biws,NONCE,p=####".to_owned(), "no base64"),
            (String::new(), "nothing"),
        ] {
            let (mut scram, said, nonce) = started(None);
            let text = text.replace("NONCE", &nonce);
            let signed = text.rsplit_once(",p=").map_or(text.as_str(), |(signed, _)| signed);
            let text = text.replace("PROOF", &proof(&format!("{said},{signed}")));
            assert!(matches!(scram.respond(message(&text)), Step::Malformed(_)), "{wrong}");
            assert!(matches!(scram.respond(message(&text)), Step::Malformed(_)), "{wrong}: it begins anew");
        }
        let (mut scram, said, nonce) = started(None);
        let signed = format!("c=eSws,{nonce}");
        let step = scram.respond(message(&format!("{signed},p={}", proof(&format!("{said},{signed}")))));
        assert!(matches!(step, Step::Refuse { login, .. } if login == "john"), "another header");
        let (mut scram, _, nonce) = started(None);
        let step = scram.respond(message(&format!("c=biws,{nonce},p={}", proof("x"))));
        assert!(matches!(step, Step::Refuse { detail: "wrong password", .. }));
    }

    #[test]
    fn rfc5802_7_first_messages() {
        let start = |text: &str| unbound().begin(Some(message(text)));
        for (text, login) in [
            ("n,,n=john,r=abc", "john"),
            ("y,,n=john,r=abc", "john"),
            ("n,a=john,n=john,r=abc", "john"),
            ("n,,n=jo=2Chn=3D,r=abc,x=1", "jo,hn="),
            ("n,,n=jörg,r=abc", "jörg"),
        ] {
            assert!(matches!(start(text), Step::Recall(name) if name == login), "{text}");
        }
        assert!(matches!(start("n,a=root,n=john,r=abc"), Step::Refuse { login, .. } if login == "john"));
        let long = format!("n,,n=john,r={}", "a".repeat(257));
        for text in [
            "",
            "n",
            "n,,",
            "n,,n=john",
            "n,,n=john,r=",
            "n,,n=,r=abc",
            "n,,r=abc,n=john",
            "n,,m=x,n=john,r=abc",
            "n,,n=jo=hn,r=abc",
            "n,,n=john=,r=abc",
            "n,,n=john,r=a b",
            "p=tls-unique,,n=john,r=abc",
            "x,,n=john,r=abc",
            "n,,n=jo\u{7}hn,r=abc",
            &long,
        ] {
            assert!(matches!(start(text), Step::Malformed(_)), "{text}");
        }
        assert!(matches!(unbound().begin(None), Step::Challenge(text) if text.is_empty()));
    }

    #[test]
    fn rfc5802_6_with_plus_both_ends_are_of_one_connection() {
        for (flag, ours, theirs, right) in [
            ("p=tls-exporter", "exporter", "exporter", true),
            ("p=tls-server-end-point", "end point", "end point", true),
            ("p=tls-exporter", "exporter", "that of another connection", false),
            ("p=tls-exporter", "exporter", "end point", false),
        ] {
            let mut scram = bound(b"exporter", b"end point");
            let step = scram.begin(Some(message(&format!("{flag},,n=john,r=abc"))));
            assert!(matches!(step, Step::Recall(_)), "{flag} {ours}");
            let Step::Challenge(challenge) = scram.recall(recalled(None)) else { panic!("no challenge") };
            let challenge = String::from_utf8(challenge).unwrap();
            let nonce = challenge.split(',').next().unwrap();
            let signed = format!("c={},{nonce}", STANDARD.encode(format!("{flag},,{theirs}")));
            let proof = proof(&format!("n=john,r=abc,{challenge},{signed}"));
            let step = scram.respond(message(&format!("{signed},p={proof}")));
            assert_eq!(matches!(step, Step::Challenge(_)), right, "{flag} {theirs}: {step:?}");
            assert_eq!(matches!(step, Step::Refuse { .. }), !right, "{flag} {theirs}: {step:?}");
        }
    }

    #[test]
    fn rfc5802_6_flags_that_do_not_fit() {
        let start = |mut scram: Scram, flag: &str| scram.begin(Some(message(&format!("{flag},,n=john,r=abc"))));
        let client = Client { tls_server_end_point: vec![1], ..Client::default() };
        let offered = || Scram::new(Binding::without(true, &client));
        let brought = Scram::new(Binding::without(true, &Client::default()));
        assert!(matches!(start(offered(), "n"), Step::Recall(_)), "a client that cannot bind");
        assert!(matches!(start(offered(), "y"), Step::Refuse { login, .. } if login == "john"), "the list was changed");
        assert!(matches!(start(brought, "y"), Step::Recall(_)), "there was nothing to bind to");
        assert!(matches!(start(unbound(), "y"), Step::Recall(_)), "we cannot bind");
        for (scram, flag) in [
            (offered(), "p=tls-exporter"),
            (unbound(), "p=tls-exporter"),
            (bound(b"x", b"y"), "n"),
            (bound(b"x", b"y"), "y"),
            (bound(b"x", b"y"), "p=tls-unique"),
            (bound(b"", b"y"), "p=tls-exporter"),
            (bound(b"x", b""), "p=tls-server-end-point"),
        ] {
            assert!(matches!(start(scram, flag), Step::Malformed(_)), "{flag}");
        }
    }
}
