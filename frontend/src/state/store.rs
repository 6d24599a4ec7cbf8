//! Everything that came from the server: connection, models, jobs, recent results.

use std::{collections::BTreeMap, rc::Rc};

use var_dd_protocol::{
    ErrorBody, ErrorCode, FrameHeader, GenerateRequest, JobEvent, JobId, JobState, JobView,
    ModelInfo, Plan, ResultPage, ServerInfo,
};

use super::{
    cost::{self, Seen},
    job::{About, Job, Picture},
    mine::{Mine, Own},
};

/// Ended jobs whose pictures are kept in memory.
const JOBS_KEPT: usize = 24;

/// Newest jobs of a kind whose median is what that kind takes.
const JOBS_OF_A_MEDIAN: usize = 3;

/// How the page is connected.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Connection {
    /// For the first time.
    #[default]
    Connecting,
    /// Both sides greeted.
    Open,
    /// There is no WebSocket; the server is asked over plain HTTP. With what could be done about
    /// it.
    PlainHttp(String),
    /// Gone; it is tried again.
    Lost,
    /// The server does not speak with this page.
    Refused(String),
}

impl Connection {
    /// Its name in attributes.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Open => "open",
            Self::PlainHttp(_) => "http",
            Self::Lost => "lost",
            Self::Refused(_) => "refused",
        }
    }

    /// Whether the server can be asked for something.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self, Self::Open | Self::PlainHttp(_))
    }
}

/// What became of a click on Generate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Waiting,
    Accepted(JobId),
    Refused(ErrorBody),
}

#[derive(Clone, Debug, PartialEq)]
struct Ask {
    clicked_ms: f64,
    is_remembered: bool,
    answer: Answer,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Connection(Connection),
    /// What the server offers, or why it does not say.
    Info(Result<Rc<ServerInfo>, ErrorBody>),
    /// The person clicked, at `now_ms` by the clock of this document; what comes of it is among
    /// the own results if it `is_remembered`.
    Asked {
        tag: u32,
        now_ms: f64,
        is_remembered: bool,
    },
    Accepted {
        tag: u32,
        job: JobId,
        request: GenerateRequest,
    },
    Rejected {
        tag: u32,
        error: ErrorBody,
    },
    Event {
        job: JobId,
        seq: u64,
        event: JobEvent,
    },
    Frame {
        job: JobId,
        seq: u64,
        header: FrameHeader,
        picture: Picture,
        now_ms: f64,
    },
    /// A job as a whole.
    View(Rc<JobView>),
    /// There is no such job (any more), or it cannot be had.
    Missing {
        job: JobId,
        error: ErrorBody,
    },
    /// The newest results, or, if `is_more`, those that follow the ones known.
    Recent {
        page: ResultPage,
        is_more: bool,
    },
    /// What this browser remembers of own results.
    Mine(Rc<Mine>),
    /// A job is to be deleted; the person may still take that back.
    Deleting(JobId),
    /// A job is not to be deleted after all.
    Kept(JobId),
    /// A job was deleted.
    Deleted(JobId),
    /// Something that concerns no job.
    Notice(Option<String>),
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Store {
    pub(crate) connection: Connection,
    pub(crate) info: Option<Rc<ServerInfo>>,
    /// Why there is no `info`.
    pub(crate) info_error: Option<ErrorBody>,
    /// Everybody's results, newest first, as far as they were asked for.
    pub(crate) recent: Rc<Vec<JobView>>,
    /// Where the list of them goes on.
    pub(crate) more_recent: Option<String>,
    /// Own results as this browser remembers them.
    pub(crate) mine: Rc<Mine>,
    pub(crate) notice: Option<String>,
    /// Jobs that were accepted for this page.
    own: Vec<JobId>,
    /// Those of them that are not to be remembered.
    passing: Vec<JobId>,
    /// Jobs that are deleted unless the person takes it back, and those that are.
    deleting: Vec<JobId>,
    deleted: Vec<JobId>,
    jobs: BTreeMap<JobId, Rc<Job>>,
    /// Jobs in the order in which they came.
    order: Vec<JobId>,
    missing: Vec<(JobId, ErrorBody)>,
    asks: Vec<(u32, Ask)>,
}

impl Store {
    /// A job, if anything is known of it.
    pub(crate) fn job(&self, id: &JobId) -> Option<&Rc<Job>> {
        self.jobs.get(id)
    }

