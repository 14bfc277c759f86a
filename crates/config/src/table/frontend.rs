//! `[frontend]`: the SMTP server.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use staffetta_mail::Address;
use staffetta_policy::canonical::{self, Becomes};
use staffetta_policy::routing::Senders;

use super::Abuse;
use crate::kind::{
    AddressPattern, Any, AuthUrl, CertificateFingerprint, Choice, DataRate, DomainName, Flag, FlagOr, Limit, List,
    MailAddress, Maybe, Network, NewSender, Number, Size, Socket, Time, Unset,
};
use crate::settings::{choices, settings};
use crate::{ByteSize, Fingerprint, Rate};

settings! {
    /// The SMTP server: whom it takes mail from, and how much.
    pub struct Frontend {
        /// Where it serves `/livez`, `/readyz` and `/metrics`.
        value http: SocketAddr as Socket = "127.0.0.1:9101",
        /// Where the auth service is: `https://` with `[rpc]`, `http://` without. The name of a headless Kubernetes
        /// service stands for all its pods.
        value auth: String as AuthUrl = "http://127.0.0.1:4250",
        /// Clients that may relay without a login (Postfix: `mynetworks`).
        value trusted_networks: Vec<IpNet> as List<Network> = "127.0.0.0/8, ::1/128",
        /// Clients that may relay without a login, from wherever they come, because they show one of these certificates
        /// (Postfix: `permit_tls_clientcerts`): their SHA-256, as `openssl x509 -noout -fingerprint -sha256` prints it. Who
        /// signed them, and until when they are good, does not matter. But the client must prove that it has the key: of
        /// X.509 version 3, with RSA of 2,048 bits or more, P-256, P-384, P-521 or Ed25519. Another one counts for nothing.
        value trusted_certificates: Vec<Fingerprint> as List<CertificateFingerprint> = "",
        /// Domains whose mail is accepted from anyone. Each should have a `[[delivery.route]]`, unless its MX records
        /// lead elsewhere than here.
        value relay_domains: Vec<String> as List<DomainName> = "",
        /// Adds the domains that the auth service knows to `relay_domains`; their recipients are checked and unknown
        /// ones refused with `550 5.1.1`. Mail for an alias there goes to those behind it (`auth.sql.alias_query`).
        value relay_domains_from_auth: bool as Flag = "false",
        /// Asks about recipients in `relay_domains` whom strangers name (Postfix: `reject_unverified_recipient`): the auth
        /// service, if `relay_domains_from_auth` and it knows the domain, else the server to which their mail would go,
        /// by MAIL and RCPT without a message. A recipient whom that server refuses for good is refused with its words,
        /// `550 5.1.1`; a server that cannot be asked within seconds does not stop mail. Answers are kept in Redis for
        /// all pods: a yes a day, a no an hour. A client may cause 200 such questions in ten minutes; above that, and
        /// when a server is asked too much, it is `450 4.1.1`. `false` takes mail for everybody there, and what cannot
        /// be delivered goes back to whoever is named as its sender.
        value verify_recipients: bool as Flag = "true",
        /// Addresses to which providers send complaints about mail (feedback loops, RFC 5965), such as `"fbl@example.org"`. Each is in the
        /// mail log (`complaint`) and counted, and goes on to the address as ever. Of mail that left from an address of `[[verp]]`,
        /// it is known who complains, also if the provider does not say it.
        value complaints: Vec<Address> as List<MailAddress> = "",
        /// Where mail for `<postmaster>` and for `postmaster` at `hostname` goes (RFC 5321 section 4.5.1). `""`: it is refused
        /// with `550 5.1.1`, unless a `[[delivery.route]]` names `hostname`.
        value postmaster: Option<Address> as Maybe<MailAddress> = "",
        /// Largest message. It is announced with SIZE and enforced while the message arrives.
        value size_limit: ByteSize as Size<1024, 1073741824> = "40MiB",
        /// Most recipients of one message; the next is refused with `452 4.5.3`.
        value recipient_limit: u32 as Number<u32, 1, 65535> = "1000",
        /// Recipients beyond `recipient_limit` that are refused without counting as errors (Postfix:
        /// `smtpd_recipient_overshoot_limit`): RFC 5321 section 4.5.3.1.10 lets a client try them.
        value recipient_overshoot_limit: u32 as Number<u32, 0, 100000> = "1000",
        /// After so many errors the next command is answered by `421 4.7.0` and the connection closes (Postfix:
        /// `smtpd_hard_error_limit`). Refused commands, recipients, messages and logins are errors; a message that is accepted
        /// makes up for those before it. From the eleventh on each costs the client a second.
        value error_limit: u32 as Number<u32, 1, 1000> = "20",
        /// Refuses a recipient whose domain does not exist in the DNS (`550 5.1.2`), also where a `"*"` route exists.
        value reject_unknown_recipient_domain: bool as Flag = "true",
        /// Which sender addresses may be named, by what the auth service says of who owns them: `553 5.7.1`. The names of
        /// Postfix mean what they mean there in `smtpd_sender_restrictions`, on every listener and for trusted networks, too.
        value sender_must_match_login: SenderLogin as FlagOr<SenderLogin> = "true",
        /// Refuses a message of a login whose From field (RFC 5322 section 3.6.2) names an address that the login does not own:
        /// `553 5.7.1`, to the end of the content. All addresses in it count; a field that cannot be understood is refused
        /// (`550 5.7.1`). What the reader sees is the sender then; Postfix has no such rule.
        value header_from_must_match_login: bool as Flag = "false",
        /// What the Received field says of a client that logged in: where users are is nobody's business, and some filters
        /// count it against a message that it came from a dial-up line. The log has it in any case.
        value received_client: ClientShown as Choice<ClientShown> = "full",
        /// Answers VRFY; without it the reply is `502 5.5.1`.
        value enable_vrfy: bool as Flag = "true",
        /// Clients that may use ETRN.
        value etrn_networks: Vec<IpNet> as List<Network> = "127.0.0.0/8, ::1/128",
        /// Most connections at a time, in each pod; above it the greeting is `421`. From 20 on it is divided, so that
        /// nobody takes every place: the last sixteenth is kept for `trusted_networks`, and the clients of one listener
        /// leave a quarter to the others, unless the listener has a `connection_limit` of its own.
        value connection_limit: u32 as Number<u32, 1, 1000000> = "10000",
        /// Most connections at a time from one client address (an IPv6 /64), counted over all pods, but for one in each pod,
        /// of which the others do not hear; above it the greeting is `421`. Trusted networks have no such limit. While Redis
        /// is away, or takes longer than a tenth of a second, each pod counts by itself.
        value connections_per_client: u32 as Number<u32, 1, 1000000> = "50",
        /// How often a client may fail to log in, counted over all pods; `""`: as often as it likes. With `10/10m`
        /// the first ten failures are free, then one a minute: until then AUTH is answered by `421 4.7.0` and the
        /// auth service is not asked. A login that succeeds does not count. An IPv4 address is a client, and so is an
        /// IPv6 /64; trusted networks are not counted. While Redis is away each pod counts by itself.
        value auth_failures_per_client: Option<Rate> as Maybe<Limit> = "10/10m",
        /// How often logging in as one user may fail, from wherever, counted over all pods; `""`: without end. Above it
        /// AUTH as this user is answered by `454 4.7.0`, the same whether there is such a user or not, and the auth service
        /// is not asked. A login that succeeds does not count; and where one has succeeded within 30 days (in the same IPv4
        /// /24 or IPv6 /64; the last 32 of them are known) only `auth_failures_per_client` holds, so that strangers cannot
        /// lock a user out. Trusted networks are not counted. The default stops guesses from thousands of addresses, and
        /// leaves a user room whose devices all try an old password behind one new address. While Redis is away each pod
        /// counts by itself.
        value auth_failures_per_login: Option<Rate> as Maybe<Limit> = "300/1h",
        /// Networks of load balancers that begin every connection with a PROXY header, version 1 or 2, on every
        /// listener; `proxy_from` of a listener adds to them. From these networks the header is required, within
        /// three seconds, and the client that it names is who counts for trust, limits, log and trace. From anywhere
        /// else a header ends the connection. Whoever is in these networks can claim to be any client.
        value proxy_from: Vec<IpNet> as List<Network> = "",
        /// Clients that may say for whom they come, with XCLIENT (Postfix: `smtpd_authorized_xclient_hosts`): a proxy such
        /// as nginx, a filter. The client that they name is who counts for trust, limits, log and trace, and a `LOGIN` that
        /// they give counts as one. Whoever is in these networks can claim to be anybody; the client that was named cannot,
        /// unless it is in them, too.
        value xclient_from: Vec<IpNet> as List<Network> = "",
        /// How many messages a login may send, counted over all pods, such as `10000/1h`; `""`: as many as it likes.
        /// Above it DATA is answered by `450 4.7.1`. A message counts once its content is asked for, whatever becomes
        /// of it. While Redis is away each pod counts by itself.
        value messages_per_login: Option<Rate> as Maybe<Limit> = "",
        /// How many recipients a login may name, counted over all pods, such as `10000/1h`; `""`: as many as it likes. The
        /// next is refused with `450 4.7.1`, and the message goes to those before. A recipient counts once it is accepted,
        /// whatever becomes of the message. Each pod takes a 64th of the limit at a time and gives back what it does not
        /// need, so that a recipient may be refused a little early where a login uses several pods. While Redis is away each
        /// pod counts by itself.
        value recipients_per_login: Option<Rate> as Maybe<Limit> = "",
        /// How many messages of a login may be in the queue at a time, held ones too, over all pods; not set: as many as it likes. Mail without a login is not counted.
        /// Above it MAIL is answered by `452 4.3.1`. What was accepted while there was no limit does not count, nor do reports to
        /// the sender. Each pod asks Redis once a second at most, so what comes in through several pods at the same moment may
        /// be beyond it by a little.
        value queued_per_login: Option<u32> as Unset<Number<u32, 1, 1000000000>> = "",
        /// Looks up what clients are called, for the log and the Received field: `client.example.org[192.0.2.7]` instead of
        /// `unknown[192.0.2.7]`. A name counts when its addresses include the client's. A greeting waits for it for a second
        /// at most; nobody is let in or kept out for a name.
        value reverse_dns: bool as Flag = "true",
        /// What becomes of a LF without CR in the content of a message. It never ends anything, and none is ever handed on.
        value bare_lf: BareLf as Choice<BareLf> = "normalize",
        /// Networks whose bare LF is normalised although `bare_lf` is `reject`.
        value bare_lf_from: Vec<IpNet> as List<Network> = "",
        /// Longest silence of a client (RFC 5321 section 4.5.3.2 asks for five minutes). A command as a whole may take as
        /// long, or a minute if that is longer; a TLS handshake as long, or a minute if that is shorter.
        value timeout: Duration as Time<1000, 86400000> = "5m",
        /// Slowest content that is taken, averaged over the message after the first `timeout`; slower is `421 4.4.2`
        /// (Postfix: `smtpd_min_data_rate`). `"0B/s"`: only silence counts.
        value min_data_rate: ByteSize as DataRate = "500B/s",
        /// After `SIGTERM`: how long connections are still taken while `/readyz` already says no, so that the load
        /// balancer can take notice.
        value drain_delay: Duration as Time<0, 3600000> = "10s",
        /// `[frontend.abuse]`
        table abuse: Abuse,
        /// `[[frontend.canonical]]`
        list canonical: Vec<Canonical> = "[]",
        /// `[[frontend.listener]]`
        list listener: Vec<Listener> = r#"[
            { name = "smtp", bind = "0.0.0.0:25", kind = "relay" },
            { name = "submission", bind = "0.0.0.0:587", kind = "submission" },
            { name = "submissions", bind = "0.0.0.0:465", kind = "submission", tls = "implicit" },
        ]"#,
    }
}

