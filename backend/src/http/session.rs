//! One WebSocket conversation as a state machine without sockets: messages in, steps out.

use std::{collections::HashMap, num::NonZeroU32, ops::RangeInclusive};

use governor::{DefaultDirectRateLimiter, RateLimiter, clock::Clock};
use var_dd_protocol::{
    ClientMessage, ErrorBody, ErrorCode, GenerateRequest, JobId, OwnerToken, PROTOCOL_VERSION,
    ServerMessage,
};

use super::{error::seconds, limits::message_quota, websocket::CloseCode};

/// Length of what a client calls itself: enough that nobody guesses it.
const CLIENT_KEY: RangeInclusive<usize> = 16..=255;

/// Bounds of one conversation.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Messages per second, pings included; twice as many at once.
    pub messages_per_second: NonZeroU32,
    /// Messages over that limit before the connection is closed.
    pub strikes: u32,
    /// Jobs watched at once.
    pub watched: usize,
    /// Jobs asked for on this connection that have not ended.
    pub unfinished: usize,
}

/// What is to be done about a message.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Tell the client.
    Send(ServerMessage),
    /// Submit a job; report with [`Session::accepted`] or answer `rejected`.
    Submit {
        /// Tag of the message.
        tag: u32,
        /// The request.
        request: GenerateRequest,
    },
    /// Draw a preview.
    Preview {
        /// Tag of the message.
        tag: u32,
        /// The request.
        request: GenerateRequest,
    },
    /// Stop a job.
    Cancel {
        /// The job.
        job: JobId,
        /// What the client says is the owner's token.
        owner_token: OwnerToken,
    },
    /// Follow a job; report with [`Session::watching`].
    Watch {
        /// The job.
        job: JobId,
        /// Last event seen.
        after: Option<u64>,
    },
    /// Stop following a job.
    Unwatch(JobId),
    /// End the conversation.
    Close(CloseCode, String),
}

/// State of one conversation.
#[derive(Debug)]
pub struct Session {
    limits: SessionLimits,
    bucket: DefaultDirectRateLimiter,
    strikes: u32,
    greeted: bool,
    /// What the client calls itself, if it does.
    client_key: Option<String>,
    /// Watched jobs; whether they were asked for here.
    watched: HashMap<JobId, bool>,
}

impl Session {
    /// A conversation in which nothing was said.
    pub fn new(limits: SessionLimits) -> Self {
        Self {
            bucket: RateLimiter::direct(message_quota(limits.messages_per_second)),
            limits,
            strikes: 0,
            greeted: false,
            client_key: None,
            watched: HashMap::new(),
        }
    }

    /// Whether both sides speak the same version.
    pub fn greeted(&self) -> bool {
        self.greeted
    }

    /// What a request with this tag is called, so that asking for it again, on another connection
    /// too, makes no second job. `None` for a client that did not say what it is called.
    pub fn key_of(&self, tag: u32) -> Option<String> {
        self.client_key.as_ref().map(|client| format!("websocket\0{client}\0{tag}"))
    }

    /// Counts a message of whatever kind. When it is one too many, the steps that answer it.
    pub fn limit(&mut self) -> Option<Vec<Action>> {
        let not_until = self.bucket.check().err()?;
        let wait = seconds(not_until.wait_time_from(self.bucket.clock().now()));
        self.strikes += 1;
        let message = format!(
            "more than {} messages per second on one connection; this one was not served",
            self.limits.messages_per_second
        );
        let error = ErrorBody::new(ErrorCode::RateLimited, message).retry_after(wait);
        let mut steps = vec![refuse(None, error)];
        if self.strikes > self.limits.strikes {
            steps.push(Action::Close(CloseCode::Policy, "too many messages".into()));
        }
        Some(steps)
    }

    /// A text message.
    pub fn text(&mut self, text: &str) -> Vec<Action> {
        match var_dd_protocol::from_json_object(text.as_bytes()) {
            Ok(message) => self.message(message),
            Err(error) => {
                vec![malformed(format!("this is not a message of the protocol: {error}"))]
            }
        }
    }