    /// Why a job is not to be had.
    pub(crate) fn missing(&self, id: &JobId) -> Option<&ErrorBody> {
        self.missing.iter().find(|(other, _)| other == id).map(|(_, error)| error)
    }

    /// Whether a job stopped before there was anything to see of it.
    pub(crate) fn ended_empty(&self, id: &JobId) -> bool {
        self.job(id).is_some_and(|job| {
            matches!(job.state, JobState::Cancelled | JobState::Expired) && !job.has_frames()
        })
    }

    /// Jobs that are about to be deleted.
    pub(crate) fn deleting(&self) -> impl Iterator<Item = &JobId> {
        self.deleting.iter()
    }

    /// Whether the person deleted a job here, for good or not yet.
    pub(crate) fn is_deleted(&self, id: &JobId) -> bool {
        self.deleting.contains(id) || self.deleted.contains(id)
    }

    /// Own jobs that have not ended, oldest first.
    pub(crate) fn unfinished_own(&self) -> Vec<Rc<Job>> {
        let jobs = self.order.iter().filter(|id| self.is_own(id)).filter_map(|id| self.job(id));
        jobs.filter(|job| !job.state.is_final()).cloned().collect()
    }

    /// What there is to remember of own jobs, oldest first.
    pub(crate) fn own_news(&self) -> Vec<Own> {
        let is_kept = |id: &&JobId| self.is_own(id) && !self.passing.contains(id);
        let jobs = self.order.iter().filter(is_kept).filter_map(|id| self.job(id));
        jobs.map(|job| Own::of(job)).collect()
    }

    fn is_own(&self, id: &JobId) -> bool {
        self.own.contains(id) || self.mine.iter().any(|own| own.id == *id)
    }

    /// What became of a click.
    pub(crate) fn answer(&self, tag: u32) -> Option<&Answer> {
        self.asks.iter().find(|(other, _)| *other == tag).map(|(_, ask)| &ask.answer)
    }

    /// Plans of own results of a model that are none of its presets, newest first.
    pub(crate) fn own_plans(&self, model: &ModelInfo) -> Vec<Plan> {
        let mut plans: Vec<Plan> = Vec::new();
        let of_model = |own: &&Own| own.request.model.as_ref() == Some(&model.name);
        for plan in self.mine.iter().filter(of_model).map(|own| &own.request.plan) {
            let is_preset = model.plans.iter().any(|preset| preset.plan == *plan);
            if !is_preset && !plans.contains(plan) {
                plans.push(plan.clone());
            }
        }
        plans
    }

    /// Side of each scale's token map of a model, the server's first one if it is not named.
    pub(crate) fn sides(&self, model: Option<&str>) -> &[u32] {
        let models = self.info.as_ref().map_or(&[][..], |info| &info.models);
        let named = models.iter().find(|other| Some(other.name.as_str()) == model);
        named.or(models.first()).map_or(&[], |model| &model.patch_nums)
    }