settings! {
    /// Sender addresses that become others, where those of machines (`root@web1.lan`) are nothing to which the world could
    /// answer (Postfix: `sender_canonical_maps`). It holds for mail of logins and of trusted clients: in the envelope, so that
    /// reports go to the new address, and in From, Sender, Reply-To and their `Resent-` kin. The first that matches
    /// counts. What the client said is what `sender_must_match_login` and its kin judge, and the new address is what routes and
    /// DKIM go by.
    pub struct Canonical {
        /// Which addresses. Reports keep their null sender.
        need sender: Senders as AddressPattern = "nobody@example.org",
        /// What they become: an address, or a domain in place of theirs, `"*@example.org"`.
        need becomes: Becomes as NewSender = "postmaster@example.org",
    }
}

impl Frontend {
    /// Whose addresses become others.
    pub fn canonical_senders(&self) -> canonical::Canonical {
        canonical::Canonical::new(self.canonical.iter().map(|row| (row.sender.clone(), row.becomes.clone())))
    }
}

settings! {
    /// A port of the SMTP server. Those given here replace the three of the default.
    pub struct Listener {
        /// How it appears in logs and metrics. No two have the same name.
        need name: String as Any = "-",
        /// The address and port. Port 0 is any free port.
        need bind: SocketAddr as Socket = "0.0.0.0:0",
        /// What it is for.
        need kind: ListenerKind as Choice<ListenerKind> = "relay",
        /// When the connection becomes encrypted.
        value tls: ListenerTls as Choice<ListenerTls> = "starttls",
        /// Most connections at a time to this listener, in each pod; trusted clients are not counted. Left out: three
        /// quarters of `frontend.connection_limit`.
        value connection_limit: Option<u32> as Unset<Number<u32, 1, 1000000>> = "",
        /// More networks of load balancers that send a PROXY header, on this listener only; see
        /// `frontend.proxy_from`.
        value proxy_from: Vec<IpNet> as List<Network> = "",
    }
}

