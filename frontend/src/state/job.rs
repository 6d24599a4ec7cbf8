//! One job as this page has seen it.

use std::{collections::BTreeMap, fmt, rc::Rc};

use var_dd_protocol::{
    ErrorBody, FrameHeader, GenerateRequest, JobEvent, JobId, JobState, JobView, ModelInfo, Pass,
    Timings,
};

/// The address of an encoded picture, given up when nothing shows it any more.
#[derive(Clone)]
pub(crate) struct Picture(Rc<Address>);

struct Address {
    url: String,
    /// For addresses that hold memory of the browser.
    release: Option<fn(&str)>,
}

impl Picture {
    /// A picture of the server.
    pub(crate) fn at(url: impl Into<String>) -> Self {
        Self(Rc::new(Address { url: url.into(), release: None }))
    }

    /// A picture in the memory of the browser; `release` is called with its address when the last
    /// copy is dropped.
    pub(crate) fn held(url: String, release: fn(&str)) -> Self {
        Self(Rc::new(Address { url, release: Some(release) }))
    }

    pub(crate) fn url(&self) -> &str {
        &self.0.url
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            release(&self.url);
        }
    }
}

impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        self.0.url == other.0.url
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.url)
    }
}

/// Place of a frame among those of one picture: pass, then scale, both from 0.
pub(crate) type Place = (u32, u32);

/// One frame of one picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// Number of its event.
    pub(crate) seq: u64,
    /// Milliseconds since acceptance, by the server's clock.
    pub(crate) at_ms: f64,
    pub(crate) picture: Picture,
}

/// What does not change while a job runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct About {
    pub(crate) id: JobId,
    pub(crate) request: GenerateRequest,
    pub(crate) class_name: String,
    /// As in [`JobView`].
    pub(crate) plan_name: Option<String>,
    /// Side of each scale's token map.
    pub(crate) patch_nums: Vec<u32>,
    /// Side of a picture in pixels.
    pub(crate) image_size: u32,
    pub(crate) passes: Vec<Pass>,
    /// Milliseconds since 1970 at acceptance, where known.
    pub(crate) created_ms: Option<u64>,
}

impl About {
    /// A job that was just accepted.
    pub(crate) fn accepted(id: JobId, request: GenerateRequest, model: &ModelInfo) -> Self {
        Self {
            id,
            class_name: model.classes.get(request.class as usize).cloned().unwrap_or_default(),
            plan_name: model.plan_name(&request),
            patch_nums: model.patch_nums.clone(),
            image_size: model.image_size,
            passes: request.passes(model.scales()),
            created_ms: None,
            request,
        }
    }

    fn of_view(view: &JobView) -> Self {
        Self {
            id: view.id.clone(),
            request: view.request.clone(),
            class_name: view.class_name.clone(),
            plan_name: view.plan_name.clone(),
            patch_nums: view.patch_nums.clone(),
            image_size: view.image_size,
            passes: view.passes.clone(),
            created_ms: Some(view.created_ms),
        }
    }
}

/// A pass that the device is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RunningPass {
    pub(crate) pass: u32,
    pub(crate) passes: u32,
    pub(crate) of: Pass,
    /// When it began, by the clock of the server.
    began_ms: f64,
}

/// A part of the time from a click to the last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimePart {
    /// In the queue.
    Wait,
    Transformer,
    Decoder,
    Encoding,
}

impl TimePart {
    /// Whether it is a part of the drawing, by which the strip counts.
    pub(crate) fn is_drawing(self) -> bool {
        matches!(self, Self::Transformer | Self::Decoder | Self::Encoding)
    }
}

/// Where the time from the device to the last frame goes. The parts make the whole.
pub(crate) fn parts_of_drawing(timings: &Timings) -> [(TimePart, f64); 3] {
    let all_ms = (timings.last_frame_ms - timings.queue_ms).max(0.0);
    let transformer_ms = timings.transformer_ms.clamp(0.0, all_ms);
    let decoder_ms = timings.decode_ms.clamp(0.0, all_ms - transformer_ms);
    // Encoding runs beside the others: the rest is what it takes after them.
    let encoding_ms = all_ms - transformer_ms - decoder_ms;
    [
        (TimePart::Transformer, transformer_ms),
        (TimePart::Decoder, decoder_ms),
        (TimePart::Encoding, encoding_ms),
    ]
}

