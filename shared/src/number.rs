//! Numbers as people write them.

use crate::seed::ascii_digit;

/// The finite number that a text means: digits of any script with a point or a comma before the
/// decimals, a sign, an exponent; leading zeros, `.5` and `5.` too. Nothing if it is none.
///
/// Read by the reader of JSON, which is on the page anyway: another one brings ten kilobytes of
/// tables with it.
pub fn number_of(text: &str) -> Option<f64> {
    let typed: String = text.trim().chars().map(|c| ascii_digit(c).unwrap_or(c)).collect();
    let (sign, unsigned) = match typed.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", typed.strip_prefix('+').unwrap_or(&typed)),
    };
    let unsigned = match (unsigned.matches(',').count(), unsigned.contains('.')) {
        (1, false) => unsigned.replace(',', "."),
        _ => unsigned.to_owned(),
    };
    let (digits, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => unsigned.split_at(at),
        None => (unsigned.as_str(), ""),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let mut all = whole.bytes().chain(decimals.bytes()).peekable();
    if all.peek().is_none() || !all.all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // JSON wants a digit on both sides of a point, and no zeros to begin with.
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let decimals = if decimals.is_empty() { "0" } else { decimals };
    serde_json::from_str(&format!("{sign}{whole}.{decimals}{exponent}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_however_they_are_written() {
        for text in [
            "0",
            "7",
            "007",
            "+5",
            "-5",
            "-0.5",
            ".5",
            "5.",
            "0.95",
            "1e3",
            "1E-3",
            "2.5e+2",
            "00.10",
            "100",
            "1e22",
            "123456.789",
            " 2 ",
            "0e5",
        ] {
            assert_eq!(number_of(text), text.trim().parse().ok(), "{text}");
        }
        assert_eq!(number_of("2,5"), Some(2.5));
        assert_eq!(number_of("-,5"), Some(-0.5));
        assert_eq!(number_of("２,５"), Some(2.5));
        assert_eq!(number_of("٣"), Some(3.0));
    }

    #[test]
    fn what_is_no_finite_number_is_none() {
        for text in [
            "", " ", ".", "-", "+", "e5", ".e5", "1e", "nan", "inf", "infinity", "1e999", "0x10",
            "1.2.3", "1,2,3", "1,000.5", "1 000", "--1", "+-1", "1-", "½", "1e5e5", "5..",
        ] {
            assert_eq!(number_of(text), None, "{text}");
        }
    }
}
