//! Conversations over the WebSocket.

use std::time::Duration;

use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame as WireFrame,
        coding::{CloseCode, Data, OpCode},
    },
};
use var_dd::generator::fake::few_step;
use var_dd_protocol::{
    ClientMessage, ErrorCode, GenerateRequest, JobEvent, JobId, OwnerToken, ServerMessage,
};

use crate::server::{Client, Heard, Server, What, request};

fn two_steps() -> GenerateRequest {
    GenerateRequest { plan: few_step(&[0, 1]), count: 2, ..request(3) }
}

#[tokio::test]
async fn a_job_is_told_from_its_acceptance_to_its_end() {
    let server = Server::start(&[]).await;
    let mut client = Client::greeted(&server).await;
    let (job, _) = client.generate(two_steps()).await;
    let events = client.rest(&job).await;
    let numbers: Vec<_> = events.iter().map(|(seq, _)| *seq).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(matches!(events[0].1, What::Event(JobEvent::Queued { .. })));
    assert!(matches!(events.last().unwrap().1, What::Event(JobEvent::Finished { .. })));
    let pictures = events.iter().filter(|(_, what)| matches!(what, What::Picture(_))).count();
    assert_eq!(pictures, 2 * (3 + 2), "two pictures of 3 scales, then 2");
}

#[tokio::test]
async fn a_viewer_who_comes_back_gets_what_is_missing() {
    let server = Server::held(&[]).await;
    let mut client = Client::greeted(&server).await;
    let (job, _) = client.generate(two_steps()).await;
    server.gate.allow(1);
    let mut seen = Vec::new();
    // The first pass with its six frames, then the connection breaks.
    while seen.iter().filter(|(_, what)| matches!(what, What::Picture(_))).count() < 6 {
        match client.hear().await {
            Heard::Message(ServerMessage::Event { seq, event, .. }) => {
                seen.push((seq, What::Event(event)))
            }
            Heard::Frame(_, seq, picture) => seen.push((seq, What::Picture(picture))),
            other => panic!("heard {other:?}"),
        }
    }
    drop(client);
    let mut client = Client::greeted(&server).await;
    let after = seen.last().map(|(seq, _)| *seq);
    client.say(&ClientMessage::Watch { job: job.clone(), after }).await;
    server.gate.open();
    seen.extend(client.rest(&job).await);

    let mut other = Client::greeted(&server).await;
    other.say(&ClientMessage::Watch { job: job.clone(), after: None }).await;
    assert_eq!(other.rest(&job).await, seen, "in two parts and in one");
}

#[tokio::test]
async fn two_viewers_see_the_same() {
    let server = Server::held(&[]).await;
    let mut first = Client::greeted(&server).await;
    let mut second = Client::greeted(&server).await;
    let (job, _) = first.generate(two_steps()).await;
    second.say(&ClientMessage::Watch { job: job.clone(), after: None }).await;
    let heard = second.hear().await;
    assert!(matches!(heard, Heard::Message(ServerMessage::Event { .. })), "{heard:?}");
    server.gate.open();
    let pictures = |events: Vec<(u64, What)>| {
        events.into_iter().filter(|(_, what)| matches!(what, What::Picture(_))).collect::<Vec<_>>()
    };
    assert_eq!(pictures(first.rest(&job).await), pictures(second.rest(&job).await));
}

#[tokio::test]
async fn strangers_cannot_cancel_and_the_owner_can() {
    let server = Server::held(&[]).await;
    let mut owner = Client::greeted(&server).await;
    let (job, token) = owner.generate(two_steps()).await;
    let mut stranger = Client::greeted(&server).await;
    let wrong = OwnerToken("0".repeat(token.0.len()));
    stranger.say(&ClientMessage::Cancel { job: job.clone(), owner_token: wrong }).await;
    assert_eq!(stranger.error().await.code, ErrorCode::NotOwner);
    owner.say(&ClientMessage::Cancel { job: job.clone(), owner_token: token }).await;
    assert_eq!(owner.rest(&job).await.last().unwrap().1, What::Event(JobEvent::Cancelled));
    server.gate.open();
}

