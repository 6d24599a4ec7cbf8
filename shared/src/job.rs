//! A job from request to result.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{ErrorBody, Explore, FrameHeader, Pass, Plan};

/// Name of a job and of the result it becomes: 128 random bits as 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// The name made of 128 (random) bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// The name under which a preview of this tag comes. No job has it but by a chance of 2⁻⁹⁶.
    pub fn of_preview(tag: u32) -> Self {
        Self::from_bits(tag.into())
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job is named by 32 lower-case hexadecimal digits, not by {0:?}")]
pub struct JobIdError(String);

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        let digits =
            text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        // The message repeats at most what a person could have meant as a name.
        if digits {
            Ok(Self(text.to_owned()))
        } else {
            Err(JobIdError(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = JobIdError;

    fn try_from(text: String) -> Result<Self, JobIdError> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

/// Secret of whoever created a job; it alone may cancel or delete. Given once, with
/// [`crate::ServerMessage::Accepted`].
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct OwnerToken(pub String);

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerToken(…)")
    }
}

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GenerateRequest {
    /// Name of a loaded model; the server's first one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Class number.
    pub class: u32,
    /// How to draw.
    #[serde(deserialize_with = "crate::object::object")]
    pub plan: Plan,
    /// Seed of all randomness, at most [`crate::MAX_SEED`]; the server picks one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 9_007_199_254_740_991_u64))]
    pub seed: Option<u64>,
    /// Pictures wanted, `1..=`[`crate::MAX_PICTURES`]. Picture `i` of a seed is the same whatever
    /// the count.
    #[serde(default = "one")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 8, default = 1))]
    pub count: u32,
    /// Whether the finished picture comes before the frames on the way to it, for those in a hurry.
    /// The pictures are the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last_frame_first: bool,
    /// Milliseconds after acceptance, `1..=`[`crate::MAX_DEADLINE_MS`], after which the job is not
    /// worth anything any more: it expires, at the next pass if it runs. None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 86_400_000))]
    pub deadline_ms: Option<u64>,
    /// What it goes on from, or lies between; absent for a picture of the class by the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explore: Option<Box<Explore>>,
}

impl GenerateRequest {
    /// One picture of a class by a plan; the server chooses model and seed.
    pub fn new(class: u32, plan: Plan) -> Self {
        Self {
            model: None,
            class,
            plan,
            seed: None,
            count: 1,
            last_frame_first: false,
            deadline_ms: None,
            explore: None,
        }
    }
}

fn one() -> u32 {
    1
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Accepted and waiting.
    Queued,
    /// On the device.
    Running,
    /// Every picture is there and kept.
    Finished,
    /// It ended with an error.
    Failed,
    /// Its owner stopped it.
    Cancelled,
    /// Nobody was watching any more while it waited, or its deadline passed.
    Expired,
}

impl JobState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        !matches!(self, JobState::Queued | JobState::Running)
    }
}

/// Where the time of a job went, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Timings {
    /// From acceptance to the device.
    pub queue_ms: f64,
    /// In the transformer (student and teacher).
    pub transformer_ms: f64,
    /// In the VAE decoder.
    pub decode_ms: f64,
    /// From acceptance to the first encoded frame.
    pub first_frame_ms: f64,
    /// From acceptance to the last encoded frame.
    pub last_frame_ms: f64,
}

/// One thing that happened to a job. Frames are events too; they travel as binary
/// [`crate::Frame`]s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JobEvent {
    /// It waits.
    Queued {
        /// Jobs ahead of it.
        position: u32,
    },
    /// The device took it.
    Started {
        /// The request as it runs: model and seed filled in.
        request: GenerateRequest,
    },
    /// A network pass began.
    PassBegan {
        /// Pass, from 0.
        pass: u32,
        /// What it draws.
        of: Pass,
        /// Passes in all.
        passes: u32,
        /// Milliseconds since acceptance.
        at_ms: f64,
    },
    /// A network pass ended.
    PassEnded {
        /// Pass, from 0.
        pass: u32,
        /// Milliseconds since acceptance.
        at_ms: f64,
    },
    /// All pictures are there and kept.
    Finished {
        /// Where the time went.
        timings: Timings,
    },
    /// It ended with an error.
    Failed {
        /// What went wrong.
        error: ErrorBody,
    },
    /// Its owner stopped it.
    Cancelled,
    /// It waited with nobody watching for longer than the grace time, or its deadline passed.
    Expired,
    /// It is over, and how it ended cannot be kept yet; that is tried again until it can. The event
    /// that ends it comes after this one.
    NotKept {
        /// Why not.
        error: ErrorBody,
    },
    /// Something that this side does not know of yet.
    #[serde(other)]
    Unknown,
}

