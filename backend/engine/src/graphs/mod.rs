//! Work on a GPU that is captured once and then done again with one call, in place of hundreds of
//! small ones that a fast GPU waits for.
//!
//! Nothing has to be believed: the plain way is always there. A piece of work runs plainly when it
//! is first seen, which also lets the libraries under it prepare themselves; it runs plainly and is
//! captured when it is seen again; and what its graph gives is held against the plain outcome once,
//! with inputs that the capture never saw, before it counts.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use tch::{Device, Kind, Tensor};

use crate::{
    cuda::{
        CudaError,
        graph::{CapturedGraph, GraphPool},
    },
    failure::Failure,
    ops::Ops,
};

/// Graphs that are kept, those used last. Each holds its inputs and outputs on the device, and they
/// share all memory between.
const MOST_GRAPHS: usize = 32;

/// How far outputs of a graph may lie from the plain ones, as a share of their root mean square.
/// The same kernels run on the same numbers, so they are usually equal; libraries may round
/// otherwise where memory lies otherwise.
const TOLERANCE: f64 = 0.02;

/// Captured pieces of work of one owner, who does one at a time.
#[derive(Debug, Default)]
pub struct Graphs {
    /// None where everything runs plainly.
    recorder: Option<Box<dyn Recorder>>,
    /// By work. At most a few numbers for each combination of plan and batch size that was ever
    /// drawn.
    known: RefCell<HashMap<Key, KnownWork>>,
    /// Counts runs, to tell which graph was used last.
    runs: Cell<u64>,
    warned: Cell<bool>,
}

/// What the work is, and shapes and number types of its inputs.
type Key = (String, Vec<(Vec<i64>, Kind)>);

#[derive(Debug)]
struct KnownWork {
    state: State,
    /// [`Graphs::runs`] when it was needed last.
    used: u64,
}

#[derive(Debug)]
enum State {
    /// It has not run, or its graph had to go.
    New,
    /// It ran once.
    Seen,
    /// Its graph has not shown that it is right.
    Captured(Graph),
    Proven(Graph),
    /// It cannot be captured, its graph was wrong, or it failed half-way.
    Plain,
}

/// A captured piece of work, and where it reads and writes.
#[derive(Debug)]
struct Graph {
    recording: Box<dyn Recording>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// Why work runs without a graph.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum GraphError {
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error(transparent)]
    Libtorch(#[from] Failure),
    #[error("its first replay was off by {off:.1e} where numbers are about {size:.1e}")]
    Wrong { off: f64, size: f64 },
    #[error("the device has no memory for it beside graphs, which go")]
    NoRoom,
}

/// Captures work: CUDA, or what takes its place in tests.
trait Recorder: Debug + Send {
    /// Notes what `work` does, and where its outputs will be; their numbers mean nothing yet.
    fn record(
        &self,
        work: &dyn Fn() -> Vec<Tensor>,
    ) -> Result<(Box<dyn Recording>, Vec<Tensor>), GraphError>;
}

/// Captured work.
trait Recording: Debug + Send {
    /// Does it again, into the outputs. `work` is what was captured, for those who only pretend.
    fn replay(&self, work: &dyn Fn() -> Vec<Tensor>, outputs: &[Tensor]) -> Result<(), GraphError>;
}

impl Recorder for GraphPool {
    fn record(
        &self,
        work: &dyn Fn() -> Vec<Tensor>,
    ) -> Result<(Box<dyn Recording>, Vec<Tensor>), GraphError> {
        let (graph, outputs) = self.capture(work)?;
        Ok((Box::new(graph), outputs))
    }
}

impl Recording for CapturedGraph {
    fn replay(&self, _: &dyn Fn() -> Vec<Tensor>, _: &[Tensor]) -> Result<(), GraphError> {
        Ok(CapturedGraph::replay(self)?)
    }
}

