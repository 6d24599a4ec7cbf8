//! Words that were meant although they are spelled otherwise.

/// A text in lower case, as for comparing it with another one.
pub fn lowercase(text: &str) -> String {
    #[cfg(target_arch = "wasm32")]
    return js_sys::JsString::from(text).to_lower_case().into();
    #[cfg(not(target_arch = "wasm32"))]
    text.to_lowercase()
}

/// Whether `typed` is the beginning of `word` but for slips: one in four letters or more, two in
/// eight or more. A slip is a letter too many, too few, another one, or two in the wrong order.
/// Both are in lower case.
pub fn is_near(typed: &str, word: &str) -> bool {
    let (typed, word): (Vec<char>, Vec<char>) = (typed.chars().collect(), word.chars().collect());
    let allowed = match typed.len() {
        0..=3 => return false,
        4..=7 => 1,
        _ => 2,
    };
    // Against every beginning of the word of about this length, as of one that is still being
    // typed.
    let shortest = typed.len().saturating_sub(allowed).min(word.len());
    let longest = (typed.len() + allowed).min(word.len());
    let distances = distances_to_beginnings(&typed, &word[..longest]);
    distances[shortest..].iter().any(|&distance| distance <= allowed)
}

/// Slips between `typed` and the first `n` letters of `word`, for every `n` (the restricted
/// Damerau–Levenshtein distance).
fn distances_to_beginnings(typed: &[char], word: &[char]) -> Vec<usize> {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=word.len()).collect();
    for (i, &letter) in typed.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, &other) in word.iter().enumerate() {
            let mut best =
                (row[j] + usize::from(letter != other)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && letter == word[j - 1] && typed[i - 1] == other {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_forgiven_by_the_length_of_what_was_typed() {
        for (typed, word) in [
            ("snwoman", "snowman"),
            ("snoman", "snowman"),
            ("snowmann", "snowman"),
            ("snowmem", "snowman"),
            ("lihgt", "lighthouse"),
            ("lighthuose", "lighthouse"),
            ("buterfyl", "butterfly"),
            ("миг", "мир"),
        ] {
            let expected = typed != "миг" && typed != "snowmem";
            assert_eq!(is_near(typed, word), expected, "{typed} for {word}");
        }
        for (typed, word) in [("cat", "car"), ("fish", "windmill"), ("tree", "house"), ("", "a")] {
            assert!(!is_near(typed, word), "{typed} for {word}");
        }
    }
}
