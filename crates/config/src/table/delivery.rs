//! `[delivery]`: the delivery worker.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use staffetta_mail::Address;
use staffetta_policy::destination::Keyword;
use staffetta_policy::routing::{Pattern, Senders, Via};
use staffetta_policy::tls::Level;

use crate::kind::{
    Any, Choice, Choices, Day, DomainName, Domains, FilePath, Flag, Ip, Limit, List, MailAddress, Maybe, NamePattern,
    NetworkClasses, Number, ReplyPattern, SenderPattern, Socket, SourcePool, Targets, Time, TokenAddress, Unset,
};
use crate::settings::{choices, settings};
use crate::{Rate, WebUrl};

/// The default of what rules say of time, which no warning is worth.
pub(crate) const DEFAULT_REST: Duration = Duration::from_secs(30 * 60);

settings! {
    /// The delivery worker: when, where and how mail leaves.
    pub struct Delivery {
        /// Where it serves `/livez`, `/readyz` and `/metrics`.
        value http: SocketAddr as Socket = "127.0.0.1:9103",
        /// Most connections at a time, in each pod.
        value concurrency: u32 as Number<u32, 1, 100000> = "500",
        /// Most connections at a time to one destination: all domains with the same mail hosts, or the server of a route; of all
        /// workers together. From 8 on, and while there are four places for each worker, workers do not tell each other of their first
        /// connection: while one comes or goes there may be one more for a moment.
        value destination_concurrency: u32 as Number<u32, 1, 100000> = "20",
        /// Most messages to one destination, all domains with the same mail hosts or the server of a route, over the cluster:
        /// `"100/1m"`.
        /// Up to 100 leave at once, then one every 0.6 seconds. What has to wait stays due and is not delayed otherwise.
        value destination_rate: Option<Rate> as Maybe<Limit> = "",
        /// First and shortest wait before a message is tried again. The wait grows with the age of the message. Also how
        /// long a next hop (the servers of a domain, or a smart host for all its domains) that cannot be reached, or
        /// refuses to talk, is left alone.
        value retry_min: Duration as Time<1, 604800000> = "5m",
        /// Longest wait before a message is tried again; not less than `retry_min`.
        value retry_max: Duration as Time<1, 604800000> = "67m",
        /// How long a message is tried before it goes back to its sender.
        value lifetime: Duration as Time<1, 7776000000> = "5d",
        /// Tells the sender of a message that it is this late, once; less than `lifetime`. It is told after an attempt, or while the
        /// destination is suspended; not of mail that only waits for its turn at a rate.
        value delay_warning: Option<Duration> as Maybe<Time<1, 7776000000>> = "",
        /// The port of MX hosts. Another than 25 is for tests.
        value port: u16 as Number<u16, 1, 65535> = "25",
        /// Whether content goes in chunks (BDAT, RFC 3030) to servers that offer CHUNKING, rather than by DATA. A way out if one
        /// of them, or what stands in front of it, cannot do what it offers.
        value chunking: bool as Flag = "true",
        /// Whether the policies are obeyed that domains publish on their web servers about the TLS of their mail (MTA-STS).
        /// Workers need a way to them, by HTTPS.
        value mta_sts: bool as Flag = "true",
        /// The port of these web servers. Another than 443 is for tests.
        value mta_sts_port: u16 as Number<u16, 1, 65535> = "443",
        /// How much encryption a destination must offer, unless its route says otherwise.
        value tls: Level as Choice<Level> = "may",
        /// A bundle of certificates, PEM, that is trusted besides the web's roots, with `tls = "verify"`.
        value ca: Option<PathBuf> as Maybe<FilePath> = "",
        /// After `SIGTERM`: how long what is being sent may take to be finished. What is not is cut then, and another
        /// worker sends it again when its lease is over. A service manager that kills earlier makes it shorter.
        value drain_limit: Duration as Time<1000, 86400000> = "5m",
        /// `[delivery.timeouts]`
        table timeouts: Timeouts,
        /// Own addresses to connect from; none leaves the choice to the system. One is used for a destination of the
        /// same address family.
        value source_addresses: Vec<IpAddr> as List<Ip> = "",
        /// The pool of `[[delivery.source]]` from which everything is sent whose route names none. Besides it
        /// `source_addresses` have no effect.
        value default_source: Option<String> as Unset<SourcePool> = "",
        /// `[[delivery.source]]`
        list source: Vec<Source> = "[]",
        /// How many messages an address with `warm_up` sends on its first day, on its second day, and so on; afterwards any
        /// number. It may be a few per cent more.
        value warm_up_days: Vec<u32> as List<Number<u32, 1, 1000000000>> = "50, 100, 500, 1000, 5000, 10000, 20000, 40000, 70000, 100000, 150000, 250000, 400000, 600000, 1000000",
        /// Networks that are never connected to on the word of an MX or address record, so that nobody can aim us at
        /// what only we can reach. Routes are not affected.
        value blocked_networks: Vec<IpNet> as NetworkClasses = "loopback, private, link-local, multicast",
        /// How long a worker holds a message before another may take it over. It is renewed while the worker lives,
        /// so it is also how long mail waits after a worker died.
        value lease: Duration as Time<1000, 3600000> = "2m",
        /// `[[delivery.route]]`
        list route: Vec<Route> = "[]",
        /// `[[delivery.destination]]`
        list destination: Vec<Destination> = "[]",
        /// After so many hard bounces a recipient gets no mail for a while: `"1/1d"` at the first, `"2/30d"` at the second
        /// within thirty days. A hard bounce is a `5xx` to RCPT, by a mail host of the recipient's own domain, that says that the mailbox
        /// does not exist or is out of use; or a report that says so and comes to an address of `[[verp]]`. Never counted: what is said of spam, of our address or of a rule, what a
        /// route's server says, bounces of reports, and mail of strangers. Who is suppressed so is in `staffetta suppress list`
        /// with the words of the server, and his mail is reported to its senders. Of one login, or one client without, 5,000 hard bounces
        /// count in the time of `suppress_for`, and nobody is added while there are 50,000 suppressions and blocks.
        value suppress_after: Option<Rate> as Maybe<Limit> = "",
        /// Whether a recipient who complains about mail (`abuse`, `opt-out`) gets none any more, for the time of `suppress_for`: only
        /// where the complaint names the address of `[[verp]]` that the mail left from. Frontends do it, for
        /// `frontend.complaints`.
        value suppress_complaints: bool as Flag = "false",
        /// For how long.
        value suppress_for: Duration as Time<1000, 31536000000> = "90d",
        /// Whether the rules of this program are used, behind those of the file: what large providers say when they want less
        /// mail. After three such replies in ten minutes a destination has two connections, or gets ten messages a minute,
        /// or rests, as is fit, for six times `retry_min`. Connections to those of them that like few messages of one are
        /// closed after so many.
        value known_rules: bool as Flag = "true",
        /// `[[delivery.rule]]`
        list rule: Vec<Rule> = "[]",
        /// `[[delivery.dkim]]`
        list dkim: Vec<Dkim> = "[]",
        /// `[delivery.tls_report]`
        table tls_report: TlsReport,
    }
}

