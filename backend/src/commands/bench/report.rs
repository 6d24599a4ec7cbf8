//! The figures of a run: as a table, as JSON, and beside those of another.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tch::Device;
use var_dd_engine::device::peak_memory;

use super::{Frames, Sample};
use crate::outln;

/// Figures of all rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) version: String,
    pub(super) model: String,
    pub(super) device: String,
    pub(super) dtype: String,
    pub(super) threads: i32,
    /// Measured rate of matrix products, in 10⁹ operations per second.
    pub(super) matrix_gflop_per_s: f64,
    /// Captured graphs that were in use in the end; 0 on a CPU.
    #[serde(default)]
    pub(super) graphs: usize,
    pub(super) rows: Vec<Row>,
}

/// Figures of one plan at one batch size. Times are medians over the runs unless they say
/// otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) plan: String,
    pub(super) batch: u32,
    pub(super) frames: Frames,
    pub(super) first_frame_ms: f64,
    pub(super) last_frame_ms: f64,
    last_frame_p95_ms: f64,
    pub(super) transformer_ms: f64,
    pub(super) decode_ms: f64,
    pub(super) encode_ms: f64,
    pub(super) pictures_per_s: f64,
    pub(super) gflop: f64,
    /// Operations per second in transformer and decoder over the measured rate of the machine.
    pub(super) share_of_matrix_rate: f64,
    /// Most memory that the program had, on a GPU that tensors had on it, in MB.
    pub(super) peak_memory_mb: Option<f64>,
}

pub(super) const HEADING: &str = "plan                      batch      frames  first ms   last ms  \
      p95 ms  transf.   decode   encode  pictures/s  GFLOP  share  peak MB";

impl Row {
    pub(super) fn of(
        plan: &str,
        batch: u32,
        frames: Frames,
        samples: &[Sample],
        flops: f64,
        matrix_rate: f64,
        peak_memory_mb: Option<f64>,
    ) -> Self {
        let of =
            |what: fn(&Sample) -> f64, share| quantile(samples.iter().map(what).collect(), share);
        let last_frame_ms = of(|sample| sample.last_ms, 0.5);
        let device_ms = of(|sample| sample.transformer_ms + sample.decode_ms, 0.5);
        Self {
            plan: plan.to_owned(),
            batch,
            frames,
            first_frame_ms: of(|sample| sample.first_ms, 0.5),
            last_frame_ms,
            last_frame_p95_ms: of(|sample| sample.last_ms, 0.95),
            transformer_ms: of(|sample| sample.transformer_ms, 0.5),
            decode_ms: of(|sample| sample.decode_ms, 0.5),
            encode_ms: of(|sample| sample.encode_ms, 0.5),
            pictures_per_s: f64::from(batch) / last_frame_ms * 1e3,
            gflop: flops / 1e9,
            share_of_matrix_rate: flops / (device_ms / 1e3) / matrix_rate,
            peak_memory_mb,
        }
    }

    pub(super) fn line(&self) -> String {
        let frames = match self.frames {
            Frames::All => "all",
            Frames::LastFirst => "last first",
            Frames::Last => "last",
        };
        let memory = self.peak_memory_mb.map_or_else(|| "-".into(), |mb| format!("{mb:.0}"));
        format!(
            "{:<24}  {:>5}  {frames:>10}  {:>8.1}  {:>8.1}  {:>8.1}  {:>7.1}  {:>7.1}  {:>7.1}  \
             {:>10.2}  {:>5.1}  {:>4.0} %  {memory:>7}",
            self.plan,
            self.batch,
            self.first_frame_ms,
            self.last_frame_ms,
            self.last_frame_p95_ms,
            self.transformer_ms,
            self.decode_ms,
            self.encode_ms,
            self.pictures_per_s,
            self.gflop,
            self.share_of_matrix_rate * 100.0
        )
    }
}

/// The value below which a share of the values lies.
pub(super) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((share * last as f64).round() as usize).copied().unwrap_or(0.0)
}

/// What the system calls the processor, known on Linux.
pub(super) fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// From now on [`peak_memory_mb`] counts anew, where the system can; loading a model may take more
/// than drawing.
pub(super) fn reset_peak_memory(device: Device) {
    match device {
        Device::Cpu => {
            // Elsewhere than on Linux nothing is known either way.
            let _ = fs::write("/proc/self/clear_refs", "5");
        }
        gpu => {
            peak_memory(gpu);
        }
    }
}