    /// A binary message; clients have no reason to send one.
    pub fn binary(&mut self, bytes: usize) -> Vec<Action> {
        vec![malformed(format!("a binary message of {bytes} bytes: clients send JSON text only"))]
    }

    fn message(&mut self, message: ClientMessage) -> Vec<Action> {
        match message {
            ClientMessage::Hello { version, client_key } => self.hello(version, client_key),
            _ if !self.greeted => vec![malformed(format!(
                r#"the first message must be {{"type":"hello","version":{PROTOCOL_VERSION}}}"#
            ))],
            ClientMessage::Generate { tag, request } => vec![match self.room_for_job() {
                Ok(()) => Action::Submit { tag, request },
                Err(error) => Action::Send(ServerMessage::Rejected { tag, error }),
            }],
            ClientMessage::Preview { tag, request } => vec![Action::Preview { tag, request }],
            ClientMessage::Cancel { job, owner_token } => vec![Action::Cancel { job, owner_token }],
            ClientMessage::Watch { job, after } => match self.room_to_watch(&job) {
                Ok(()) => vec![Action::Watch { job, after }],
                Err(error) => vec![refuse(Some(job), error)],
            },
            ClientMessage::Unwatch { job } => {
                self.ended(&job);
                vec![Action::Unwatch(job)]
            }
            ClientMessage::Ping => vec![Action::Send(ServerMessage::Pong)],
        }
    }

    fn hello(&mut self, version: u32, client_key: Option<String>) -> Vec<Action> {
        if version == PROTOCOL_VERSION {
            if client_key.as_ref().is_some_and(|key| !CLIENT_KEY.contains(&key.len())) {
                return vec![malformed(format!(
                    "client_key must have {} to {} characters; take random ones",
                    CLIENT_KEY.start(),
                    CLIENT_KEY.end()
                ))];
            }
            self.client_key = client_key;
            self.greeted = true;
            return vec![Action::Send(ServerMessage::Hello { version: PROTOCOL_VERSION })];
        }
        let message = format!(
            "this server speaks version {PROTOCOL_VERSION} of the protocol, not {version}; reload \
             the page"
        );
        let error = ErrorBody::new(ErrorCode::ProtocolVersion, message);
        vec![refuse(None, error), Action::Close(CloseCode::Protocol, "protocol version".into())]
    }

    fn room_for_job(&self) -> Result<(), ErrorBody> {
        let unfinished = self.watched.values().filter(|&&own| own).count();
        if unfinished >= self.limits.unfinished {
            return Err(too_many(format!(
                "{unfinished} of {} jobs asked for on this connection have not ended; wait for one \
                 or cancel it",
                self.limits.unfinished
            )));
        }
        if self.watched.len() >= self.limits.watched {
            return Err(self.watches_too_many());
        }
        Ok(())
    }

    fn room_to_watch(&self, job: &JobId) -> Result<(), ErrorBody> {
        if self.watched.len() >= self.limits.watched && !self.watched.contains_key(job) {
            return Err(self.watches_too_many());
        }
        Ok(())
    }

    fn watches_too_many(&self) -> ErrorBody {
        too_many(format!(
            "this connection watches {} of {} jobs; stop watching one",
            self.watched.len(),
            self.limits.watched
        ))
    }

    /// A job was accepted and is watched.
    pub fn accepted(&mut self, job: JobId) {
        self.watched.insert(job, true);
    }

    /// A job is watched. One that was asked for here stays so.
    pub fn watching(&mut self, job: JobId) {
        self.watched.entry(job).or_insert(false);
    }

    /// A job is watched no more.
    pub fn ended(&mut self, job: &JobId) {
        self.watched.remove(job);
    }
}

/// The step that tells of an error.
pub fn refuse(job: Option<JobId>, error: ErrorBody) -> Action {
    Action::Send(ServerMessage::Error { job, error })
}

fn malformed(message: String) -> Action {
    refuse(None, ErrorBody::new(ErrorCode::MalformedMessage, message))
}

