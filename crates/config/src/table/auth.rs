//! `[auth]`: the auth service.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;

use crate::DovecotAddress;
use crate::kind::{Any, Choice, DovecotSocket, List, Query, Socket, SqlUrl, Time};
use crate::settings::{choices, settings};
use crate::table::OAuth;

settings! {
    /// The auth service: who may log in, who owns which sender address, which domains and recipients are ours.
    pub struct Auth {
        /// Where the frontends reach it (gRPC).
        value listen: SocketAddr as Socket = "127.0.0.1:4250",
        /// Where it serves `/livez`, `/readyz` and `/metrics`.
        value http: SocketAddr as Socket = "127.0.0.1:9102",
        /// Where the accounts are.
        value backend: Backend as Choice<Backend> = "sql",
        /// After `SIGTERM`: how long calls are still answered, new ones, too, while `/readyz` and the gRPC health service
        /// already say no, so that frontends find the other pods. Where frontends are stopped at the same time, more than
        /// `frontend.drain_delay` lets those log in who come during that; `staffetta up` keeps auth until its frontend has ended.
        value drain_delay: Duration as Time<0, 3600000> = "5s",
        /// How long a password that was right is taken as right again without asking the back end, so that a client
        /// with a connection for each message does not cost a password hash each time. Frontends are told for how long,
        /// and ask nobody when the same PLAIN or LOGIN comes again from the same address (not with Dovecot). `staffetta user password` and
        /// `remove` end it at once, by Redis; a password that is changed in the database by other means goes on working
        /// for this long. Kept in memory under a keyed hash. `"0s"` turns it off.
        value cache_ttl: Duration as Time<0, 86400000> = "5m",
        /// What AUTH offers, best first, with the accounts in a database; Dovecot has a list of its own. Offer
        /// SCRAM-SHA-256 only when the accounts are stored for it, as `{SCRAM-SHA-256}` or, worse, `{PLAIN}`: clients
        /// that know it try nothing else, and accounts under other schemes are refused by it as with a wrong password.
        /// OAUTHBEARER and XOAUTH2 need `[auth.oauth]`.
        value mechanisms: Vec<Mechanism> as List<Choice<Mechanism>> = "PLAIN, LOGIN",
        /// Any long text, the same on all pods. SCRAM tells the salt of every account that is asked for; of this, one is
        /// made up for logins that do not exist, so that nobody learns which do. Without it, each process draws its own,
        /// and with two of them, or after a restart, such a login can be told by its two salts. It shows as many iterations
        /// as most accounts have: of accounts with another number it can be seen that they exist.
        hidden scram_secret or scram_secret_file: Option<SecretString> as Any = "",
        /// `[auth.sql]`
        table sql: Sql,
        /// Whether `[auth.sql]` is given at all: beside Dovecot, it need not be.
        noted has_sql: bool = "sql",
        /// `[auth.oauth]`
        table oauth: OAuth,
        /// `[auth.dovecot]`
        table dovecot: Dovecot,
        /// Whether `[auth.dovecot]` is given at all.
        noted has_dovecot: bool = "dovecot",
    }
}

choices! {
    /// Where the accounts are.
    pub enum Backend {
        /// In a database, see `[auth.sql]`.
        Sql = "sql",
        /// Behind a Dovecot auth socket, see `[auth.dovecot]`.
        Dovecot = "dovecot",
    }
}

choices! {
    /// How a client says who it is.
    pub enum Mechanism {
        /// Name and password in one message (RFC 4616).
        Plain = "PLAIN",
        /// Name and password, asked for one by one; for old clients.
        Login = "LOGIN",
        /// A proof of the password, which does not cross the wire (RFC 7677).
        ScramSha256 = "SCRAM-SHA-256",
        /// The same, tied to the very connection on which it is said, so that nobody in the middle can pass it on (RFC 5929,
        /// RFC 9266). Needs what SCRAM-SHA-256 needs; list it before that one.
        ScramSha256Plus = "SCRAM-SHA-256-PLUS",
        /// The certificate that the client has shown (RFC 4422); needs `tls.client_ca`. Only who has shown one is offered it.
        External = "EXTERNAL",
        /// A token of an identity provider (RFC 7628).
        OAuthBearer = "OAUTHBEARER",
        /// The same in the older form of Google and Microsoft.
        XOAuth2 = "XOAUTH2",
    }
}

impl Mechanism {
    /// All of them, by name.
    pub const NAMES: [&str; 7] =
        ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL", "OAUTHBEARER", "XOAUTH2"];

    /// Does it need a verifier in place of a hash?
    pub fn is_scram(self) -> bool {
        matches!(self, Self::ScramSha256 | Self::ScramSha256Plus)
    }

    /// As SASL has it registered.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::External => "EXTERNAL",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
        }
    }

    /// Does it carry a token?
    pub fn is_oauth(self) -> bool {
        matches!(self, Self::OAuthBearer | Self::XOAuth2)
    }
}

