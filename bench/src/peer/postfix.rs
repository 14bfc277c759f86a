//! Postfix as a private instance: own configuration, queue and data directory; the system's Postfix is not touched.
//! Tuned as an administrator would for this load: no waiting on input, enough processes, connections to the next hop
//! cached, no look-ups that the load does not need.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use staffetta_testkit::certs::Leaf;
use staffetta_testkit::dovecot::Dovecot;

use super::{Peer, certificate, opendkim};
use crate::child::{Child, free_ports};
use crate::load::{Load, Login};
use crate::scenario::{CONNECTIONS, Case, address, domain};
use crate::submission::{HASH, LOGIN};

pub(super) async fn start(scratch: &Path, sink: u16, load: Load, case: Case, key: Option<&Path>) -> Result<Peer> {
    ensure!(rustix::process::geteuid().is_root(), "Postfix needs root; --only staffetta does not");
    let [port] = free_ports().await?;
    // Postfix' own users have to reach their directories below.
    fs::set_permissions(scratch, fs::Permissions::from_mode(0o755))?;
    for directory in ["etc", "spool", "data"] {
        fs::create_dir(scratch.join(directory))?;
    }
    let owned =
        Command::new("chown").arg("postfix").arg(scratch.join("data")).status().context("failed to run chown")?;
    ensure!(owned.success(), "failed to give the data directory to the user postfix");
    let dovecot = load.login.map(dovecot).transpose()?;
    let mut processes = Vec::new();
    let mut text = main_cf(scratch);
    text.push_str(&ways(scratch, sink, case)?);
    if let Some(key) = key {
        let (filter, port) = opendkim::start(scratch, key).await?;
        processes.push(filter);
        let _ = writeln!(text, "smtpd_milters = inet:127.0.0.1:{port}\nmilter_default_action = tempfail");
    }
    if let Some(dovecot) = &dovecot {
        text.push_str(&submission(&certificate(scratch)?, &dovecot.socket()));
    }
    fs::write(scratch.join("etc/main.cf"), text)?;
    fs::write(scratch.join("etc/master.cf"), master_cf(port, load.sessions, case.destinations))?;

    let mut command = Command::new("postfix");
    command.arg("-c").arg(scratch.join("etc")).arg("start-fg");
    let mut master = Child::start("postfix", scratch, command)?;
    master.answers(port, "", "220").await?;
    processes.push(master);
    Ok(Peer { port, processes, dovecot })
}

/// Who checks the logins; with as large a cache as Dovecot's guides say, or with none, as by default.
fn dovecot(login: Login) -> Result<Dovecot> {
    let settings = match login {
        Login::Cached => "auth_cache_size = 10M\nauth_cache_ttl = 5 mins",
        Login::Uncached => "",
    };
    Dovecot::start("plain login", &[&format!("{LOGIN}:{HASH}")], settings)
}

/// What main.cf says besides where clients log in: who does may relay, and nobody else.
fn submission(certificate: &Leaf, socket: &Path) -> String {
    format!(
        "\
mynetworks =
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_tls_security_level = encrypt
smtpd_tls_chain_files = {}, {}
smtpd_tls_auth_only = yes
smtpd_tls_session_cache_database =
tls_random_source = dev:/dev/urandom
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {}
",
        certificate.key.display(),
        certificate.certificate.display(),
        socket.display()
    )
}

/// Where mail goes, and how: as one next hop, or as a server for each destination.
fn ways(scratch: &Path, sink: u16, case: Case) -> Result<String> {
    let scratch = scratch.display();
    let mut text = if case.destinations == 1 {
        format!("relayhost = [127.0.0.1]:{sink}\n")
    } else {
        let table = (0..case.destinations)
            .map(|destination| format!("{} smtp:[{}]:{sink}\n", domain(destination.into()), address(destination)));
        fs::write(format!("{scratch}/etc/transport"), table.collect::<String>())?;
        format!("transport_maps = texthash:{scratch}/etc/transport\n")
    };
    if case.encrypts() {
        // Without the first, a connection with TLS ends after its message.
        let _ = writeln!(
            text,
            "smtp_tls_connection_reuse = yes\nsmtp_tls_security_level = encrypt\n\
             smtp_tls_session_cache_database = btree:{scratch}/data/smtp_scache\n\
             tls_random_source = dev:/dev/urandom"
        );
    }
    Ok(text)
}

fn main_cf(scratch: &Path) -> String {
    let scratch = scratch.display();
    format!(
        "\
compatibility_level = 3.6
queue_directory = {scratch}/spool
data_directory = {scratch}/data
maillog_file = {scratch}/maillog
maillog_file_prefixes = /
myhostname = relay.bench.test
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtp_dns_support_level = disabled
in_flow_delay = 0
default_process_limit = 100
default_destination_concurrency_limit = {CONNECTIONS}
initial_destination_concurrency = {CONNECTIONS}
smtp_connection_cache_on_demand = yes
"
    )
}

/// The services of the stock file that relaying needs, without chroot, and the log daemon. To many destinations there are as
/// many deliveries at a time as Staffetta has by default.
fn master_cf(port: u16, sessions: u32, destinations: u32) -> String {
    let smtpd = 100.max(sessions + 20);
    let smtp = if destinations == 1 { "-" } else { "500" };
    format!(
        "\
127.0.0.1:{port} inet n - n - {smtpd} smtpd
pickup    unix n - n 60    1 pickup
cleanup   unix n - n -     0 cleanup
qmgr      unix n - n 300   1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
tlsproxy  unix - - n -     0 tlsproxy
rewrite   unix - - n -     - trivial-rewrite
bounce    unix - - n -     0 bounce
defer     unix - - n -     0 bounce
trace     unix - - n -     0 bounce
verify    unix - - n -     1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n -     - proxymap
smtp      unix - - n - {smtp} smtp
relay     unix - - n -     - smtp
showq     unix n - n -     - showq
error     unix - - n -     - error
retry     unix - - n -     - error
discard   unix - - n -     - discard
anvil     unix - - n -     1 anvil
scache    unix - - n -     1 scache
postlog   unix-dgram n - n - 1 postlogd
"
    )
}