impl Graphs {
    /// Graphs on a GPU, where they can be had and [`crate::ops::Settings::cuda_graphs`] asks for
    /// them; none on a CPU.
    pub fn on(ops: &Ops) -> Self {
        let Device::Cuda(index) = ops.device() else { return Self::default() };
        if !ops.settings().cuda_graphs {
            return Self::default();
        }
        match GraphPool::new(index) {
            Ok(pool) => Self::with(pool),
            Err(reason) => {
                tracing::info!(%reason, "no captured graphs on this GPU");
                Self::default()
            }
        }
    }

    /// For tests without a GPU: all is as with CUDA's graphs, but that a replay does the work anew.
    pub fn rehearsal() -> Self {
        Self::with(Rehearsal)
    }

    fn with(recorder: impl Recorder + 'static) -> Self {
        Self { recorder: Some(Box::new(recorder)), ..Self::default() }
    }

    /// Whether work may be captured here.
    pub fn wanted(&self) -> bool {
        self.recorder.is_some()
    }

    /// Graphs that have shown to be right, and are used.
    pub fn in_use(&self) -> usize {
        let known = self.known.borrow();
        known.values().filter(|entry| matches!(entry.state, State::Proven(_))).count()
    }

    /// Does `work` on `inputs`, which with `what` determine all that it does: its outputs, tensors
    /// of the caller's own.
    ///
    /// What is captured must stay on the device and see no tensor but its inputs and such as
    /// outlive it (weights).
    pub fn run(
        &self,
        what: &str,
        inputs: &[&Tensor],
        work: impl Fn(&[Tensor]) -> Vec<Tensor>,
    ) -> Vec<Tensor> {
        let given: Vec<Tensor> = inputs.iter().map(|input| input.shallow_clone()).collect();
        let Some(recorder) = &self.recorder else { return work(&given) };
        self.runs.set(self.runs.get() + 1);
        let key =
            (what.to_owned(), given.iter().map(|input| (input.size(), input.kind())).collect());
        let mut known = self.known.borrow_mut();
        let state = match known.get_mut(&key) {
            Some(entry) => {
                entry.used = self.runs.get();
                std::mem::replace(&mut entry.state, State::Plain)
            }
            None => State::New,
        };
        let (outputs, state) = match state {
            State::Proven(graph) => match graph.run(&given, &work) {
                Ok(outputs) => (outputs, State::Proven(graph)),
                Err(reason) => {
                    self.warn(what, &reason);
                    drop(graph);
                    (work(&given), State::Plain)
                }
            },
            State::New => (self.plainly(&mut known, &given, &work), State::Seen),
            State::Plain => (self.plainly(&mut known, &given, &work), State::Plain),
            State::Seen => {
                let outputs = self.plainly(&mut known, &given, &work);
                let state = match Graph::capture(recorder.as_ref(), &given, &work) {
                    Ok(graph) => State::Captured(graph),
                    Err(reason) => {
                        self.warn(what, &reason);
                        State::Plain
                    }
                };
                (outputs, state)
            }
            State::Captured(graph) => {
                let outputs = self.plainly(&mut known, &given, &work);
                match graph.run(&given, &work).and_then(|again| agree(&outputs, &again)) {
                    Ok(()) => (outputs, State::Proven(graph)),
                    Err(reason) => {
                        self.warn(what, &reason);
                        (outputs, State::Plain)
                    }
                }
            }
        };
        known.insert(key, KnownWork { state, used: self.runs.get() });
        make_room(&mut known);
        outputs
    }

    /// Does work without a graph. Where memory is short, graphs give theirs back first.
    fn plainly(
        &self,
        known: &mut HashMap<Key, KnownWork>,
        inputs: &[Tensor],
        work: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    ) -> Vec<Tensor> {
        catch_unwind(AssertUnwindSafe(|| work(inputs))).unwrap_or_else(|panic| {
            let graphs = known.values().filter(|entry| entry.graph().is_some()).count();
            if graphs == 0 || !Failure::from_panic(panic.as_ref()).is_out_of_memory() {
                resume_unwind(panic);
            }
            known.values_mut().filter(|entry| entry.graph().is_some()).for_each(|entry| {
                entry.state = State::Plain;
            });
            self.warn("a larger batch", &GraphError::NoRoom);
            work(inputs)
        })
    }

