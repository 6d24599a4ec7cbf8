//! The address of a comparison: several plans on one class and seed, in words.
//!
//! ```text
//! c/demo-64/3-snowman/42/student=0;split=5/student=0,5;split=5
//!   model   class     seed   a plan          another one
//! ```
//! A class is known by its number; its name behind it is for people. Plans are written with the
//! field's own terms: `student` lists the scales at which the student's passes start, `split` is
//! the loss split, `from` the scale from which the teacher draws; `teacher` is the teacher alone.

use std::{fmt, str::FromStr};

use crate::{Guidance, MAX_SEED, Plan, lowercase, number_of};

/// Fewest and most plans of a comparison.
pub const COMPARED_PLANS: std::ops::RangeInclusive<usize> = 2..=6;

/// Plans on one class and seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Name of the model.
    pub model: String,
    /// Number of the class.
    pub class: u32,
    /// Name of the class, for people: letters and digits with hyphens between them, or empty.
    pub class_name: String,
    /// The seed.
    pub seed: u64,
    /// The plans, two to six.
    pub plans: Vec<Plan>,
}

/// A text that is not the address of a comparison, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ComparisonError(String);

impl Comparison {
    /// A comparison whose class has a name.
    pub fn new(model: &str, class: u32, class_name: &str, seed: u64, plans: Vec<Plan>) -> Self {
        let class_name = slug(class_name);
        Self { model: model.to_owned(), class, class_name, seed, plans }
    }
}

/// What can be read of the address of a comparison that is cut off, mistyped or of another server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Legible {
    /// Name of the model.
    pub model: Option<String>,
    /// Number of the class.
    pub class: Option<u32>,
    /// Name of the class, as in [`Comparison`].
    pub class_name: Option<String>,
    /// The seed.
    pub seed: Option<u64>,
    /// Those of its plans that are plans.
    pub plans: Vec<Plan>,
}

impl Legible {
    /// Reads as much as there is.
    pub fn of_address(address: &str) -> Self {
        let mut parts = address.trim_matches('/').split('/').skip(1);
        let model = parts.next().and_then(decoded).filter(|model| !model.is_empty());
        let class = parts.next().unwrap_or_default();
        let (number, name) = class.split_once('-').unwrap_or((class, class));
        let class_name = decoded(name).map(|name| slug(&name)).filter(|name| !name.is_empty());
        Self {
            model,
            class: number.parse().ok(),
            class_name,
            seed: parts.next().and_then(seed_of_part),
            plans: parts.filter_map(plan_of).collect(),
        }
    }
}

fn seed_of_part(part: &str) -> Option<u64> {
    part.parse().ok().filter(|&seed| seed <= MAX_SEED)
}

/// Letters and digits of a name, in lower case, with a hyphen for whatever stands between them.
fn slug(name: &str) -> String {
    // Names of many synonyms are cut after the first.
    let first = lowercase(name.split(',').next().unwrap_or_default());
    let words = first.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

impl fmt::Display for Comparison {
    /// The address, relative to the server's and without a slash at its beginning.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c/{}/{}", encoded(&self.model), self.class)?;
        if !self.class_name.is_empty() {
            write!(f, "-{}", encoded(&self.class_name))?;
        }
        write!(f, "/{}", self.seed)?;
        self.plans.iter().try_for_each(|plan| write!(f, "/{}", plan_words(plan)))
    }
}

impl FromStr for Comparison {
    type Err = ComparisonError;