impl Choices for Level {
    const ALL: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("may", Self::May), ("encrypt", Self::Encrypt), ("verify", Self::Verify)];
    const DOCS: &'static [&'static [&'static str]] = &[
        &["None is tried."],
        &["Encryption if it works, without proof of who is there; else in clear (RFC 7435)."],
        &["Encryption or nothing, without proof of who is there."],
        &["Encryption with a certificate for the host name, or nothing."],
    ];
}

impl Choices for Keyword {
    const ALL: &'static [(&'static str, Self)] = &[
        ("PIPELINING", Self::Pipelining),
        ("SIZE", Self::Size),
        ("8BITMIME", Self::EightBitMime),
        ("DSN", Self::Dsn),
        ("SMTPUTF8", Self::SmtpUtf8),
        ("CHUNKING", Self::Chunking),
    ];
    const DOCS: &'static [&'static [&'static str]] = &[
        &["Commands are sent one by one."],
        &["Messages of any size are tried."],
        &["What has octets above 127 is converted (quoted-printable, base64)."],
        &["The servers are not asked for reports; who wanted one of success is told that the mail was passed on."],
        &["Mail that needs it bounces, and is told why."],
        &["Content goes by DATA."],
    ];
}

settings! {
    /// How long each step of a delivery may take (RFC 5321 section 4.5.3.2).
    #[derive(Copy, PartialEq, Eq)]
    pub struct Timeouts {
        /// The TCP connection.
        value connect: Duration as Time<1, 3600000> = "30s",
        /// The server's greeting.
        value greeting: Duration as Time<1, 3600000> = "5m",
        /// The reply to STARTTLS, and the handshake.
        value tls: Duration as Time<1, 3600000> = "1m",
        /// The reply to EHLO, HELO or LHLO.
        value helo: Duration as Time<1, 3600000> = "5m",
        /// The reply to MAIL.
        value mail: Duration as Time<1, 3600000> = "5m",
        /// The reply to RCPT.
        value rcpt: Duration as Time<1, 3600000> = "5m",
        /// The reply to DATA.
        value data: Duration as Time<1, 3600000> = "2m",
        /// Each block of the message.
        value transfer: Duration as Time<1, 3600000> = "3m",
        /// The reply to the end of the message. Too short a time here makes duplicates.
        value r#final: Duration as Time<1, 3600000> = "10m",
    }
}

