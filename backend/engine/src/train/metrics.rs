//! The figures of a stage: a JSON object per line, in order of steps.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::TrainError;

/// Named figures.
pub(super) type Figures = Vec<(&'static str, f64)>;

/// An open file of figures.
#[derive(Debug)]
pub(super) struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file to go on after `steps` steps: what a run before wrote beyond that will be
    /// written again.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(super) fn resume(path: &Path, steps: u64) -> Result<Self, TrainError> {
        let kept: String = lines(path)?
            .into_iter()
            .filter(|line| line["step"].as_u64().is_some_and(|step| step <= steps))
            .map(|line| format!("{line}\n"))
            .collect();
        super::write_file(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|source| TrainError::Write { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds the figures after `step` steps.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn add(&mut self, step: u64, figures: &[(&str, f64)]) -> Result<(), TrainError> {
        let mut line = Map::from_iter([("step".to_owned(), Value::from(step))]);
        line.extend(figures.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        // One write per line, so that a kill cuts at most the last one.
        let text = format!("{}\n", Value::Object(line));
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|source| TrainError::Write { path: self.path.clone(), source })
    }
}

/// Every whole line of a file of figures; a line that a kill cut is left out.
///
/// # Errors
/// When it exists and cannot be read.
pub(super) fn lines(path: &Path) -> Result<Vec<Value>, TrainError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(TrainError::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_beyond_the_checkpoint_and_cut_lines_are_dropped_on_resuming() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        let mut file = MetricsFile::resume(&path, 0).unwrap();
        for step in 1..=5 {
            file.add(step, &[("loss", 1.0 / step as f64)]).unwrap();
        }
        file.file.write_all(b"{\"step\":6,\"lo").unwrap();
        let mut file = MetricsFile::resume(&path, 3).unwrap();
        file.add(4, &[("loss", 9.0)]).unwrap();
        let found: Vec<_> = lines(&path)
            .unwrap()
            .iter()
            .map(|line| (line["step"].as_u64(), line["loss"].as_f64()))
            .collect();
        assert_eq!(found.len(), 4);
        assert_eq!(found[1], (Some(2), Some(0.5)));
        assert_eq!(found[3], (Some(4), Some(9.0)));
    }

    #[test]
    fn a_figure_that_is_no_number_leaves_the_line_readable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        MetricsFile::resume(&path, 0).unwrap().add(1, &[("loss", f64::NAN)]).unwrap();
        assert!(lines(&path).unwrap()[0]["loss"].is_null());
    }
}
