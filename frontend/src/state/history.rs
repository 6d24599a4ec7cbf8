//! All own results that this browser keeps: what is kept of each, how they are searched, and the
//! file that carries them to another browser.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use var_dd_protocol::{Comparison, GenerateRequest, OwnerToken, lowercase};

use super::mine::Own;

/// What says that a file is one of these.
const FILE_KIND: &str = "var-dd history";

/// Version of the file.
const FILE_VERSION: u32 = 1;

/// One own result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) own: Own,
    /// When this browser first noted it, in milliseconds since 1970: its place in the list.
    pub(crate) noted_ms: f64,
    /// When it was asked for, in milliseconds since 1970; absent for what was noted before times
    /// were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made_ms: Option<f64>,
    #[serde(default)]
    pub(crate) starred: bool,
    /// The secret by which it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner_token: Option<OwnerToken>,
}

impl Entry {
    /// What is kept once more was heard of a result.
    pub(crate) fn noted(
        known: Option<Self>,
        own: Own,
        owner_token: Option<OwnerToken>,
        now_ms: f64,
    ) -> Self {
        match known {
            // What is over stays over, whatever a tab that did not watch believes.
            Some(known) if known.own.state.is_final() && !own.state.is_final() => known,
            Some(known) => {
                let owner_token = known.owner_token.or(owner_token);
                Self { own, owner_token, ..known }
            }
            None => {
                let made_ms = Some(now_ms);
                Self { own, noted_ms: now_ms, made_ms, starred: false, owner_token }
            }
        }
    }

    /// What is kept of a result that is known and comes from a file too.
    pub(crate) fn merged(self, other: Self) -> Self {
        Self {
            starred: self.starred || other.starred,
            made_ms: self.made_ms.or(other.made_ms),
            owner_token: self.owner_token.or(other.owner_token),
            ..self
        }
    }
}

/// The newest first.
pub(crate) fn newest_first(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|one, other| other.noted_ms.total_cmp(&one.noted_ms));
    entries
}

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Search {
    /// Words of class, plan, model or seed, in any order.
    pub(crate) text: String,
    /// A plan in words; any if empty.
    pub(crate) plan: String,
    /// A model; any if empty.
    pub(crate) model: String,
    /// First and last day, as `2026-03-01`; any if empty.
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) starred: bool,
}

impl Search {
    /// Whether a result is one of those looked for; `day` is when it was asked for, in the time of
    /// the person.
    pub(crate) fn finds(&self, entry: &Entry, day: &str) -> bool {
        let own = &entry.own;
        let model = own.request.model.as_deref().unwrap_or_default();
        let seed = own.request.seed.map(|seed| seed.to_string()).unwrap_or_default();
        let said = lowercase(&format!("{} {} {model} {seed}", own.class_name, own.plan));
        let text = lowercase(&self.text);
        text.split_whitespace().all(|word| said.contains(word))
            && (self.plan.is_empty() || self.plan == own.plan)
            && (self.model.is_empty() || self.model == model)
            && (self.from.is_empty() || (!day.is_empty() && day >= self.from.as_str()))
            && (self.to.is_empty() || (!day.is_empty() && day <= self.to.as_str()))
            && (!self.starred || entry.starred)
    }
}

/// All plans, or all models, that there are to look for.
pub(crate) fn choices(entries: &[Entry], of: impl Fn(&Entry) -> &str) -> Vec<String> {
    let all: BTreeSet<&str> = entries.iter().map(of).filter(|name| !name.is_empty()).collect();
    all.into_iter().map(str::to_owned).collect()
}

/// The comparison of two results that differ in nothing but their plan.
pub(crate) fn comparison(
    one: &GenerateRequest,
    other: &GenerateRequest,
    class_name: &str,
) -> Option<Comparison> {
    let is_plain = one.explore.is_none() && other.explore.is_none();
    let same = one.model == other.model && one.class == other.class && one.seed == other.seed;
    let differ = one.plan != other.plan;
    let (model, seed) = (one.model.as_ref()?, one.seed?);
    let plans = vec![one.plan.clone(), other.plan.clone()];
    (is_plain && same && differ).then(|| Comparison::new(model, one.class, class_name, seed, plans))
}

/// The file.
#[derive(Serialize, Deserialize)]
struct File {
    kind: String,
    version: u32,
    results: Vec<Entry>,
}

/// Results as a file.
pub(crate) fn to_file(results: Vec<Entry>) -> String {
    let file = File { kind: FILE_KIND.into(), version: FILE_VERSION, results };
    // Its maps have names for keys, so it always becomes JSON.
    serde_json::to_string(&file).unwrap_or_default()
}

