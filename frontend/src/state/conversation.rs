//! What this side has to say on a WebSocket: the greeting, requests, and what to take up again
//! after a lost connection.

use var_dd_protocol::{ClientMessage, JobId, JobState, PROTOCOL_VERSION, ServerMessage};

/// The page's side of a conversation that outlives its connections.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    /// What the page calls itself: under it a request that is asked again makes no second job.
    client_key: Option<String>,
    open: bool,
    /// Said while there was no connection, or asked again once there is one.
    waiting: Vec<ClientMessage>,
    /// Requests that the server has not answered.
    unanswered: Vec<ClientMessage>,
    /// Tags of requests that were asked on a connection that is gone.
    asked_before: Vec<u32>,
    /// Jobs followed, with the last event seen of each.
    watched: Vec<(JobId, Option<u64>)>,
}

impl Conversation {
    /// A conversation under a key that nobody can guess: whoever knows it gets the secrets of the
    /// page's jobs. Without one, a request whose answer is lost is not asked again.
    pub(crate) fn new(client_key: Option<String>) -> Self {
        Self { client_key, ..Self::default() }
    }

    /// Whether the server has not answered something.
    pub(crate) fn is_asking(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// The key under which a request is asked over plain HTTP, where it has one.
    pub(crate) fn key_of(&self, tag: u32) -> Option<String> {
        self.client_key.as_ref().map(|key| format!("{key}-{tag}"))
    }

    /// First words on a new connection.
    pub(crate) fn connected(&self) -> ClientMessage {
        ClientMessage::Hello { version: PROTOCOL_VERSION, client_key: self.client_key.clone() }
    }

    /// The page wants to say something; what to send now. The rest follows when there is a
    /// connection.
    pub(crate) fn say(&mut self, message: ClientMessage) -> Option<ClientMessage> {
        match &message {
            ClientMessage::Watch { job, after } => {
                let news = self.watch(job.clone(), *after);
                // Taken up by the greeting otherwise; and a job that is followed need not be asked
                // for again.
                return (self.open && news).then_some(message);
            }
            ClientMessage::Unwatch { job } => {
                self.ended(job);
                return self.open.then_some(message);
            }
            _ => {}
        }
        if !self.open {
            self.waiting.push(message);
            return None;
        }
        self.note_sent(&message);
        Some(message)
    }

    fn note_sent(&mut self, message: &ClientMessage) {
        if matches!(message, ClientMessage::Generate { .. }) {
            self.unanswered.push(message.clone());
        }
    }

    /// The server said something; what to send in return.
    pub(crate) fn hear(&mut self, message: &ServerMessage) -> Vec<ClientMessage> {
        match message {
            ServerMessage::Hello { .. } => return self.greeted(),
            ServerMessage::Accepted { tag, job, .. } => {
                self.answered(*tag);
                self.follow(job.clone());
            }
            ServerMessage::Rejected { tag, .. } => {
                self.answered(*tag);
            }
            ServerMessage::Event { job, seq, event } => {
                if event.state().is_some_and(JobState::is_final) {
                    self.ended(job);
                } else {
                    self.seen(job, *seq);
                }
            }
            ServerMessage::Error { job: Some(job), .. } => self.ended(job),
            ServerMessage::Error { job: None, .. } | ServerMessage::Pong => {}
        }
        Vec::new()
    }

    /// An event of a job arrived.
    pub(crate) fn seen(&mut self, job: &JobId, seq: u64) {
        let watched = self.watched.iter_mut().find(|(other, _)| other == job);
        if let Some((_, last)) = watched {
            *last = (*last).max(Some(seq));
        }
    }

    fn greeted(&mut self) -> Vec<ClientMessage> {
        self.open = true;
        let watches = self.watched.iter();
        let mut messages: Vec<_> = watches
            .map(|(job, after)| ClientMessage::Watch { job: job.clone(), after: *after })
            .collect();
        for message in std::mem::take(&mut self.waiting) {
            self.note_sent(&message);
            messages.push(message);
        }
        messages
    }

    /// There is no connection, but the server can be asked over plain HTTP; what to ask it.
    pub(crate) fn without_socket(&mut self) -> Vec<ClientMessage> {
        self.open = false;
        std::mem::take(&mut self.waiting)
    }

    /// Jobs that are followed.
    pub(crate) fn watched(&self) -> Vec<JobId> {
        self.watched.iter().map(|(job, _)| job.clone()).collect()
    }

    /// A job that was accepted over plain HTTP is followed.
    pub(crate) fn follow(&mut self, job: JobId) {
        self.watch(job, None);
    }

    /// A job ended, or is not there.
    pub(crate) fn ended(&mut self, job: &JobId) {
        self.watched.retain(|(other, _)| other != job);
    }

    /// Follows a job from an event on; false if it was followed before.
    fn watch(&mut self, job: JobId, after: Option<u64>) -> bool {
        let before = self.watched.len();
        self.ended(&job);
        let news = self.watched.len() == before;
        self.watched.push((job, after));
        news
    }

    fn answered(&mut self, tag: u32) {
        self.unanswered.retain(|other| tag_of(other) != Some(tag));
        self.asked_before.retain(|other| *other != tag);
    }

    /// The connection is gone. What the server has not answered is asked once more on the next one;
    /// returned are the tags of requests whose answer will never come.
    pub(crate) fn lost(&mut self) -> Vec<u32> {
        self.open = false;
        let mut given_up = Vec::new();
        let mut again = Vec::new();
        for message in std::mem::take(&mut self.unanswered) {
            let Some(tag) = tag_of(&message) else { continue };
            if self.client_key.is_none() || self.asked_before.contains(&tag) {
                given_up.push(tag);
            } else {
                self.asked_before.push(tag);
                again.push(message);
            }
        }
        self.asked_before.retain(|tag| !given_up.contains(tag));
        self.waiting.splice(..0, again);
        given_up
    }

    /// There will be no other connection for now. Asked in another way, a request that the server
    /// may have would be a second one; the tags of those, whose answer will never come.
    pub(crate) fn give_up(&mut self) -> Vec<u32> {
        let given_up = std::mem::take(&mut self.asked_before);
        self.waiting.retain(|message| tag_of(message).is_none_or(|tag| !given_up.contains(&tag)));
        given_up
    }
}

/// The tag of a request for a job.
fn tag_of(message: &ClientMessage) -> Option<u32> {
    match message {
        ClientMessage::Generate { tag, .. } => Some(*tag),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use var_dd_protocol::{ErrorBody, ErrorCode, JobEvent, OwnerToken};

    use super::*;
    use crate::state::job::tests::{request, two_steps};

    fn generate(tag: u32) -> ClientMessage {
        ClientMessage::Generate { tag, request: request(two_steps(), 1) }
    }

    fn accepted(tag: u32, job: u128) -> ServerMessage {
        let (job, owner_token) = (JobId::from_bits(job), OwnerToken("t".into()));
        ServerMessage::Accepted { tag, job, owner_token, request: request(two_steps(), 1) }
    }

    fn event(job: u128, seq: u64, event: JobEvent) -> ServerMessage {
        ServerMessage::Event { job: JobId::from_bits(job), seq, event }
    }

    fn watch(job: u128, after: Option<u64>) -> ClientMessage {
        ClientMessage::Watch { job: JobId::from_bits(job), after }
    }

    fn greeted() -> Conversation {
        let mut conversation = Conversation::default();
        assert!(conversation.hear(&ServerMessage::Hello { version: 1 }).is_empty());
        conversation
    }

    #[test]
    fn what_is_said_without_a_connection_follows_the_greeting() {
        let mut conversation = Conversation::default();
        assert_eq!(conversation.say(generate(1)), None);
        assert_eq!(conversation.say(watch(5, None)), None);
        assert_eq!(
            conversation.hear(&ServerMessage::Hello { version: 1 }),
            [watch(5, None), generate(1)]
        );
        assert_eq!(conversation.lost(), [1], "the request was sent and not answered");
    }

    #[test]
    fn a_request_whose_answer_was_lost_is_asked_once_more() {
        let mut conversation = Conversation::new(Some("k".repeat(32)));
        let hello = ServerMessage::Hello { version: 1 };
        conversation.hear(&hello);
        conversation.say(generate(1));
        conversation.say(generate(2));
        conversation.hear(&accepted(2, 6));
        assert!(conversation.lost().is_empty());
        conversation.say(generate(3));
        assert_eq!(conversation.hear(&hello), [watch(6, None), generate(1), generate(3)]);
        conversation.hear(&accepted(3, 7));
        assert_eq!(conversation.lost(), [1], "it may be what breaks the connection");
        assert_eq!(conversation.hear(&hello), [watch(6, None), watch(7, None)]);
        // What was answered at last may be lost as often as any other.
        conversation.say(generate(4));
        assert!(conversation.lost().is_empty());
        conversation.hear(&hello);
        conversation.hear(&accepted(4, 8));
        assert!(conversation.asked_before.is_empty() && conversation.unanswered.is_empty());
    }

    #[test]
    fn a_request_that_the_server_may_have_is_not_asked_in_another_way() {
        let mut conversation = Conversation::new(Some("k".repeat(32)));
        conversation.hear(&ServerMessage::Hello { version: 1 });
        conversation.say(generate(1));
        assert!(conversation.lost().is_empty());
        conversation.say(generate(2));
        assert_eq!(conversation.give_up(), [1]);
        assert_eq!(conversation.without_socket(), [generate(2)]);
        assert!(conversation.give_up().is_empty());
    }

    #[test]
    fn a_running_job_is_taken_up_after_the_last_event_seen() {
        let mut conversation = greeted();
        conversation.say(generate(1));
        conversation.hear(&accepted(1, 5));
        conversation.hear(&event(5, 0, JobEvent::Queued { position: 0 }));
        conversation.seen(&JobId::from_bits(5), 3);
        assert!(conversation.lost().is_empty());
        assert_eq!(conversation.hear(&ServerMessage::Hello { version: 1 }), [watch(5, Some(3))]);
    }

    #[test]
    fn an_ended_or_unknown_job_is_not_taken_up() {
        let mut conversation = greeted();
        for job in [5, 6] {
            assert_eq!(conversation.say(watch(job, None)), Some(watch(job, None)));
        }
        conversation.hear(&event(5, 9, JobEvent::Cancelled));
        let error = ErrorBody::new(ErrorCode::NotFound, "no such job");
        conversation.hear(&ServerMessage::Error { job: Some(JobId::from_bits(6)), error });
        conversation.lost();
        assert!(conversation.hear(&ServerMessage::Hello { version: 1 }).is_empty());
    }

    #[test]
    fn without_a_socket_questions_are_asked_once_and_jobs_stay_followed() {
        let mut conversation = Conversation::default();
        conversation.say(generate(1));
        assert_eq!(conversation.without_socket(), [generate(1)]);
        conversation.follow(JobId::from_bits(5));
        assert!(conversation.without_socket().is_empty());
        assert!(conversation.lost().is_empty(), "nothing was sent on a socket");
        assert_eq!(conversation.hear(&ServerMessage::Hello { version: 1 }), [watch(5, None)]);
        conversation.ended(&JobId::from_bits(5));
        assert!(conversation.watched().is_empty());
    }

    #[test]
    fn a_job_that_is_followed_is_not_asked_for_twice() {
        let mut conversation = greeted();
        assert!(conversation.say(watch(5, None)).is_some());
        assert_eq!(conversation.say(watch(5, None)), None);
    }
}