    /// What a request will cost on the device on scales of these `sides`, by what others cost there,
    /// in milliseconds: at the pace of the newest own job, never less than what a part of its plan
    /// took here, nor more than what a plan took of which it is a part.
    pub(crate) fn estimated_ms(&self, like: &GenerateRequest, sides: &[u32]) -> Option<f64> {
        let scales = sides.len() as u32;
        let jobs = || self.newest_first().map(Rc::as_ref);
        let mut plans: Vec<&Plan> = Vec::new();
        let own = self.mine.iter().map(|own| &own.request.plan);
        for plan in own.chain(jobs().map(|job| &job.about.request.plan)) {
            if !plans.contains(&plan) {
                plans.push(plan);
            }
        }
        let with = |plan: &Plan| GenerateRequest { plan: plan.clone(), ..like.clone() };
        let measured: Vec<(f64, Plan)> = plans
            .into_iter()
            .filter_map(|plan| Some((self.measured_ms(&with(plan))?, plan.clone())))
            .collect();
        let seen = || {
            let before = self.own_before().filter_map(Seen::of_own);
            jobs().filter_map(Seen::of_job).chain(before)
        };
        let estimate = |like: &GenerateRequest| cost::estimate_ms(seen(), like, sides);
        // What is known of single passes may be of other hours.
        let pace = measured.first().and_then(|(ms, plan)| {
            let estimated = estimate(&with(plan)).filter(|&estimated| estimated > 0.0)?;
            Some(ms / estimated)
        });
        let estimate = estimate(like)? * pace.unwrap_or(1.0);
        Some(cost::between_neighbours(estimate, &like.plan, scales, measured.into_iter()))
    }

    /// Own results from before the page was loaded, newest first.
    fn own_before(&self) -> impl Iterator<Item = &Own> {
        self.mine.iter().filter(|own| !self.jobs.contains_key(&own.id))
    }

    fn newest_first(&self) -> impl Iterator<Item = &Rc<Job>> {
        self.order.iter().rev().filter_map(|id| self.jobs.get(id))
    }

    /// How long finished jobs of this kind take on the device for their pictures, in milliseconds:
    /// the median of the newest, so that one that met with other work does not count alone, at the
    /// pace of what was drawn since. Own jobs, also those before a reload, or others' where there
    /// are none: the example may have been drawn when the machine had nothing else to do.
    pub(crate) fn measured_ms(&self, like: &GenerateRequest) -> Option<f64> {
        let of_jobs = |are_own: bool| {
            let jobs = self.newest_first().filter(move |job| self.is_own(job.id()) == are_own);
            jobs.filter_map(|job| Some((&job.about.request, job.drawn_ms()?)))
        };
        let before = self.own_before();
        let before = before.filter_map(|own| Some((&own.request, own.drawn_ms?)));
        let own: Vec<_> = of_jobs(true).chain(before).collect();
        let newest = own.iter().position(|(request, _)| are_alike(request, like));
        match newest {
            Some(newest) => {
                let (since, until) = own.split_at(newest);
                Some(median_ms(until.iter().copied(), like)? * pace(since, until))
            }
            None => median_ms(of_jobs(false), like),
        }
    }

    /// The state after something happened.
    pub(crate) fn after(&self, action: Action) -> Self {
        let mut next = self.clone();
        match action {
            Action::Connection(connection) => next.connection = connection,
            Action::Info(Ok(info)) => (next.info, next.info_error) = (Some(info), None),
            Action::Info(Err(error)) => next.info_error = Some(error),
            Action::Asked { tag, now_ms: clicked_ms, is_remembered } => {
                next.notice = None;
                let ask = Ask { clicked_ms, is_remembered, answer: Answer::Waiting };
                next.asks.push((tag, ask));
            }
            Action::Accepted { tag, job, request } => next.accept(tag, job, request),
            Action::Rejected { tag, error } => {
                if let Some(ask) = next.ask_mut(tag) {
                    ask.answer = Answer::Refused(error);
                }
            }
            Action::Event { job, seq, event } => next.change(&job, |job| job.event(seq, event)),
            Action::Frame { job, seq, header, picture, now_ms } => {
                next.change(&job, |job| job.frame(seq, &header, picture, now_ms));
            }
            Action::View(view) => next.view(&view),
            Action::Missing { job, error } => {
                next.forget(&job);
                next.note_missing(job, error);
            }
            Action::Recent { page, is_more } => next.recent(page, is_more),
            Action::Mine(mine) => {
                // What another tab took off the list, this one does not put back.
                let stays = |id: &JobId| mine.iter().any(|own| own.id == *id);
                let gone = next.mine.iter().map(|own| &own.id).filter(|id| !stays(id));
                let gone: Vec<_> = gone.cloned().collect();
                next.own.retain(|id| !gone.contains(id));
                next.mine = mine;
            }
            Action::Deleting(job) => next.deleting.push(job),
            Action::Kept(job) => next.deleting.retain(|other| *other != job),
            Action::Deleted(job) => {
                next.forget(&job);
                next.deleting.retain(|other| *other != job);
                next.own.retain(|other| *other != job);
                next.passing.retain(|other| *other != job);
                let others = next.recent.iter().filter(|view| view.id != job);
                next.recent = Rc::new(others.cloned().collect());
                let error = ErrorBody::new(ErrorCode::NotFound, "it was deleted");
                next.note_missing(job.clone(), error);
                next.deleted.push(job);
            }
            Action::Notice(notice) => next.notice = notice,
        }
        next
    }

