//! The metric families of the frontend, and the handles that its hot paths keep.
//!
//! Families are described and registered here, so that they show as zero before anything happens. Labels are bounded:
//! listeners and mechanisms come from the configuration, codes and reasons from tables; never an address or a login.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::time::Duration;

use crate::stream::Broken;
use staffetta_mail::feedback::ComplaintKind;
use staffetta_policy::diagnosis::Class;
use staffetta_policy::relay::Objection;
use staffetta_smtp::server::Activity;
use staffetta_telemetry::catalogue::OPEN;
use staffetta_telemetry::{Readiness, Standing};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// What a login attempt came to; values of the label `result`.
pub(crate) const AUTH_RESULTS: [&str; 7] =
    ["success", "failed", "malformed", "aborted", "unavailable", "limited", "blocked"];

/// Handles that belong to one listener.
pub(crate) struct ListenerMetrics {
    pub(crate) connections: Counter,
    pub(crate) active: Gauge,
    pub(crate) over_limit: Counter,
    pub(crate) over_listener_limit: Counter,
    pub(crate) over_client_limit: Counter,
    pub(crate) proxy: ProxyMetrics,
}

/// Connections that ended with their PROXY header, or for want of one.
pub(crate) struct ProxyMetrics {
    pub(crate) malformed: Counter,
    pub(crate) late: Counter,
    /// It came from outside `proxy_from`.
    pub(crate) forbidden: Counter,
}

/// Handles that all listeners share.
pub(crate) struct Metrics {
    pub(crate) commands: Commands,
    /// MAIL to DATA.
    pub(crate) envelope: Histogram,
    /// MAIL that was answered late on purpose.
    pub(crate) slowed: Counter,
    /// Logins that came again, so that nobody was asked.
    pub(crate) repeated: Counter,
}

/// Handles of the intake.
pub(crate) struct IntakeMetrics {
    recipients: Counter,
    /// Messages that wait for an operator.
    held: Counter,
    bytes: Counter,
    size: Histogram,
    commit: Histogram,
    /// 354 to the final dot.
    content: Histogram,
}

/// Handles of the questions to recipients' own servers: what they came to, and where answers came from.
pub(crate) struct VerifyMetrics {
    pub(crate) deliverable: Counter,
    pub(crate) undeliverable: Counter,
    pub(crate) unknown: Counter,
    pub(crate) unavailable: Counter,
    pub(crate) busy: Counter,
    pub(crate) from_probe: Counter,
    pub(crate) from_flight: Counter,
    pub(crate) from_cache: Counter,
    pub(crate) from_rest: Counter,
}

/// Answers to commands and messages, by stage and first digit of the reply.
pub(crate) struct Commands([[Counter; 4]; Activity::ALL.len()]);

/// Counts calls to the auth service.
pub(crate) struct Rpc(());

impl ListenerMetrics {
    /// `tls` is the listener's mode as in the configuration.
    pub(crate) fn new(name: &str, tls: &'static str) -> Self {
        let listener = || name.to_owned();
        let rejected = |reason: &'static str| {
            let listener = listener();
            counter!("staffetta_smtp_connections_rejected_total", "listener" => listener, "reason" => reason)
        };
        Self {
            connections: counter!("staffetta_smtp_connections_total", "listener" => listener(), "tls" => tls),
            active: gauge!("staffetta_smtp_connections_active", "listener" => listener()),
            over_limit: rejected("connection_limit"),
            over_listener_limit: rejected("listener_connection_limit"),
            over_client_limit: rejected("connections_per_client"),
            proxy: ProxyMetrics {
                malformed: rejected("proxy_malformed"),
                late: rejected("proxy_late"),
                forbidden: rejected("proxy_forbidden"),
            },
        }
    }
}