choices! {
    /// Who may name which sender address.
    pub enum SenderLogin {
        /// A login only addresses that it owns; who did not log in, on a relay listener, any: mail that is forwarded
        /// elsewhere comes back under the addresses of one's own users. On a submission listener nobody comes without a
        /// login, so that it is `reject_sender_login_mismatch` there.
        On = "true",
        /// Anybody any.
        Off = "false",
        /// A login only addresses that it owns, who did not log in only those that nobody owns. It refuses strangers' mail
        /// under addresses of ours, forwarded mail and that of mailing lists among it, and asks the auth service about each
        /// sender.
        Mismatch = "reject_sender_login_mismatch",
        /// A login only addresses that it owns; who did not log in any.
        Authenticated = "reject_authenticated_sender_login_mismatch",
        /// Who did not log in only addresses that nobody owns; a login any.
        Unauthenticated = "reject_unauthenticated_sender_login_mismatch",
    }
}

choices! {
    /// What a Received field says of a client that logged in.
    pub enum ClientShown {
        /// Its address, its name in the DNS, and what it calls itself.
        Full = "full",
        /// The first address of its network: the /24 of IPv4, the /64 of IPv6.
        Network = "network",
        /// Nothing; the field begins with `by`.
        None = "none",
    }
}

choices! {
    /// What becomes of a LF without CR.
    pub enum BareLf {
        /// It becomes CRLF, as Postfix does: `curl`, cron and old printers send it.
        Normalize = "normalize",
        /// The message is refused with `550 5.5.2`.
        Reject = "reject",
    }
}

choices! {
    /// What a listener is for.
    pub enum ListenerKind {
        /// Mail from other servers and from trusted networks; a login is offered once the connection is encrypted.
        Relay = "relay",
        /// Mail from users: encryption, then a login, then mail (RFC 6409).
        Submission = "submission",
    }
}

choices! {
    /// When a connection becomes encrypted.
    pub enum ListenerTls {
        /// With the STARTTLS command (RFC 3207).
        Starttls = "starttls",
        /// From the first octet (RFC 8314).
        Implicit = "implicit",
        /// Never; no logins either.
        Off = "off",
    }
}
