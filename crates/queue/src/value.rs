//! Replies of Redis, taken apart without surprises: what has the wrong type counts as missing.

use bytes::Bytes;
use redis::Value;

use crate::UnixMillis;

/// An integer, also one that is written as a string.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// A count; anything else is 0.
pub(crate) fn count(value: &Value) -> u64 {
    integer(value).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

/// The score of a sorted set: a double in RESP3, a string in RESP2.
pub(crate) fn score(value: &Value) -> Option<UnixMillis> {
    let score = match value {
        Value::Double(score) => *score,
        Value::Int(number) => return u64::try_from(*number).ok(),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok()?,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "scores are milliseconds")]
    (score >= 0.0).then_some(score as UnixMillis)
}

/// The elements; none of anything else.
pub(crate) fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        _ => &[],
    }
}

/// The elements, moved out.
pub(crate) fn into_array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

/// The octets of a string, moved out; `None` for nil.
pub(crate) fn into_bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

/// The text of a string.
pub(crate) fn str(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK"),
        _ => None,
    }
}

/// Members with their scores, as ZRANGE … WITHSCORES answers in RESP3 (pairs) and RESP2 (flat).
pub(crate) fn scored(value: &Value) -> Vec<(&str, UnixMillis)> {
    let values = array(value);
    match values.first() {
        Some(Value::Array(_)) => values
            .iter()
            .filter_map(|pair| match array(pair) {
                [member, at] => Some((str(member)?, score(at)?)),
                _ => None,
            })
            .collect(),
        _ => values.chunks_exact(2).filter_map(|pair| Some((str(&pair[0])?, score(&pair[1])?))).collect(),
    }
}

/// The reply to TIME in milliseconds.
pub(crate) fn time(value: &Value) -> Option<UnixMillis> {
    match array(value) {
        [seconds, micros] => {
            let (seconds, micros) = (integer(seconds)?, integer(micros)?);
            u64::try_from(seconds * 1_000 + micros / 1_000).ok()
        }
        _ => None,
    }
}