impl Metrics {
    /// Describes all families and registers those whose labels are known.
    pub(crate) fn new(mechanisms: &[String]) -> Self {
        describe();
        for mechanism in mechanisms {
            for result in AUTH_RESULTS {
                auth(mechanism, result).increment(0);
            }
        }
        for objection in Objection::ALL {
            rejection("RCPT", objection.code(), objection.label()).increment(0);
        }
        for version in ["TLSv1.3", "TLSv1.2"] {
            handshake(version).increment(0);
        }
        for reason in Broken::ALL {
            failed_handshake(reason.label()).increment(0);
        }
        Self {
            commands: Commands::new(),
            envelope: histogram!("staffetta_smtp_transaction_duration_seconds", "stage" => "envelope"),
            slowed: counter!("staffetta_smtp_slowed_total"),
            repeated: counter!("staffetta_smtp_auth_repeated_total"),
        }
    }
}

impl IntakeMetrics {
    pub(crate) fn new() -> Self {
        Self {
            recipients: counter!("staffetta_recipients_accepted_total"),
            held: counter!("staffetta_messages_held_total"),
            bytes: counter!("staffetta_messages_accepted_bytes_total"),
            size: histogram!("staffetta_message_size_bytes"),
            commit: histogram!("staffetta_queue_commit_duration_seconds"),
            content: histogram!("staffetta_smtp_transaction_duration_seconds", "stage" => "content"),
        }
    }

    /// The message is held.
    pub(crate) fn held(&self) {
        self.held.increment(1);
    }

    /// A message is in the queue: its octets, its recipients, how long its content took to come and to become durable.
    pub(crate) fn accepted(&self, size: u64, recipients: usize, content: Duration, commit: Duration) {
        self.recipients.increment(recipients as u64);
        self.bytes.increment(size);
        self.size.record(size as f64);
        self.content.record(content);
        self.commit.record(commit);
    }
}

impl VerifyMetrics {
    pub(crate) fn new() -> Self {
        let probe = |result: &'static str| counter!("staffetta_recipient_probes_total", "result" => result);
        let from = |source: &'static str| counter!("staffetta_recipient_verifications_total", "source" => source);
        Self {
            deliverable: probe("deliverable"),
            undeliverable: probe("undeliverable"),
            unknown: probe("unknown"),
            unavailable: probe("unavailable"),
            busy: probe("busy"),
            from_probe: from("probe"),
            from_flight: from("shared_probe"),
            from_cache: from("cache"),
            from_rest: from("resting_server"),
        }
    }
}

impl Commands {
    fn new() -> Self {
        Self(Activity::ALL.map(|activity| ["2", "3", "4", "5"].map(|class| Self::counter(activity, class))))
    }

    /// Connections have families of their own; only AUTH and DATA have a middle.
    fn counter(activity: Activity, class: &'static str) -> Counter {
        let goes_on = matches!(activity, Activity::Command(verb) if verb.row().goes_on);
        if activity == Activity::Connect || (class == "3" && !goes_on) {
            return Counter::noop();
        }
        counter!("staffetta_smtp_commands_total", "command" => activity.name(), "code_class" => class)
    }

    /// `class` is the first digit, 2 to 5.
    pub(crate) fn count(&self, activity: Activity, class: u8, n: u16) {
        let class = usize::from(class).saturating_sub(2);
        if let Some(counter) = self.0[activity.index()].get(class) {
            counter.increment(n.into());
        }
    }
}

/// The messages that one listener took.
pub(crate) fn messages_accepted(listener: &str) -> Counter {
    counter!("staffetta_messages_accepted_total", "listener" => listener.to_owned())
}

/// One login attempt that ended.
pub(crate) fn auth(mechanism: &str, result: &'static str) -> Counter {
    counter!("staffetta_smtp_auth_total", "mechanism" => mechanism.to_owned(), "result" => result)
}

/// One refusal; `reason` is `protocol` unless policy or queue decided.
pub(crate) fn rejection(stage: &'static str, code: u16, reason: &'static str) -> Counter {
    counter!("staffetta_smtp_rejections_total", "stage" => stage, "code" => code.to_string(), "reason" => reason)
}

/// What a cluster-wide limit kept from happening.
pub(crate) fn rate_limited(scope: &'static str) -> Counter {
    counter!("staffetta_rate_limited_total", "scope" => scope)
}

