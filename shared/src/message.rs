//! Control messages of the WebSocket, as JSON text.

use serde::{Deserialize, Serialize};

use crate::{ErrorBody, GenerateRequest, JobEvent, JobId, OwnerToken};

/// From the page to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// First message of a connection.
    Hello {
        /// [`crate::PROTOCOL_VERSION`] of the client.
        version: u32,
        /// What the client calls itself, 16 to 255 random characters that it keeps secret: with the
        /// tag it names each request, so that asking for one again makes no second job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_key: Option<String>,
    },
    /// Asks for a job. Answered by `accepted` or `rejected`; the connection then watches the job.
    Generate {
        /// Chosen by the client, to tell answers apart.
        tag: u32,
        /// What to draw.
        #[serde(deserialize_with = "crate::object::object")]
        request: GenerateRequest,
    },
    /// Asks for the finished picture of a request, small and at once; nothing is kept of it.
    /// Answered by a frame whose job is [`JobId::of_preview`] of the tag, or by `rejected`. Two of a
    /// connection are on their way at most, one drawn while the other waits: a newer one takes the
    /// place of the second, which is then not answered.
    Preview {
        /// Chosen by the client, to tell answers apart.
        tag: u32,
        /// What to draw: its first picture.
        #[serde(deserialize_with = "crate::object::object")]
        request: GenerateRequest,
    },
    /// Stops a job: its owner only.
    Cancel {
        /// The job.
        job: JobId,
        /// The owner's token.
        owner_token: OwnerToken,
    },
    /// Follows a job: live, or replayed from storage.
    Watch {
        /// The job.
        job: JobId,
        /// Sequence number of the last event already seen; absent for all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
    },
    /// Stops following a job.
    Unwatch {
        /// The job.
        job: JobId,
    },
    /// Asks for a sign of life; answered by `pong`. For clients that cannot send WebSocket pings,
    /// as pages in browsers.
    Ping,
}

/// From the server to the page. Pictures come as binary [`crate::Frame`]s between these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// Answer to `hello`.
    Hello {
        /// [`crate::PROTOCOL_VERSION`] of the server.
        version: u32,
    },
    /// The job is kept and will be drawn.
    Accepted {
        /// Tag of the `generate` message.
        tag: u32,
        /// Name of the job, and of its result at `/r/{id}`.
        job: JobId,
        /// The owner's secret, told only here and again under the same key.
        owner_token: OwnerToken,
        /// The request as accepted: model and seed filled in.
        request: GenerateRequest,
    },
    /// The job or preview is refused; nothing was kept.
    Rejected {
        /// Tag of the `generate` or `preview` message.
        tag: u32,
        /// Why.
        error: ErrorBody,
    },
    /// Something happened to a watched job.
    Event {
        /// The job.
        job: JobId,
        /// Number of the event; the first event of a job is 0.
        seq: u64,
        /// What happened.
        event: JobEvent,
    },
    /// Answer to `ping`.
    Pong,
    /// A message of the client could not be served. The connection stays open unless the code says
    /// otherwise.
    Error {
        /// The job it was about, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<JobId>,
        /// Why.
        error: ErrorBody,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, JobState, Pass, PassKind, Plan, Timings};

    fn request() -> GenerateRequest {
        let plan = Plan::FewStep { t_list: vec![0, 3], loss_split_t: 3 };
        GenerateRequest {
            model: None,
            class: 3,
            plan,
            seed: Some(crate::MAX_SEED),
            count: 2,
            last_frame_first: false,
            deadline_ms: None,
            explore: None,
        }
    }

    #[test]
    fn every_client_message_survives_the_wire() {
        let job = JobId::from_bits(7);
        for message in [
            ClientMessage::Hello { version: 1, client_key: None },
            ClientMessage::Hello { version: 1, client_key: Some("k".repeat(16)) },
            ClientMessage::Generate { tag: 1, request: request() },
            ClientMessage::Preview { tag: 2, request: request() },
            ClientMessage::Cancel { job: job.clone(), owner_token: OwnerToken("t".into()) },
            ClientMessage::Watch { job: job.clone(), after: Some(0) },
            ClientMessage::Watch { job: job.clone(), after: None },
            ClientMessage::Unwatch { job },
            ClientMessage::Ping,
        ] {
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<ClientMessage>(&text).unwrap(), message, "{text}");
        }
    }

    #[test]
    fn every_server_message_survives_the_wire() {
        let job = JobId::from_bits(u128::MAX);
        let error =
            ErrorBody::new(ErrorCode::QueueFull, "the queue holds 64 of 64 jobs").retry_after(3);
        let of = Pass { kind: PassKind::Teacher, first_scale: 2, end_scale: 3 };
        let events = [
            JobEvent::Queued { position: 2 },
            JobEvent::Started { request: request() },
            JobEvent::PassBegan { pass: 1, of, passes: 3, at_ms: 1.5 },
            JobEvent::PassEnded { pass: 1, at_ms: 2.25 },
            JobEvent::Finished { timings: Timings::default() },
            JobEvent::Failed { error: error.clone() },
            JobEvent::NotKept { error: error.clone() },
            JobEvent::Cancelled,
            JobEvent::Expired,
        ];
        let owner_token = OwnerToken("t".into());
        let mut messages = vec![
            ServerMessage::Hello { version: 1 },
            ServerMessage::Accepted { tag: 4, job: job.clone(), owner_token, request: request() },
            ServerMessage::Rejected { tag: 4, error: error.clone() },
            ServerMessage::Error { job: None, error },
            ServerMessage::Pong,
        ];
        messages.extend((0..).zip(events).map(|(seq, event)| ServerMessage::Event {
            job: job.clone(),
            seq,
            event,
        }));
        for message in messages {
            let text = serde_json::to_string(&message).unwrap();
            assert_eq!(serde_json::from_str::<ServerMessage>(&text).unwrap(), message, "{text}");
        }
    }

    #[test]
    fn an_event_of_a_kind_to_come_is_read_and_changes_nothing() {
        let event: JobEvent = serde_json::from_str(r#"{"type":"painted","brush":7}"#).unwrap();
        assert_eq!((&event, event.state()), (&JobEvent::Unknown, None));
    }

    #[test]
    fn an_event_that_ends_a_job_says_so() {
        assert!(JobEvent::Cancelled.state().is_some_and(JobState::is_final));
        assert!(!JobEvent::Queued { position: 0 }.state().is_some_and(JobState::is_final));
        assert_eq!(JobEvent::PassEnded { pass: 0, at_ms: 0.0 }.state(), None);
    }
}
