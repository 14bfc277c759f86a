//! `staffetta dkim dns` and `staffetta dkim check`: the records of the configured keys, as they should be and as they are.
//!
//! Exit code of `check` 0: the DNS has all of them. 1: it has not, or cannot be asked.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use staffetta_config::{Config, Dkim, Service};
use staffetta_dkim::{Answer, Key, compare, record, record_name, strings};
use staffetta_transport::dns::{DnsSettings, Resolver};
use zeroize::Zeroizing;

use super::zone_line;
use crate::arguments::Records;
use crate::terminal::{complain, say};

/// A key of the configuration.
struct Configured {
    name: String,
    row: Dkim,
    key: Key,
    record: String,
}

pub(super) fn show(records: &Records) -> anyhow::Result<ExitCode> {
    let (_, keys) = load(records)?;
    if records.json {
        let each = keys.iter().map(|key| {
            json!({
                "name": key.name, "domain": key.row.domain, "selector": key.row.selector,
                "algorithm": key.key.algorithm().key_type(), "record": key.record, "strings": strings(&key.record),
            })
        });
        say(&each.collect::<serde_json::Value>().to_string());
    } else {
        keys.iter().for_each(|key| say(&zone_line(&key.name, &key.record)));
    }
    Ok(some(&keys))
}

pub(super) async fn check(records: &Records) -> anyhow::Result<ExitCode> {
    let (config, keys) = load(records)?;
    let resolver = Resolver::new(&DnsSettings::from(&config.dns)).map_err(|e| anyhow::anyhow!("failed to {e}"))?;
    let mut code = some(&keys);
    let mut each = Vec::new();
    for key in &keys {
        let (is_good, result) = match resolver.texts(&key.name).await {
            Ok(texts) => verdict(&compare(&texts, &key.key)?),
            Err(error) => (false, format!("cannot be looked up: {error}")),
        };
        if !is_good {
            code = ExitCode::FAILURE;
        }
        if records.json {
            each.push(json!({"name": key.name, "published": is_good, "result": result}));
        } else {
            say(&format!("{}: {result}", key.name));
        }
    }
    if records.json {
        say(&serde_json::Value::from(each).to_string());
    }
    Ok(code)
}

/// Nothing to tell is no success: a script would go on with no keys at all.
fn some(keys: &[Configured]) -> ExitCode {
    if keys.is_empty() {
        complain("the configuration has no [[delivery.dkim]]");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn load(records: &Records) -> anyhow::Result<(Config, Vec<Configured>)> {
    let config = records.file.load(Service::Delivery)?;
    let keys = config.delivery.dkim.iter().map(configured).collect::<anyhow::Result<_>>()?;
    Ok((config, keys))
}

fn configured(row: &Dkim) -> anyhow::Result<Configured> {
    let shown = row.key.display();
    let pem = std::fs::read(&row.key).with_context(|| format!("cannot read {shown}"))?;
    let key = Key::from_pem(&Zeroizing::new(pem)).map_err(|error| anyhow::anyhow!("{shown} {error}"))?;
    let (name, record) = (record_name(&row.selector, &row.domain), record(&key)?);
    Ok(Configured { name, row: row.clone(), key, record })
}

/// Is it good, and what is it?
fn verdict(answer: &Answer) -> (bool, String) {
    let text = match answer {
        Answer::Matches => return (true, "published".to_owned()),
        Answer::Missing => "not published: there is no TXT record".to_owned(),
        Answer::Several => "several TXT records: which one counts is undefined".to_owned(),
        Answer::Differs => "another key is published".to_owned(),
        Answer::Revoked => "the record says that the key is revoked (p=)".to_owned(),
        Answer::Unusable(reason) => format!("the record {reason}"),
    };
    (false, text)
}
