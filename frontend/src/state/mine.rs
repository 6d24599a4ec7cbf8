//! Own results as this browser remembers them: enough to list them without asking the server for
//! each.

use serde::{Deserialize, Serialize};
use var_dd_protocol::{GenerateRequest, JobId, JobState};

use super::{job::Job, words};

/// Own results remembered.
const MOST: usize = 120;

/// One own result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(crate) id: JobId,
    pub(crate) state: JobState,
    pub(crate) class_name: String,
    /// The plan in words.
    pub(crate) plan: String,
    /// Side of a picture in pixels.
    pub(crate) image_size: u32,
    pub(crate) request: GenerateRequest,
    /// Milliseconds on the device until its pictures were there, once it is finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drawn_ms: Option<f64>,
    /// Milliseconds of that in the transformers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transformer_ms: Option<f64>,
}

impl Own {
    /// What is worth remembering of a job.
    pub(crate) fn of(job: &Job) -> Self {
        Self {
            id: job.id().clone(),
            state: job.state,
            class_name: job.about.class_name.clone(),
            plan: words::plan(&job.about),
            image_size: job.about.image_size,
            request: job.about.request.clone(),
            drawn_ms: job.drawn_ms(),
            transformer_ms: job.timings.map(|timings| timings.transformer_ms),
        }
    }
}

/// Own results, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Mine(Vec<Own>);

impl Mine {
    /// Notes a result: in its place if it is known, as the newest if it is not.
    pub(crate) fn note(&mut self, own: Own) {
        match self.0.iter_mut().find(|known| known.id == own.id) {
            // What is over stays over, whatever a tab that did not watch believes.
            Some(known) if known.state.is_final() && !own.state.is_final() => {}
            Some(known) => *known = own,
            None => self.0.insert(0, own),
        }
        self.0.truncate(MOST);
    }

    /// Forgets a result.
    pub(crate) fn forget(&mut self, id: &JobId) {
        self.0.retain(|own| own.id != *id);
    }

    /// All of them, newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Own> {
        self.0.iter()
    }

    /// Those that had not ended when they were last heard of.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &Own> {
        self.0.iter().filter(|own| !own.state.is_final())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::job::tests::{job, two_steps};

    fn own(bits: u128) -> Own {
        Own { id: JobId::from_bits(bits), ..Own::of(&job(two_steps(), 1)) }
    }

    #[test]
    fn a_result_keeps_its_place_when_more_is_heard_of_it() {
        let mut mine = Mine::default();
        mine.note(own(1));
        mine.note(own(2));
        mine.note(Own { state: JobState::Finished, ..own(1) });
        let seen: Vec<_> = mine.iter().map(|own| (own.id.clone(), own.state)).collect();
        assert_eq!(
            seen,
            [(JobId::from_bits(2), JobState::Queued), (JobId::from_bits(1), JobState::Finished)]
        );
        assert_eq!(mine.unfinished().count(), 1);
        mine.note(own(1));
        assert_eq!(mine.unfinished().count(), 1, "what is over stays over");
    }

    #[test]
    fn the_oldest_give_way_and_deleted_ones_are_forgotten() {
        let mut mine = Mine::default();
        (0..200).for_each(|bits| mine.note(own(bits)));
        assert_eq!(mine.iter().count(), MOST);
        assert_eq!(mine.iter().next().map(|own| own.id.clone()), Some(JobId::from_bits(199)));
        mine.forget(&JobId::from_bits(199));
        assert_eq!(mine.iter().next().map(|own| own.id.clone()), Some(JobId::from_bits(198)));
    }

    #[test]
    fn what_is_remembered_survives_as_text() {
        let mut mine = Mine::default();
        mine.note(own(3));
        let text = serde_json::to_string(&mine).unwrap();
        assert_eq!(serde_json::from_str::<Mine>(&text).unwrap(), mine);
    }
}
