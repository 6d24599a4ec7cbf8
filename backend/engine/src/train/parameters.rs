//! The weights of a network in training: one flat f32 buffer, seen by name.
//!
//! The networks of [`crate::net`] are built anew for each step from views of the buffer, so that
//! training and inference share every line of the architecture. In another number type the views
//! are cast on the way, which is mixed precision with f32 master weights: gradients come back in
//! f32. One buffer makes optimiser, average and checkpoint a few operations on single tensors.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::initial;
use crate::{
    ops::Ops,
    weights::{Cursor, StateDict, Weights},
};

/// Where each tensor lies in the buffer.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    entries: Vec<(String, Vec<i64>)>,
    sizes: Vec<i64>,
}

/// The flat buffer of a network's weights.
#[derive(Debug)]
pub(super) struct Parameters {
    layout: Layout,
    /// f32 `[n]`, a leaf that collects gradients.
    flat: Tensor,
}

impl Layout {
    /// The tensors that a network asks for while it is built by `ask`.
    pub(super) fn of(ask: impl FnOnce(&Cursor)) -> Self {
        let _no_grad = tch::no_grad_guard();
        let weights = Weights::from_formula(&Ops::plain(Device::Cpu), Kind::Float);
        ask(&weights.root());
        // Invented weights always fit.
        let entries = weights.finish().unwrap_or_default();
        let sizes = entries.iter().map(|(_, shape)| shape.iter().product()).collect();
        Self { entries, sizes }
    }

    /// Those tensors alone whose names are wanted.
    pub(super) fn only(self, wanted: impl Fn(&str) -> bool) -> Self {
        let kept = self.entries.into_iter().zip(self.sizes).filter(|((name, _), _)| wanted(name));
        let (entries, sizes) = kept.unzip();
        Self { entries, sizes }
    }

    /// Numbers in all.
    pub(super) fn numbers(&self) -> i64 {
        self.sizes.iter().sum()
    }

    /// Names and shapes in order.
    pub(super) fn entries(&self) -> &[(String, Vec<i64>)] {
        &self.entries
    }

    /// Where the tensor `name` lies.
    pub(super) fn range(&self, name: &str) -> Option<Range<i64>> {
        let index = self.entries.iter().position(|(entry, _)| entry == name)?;
        let start: i64 = self.sizes[..index].iter().sum();
        Some(start..start + self.sizes[index])
    }

    /// Views of a buffer, by name.
    pub(super) fn views(&self, flat: &Tensor) -> StateDict {
        let parts = flat.split_with_sizes(&self.sizes, 0);
        self.entries
            .iter()
            .zip(parts)
            .map(|((name, shape), part)| (name.clone(), part.view(&shape[..])))
            .collect()
    }

    /// A buffer of named tensors; those that are missing keep what `initial` gives them.
    fn gather(&self, seed: u64, known: &StateDict, device: Device) -> Tensor {
        let parts: Vec<Tensor> = self
            .entries
            .iter()
            .map(|(name, shape)| match known.get(name) {
                Some(tensor) if tensor.size() == *shape => {
                    tensor.to_device(Device::Cpu).to_kind(Kind::Float).reshape([-1])
                }
                _ => initial::tensor(seed, name, shape).reshape([-1]),
            })
            .collect();
        Tensor::cat(&parts, 0).to_device(device)
    }
}

impl Parameters {
    /// Weights before the first step: those of `known` where it has a tensor of the name and shape,
    /// else initial ones by name and seed.
    pub(super) fn new(layout: Layout, seed: u64, known: &StateDict, device: Device) -> Self {
        let _no_grad = tch::no_grad_guard();
        let flat = layout.gather(seed, known, device).set_requires_grad(true);
        Self { layout, flat }
    }

    /// Where each tensor lies.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The buffer.
    pub(super) fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Views by name; gradients flow back to the buffer.
    pub(super) fn live(&self) -> StateDict {
        self.layout.views(&self.flat)
    }
}

/// Builds a network from named tensors; the layout has the names, so nothing is missing.
pub(super) fn build<T>(
    tensors: StateDict,
    ops: &Ops,
    kind: Kind,
    load: impl FnOnce(&Cursor) -> T,
) -> T {
    let weights = Weights::from_tensors("training".into(), tensors, ops, kind);
    load(&weights.root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_of_views_arrive_in_the_buffer_at_their_place() {
        let layout = Layout::of(|at| {
            let _ = at.tensor("a.weight", &[2, 3]);
            let _ = at.tensor("b.bias", &[4]);
        });
        assert_eq!(layout.numbers(), 10);
        assert_eq!(layout.range("b.bias"), Some(6..10));
        let parameters = Parameters::new(layout, 1, &StateDict::new(), Device::Cpu);
        let live = parameters.live();
        let loss = (&live["b.bias"] * 3.0).sum(Kind::Float)
            + live["a.weight"].to_kind(Kind::BFloat16).sum(Kind::Float);
        loss.backward();
        let gradient = Vec::<f32>::try_from(parameters.flat().grad()).unwrap();
        assert_eq!(gradient, [1., 1., 1., 1., 1., 1., 3., 3., 3., 3.]);
    }

    #[test]
    fn known_tensors_are_taken_over_and_others_start_anew() {
        let layout = || {
            Layout::of(|at| {
                let _ = at.tensor("a.weight", &[2, 2]);
                let _ = at.tensor("b.weight", &[2, 2]);
            })
        };
        let known = StateDict::from([(
            "b.weight".to_owned(),
            Tensor::full([2, 2], 7.0, (Kind::Float, Device::Cpu)),
        )]);
        let with = Parameters::new(layout(), 1, &known, Device::Cpu);
        let without = Parameters::new(layout(), 1, &StateDict::new(), Device::Cpu);
        assert_eq!(with.live()["a.weight"], without.live()["a.weight"]);
        assert_eq!(with.live()["b.weight"], known["b.weight"]);
    }
}