/// A limit that could not be looked up, so that the pod counts by itself.
pub(crate) fn rate_limit_unavailable(scope: &'static str) -> Counter {
    counter!("staffetta_rate_limit_unavailable_total", "scope" => scope)
}

/// One TLS handshake as the server.
pub(crate) fn handshake(version: &'static str) -> Counter {
    counter!("staffetta_tls_handshakes_total", "side" => "server", "version" => version, "result" => "ok")
}

/// One that failed: the result is the reason.
pub(crate) fn failed_handshake(reason: &'static str) -> Counter {
    counter!("staffetta_tls_handshakes_total", "side" => "server", "version" => "none", "result" => reason)
}

/// One client that has shown a certificate.
pub(crate) fn client_certificate(trusted: bool, proven: bool) -> Counter {
    let result = match (trusted, proven) {
        (true, _) => "trusted",
        (false, true) => "proven",
        (false, false) => "unknown",
    };
    counter!("staffetta_tls_client_certificates_total", "result" => result)
}

impl Rpc {
    pub(crate) fn new() -> Self {
        for method in ["Authenticate", "CheckSender", "LookupDomain", "LookupRecipient"] {
            Self::counter(method, Code::Ok).increment(0);
        }
        Self(())
    }

    /// Counts one call: `None` for a good one. A call takes a network round trip; the look-up of the handle does not
    /// matter beside it.
    pub(crate) fn count(&self, method: &'static str, failure: Option<&Status>) {
        Self::counter(method, failure.map_or(Code::Ok, Status::code)).increment(1);
    }

    fn counter(method: &'static str, code: Code) -> Counter {
        // The names that go-grpc made known.
        let code = if code == Code::Ok { "OK".to_owned() } else { format!("{code:?}") };
        counter!("staffetta_grpc_client_requests_total", "method" => method, "code" => code)
    }
}

/// Complaints about mail.
pub(crate) fn complaints(kind: ComplaintKind, proven: bool) -> Counter {
    counter!("staffetta_complaints_total", "type" => kind.as_str(), "proof" => proof(proven))
}

const fn proof(proven: bool) -> &'static str {
    if proven { "verp" } else { "none" }
}

/// Reports that came in, of somebody who did not get a message.
pub(crate) fn remote_bounces(class: Class, proven: bool) -> Counter {
    counter!("staffetta_remote_bounces_total", "class" => class.as_str(), "proof" => proof(proven))
}

/// Recipients who are suppressed by them.
pub(crate) fn report_suppressions() -> Counter {
    counter!("staffetta_report_suppressions_total")
}

/// Declares every family with its series, for the page about them.
pub(crate) fn declare() {
    drop(Metrics::new(&[OPEN.to_owned()]));
    let (_, _, _) = (IntakeMetrics::new(), VerifyMetrics::new(), Rpc::new());
    let _ = ListenerMetrics::new(OPEN, "starttls");
    for tls in ["implicit", "off"] {
        let _ = ListenerMetrics::new(OPEN, tls);
    }
    let _ = messages_accepted(OPEN);
    let _ = report_suppressions();
    for kind in ComplaintKind::ALL {
        let _ = (complaints(kind, true), complaints(kind, false));
    }
    for class in Class::ALL {
        let _ = (remote_bounces(class, true), remote_bounces(class, false));
    }
    for scope in ["auth", "login", "message", "recipient", "queued", "probe"] {
        let _ = (rate_limited(scope), rate_limit_unavailable(scope));
    }
    let _ = rate_limit_unavailable("connection");
    for (trusted, proven) in [(true, true), (false, true), (false, false)] {
        let _ = client_certificate(trusted, proven);
    }
    let _ = counter!("staffetta_grpc_client_requests_total", "code" => OPEN);
    let _ = counter!("staffetta_smtp_rejections_total", "stage" => OPEN, "code" => OPEN, "reason" => OPEN);
    let _ = gauge!("staffetta_tls_certificate_not_after_timestamp_seconds", "name" => OPEN);
    staffetta_queue::describe_logins_over_threshold();
    let ready = Readiness::new(CancellationToken::new());
    let _ = ready.needs("redis", || Standing::Up).needs("auth", || Standing::Up);
}