choices! {
    /// Whose tables they are.
    pub enum Schema {
        /// Those of the ISPmail guide: `virtual_domains`, `virtual_users`, `virtual_aliases`.
        IspMail = "ispmail",
        /// Those of PostfixAdmin: `mailbox`, `alias`, `domain`, `alias_domain`. Rows that are not `active`, and those of a
        /// domain that is not, are as good as absent. A login may send as an active alias whose `goto` names it, and as
        /// both by the name of an alias domain. Accounts are changed in PostfixAdmin; `staffetta user` touches none there.
        PostfixAdmin = "postfixadmin",
    }
}

settings! {
    /// Accounts in a database. The queries are yours; their defaults fit the schema of the ISPmail guide
    /// (`virtual_domains`, `virtual_users`, `virtual_aliases`), or that of `schema`. Parameters are named and are passed to
    /// the database apart from the statement: `:domain` is what stands behind the last `@` of what is asked about,
    /// `:local` what stands before it.
    pub struct Sql {
        /// SQLite, PostgreSQL, or MySQL and MariaDB, by scheme. In user and password write `/` as `%2F`, `@` as `%40`, `:` as
        /// `%3A`, `?` as `%3F`, `#` as `%23`, `%` as `%25`.
        secret url or url_file: SecretString as SqlUrl = "sqlite:///var/lib/staffetta/users.db",
        /// Whose tables they are: what each query is that is not given here.
        value schema: Schema as Choice<Schema> = "ispmail",
        /// Gives the canonical `login` and the `password` hash for `:login`; no row is no such account. Hashes are
        /// `{ARGON2ID}`, `{ARGON2I}`, `{BLF-CRYPT}`, `{SHA512-CRYPT}`, `{SHA256-CRYPT}`, `{SCRAM-SHA-256}`, `{PBKDF2}`,
        /// or begin with `$`. Of old tables, `{SSHA512}`, `{SSHA256}`, `{SSHA}`, `{SMD5}`, `{SHA512}`, `{SHA256}`,
        /// `{SHA}`, `{MD5-CRYPT}`, `{LDAP-MD5}` and `{PLAIN-MD5}` are taken as well, and `{PLAIN}`. Three more columns may
        /// say what the account may send: `message_limit` and `recipient_limit` go before `frontend.messages_per_login` and
        /// `recipients_per_login`, as `500/1h`, as a number in the time that those have (or an hour), or as `unlimited`;
        /// `size_limit`, in octets or as `10MiB`, holds where it is below `frontend.size_limit`. NULL and what cannot be
        /// read (0 is such a value, and logged) leave it at the configuration's. They are kept with the login for `cache_ttl`.
        value password_query: String as Query<'l'> =
            "SELECT email AS login, password FROM virtual_users WHERE email = :login",
        /// Gives a row with `login` for every account that may send as `:sender`, or as anybody of its `:domain`; one
        /// of the two must be used. `:login` may be. A row may name several, with commas between them, as Postfix's
        /// `smtpd_sender_login_maps` do.
        value sender_query: String as Query<'s'> = "SELECT email AS login FROM virtual_users WHERE email = :sender",
        /// Gives a row if `:domain` is one of ours; used with `frontend.relay_domains_from_auth`.
        value domain_query: String as Query<'d'> = "SELECT name FROM virtual_domains WHERE name = :domain",
        /// Gives a row if `:recipient` exists in one of our domains, or everybody of its `:domain` does; one of the two
        /// must be used. Used with `frontend.relay_domains_from_auth`.
        value recipient_query: String as Query<'r'> = "SELECT email FROM virtual_users WHERE email = :recipient \
            UNION SELECT source FROM virtual_aliases WHERE source = :recipient",
        /// Gives a row with `destination` for every address that mail for `:recipient`, an alias, goes to in its place, as
        /// Postfix's `virtual_alias_maps` do; a row may name several, with commas between them. No row: it is no alias.
        /// Asked for the address, for the address without its `+extension` (which the destinations get) and for `@domain`,
        /// of which the first that is an alias, or a recipient by `recipient_query`, counts. Destinations in our domains
        /// are looked up in their turn; one that leads to itself is a mailbox; `@other.example` is the same name there. An
        /// alias of more than 1,000 addresses, those on the way counted, or one that leads nowhere gets `451 4.6.0`. Used
        /// with `frontend.relay_domains_from_auth`, for mail from anywhere. Empty: there are no aliases, which is also the
        /// default where `recipient_query` is given and this is not.
        value alias_query: String as Query<'a'> = "SELECT destination FROM virtual_aliases WHERE source = :recipient",
    }
}

settings! {
    /// Accounts of a Dovecot server, 2.2 or newer, asked as Postfix asks it (`smtpd_sasl_type = dovecot`). AUTH offers
    /// what its `auth_mechanisms` has, but for ANONYMOUS, EXTERNAL and channel binding. The login is what Dovecot makes
    /// of it. With `[auth.sql]`, senders, domains and recipients are looked up there; without, a login may send as the
    /// address that it is, and `frontend.relay_domains` are the only domains. Dovecot has 5 s for an answer: keep its
    /// `auth_failure_delay` below that.
    pub struct Dovecot {
        /// The socket of an `auth-client` listener: a path, or `tcp:host:port`. TCP has no encryption.
        value socket: DovecotAddress as DovecotSocket = "/var/spool/postfix/private/auth",
    }
}