settings! {
    /// Where the mail of some domains, senders or logins goes. The first that matches counts; without a match it is the MX
    /// records.
    pub struct Route {
        /// Which domains. `*.example.org` is for all below `example.org`, not for `example.org` itself. May be left out beside
        /// `sender` or `login`, and means all then.
        value domain: Pattern as Domains = "*",
        /// Which senders, by the address of MAIL FROM; both must match. Mail to one domain then goes to several next hops,
        /// and one that is slow or down does not stop the others. Of such mail each worker finds out by itself that a next
        /// hop cannot be reached.
        value sender: Option<Senders> as Unset<SenderPattern> = "",
        /// Only mail that this login has handed in, in whatever case it is written; with `sender`, only what it sends as that. What is
        /// said there of mail that goes several ways holds for this as well.
        value login: Option<String> as Unset<Any> = "",
        /// The way: a server by name, without a look-up of MX records; the mail hosts of a domain (`mx://`); those of the
        /// recipient's own (`mx`). `smtps://` speaks TLS from the first octet, and never less than `tls = "encrypt"`; a unix
        /// socket is on the worker's machine, and has no TLS. Of a list the next is tried when the one before cannot be
        /// reached or refuses to talk, as a second MX host is; never when the recipient's domain takes no mail, or when this
        /// system is one of its mail hosts.
        need via: Vec<Via> as Targets = "mx",
        /// Instead of `delivery.tls`.
        value tls: Option<Level> as Unset<Choice<Level>> = "",
        /// Logs in there, which is done only over an encrypted connection; together with `password`, or with `token_url` where
        /// the server wants a token instead of a password (OAUTHBEARER, RFC 7628, or XOAUTH2, whichever it offers). Of a password
        /// nothing is shown to a server that offers SCRAM-SHA-256, unless it refuses that; then it goes by PLAIN or LOGIN.
        value username: Option<String> as Unset<Any> = "",
        /// The password for `username`.
        hidden password or password_file: Option<SecretString> as Any = "",
        /// Where tokens are asked for (RFC 6749), with `client_id` and either a `refresh_token` or only a `client_secret` (client
        /// credentials). One token is for the whole cluster: it is kept in Redis, sealed with these secrets, and asked for
        /// anew before it ends, or once the server refuses it. The certificate must be good for the web's roots or `delivery.ca`;
        /// `http://` is for this machine only. Such a server is not asked about recipients (`frontend.verify_recipients`).
        value token_url: Option<WebUrl> as Unset<TokenAddress> = "",
        /// Who we are for whoever gives the tokens.
        value client_id: Option<String> as Unset<Any> = "",
        /// Proves it. A client that is registered without a secret needs none beside a `refresh_token`.
        hidden client_secret or client_secret_file: Option<SecretString> as Any = "",
        /// What the mailbox' owner has allowed, once. If another one comes with a token, it is used from then on.
        hidden refresh_token or refresh_token_file: Option<SecretString> as Any = "",
        /// What is asked for, such as `https://outlook.office365.com/.default`; some servers know without.
        value scope: Option<String> as Unset<Any> = "",
        /// Instead of `delivery.destination_concurrency`.
        value concurrency: Option<u32> as Unset<Number<u32, 1, 100000>> = "",
        /// Instead of `delivery.destination_rate`. Routes to the same server share its messages.
        value rate: Option<Rate> as Unset<Limit> = "",
        /// The pool of `[[delivery.source]]` whose addresses its mail comes from.
        value source: Option<String> as Unset<SourcePool> = "",
        /// Extensions of SMTP that its servers offer and that are not used with them, because they, or what stands in front of
        /// them, cannot do what they offer. Those of a `[[delivery.destination]]` come on top.
        value ignore_extensions: Vec<Keyword> as List<Choice<Keyword>> = "",
    }
}

