//! Search among the names of classes.

/// Numbers of the classes that match what was typed, best first: those whose number it is, whose
/// name begins with it, in which a word begins with it, that contain it. Several words must all
/// match. Everything matches nothing typed.
pub(crate) fn search(classes: &[String], typed: &str) -> Vec<usize> {
    let typed = typed.trim().to_lowercase();
    if typed.is_empty() {
        return (0..classes.len()).collect();
    }
    let mut found: Vec<_> = classes
        .iter()
        .enumerate()
        .filter_map(|(class, name)| Some((rank(class, &name.to_lowercase(), &typed)?, class)))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, class)| class).collect()
}

fn rank(class: usize, name: &str, typed: &str) -> Option<u8> {
    if typed.parse() == Ok(class) {
        return Some(0);
    }
    if name.starts_with(typed) {
        return Some(1);
    }
    let words = || name.split(|c: char| !c.is_alphanumeric());
    let of_word = |typed: &str| {
        if words().any(|word| word.starts_with(typed)) {
            Some(2)
        } else {
            name.contains(typed).then_some(3)
        }
    };
    typed.split_whitespace().map(of_word).try_fold(0, |worst: u8, rank| Some(worst.max(rank?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(typed: &str) -> Vec<usize> {
        let classes = [
            "tench, Tinca tinca",
            "great white shark",
            "tiger shark",
            "hot-air balloon",
            "shark tank",
        ];
        search(&classes.map(str::to_owned), typed)
    }

    #[test]
    fn the_best_match_comes_first() {
        assert_eq!(found("shark"), [4, 1, 2]);
        assert_eq!(found("TINCA"), [0]);
        assert_eq!(found("air"), [3]);
        assert_eq!(found("inc"), [0]);
        assert_eq!(found("3"), [3]);
    }

    #[test]
    fn several_words_must_all_match_in_any_order() {
        assert_eq!(found("shark white"), [1]);
        assert!(found("shark balloon").is_empty());
    }

    #[test]
    fn nothing_typed_matches_everything_in_order() {
        assert_eq!(found(" "), [0, 1, 2, 3, 4]);
    }
}
