//! Texts in the DNS.

use hickory_resolver::proto::rr::RData;

use super::{DnsError, Found, Kind, Resolver};

impl Resolver {
    /// The TXT records of a name, each with its parts put together; what is no UTF-8 is left out.
    ///
    /// # Errors
    /// No answer now.
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let Found::Records(lookup) = self.ask(name, Kind::Txt).await?.data else { return Ok(Vec::new()) };
        let text = |data: &RData| match data {
            RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
            _ => None,
        };
        Ok(lookup.answers().iter().filter_map(|record| text(&record.data)).collect())
    }
}
