//! A stand-in for the engine, for tests of everything above it: no weights, no torch, pictures that
//! depend on their numbers alone, faults on demand.

use std::{
    ops::ControlFlow,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use image::{Rgb, RgbImage};
use var_dd_engine::sample::Frames;
use var_dd_protocol::{GenerateRequest, ModelInfo, Plan, PlanPreset, ScaleTokens, TokenReport};

use super::{
    BatchRequest, Encoding, Generator, GeneratorError, GeneratorEvent, PictureRequest, Sink,
};

/// A class at which [`FakeGenerator`] panics.
pub const CLASS_OF_PANIC: u32 = 6;
/// A class at which [`FakeGenerator`] fails.
pub const CLASS_OF_FAILURE: u32 = 7;

/// A small model: 3 scales, 8 classes, pictures of 16 × 16 pixels.
pub fn model(name: &str) -> ModelInfo {
    ModelInfo {
        name: name.to_owned(),
        image_size: 16,
        patch_nums: vec![1, 2, 4],
        classes: (0..8).map(|class| format!("class {class}")).collect(),
        plans: vec![
            PlanPreset::new("1 step", few_step(&[0])),
            PlanPreset::new("2 steps", few_step(&[0, 1])),
        ],
        has_teacher: true,
        depth: 1,
        vocabulary: 16,
        parameters: 1000,
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
    }
}

/// A plan of the student alone.
pub fn few_step(t_list: &[u32]) -> Plan {
    Plan::FewStep { t_list: t_list.to_vec(), loss_split_t: 1 }
}

/// The picture that is drawn at a place of the plan.
pub fn picture(side: u32, of: PictureRequest, pass: usize, scale: usize) -> RgbImage {
    let mix = |salt: u64| {
        let numbers = of.seed ^ (u64::from(of.class) << 40) ^ (u64::from(of.index) << 50) ^ salt;
        (numbers.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u32
    };
    RgbImage::from_fn(side, side, |x, y| {
        let place = pass as u32 * 40 + scale as u32 * 20;
        Rgb([(mix(1) + x * 4) as u8, (mix(2) + y * 4) as u8, (mix(3) + place) as u8])
    })
}

/// Holds the device back before every pass, as long as a test wants.
#[derive(Clone, Debug)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug)]
struct GateState {
    passes: usize,
    open: bool,
    waiting: usize,
}

impl Gate {
    /// Nothing passes.
    pub fn closed() -> Self {
        let state = GateState { passes: 0, open: false, waiting: 0 };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `passes` more passes go.
    pub fn allow(&self, passes: usize) {
        self.state().passes += passes;
        self.0.1.notify_all();
    }

    /// Lets everything go from now on.
    pub fn open(&self) {
        self.state().open = true;
        self.0.1.notify_all();
    }

    /// Waits until the device is held at the gate. Blocks the thread.
    pub fn wait_for_device(&self) {
        let waiting = |state: &mut GateState| state.waiting == 0;
        drop(self.0.1.wait_while(self.state(), waiting));
    }

    fn enter(&self) {
        let mut state = self.state();
        state.waiting += 1;
        self.0.1.notify_all();
        let held = |state: &mut GateState| !state.open && state.passes == 0;
        let mut state = self.0.1.wait_while(state, held).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state.passes = state.passes.saturating_sub(1);
    }
}

/// The stand-in.
#[derive(Clone, Debug)]
pub struct FakeGenerator {
    info: ModelInfo,
    memory: usize,
    gate: Option<Gate>,
    pass_time: Duration,
    batches: Arc<Mutex<Vec<BatchRequest>>>,
}

impl FakeGenerator {
    /// A stand-in for a model.
    pub fn new(info: ModelInfo) -> Self {
        Self {
            info,
            memory: usize::MAX,
            gate: None,
            pass_time: Duration::ZERO,
            batches: Arc::default(),
        }
    }

    /// With memory for so many pictures. A larger batch fails after its first scale.
    pub fn with_memory(self, memory: usize) -> Self {
        Self { memory, ..self }
    }

    /// With a gate before every pass.
    pub fn with_gate(self, gate: &Gate) -> Self {
        let gate = Some(gate.clone());
        Self { gate, ..self }
    }

    /// Whose passes take so long, for measuring what is around them.
    pub fn with_pass_time(self, pass_time: Duration) -> Self {
        Self { pass_time, ..self }
    }

    /// The batches asked for so far, also those that failed.
    pub fn batches(&self) -> Vec<BatchRequest> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Generator for FakeGenerator {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn generate(&self, batch: &BatchRequest, sink: &mut Sink<'_>) -> Result<(), GeneratorError> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch.clone());
        let has = |class| batch.pictures.iter().any(|picture| picture.class == class);
        let wanted = GenerateRequest {
            explore: batch.explore.as_deref().cloned().map(Box::new),
            ..GenerateRequest::new(0, batch.plan.clone())
        };
        let passes = wanted.passes(self.info.scales());
        // A picture between corners depends on how near it is to each.
        let blend = batch.explore.iter().flat_map(|explore| &explore.blend);
        let place = blend.fold(0_u64, |place, of| place.rotate_left(9) ^ of.weight.to_bits());
        let decoded = |pass, scale| {
            let draw = |&of: &PictureRequest| {
                let of = PictureRequest { seed: of.seed ^ place, ..of };
                picture(self.info.image_size, of, pass, scale)
            };
            let pictures = batch.pictures.iter().map(draw).collect();
            GeneratorEvent::Decoded { pass, scale, pictures, decode_ms: 0.25 }
        };
        let mut shown = 0;
        let mut show = |sink: &mut Sink<'_>, pass, scale| {
            if shown == 1 && batch.pictures.len() > self.memory {
                return Err(GeneratorError::OutOfMemory {
                    pictures: batch.pictures.len(),
                    reason: format!("the stand-in has memory for {}", self.memory),
                });
            }
            shown += 1;
            Ok(sink(decoded(pass, scale)))
        };
        let mut later = Vec::new();
        for (pass, of) in passes.iter().enumerate() {
            if let Some(gate) = &self.gate {
                gate.enter();
            }
            std::thread::sleep(self.pass_time);
            let began = GeneratorEvent::PassBegan { pass, passes: passes.len(), of: *of };
            if sink(began) == ControlFlow::Break(()) {
                return Ok(());
            }
            assert!(!has(CLASS_OF_PANIC), "class {CLASS_OF_PANIC} makes the stand-in panic");
            if has(CLASS_OF_FAILURE) {
                return Err(GeneratorError::Failed(format!(
                    "class {CLASS_OF_FAILURE} makes the stand-in fail at /srv/models/vae.safetensors\n\
                     Exception raised from read at /build/read.cpp:12"
                )));
            }
            if sink(GeneratorEvent::PassEnded { pass, transformer_ms: 1.5 })
                == ControlFlow::Break(())
            {
                return Ok(());
            }
            let scales = of.scales().map(|scale| (pass, scale));
            match batch.frames {
                Frames::None => {}
                Frames::Last => later = scales.rev().take(1).collect(),
                Frames::InOrder => {
                    for (pass, scale) in scales {
                        if show(sink, pass, scale)? == ControlFlow::Break(()) {
                            return Ok(());
                        }
                    }
                }
                Frames::LastFirst => later.extend(scales),
            }
        }
        // Nothing waits unless the last one is wanted first.
        let last = later.pop();
        for (pass, scale) in last.into_iter().chain(later) {
            if show(sink, pass, scale)? == ControlFlow::Break(()) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn inspect(
        &self,
        request: &GenerateRequest,
        picture: u32,
    ) -> Result<TokenReport, GeneratorError> {
        let code = (request.seed.unwrap_or_default() % 16) as u32;
        let scale = |&side: &u32| ScaleTokens {
            side,
            codes: vec![code; (side * side) as usize],
            distances: vec![0.0; (side * side) as usize],
            laws: Vec::new(),
        };
        let scales = self.info.patch_nums.iter().map(scale).collect();
        Ok(TokenReport { picture, vocabulary: self.info.vocabulary, scales })
    }

    fn encode(&self, picture: &RgbImage) -> Result<Encoding, GeneratorError> {
        let tokens: u32 = self.info.patch_nums.iter().map(|side| side * side).sum();
        let code = u32::from(picture.get_pixel(0, 0).0[0]) % self.info.vocabulary;
        let frames = vec![picture.clone(); self.info.patch_nums.len()];
        Ok(Encoding { codes: vec![code; tokens as usize], frames })
    }
}
