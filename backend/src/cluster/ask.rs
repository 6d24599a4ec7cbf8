//! Questions to a model that leave nothing behind, asked by gateways and answered by any worker
//! that has the model.
//!
//! A message is the length of its head (4 bytes, little-endian), the head as JSON, and bytes of a
//! picture: RGB row by row, or encoded where the head says so.

use std::time::Duration;

use async_nats::{Client, Request, RequestErrorKind};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use image::RgbImage;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use var_dd_protocol::{
    ErrorBody, ErrorCode, FrameHeader, GenerateRequest, TokenReport, TokenizedPicture,
};

use super::names;
use crate::scheduler::{Drawing, live::internal};

/// The longest that an answer may take: a worker may have a batch of a slow plan before it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum Question {
    /// Every token of a picture.
    Inspect {
        /// The request, complete.
        request: Box<GenerateRequest>,
        /// Which picture of it.
        picture: u32,
    },
    /// A finished picture.
    Draw {
        /// The request, complete.
        request: Box<GenerateRequest>,
        /// Which picture of it.
        picture: u32,
    },
    /// The first finished picture, encoded small.
    DrawSmall {
        /// The request, complete.
        request: Box<GenerateRequest>,
    },
    /// A picture of one's own as tokens; the picture follows.
    Encode {
        /// Name of the model.
        model: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    /// To [`Question::Inspect`].
    Tokens {
        /// Every token.
        report: Box<TokenReport>,
    },
    /// To [`Question::Draw`]; the picture follows.
    Picture {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// To [`Question::DrawSmall`]; the encoded picture follows.
    Small {
        /// What it shows.
        header: FrameHeader,
    },
    /// To [`Question::Encode`].
    Tokenized {
        /// Its tokens.
        picture: Box<TokenizedPicture>,
    },
    /// To any.
    Refused {
        /// Why.
        error: ErrorBody,
    },
}

fn packed(head: &impl Serialize, body: &[u8]) -> Result<Bytes, ErrorBody> {
    let head = serde_json::to_vec(head).map_err(|error| internal(error.to_string()))?;
    let mut message = BytesMut::with_capacity(4 + head.len() + body.len());
    message.extend_from_slice(&(head.len() as u32).to_le_bytes());
    message.extend_from_slice(&head);
    message.extend_from_slice(body);
    Ok(message.freeze())
}

fn unpacked<T: DeserializeOwned>(message: &Bytes) -> Result<(T, Bytes), ErrorBody> {
    let cut = || internal("a message between the servers is cut short");
    let (length, rest) = message.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    let head = rest.get(..length).ok_or_else(cut)?;
    let head = serde_json::from_slice(head).map_err(|error| {
        internal(format!("a message between the servers cannot be read: {error}"))
    })?;
    Ok((head, message.slice(4 + length..)))
}

/// Asks a model; the answer with what follows it.
///
/// # Errors
/// What the worker says, or that there is none.
pub(super) async fn ask(
    client: &Client,
    model: &str,
    question: &Question,
    body: &[u8],
) -> Result<(Answer, Bytes), ErrorBody> {
    let request = Request::new().payload(packed(question, body)?).timeout(Some(PATIENCE));
    let answered = client.send_request(names::ask_subject(model), request).await;
    let message = answered.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => ErrorBody::new(
            ErrorCode::StorageFailed,
            format!("no worker with the model {model:?} is there at the moment; try again soon"),
        )
        .retry_after(5),
        RequestErrorKind::TimedOut => ErrorBody::new(
            ErrorCode::Timeout,
            format!("no worker answered within {} seconds; try again", PATIENCE.as_secs()),
        )
        .retry_after(5),
        RequestErrorKind::MaxPayloadExceeded => ErrorBody::new(
            ErrorCode::TooLarge,
            "the question is larger than the broker's max_payload; whoever runs it can raise that",
        ),
        _ => {
            tracing::error!(%error, "a question to a worker failed");
            ErrorBody::new(
                ErrorCode::StorageFailed,
                "the workers cannot be reached at the moment; try again soon",
            )
            .retry_after(5)
        }
    })?;
    match unpacked(&message.payload)? {
        (Answer::Refused { error }, _) => Err(error),
        answer => Ok(answer),
    }
}

/// A picture of RGB bytes.
///
/// # Errors
/// When they are not as many as it has.
pub(super) fn picture(width: u32, height: u32, bytes: &[u8]) -> Result<RgbImage, ErrorBody> {
    RgbImage::from_raw(width, height, bytes.to_vec())
        .ok_or_else(|| internal("a picture between the servers has not its size"))
}

/// Answers questions to the models of `drawing` until the connection closes.
///
/// # Errors
/// When the broker lets nobody listen.
pub(super) async fn answer(
    client: Client,
    drawing: Drawing,
    model: String,
) -> Result<(), async_nats::SubscribeError> {
    let subject = names::ask_subject(&model);
    let mut asked = client.queue_subscribe(subject, names::WORKERS.to_owned()).await?;
    while let Some(message) = asked.next().await {
        let Some(reply) = message.reply else { continue };
        let (client, drawing) = (client.clone(), drawing.clone());
        tokio::spawn(async move {
            let answer = match reply_to(&drawing, &message.payload).await {
                Ok((answer, body)) => packed(&answer, &body),
                Err(error) => packed(&Answer::Refused { error }, &[]),
            };
            let fits = |answer: &Bytes| answer.len() <= client.max_payload();
            let answer = answer.ok().filter(fits).or_else(|| {
                let message =
                    "the answer is larger than the broker's max_payload; whoever runs it can raise \
                     that";
                let error = ErrorBody::new(ErrorCode::TooLarge, message);
                packed(&Answer::Refused { error }, &[]).ok()
            });
            // Who asked may have gone; who is there asks again.
            if let Some(answer) = answer
                && let Err(error) = client.publish(reply, answer).await
            {
                tracing::warn!(%error, "an answer cannot be sent");
            }
        });
    }
    Ok(())
}

async fn reply_to(drawing: &Drawing, message: &Bytes) -> Result<(Answer, Bytes), ErrorBody> {
    let (question, body) = unpacked(message)?;
    Ok(match question {
        Question::Inspect { request, picture } => {
            let report = Box::new(drawing.tokens(*request, picture).await?);
            (Answer::Tokens { report }, Bytes::new())
        }
        Question::Draw { request, picture } => {
            let drawn = drawing.picture(*request, picture).await?;
            let (width, height) = drawn.dimensions();
            (Answer::Picture { width, height }, drawn.into_raw().into())
        }
        Question::DrawSmall { request } => {
            let (header, encoded) = drawing.preview(*request).await?;
            (Answer::Small { header }, encoded)
        }
        Question::Encode { model, width, height } => {
            let picture = Box::new(drawing.encode(&model, picture(width, height, &body)?).await?);
            (Answer::Tokenized { picture }, Bytes::new())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was_and_a_cut_one_is_an_error() {
        let question = Question::Encode { model: "m".into(), width: 1, height: 1 };
        let message = packed(&question, &[1, 2, 3]).unwrap();
        let (back, body) = unpacked::<Question>(&message).unwrap();
        assert!(matches!(back, Question::Encode { width: 1, .. }));
        assert_eq!(&body[..], [1, 2, 3]);
        for length in 0..message.len() - 3 {
            assert!(unpacked::<Question>(&message.slice(..length)).is_err(), "{length}");
        }
    }
}
