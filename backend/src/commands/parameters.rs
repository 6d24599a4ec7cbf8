//! The file beside a result that says what it was made with, so that only the same is ever added to
//! it.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::Context;
use serde_json::{Map, Value};
use var_dd_engine::input_file;

use super::picture_file::write_whole;
use crate::usage_error::UsageError;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No file.
    Nothing,
    /// The same parameters.
    Same,
}

/// Compares the file with the parameters at hand.
///
/// # Errors
/// When the file cannot be read, or says something else: every difference by name, and `advice`.
pub(super) fn compare(
    path: &Path,
    parameters: &Map<String, Value>,
    advice: &str,
) -> anyhow::Result<Found> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Found::Nothing);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let found: Map<String, Value> = input_file::parse_json(&bytes).map_err(|error| {
        UsageError(format!("{} holds no parameters: {error}; {advice}", path.display()))
    })?;
    let names =
        parameters.keys().chain(found.keys().filter(|name| !parameters.contains_key(*name)));
    let shown = |value: Option<&Value>| value.map_or_else(|| "not given".to_owned(), in_words);
    let differences: Vec<_> = names
        .filter(|name| found.get(*name) != parameters.get(*name))
        .map(|name| {
            format!(
                "{name} is {} there and {} here",
                shown(found.get(name)),
                shown(parameters.get(name))
            )
        })
        .collect();
    if differences.is_empty() {
        return Ok(Found::Same);
    }
    let reason = format!(
        "what is there was made with other parameters ({}): {}; {advice}",
        path.display(),
        differences.join("; ")
    );
    Err(UsageError(reason).into())
}

/// Whether a file of parameters is there that has one of this name.
pub(super) fn has(path: &Path, name: &str) -> bool {
    let parsed = |bytes: Vec<u8>| input_file::parse_json::<Map<String, Value>>(&bytes).ok();
    input_file::read(path).ok().and_then(parsed).is_some_and(|found| found.contains_key(name))
}

/// A value as people write it: no quotation marks around a word, no list longer than a line.
fn in_words(value: &Value) -> String {
    const SHOWN: usize = 6;
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(values) => {
            let mut parts: Vec<_> = values.iter().take(SHOWN).map(in_words).collect();
            if values.len() > SHOWN {
                parts.push(format!("… ({} in all)", values.len()));
            }
            parts.join(", ")
        }
        Value::Object(values) => {
            let parts = values.iter().map(|(name, value)| format!("{name} {}", in_words(value)));
            parts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Writes the file.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, parameters: &Map<String, Value>) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(parameters)?;
    text.push(b'\n');
    write_whole(path, &text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_difference_is_named_with_both_values() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("parameters.json");
        let here = map(json!({ "seed": 1, "plan": "--t-list 0", "bs": 8 }));
        assert_eq!(compare(&path, &here, "").unwrap(), Found::Nothing);
        write(&path, &here).unwrap();
        assert_eq!(compare(&path, &here, "").unwrap(), Found::Same);
        write(&path, &map(json!({ "seed": 2, "plan": "--t-list 0", "old": true }))).unwrap();
        let error = compare(&path, &here, "give another directory").unwrap_err().to_string();
        for part in [
            "seed is 2 there and 1 here",
            "bs is not given there and 8 here",
            "old is yes there and not given here",
            "give another directory",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("plan is"), "{error}");
        assert!(has(&path, "old") && !has(&path, "bs") && !has(directory.path(), "old"));
        fs::write(&path, "{").unwrap();
        let error = compare(&path, &here, "give another directory").unwrap_err().to_string();
        assert!(error.contains("parameters.json holds no parameters"), "{error}");
    }
}
