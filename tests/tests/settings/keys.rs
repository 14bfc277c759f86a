//! The list of all keys, and of the test in which each one has an effect. A key that is added, or that begins to work,
//! needs a line here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// A file of the workspace and a test in it.
type Test = (&'static str, &'static str);

const FRONTEND: &str = "tests/tests/settings/frontend.rs";
const STORE: &str = "tests/tests/settings/store.rs";
const DELIVERY: &str = "tests/tests/settings/delivery.rs";
const SERVICE: &str = "services/frontend/tests/service/main.rs";
const PROXY: &str = "services/frontend/tests/service/proxy.rs";
const CERTIFICATES: &str = "tests/tests/certificates.rs";
const AUTHOR: &str = "services/frontend/tests/service/author.rs";
const ALLOWANCE: &str = "services/frontend/tests/service/allowance.rs";
const WORKER: &str = "services/delivery/tests/delivery.rs";
const AUTH: &str = "services/auth/tests/service.rs";
const SCRAM: &str = "services/auth/tests/scram.rs";
const ABUSE: &str = "tests/tests/abuse.rs";
const OAUTH: &str = "services/auth/tests/oauth.rs";

/// Two services find each other by what the world of these tests writes for it.
const WORLD: Test = ("tests/tests/journey.rs", "one_message_reaches_all_its_destinations_once");
const DANE: Test = ("services/delivery/tests/dane/mod.rs", "what_a_signed_zone_says_of_a_certificate_is_obeyed");
const DKIM: Test = ("services/delivery/tests/dkim/mod.rs", "each_key_of_the_authors_domain_signs_what_arrives");
const SITES: &str = "services/delivery/tests/sites/mod.rs";
const PROVIDER: Test = (SITES, "the_hosts_of_a_provider_are_treated_as_its_table_says");
const REFUSED: &str = "tests/tests/bounces.rs";
const SUPPRESSED: Test =
    (REFUSED, "who_is_refused_for_good_is_suppressed_where_that_is_asked_for_until_it_is_taken_back");
const CANONICAL: Test = (
    "services/frontend/tests/service/canonical.rs",
    "machines_and_logins_of_ours_send_as_whom_they_become_and_strangers_as_they_are",
);
const VERP: Test = (
    "services/delivery/tests/verp/mod.rs",
    "each_recipient_has_a_transaction_of_his_own_and_our_reports_go_to_the_sender",
);
const RETURNED: &str = "services/frontend/tests/service/verp.rs";
const COMPLAINTS: Test = ("tests/tests/verp.rs", "who_complains_is_known_by_the_address_that_the_mail_left_from");
const SHAPING: &str = "services/delivery/tests/sites/shaping.rs";
const RULE: Test = (SHAPING, "a_rule_of_the_file_says_what_is_too_much_and_for_how_long");
const FEWER: Test = (SHAPING, "servers_that_find_connections_too_many_get_fewer_for_a_while");
const SLOW_SERVERS: Test = (SHAPING, "servers_that_find_messages_too_many_get_them_slowly_until_an_operator_ends_it");
const POOL: Test = (
    "services/delivery/tests/sites/sources.rs",
    "connections_come_from_the_addresses_of_the_pool_and_give_their_names",
);
const WARM_UP: Test = (
    "services/delivery/tests/sites/sources.rs",
    "a_new_address_sends_no_more_than_it_may_today_and_others_send_the_rest",
);
const CHUNKING: &str = "services/delivery/tests/chunking/mod.rs";
const TLS_REPORT: Test =
    ("services/delivery/tests/tls_reports/mod.rs", "a_domain_that_asks_is_told_how_the_tls_of_its_mail_went");
const STS: &str = "services/delivery/tests/sts/mod.rs";
const SENDERS: &str = "services/delivery/tests/routes/senders.rs";
const TIMES: Test = (DELIVERY, "each_step_of_a_delivery_has_its_own_time");
const REDIS_TLS: Test =
    ("crates/queue/tests/contract/tls.rs", "who_does_not_show_a_certificate_or_is_not_trusted_has_no_queue");