settings! {
    /// An address that we send from. Addresses with one name are a pool, and stand for each other. `staffetta source` takes one
    /// out for a while, when somebody has put it on a list.
    pub struct Source {
        /// The name of the pool.
        need pool: String as SourcePool = "pool",
        /// The address, which the machine of each worker must have. A server of a family of which the pool has no address is not
        /// connected to.
        need address: IpAddr as Ip = "127.0.0.1",
        /// Our name in EHLO there, to which its reverse DNS should lead. [default: `hostname`]
        value hostname: Option<String> as Unset<DomainName> = "",
        /// Its share of the connections, beside the others of the pool.
        value weight: u32 as Number<u32, 1, 1000> = "1",
        /// For a new address that providers shall get to know: its first day (UTC), such as "2026-12-01". From then on it sends as
        /// many messages a day as `delivery.warm_up_days` says, over the cluster, before that day none. What is more goes from the
        /// other addresses of the pool, or waits if all have sent theirs.
        value warm_up: Option<u32> as Unset<Day> = "",
    }
}

settings! {
    /// How the servers of some destinations are to be treated: those of a provider, or of some domains. All mail to them shares
    /// the limits of its table, over the cluster. The first that matches counts, and what the route of the mail says goes before
    /// it. Routes to a server by name have limits of their own, and none from here.
    pub struct Destination {
        /// Recipients' domains. `*.example.org` is for all below `example.org`.
        value domain: Vec<Pattern> as List<NamePattern> = "",
        /// Names of mail hosts: for all domains whose MX hosts are all among these.
        value mx: Vec<Pattern> as List<NamePattern> = "",
        /// Instead of `delivery.destination_concurrency`.
        value concurrency: Option<u32> as Unset<Number<u32, 1, 100000>> = "",
        /// Instead of `delivery.destination_rate`.
        value rate: Option<Rate> as Unset<Limit> = "",
        /// Most messages of one connection; otherwise what a large provider is known to like (`known_rules`), or 1000.
        value messages_per_connection: Option<u32> as Unset<Number<u32, 1, 100000>> = "",
        /// Instead of `delivery.tls`.
        value tls: Option<Level> as Unset<Choice<Level>> = "",
        /// Extensions of SMTP that its servers offer and that are not used with them, because they, or what stands in front of
        /// them, cannot do what they offer. For servers that a route names, that route has the same key.
        value ignore_extensions: Vec<Keyword> as List<Choice<Keyword>> = "",
    }
}

choices! {
    /// What a rule does.
    pub enum Action {
        /// The destination gets no mail for a while, after so many replies.
        Suspend = "suspend",
        /// The destination gets no more messages than `rate` for a while, after so many replies. What has to wait stays due.
        Slow = "slow",
        /// The destination gets no more than `connections` at a time for a while, after so many replies. Those that are open beyond it
        /// end after the message that they have.
        Fewer = "fewer",
        /// Whoever such a reply is about, a recipient or all of the message, is given up although it is `4xx`, and reported to the
        /// sender: for a while, after so many replies; those before are deferrals, the last that it takes among them. With `times =
        /// "1/1m"` each is final at once. What a server says before a message is offered to it is about none, and of what it says
        /// of one message one reply counts.
        Bounce = "bounce",
    }
}

