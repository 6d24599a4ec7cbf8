//! A request becomes a [`ValidJob`] once; nothing after it checks a number again.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use var_dd_engine::sample::Frames;
use var_dd_protocol::{
    ErrorBody, ErrorCode, GenerateRequest, JobId, MAX_DEADLINE_MS, MAX_PICTURES, MAX_SEED,
    ModelInfo, OwnerToken,
};

use super::explore;
use crate::{
    jobs::find_model,
    storage::{JobRecord, OwnerHash},
};

/// A job that its model can run.
#[derive(Clone, Debug)]
pub(crate) struct ValidJob {
    /// Index of the model among the loaded ones.
    pub(crate) model: usize,
    /// In which order the frames come.
    pub(crate) frames: Frames,
    /// The request, model and seed filled in.
    pub(crate) request: GenerateRequest,
    /// Name of the class.
    pub(crate) class_name: String,
    /// Name of the plan if it is a preset of the model.
    pub(crate) plan_name: Option<String>,
    /// Side of each scale's token map.
    pub(crate) patch_nums: Vec<u32>,
    /// Side of the picture in pixels.
    pub(crate) image_size: u32,
}

impl ValidJob {
    /// Checks a request against the loaded models and fills in what it leaves open: the first
    /// model, a random seed.
    ///
    /// # Errors
    /// The first value that is out of bounds, with the bound.
    pub(crate) fn new(request: GenerateRequest, models: &[ModelInfo]) -> Result<Self, ErrorBody> {
        let (model, info) = find_model(request.model.as_deref(), models)?;
        let classes = info.classes.len();
        let Some(class_name) = info.classes.get(request.class as usize) else {
            return Err(ErrorBody::new(
                ErrorCode::ClassOutOfRange,
                format!(
                    "class {} is out of range; the model {:?} has {classes} classes, so it goes \
                     from 0 to {}",
                    request.class,
                    info.name,
                    classes.saturating_sub(1)
                ),
            ));
        };
        if !(1..=MAX_PICTURES).contains(&request.count) {
            return Err(ErrorBody::new(
                ErrorCode::CountOutOfRange,
                format!(
                    "count is {}; a job draws from 1 to {MAX_PICTURES} pictures",
                    request.count
                ),
            ));
        }
        if let Some(deadline_ms) = request.deadline_ms
            && !(1..=MAX_DEADLINE_MS).contains(&deadline_ms)
        {
            return Err(ErrorBody::new(
                ErrorCode::DeadlineOutOfRange,
                format!(
                    "deadline_ms is {deadline_ms}; it goes from 1 to {MAX_DEADLINE_MS} (a day)"
                ),
            ));
        }
        let seed = match request.seed {
            Some(seed) if seed > MAX_SEED => {
                return Err(ErrorBody::new(
                    ErrorCode::SeedOutOfRange,
                    format!("seed is {seed}; it goes from 0 to {MAX_SEED}"),
                ));
            }
            Some(seed) => seed,
            None => random::<8>().map(u64::from_le_bytes)? & MAX_SEED,
        };
        let plan = &request.plan;
        plan.validate(info.scales())
            .map_err(|error| ErrorBody::new(ErrorCode::InvalidPlan, error.to_string()))?;
        explore::check(&request, info)?;
        if request.needs_teacher() && !info.has_teacher {
            return Err(ErrorBody::new(
                ErrorCode::NoTeacher,
                format!(
                    "the plan needs a teacher and the model {:?} has none; choose a plan of kind \
                     few_step",
                    info.name
                ),
            ));
        }
        Ok(Self {
            model,
            frames: if request.last_frame_first { Frames::LastFirst } else { Frames::InOrder },
            class_name: class_name.clone(),
            plan_name: info.plan_name(&request),
            patch_nums: info.patch_nums.clone(),
            image_size: info.image_size,
            request: GenerateRequest {
                model: Some(info.name.clone()),
                seed: Some(seed),
                ..request
            },
        })
    }

    /// What is kept of the job.
    pub(crate) fn record(&self, id: JobId, owner: OwnerHash, created_ms: u64) -> JobRecord {
        JobRecord {
            id,
            owner,
            created_ms,
            stays: false,
            example: false,
            request: self.request.clone(),
            class_name: self.class_name.clone(),
            plan_name: self.plan_name.clone(),
            patch_nums: self.patch_nums.clone(),
            image_size: self.image_size,
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], ErrorBody> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, format!("the system gives no random numbers: {error}"))
    })?;
    Ok(bytes)
}

/// A new name of 128 random bits.
pub(crate) fn new_id() -> Result<JobId, ErrorBody> {
    Ok(JobId::from_bits(u128::from_le_bytes(random()?)))
}