const SNI: Test = (FRONTEND, "a_client_that_asks_for_a_name_gets_its_certificate");
const SIGNED: Test = (OAUTH, "a_token_that_the_provider_has_signed_opens_the_account_that_it_names");
const ASKED: Test = (OAUTH, "the_provider_says_whether_a_token_is_good");
const QUERIES: Test = (AUTH, "each_parameter_of_a_query_is_what_its_name_says");
const DOVECOT: Test = ("services/auth/tests/backends/main.rs", "real_dovecot_passes");
const MUTUAL: Test = (AUTH, "mutual_tls_lets_in_who_has_a_certificate");
const REPLICA: Test = ("tests/tests/loss/store.rs", "without_the_word_of_its_replica_nothing_is_accepted");
const PLACES: Test = ("tests/tests/places.rs", "clients_that_end_in_every_way_leave_nothing_behind_in_the_frontend");
const TRACED: Test = ("tests/tests/traces.rs", "a_message_is_one_trace_from_the_login_to_the_remote_reply");
const LOG: Test = (FRONTEND, "the_log_has_the_format_and_the_level_of_the_file");
const HIDDEN: Test = (FRONTEND, "the_log_names_nobody_if_the_file_says_so_and_a_message_can_be_followed_all_the_same");
const SENDING: Test = (FRONTEND, "what_may_be_sent_is_said_by_the_file");
const SIZES: Test = (FRONTEND, "limits_of_a_message_are_those_of_the_file");
const BARE_LF: Test =
    ("services/frontend/tests/service/content.rs", "bare_lf_is_refused_where_the_file_says_so_but_not_from_everybody");
const COUNTED: Test = (AUTHOR, "errors_and_recipients_beyond_the_limit_are_counted_as_the_file_says");
const SHOWN: Test = ("services/delivery/tests/tokens/mod.rs", "one_token_is_for_all_workers_and_nobody_else");
const TO_ROUTE: Test = (WORKER, "a_login_is_sent_in_tls_and_never_after_a_broken_handshake");

const SPOOL: &str = "tests/tests/spool.rs";
const SLOW: Test = (ABUSE, "a_login_that_sends_too_much_is_told_of_then_slow_then_held");
const BLOCKED: Test = (ABUSE, "a_login_that_comes_to_its_block_is_thrown_out_until_it_is_over");
const BOUNCES: Test = (ABUSE, "mail_that_comes_back_is_counted_by_workers_and_acted_on_by_frontends");
const NETWORKS: Test = (ABUSE, "many_networks_and_many_domains_are_told_of");

