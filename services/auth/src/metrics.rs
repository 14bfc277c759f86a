//! The families of the auth service, prefix `staffetta_`. Names and labels are the operator's interface; nothing here
//! holds a login or an address. Counters exist from the start, so that a rate over them is right from the first event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use staffetta_telemetry::{Readiness, Standing};
use tokio_util::sync::CancellationToken;

use crate::scheme;
use crate::sql::query::Kind;

const HANDLED: &str = "staffetta_grpc_server_handled_total";
const RESULTS: &str = "staffetta_auth_results_total";
const CACHE: &str = "staffetta_auth_cache_total";
const SCHEMES: &str = "staffetta_auth_password_scheme_total";
const HASH_SECONDS: &str = "staffetta_auth_hash_duration_seconds";
const HASH_WAITING: &str = "staffetta_auth_hash_waiting";
const SQL_SECONDS: &str = "staffetta_auth_sql_duration_seconds";
const DOVECOT_SECONDS: &str = "staffetta_auth_dovecot_duration_seconds";
const DOVECOT_CONNECTIONS: &str = "staffetta_auth_dovecot_connections_total";
const PROVIDER: &str = "staffetta_auth_provider_requests_total";
const BACKEND_UP: &str = "staffetta_auth_backend_up";

const SERVICE: &str = "staffetta.auth.v1.AuthService";
const METHODS: [&str; 5] = ["Authenticate", "GetMechanisms", "CheckSender", "LookupDomain", "LookupRecipient"];
const CODES: [&str; 6] = ["OK", "Canceled", "InvalidArgument", "DeadlineExceeded", "Unavailable", "Internal"];

/// Mechanisms with a label of their own: ours, and those that Dovecot may have.
const MECHANISMS: [&str; 8] =
    ["PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "CRAM-MD5", "DIGEST-MD5"];

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AuthResult {
    Success,
    Credentials,
    Malformed,
    Mechanism,
    Temporary,
}

impl AuthResult {
    const ALL: [Self; 5] = [Self::Success, Self::Credentials, Self::Malformed, Self::Mechanism, Self::Temporary];

    /// The label's value.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Credentials => "credentials",
            Self::Malformed => "malformed",
            Self::Mechanism => "mechanism",
            Self::Temporary => "temporary",
        }
    }
}

/// Handles, looked up once. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Handles>);

struct Handles {
    results: HashMap<(&'static str, AuthResult), Counter>,
    hit: Counter,
    miss: Counter,
    schemes: Vec<(&'static str, Counter)>,
    hash: Histogram,
    waiting: Gauge,
    sql: [Histogram; 5],
    dovecot: Histogram,
    dovecot_connections: Counter,
    provider_answered: Counter,
    provider_failed: Counter,
    backend_up: Gauge,
}

impl Metrics {
    /// Declares all families with the process's recorder.
    pub(crate) fn new() -> Self {
        describe();
        for method in METHODS {
            for code in CODES {
                handled(method, code).increment(0);
            }
        }
        let mechanisms = MECHANISMS.into_iter().chain(["other"]);
        let results = mechanisms
            .flat_map(|mechanism| AuthResult::ALL.map(|result| (mechanism, result)))
            .map(|(mechanism, result)| {
                let counter = counter!(RESULTS, "mechanism" => mechanism, "result" => result.label());
                counter.increment(0);
                ((mechanism, result), counter)
            })
            .collect();
        let cache = |result: &'static str| {
            let counter = counter!(CACHE, "result" => result);
            counter.increment(0);
            counter
        };
        let schemes = scheme::all_names().map(|scheme| {
            let counter = counter!(SCHEMES, "scheme" => scheme);
            counter.increment(0);
            (scheme, counter)
        });
        let provider = |result: &'static str| {
            let counter = counter!(PROVIDER, "result" => result);
            counter.increment(0);
            counter
        };
        let connections = counter!(DOVECOT_CONNECTIONS);
        connections.increment(0);
        Self(Arc::new(Handles {
            results,
            hit: cache("hit"),
            miss: cache("miss"),
            schemes: schemes.collect(),
            hash: histogram!(HASH_SECONDS),
            waiting: gauge!(HASH_WAITING),
            sql: Kind::ALL.map(|kind| histogram!(SQL_SECONDS, "query" => kind.label())),
            dovecot: histogram!(DOVECOT_SECONDS),
            dovecot_connections: connections,
            provider_answered: provider("answered"),
            provider_failed: provider("failed"),
            backend_up: gauge!(BACKEND_UP),
        }))
    }