    fn from_str(address: &str) -> Result<Self, ComparisonError> {
        let wrong = |what: String| ComparisonError(what);
        let address = address.trim_start_matches('/').trim_end_matches('/');
        let mut parts = address.split('/');
        let (Some("c"), Some(model), Some(class), Some(seed)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong("a comparison needs a model, a class, a seed and plans".into()));
        };
        let model = decoded(model).filter(|model| !model.is_empty());
        let model = model.ok_or_else(|| wrong("the name of the model cannot be read".into()))?;
        let (number, name) = class.split_once('-').unwrap_or((class, ""));
        let class =
            number.parse().map_err(|_| wrong(format!("{} is no class", shortened(class))))?;
        let seed = seed_of_part(seed)
            .ok_or_else(|| wrong("the seed is no whole number up to 2^53 − 1".into()))?;
        let plans = parts
            .map(|part| {
                plan_of(part).ok_or_else(|| wrong(format!("{} is no plan", shortened(part))))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if !COMPARED_PLANS.contains(&plans.len()) {
            return Err(wrong(format!(
                "{} to {} plans can be compared, here are {}",
                COMPARED_PLANS.start(),
                COMPARED_PLANS.end(),
                plans.len()
            )));
        }
        if let Some(at) = (1..plans.len()).find(|&at| plans[..at].contains(&plans[at])) {
            let twice = plan_words(&plans[at]);
            return Err(wrong(format!("the plan {} stands there twice", shortened(&twice))));
        }
        let class_name = slug(&decoded(name).unwrap_or_default());
        Ok(Self { model, class, class_name, seed, plans })
    }
}

/// What a message repeats of an address.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A plan in an address, in words: `student=0,5;split=5`.
pub fn plan_words(plan: &Plan) -> String {
    let numbers = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    match plan {
        Plan::FewStep { t_list, loss_split_t } => {
            format!("student={};split={loss_split_t}", numbers(t_list))
        }
        Plan::TeacherInvolved { t_list, loss_split_t, teacher_start, guidance, causal_prefix } => {
            format!(
                "student={};split={loss_split_t};from={teacher_start};{}{}",
                numbers(t_list),
                law(*guidance),
                if *causal_prefix { ";causal" } else { "" }
            )
        }
        Plan::Teacher { guidance } => format!("teacher;{}", law(*guidance)),
    }
}

fn law(Guidance { cfg, top_k, top_p }: Guidance) -> String {
    format!("cfg={cfg};topk={top_k};topp={top_p}")
}

fn plan_of(text: &str) -> Option<Plan> {
    plan_of_words(&decoded(text)?)
}

/// The plan of an address; nothing if the words are none.
pub fn plan_of_words(text: &str) -> Option<Plan> {
    let pairs: Vec<(&str, &str)> =
        text.split(';').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    let value = |wanted: &str| pairs.iter().find(|(name, _)| *name == wanted).map(|pair| pair.1);
    let whole = |name: &str| value(name)?.parse::<u32>().ok();
    let decimal = |name: &str| number_of(value(name)?);
    let guidance =
        || Some(Guidance { cfg: decimal("cfg")?, top_k: whole("topk")?, top_p: decimal("topp")? });
    let list = || -> Option<Vec<u32>> {
        value("student")?.split(',').map(|number| number.parse().ok()).collect()
    };
    match names[..] {
        ["student", "split"] => {
            Some(Plan::FewStep { t_list: list()?, loss_split_t: whole("split")? })
        }
        ["student", "split", "from", "cfg", "topk", "topp", ref rest @ ..]
            if rest.is_empty() || rest == ["causal"] =>
        {
            Some(Plan::TeacherInvolved {
                t_list: list()?.try_into().ok()?,
                loss_split_t: whole("split")?,
                teacher_start: whole("from")?,
                guidance: guidance()?,
                causal_prefix: !rest.is_empty(),
            })
        }
        ["teacher", "cfg", "topk", "topp"] => Some(Plan::Teacher { guidance: guidance()? }),
        _ => None,
    }
}

/// A text as one part of a path (RFC 3986): unreserved characters stay.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The text of a part of a path; nothing if it is not UTF-8.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Vec<Plan> {
        let mixed = |causal_prefix| Plan::TeacherInvolved {
            t_list: [0, 5],
            loss_split_t: 5,
            teacher_start: 4,
            guidance: Guidance::default(),
            causal_prefix,
        };
        vec![
            Plan::FewStep { t_list: vec![0, 2, 5], loss_split_t: 5 },
            mixed(false),
            mixed(true),
            Plan::Teacher { guidance: Guidance { cfg: 1.5, top_k: 0, top_p: 0.0 } },
        ]
    }

    #[test]
    fn a_comparison_survives_its_address() {
        for (model, class_name) in
            [("demo-64", "snowman"), ("a/b c%;é", "hot-air balloon, fire"), ("m", "雪だるま")]
        {
            let comparison = Comparison::new(model, 3, class_name, MAX_SEED, plans());
            let address = comparison.to_string();
            assert!(address.bytes().all(|b| b.is_ascii_graphic()), "{address}");
            assert_eq!(address.parse::<Comparison>(), Ok(comparison.clone()), "{address}");
            assert_eq!(format!("/{address}/").parse::<Comparison>(), Ok(comparison));
        }
    }

    #[test]
    fn an_address_is_in_words_and_stays_as_it_was() {
        let plans = plans().into_iter().take(2).collect();
        let comparison = Comparison::new("demo-64", 3, "snowman", 42, plans);
        assert_eq!(
            comparison.to_string(),
            "c/demo-64/3-snowman/42/student=0,2,5;split=5/\
             student=0,5;split=5;from=4;cfg=2;topk=900;topp=0.95"
        );
    }

    #[test]
    fn as_many_as_six_plans_have_one_address() {
        let plans = (1..=6).map(|from| Plan::FewStep { t_list: vec![0, from], loss_split_t: 5 });
        let comparison = Comparison::new("m", 3, "snowman", 7, plans.collect());
        assert_eq!(comparison.to_string().parse(), Ok(comparison));
    }

    #[test]
    fn the_name_of_the_class_is_for_people_only() {
        for class in ["3", "3-", "3-snowman", "3-%C3%A9"] {
            let address = format!("c/m/{class}/5/student=0;split=1/student=0,1;split=1");
            assert_eq!(address.parse::<Comparison>().map(|read| read.class), Ok(3), "{class}");
        }
    }

    #[test]
    fn of_a_broken_address_the_rest_is_read() {
        let one = Plan::FewStep { t_list: vec![0], loss_split_t: 1 };
        let whole = Legible {
            model: Some("m".into()),
            class: Some(3),
            class_name: Some("snowman".into()),
            seed: Some(5),
            plans: vec![one],
        };
        for (address, read) in [
            ("/c/m/3-snowman/5/student=0;split=1/nonsense", whole.clone()),
            ("c/m/3-snowman/5/student=0;spl", Legible { plans: vec![], ..whole.clone() }),
            ("c/m/3-snowman/-5", Legible { seed: None, plans: vec![], ..whole.clone() }),
            ("c/m/snowman/5/student=0;split=1/student=", Legible { class: None, ..whole.clone() }),
            ("c/m", Legible { model: whole.model, ..Legible::default() }),
            ("c/%FF", Legible::default()),
            ("", Legible::default()),
        ] {
            assert_eq!(Legible::of_address(address), read, "{address}");
        }
    }

    #[test]
    fn what_is_no_comparison_is_refused_with_the_reason() {
        let two = "student=0;split=1/student=0,1;split=1";
        for (address, word) in [
            ("", "needs"),
            ("c/m/3/5", "plans"),
            ("c/m/3/5/student=0;split=1", "plans"),
            (&format!("c/m/x/5/{two}"), "class"),
            (&format!("c/m/-3/5/{two}"), "class"),
            (&format!("c/m/3/-5/{two}"), "seed"),
            (&format!("c/m/3/9007199254740992/{two}"), "seed"),
            (&format!("c/%FF/3/5/{two}"), "model"),
            (&format!("c/m/3/5/{two}/{two}/{two}/{two}"), "6"),
            (&format!("c/m/3/5/{two}/student=0;split=1"), "twice"),
            ("c/m/3/5/student=0;split=1/nonsense", "nonsense"),
            ("c/m/3/5/student=0;split=1/split=1;student=0", "no plan"),
            ("c/m/3/5/student=0;split=1/teacher;cfg=NaN;topk=1;topp=1", "no plan"),
            ("c/m/3/5/student=0;split=1/student=0,x;split=1", "no plan"),
        ] {
            let error = address.parse::<Comparison>().unwrap_err().to_string();
            assert!(error.contains(word), "{address}: {error}");
        }
    }
}
