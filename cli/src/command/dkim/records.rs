//! `staffetta dkim dns` and `staffetta dkim check`: the records of the configured keys, as they should be and as they are.
//!
//! Exit code of `check` 0: the DNS has all of them. 1: it has not, or cannot be asked.

use std::process::ExitCode;

use anyhow::Context;
use futures_util::future::join_all;
use serde_json::json;
use staffetta_config::{Config, Dkim, Service, read_file};
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
    let verdicts = join_all(keys.iter().map(|key| look_up(&resolver, key))).await;
    let each = keys.iter().zip(&verdicts);
    if records.json {
        let each =
            each.map(|(key, (is_good, result))| json!({"name": key.name, "published": is_good, "result": result}));
        say(&each.collect::<serde_json::Value>().to_string());
    } else {
        each.for_each(|(key, (_, result))| say(&format!("{}: {result}", key.name)));
    }
    let code = some(&keys);
    Ok(if verdicts.iter().all(|(is_good, _)| *is_good) { code } else { ExitCode::FAILURE })
}

/// What is wrong with the records of the configured keys, a line each.
pub(in crate::command) async fn unpublished(config: &Config) -> Vec<String> {
    let Ok(resolver) = Resolver::new(&DnsSettings::from(&config.dns)) else { return Vec::new() };
    // Keys that cannot be read have been complained of.
    let keys: Vec<_> = config.delivery.dkim.iter().filter_map(|row| configured(row).ok()).collect();
    let verdicts = join_all(keys.iter().map(|key| look_up(&resolver, key))).await;
    let bad = keys.iter().zip(verdicts).filter(|(_, (is_good, _))| !is_good);
    bad.map(|(key, (_, result))| format!("{}: {result}", key.name)).collect()
}

/// Is the record good, and what is it?
async fn look_up(resolver: &Resolver, key: &Configured) -> (bool, String) {
    match resolver.texts(&key.name).await {
        Ok(texts) => {
            compare(&texts, &key.key).map_or_else(|error| (false, error.to_string()), |answer| verdict(&answer))
        }
        Err(error) => (false, format!("cannot be looked up: {error}")),
    }
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
    let pem = read_file(&row.key).with_context(|| format!("cannot read {shown}"))?;
    let key = Key::from_pem(&Zeroizing::new(pem)).map_err(|error| anyhow::anyhow!("{shown} {error}"))?;
    let (name, record) = (record_name(&row.selector, &row.domain), record(&key)?);
    Ok(Configured { name, row: row.clone(), key, record })
}

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