/// A job as seen so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    pub(crate) about: About,
    pub(crate) state: JobState,
    /// Jobs ahead of it while it waits.
    pub(crate) position: Option<u32>,
    pub(crate) running: Option<RunningPass>,
    /// When its first pass began, in milliseconds since acceptance, by the server's clock.
    first_pass_ms: Option<f64>,
    /// How long each pass took that was seen to end, in milliseconds.
    pub(crate) pass_ms: Vec<(Pass, f64)>,
    pub(crate) timings: Option<Timings>,
    pub(crate) error: Option<ErrorBody>,
    /// Frames of each picture.
    pub(crate) frames: Vec<BTreeMap<Place, Frame>>,
    /// When the person clicked, by the clock of this document.
    clicked_ms: Option<f64>,
    /// When the last frame arrived that this page saw arrive, by the same clock.
    arrived_ms: Option<f64>,
    last_seq: Option<u64>,
}

impl Job {
    /// A job of which nothing was heard yet. `clicked_ms` is the time of the click, if it was on
    /// this page.
    pub(crate) fn new(about: About, clicked_ms: Option<f64>) -> Self {
        let frames = vec![BTreeMap::new(); about.request.count.max(1) as usize];
        Self {
            about,
            state: JobState::Queued,
            position: None,
            running: None,
            first_pass_ms: None,
            pass_ms: Vec::new(),
            timings: None,
            error: None,
            frames,
            clicked_ms,
            arrived_ms: None,
            last_seq: None,
        }
    }

    /// A job as the server describes it. One that has not ended starts empty: its events are to
    /// follow.
    pub(crate) fn from_view(view: &JobView) -> Self {
        let mut job = Self::new(About::of_view(view), None);
        job.state = view.state;
        if view.state.is_final() {
            job.timings = view.timings;
            job.error.clone_from(&view.error);
            for entry in &view.frames {
                let header = &entry.header;
                job.insert(entry.seq, header, Picture::at(entry.url.clone()));
            }
        }
        job
    }

    pub(crate) fn id(&self) -> &JobId {
        &self.about.id
    }

    /// Number of scales.
    pub(crate) fn scales(&self) -> u32 {
        self.about.patch_nums.len() as u32
    }

    pub(crate) fn has_frames(&self) -> bool {
        self.frames.iter().any(|frames| !frames.is_empty())
    }

    /// The finished picture that came last, once all of them are there.
    pub(crate) fn last_picture(&self) -> Option<&Frame> {
        let pass = self.about.passes.len().checked_sub(1)?;
        let place = (pass as u32, self.scales().checked_sub(1)?);
        let pictures: Option<Vec<_>> =
            self.frames.iter().map(|frames| frames.get(&place)).collect();
        pictures?.into_iter().max_by_key(|frame| frame.seq)
    }

    /// Milliseconds on the device until the pictures were there, of a finished job. The steps may
    /// come after them.
    pub(crate) fn drawn_ms(&self) -> Option<f64> {
        let timings = self.timings?;
        let pictures_ms =
            self.last_picture().map_or(timings.last_frame_ms, |picture| picture.at_ms);
        Some((pictures_ms - timings.queue_ms).max(0.0))
    }

    /// Milliseconds from acceptance to the finished pictures, and to the last frame of all, of a
    /// finished job: by the server's clock, so that they are the same wherever and whenever it is
    /// looked at.
    pub(crate) fn totals(&self) -> Option<(f64, f64)> {
        let all_ms = self.timings.filter(|_| self.is_finished())?.last_frame_ms;
        Some((self.last_picture().map_or(all_ms, |picture| picture.at_ms), all_ms))
    }

