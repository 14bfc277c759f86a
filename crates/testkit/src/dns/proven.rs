//! Answers that carry a proof: signed ones, as an authority gives them, or with the AD bit, as a validating resolver does.
//!
//! Everything is in one zone, the root, except what was declared [unsigned](super::FakeDns::unsigned): a zone of its own below
//! it, without a DS record.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use hickory_proto::dnssec::crypto::Ed25519SigningKey;
use hickory_proto::dnssec::rdata::sig::SigInput;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG};
use hickory_proto::dnssec::{DnssecSigner, SigningKey, TBS};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, SerialNumber};

/// How long a signature holds, both ways.
const DAY: u32 = 86_400;
/// Of every record.
const TTL: u32 = 1;

/// Who proves, and what he leaves out.
#[derive(Default)]
pub(super) struct Proofs {
    /// By AD bit.
    pub(super) vouches: bool,
    /// By signatures.
    pub(super) signer: Option<DnssecSigner>,
    /// Zones without proof.
    pub(super) unsigned: HashSet<Name>,
    /// Names whose proofs are wrong.
    pub(super) forged: HashSet<Name>,
}

/// The key of the root, and the trust anchor for it.
pub(super) fn key() -> anyhow::Result<(DnssecSigner, String)> {
    let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8()?)?;
    let dnskey = DNSKEY::from_key(&key.to_public_key()?);
    let anchor = format!(". {DAY} IN DNSKEY {dnskey}\n");
    Ok((DnssecSigner::new(dnskey, Box::new(key), Name::root(), Duration::from_secs(DAY.into())), anchor))
}

impl Proofs {
    /// The unsigned zone that a name is in.
    fn cut(&self, name: &Name) -> Option<&Name> {
        self.unsigned.iter().find(|zone| zone.zone_of(name))
    }

    /// Adds to an answer what proves it. `exists`: the types that there are at the name that was asked for.
    pub(super) fn prove(&self, request: &Message, reply: &mut Message, exists: &[RecordType]) {
        let Some(query) = request.queries.first() else { return };
        let (name, kind) = (query.name.to_lowercase(), query.query_type);
        let asked = request.metadata.authentic_data || request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        if self.vouches && reply.answers.iter().any(|record| self.forged.contains(&record.name)) {
            reply.answers.clear();
            reply.metadata.response_code = ResponseCode::ServFail;
        } else if self.vouches && asked {
            let mut owners = reply.answers.iter().map(|record| &record.name).chain([&name]);
            reply.metadata.authentic_data = owners.all(|owner| self.cut(owner).is_none());
        }
        let Some(signer) = &self.signer else { return };
        if kind == RecordType::DNSKEY && name.is_root() {
            reply.add_answer(record(&name, RData::DNSSEC(DNSSECRData::DNSKEY(signer.to_dnskey()))));
        }
        if kind == RecordType::NS && (name.is_root() || self.unsigned.contains(&name)) {
            reply.add_answer(record(&name, RData::NS(NS(name.clone()))));
        }
        if reply.answers.is_empty() {
            self.deny(reply, &name, kind, exists);
        } else {
            reply.metadata.response_code = ResponseCode::NoError;
            reply.authorities.clear();
        }
        if self.sign(signer, reply).is_err() {
            reply.metadata.response_code = ResponseCode::ServFail;
        }
    }

    /// There is nothing of this kind at this name. The proof is made up for it, as large providers do: the name exists, and
    /// the next one is right behind it.
    fn deny(&self, reply: &mut Message, name: &Name, kind: RecordType, exists: &[RecordType]) {
        let is_cut = self.unsigned.contains(name) && kind == RecordType::DS;
        let zone = if is_cut { None } else { self.cut(name) };
        let apex = zone.cloned().unwrap_or_else(Name::root);
        reply.authorities.clear();
        let soa = SOA::new(apex.clone(), apex.clone(), 1, 1, 1, 1, 1);
        reply.add_authority(record(&apex, RData::SOA(soa)));
        if zone.is_some() {
            return;
        }
        reply.metadata.response_code = ResponseCode::NoError;
        let mut types = vec![RecordType::RRSIG, RecordType::NSEC];
        types.extend(exists);
        if is_cut {
            types.push(RecordType::NS);
        }
        let Ok(next) = name.prepend_label("0") else { return };
        reply.add_authority(record(name, RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(next, types)))));
    }

    /// Signs all records that are in the root zone.
    fn sign(&self, signer: &DnssecSigner, reply: &mut Message) -> anyhow::Result<()> {
        let kind = reply.queries.first().map(|query| query.query_type);
        for section in [&mut reply.answers, &mut reply.authorities] {
            let mut sets: BTreeMap<(Name, RecordType), Vec<Record>> = BTreeMap::new();
            for record in section.iter() {
                let at_cut = self.unsigned.contains(&record.name) && kind == Some(RecordType::DS);
                if at_cut || self.cut(&record.name).is_none() {
                    sets.entry((record.name.clone(), record.record_type())).or_default().push(record.clone());
                }
            }
            for ((name, kind), records) in sets {
                section.push(self.signature(signer, &name, kind, &records)?);
            }
        }
        Ok(())
    }

    fn signature(
        &self,
        signer: &DnssecSigner,
        name: &Name,
        kind: RecordType,
        records: &[Record],
    ) -> anyhow::Result<Record> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("before 1970")?.as_secs() as u32;
        let input = SigInput {
            type_covered: kind,
            algorithm: signer.key().algorithm(),
            num_labels: name.num_labels(),
            original_ttl: TTL,
            sig_expiration: SerialNumber::new(now + DAY),
            sig_inception: SerialNumber::new(now - DAY),
            key_tag: signer.calculate_key_tag()?,
            signer_name: Name::root(),
        };
        let mut signature = signer.sign(&TBS::from_input(name, DNSClass::IN, &input, records.iter())?)?;
        if self.forged.contains(name) {
            signature[0] ^= 1;
        }
        Ok(record(name, RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, signature)))))
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}
