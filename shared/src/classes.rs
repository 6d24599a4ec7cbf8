//! Search among the names of classes.

use crate::spelling::{is_near, lowercase};

/// Numbers of the classes that match what was typed, best first: those whose number it is, whose
/// name begins with it, in which a word begins with it, that contain it, in which a word begins
/// with it but for slips of the keyboard. Several words must all match. Everything matches nothing
/// typed.
pub fn search(classes: &[String], typed: &str) -> Vec<usize> {
    let typed = lowercase(typed.trim());
    if typed.is_empty() {
        return (0..classes.len()).collect();
    }
    let ranks: Vec<_> = classes
        .iter()
        .enumerate()
        .map(|(class, name)| rank(class, &lowercase(name), &typed))
        .collect();
    let of_rank =
        |wanted: u8| ranks.iter().enumerate().filter(move |(_, rank)| **rank == Some(wanted));
    (0..=WORST).flat_map(of_rank).map(|(class, _)| class).collect()
}

/// The last rank that still is a match.
const WORST: u8 = 4;

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
            let contains = name.contains(typed).then_some(3);
            contains.or_else(|| words().any(|word| is_near(typed, word)).then_some(WORST))
        }
    };
    typed.split_whitespace().map(of_word).try_fold(0, |worst: u8, rank| Some(worst.max(rank?)))
}

/// A name as it is compared: lower case, with one space for whatever stands between two words.
pub fn plain(name: &str) -> String {
    let lower = lowercase(name);
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// The class that a text means: its number, its name (also written `hot-air-balloon`), one of the
/// names between commas, or, if that leaves no doubt, a part of it.
pub fn of_text(classes: &[String], text: &str) -> Option<usize> {
    if let Ok(class) = text.trim().parse::<usize>() {
        return (class < classes.len()).then_some(class);
    }
    let wanted = plain(text);
    // `-1` is no class, and not another way to write 1.
    if wanted.is_empty() || wanted.parse::<u64>().is_ok() {
        return None;
    }
    let named = |is: &dyn Fn(&str) -> bool| classes.iter().position(|name| is(name));
    named(&|name| plain(name) == wanted)
        .or_else(|| named(&|name| name.split(',').any(|one| plain(one) == wanted)))
        .or_else(|| match search(classes, &wanted)[..] {
            [class] => Some(class),
            _ => None,
        })
}

/// Whether a text says a class outright, by its number or one of its names; otherwise
/// [`of_text`] guessed it.
pub fn is_named(name: &str, text: &str) -> bool {
    let wanted = plain(text);
    wanted.parse::<u64>().is_ok()
        || plain(name) == wanted
        || name.split(',').any(|one| plain(one) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_known_by_number_name_or_a_part_that_leaves_no_doubt() {
        let classes = ["tench, Tinca tinca", "hot-air balloon", "tiger shark", "white shark"];
        let of = |text| of_text(&classes.map(str::to_owned), text);
        assert_eq!(of("1"), Some(1));
        assert_eq!(of("hot-air-balloon"), Some(1));
        assert_eq!(of("Tinca_Tinca"), Some(0));
        assert_eq!(of("tiger"), Some(2));
        assert_eq!([of("shark"), of("4"), of("-1"), of(""), of("cat")], [None; 5]);
        let names = [("tench, Tinca tinca", "Tinca_Tinca", true), ("tiger shark", "tiger", false)];
        for (name, text, outright) in names.into_iter().chain([("tiger shark", " 2", true)]) {
            assert_eq!(is_named(name, text), outright, "{text}");
        }
    }

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
    fn slips_are_forgiven_where_nothing_is_spelled_so() {
        assert_eq!(found("sahrk"), [1, 2, 4]);
        assert_eq!(found("baloon"), [3]);
        assert_eq!(found("hite tigr"), [] as [usize; 0]);
        assert_eq!(found("wihte shark"), [1]);
        // What is spelled right comes first.
        assert_eq!(found("tank")[0], 4);
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