settings! {
    /// What is done because of what servers say. The first rule for a reply counts. What is suspended, slow, has fewer
    /// connections or bounces by it is shown and ended by `staffetta destination`; mail of what is suspended or slow waits where it
    /// is, and no attempt is counted.
    pub struct Rule {
        /// What the reply has in it: a regular expression, in whatever case. Replies are `421 4.7.0 text`, on one line.
        need reply: String as ReplyPattern = "try again",
        /// For these recipients' domains; without `domain` and `mx` for all. That says whose replies count. What gets less, or nothing, is
        /// the destination: all domains with the same MX hosts, or all mail that a route takes to the same server.
        value domain: Vec<Pattern> as List<NamePattern> = "",
        /// For all domains whose MX hosts are all among these.
        value mx: Vec<Pattern> as List<NamePattern> = "",
        /// What it does.
        value action: Action as Choice<Action> = "suspend",
        /// After so many replies from one destination, over the cluster. Those of before are forgotten one by one: of `"3/10m"` two
        /// that are counted in ten minutes.
        value times: Rate as Limit = "3/10m",
        /// With `action = "suspend"`: how long it rests.
        value suspend: Duration as Time<1000, 604800000> = "30m",
        /// With `action = "slow"`: most messages to it, over the cluster.
        value rate: Option<Rate> as Unset<Limit> = "",
        /// With `action = "fewer"`: most connections to it, over the cluster.
        value connections: Option<u32> as Unset<Number<u32, 1, 100000>> = "",
        /// With `"slow"`, `"fewer"` and `"bounce"`: for how long. Further replies make it longer.
        value r#for: Duration as Time<1000, 604800000> = "30m",
    }
}

settings! {
    /// A key that signs the mail of a domain (DKIM, RFC 6376) when it is delivered. A domain may have several, such as an RSA key
    /// and an Ed25519 key: each makes a signature of its own. Mail of trusted networks, of logins and of our own is signed, never
    /// that of strangers.
    pub struct Dkim {
        /// The domain of the author, in the header field From, and of the signature; also for domains below it that have
        /// no key of their own. If the author's domain has no key, that of the envelope sender counts; it counts as well when a
        /// login names an author in a domain that is neither its own nor its envelope sender's.
        need domain: String as DomainName = "localhost",
        /// Under which name the public key is in the DNS: `selector._domainkey.domain`. `staffetta dkim dns` shows the record.
        need selector: String as DomainName = "default",
        /// The private key, PEM, not encrypted: RSA (PKCS #8 or PKCS #1) of at least 2048 bits, or Ed25519 (PKCS #8). The file is
        /// read again when its content changes, and on SIGHUP; a bad one then leaves the last good key in use.
        need key: PathBuf as FilePath = "-",
    }
}

settings! {
    /// What other domains are told of the TLS of the mail that they get from us (TLSRPT, RFC 8460): once a day, those that ask for it
    /// with a TXT record at `_smtp._tls.domain`. A report counts sessions and what was wrong with them; nothing of any message is in
    /// it. The numbers are those of all workers together.
    pub struct TlsReport {
        /// Who sends reports: an address that somebody reads. Without one there are none. Those that go by mail must be signed (DKIM), so
        /// there should be a `[[delivery.dkim]]` for its domain. Nothing is told of mail for which TLS is off (`tls = "none"`) or
        /// optional (`TLS-Required: No` in its header), nor of the servers of routes.
        value from: Option<Address> as Maybe<MailAddress> = "",
        /// The name that reports have for whoever sends them; the domain of `from`, if it is not set.
        value organization: Option<String> as Maybe<Any> = "",
        /// What one report is about. Another period than a day is for tests.
        value period: Duration as Time<1000, 86400000> = "1d",
    }
}