const KEYS: &[(&str, Test)] = &[
    ("hostname", (FRONTEND, "hostname_is_the_name_in_greeting_and_trace")),
    ("redis.url", WORLD),
    ("redis.ca", REDIS_TLS),
    ("redis.certificate", REDIS_TLS),
    ("redis.key", REDIS_TLS),
    ("redis.partitions", (STORE, "the_queue_has_as_many_partitions_as_the_file_says_and_all_are_used")),
    ("redis.name", (STORE, "a_queue_of_another_name_is_not_touched")),
    ("redis.create", ("tests/tests/queue.rs", "a_queue_begins_where_an_operator_says_so")),
    ("redis.durability", (STORE, "a_server_without_a_synced_file_is_enough_only_when_the_file_says_so")),
    ("redis.replicas", REPLICA),
    ("redis.max_memory_ratio", (STORE, "mail_is_refused_above_the_ratio_of_the_file")),
    ("spool.url", (SPOOL, "large_bodies_lie_in_the_directory_and_arrive_as_they_were")),
    ("spool.compression", (STORE, "a_body_takes_less_of_redis_unless_the_file_says_otherwise_and_arrives_as_it_was")),
    ("spool.redis_limit", (SPOOL, "redis_limit_says_what_is_too_large_for_redis")),
    ("spool.offload_after", (SPOOL, "a_body_that_waits_moves_to_the_store_after_the_time_of_the_file")),
    ("spool.incoming_limit", (SPOOL, "messages_on_their_way_in_take_no_more_of_the_store_than_the_file_says")),
    ("spool.inline_limit", (STORE, "a_body_above_the_inline_limit_of_the_file_is_stored_beside_its_record")),
    ("tls.certificate", SNI),
    ("tls.key", SNI),
    ("tls.client_ca", (CERTIFICATES, "curl_logs_in_by_its_certificate")),
    ("tls.sni.name", SNI),
    ("tls.sni.certificate", SNI),
    ("tls.sni.key", SNI),
    ("rpc.ca", MUTUAL),
    ("rpc.certificate", MUTUAL),
    ("rpc.key", (SERVICE, "mutual_tls_towards_the_auth_service")),
    ("auth.listen", WORLD),
    ("auth.http", WORLD),
    ("auth.backend", DOVECOT),
    ("auth.dovecot.socket", DOVECOT),
    ("auth.mechanisms", (SCRAM, "scram_is_offered_when_it_is_asked_for_and_not_before")),
    ("auth.scram_secret", (SCRAM, "a_login_that_does_not_exist_looks_like_most_that_do_from_the_first_question_on")),
    ("auth.drain_delay", (AUTH, "a_drain_answers_newcomers_for_its_delay")),
    ("auth.cache_ttl", (AUTH, "what_was_verified_or_owned_is_believed_for_cache_ttl_and_no_longer")),
    ("auth.oauth.keys", SIGNED),
    ("auth.oauth.introspection", ASKED),
    ("auth.oauth.client_id", ASKED),
    ("auth.oauth.client_secret", ASKED),
    ("auth.oauth.ca", (OAUTH, "a_provider_that_is_away_is_no_refusal")),
    ("auth.oauth.issuer", SIGNED),
    ("auth.oauth.audience", SIGNED),
    ("auth.oauth.algorithms", (OAUTH, "what_a_token_says_of_its_own_signature_is_not_believed")),
    ("auth.oauth.login_claim", (OAUTH, "the_claim_of_the_file_is_the_login")),
    ("auth.oauth.scope", SIGNED),
    ("auth.sql.url", (AUTH, "a_back_end_that_is_not_there_yet_is_waited_for")),
    ("auth.sql.schema", ("services/auth/tests/backends/main.rs", "sqlite_passes")),
    ("auth.sql.password_query", QUERIES),
    ("auth.sql.sender_query", QUERIES),
    ("auth.sql.domain_query", QUERIES),
    ("auth.sql.recipient_query", QUERIES),
    ("auth.sql.alias_query", QUERIES),
    ("frontend.http", WORLD),
    ("frontend.auth", (SERVICE, "an_auth_service_that_is_away_is_a_454_and_comes_back_by_itself")),
    ("frontend.trusted_networks", ("tests/tests/policy.rs", "a_trusted_network_relays_without_a_login")),
    ("frontend.relay_domains", SENDING),
    (
        "frontend.relay_domains_from_auth",
        ("tests/tests/policy.rs", "our_own_domains_take_mail_from_strangers_and_know_their_recipients"),
    ),
    ("frontend.verify_recipients", ("tests/tests/verify.rs", "without_the_check_mail_is_taken_unseen")),
    ("frontend.trusted_certificates", (CERTIFICATES, "swaks_relays_by_a_trusted_certificate")),
    ("frontend.error_limit", COUNTED),
    ("frontend.recipient_overshoot_limit", COUNTED),
    ("frontend.header_from_must_match_login", (AUTHOR, "a_login_writes_only_its_own_addresses_into_from")),
    ("frontend.received_client", (AUTHOR, "received_says_of_a_user_what_it_may")),
    ("frontend.size_limit", SIZES),
    ("frontend.recipient_limit", SIZES),
    ("frontend.reject_unknown_recipient_domain", SENDING),
    ("frontend.sender_must_match_login", SENDING),
    ("frontend.enable_vrfy", SENDING),
    ("frontend.etrn_networks", SENDING),
    ("frontend.connection_limit", PLACES),
    (
        "frontend.connections_per_client",
        ("services/frontend/tests/service/crowd.rs", "connections_of_a_client_are_counted_over_all_pods"),
    ),
    (
        "frontend.auth_failures_per_client",
        ("tests/tests/policy.rs", "a_client_that_guesses_passwords_is_sent_away_and_counted"),
    ),
    (
        "frontend.auth_failures_per_login",
        (
            "services/frontend/tests/service/guesses.rs",
            "a_login_that_many_guess_at_is_closed_to_strangers_and_open_to_its_owner",
        ),
    ),
    ("frontend.postmaster", (FRONTEND, "mail_for_the_postmaster_goes_where_the_file_says")),
    ("frontend.proxy_from", (PROXY, "the_client_of_the_header_counts_for_trust_limits_log_and_trace")),
    (
        "frontend.xclient_from",
        (
            "services/frontend/tests/service/xclient.rs",
            "the_client_that_is_named_counts_for_policy_limits_log_and_trace",
        ),
    ),
    ("frontend.canonical.sender", CANONICAL),
    ("frontend.canonical.becomes", CANONICAL),
    ("frontend.messages_per_login", (SERVICE, "a_login_sends_no_more_than_it_may")),
    ("frontend.queued_per_login", (SERVICE, "a_login_has_no_more_in_the_queue_than_it_may")),
    ("frontend.recipients_per_login", (ALLOWANCE, "a_login_names_no_more_recipients_than_it_may")),
    (
        "frontend.reverse_dns",
        ("services/frontend/tests/service/names.rs", "a_client_has_the_name_that_the_dns_confirms_in_log_and_trace"),
    ),
    ("frontend.bare_lf", BARE_LF),
    ("frontend.bare_lf_from", BARE_LF),
    ("frontend.min_data_rate", ("services/frontend/tests/service/tls.rs", "content_that_only_drips_is_given_up")),
    ("frontend.timeout", (SERVICE, "limits_of_connections_and_patience")),
    ("frontend.abuse.messages", SLOW),
    ("frontend.abuse.recipients", BLOCKED),
    ("frontend.abuse.domains", NETWORKS),
    ("frontend.abuse.bounces", BOUNCES),
    ("frontend.abuse.unknown_recipients", BOUNCES),
    ("frontend.abuse.new_networks", NETWORKS),
    ("frontend.abuse.notify", SLOW),
    ("frontend.abuse.slow", SLOW),
    ("frontend.abuse.hold", SLOW),
    ("frontend.abuse.block", BLOCKED),
    ("frontend.abuse.block_for", BLOCKED),
    ("frontend.drain_delay", (FRONTEND, "a_drain_lets_new_clients_in_for_its_delay")),
    ("frontend.listener.name", (FRONTEND, "a_listener_without_tls_offers_none")),
    ("frontend.listener.bind", WORLD),
    ("frontend.listener.kind", ("tests/tests/policy.rs", "submission_wants_tls_then_a_login_then_ones_own_sender")),
    ("frontend.listener.tls", (FRONTEND, "a_listener_without_tls_offers_none")),
    ("frontend.listener.proxy_from", (PROXY, "a_listener_has_its_own_proxies_and_places")),
    ("frontend.listener.connection_limit", (PROXY, "a_listener_has_its_own_proxies_and_places")),
    ("dns.servers", WORLD),
    ("dns.dnssec", DANE),
    ("dns.trust_anchor", DANE),
    ("delivery.http", WORLD),
    ("delivery.concurrency", (DELIVERY, "connections_are_as_many_as_the_file_says")),
    ("delivery.destination_concurrency", (DELIVERY, "a_destination_has_as_many_connections_as_the_file_says")),
    ("delivery.drain_limit", (WORKER, "a_drain_ends_at_its_limit_and_leaves_the_rest_to_others")),
    ("delivery.retry_min", (DELIVERY, "waits_stay_within_their_bounds")),
    ("delivery.retry_max", (DELIVERY, "waits_stay_within_their_bounds")),
    ("delivery.lifetime", ("tests/tests/delivery.rs", "a_message_that_expires_is_reported")),
    ("delivery.delay_warning", (WORKER, "a_late_message_is_announced_once")),
    ("delivery.port", WORLD),
    ("delivery.chunking", (CHUNKING, "who_does_not_want_chunks_sends_dots")),
    ("delivery.mta_sts", (STS, "who_does_not_want_policies_does_not_ask_for_them")),
    ("delivery.mta_sts_port", (STS, "what_a_domain_says_on_its_web_server_is_obeyed")),
    ("delivery.tls", (WORKER, "plaintext_is_remembered_for_may_and_never_used_at_encrypt_or_verify")),
    ("delivery.ca", (WORKER, "the_level_verify_checks_the_certificate_and_delivery_ca_adds_an_issuer")),
    ("delivery.timeouts.connect", (DELIVERY, "a_connection_has_its_time_too")),
    ("delivery.timeouts.greeting", TIMES),
    ("delivery.timeouts.tls", TIMES),
    ("delivery.timeouts.helo", TIMES),
    ("delivery.timeouts.mail", TIMES),
    ("delivery.timeouts.rcpt", TIMES),
    ("delivery.timeouts.data", TIMES),
    ("delivery.timeouts.transfer", TIMES),
    ("delivery.timeouts.final", TIMES),
    ("delivery.source_addresses", (WORKER, "connections_come_from_the_source_address")),
    ("delivery.blocked_networks", (WORKER, "blocked_networks_are_not_dialled_after_a_look_up")),
    ("delivery.lease", ("tests/tests/loss/lease.rs", "a_lease_lasts_as_long_as_its_holder_lives")),
    ("delivery.route.domain", (DELIVERY, "a_route_has_a_level_of_its_own")),
    ("delivery.route.sender", (SENDERS, "mail_of_one_domain_goes_by_its_sender_with_the_login_of_its_route_only")),
    ("delivery.route.login", (SENDERS, "mail_of_a_login_goes_by_its_route_from_the_addresses_of_its_pool")),
    ("delivery.route.via", TO_ROUTE),
    ("delivery.route.tls", (DELIVERY, "a_route_has_a_level_of_its_own")),
    ("delivery.route.username", TO_ROUTE),
    ("delivery.route.password", TO_ROUTE),
    ("delivery.route.token_url", SHOWN),
    ("delivery.route.client_id", SHOWN),
    ("delivery.route.client_secret", SHOWN),
    ("delivery.route.refresh_token", SHOWN),
    ("delivery.route.scope", SHOWN),
    ("delivery.destination_rate", (DELIVERY, "destinations_get_so_many_messages_as_the_file_says")),
    ("delivery.route.rate", (DELIVERY, "destinations_get_so_many_messages_as_the_file_says")),
    (
        "delivery.route.concurrency",
        (DELIVERY, "a_route_has_as_many_connections_as_it_says_and_others_have_those_of_the_file"),
    ),
    (
        "delivery.route.ignore_extensions",
        (SITES, "what_the_servers_of_a_route_offer_is_ignored_where_the_route_says_so"),
    ),
    ("delivery.destination.domain", (SITES, "all_domains_of_a_table_share_its_rate")),
    ("delivery.destination.rate", (SITES, "all_domains_of_a_table_share_its_rate")),
    ("delivery.destination.mx", PROVIDER),
    ("delivery.destination.concurrency", PROVIDER),
    ("delivery.destination.messages_per_connection", PROVIDER),
    ("delivery.destination.ignore_extensions", (SITES, "what_a_host_offers_is_ignored_where_the_file_says_so")),
    ("delivery.destination.tls", (SITES, "the_table_of_its_hosts_says_how_much_encryption_a_domain_needs")),
    ("delivery.suppress_after", SUPPRESSED),
    ("delivery.suppress_for", (RELOADED, "who_is_refused_for_good_is_suppressed_as_the_file_says_now")),
    ("delivery.known_rules", (SHAPING, "who_does_not_want_the_known_rules_goes_on")),
    ("delivery.rule.reply", RULE),
    ("delivery.rule.action", (REFUSED, "what_a_rule_calls_final_is_reported_although_the_server_would_be_asked_again")),
    ("delivery.rule.mx", RULE),
    ("delivery.rule.times", RULE),
    ("delivery.rule.suspend", RULE),
    ("delivery.rule.rate", SLOW_SERVERS),
    ("delivery.rule.connections", FEWER),
    ("delivery.rule.for", FEWER),
    (
        "delivery.rule.domain",
        ("crates/policy/src/shaping.rs", "a_rule_may_be_for_domains_and_a_pattern_has_its_limits"),
    ),
    ("delivery.tls_report.from", TLS_REPORT),
    ("delivery.tls_report.organization", TLS_REPORT),
    ("delivery.tls_report.period", TLS_REPORT),
    ("delivery.default_source", POOL),
    ("delivery.source.pool", POOL),
    ("delivery.source.address", POOL),
    ("delivery.source.hostname", POOL),
    ("delivery.source.warm_up", WARM_UP),
    ("delivery.warm_up_days", WARM_UP),
    (
        "delivery.source.weight",
        ("crates/policy/src/source.rs", "each_address_has_its_share_of_the_connections_of_its_family"),
    ),
    ("delivery.route.source", POOL),
    ("delivery.dkim.domain", DKIM),
    ("delivery.dkim.selector", DKIM),
    ("delivery.dkim.key", DKIM),
    ("frontend.complaints", COMPLAINTS),
    ("delivery.suppress_complaints", COMPLAINTS),
    ("verp.sender", VERP),
    ("verp.key", VERP),
    (
        "verp.suppress",
        (RETURNED, "a_report_counts_once_and_is_about_nobody_else_and_counts_only_where_its_sender_may_suppress"),
    ),
    ("log.format", LOG),
    ("log.level", LOG),
    ("log.addresses", HIDDEN),
    ("log.address_key", HIDDEN),
    ("telemetry.otlp_endpoint", TRACED),
    ("telemetry.otlp_ca", ("tests/tests/traces.rs", "a_collector_is_believed_by_its_certificate")),
    ("telemetry.sample_ratio", ("tests/tests/traces.rs", "of_no_message_is_a_trace_taken_with_a_ratio_of_nothing")),
    ("log.syslog_name", (FRONTEND, "the_log_of_a_relay_that_is_called_postfix_is_one_of_postfix")),
];

