//! `cargo xtask test`: all tests, counted by kind.

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{chores, libtorch, page, python_client, s3, tool, workspace};

/// Runs every test. Nothing is skipped: a browser test that cannot run fails and says what to
/// install.
#[derive(Args)]
pub(crate) struct Filter {
    /// Run only tests whose name contains this, and neither format check nor lints
    name: Option<String>,
}

/// Tests of one kind: what it is called, and the arguments of `cargo test` that select it.
struct Kind {
    name: &'static str,
    arguments: &'static [&'static str],
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "unit",
        arguments: &[
            "--workspace",
            "--exclude",
            "var-dd-tests",
            "--features",
            "xtask/page",
            "--lib",
            "--bins",
        ],
    },
    Kind {
        name: "integration",
        arguments: &["--workspace", "--exclude", "var-dd-tests", "--test", "*"],
    },
    Kind { name: "documentation", arguments: &["--workspace", "--doc"] },
    Kind {
        name: "server, end to end",
        arguments: &["--package", "var-dd-tests", "--lib", "--test", "server"],
    },
    Kind {
        name: "browser, end to end",
        arguments: &["--package", "var-dd-tests", "--test", "browser"],
    },
];

/// What a test run counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    ignored: u32,
    /// Whether a runner that calls it a failure found no test of the name asked for.
    selected_none: bool,
}

/// Runs the tests, all of them even if some fail.
///
/// # Errors
/// When set-up fails, or any check or test does.
pub(crate) fn run(filter: &Filter) -> Result<()> {
    let libtorch = libtorch::ensure()?;
    let axe = tool::AXE.ensure()?;
    let nats = tool::NATS_SERVER.ensure()?;
    let s3 = s3::ensure()?;
    page::ensure()?;
    let mut problems = Vec::new();
    if filter.name.is_none() {
        problems.extend(checks());
    }
    let program = chores::program(&libtorch, false)?;

    let name = filter.name.as_deref();
    let mut runners = Vec::new();
    for kind in &KINDS {
        let mut cargo = workspace::cargo();
        cargo.arg("test").args(kind.arguments).arg("--no-fail-fast");
        cargo.env("LIBTORCH", &libtorch).env("VAR_DD_PROGRAM", &program).env("VAR_DD_AXE", &axe);
        cargo.env("VAR_DD_NATS_SERVER", &nats).env("VAR_DD_S3_PACKAGES", &s3);
        // A failed test says why in its error; the way of the error there helps nobody.
        cargo.env("RUST_LIB_BACKTRACE", "0");
        if kind.name == "documentation" {
            // These are linked without the run path that build scripts give.
            cargo.env("LD_LIBRARY_PATH", libtorch.join("lib"));
        }
        cargo.args(name.map(|name| ["--", name]).into_iter().flatten());
        runners.push((kind.name, cargo));
    }
    runners.push(("Python client", python_client::tests(&program, name)?));

    let mut counts = Vec::new();
    for (kind, mut runner) in runners {
        eprintln!("{:>10}  {kind}", "tests");
        let (count, success) = run_counted(&mut runner)?;
        let empty = count.passed + count.failed == 0;
        if empty && name.is_none() {
            problems.push(format!("{kind}: no test was run"));
        } else if !success && (count.failed > 0 || !count.selected_none) {
            problems.push(format!("{kind}: {} failed", count.failed.max(1)));
        }
        if count.ignored > 0 {
            problems.push(format!("{kind}: {} ignored", count.ignored));
        }
        counts.push((kind, count));
    }
    report(&counts, &problems)
}

/// Format and lints, as far as the toolchain has the components, and dependencies; returns what is
/// wrong.
fn checks() -> Vec<String> {
    let mut problems = Vec::new();
    for (component, check) in
        [("rustfmt", chores::check_format as fn() -> _), ("clippy", chores::lint)]
    {
        if !chores::has(component) {
            eprintln!(
                "{component:>10}  not in this toolchain (rustup component add {component}); left \
                 out"
            );
        } else if let Err(error) = check() {
            problems.push(format!("{component}: {error:#}"));
        }
    }
    if let Err(error) = chores::deny(&[]) {
        problems.push(format!("deny: {error:#}"));
    }
    if let Err(error) = chores::document() {
        problems.push(format!("documentation: {error:#}"));
    }
    problems
}