fn too_many(message: String) -> ErrorBody {
    ErrorBody::new(ErrorCode::TooManyConnections, message).retry_after(5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SessionLimits = SessionLimits {
        messages_per_second: NonZeroU32::MIN.saturating_add(9),
        strikes: 5,
        watched: 3,
        unfinished: 2,
    };
    const HELLO: &str = r#"{"type":"hello","version":1}"#;
    const GENERATE: &str = r#"{"type":"generate","tag":9,"request":{"class":1,"plan":{"kind":"few_step","t_list":[0],"loss_split_t":3}}}"#;

    fn greeted() -> Session {
        let mut session = Session::new(LIMITS);
        assert_eq!(session.text(HELLO), [Action::Send(ServerMessage::Hello { version: 1 })]);
        session
    }

    fn code(steps: &[Action]) -> Option<ErrorCode> {
        match steps.first()? {
            Action::Send(
                ServerMessage::Error { error, .. } | ServerMessage::Rejected { error, .. },
            ) => Some(error.code),
            _ => None,
        }
    }

    fn watch(job: u128) -> String {
        format!(r#"{{"type":"watch","job":"{job:032x}"}}"#)
    }

    #[test]
    fn nothing_is_served_before_the_greeting() {
        let mut session = Session::new(LIMITS);
        assert_eq!(code(&session.text(GENERATE)), Some(ErrorCode::MalformedMessage));
        assert!(!session.greeted());
    }

    #[test]
    fn another_version_is_told_so_and_shown_out() {
        let steps = Session::new(LIMITS).text(r#"{"type":"hello","version":2}"#);
        assert_eq!(code(&steps), Some(ErrorCode::ProtocolVersion));
        assert!(matches!(steps[1], Action::Close(CloseCode::Protocol, _)));
    }

    #[test]
    fn what_is_no_message_is_answered_and_the_conversation_goes_on() {
        let mut session = greeted();
        for text in
            ["", "{", "null", "[]", r#"{"type":"draw"}"#, r#"{"type":"watch","job":"../x"}"#]
        {
            assert_eq!(code(&session.text(text)), Some(ErrorCode::MalformedMessage), "{text}");
        }
        assert_eq!(code(&session.binary(3)), Some(ErrorCode::MalformedMessage));
        assert!(matches!(session.text(GENERATE)[..], [Action::Submit { tag: 9, .. }]));
    }

    #[test]
    fn jobs_that_have_not_ended_are_limited() {
        let mut session = greeted();
        for job in 0..2 {
            session.accepted(JobId::from_bits(job));
        }
        assert_eq!(code(&session.text(GENERATE)), Some(ErrorCode::TooManyConnections));
        session.ended(&JobId::from_bits(0));
        assert!(matches!(session.text(GENERATE)[..], [Action::Submit { .. }]));
    }

    #[test]
    fn watched_jobs_are_limited_and_watching_again_is_free() {
        let mut session = greeted();
        for job in 0..3 {
            assert!(matches!(session.text(&watch(job))[..], [Action::Watch { .. }]));
            session.watching(JobId::from_bits(job));
        }
        assert_eq!(code(&session.text(&watch(3))), Some(ErrorCode::TooManyConnections));
        assert!(matches!(session.text(&watch(2))[..], [Action::Watch { .. }]));
        let unwatch = watch(0).replace("watch", "unwatch");
        assert!(matches!(session.text(&unwatch)[..], [Action::Unwatch(_)]));
        assert!(matches!(session.text(&watch(3))[..], [Action::Watch { .. }]));
    }

    #[test]
    fn a_flood_is_told_to_wait_and_then_cut_off() {
        let mut session = greeted();
        let answers: Vec<_> = (0..100).filter_map(|_| session.limit()).collect();
        assert_eq!(code(&answers[0]), Some(ErrorCode::RateLimited));
        assert_eq!(answers[0].len(), 1);
        assert!(matches!(answers.last().unwrap()[..], [_, Action::Close(CloseCode::Policy, _)]));
    }

    proptest! {
        #[test]
        fn no_text_upsets_it(text in ".{0,200}", greet: bool) {
            let mut session = Session::new(LIMITS);
            if greet {
                session.text(HELLO);
            }
            prop_assert_eq!(session.text(&text).len(), 1);
            prop_assert_eq!(session.greeted(), greet);
        }
    }
}