impl JobEvent {
    /// The state after this event, if the event settles one.
    pub fn state(&self) -> Option<JobState> {
        match self {
            JobEvent::Queued { .. } => Some(JobState::Queued),
            JobEvent::Started { .. } => Some(JobState::Running),
            JobEvent::PassBegan { .. }
            | JobEvent::PassEnded { .. }
            | JobEvent::NotKept { .. }
            | JobEvent::Unknown => None,
            JobEvent::Finished { .. } => Some(JobState::Finished),
            JobEvent::Failed { .. } => Some(JobState::Failed),
            JobEvent::Cancelled => Some(JobState::Cancelled),
            JobEvent::Expired => Some(JobState::Expired),
        }
    }
}

/// One stored picture of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FrameEntry {
    /// Sequence number of the frame's event.
    pub seq: u64,
    /// What it shows.
    #[serde(flatten)]
    pub header: FrameHeader,
    /// Path of the picture on this server.
    pub url: String,
}

/// A job or result as a whole: body of `GET /api/results/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobView {
    /// Its name.
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// The request, model and seed filled in.
    pub request: GenerateRequest,
    /// Name of the class.
    pub class_name: String,
    /// What was done with a picture at hand, else the name of the plan if it is one of the model's
    /// presets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_name: Option<String>,
    /// Side of each scale's token map of the model that drew it.
    pub patch_nums: Vec<u32>,
    /// Side of the picture in pixels.
    pub image_size: u32,
    /// Milliseconds since 1970 (UTC) at acceptance.
    pub created_ms: u64,
    /// Passes of the plan.
    pub passes: Vec<Pass>,
    /// Frames kept so far, in the order of their sequence numbers. Empty in lists.
    #[serde(default)]
    pub frames: Vec<FrameEntry>,
    /// Final picture (PNG) of each picture index, as far as there is one.
    pub pictures: Vec<String>,
    /// Where the time went, once finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
    /// What went wrong, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_is_32_lower_case_hexadecimal_digits() {
        let id = JobId::from_bits(0xabc);
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        for bad in [
            "",
            "abc",
            &"g".repeat(32),
            &"A".repeat(32),
            &"0".repeat(33),
            "../../../../../../../../etc/passwd",
        ] {
            assert!(bad.parse::<JobId>().is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn a_request_needs_only_class_and_plan() {
        let text = r#"{"class":7,"plan":{"kind":"few_step","t_list":[0],"loss_split_t":3}}"#;
        let request: GenerateRequest = serde_json::from_str(text).unwrap();
        assert_eq!((request.count, request.seed, request.model), (1, None, None));
    }

    #[test]
    fn only_a_request_in_a_hurry_says_so() {
        let text =
            r#"{"class":7,"plan":{"kind":"few_step","t_list":[0],"loss_split_t":3},"count":1}"#;
        let calm: GenerateRequest = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&calm).unwrap(), text);
        let hurried = GenerateRequest { last_frame_first: true, ..calm };
        let said = serde_json::to_string(&hurried).unwrap();
        assert_eq!(
            said,
            text.replace("}", "").replace(r#","count""#, r#"},"count""#)
                + r#","last_frame_first":true}"#
        );
        assert_eq!(serde_json::from_str::<GenerateRequest>(&said).unwrap(), hurried);
    }

    #[test]
    fn an_owner_token_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", OwnerToken("secret".into())).contains("secret"));
    }
}