const RELOAD: &str = "services/frontend/tests/service/reload.rs";
const RELOADED: &str = "services/delivery/tests/reload/mod.rs";
const TOLD: Test = (RELOAD, "a_new_session_is_told_what_holds_now_and_one_that_is_open_goes_on_as_it_began");
const RIGHTS: Test = (RELOAD, "networks_have_the_rights_that_they_have_now");
const RULES: Test = (RELOAD, "recipients_and_senders_are_judged_by_the_rules_of_now");
const MANY: Test = (RELOAD, "places_and_guesses_are_as_many_as_there_are_now");
const MAY: Test = (RELOAD, "a_login_may_send_what_it_may_now");
const PATIENT: Test = ("services/frontend/src/setup.rs", "the_patience_of_a_session_is_that_of_the_configuration");
const AGAIN: Test = (RELOADED, "what_fails_now_is_tried_again_and_told_of_as_it_should_be_now");
const AT_A_TIME: Test = (RELOADED, "a_next_hop_gets_as_much_at_a_time_as_it_may_now");
const IN_TIME: Test = (RELOADED, "an_attempt_has_the_time_and_asks_for_the_encryption_of_now");

/// The keys that take effect at once, a table or an array as a whole; and the test that sees it in a service that runs.
const AT_ONCE: &[(&str, Test)] = &[
    ("frontend.trusted_networks", RIGHTS),
    ("frontend.relay_domains", RULES),
    ("frontend.verify_recipients", (RELOAD, "recipients_are_asked_about_where_their_mail_goes_now")),
    ("frontend.postmaster", RULES),
    ("frontend.size_limit", TOLD),
    ("frontend.recipient_limit", TOLD),
    ("frontend.recipient_overshoot_limit", TOLD),
    ("frontend.error_limit", TOLD),
    ("frontend.reject_unknown_recipient_domain", RULES),
    ("frontend.sender_must_match_login", RULES),
    ("frontend.header_from_must_match_login", RULES),
    ("frontend.canonical", RULES),
    ("frontend.received_client", RULES),
    ("frontend.enable_vrfy", TOLD),
    ("frontend.etrn_networks", RIGHTS),
    ("frontend.connection_limit", MANY),
    ("frontend.connections_per_client", MANY),
    ("frontend.auth_failures_per_client", MANY),
    ("frontend.auth_failures_per_login", MANY),
    ("frontend.messages_per_login", MAY),
    ("frontend.recipients_per_login", MAY),
    ("frontend.queued_per_login", MAY),
    ("frontend.proxy_from", RIGHTS),
    ("frontend.xclient_from", RIGHTS),
    ("frontend.bare_lf", TOLD),
    ("frontend.bare_lf_from", TOLD),
    ("frontend.timeout", PATIENT),
    ("frontend.min_data_rate", PATIENT),
    ("frontend.drain_delay", (RELOAD, "a_drain_takes_as_long_as_it_should_now")),
    ("delivery.destination_concurrency", AT_A_TIME),
    ("delivery.destination_rate", AT_A_TIME),
    ("delivery.retry_min", AGAIN),
    ("delivery.retry_max", AGAIN),
    ("delivery.lifetime", (RELOADED, "a_report_lives_as_long_as_mail_does_now")),
    ("delivery.delay_warning", AGAIN),
    ("delivery.chunking", (CHUNKING, "who_does_not_want_chunks_sends_dots")),
    ("delivery.tls", IN_TIME),
    ("delivery.drain_limit", AT_A_TIME),
    ("delivery.timeouts", IN_TIME),
    ("delivery.route", (RELOADED, "mail_takes_the_way_of_now_and_shows_the_password_of_now")),
    ("delivery.default_source", (RELOADED, "pools_and_destinations_are_those_of_now")),
    ("delivery.source", (RELOADED, "pools_and_destinations_are_those_of_now")),
    ("delivery.warm_up_days", (RELOADED, "pools_and_destinations_are_those_of_now")),
    ("delivery.destination", (RELOADED, "pools_and_destinations_are_those_of_now")),
    ("delivery.suppress_after", (RELOADED, "who_is_refused_for_good_is_suppressed_as_the_file_says_now")),
    ("delivery.suppress_for", (RELOADED, "who_is_refused_for_good_is_suppressed_as_the_file_says_now")),
    ("delivery.known_rules", (RELOADED, "what_is_too_much_for_servers_is_what_the_rules_of_now_say")),
    ("delivery.rule", (RELOADED, "what_is_too_much_for_servers_is_what_the_rules_of_now_say")),
    ("frontend.complaints", (RETURNED, "complaints_are_heard_and_suppress_as_the_file_says_now")),
    ("delivery.suppress_complaints", (RETURNED, "complaints_are_heard_and_suppress_as_the_file_says_now")),
    ("verp", ("services/delivery/tests/verp/mod.rs", "mail_leaves_as_the_tables_of_now_say")),
    ("log.level", ("tests/tests/reload.rs", "services_take_over_what_they_may_and_refuse_what_is_wrong_as_a_whole")),
];