#[tokio::test]
async fn what_cannot_be_served_is_answered_and_the_connection_goes_on() {
    let server = Server::start(&[]).await;
    let mut client = Client::greeted(&server).await;
    let unknown = JobId::from_bits(1);
    for (message, code) in [
        (Message::text("{"), ErrorCode::MalformedMessage),
        (Message::text(r#"{"type":"sing"}"#), ErrorCode::MalformedMessage),
        (Message::binary(vec![1, 2, 3]), ErrorCode::MalformedMessage),
        (Message::text(format!(r#"{{"type":"watch","job":"{unknown}"}}"#)), ErrorCode::NotFound),
        (
            Message::text(format!(r#"{{"type":"cancel","job":"{unknown}","owner_token":"x"}}"#)),
            ErrorCode::NotFound,
        ),
    ] {
        client.send(message).await;
        assert_eq!(client.error().await.code, code);
    }
    client.say(&ClientMessage::Generate { tag: 8, request: request(99) }).await;
    match client.hear().await {
        Heard::Message(ServerMessage::Rejected { tag: 8, error }) => {
            assert_eq!(error.code, ErrorCode::ClassOutOfRange);
        }
        other => panic!("heard {other:?}"),
    }
    let (job, _) = client.generate(request(0)).await;
    client.rest(&job).await;
}

#[tokio::test]
async fn a_message_in_pieces_is_one_message() {
    let server = Server::start(&[]).await;
    let mut client = Client::silent(&server).await;
    let frame = |part: &str, kind, last| {
        Message::Frame(WireFrame::message(part.as_bytes().to_vec(), OpCode::Data(kind), last))
    };
    client.send(frame(r#"{"type":"#, Data::Text, false)).await;
    client.send(Message::Ping(vec![1].into())).await;
    client.send(frame(r#""hello","#, Data::Continue, false)).await;
    client.send(frame(r#""version":1}"#, Data::Continue, true)).await;
    let heard = client.hear().await;
    assert!(matches!(heard, Heard::Message(ServerMessage::Hello { .. })), "{heard:?}");
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection_with_the_reason() {
    let server = Server::start(&[]).await;
    let long = "x".repeat(100 << 10);
    let half = |kind, last| {
        Message::Frame(WireFrame::message(vec![b'x'; 40 << 10], OpCode::Data(kind), last))
    };
    for messages in
        [vec![Message::text(long)], vec![half(Data::Text, false), half(Data::Continue, true)]]
    {
        let mut client = Client::greeted(&server).await;
        for message in messages {
            client.send(message).await;
        }
        assert_eq!(client.error().await.code, ErrorCode::TooLarge);
        let heard = client.hear().await;
        assert!(matches!(heard, Heard::Closed(Some(CloseCode::Size))), "{heard:?}");
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_ends_the_connection_with_the_reason() {
    let server = Server::start(&[]).await;
    let mut client = Client::greeted(&server).await;
    client
        .send(Message::Frame(WireFrame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true)))
        .await;
    assert_eq!(client.error().await.code, ErrorCode::MalformedMessage);
    let heard = client.hear().await;
    assert!(matches!(heard, Heard::Closed(Some(CloseCode::Invalid))), "{heard:?}");
}

#[tokio::test]
async fn another_version_is_shown_out() {
    let server = Server::start(&[]).await;
    let mut client = Client::silent(&server).await;
    client.say(&ClientMessage::Hello { version: 99, client_key: None }).await;
    assert_eq!(client.error().await.code, ErrorCode::ProtocolVersion);
    let heard = client.hear().await;
    assert!(matches!(heard, Heard::Closed(Some(CloseCode::Protocol))), "{heard:?}");
}

#[tokio::test]
async fn a_client_with_a_name_that_asks_again_gets_the_job_that_there_is() {
    let server = Server::held(&[]).await;
    let name = "a-name-that-nobody-guesses";
    let named = async |key: &str| {
        let mut client = Client::silent(&server).await;
        client.say(&ClientMessage::Hello { version: 1, client_key: Some(key.into()) }).await;
        client
    };
    let mut first = named(name).await;
    assert!(matches!(first.hear().await, Heard::Message(ServerMessage::Hello { .. })));
    let (job, token) = first.generate(request(1)).await;
    drop(first);
    let mut second = named(name).await;
    assert!(matches!(second.hear().await, Heard::Message(ServerMessage::Hello { .. })));
    assert_eq!(second.generate(request(1)).await, (job.clone(), token));
    server.gate.open();
    second.rest(&job).await;
    second.say(&ClientMessage::Generate { tag: 5, request: request(2) }).await;
    assert_eq!(second.error().await.code, ErrorCode::KeyReused);
    let mut other = named("another-name-nobody-guesses").await;
    assert!(matches!(other.hear().await, Heard::Message(ServerMessage::Hello { .. })));
    assert_ne!(other.generate(request(1)).await.0, job);
    assert_eq!(named("short").await.error().await.code, ErrorCode::MalformedMessage);
}

#[tokio::test]
async fn a_replay_whose_pictures_are_gone_ends_with_the_reason() {
    let server = Server::start(&[]).await;
    let (view, _) = server.finished(crate::server::wish()).await;
    let pictures = server.directory.path().join("data/frames");
    std::fs::remove_file(pictures.join(format!("{}.frames", view.id))).unwrap();
    let mut client = Client::greeted(&server).await;
    client.say(&ClientMessage::Watch { job: view.id.clone(), after: None }).await;
    let error = loop {
        match client.hear().await {
            Heard::Message(ServerMessage::Event { event, .. }) => {
                assert!(!matches!(event, JobEvent::Finished { .. }), "over missing pictures");
            }
            Heard::Message(ServerMessage::Error { job, error }) => {
                assert_eq!(job.as_ref(), Some(&view.id));
                break error;
            }
            other => panic!("heard {other:?}"),
        }
    };
    assert_eq!(error.code, ErrorCode::StorageFailed);
    assert!(error.message.contains(view.id.as_str()), "{}", error.message);
    // The conversation goes on.
    let (job, _) = client.generate(request(0)).await;
    client.rest(&job).await;
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let server = Server::adjusted(&[], |config, _| {
        config.http.timeouts.hello = Duration::from_millis(100);
    })
    .await;
    let mut client = Client::silent(&server).await;
    let heard = client.hear().await;
    assert!(matches!(heard, Heard::Closed(Some(CloseCode::Policy))), "{heard:?}");
}

#[tokio::test]
async fn jobs_on_one_connection_are_limited() {
    let server = Server::adjusted(&[], |config, _| config.http.session.unfinished = 2).await;
    let mut client = Client::greeted(&server).await;
    for tag in 0..3 {
        client.say(&ClientMessage::Generate { tag, request: request(0) }).await;
    }
    loop {
        match client.hear().await {
            Heard::Message(ServerMessage::Rejected { tag, error }) => {
                assert_eq!((tag, error.code), (2, ErrorCode::TooManyConnections));
                break;
            }
            Heard::Message(ServerMessage::Accepted { .. } | ServerMessage::Event { .. }) => {}
            other => panic!("heard {other:?}"),
        }
    }
    server.gate.open();
}

#[tokio::test]
async fn a_broken_connection_leaves_no_viewer_behind() {
    let server = Server::held(&[]).await;
    let mut client = Client::greeted(&server).await;
    client.generate(request(0)).await;
    while server.scheduler.stats().viewers == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    while server.scheduler.stats().viewers > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.gate.open();
}

#[tokio::test]
async fn viewers_are_told_when_the_server_stops() {
    let server = Server::held(&[]).await;
    let mut client = Client::greeted(&server).await;
    let (job, _) = client.generate(request(0)).await;
    let stopped = tokio::spawn(server.stop());
    loop {
        match client.hear().await {
            Heard::Closed(code) => {
                assert_eq!(code, Some(CloseCode::Restart));
                break;
            }
            Heard::Message(ServerMessage::Event { job: of, .. }) => assert_eq!(of, job),
            Heard::Frame(..) => {}
            other => panic!("heard {other:?}"),
        }
    }
    stopped.await.unwrap();
}