    /// A call is answered, with this status.
    pub(crate) fn handled(&self, method: &'static str, code: tonic::Code) {
        handled(method, code_name(code)).increment(1);
    }

    /// An exchange has ended. Names that are not known count as "other": they come from the client.
    pub(crate) fn result(&self, mechanism: &str, result: AuthResult) {
        let known = MECHANISMS.into_iter().find(|name| *name == mechanism).unwrap_or("other");
        if let Some(counter) = self.0.results.get(&(known, result)) {
            counter.increment(1);
        }
    }

    /// A credential was known from before, or was not.
    pub(crate) fn cache(&self, hit: bool) {
        if hit { self.0.hit.increment(1) } else { self.0.miss.increment(1) }
    }

    /// A login has proven its password, which is stored under this scheme.
    pub(crate) fn proven(&self, scheme: &str) {
        if let Some((_, counter)) = self.0.schemes.iter().find(|(name, _)| *name == scheme) {
            counter.increment(1);
        }
    }

    /// A password was hashed.
    pub(crate) fn hash(&self, took: Duration) {
        self.0.hash.record(took.as_secs_f64());
    }

    /// Verifications that wait for a core.
    pub(crate) fn hash_waiting(&self, waiting: usize) {
        self.0.waiting.set(u32::try_from(waiting).unwrap_or(u32::MAX));
    }

    /// A query came back, with rows, without, or with an error.
    pub(crate) fn sql(&self, kind: Kind, took: Duration) {
        let [password, sender, domain, recipient, alias] = &self.0.sql;
        let histogram = match kind {
            Kind::Password => password,
            Kind::Sender => sender,
            Kind::Domain => domain,
            Kind::Recipient => recipient,
            Kind::Alias => alias,
        };
        histogram.record(took.as_secs_f64());
    }

    /// Dovecot has answered a message.
    pub(crate) fn dovecot_answered(&self, took: Duration) {
        self.0.dovecot.record(took.as_secs_f64());
    }

    /// A connection to Dovecot was made.
    pub(crate) fn dovecot_connected(&self) {
        self.0.dovecot_connections.increment(1);
    }

    /// The identity provider was asked for keys or about a token, and has answered, or not.
    pub(crate) fn provider(&self, answered: bool) {
        let counter = if answered { &self.0.provider_answered } else { &self.0.provider_failed };
        counter.increment(1);
    }

    /// The last probe of the back end.
    pub(crate) fn backend_up(&self, up: bool) {
        self.0.backend_up.set(f64::from(u8::from(up)));
    }
}

/// Declares every family with its series, for the page about them.
pub(crate) fn declare() {
    drop(Metrics::new());
    let _ = Readiness::new(CancellationToken::new()).needs("accounts", || Standing::Up);
}

fn handled(method: &'static str, code: &'static str) -> Counter {
    counter!(HANDLED, "grpc_service" => SERVICE, "grpc_method" => method, "grpc_code" => code)
}

/// The names that go-grpc's metrics use.
fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::Unavailable => "Unavailable",
        Code::Internal => "Internal",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::Unauthenticated => "Unauthenticated",
        Code::Unimplemented => "Unimplemented",
        _ => "Unknown",
    }
}

fn describe() {
    staffetta_queue::describe_revocation_metrics();
    describe_counter!(HANDLED, "Calls answered, by method and gRPC status. A refused login is an OK.");
    describe_counter!(RESULTS, "SASL exchanges ended, by mechanism and result.");
    describe_counter!(CACHE, "Credentials found in the cache of verified ones (hit) or verified anew (miss).");
    describe_counter!(
        SCHEMES,
        "Passwords that were right and not in the cache, by the scheme under which they are stored; PLAIN is in clear."
    );
    describe_histogram!(HASH_SECONDS, Unit::Seconds, "Time to hash one password, without the wait for a core.");
    describe_gauge!(HASH_WAITING, "Password verifications that wait for a core.");
    describe_histogram!(SQL_SECONDS, Unit::Seconds, "Time for one query, the wait for a connection included.");
    describe_histogram!(DOVECOT_SECONDS, Unit::Seconds, "Time for Dovecot's answer to one SASL message.");
    describe_counter!(DOVECOT_CONNECTIONS, "Connections made to Dovecot.");
    describe_counter!(PROVIDER, "Requests to the identity provider, for keys or about a token.");
    describe_gauge!(BACKEND_UP, "1 if the last probe of the back end succeeded.");
}
