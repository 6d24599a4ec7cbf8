//! Seeds as people write them.

use crate::{MAX_SEED, number_of};

/// [`MAX_SEED`] as people read it.
const LARGEST: &str = "9 007 199 254 740 991 (2^53 - 1)";

/// The seed that a text means, as people write it: digits of any script, spaces between groups of
/// them, `1e6`, `5.0`.
///
/// # Errors
/// Why the text is no seed, in words.
pub fn seed_of(text: &str) -> Result<u64, String> {
    let typed = text.trim();
    let plain: String = typed
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '_')
        .map(|c| ascii_digit(c).unwrap_or(c))
        .collect();
    let too_large = || format!("{typed} is too large for a seed; the largest is {LARGEST}");
    // Decimals that are all zeros say nothing, and large numbers keep their last digit without.
    let whole = match plain.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
        _ => plain.as_str(),
    };
    let whole_number = whole.parse::<u64>().ok().or_else(|| {
        let value = number_of(&plain)?;
        (value.fract() == 0.0 && value >= 0.0).then_some(value as u64)
    });
    match whole_number {
        Some(seed) if seed <= MAX_SEED => Ok(seed),
        Some(_) => Err(too_large()),
        None if !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit()) => Err(too_large()),
        None if typed.is_empty() => Err("a seed is needed: any whole number will do".into()),
        None => Err(format!("“{typed}” is no seed; any whole number from 0 on will do")),
    }
}

/// The digit that a decimal digit of another script stands for: Arabic, Persian, Devanagari,
/// Bengali, Thai, full-width.
pub(crate) fn ascii_digit(c: char) -> Option<char> {
    const ZEROS: [u32; 6] = [0x0660, 0x06f0, 0x0966, 0x09e6, 0x0e50, 0xff10];
    let value = ZEROS.iter().find_map(|zero| (c as u32).checked_sub(*zero).filter(|d| *d < 10))?;
    char::from_digit(value, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_any_whole_number_that_json_keeps_however_it_is_written() {
        for (text, expected) in [
            ("7", 7),
            (" 7 ", 7),
            ("007", 7),
            ("+5", 5),
            ("4.0", 4),
            ("4.", 4),
            ("9007199254740989.0", 9_007_199_254_740_989),
            ("1e3", 1000),
            ("12 345", 12345),
            ("12\u{202f}345", 12345),
            ("1_000", 1000),
            ("٣", 3),
            ("４２", 42),
            ("9007199254740991", MAX_SEED),
            ("9 007 199 254 740 991", MAX_SEED),
        ] {
            assert_eq!(seed_of(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "1.5", "0x10", "abc", "1e300", "inf", "NaN", "18446744073709551616"]
        {
            assert!(seed_of(text).is_err(), "{text}");
        }
        let too_large = seed_of("9007199254740992").unwrap_err();
        assert!(too_large.contains("9007199254740992"), "{too_large}");
    }
}
