//! Which steps a picture is made of: few-step and teacher-involved as in the released `sample.py`
//! and `combine_sample.py`, the teacher alone as in VAR's `autoregressive_infer_cfg`; and what is
//! done to pictures at hand.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{
    explore::{Course, Editor, Inspected, Kept, desk, edit},
    frames::{Frames, Show, Sink, check_finite},
    plan::Plan,
    sampler::Sampler,
    start::{Batch, Groups, SampleError},
    student::{StudentStep, StudentSteps},
    teacher::TeacherSteps,
};

impl Sampler {
    /// Draws a batch and gives its final tokens, f32 `[B, N, Cv]`; `None` if the sink said stop.
    ///
    /// On a CPU each picture runs for itself, which costs next to nothing there: a picture is then
    /// the same to the last bit whatever shares its batch. On a GPU the batch runs as one.
    ///
    /// # Errors
    /// When plan, labels or noise do not fit the model, and [`SampleError::NotFinite`] when final
    /// tokens are infinite or no numbers. Failures of the device surface as panics of the tensor
    /// library.
    pub fn run(
        &self,
        plan: &Plan,
        batch: &Batch,
        frames: Frames,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Tensor>, SampleError> {
        self.follow(&Course::Plan(plan), batch, frames, sink)
    }

    /// As [`Sampler::run`], for a plan or what is done to pictures at hand.
    ///
    /// # Errors
    /// As [`Sampler::run`].
    pub fn follow(
        &self,
        course: &Course,
        batch: &Batch,
        frames: Frames,
        sink: &mut Sink<'_>,
    ) -> Result<Option<Tensor>, SampleError> {
        batch.check(course, self)?;
        let _no_grad = tch::no_grad_guard();
        let _alone = self.alone();
        let groups = Groups::of(batch, self);
        let passes = course.passes(self.config.scales() as u32);
        let mut show = Show::new(self, passes, groups.pictures(), frames, sink);
        let tokens = draw(self, course, &groups, &mut show);
        let shown = tokens.and_then(|tokens| show.finish().map(|_| tokens));
        let Some(tokens) = shown.map(|tokens| Tensor::cat(&tokens, 0)) else { return Ok(None) };
        check_finite(&tokens)?;
        Ok(Some(tokens))
    }

    /// Draws a batch without showing it, and looks at every token: how far it lies from a codeword,
    /// and the law that it was drawn by.
    ///
    /// # Errors
    /// As [`Sampler::run`].
    pub fn inspect(&self, course: &Course, batch: &Batch) -> Result<Inspected, SampleError> {
        batch.check(course, self)?;
        let _no_grad = tch::no_grad_guard();
        let _alone = self.alone();
        let groups = Groups::of(batch, self);
        let passes = course.passes(self.config.scales() as u32);
        let mut never_stops = |_: super::Event<'_>| ControlFlow::<()>::Continue(());
        let mut show =
            Show::new(self, passes, groups.pictures(), Frames::None, &mut never_stops).with_laws();
        let tokens = draw(self, course, &groups, &mut show).unwrap_or_default();
        let laws = show.finish().unwrap_or_default();
        let tokens = Tensor::cat(&tokens, 0);
        check_finite(&tokens)?;
        Ok(self.inspected(tokens, laws))
    }
}

/// Runs the passes of a course: the final tokens of each group, f32 `[b, N, Cv]`.
fn draw(
    sampler: &Sampler,
    course: &Course,
    groups: &Groups,
    show: &mut Show<'_, '_>,
) -> Option<Vec<Tensor>> {
    let scales = sampler.config.scales();
    let at_hand = |tokens: &Tensor| groups.share_out(tokens, sampler);
    let codes_of = |tokens: &Tensor| -> Vec<Tensor> {
        at_hand(tokens).iter().map(|tokens| sampler.quantized(tokens)).collect()
    };
    match *course {
        Course::Plan(plan) => draw_plan(sampler, plan, groups, show),
        Course::Shown { tokens, gains } => {
            let tokens = at_hand(tokens);
            desk::show(sampler, &Tensor::cat(&tokens, 0), 0..scales, gains, show)?;
            Some(tokens)
        }
        Course::Reroll { parent, from_scale, loss_split_t } => {
            let kept = codes_of(parent);
            if from_scale > 0 {
                let before = 0..from_scale as usize;
                desk::show(sampler, &Tensor::cat(&kept, 0), before, None, show)?;
            }
            let student = StudentSteps::of(sampler, groups, show.wants_laws());
            let step = StudentStep::new(from_scale, loss_split_t.max(from_scale));
            student.run(step, &kept, show)
        }
        Course::Edit { parent, mask, by } => {
            let drawn = mask.tokens(&sampler.config.patch_nums).ok()?;
            let kept = Kept::new(codes_of(parent), drawn, sampler.device);
            match by {
                Editor::Student { loss_split_t } => {
                    edit::by_student(sampler, groups, &kept, loss_split_t, show)
                }
                Editor::Teacher(guidance) => {
                    let teacher = TeacherSteps::of(sampler, groups, guidance)?;
                    let nothing = groups.no_tokens(sampler);
                    teacher.run(&nothing, 0..scales, false, Some(&kept), show)
                }
            }
        }
    }
}

fn draw_plan(
    sampler: &Sampler,
    plan: &Plan,
    groups: &Groups,
    show: &mut Show<'_, '_>,
) -> Option<Vec<Tensor>> {
    let scales = sampler.config.scales();
    match *plan {
        Plan::FewStep { ref t_list, loss_split_t } => {
            let student = StudentSteps::of(sampler, groups, show.wants_laws());
            t_list.iter().try_fold(groups.noise(), |tokens, &t| {
                student.run(StudentStep::new(t, loss_split_t), &tokens, show)
            })
        }
        Plan::TeacherInvolved {
            t_list: [a, b],
            loss_split_t,
            teacher_start,
            guidance,
            causal_prefix,
        } => {
            let student = StudentSteps::of(sampler, groups, show.wants_laws());
            let mut tokens = groups.noise();
            if teacher_start > 0 {
                let draft = StudentStep::new(a, loss_split_t).quantized();
                tokens = student.run(draft, &tokens, show)?;
            }
            let drawn = teacher_start as usize..b as usize;
            if !drawn.is_empty() {
                let teacher = TeacherSteps::of(sampler, groups, guidance)?;
                tokens = teacher.run(&tokens, drawn, causal_prefix, None, show)?;
            }
            if (b as usize) < scales {
                tokens = student.run(StudentStep::new(b, loss_split_t), &tokens, show)?;
            }
            Some(tokens)
        }
        Plan::Teacher { guidance } => {
            let teacher = TeacherSteps::of(sampler, groups, guidance)?;
            teacher.run(&groups.no_tokens(sampler), 0..scales, false, None, show)
        }
    }
}
