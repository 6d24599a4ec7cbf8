//! What somebody may have meant by a name that there is not.

/// Most letters that may be wrong, for a name of so many letters.
fn tolerated(letters: usize) -> usize {
    (letters / 3).clamp(1, 3)
}

/// The names that are nearest to what was typed: those that contain it, else those that differ by a
/// slip or two; the nearest first, five at most.
pub(super) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let typed = typed.trim().to_lowercase();
    if typed.is_empty() {
        return Vec::new();
    }
    let letters = typed.chars().count();
    let mut near: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let lower = name.to_lowercase();
            if lower.contains(&typed) {
                return Some((0, name));
            }
            // Of a name of several words, one may be meant ("snowman" of "snowman, frozen").
            let words = lower.split([' ', ',', '-', '_']).chain([lower.as_str()]);
            let slips = words.map(|word| strsim::osa_distance(&typed, word)).min()?;
            (slips <= tolerated(letters)).then_some((slips, name))
        })
        .collect();
    near.sort_by_key(|&(slips, _)| slips);
    near.into_iter().take(5).map(|(_, name)| name).collect()
}

/// "; did you mean …?", or nothing.
pub(super) fn did_you_mean<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> String {
    match nearest(typed, names).as_slice() {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_parts_of_names_lead_to_them() {
        let names = || ["lighthouse", "snowman", "golden retriever", "2 steps"].into_iter();
        for (typed, meant) in [
            ("snwoman", "snowman"),
            ("Snow", "snowman"),
            ("ligthouse", "lighthouse"),
            ("retreiver", "golden retriever"),
            ("2 stpes", "2 steps"),
        ] {
            assert_eq!(nearest(typed, names()), [meant], "{typed}");
        }
        for typed in ["", "xyz", "elephant"] {
            assert!(nearest(typed, names()).is_empty(), "{typed}");
        }
        assert_eq!(did_you_mean("snwoman", names()), "; did you mean snowman?");
        assert_eq!(did_you_mean("xyz", names()), "");
    }
}