    fn recent(&mut self, page: ResultPage, is_more: bool) {
        let mut results = if is_more { (*self.recent).clone() } else { Vec::new() };
        // What was looked at further down stays, where the newest lead on to it.
        let last = page.results.last().map(|view| &view.id);
        let known = self.recent.iter().position(|view| Some(&view.id) == last);
        let below = match known.filter(|_| !is_more) {
            Some(known) => self.recent[known + 1..].to_vec(),
            None => Vec::new(),
        };
        if below.is_empty() {
            self.more_recent = page.next;
        }
        for view in page.results.into_iter().chain(below) {
            if results.iter().all(|known| known.id != view.id) {
                results.push(view);
            }
        }
        self.recent = Rc::new(results);
    }

    fn accept(&mut self, tag: u32, id: JobId, request: GenerateRequest) {
        self.own.push(id.clone());
        let ask = self.ask_mut(tag);
        let is_passing = ask.as_ref().is_some_and(|ask| !ask.is_remembered);
        let clicked_ms = ask.as_ref().map(|ask| ask.clicked_ms);
        if let Some(ask) = ask {
            ask.answer = Answer::Accepted(id.clone());
        }
        if is_passing {
            self.passing.push(id.clone());
        }
        let models = self.info.as_ref().map_or(&[][..], |info| &info.models);
        let model = models
            .iter()
            .find(|model| Some(&model.name) == request.model.as_ref())
            .or(models.first());
        if let Some(model) = model {
            let about = About::accepted(id, request, model);
            self.insert(Job::new(about, clicked_ms));
        }
    }

    fn view(&mut self, view: &JobView) {
        match self.jobs.get_mut(&view.id) {
            // What was seen live is not worth less than what the server tells of it.
            Some(job) if job.state.is_final() || (job.has_frames() && !view.state.is_final()) => {
                Rc::make_mut(job).about.created_ms = Some(view.created_ms);
            }
            _ => self.insert(Job::from_view(view)),
        }
    }

    fn insert(&mut self, job: Job) {
        let id = job.id().clone();
        self.missing.retain(|(other, _)| *other != id);
        if self.jobs.insert(id.clone(), Rc::new(job)).is_none() {
            self.order.push(id);
        }
        while self.order.len() > JOBS_KEPT {
            let ended = |id: &JobId| self.jobs.get(id).is_none_or(|job| job.state.is_final());
            let Some(oldest) =
                self.order[..self.order.len() - 1].iter().find(|id| ended(id)).cloned()
            else {
                break;
            };
            self.forget(&oldest);
        }
    }

    fn ask_mut(&mut self, tag: u32) -> Option<&mut Ask> {
        self.asks.iter_mut().find(|(other, _)| *other == tag).map(|(_, ask)| ask)
    }