fn describe() {
    staffetta_queue::describe_metrics();
    staffetta_queue::describe_revocation_metrics();
    staffetta_queue::describe_conduct_metrics();
    staffetta_transport::dns::describe_metrics();
    describe_counter!("staffetta_smtp_connections_total", "Connections accepted, by listener and its TLS mode.");
    describe_gauge!("staffetta_smtp_connections_active", "Connections open now.");
    describe_counter!(
        "staffetta_smtp_connections_rejected_total",
        "Connections that ended before a session began, by listener and reason."
    );
    describe_counter!(
        "staffetta_smtp_commands_total",
        "Replies to commands and messages, by command and first digit of the code."
    );
    describe_counter!("staffetta_smtp_auth_total", "Login attempts, by mechanism and result.");
    describe_counter!(
        "staffetta_smtp_auth_repeated_total",
        "Those of them that needed no question to the auth service: the same credentials were right a moment ago."
    );
    describe_counter!(
        "staffetta_smtp_rejections_total",
        "Commands and messages refused, by stage, reply code and reason."
    );
    describe_counter!(
        "staffetta_rate_limited_total",
        "What cluster-wide limits refused, by scope (auth: logins of a client, login: logins as one user, message: \
         messages of a login, recipient: recipients of a login, queued: messages of a login that wait, probe: questions \
         about recipients)."
    );
    describe_counter!(
        "staffetta_rate_limit_unavailable_total",
        "Look-ups of cluster-wide limits that Redis did not answer, by scope (connection: connections of a client, others as \
         above); each pod counts by itself then."
    );
    describe_counter!(
        "staffetta_recipient_probes_total",
        "Questions to recipients' own servers, by result; unknown: a 4xx, unavailable: no answer, busy: not asked."
    );
    describe_counter!(
        "staffetta_recipient_verifications_total",
        "Recipients of relay_domains whom strangers named, by where the answer came from."
    );
    describe_counter!("staffetta_messages_accepted_total", "Messages answered with 250 after their content.");
    describe_counter!(
        "staffetta_complaints_total",
        "Complaints that came in to frontend.complaints, by type, and by proof: whether the mail left from the recipient's own address."
    );
    describe_counter!(
        "staffetta_remote_bounces_total",
        "Reports that came in, of recipients behind other systems whom mail did not reach, by class, and by proof: whether the report came to the recipient's own address."
    );
    describe_counter!(
        "staffetta_report_suppressions_total",
        "Recipients who get no mail for a while because of such reports."
    );
    describe_counter!("staffetta_recipients_accepted_total", "Recipients of accepted messages.");
    describe_counter!("staffetta_messages_held_total", "Accepted messages that are held: frontend.abuse.hold.");
    describe_counter!("staffetta_smtp_slowed_total", "MAIL commands that were answered late: frontend.abuse.slow.");
    describe_counter!("staffetta_messages_accepted_bytes_total", Unit::Bytes, "Octets of accepted messages as queued.");
    describe_histogram!("staffetta_message_size_bytes", Unit::Bytes, "Size of accepted messages as queued.");
    describe_histogram!(
        "staffetta_queue_commit_duration_seconds",
        Unit::Seconds,
        "From the end of the content until the message is durable."
    );
    describe_histogram!(
        "staffetta_smtp_transaction_duration_seconds",
        Unit::Seconds,
        "Time of accepted messages in a stage: envelope (MAIL to DATA), content (354 to the final dot)."
    );
    describe_counter!(
        "staffetta_tls_handshakes_total",
        "TLS handshakes, by side, version and result: ok, or why it failed."
    );
    describe_counter!(
        "staffetta_tls_client_certificates_total",
        "Clients that have shown a certificate, by what it is worth: trusted (it may relay), proven (an authority of ours \
         signed it), unknown."
    );
    describe_counter!("staffetta_grpc_client_requests_total", "Calls to the auth service, by method and gRPC code.");
    describe_gauge!(
        "staffetta_tls_certificate_not_after_timestamp_seconds",
        Unit::Seconds,
        "When the certificate in use expires, in seconds since the Unix epoch."
    );
}
