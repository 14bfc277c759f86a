//! A fake DNS on loopback, UDP and TCP, whose zone a test can change while it runs.
//!
//! What was not declared does not exist (NXDOMAIN). Every answer is authoritative, has a TTL of one second, and
//! negative answers carry an SOA so that resolvers cache them as briefly. Answers are proven if a test asks for that
//! ([`FakeDns::vouch`], [`FakeDns::sign`]).

mod proven;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NULL, PTR, SOA, TLSA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::ports::Port;
use proven::Proofs;

/// Most links of a chain of aliases that are followed.
const LONGEST_CHAIN: usize = 8;

/// A running server; it ends when dropped.
pub struct FakeDns {
    zone: Arc<Mutex<Zone>>,
    address: SocketAddr,
    /// Where it was for it to choose.
    _port: Option<Port>,
    _tasks: JoinSet<()>,
}

/// How a question came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

#[derive(Default)]
struct Zone {
    records: HashMap<Name, Vec<RData>>,
    failing: HashSet<Name>,
    failing_ipv6: HashSet<Name>,
    silent: HashSet<Name>,
    astray: HashSet<Name>,
    /// The mail hosts that one question after the other is answered with; then those in `records`.
    turns: HashMap<Name, VecDeque<RData>>,
    proofs: Proofs,
    /// What was asked, in order: name and type.
    asked: Vec<(Name, RecordType)>,
}

impl FakeDns {
    /// Starts with an empty zone.
    pub async fn start() -> anyhow::Result<Self> {
        let port = Port::reserve()?;
        let server = Self::start_at(port.address()).await?;
        Ok(Self { _port: Some(port), ..server })
    }