    fn note_missing(&mut self, job: JobId, error: ErrorBody) {
        self.missing.retain(|(other, _)| *other != job);
        self.missing.push((job, error));
    }

    fn forget(&mut self, id: &JobId) {
        self.jobs.remove(id);
        self.order.retain(|other| other != id);
    }

    fn change(&mut self, id: &JobId, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.jobs.get_mut(id) {
            change(Rc::make_mut(job));
        }
    }

    /// Number of own jobs that finished on this page; changes when the list of recent results does.
    pub(crate) fn own_finished(&self) -> usize {
        let own = self.own.iter().filter_map(|id| self.job(id));
        own.filter(|job| job.state == JobState::Finished).count()
    }
}

/// Whether requests take the same time on a machine that is as busy.
fn are_alike(one: &GenerateRequest, other: &GenerateRequest) -> bool {
    one.plan == other.plan
        && one.explore == other.explore
        && one.model == other.model
        && one.count == other.count
        && one.last_frame_first == other.last_frame_first
}

/// The median of the newest jobs (newest first) that are like one.
fn median_ms<'a>(
    jobs: impl Iterator<Item = (&'a GenerateRequest, f64)>,
    like: &GenerateRequest,
) -> Option<f64> {
    let times = jobs.filter(|(request, _)| are_alike(request, like)).map(|(_, ms)| ms);
    median(times.take(JOBS_OF_A_MEDIAN))
}

/// The one in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    // There are few, and a sort is much code.
    let place = |at: usize| {
        let below =
            |other: usize| values[other].total_cmp(&values[at]).then(other.cmp(&at)).is_lt();
        (0..values.len()).filter(|&other| below(other)).count()
    };
    let middle = values.len().saturating_sub(1) / 2;
    (0..values.len()).find(|&at| place(at) == middle).map(|at| values[at])
}

