//! A journey as text and as JSON. The JSON is stable, the text is not.

use serde_json::Value;
use staffetta_telemetry::printable;

/// The records as they were, then the message as it is.
pub(super) fn as_json(events: &[Value], now: Option<String>) -> String {
    let lines: Vec<String> = events.iter().map(Value::to_string).chain(now).collect();
    lines.join("\n")
}

/// `looked`: the queue could be asked.
pub(super) fn as_text(id: &str, events: &[Value], now: Option<String>, looked: bool) -> String {
    let mut text = id.to_owned();
    for event in events {
        let field = |name: &str| event[name].as_str().unwrap_or("?");
        text.push_str(&format!(
            "\n  {}  {} {}: {}",
            field("time"),
            field("service"),
            field("pod"),
            printable(&told(event))
        ));
    }
    match now {
        Some(now) => text.push_str(&format!("\n  in the queue:\n    {}", now.replace('\n', "\n    "))),
        None if looked => text.push_str("\n  not in the queue"),
        None => {}
    }
    text
}

/// What has happened, in a line.
fn told(event: &Value) -> String {
    let field = |name: &str| match &event[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let with = |before: &str, name: &str, behind: &str| match field(name) {
        text if text.is_empty() => String::new(),
        text => format!("{before}{text}{behind}"),
    };
    match field("event").as_str() {
        "accepted" => format!(
            "accepted from <{}> at {}, client {}[{}]{}{}: {} octets, {} recipients{}{}",
            field("from"),
            field("listener"),
            field("client_name"),
            field("client_ip"),
            with(", login ", "sasl_username", ""),
            with(", ", "tls", ""),
            field("size"),
            field("nrcpt"),
            with(", Message-ID ", "message_id", ""),
            with(", trace ", "trace_id", "")
        ),
        name @ ("delivered" | "deferred" | "bounced" | "expired") => format!(
            "{name} <{}>{}{}{}: {}{}{}",
            field("to"),
            with(" by ", "relay", ""),
            with("[", "relay_ip", "]"),
            with(" from ", "source_ip", ""),
            field("response"),
            with(" (", "class", ")"),
            with(" (next attempt in ", "next", " s)")
        ),
        "reported" => format!("its sender is told ({}): {}", field("kind"), field("report_qid")),
        "remote_bounce" => format!(
            "this report says that <{}> did not get mail of <{}>: {} ({}, proof {})",
            field("to"),
            field("from"),
            field("response"),
            field("class"),
            field("proof")
        ),
        "complaint" => format!(
            "this report is a complaint ({}){}{}, proof {}",
            field("type"),
            with(" of <", "to", ">"),
            with(" about mail of <", "from", ">"),
            field("proof")
        ),
        "removed" => "it has left the queue".to_owned(),
        "administered" => {
            format!("{}{} by {}{}", field("action"), with(" <", "to", ">"), field("by"), with(": ", "reason", ""))
        }
        name => name.replace('_', " "),
    }
}