    /// Where the time of a finished job went, from acceptance to its last frame. The parts make
    /// the whole.
    pub(crate) fn parts_of_time(&self) -> Option<[(TimePart, f64); 4]> {
        let timings = self.timings.filter(|_| self.is_finished())?;
        let wait_ms = timings.queue_ms.clamp(0.0, timings.last_frame_ms.max(0.0));
        let [transformer, decoder, encoding] = parts_of_drawing(&timings);
        Some([(TimePart::Wait, wait_ms), transformer, decoder, encoding])
    }

    /// Milliseconds that the way to the server and back took, and the browser, of a finished job
    /// that was asked for on this page: from the click to the last frame, less the server's part.
    pub(crate) fn on_the_way_ms(&self) -> Option<f64> {
        let (_, all_ms) = self.totals()?;
        Some((self.arrived_ms? - self.clicked_ms? - all_ms).max(0.0))
    }

    /// Milliseconds from when drawing began to a frame of this job, by the server's clock: what
    /// neither the queue nor the way to this page has a part in. Until the job has ended, drawing
    /// began with its first pass.
    pub(crate) fn drawn_after_ms(&self, frame: &Frame) -> f64 {
        let began_ms = self.timings.map(|timings| timings.queue_ms).or(self.first_pass_ms);
        (frame.at_ms - began_ms.unwrap_or(0.0)).max(0.0)
    }

    /// When the person clicked on this page, by the clock of this document.
    pub(crate) fn clicked_ms(&self) -> Option<f64> {
        self.clicked_ms
    }

    /// Whether all is over and every frame is there.
    pub(crate) fn is_finished(&self) -> bool {
        self.state == JobState::Finished
    }

    /// Notes an event that is no frame.
    pub(crate) fn event(&mut self, seq: u64, event: JobEvent) {
        if !self.is_news(seq) {
            return;
        }
        if let Some(state) = event.state() {
            self.state = state;
        }
        match event {
            JobEvent::Queued { position } => {
                // Also the word that the job starts over after a restart of the server.
                self.clear();
                self.position = Some(position);
            }
            JobEvent::Started { request } => {
                self.clear();
                self.about.request = request;
            }
            JobEvent::PassBegan { pass, of, passes, at_ms } => {
                self.first_pass_ms.get_or_insert(at_ms);
                self.running = Some(RunningPass { pass, passes, of, began_ms: at_ms });
            }
            JobEvent::PassEnded { pass, at_ms } => {
                if let Some(running) = self.running.filter(|running| running.pass == pass) {
                    self.pass_ms.push((running.of, at_ms - running.began_ms));
                }
            }
            JobEvent::Finished { timings } => {
                self.running = None;
                self.timings = Some(timings);
            }
            JobEvent::Failed { error } => {
                self.running = None;
                self.error = Some(error);
            }
            JobEvent::Cancelled | JobEvent::Expired => self.running = None,
            // It is over, and its end comes once it is kept.
            JobEvent::NotKept { .. } => self.running = None,
            JobEvent::Unknown => {}
        }
    }

    /// Notes a frame that arrived at `now_ms` by the clock of this document.
    pub(crate) fn frame(&mut self, seq: u64, header: &FrameHeader, picture: Picture, now_ms: f64) {
        if self.is_news(seq) {
            self.arrived_ms = Some(now_ms);
            self.insert(seq, header, picture);
        }
    }

    fn insert(&mut self, seq: u64, header: &FrameHeader, picture: Picture) {
        self.last_seq = self.last_seq.max(Some(seq));
        if let Some(frames) = self.frames.get_mut(header.picture as usize) {
            frames.insert((header.pass, header.scale), Frame { seq, at_ms: header.at_ms, picture });
        }
    }

    fn is_news(&mut self, seq: u64) -> bool {
        let news = self.last_seq.is_none_or(|last| seq > last);
        self.last_seq = self.last_seq.max(Some(seq));
        news
    }