/// The table at the end. Its last line is one that programs read.
fn report(counts: &[(&str, Count)], problems: &[String]) -> Result<()> {
    let total = counts.iter().fold(Count::default(), |sum, (_, count)| sum.plus(*count));
    println!();
    for (name, count) in counts {
        println!("{name:>20}  {:>4} passed  {:>3} failed", count.passed, count.failed);
    }
    for problem in problems {
        println!("{:>20}  {problem}", "problem");
    }
    // The total counts a problem that is no failed test, as a lint, too: a green last line means
    // that all is well.
    let failed = total.failed.max(problems.len() as u32);
    println!("\n{} passed, {failed} failed", total.passed);
    if !problems.is_empty() {
        bail!("not all is well; see the problems above");
    }
    Ok(())
}

/// Runs `cargo test` or pytest, shows what it prints and adds up its summaries.
fn run_counted(runner: &mut std::process::Command) -> Result<(Count, bool)> {
    let shown = workspace::shown(runner);
    let mut child =
        runner.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {shown}"))?;
    let output = child.stdout.take().context("the output of the tests is not there")?;
    let mut count = Count::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        // A closed standard output must not stop the tests.
        let _ =
            std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().write_all(b"\n"));
        let line = String::from_utf8_lossy(&line);
        let found = summary(&line).or_else(|| pytest_summary(&line));
        count = count.plus(found.unwrap_or_default());
    }
    Ok((count, child.wait()?.success()))
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn summary(line: &str) -> Option<Count> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what| {
        let part = numbers.split("; ").find(|part| part.ends_with(what))?;
        part.split_whitespace().next()?.parse().ok()
    };
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
        ignored: number("ignored")?,
        selected_none: false,
    })
}

/// Reads pytest's last line, as `1 failed, 17 passed, 2 skipped in 3.21s`.
fn pytest_summary(line: &str) -> Option<Count> {
    let (numbers, time) = line.trim().trim_matches('=').trim().split_once(" in ")?;
    time.split_whitespace().next()?.strip_suffix('s')?.parse::<f64>().ok()?;
    let mut count = Count::default();
    for part in numbers.split(", ") {
        let (number, what) = part.split_once(' ')?;
        let number: u32 = number.parse().ok()?;
        match what {
            "passed" => count.passed += number,
            "failed" | "error" | "errors" => count.failed += number,
            "skipped" | "xfailed" | "xpassed" => count.ignored += number,
            "deselected" => count.selected_none = true,
            _ => {}
        }
    }
    count.selected_none &= count.passed + count.failed == 0;
    Some(count)
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
            selected_none: self.selected_none || other.selected_none,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_a_test_run_is_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered \
            out; finished in 0.5s";
        let count = Count { passed: 12, failed: 3, ignored: 1, selected_none: false };
        assert_eq!(summary(line), Some(count));
        assert_eq!(summary("test a_name ... ok"), None);
    }

    #[test]
    fn the_summary_of_pytest_is_read() {
        let count = Count { passed: 17, failed: 3, ignored: 1, selected_none: false };
        let line = "2 failed, 17 passed, 1 skipped, 1 error in 3.21s (0:00:03)";
        assert_eq!(pytest_summary(line), Some(count));
        let none = pytest_summary("18 deselected in 0.05s");
        assert_eq!(none, Some(Count { selected_none: true, ..Count::default() }));
        for other in ["....F.  [100%]", "the server ended in time", "3 passed", ""] {
            assert_eq!(pytest_summary(other), None, "{other}");
        }
    }

    #[test]
    fn a_problem_makes_the_whole_fail() {
        let count = Count { passed: 1, ..Count::default() };
        assert!(report(&[("unit", count)], &[]).is_ok());
        assert!(report(&[("unit", count)], &["clippy: a warning".to_owned()]).is_err());
    }
}
