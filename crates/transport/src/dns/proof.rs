//! What DNSSEC says of an answer, from the marks on its records.
//!
//! A validator marks each record, or refuses the whole answer as bogus; in the other modes nothing is marked, or all is by
//! the server's word (see [`super::upstream`]). What carries no mark has come from elsewhere (the hosts file), and nobody
//! vouches for it.

use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof as Mark;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Record;
use staffetta_policy::mx::{Answer, Proof};

use super::{Found, Lookup};

/// Of records that belong together; of none at all nobody has said anything.
pub(super) fn of_records<'a>(records: impl IntoIterator<Item = &'a Record>) -> Proof {
    let mut marks = records.into_iter().map(|record| record.proof).peekable();
    if marks.peek().is_some() && marks.all(|mark| mark == Mark::Secure) { Proof::Secure } else { Proof::Insecure }
}

/// What was found, aliases on the way included.
pub(super) fn of_lookup(lookup: Lookup) -> Answer<Found> {
    let signature = |record: &&Record| !record.record_type().is_rrsig();
    let proof = of_records(lookup.answers().iter().filter(signature));
    Answer { data: Found::Records(lookup), proof }
}

/// That there is nothing, if this error says so.
pub(super) fn of_absence(error: &NetError) -> Option<Answer<Found>> {
    let found = |code| if code == ResponseCode::NXDomain { Found::NoName } else { Found::NoData };
    match error {
        // Who denies something names his zone (RFC 2308 section 2.2). Aliases in a circle end without such a word.
        NetError::Dns(DnsError::NoRecordsFound(none))
            if none.response_code == ResponseCode::NoError && none.soa.is_none() && none.authorities.is_none() =>
        {
            Some(Answer { data: Found::NoWord, proof: Proof::Insecure })
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let said = none.authorities.iter().flat_map(|records| records.iter());
            let proof = of_records(said.filter(|record| !record.record_type().is_rrsig()));
            Some(Answer { data: found(none.response_code), proof })
        }
        // A zone may leave unsigned names out of what it denies; that is no lie, and no proof.
        NetError::Dns(DnsError::Nsec { response, proof, .. }) if *proof != Mark::Bogus => {
            Some(Answer { data: found(response.response_code), proof: Proof::Insecure })
        }
        _ => None,
    }
}