/// Random bits that make an owner's token of a client's key.
pub(crate) fn new_salt() -> Result<[u8; 32], ErrorBody> {
    random()
}

/// A new owner's token of 256 random bits.
pub(crate) fn new_token() -> Result<OwnerToken, ErrorBody> {
    let digits = random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(OwnerToken(digits))
}

/// What is kept of a token: not the secret itself.
pub(crate) fn hash(token: &OwnerToken) -> OwnerHash {
    Sha256::digest(token.0.as_bytes()).into()
}

/// Checks that `token` is the owner's, in a time that says nothing about the right one.
///
/// # Errors
/// [`ErrorCode::NotOwner`].
pub(crate) fn check_owner(token: &OwnerToken, owner: &OwnerHash) -> Result<(), ErrorBody> {
    if hash(token).ct_eq(owner).into() {
        return Ok(());
    }
    Err(ErrorBody::new(
        ErrorCode::NotOwner,
        "the owner's token is not the one that was given out when this job was accepted",
    ))
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{Guidance, Plan};

    use super::*;
    use crate::generator::fake::{few_step, model};

    fn request() -> GenerateRequest {
        GenerateRequest {
            model: None,
            class: 7,
            plan: few_step(&[0, 1]),
            seed: Some(MAX_SEED),
            count: MAX_PICTURES,
            last_frame_first: false,
            deadline_ms: None,
            explore: None,
        }
    }

    fn refusal(change: impl FnOnce(&mut GenerateRequest)) -> ErrorBody {
        let mut wanted = request();
        change(&mut wanted);
        let mut student_only = model("student only");
        student_only.has_teacher = false;
        ValidJob::new(wanted, &[model("small"), student_only]).unwrap_err()
    }

    #[test]
    fn a_request_at_the_bounds_is_valid_and_what_it_leaves_open_is_filled_in() {
        let models = [model("first"), model("second")];
        let job = ValidJob::new(request(), &models).unwrap();
        assert_eq!((job.model, job.request.model.as_deref()), (0, Some("first")));
        assert_eq!(
            (job.class_name.as_str(), job.plan_name.as_deref()),
            ("class 7", Some("2 steps"))
        );
        let named = GenerateRequest { model: Some("second".to_owned()), seed: None, ..request() };
        let job = ValidJob::new(named.clone(), &models).unwrap();
        assert_eq!(job.model, 1);
        let seeds = [
            job.request.seed.unwrap(),
            ValidJob::new(named, &models).unwrap().request.seed.unwrap(),
        ];
        assert!(seeds.iter().all(|seed| *seed <= MAX_SEED) && seeds[0] != seeds[1]);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_the_value_and_the_bound() {
        use ErrorCode::*;
        let teacher = Plan::Teacher { guidance: Guidance::default() };
        for (error, code, says) in [
            (
                refusal(|r| r.model = Some("large".into())),
                UnknownModel,
                ["\"large\"", "\"small\", \"student only\""],
            ),
            (refusal(|r| r.class = 8), ClassOutOfRange, ["class 8", "0 to 7"]),
            (refusal(|r| r.count = 0), CountOutOfRange, ["count is 0", "1 to 8"]),
            (refusal(|r| r.deadline_ms = Some(0)), DeadlineOutOfRange, ["is 0", "1 to 86400000"]),
            (
                refusal(|r| r.deadline_ms = Some(MAX_DEADLINE_MS + 1)),
                DeadlineOutOfRange,
                ["86400001", "a day"],
            ),
            (refusal(|r| r.count = 9), CountOutOfRange, ["count is 9", "1 to 8"]),
            (
                refusal(|r| r.seed = Some(MAX_SEED + 1)),
                SeedOutOfRange,
                ["9007199254740992", "9007199254740991"],
            ),
            (refusal(|r| r.plan = few_step(&[])), InvalidPlan, ["empty", "0"]),
            (refusal(|r| r.plan = few_step(&[0, 3])), InvalidPlan, ["step 3", "0 to 2"]),
            (
                refusal(|r| (r.model, r.plan) = (Some("student only".into()), teacher)),
                NoTeacher,
                ["needs a teacher", "\"student only\""],
            ),
        ] {
            assert_eq!(error.code, code);
            assert!(says.iter().all(|words| error.message.contains(words)), "{}", error.message);
        }
    }

    #[test]
    fn an_owner_is_known_by_the_token_alone() {
        let (token, other) = (new_token().unwrap(), new_token().unwrap());
        assert_eq!(token.0.len(), 64);
        assert!(check_owner(&token, &hash(&token)).is_ok());
        for wrong in [other, OwnerToken(String::new()), OwnerToken(token.0.to_uppercase() + "0")] {
            assert_eq!(check_owner(&wrong, &hash(&token)).unwrap_err().code, ErrorCode::NotOwner);
        }
    }
}
