//! Numbers and durations, appended without an allocation.

use std::time::Duration;

/// Decimal digits.
pub(super) fn push_number(out: &mut Vec<u8>, value: u64) {
    push_padded(out, value, 1);
}

/// Decimal digits, with zeros in front up to `width`.
pub(super) fn push_padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while value > 0 || digits.len() - start < width {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[start..]);
}

/// Seconds with three decimals: a JSON number.
pub(super) fn push_seconds(out: &mut Vec<u8>, time: Duration) {
    push_number(out, time.as_secs());
    out.push(b'.');
    push_padded(out, u64::from(time.subsec_millis()), 3);
}

/// Seconds as Postfix writes `delay=`: two significant digits, hundredths at most, no zeros at the end.
pub(super) fn push_delay(out: &mut Vec<u8>, time: Duration) {
    // Smallest step shown, in milliseconds.
    let step = match time.as_secs() {
        0 => 10,
        1..10 => 100,
        _ => 1000,
    };
    let millis = (time + Duration::from_micros(step * 500)).as_millis() as u64;
    let hundredths = (millis - millis % step) / 10;
    push_number(out, hundredths / 100);
    match hundredths % 100 {
        0 => {}
        rest if rest % 10 == 0 => {
            out.push(b'.');
            push_number(out, rest / 10);
        }
        rest => {
            out.push(b'.');
            push_padded(out, rest, 2);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn text(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers() {
        for n in [0, 7, 10, 1025, u64::MAX] {
            assert_eq!(text(|out| push_number(out, n)), n.to_string());
        }
        assert_eq!(text(|out| push_padded(out, 5, 3)), "005");
        assert_eq!(text(|out| push_seconds(out, Duration::from_millis(1404))), "1.404");
    }

    #[test]
    fn delays_as_postfix_writes_them() {
        let rows = [
            (0, "0"),
            (4, "0"),
            (5, "0.01"),
            (14, "0.01"),
            (100, "0.1"),
            (144, "0.14"),
            (999, "1"),
            (1404, "1.4"),
            (1990, "2"),
            (9949, "9.9"),
            (9960, "10"),
            (12_300, "12"),
            (432_000_600, "432001"),
        ];
        for (millis, expected) in rows {
            assert_eq!(text(|out| push_delay(out, Duration::from_millis(millis))), expected, "{millis} ms");
        }
    }
}