/// How many times as long jobs take `since` as ones of their kinds did `until` then, both newest
/// first: the machine may have got more to do, or less.
fn pace(since: &[(&GenerateRequest, f64)], until: &[(&GenerateRequest, f64)]) -> f64 {
    let ratios = since.iter().filter_map(|&(request, ms)| {
        let before = median_ms(until.iter().copied(), request).filter(|&before| before > 0.0)?;
        Some(ms / before)
    });
    median(ratios.take(JOBS_OF_A_MEDIAN)).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{
        job::tests::{header, request, two_steps},
        settings::tests::model,
    };

    fn store() -> Store {
        let info = ServerInfo {
            protocol: 1,
            version: "0".into(),
            models: vec![model("m", 3)],
            max_pictures: 8,
            example: None,
        };
        Store::default().after(Action::Info(Ok(Rc::new(info))))
    }

    fn id(bits: u128) -> JobId {
        JobId::from_bits(bits)
    }

    fn asked(tag: u32, now_ms: f64, is_remembered: bool) -> Action {
        Action::Asked { tag, now_ms, is_remembered }
    }

    fn accepted(store: &Store, tag: u32, job: u128) -> Store {
        let asked = store.after(asked(tag, 10.0, true));
        asked.after(Action::Accepted { tag, job: id(job), request: request(two_steps(), 1) })
    }

    fn frame(store: &Store, job: u128, seq: u64) -> Store {
        let (header, picture) = (header(0, (0, 0), 3.0), Picture::at("a"));
        store.after(Action::Frame { job: id(job), seq, header, picture, now_ms: 25.0 })
    }

    /// Job 5, as the server tells of it while it runs.
    fn view_of(request: &GenerateRequest) -> JobView {
        JobView {
            id: id(5),
            state: JobState::Running,
            request: request.clone(),
            class_name: "class 1".into(),
            plan_name: None,
            patch_nums: vec![1, 2, 3, 4],
            image_size: 64,
            created_ms: 1,
            passes: request.plan.passes(4),
            frames: Vec::new(),
            pictures: Vec::new(),
            timings: None,
            error: None,
        }
    }

    fn event(store: &Store, job: u128, seq: u64, event: JobEvent) -> Store {
        store.after(Action::Event { job: id(job), seq, event })
    }

    #[test]
    fn a_click_becomes_a_job_that_knows_when_it_was() {
        let store = frame(&accepted(&store(), 1, 5), 5, 2);
        assert_eq!(store.answer(1), Some(&Answer::Accepted(id(5))));
        let job = store.job(&id(5)).unwrap();
        assert_eq!(
            (job.about.class_name.as_str(), job.about.plan_name.as_deref()),
            ("class 1", Some("2 steps"))
        );
        assert_eq!((job.clicked_ms(), job.has_frames()), (Some(10.0), true));
    }

    #[test]
    fn what_is_looked_at_in_passing_is_not_remembered_but_can_be_stopped() {
        let accepted = |store: &Store, tag: u32, is_remembered: bool| {
            let job = id(tag.into());
            let asked = store.after(asked(tag, 0.0, is_remembered));
            asked.after(Action::Accepted { tag, job, request: request(two_steps(), 1) })
        };
        let store = accepted(&accepted(&store(), 1, true), 2, false);
        let news: Vec<_> = store.own_news().into_iter().map(|own| own.id).collect();
        assert_eq!(news, [id(1)]);
        assert_eq!(store.unfinished_own().len(), 2);
    }

    #[test]
    fn a_refused_click_keeps_its_reason() {
        let error = ErrorBody::new(ErrorCode::QueueFull, "full");
        let asked = store().after(asked(1, 0.0, true));
        let refused = asked.after(Action::Rejected { tag: 1, error: error.clone() });
        assert_eq!(refused.answer(1), Some(&Answer::Refused(error)));
    }

    #[test]
    fn many_jobs_do_not_fill_the_memory_and_running_ones_stay() {
        let mut store = accepted(&store(), 0, 1000);
        for job in 0..60 {
            store = accepted(&store, job, job.into());
            store =
                event(&store, job.into(), 1, JobEvent::Finished { timings: Default::default() });
        }
        assert!(store.job(&id(1000)).is_some(), "it has not ended");
        assert!(store.job(&id(59)).is_some() && store.job(&id(3)).is_none());
        assert_eq!(store.order.len(), JOBS_KEPT);
    }

    #[test]
    fn a_view_of_a_running_job_does_not_wipe_out_what_was_seen_live() {
        let store = frame(&accepted(&store(), 1, 5), 5, 2);
        let view = view_of(&request(two_steps(), 1));
        let seen = store.after(Action::View(Rc::new(view.clone())));
        assert_eq!(seen.job(&id(5)).unwrap().frames[0].len(), 1);
        let ended = seen.after(Action::View(Rc::new(JobView { state: JobState::Failed, ..view })));
        assert_eq!(ended.job(&id(5)).unwrap().state, JobState::Failed);
    }

    #[test]
    fn a_deleted_job_is_gone_and_known_to_be() {
        let store = accepted(&store(), 1, 5).after(Action::Deleted(id(5)));
        assert!(store.job(&id(5)).is_none() && store.missing(&id(5)).is_some());
    }

    #[test]
    fn deleting_can_be_taken_back_until_it_is_done() {
        let store = accepted(&store(), 1, 5).after(Action::Deleting(id(5)));
        assert!(store.is_deleted(&id(5)) && store.job(&id(5)).is_some());
        let kept = store.after(Action::Kept(id(5)));
        assert!(!kept.is_deleted(&id(5)));
        let deleted = store.after(Action::Deleted(id(5)));
        assert!(deleted.is_deleted(&id(5)) && deleted.deleting().next().is_none());
        assert!(deleted.own_news().is_empty());
    }

    #[test]
    fn a_job_that_stopped_before_its_first_frame_has_nothing_to_show() {
        let store = accepted(&store(), 1, 5);
        assert!(!store.ended_empty(&id(5)), "it may still draw");
        let cancelled = event(&store, 5, 1, JobEvent::Cancelled);
        assert!(cancelled.ended_empty(&id(5)) && !cancelled.ended_empty(&id(6)));
        let drawn = event(&frame(&store, 5, 1), 5, 2, JobEvent::Cancelled);
        assert!(!drawn.ended_empty(&id(5)));
    }

    #[test]
    fn what_another_tab_takes_off_the_list_is_not_put_back() {
        let store = accepted(&accepted(&store(), 1, 5), 2, 6);
        let remembered = |store: &Store| {
            let mut mine = Mine::default();
            store.own_news().into_iter().for_each(|own| mine.note(own));
            mine
        };
        let mut mine = remembered(&store);
        let store = store.after(Action::Mine(Rc::new(mine.clone())));
        mine.forget(&id(5));
        let store = store.after(Action::Mine(Rc::new(mine.clone())));
        assert_eq!(remembered(&store), mine);
        assert!(store.own_news().iter().all(|own| own.id == id(6)));
    }

    #[test]
    fn own_jobs_are_told_from_those_of_others() {
        let mut store = accepted(&store(), 1, 5);
        store = accepted(&store, 2, 6);
        let view =
            store.job(&id(5)).map(|job| JobView { id: id(7), ..view_of(&job.about.request) });
        store = store.after(Action::View(Rc::new(view.unwrap())));
        let waiting: Vec<_> = store.unfinished_own().iter().map(|job| job.id().clone()).collect();
        assert_eq!(waiting, [id(5), id(6)]);
        assert_eq!(store.own_finished(), 0);
        store = event(&store, 5, 1, JobEvent::Finished { timings: Default::default() });
        assert_eq!((store.unfinished_own().len(), store.own_finished()), (1, 1));
        assert_eq!(store.own_news().len(), 2);
    }

    #[test]
    fn more_results_follow_those_that_are_known_and_none_stands_twice() {
        let page = |ids: &[u128], next: Option<&str>| ResultPage {
            results: ids
                .iter()
                .map(|&bits| JobView { id: id(bits), ..view_of(&request(two_steps(), 1)) })
                .collect(),
            next: next.map(str::to_owned),
        };
        let first = Action::Recent { page: page(&[3, 2], Some("x")), is_more: false };
        let store = store().after(first);
        assert_eq!(store.more_recent.as_deref(), Some("x"));
        let store = store.after(Action::Recent { page: page(&[2, 1], None), is_more: true });
        let ids: Vec<_> = store.recent.iter().map(|view| view.id.clone()).collect();
        assert_eq!((ids, store.more_recent.clone()), (vec![id(3), id(2), id(1)], None));
    }

    #[test]
    fn a_plan_is_known_by_how_long_it_took() {
        let store = accepted(&store(), 1, 5);
        assert_eq!(store.measured_ms(&request(two_steps(), 1)), None);
        let timings = var_dd_protocol::Timings {
            queue_ms: 100.0,
            last_frame_ms: 350.0,
            ..Default::default()
        };
        let store = event(&store, 5, 1, JobEvent::Finished { timings });
        assert_eq!(store.measured_ms(&request(two_steps(), 1)), Some(250.0));
        let took = |store: &Store, tag: u32, ms: f64| {
            let timings = var_dd_protocol::Timings { last_frame_ms: ms, ..Default::default() };
            let store = accepted(store, tag, tag.into());
            event(&store, tag.into(), 1, JobEvent::Finished { timings })
        };
        let store = took(&took(&store, 6, 9000.0), 7, 260.0);
        assert_eq!(store.measured_ms(&request(two_steps(), 1)), Some(260.0), "the median");
        assert_eq!(store.measured_ms(&request(two_steps(), 2)), None);
    }

    #[test]
    fn own_times_count_before_those_of_others_also_after_a_reload() {
        let finished = |store: Store, bits: u128, ms: f64| {
            let timings = var_dd_protocol::Timings { last_frame_ms: ms, ..Default::default() };
            event(&store, bits, 1, JobEvent::Finished { timings })
        };
        // The example, seen before anything else.
        let view = JobView { id: id(9), ..view_of(&request(two_steps(), 1)) };
        let example = finished(store().after(Action::View(Rc::new(view))), 9, 100.0);
        let like = request(two_steps(), 1);
        assert_eq!(example.measured_ms(&like), Some(100.0), "nothing else is known");
        let drawn = finished(accepted(&example, 1, 5), 5, 700.0);
        assert_eq!(drawn.measured_ms(&like), Some(700.0));
        let mut mine = Mine::default();
        drawn.own_news().into_iter().for_each(|own| mine.note(own));
        let reloaded = example.after(Action::Mine(Rc::new(mine)));
        assert_eq!(reloaded.measured_ms(&like), Some(700.0));
    }

    #[test]
    fn a_plan_is_expected_at_the_pace_of_what_was_drawn_since() {
        let one_step = Plan::FewStep { t_list: vec![0], loss_split_t: 2 };
        let took = |store: &Store, bits: u32, plan: &Plan, ms: f64| {
            let asked = store.after(asked(bits, 0.0, true));
            let (job, request) = (id(bits.into()), request(plan.clone(), 1));
            let store = asked.after(Action::Accepted { tag: bits, job, request });
            let timings = var_dd_protocol::Timings { last_frame_ms: ms, ..Default::default() };
            event(&store, bits.into(), 1, JobEvent::Finished { timings })
        };
        let of = |store: &Store, plan: &Plan| store.measured_ms(&request(plan.clone(), 1));
        let mut quiet = store();
        for (bits, (plan, ms)) in
            (1..).zip([(&one_step, 50.0), (&one_step, 50.0), (&two_steps(), 100.0)])
        {
            quiet = took(&quiet, bits, plan, ms);
        }
        assert_eq!(of(&quiet, &two_steps()), Some(100.0));
        // Something else keeps the machine busy: other plans are slower as well.
        let busy = took(&quiet, 5, &one_step, 150.0);
        assert_eq!(of(&busy, &two_steps()), Some(300.0));
        // Of a plan of its own, one alone does not count.
        assert_eq!(of(&busy, &one_step), Some(50.0));
        let busy = took(&busy, 6, &one_step, 160.0);
        assert_eq!(of(&busy, &one_step), Some(150.0));
        // Its own newest time tells more than the pace of others before it.
        let again = took(&busy, 7, &two_steps(), 280.0);
        let again = took(&again, 8, &two_steps(), 290.0);
        assert_eq!(of(&again, &two_steps()), Some(280.0));
    }

    #[test]
    fn whoever_is_in_a_hurry_waits_for_the_picture_and_not_for_the_steps() {
        let hurried = GenerateRequest { last_frame_first: true, ..request(two_steps(), 1) };
        let asked = store().after(asked(1, 10.0, true));
        let mut store =
            asked.after(Action::Accepted { tag: 1, job: id(5), request: hurried.clone() });
        for (seq, place, at_ms) in [(1, (1, 3), 300.0), (2, (0, 0), 320.0), (3, (0, 1), 340.0)] {
            let (header, picture) = (header(0, place, at_ms), Picture::at("a"));
            store = store.after(Action::Frame { job: id(5), seq, header, picture, now_ms: at_ms });
        }
        let timings = var_dd_protocol::Timings {
            queue_ms: 100.0,
            last_frame_ms: 340.0,
            ..Default::default()
        };
        let store = event(&store, 5, 4, JobEvent::Finished { timings });
        assert_eq!(store.measured_ms(&hurried), Some(200.0));
        assert_eq!(
            store.measured_ms(&request(two_steps(), 1)),
            None,
            "another order takes another time"
        );
    }
}
