//! What a run starts from: labels, noise and seeds, checked against the model and shared out among
//! the groups of pictures that run together.

use std::{ops::Range, sync::Arc};

use tch::{Device, Kind, Tensor};

use super::{
    explore::{Course, Editor, GainsError, MaskError, MixError, check_gains},
    noise::PictureSeed,
    plan::PlanError,
    sampler::{Sampler, rows_of},
};

/// What to draw.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Class numbers, i64 `[B]`; or, to draw between classes, a weight for each class, f32 `[B,
    /// classes]`.
    pub labels: &'a Tensor,
    /// Starting noise, f32 `[B, N, Cv]`; not looked at where no student runs.
    pub noise: Option<&'a Tensor>,
    /// Seeds of the teacher's draws: one a picture, or one for each scale of each picture.
    pub seeds: &'a [PictureSeed],
}

/// A batch that cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The plan does not fit the model.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan needs a teacher.
    #[error(
        "this plan needs the teacher, and model {0:?} has none; convert it with --teacher, or \
         choose a few-step plan"
    )]
    NoTeacher(String),
    /// Inputs of the wrong shape.
    #[error("{what} is {found:?}; it must be {expected}")]
    Shape {
        /// Which input.
        what: &'static str,
        /// Its shape.
        found: Vec<i64>,
        /// What it should be.
        expected: String,
    },
    /// Pictures with numbers that are none.
    #[error(
        "the drawn picture holds numbers that are infinite or no numbers; the model's weights are \
         damaged, or --dtype f16 is too narrow for them (bf16 and f32 are not)"
    )]
    NotFinite,
    /// A class number that there is none of.
    #[error("class {class} is out of range; the model has {classes} classes, 0 to {}", classes - 1)]
    Class {
        /// The number.
        class: i64,
        /// Classes of the model.
        classes: i64,
    },
    /// Weights of classes that are none.
    #[error("the weights of the classes sum to {0}; each is from 0 to 1, and they sum to 1")]
    ClassWeights(f64),
    /// A codeword number that there is none of.
    #[error(
        "code {code} is out of range; the model has {vocabulary} codewords, 0 to {}",
        vocabulary - 1
    )]
    Code {
        /// The number.
        code: i64,
        /// Codewords of the model.
        vocabulary: i64,
    },
    /// Gains that do not fit.
    #[error(transparent)]
    Gains(#[from] GainsError),
    /// A mask of nothing.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// Weights that make no blend.
    #[error(transparent)]
    Mix(#[from] MixError),
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(#[from] tch::TchError),
}

impl Batch<'_> {
    /// Checks course and batch against the model.
    pub(super) fn check(&self, course: &Course, sampler: &Sampler) -> Result<(), SampleError> {
        let config = &sampler.config;
        let scales = config.scales() as u32;
        match *course {
            Course::Plan(plan) => config.check_plan(plan)?,
            Course::Shown { gains, .. } => {
                gains.map_or(Ok(()), |gains| check_gains(gains, config.scales()))?;
            }
            Course::Reroll { from_scale: step, loss_split_t: split, .. } => {
                if step >= scales {
                    return Err(PlanError::StepOutOfRange { step, scales }.into());
                }
                if split > scales {
                    return Err(PlanError::SplitOutOfRange { split, scales }.into());
                }
            }
            Course::Edit { by, mask, .. } => {
                mask.tokens(&config.patch_nums)?;
                match by {
                    Editor::Teacher(guidance) => guidance.validate()?,
                    Editor::Student { loss_split_t: split } if split > scales => {
                        return Err(PlanError::SplitOutOfRange { split, scales }.into());
                    }
                    Editor::Student { .. } => {}
                }
            }
        }
        if course.needs_teacher() && sampler.teacher.is_none() {
            return Err(SampleError::NoTeacher(config.name.clone()));
        }
        let pictures = self.check_labels(config.num_classes)?;
        let expected = [pictures, config.tokens(), config.latent_channels];
        let check_tokens = |what, found: Vec<i64>| {
            if found == expected {
                return Ok(());
            }
            Err(SampleError::Shape { what, found, expected: format!("{expected:?}") })
        };
        if course.needs_noise() {
            check_tokens("noise", self.noise.map(Tensor::size).unwrap_or_default())?;
        }
        if let Some(parent) = course.parent() {
            check_tokens("the parent", parent.size())?;
        }
        let by_scale = pictures * i64::from(scales);
        if course.needs_teacher() && ![pictures, by_scale].contains(&(self.seeds.len() as i64)) {
            return Err(SampleError::Shape {
                what: "seeds",
                found: vec![self.seeds.len() as i64],
                expected: format!("[{pictures}] or, by scale, [{by_scale}]"),
            });
        }
        Ok(())
    }

    /// Checks the labels: how many pictures they are.
    fn check_labels(&self, classes: i64) -> Result<i64, SampleError> {
        let size = self.labels.size();
        match (size[..].first(), size.len(), self.labels.kind()) {
            (Some(&pictures @ 1..), 1, Kind::Int64) => {
                let outside = |class: &&i64| !(0..classes).contains(*class);
                match Vec::<i64>::try_from(self.labels)?.iter().find(outside) {
                    Some(&class) => Err(SampleError::Class { class, classes }),
                    None => Ok(pictures),
                }
            }
            (Some(&pictures @ 1..), 2, Kind::Float) if size[1] == classes => {
                let weights = Vec::<f32>::try_from(self.labels.contiguous().view([-1]))?;
                for weights in weights.chunks(classes as usize) {
                    let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
                    let sound = weights.iter().all(|weight| (0.0..=1.0).contains(weight));
                    if !sound || (sum - 1.0).abs() > 1e-5 {
                        return Err(SampleError::ClassWeights(sum));
                    }
                }
                Ok(pictures)
            }
            _ => Err(SampleError::Shape {
                what: "labels",
                found: size,
                expected: format!("[B] with B at least 1, or weights of classes [B, {classes}]"),
            }),
        }
    }
}

/// Pictures that run through the networks together.
pub(super) struct Group {
    /// As in [`Batch`].
    pub(super) labels: Tensor,
    /// The same on the CPU, for comparison.
    known: Tensor,
    /// f32 `[b, N, Cv]`; empty where no student runs.
    pub(super) noise: Tensor,
    /// Seeds of the teacher's draws, picture by picture; empty where no teacher runs.
    seeds: Vec<PictureSeed>,
}

/// The groups of a batch in order.
pub(super) struct Groups(Vec<Group>);

impl Groups {
    /// Shares out a batch that fits the model.
    pub(super) fn of(batch: &Batch, sampler: &Sampler) -> Self {
        let labels = batch.labels.to_device(Device::Cpu);
        let device = sampler.device;
        let pictures = labels.size()[0] as usize;
        let each = batch.seeds.len() / pictures.max(1);
        let group = |rows: Range<i64>| {
            let labels = rows_of(&labels, &rows);
            Group {
                labels: labels.to_device(device),
                known: labels,
                noise: batch
                    .noise
                    .map_or_else(Tensor::new, |noise| rows_of(noise, &rows).to_device(device)),
                seeds: batch
                    .seeds
                    .get(rows.start as usize * each..rows.end as usize * each)
                    .unwrap_or_default()
                    .to_vec(),
            }
        };
        Self(sampler.rows_together(labels.size()[0]).map(group).collect())
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Group> {
        self.0.iter()
    }

    /// Pictures of all groups.
    pub(super) fn pictures(&self) -> usize {
        self.0.iter().map(Group::pictures).sum()
    }

    /// Something given for every picture of the batch, by group and on the device.
    pub(super) fn share_out(&self, tensor: &Tensor, sampler: &Sampler) -> Vec<Tensor> {
        sampler
            .rows_together(self.pictures() as i64)
            .map(|rows| rows_of(tensor, &rows).to_device(sampler.device))
            .collect()
    }

    /// The starting noise of each group, f32 `[b, N, Cv]`.
    pub(super) fn noise(&self) -> Vec<Tensor> {
        self.0.iter().map(|group| group.noise.shallow_clone()).collect()
    }

    /// For each group a sequence of no tokens yet, f32 `[b, 0, Cv]`.
    pub(super) fn no_tokens(&self, sampler: &Sampler) -> Vec<Tensor> {
        let empty = |group: &Group| {
            let shape = [group.pictures() as i64, 0, sampler.config.latent_channels];
            Tensor::empty(shape, (Kind::Float, sampler.device))
        };
        self.0.iter().map(empty).collect()
    }

    /// Something that labels alone determine, made once for groups of the same classes.
    pub(super) fn once_per_classes<T>(&self, make: impl Fn(&Group) -> T) -> Vec<Arc<T>> {
        let mut made: Vec<Arc<T>> = Vec::with_capacity(self.0.len());
        for group in &self.0 {
            let same = self.0[..made.len()].iter().position(|other| other.known == group.known);
            made.push(same.map_or_else(|| Arc::new(make(group)), |index| made[index].clone()));
        }
        made
    }
}

impl Group {
    /// Pictures of the group.
    pub(super) fn pictures(&self) -> usize {
        self.known.size()[0] as usize
    }

    /// Seeds of the teacher's draws at a scale, one a picture.
    pub(super) fn seeds_at(&self, scale: usize) -> Vec<PictureSeed> {
        let each = self.seeds.len() / self.pictures().max(1);
        let at = |of_picture: &[PictureSeed]| of_picture.get(scale).or(of_picture.first()).copied();
        self.seeds.chunks(each.max(1)).filter_map(at).collect()
    }
}
