//! DANE's questions: where the TLSA records of a host are, and what they say (RFC 7672 section 2.2).

use std::net::IpAddr;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::{Name, RData, Record};
use staffetta_policy::mx::Proof;
use staffetta_policy::tls::{self, Dane, Tlsa, Way};

use super::{DnsError, Found, Kind, Resolver, host_name};

impl Resolver {
    /// What DNS says of the certificate that a host shows at one of its addresses and this port. `names` are those by which
    /// it may be known besides its own.
    ///
    /// # Errors
    /// A look-up failed or was bogus: the host must not be used, for somebody may be hiding its records (section 2.1.2).
    pub async fn dane(&self, host: &str, address: IpAddr, port: u16, names: &[&str]) -> Result<Dane, DnsError> {
        let way = self.way(host, address).await?;
        let all: Vec<&str> = [host].into_iter().chain(names.iter().copied()).collect();
        for base in tls::base_domains(host, &way) {
            let records = self.tlsa(&base, port).await?;
            if !records.is_empty() {
                return Ok(tls::judge(&base, &all, records));
            }
        }
        Ok(Dane::Absent)
    }

    /// The way from the name to the address. It was walked a moment ago: the cache knows it.
    async fn way(&self, host: &str, address: IpAddr) -> Result<Way, DnsError> {
        let kind = if address.is_ipv4() { Kind::A } else { Kind::Aaaa };
        let answer = self.ask(host, kind).await?;
        let alias = match &answer.data {
            Found::Records(lookup) => alias(lookup),
            Found::NoData | Found::NoWord | Found::NoName => None,
        };
        let first = if alias.is_some() && answer.proof == Proof::Insecure {
            // The unsigned link may be further down.
            self.ask(host, Kind::Cname).await?.proof
        } else {
            answer.proof
        };
        Ok(Way { alias, proof: answer.proof, first })
    }

    /// The records that DNSSEC vouches for.
    async fn tlsa(&self, base: &str, port: u16) -> Result<Vec<Tlsa>, DnsError> {
        let name = format!("_{port}._tcp.{base}");
        let answer = self.ask(&name, Kind::Tlsa).await?;
        match answer.data {
            // An alias that leads to itself looks like this, and would open the way to clear text.
            Found::NoWord => self.no_alias(&name).await,
            Found::Records(lookup) if answer.proof == Proof::Secure => {
                Ok(lookup.answers().iter().filter_map(tlsa).collect())
            }
            Found::Records(_) | Found::NoData | Found::NoName => Ok(Vec::new()),
        }
    }

    /// There are no records at this name, and no alias to where they may be.
    async fn no_alias(&self, name: &str) -> Result<Vec<Tlsa>, DnsError> {
        match self.ask(name, Kind::Cname).await?.data {
            Found::Records(_) => Err(DnsError {
                name: name.to_owned(),
                kind: Kind::Tlsa.name(),
                reason: "its aliases lead nowhere".to_owned(),
            }),
            Found::NoData | Found::NoWord | Found::NoName => Ok(Vec::new()),
        }
    }
}

/// Where the chain of aliases ends, if there is one.
fn alias(lookup: &Lookup) -> Option<String> {
    let targets: Vec<(&Name, &Name)> = lookup.answers().iter().filter_map(link).collect();
    let mut name = lookup.query().name();
    for _ in 0..targets.len() {
        match targets.iter().find(|(owner, _)| *owner == name) {
            Some((_, target)) => name = target,
            None => break,
        }
    }
    (name != lookup.query().name()).then(|| host_name(name))
}

fn link(record: &Record) -> Option<(&Name, &Name)> {
    match &record.data {
        RData::CNAME(target) => Some((&record.name, &target.0)),
        _ => None,
    }
}

fn tlsa(record: &Record) -> Option<Tlsa> {
    match &record.data {
        RData::TLSA(tlsa) => Some(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => None,
    }
}