    fn clear(&mut self) {
        self.position = None;
        self.running = None;
        self.first_pass_ms = None;
        self.pass_ms.clear();
        self.timings = None;
        self.frames.iter_mut().for_each(BTreeMap::clear);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use var_dd_protocol::{MediaType, PassKind, Plan};

    use super::*;

    pub(crate) fn request(plan: Plan, count: u32) -> GenerateRequest {
        GenerateRequest {
            model: Some("m".into()),
            class: 1,
            plan,
            seed: Some(7),
            count,
            last_frame_first: false,
            deadline_ms: None,
            explore: None,
        }
    }

    /// A job on a model of four scales.
    pub(crate) fn job(plan: Plan, count: u32) -> Job {
        let passes = plan.passes(4);
        let about = About {
            id: JobId::from_bits(1),
            request: request(plan, count),
            class_name: "tree".into(),
            plan_name: None,
            patch_nums: vec![1, 2, 3, 4],
            image_size: 64,
            passes,
            created_ms: None,
        };
        Job::new(about, None)
    }

    /// The same job with its finished pictures wanted first, and the first `arrived` of its frames.
    pub(crate) fn hurried(plan: Plan, count: u32, arrived: usize) -> Job {
        let mut job = job(plan, count);
        job.about.request.last_frame_first = true;
        job.event(0, JobEvent::Started { request: job.about.request.clone() });
        let mut places: Vec<_> = job.about.request.plan.frames(4);
        places.rotate_right(1);
        let frames = places.iter().flat_map(|at| (0..count).map(move |picture| (picture, at)));
        for (number, (picture, at)) in (0_u32..).zip(frames).take(arrived) {
            let header = header(picture, (at.pass, at.scale), 100.0 + 10.0 * f64::from(number));
            job.frame(1 + u64::from(number), &header, Picture::at(format!("p{number}")), 0.0);
        }
        job
    }

    pub(crate) fn two_steps() -> Plan {
        Plan::FewStep { t_list: vec![0, 2], loss_split_t: 2 }
    }

    pub(crate) fn header(picture: u32, (pass, scale): Place, at_ms: f64) -> FrameHeader {
        FrameHeader {
            picture,
            pass,
            scale,
            width: 64,
            height: 64,
            media_type: MediaType::Jpeg,
            last: false,
            at_ms,
            encode_ms: 0.1,
        }
    }

    fn began(pass: u32) -> JobEvent {
        let of = Pass { kind: PassKind::Student, first_scale: 0, end_scale: 4 };
        JobEvent::PassBegan { pass, of, passes: 2, at_ms: 0.0 }
    }

    #[test]
    fn an_event_seen_before_changes_nothing() {
        let mut job = job(two_steps(), 1);
        job.event(0, JobEvent::Queued { position: 2 });
        job.event(1, JobEvent::Started { request: request(two_steps(), 1) });
        job.frame(3, &header(0, (0, 0), 5.0), Picture::at("a"), 0.0);
        let before = job.clone();
        job.event(0, JobEvent::Queued { position: 2 });
        job.frame(3, &header(0, (0, 0), 9.0), Picture::at("b"), 0.0);
        assert_eq!(job, before);
    }

    #[test]
    fn a_job_that_starts_over_forgets_its_frames() {
        let mut job = job(two_steps(), 2);
        job.event(1, began(0));
        job.frame(2, &header(1, (0, 0), 5.0), Picture::at("a"), 0.0);
        job.event(1000, JobEvent::Queued { position: 0 });
        assert!(job.frames.iter().all(BTreeMap::is_empty));
        assert_eq!((job.state, job.position, job.running), (JobState::Queued, Some(0), None));
    }

    #[test]
    fn the_pictures_are_there_when_the_last_of_them_is_whatever_else_is_missing() {
        assert_eq!(hurried(two_steps(), 2, 1).last_picture(), None);
        for arrived in [2, 3, 12] {
            let job = hurried(two_steps(), 2, arrived);
            assert_eq!(
                job.last_picture().map(|frame| frame.at_ms),
                Some(110.0),
                "{arrived} frames"
            );
            assert_eq!(job.frames.iter().map(BTreeMap::len).sum::<usize>(), arrived);
        }
        let mut in_order = job(two_steps(), 1);
        in_order.frame(1, &header(0, (0, 3), 5.0), Picture::at("a"), 0.0);
        assert_eq!(
            in_order.last_picture(),
            None,
            "the last scale of the first pass is no finished picture"
        );
    }

    #[test]
    fn what_a_job_took_is_the_same_live_and_as_the_server_tells_it_later() {
        let timings = Timings { queue_ms: 5.0, last_frame_ms: 85.0, ..Timings::default() };
        let seen = |clicked_ms: Option<f64>| {
            let mut job = Job::new(job(two_steps(), 1).about, clicked_ms);
            job.frame(1, &header(0, (1, 3), 85.0), Picture::at("a"), 250.0);
            assert_eq!((job.totals(), job.on_the_way_ms()), (None, None), "it has not finished");
            job.event(2, JobEvent::Finished { timings });
            job
        };
        let (own, others) = (seen(Some(100.0)), seen(None));
        assert_eq!(own.totals(), Some((85.0, 85.0)));
        assert_eq!(own.totals(), others.totals());
        assert_eq!(own.parts_of_time(), others.parts_of_time());
        assert_eq!(own.on_the_way_ms(), Some(65.0));
        assert_eq!(others.on_the_way_ms(), None, "nobody here knows the click");
    }

    #[test]
    fn scales_are_timed_from_when_drawing_began_whoever_waited_how_long() {
        let began = |at_ms: f64| {
            let of = Pass { kind: PassKind::Student, first_scale: 0, end_scale: 4 };
            JobEvent::PassBegan { pass: 0, of, passes: 1, at_ms }
        };
        let mut job = Job::new(job(two_steps(), 1).about, Some(100.0));
        job.event(1, began(700.0));
        job.frame(2, &header(0, (0, 0), 705.0), Picture::at("a"), 950.0);
        let drawn = |job: &Job| job.drawn_after_ms(&job.frames[0][&(0, 0)]);
        assert_eq!(drawn(&job), 5.0, "while it runs");
        let timings = Timings { queue_ms: 699.0, ..Timings::default() };
        job.event(3, JobEvent::Finished { timings });
        assert_eq!(drawn(&job), 6.0, "as the parts of its time say");
        job.event(1000, JobEvent::Queued { position: 0 });
        job.event(1001, began(2000.0));
        job.frame(1002, &header(0, (0, 0), 2007.0), Picture::at("b"), 3000.0);
        assert_eq!(drawn(&job), 7.0, "started over");
    }

    #[test]
    fn the_parts_of_the_time_make_the_whole() {
        let parts = |transformer_ms: f64| {
            let mut job = job(two_steps(), 1);
            job.frame(1, &header(0, (1, 3), 85.0), Picture::at("a"), 115.0);
            assert_eq!(job.parts_of_time(), None, "it has not finished");
            let timings = Timings {
                queue_ms: 5.0,
                transformer_ms,
                decode_ms: 20.0,
                first_frame_ms: 85.0,
                last_frame_ms: 85.0,
            };
            job.event(2, JobEvent::Finished { timings });
            job.parts_of_time().unwrap().map(|(_, ms)| ms)
        };
        assert_eq!(parts(50.0), [5.0, 50.0, 20.0, 10.0]);
        // Passes that overlap count once.
        assert_eq!(parts(75.0).iter().sum::<f64>(), 85.0);
    }

    #[test]
    fn a_frame_of_a_picture_that_was_not_asked_for_is_left_out() {
        let mut job = job(two_steps(), 1);
        job.frame(1, &header(5, (0, 0), 5.0), Picture::at("a"), 0.0);
        assert!(job.frames[0].is_empty());
    }

    #[test]
    fn a_held_picture_is_released_once_after_its_last_copy() {
        thread_local!(static RELEASED: Cell<u32> = const { Cell::new(0) });
        let picture = Picture::held("blob:x".into(), |url| {
            assert_eq!(url, "blob:x");
            RELEASED.set(RELEASED.get() + 1);
        });
        let copy = picture.clone();
        drop(picture);
        assert_eq!(RELEASED.get(), 0);
        drop(copy);
        assert_eq!(RELEASED.get(), 1);
    }
}