    /// The same at an address of the caller's, for those who can be told of no port.
    pub async fn start_at(address: SocketAddr) -> anyhow::Result<Self> {
        let udp = UdpSocket::bind(address).await.context("cannot bind UDP")?;
        let tcp = TcpListener::bind(address).await.context("cannot bind TCP")?;
        let zone = Arc::new(Mutex::new(Zone::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&zone)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&zone)));
        Ok(Self { zone, address, _port: None, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Questions answered so far.
    pub fn queries(&self) -> u64 {
        lock(&self.zone).asked.len() as u64
    }

    /// How often this was asked for: a name and a type, such as "TLSA", or "" for any.
    pub fn asked(&self, name: &str, kind: &str) -> usize {
        let name = (!name.is_empty()).then(|| fqdn(name));
        let fits = |(asked, of): &&(Name, RecordType)| {
            name.as_ref().is_none_or(|name| asked == name) && (kind.is_empty() || of.to_string() == kind)
        };
        lock(&self.zone).asked.iter().filter(fits).count()
    }

    /// From now on every answer that the client wants proven has the AD bit, as from a resolver that validates.
    pub fn vouch(&self) -> &Self {
        lock(&self.zone).proofs.vouches = true;
        self
    }

    /// From now on every answer is signed. Returns the trust anchor, as a file holds it.
    pub fn sign(&self) -> anyhow::Result<String> {
        let (signer, anchor) = proven::key()?;
        lock(&self.zone).proofs.signer = Some(signer);
        Ok(anchor)
    }

    /// Nobody vouches for this name and what is below it: a zone without DNSSEC.
    pub fn unsigned(&self, zone: &str) -> &Self {
        lock(&self.zone).proofs.unsigned.insert(fqdn(zone));
        self
    }

    /// The proof of this name's records is wrong; a resolver that validates answers SERVFAIL.
    pub fn forged(&self, name: &str) -> &Self {
        lock(&self.zone).proofs.forged.insert(fqdn(name));
        self
    }

    /// Adds a TLSA record.
    pub fn tlsa(&self, name: &str, [usage, selector, matching]: [u8; 3], data: &[u8]) -> &Self {
        let (usage, selector, matching) = (CertUsage::from(usage), Selector::from(selector), Matching::from(matching));
        self.add(name, RData::TLSA(TLSA::new(usage, selector, matching, data.to_vec())))
    }

    /// Adds a TLSA record of whatever octets, be they one or not.
    pub fn raw_tlsa(&self, name: &str, octets: &[u8]) -> &Self {
        self.add(name, raw(RecordType::TLSA, octets))
    }

    /// The same for MX.
    pub fn raw_mx(&self, name: &str, octets: &[u8]) -> &Self {
        self.add(name, raw(RecordType::MX, octets))
    }

    /// Adds a text, in strings that fit.
    pub fn txt(&self, name: &str, text: &str) -> &Self {
        let strings = text.as_bytes().chunks(255).map(|string| String::from_utf8_lossy(string).into_owned());
        self.add(name, RData::TXT(TXT::new(strings.collect())))
    }

    /// Adds `name MX preference exchange`.
    pub fn mx(&self, name: &str, preference: u16, exchange: &str) -> &Self {
        self.add(name, RData::MX(MX::new(preference, fqdn(exchange))))
    }

    /// Before what is added of a name, one question about it has this mail host for an answer, which nobody may remember. What
    /// is said so more than once comes in that order.
    pub fn mx_once(&self, name: &str, exchange: &str) -> &Self {
        let answer = RData::MX(MX::new(10, fqdn(exchange)));
        lock(&self.zone).turns.entry(fqdn(name)).or_default().push_back(answer);
        self
    }

    /// Adds the null MX of RFC 7505: the domain takes no mail.
    pub fn null_mx(&self, name: &str) -> &Self {
        self.add(name, RData::MX(MX::new(0, Name::root())))
    }

    /// Adds an A or AAAA record.
    pub fn host(&self, name: &str, address: impl Into<IpAddr>) -> &Self {
        let data = match address.into() {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        self.add(name, data)
    }

    /// Adds an alias.
    pub fn cname(&self, name: &str, target: &str) -> &Self {
        self.add(name, RData::CNAME(CNAME(fqdn(target))))
    }

    /// Every question about this name is answered with SERVFAIL.
    pub fn servfail(&self, name: &str) -> &Self {
        lock(&self.zone).failing.insert(fqdn(name));
        self
    }

    /// Only questions about its IPv6 addresses are.
    pub fn servfail_ipv6(&self, name: &str) -> &Self {
        lock(&self.zone).failing_ipv6.insert(fqdn(name));
        self
    }

    /// No question about this name is answered.
    pub fn silent(&self, name: &str) -> &Self {
        lock(&self.zone).silent.insert(fqdn(name));
        self
    }

    /// Every question about this name is sent on to TCP, and answered there as if another had been asked, about a name that
    /// does not exist.
    pub fn astray(&self, name: &str) -> &Self {
        lock(&self.zone).astray.insert(fqdn(name));
        self
    }

    /// Adds the name of an address, as in the reverse tree.
    pub fn pointer(&self, address: impl Into<IpAddr>, name: &str) -> &Self {
        let mut reverse = Name::from(address.into());
        reverse.set_fqdn(true);
        lock(&self.zone).records.entry(reverse).or_default().push(RData::PTR(PTR(fqdn(name))));
        self
    }

    /// Forgets all about a name.
    pub fn remove(&self, name: &str) -> &Self {
        let mut zone = lock(&self.zone);
        zone.records.remove(&fqdn(name));
        zone.failing.remove(&fqdn(name));
        zone.failing_ipv6.remove(&fqdn(name));
        zone.silent.remove(&fqdn(name));
        zone.astray.remove(&fqdn(name));
        zone.turns.remove(&fqdn(name));
        zone.proofs.forged.remove(&fqdn(name));
        drop(zone);
        self
    }

    fn add(&self, name: &str, data: RData) -> &Self {
        lock(&self.zone).records.entry(fqdn(name)).or_default().push(data);
        self
    }
}

impl Zone {
    fn is_silent(&self, request: &Message) -> bool {
        request.queries.first().is_some_and(|query| self.silent.contains(&query.name.to_lowercase()))
    }

    fn answer(&mut self, request: &Message, transport: Transport) -> Message {
        let mut reply = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        reply.metadata.recursion_desired = request.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.authoritative = true;
        let Some(query) = request.queries.first() else {
            reply.metadata.response_code = ResponseCode::FormErr;
            return reply;
        };
        let mut name = query.name.to_lowercase();
        let astray = self.astray.contains(&name);
        if astray && transport == Transport::Udp {
            reply.metadata.truncation = true;
            reply.add_query(query.clone());
            return reply;
        }
        if astray {
            name = fqdn("elsewhere.test");
        }
        reply.add_query(if astray { Query::query(name.clone(), query.query_type) } else { query.clone() });
        let of_family = query.query_type == RecordType::AAAA && self.failing_ipv6.contains(&name);
        if of_family || self.failing.contains(&name) {
            reply.metadata.response_code = ResponseCode::ServFail;
            return reply;
        }
        if query.query_type == RecordType::MX
            && let Some(answer) = self.turns.get_mut(&name).and_then(VecDeque::pop_front)
        {
            reply.add_answer(Record::from_rdata(name, 0, answer));
            return reply;
        }
        let mut exists = false;
        // Aliases may go round.
        while reply.answers.len() < LONGEST_CHAIN
            && let Some(records) = self.records.get(&name)
        {
            exists = true;
            let mut alias = None;
            for data in records {
                if data.record_type() == query.query_type || data.record_type() == RecordType::CNAME {
                    reply.add_answer(Record::from_rdata(name.clone(), 1, data.clone()));
                }
                if let RData::CNAME(target) = data {
                    alias = Some(target.0.to_lowercase());
                }
            }
            match alias {
                Some(target) if query.query_type != RecordType::CNAME => name = target,
                _ => break,
            }
        }
        if !exists {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        if reply.answers.is_empty() {
            let soa = SOA::new(fqdn("ns.test"), fqdn("hostmaster.test"), 1, 1, 1, 1, 1);
            reply.add_authority(Record::from_rdata(fqdn("test"), 1, RData::SOA(soa)));
        }
        let at_name = self.records.get(&query.name.to_lowercase());
        let exists: Vec<_> = at_name.into_iter().flatten().map(RData::record_type).collect();
        self.proofs.prove(request, &mut reply, &exists);
        reply
    }

    fn note(&mut self, request: &Message) {
        if let Some(query) = request.queries.first() {
            self.asked.push((query.name.to_lowercase(), query.query_type));
        }
    }
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0u8; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        if let Some(reply) = respond(&zone, &buffer[..length], Transport::Udp) {
            let _ = socket.send_to(&reply, peer).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve_stream(stream, Arc::clone(&zone)));
    }
}

async fn serve_stream(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut request = vec![0; usize::from(length)];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let Some(reply) = respond(&zone, &request, Transport::Tcp) else { continue };
        if stream.write_u16(reply.len() as u16).await.is_err() || stream.write_all(&reply).await.is_err() {
            return;
        }
    }
}

fn respond(zone: &Mutex<Zone>, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let request = Message::from_vec(request).ok()?;
    let mut zone = lock(zone);
    zone.note(&request);
    if zone.is_silent(&request) {
        return None;
    }
    zone.answer(&request, transport).to_vec().ok()
}

fn raw(code: RecordType, octets: &[u8]) -> RData {
    match octets {
        [] => RData::Update0(code),
        octets => RData::Unknown { code, rdata: NULL::with(octets.to_vec()) },
    }
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::expect_used, reason = "a test names its hosts itself")]
fn fqdn(name: &str) -> Name {
    let mut name = Name::from_ascii(name.to_ascii_lowercase()).expect("a host name");
    name.set_fqdn(true);
    name
}