/// The results in a file.
///
/// # Errors
/// Why there are none, in words.
pub(crate) fn of_file(name: &str, text: &str) -> Result<Vec<Entry>, String> {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
        version: u32,
    }
    let other = || format!("“{name}” is no history; choose a file that was exported here.");
    let head: Head = serde_json::from_str(text).map_err(|_| other())?;
    if head.kind != FILE_KIND {
        return Err(other());
    }
    if head.version != FILE_VERSION {
        return Err(format!(
            "“{name}” has version {}, and this page reads {FILE_VERSION}; open it where it was \
                exported.",
            head.version
        ));
    }
    let file: File = serde_json::from_str(text)
        .map_err(|error| format!("“{name}” is damaged: {error}. Export it again."))?;
    Ok(file.results)
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{JobId, JobState, Plan};

    use super::*;
    use crate::state::job::tests::{job, two_steps};

    fn entry(bits: u128) -> Entry {
        let own = Own { id: JobId::from_bits(bits), ..Own::of(&job(two_steps(), 1)) };
        let token = OwnerToken(format!("secret {bits}"));
        Entry::noted(None, own, Some(token), bits as f64)
    }

    #[test]
    fn what_more_is_heard_of_a_result_keeps_its_time_its_star_and_its_secret() {
        let first = Entry { starred: true, ..entry(1) };
        let finished = Own { state: JobState::Finished, ..first.own.clone() };
        let second = Entry::noted(Some(first.clone()), finished.clone(), None, 99.0);
        assert_eq!(second, Entry { own: finished, ..first.clone() });
        let again = Entry::noted(Some(second.clone()), first.own, None, 100.0);
        assert_eq!(again, second, "what is over stays over");
    }

    #[test]
    fn results_are_found_by_what_they_are_and_when_they_were_made() {
        let mut result = entry(1);
        result.own.class_name = "hot-air balloon".into();
        result.own.plan = "2 steps".into();
        (result.own.request.model, result.own.request.seed) = (Some("d16".into()), Some(4711));
        let day = "2026-03-05";
        let any = Search::default;
        for (search, expected) in [
            (any(), true),
            (Search { text: "Balloon hot".into(), ..any() }, true),
            (Search { text: "471".into(), ..any() }, true),
            (Search { text: "balloon snow".into(), ..any() }, false),
            (Search { plan: "2 steps".into(), ..any() }, true),
            (Search { plan: "1 step".into(), ..any() }, false),
            (Search { model: "d20".into(), ..any() }, false),
            (Search { from: day.into(), to: day.into(), ..any() }, true),
            (Search { from: "2026-03-06".into(), ..any() }, false),
            (Search { to: "2026-03-04".into(), ..any() }, false),
            (Search { starred: true, ..any() }, false),
        ] {
            assert_eq!(search.finds(&result, day), expected, "{search:?}");
        }
        let dated = Search { to: day.into(), ..any() };
        assert!(!dated.finds(&result, ""), "a result without a date has none to find");
    }

    #[test]
    fn a_file_brings_everything_back_and_other_files_are_told_of() {
        let results = vec![entry(1), Entry { starred: true, made_ms: None, ..entry(2) }];
        let text = to_file(results.clone());
        assert_eq!(of_file("x.json", &text), Ok(results));
        for (text, part) in [
            ("", "no history"),
            ("{}", "no history"),
            (r#"{"kind":"other","version":1,"results":[]}"#, "no history"),
            (r#"{"kind":"var-dd history","version":2}"#, "version 2"),
            (r#"{"kind":"var-dd history","version":1,"results":[{}]}"#, "damaged"),
        ] {
            let told = of_file("x.json", text).unwrap_err();
            assert!(told.contains(part) && told.contains("x.json"), "{told}");
        }
        let kept = Entry { owner_token: None, ..entry(1) };
        let starred = Entry { starred: true, ..entry(1) };
        assert_eq!(kept.merged(starred.clone()), starred);
    }

    #[test]
    fn two_results_that_differ_in_their_plan_alone_are_compared_by_a_link() {
        let mut one = entry(1).own.request;
        (one.model, one.seed) = (Some("a".into()), Some(5));
        let plan = Plan::FewStep { t_list: vec![0], loss_split_t: 2 };
        let other = GenerateRequest { plan, ..one.clone() };
        let link = comparison(&one, &other, "owl").map(|link| link.to_string());
        assert!(link.is_some_and(|link| link.starts_with("c/a/") && link.contains("-owl/5/")));
        assert_eq!(comparison(&one, &one, "owl"), None);
        let elsewhere = GenerateRequest { seed: Some(6), ..other };
        assert_eq!(comparison(&one, &elsewhere, "owl"), None);
    }
}