/// Most memory so far: of this program, known on Linux; or of tensors on a GPU.
pub(super) fn peak_memory_mb(device: Device) -> Option<f64> {
    if device != Device::Cpu {
        return peak_memory(device).map(|bytes| bytes as f64 / 1e6);
    }
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / 1000.0)
}

pub(super) fn read(path: &Path) -> anyhow::Result<Report> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not what --json of an earlier run wrote", path.display()))
}

/// Prints each row beside its earlier self.
pub(super) fn compare(before: &Report, now: &Report, tolerance: f64) -> anyhow::Result<()> {
    if (&before.device, &before.dtype, &before.model) != (&now.device, &now.dtype, &now.model) {
        tracing::warn!(
            "the earlier run was {} on {} in {}; times may not compare",
            before.model,
            before.device,
            before.dtype
        );
    }
    let mut slower = Vec::new();
    for row in &now.rows {
        let same =
            |old: &&Row| (&old.plan, old.batch, old.frames) == (&row.plan, row.batch, row.frames);
        let Some(old) = before.rows.iter().find(same) else {
            outln!("{}, batch {}: not in the earlier run", row.plan, row.batch)?;
            continue;
        };
        let ratio = row.last_frame_ms / old.last_frame_ms;
        let memory = match (old.peak_memory_mb, row.peak_memory_mb) {
            (Some(old), Some(now)) => format!("; {now:.0} MB after {old:.0} MB"),
            _ => String::new(),
        };
        // Not every program makes files of its pictures.
        let drawn = |row: &Row| row.last_frame_ms - row.encode_ms;
        outln!(
            "{}, batch {}: {:.1} ms after {:.1} ms, {:.2} times as fast, {:.2} times without \
             encoding{memory}",
            row.plan,
            row.batch,
            row.last_frame_ms,
            old.last_frame_ms,
            1.0 / ratio,
            drawn(old) / drawn(row)
        )?;
        if ratio > 1.0 + tolerance {
            slower.push(format!("{} at batch {} ({ratio:.2} times)", row.plan, row.batch));
        }
    }
    if slower.is_empty() {
        return Ok(());
    }
    bail!("slower than before by more than {:.0} %: {}", tolerance * 100.0, slower.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(last_ms: f64) -> Report {
        let sample =
            Sample { first_ms: 1.0, last_ms, transformer_ms: 2.0, decode_ms: 3.0, encode_ms: 0.5 };
        let row = Row::of("1 step", 2, Frames::All, &[sample; 3], 1e9, 1e12, None);
        Report {
            version: "0".into(),
            model: "m".into(),
            device: "cpu".into(),
            dtype: "f32".into(),
            threads: 1,
            matrix_gflop_per_s: 1000.0,
            graphs: 0,
            rows: vec![row],
        }
    }

    #[test]
    fn the_median_and_the_slow_end_are_those_of_the_sorted_values() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!((quantile(values.clone(), 0.5), quantile(values, 0.95)), (50.0, 95.0));
        assert_eq!(quantile(Vec::new(), 0.5), 0.0);
    }

    #[test]
    fn a_row_holds_its_rate_against_the_machine() {
        let row = &report(10.0).rows[0];
        assert_eq!((row.pictures_per_s, row.gflop), (200.0, 1.0));
        assert!(
            (row.share_of_matrix_rate - 0.2).abs() < 1e-9,
            "1 GFLOP in 5 ms is 200 of 1000 GFLOP/s"
        );
    }

    #[test]
    fn what_became_slower_is_an_error_that_names_it() {
        assert!(compare(&report(10.0), &report(10.5), 0.1).is_ok());
        let error = compare(&report(10.0), &report(12.0), 0.1).unwrap_err().to_string();
        assert!(error.contains("1 step at batch 2 (1.20 times)"), "{error}");
    }

    #[test]
    fn figures_survive_their_file() {
        let text = serde_json::to_string(&report(10.0)).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap().rows[0].last_frame_ms, 10.0);
    }
}