    /// Tells people once; what holds for one graph often holds for the next.
    fn warn(&self, what: &str, reason: &GraphError) {
        if self.warned.replace(true) {
            tracing::debug!(what, %reason, "not as a graph");
        } else {
            tracing::warn!(
                what,
                %reason,
                "runs without a captured graph, which is slower; --cuda-graphs off asks for none"
            );
        }
    }
}

impl KnownWork {
    fn graph(&self) -> Option<&Graph> {
        match &self.state {
            State::Captured(graph) | State::Proven(graph) => Some(graph),
            _ => None,
        }
    }
}

impl Graph {
    /// Captures `work` on inputs of its own, like those `given` but without their numbers.
    fn capture(
        recorder: &dyn Recorder,
        given: &[Tensor],
        work: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    ) -> Result<Self, GraphError> {
        // Zeros, which are valid as numbers of classes too; they fit every input that the graph
        // will ever have.
        let zeros = |input: &Tensor| Tensor::f_zeros(input.size(), (input.kind(), input.device()));
        let inputs: Vec<Tensor> =
            given.iter().map(zeros).collect::<Result<_, _>>().map_err(Failure::from)?;
        let (recording, outputs) = recorder.record(&|| work(&inputs))?;
        Ok(Self { recording, inputs, outputs })
    }

    /// The outputs for inputs `given`; copies, since the graph's own are overwritten whenever one
    /// of its pool runs.
    fn run(
        &self,
        given: &[Tensor],
        work: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    ) -> Result<Vec<Tensor>, GraphError> {
        for (own, given) in self.inputs.iter().zip(given) {
            own.shallow_clone().copy_(given);
        }
        self.recording.replay(&|| work(&self.inputs), &self.outputs)?;
        Ok(self.outputs.iter().map(Tensor::copy).collect())
    }
}

/// Lets the graph go that was needed least lately, if there are too many.
fn make_room(known: &mut HashMap<Key, KnownWork>) {
    let graphs = || known.values().filter(|entry| entry.graph().is_some());
    if graphs().count() <= MOST_GRAPHS {
        return;
    }
    let oldest = graphs().map(|entry| entry.used).min();
    let oldest =
        known.values_mut().find(|entry| Some(entry.used) == oldest && entry.graph().is_some());
    if let Some(entry) = oldest {
        entry.state = State::New;
    }
}

/// Whether a graph's outputs are the plain ones up to rounding.
fn agree(plain: &[Tensor], graph: &[Tensor]) -> Result<(), GraphError> {
    let rms = |tensor: &Tensor| tensor.square().mean(Kind::Double).sqrt().double_value(&[]);
    for (plain, graph) in plain.iter().zip(graph) {
        let (plain, graph) = (plain.to_kind(Kind::Float), graph.to_kind(Kind::Float));
        let (off, size) = (rms(&(&plain - graph)), rms(&plain));
        // Numbers that are none are not close.
        let close = off <= TOLERANCE * size;
        if !close {
            return Err(GraphError::Wrong { off, size });
        }
    }
    Ok(())
}

/// Work that is done anew at each replay, into the same outputs.
#[derive(Debug)]
struct Rehearsal;

impl Recorder for Rehearsal {
    fn record(
        &self,
        work: &dyn Fn() -> Vec<Tensor>,
    ) -> Result<(Box<dyn Recording>, Vec<Tensor>), GraphError> {
        // A capture does nothing: whoever looks at the outputs before a replay must be found out.
        let nothing = |output: Tensor| {
            output.full_like(if output.is_floating_point() { f64::NAN } else { -1.0 })
        };
        Ok((Box::new(Self), work().into_iter().map(nothing).collect()))
    }
}

impl Recording for Rehearsal {
    fn replay(&self, work: &dyn Fn() -> Vec<Tensor>, outputs: &[Tensor]) -> Result<(), GraphError> {
        for (output, made) in outputs.iter().zip(work()) {
            output.shallow_clone().copy_(&made);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