/// Key to the text below its heading, and below that of its table.
fn reference(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let page = fs::read_to_string(root.join("docs/configuration.md"))?;
    let mut keys = BTreeMap::new();
    for table in page.split("\n## ").skip(1) {
        let mut parts = table.split("\n### ");
        let about = parts.next().unwrap_or_default();
        for part in parts {
            let key = part.split('`').nth(1).context("a heading without a key")?;
            keys.insert(key.to_owned(), format!("{about}\n{part}"));
        }
    }
    Ok(keys)
}

#[test]
fn each_key_has_a_test_that_sees_its_effect() -> anyhow::Result<()> {
    let root = Path::new("..");
    let mut reference = reference(root)?;
    for (key, (file, test)) in KEYS {
        assert!(reference.remove(*key).is_some(), "{key}: there is no such key, or it stands here twice");
        let text = fs::read_to_string(root.join(file)).with_context(|| file.to_string())?;
        assert!(text.contains(&format!("fn {test}(")), "{key}: {file} has no test {test}");
    }
    assert!(reference.is_empty(), "no test is named for {:?}", reference.keys());
    Ok(())
}

#[test]
fn each_key_takes_effect_when_the_page_says_so() -> anyhow::Result<()> {
    let root = Path::new("..");
    for (key, text) in reference(root)? {
        let is_named = AT_ONCE.iter().any(|(it, _)| key == *it || key.starts_with(&format!("{it}.")));
        let says = if is_named { "- Takes effect: at once.\n" } else { "- Takes effect: after a restart.\n" };
        assert!(text.contains(says), "{key}: a test that sees it in a running service, or none, is named here");
    }
    for (key, (file, test)) in AT_ONCE {
        let text = fs::read_to_string(root.join(file)).with_context(|| file.to_string())?;
        assert!(text.contains(&format!("fn {test}(")), "{key}: {file} has no test {test}");
        // The key is written there as its field, or in the file's own form.
        let name = key.rsplit('.').next().unwrap_or(key);
        assert!(text.contains(name) || *key == "delivery.route", "{key}: {file} does not have it");
    }
    Ok(())
}
