//! The cache of graphs with what takes the place of CUDA, sound and with faults.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::ops::Settings;

/// The rehearsal with a fault, and a count of what it did.
#[derive(Clone, Debug, Default)]
struct Faulty {
    refuses: bool,
    /// The replay from which on it leaves the outputs as they are.
    forgets_from: Option<usize>,
    /// The replay from which on it fails.
    fails_from: Option<usize>,
    captures: Arc<AtomicUsize>,
    replays: Arc<AtomicUsize>,
}

impl Recorder for Faulty {
    fn record(
        &self,
        work: &dyn Fn() -> Vec<Tensor>,
    ) -> Result<(Box<dyn Recording>, Vec<Tensor>), GraphError> {
        self.captures.fetch_add(1, Ordering::Relaxed);
        if self.refuses {
            return Err(Failure::Other("not permitted when stream is capturing".into()).into());
        }
        let (_, outputs) = Rehearsal.record(work)?;
        Ok((Box::new(self.clone()), outputs))
    }
}

impl Recording for Faulty {
    fn replay(&self, work: &dyn Fn() -> Vec<Tensor>, outputs: &[Tensor]) -> Result<(), GraphError> {
        let replay = self.replays.fetch_add(1, Ordering::Relaxed);
        if self.fails_from.is_some_and(|from| replay >= from) {
            return Err(Failure::Other("the device is lost".into()).into());
        }
        if self.forgets_from.is_some_and(|from| replay >= from) {
            return Ok(());
        }
        Rehearsal.replay(work, outputs)
    }
}

impl Faulty {
    fn counts(&self) -> (usize, usize) {
        (self.captures.load(Ordering::Relaxed), self.replays.load(Ordering::Relaxed))
    }
}

fn input(value: f64, length: i64) -> Tensor {
    Tensor::full([length], value, (Kind::Float, Device::Cpu))
}

/// Doubles, and adds one to, a vector of this length that is full of `value`.
fn run(graphs: &Graphs, value: f64, length: i64) -> Vec<Tensor> {
    graphs.run("double", &[&input(value, length)], |given| vec![&given[0] * 2.0, &given[0] + 1.0])
}

fn assert_right(outputs: &[Tensor], value: f64, length: i64) {
    assert_eq!(outputs, [input(2.0 * value, length), input(value + 1.0, length)]);
}

#[test]
fn from_the_third_time_on_a_graph_does_the_work_on_the_inputs_of_that_time() {
    let recorder = Faulty::default();
    let graphs = Graphs::with(recorder.clone());
    let expected = [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3)];
    for (time, expected) in expected.into_iter().enumerate() {
        assert_right(&run(&graphs, time as f64 + 0.5, 3), time as f64 + 0.5, 3);
        assert_eq!((recorder.counts(), graphs.in_use()), (expected, usize::from(time >= 2)));
    }
}

#[test]
fn outputs_stay_as_they_are_when_the_graph_runs_again() {
    let graphs = Graphs::rehearsal();
    let all: Vec<_> = (0..6).map(|time| run(&graphs, f64::from(time), 2)).collect();
    for (value, outputs) in (0..).zip(&all) {
        assert_right(outputs, f64::from(value), 2);
    }
}

#[test]
fn each_work_and_shape_has_a_graph_of_its_own() {
    let recorder = Faulty::default();
    let graphs = Graphs::with(recorder.clone());
    for time in 0..4 {
        assert_right(&run(&graphs, f64::from(time), 2), f64::from(time), 2);
        assert_right(&run(&graphs, f64::from(time), 5), f64::from(time), 5);
        let other = graphs.run("halve", &[&input(8.0, 2)], |given| vec![&given[0] * 0.5]);
        assert_eq!(other, [input(4.0, 2)]);
    }
    assert_eq!((recorder.counts().0, graphs.in_use()), (3, 3));
}

#[test]
fn the_graph_that_was_needed_least_lately_gives_way() {
    let recorder = Faulty::default();
    let graphs = Graphs::with(recorder.clone());
    let thrice =
        |length| (0..3).for_each(|_| assert_right(&run(&graphs, 1.5, length), 1.5, length));
    let most = MOST_GRAPHS as i64;
    (1..=most).for_each(thrice);
    run(&graphs, 1.0, 1);
    thrice(most + 1);
    assert_eq!((graphs.in_use(), recorder.counts().0), (MOST_GRAPHS, MOST_GRAPHS + 1));
    // The first was needed again and stays; the second must be captured anew.
    thrice(1);
    assert_eq!(recorder.counts().0, MOST_GRAPHS + 1);
    thrice(2);
    assert_eq!((graphs.in_use(), recorder.counts().0), (MOST_GRAPHS, MOST_GRAPHS + 2));
}

#[test]
fn what_cannot_be_captured_runs_plainly_and_is_not_tried_again() {
    let recorder = Faulty { refuses: true, ..Faulty::default() };
    let graphs = Graphs::with(recorder.clone());
    for time in 0..5 {
        assert_right(&run(&graphs, f64::from(time), 2), f64::from(time), 2);
    }
    assert_eq!((recorder.counts(), graphs.in_use(), graphs.warned.get()), ((1, 0), 0, true));
}

#[test]
fn a_graph_whose_first_replay_is_wrong_is_never_used() {
    let recorder = Faulty { forgets_from: Some(0), ..Faulty::default() };
    let graphs = Graphs::with(recorder.clone());
    for time in 0..5 {
        assert_right(&run(&graphs, f64::from(time), 2), f64::from(time), 2);
    }
    assert_eq!((recorder.counts(), graphs.in_use(), graphs.warned.get()), ((1, 1), 0, true));
}

#[test]
fn a_graph_that_fails_later_gives_way_to_plain_work() {
    let recorder = Faulty { fails_from: Some(2), ..Faulty::default() };
    let graphs = Graphs::with(recorder.clone());
    for time in 0..6 {
        assert_right(&run(&graphs, f64::from(time), 2), f64::from(time), 2);
    }
    assert_eq!((recorder.counts(), graphs.in_use()), ((1, 3), 0));
}

#[test]
fn where_memory_is_short_graphs_give_theirs_back() {
    let graphs = Graphs::rehearsal();
    (0..3).for_each(|_| assert_right(&run(&graphs, 1.0, 2), 1.0, 2));
    assert_eq!(graphs.in_use(), 1);
    // Fits beside no graph.
    let large = |given: &[Tensor], room: &Cell<bool>| {
        assert!(room.replace(true), "CUDA out of memory. Tried to allocate 20.00 MiB.");
        vec![&given[0] * 2.0]
    };
    let room = Cell::new(false);
    assert_eq!(
        graphs.run("large", &[&input(3.0, 9)], |given| large(given, &room)),
        [input(6.0, 9)]
    );
    assert_eq!(graphs.in_use(), 0);
    // Without graphs there is nothing to give back.
    let room = Cell::new(false);
    let again = catch_unwind(AssertUnwindSafe(|| {
        graphs.run("larger", &[&input(3.0, 10)], |given| large(given, &room))
    }));
    let failure = again.map_err(|panic| Failure::from_panic(panic.as_ref())).unwrap_err();
    assert!(failure.is_out_of_memory(), "{failure:?}");
}

#[test]
fn rounding_is_let_pass_and_anything_else_is_not() {
    let plain = [input(1.0, 4)];
    assert_eq!(agree(&plain, &[input(1.01, 4)]), Ok(()));
    for wrong in [1.1, 0.0, f64::NAN, f64::INFINITY] {
        assert!(agree(&plain, &[input(wrong, 4)]).is_err(), "{wrong}");
    }
}

#[test]
fn on_a_cpu_nothing_is_captured() {
    let graphs = Graphs::on(&Ops::open(Device::Cpu, Settings::default()));
    assert!(!graphs.wanted());
    (0..4).for_each(|_| assert_right(&run(&graphs, 1.0, 2), 1.0, 2));
    assert_eq!(graphs.in_use(), 0);
}
