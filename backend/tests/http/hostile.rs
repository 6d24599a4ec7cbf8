//! Noise on the wire, which must harm nobody.

use std::time::Duration;

use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame as WireFrame,
        coding::{Data, OpCode},
    },
};

use crate::server::{Client, Heard, Server, request};

/// Messages that are nearly right, and some that are not at all.
fn noise() -> impl Strategy<Value = Message> {
    let words = prop_oneof![
        Just(r#"{"type":"hello","version":1}"#.to_owned()),
        Just(r#"{"type":"generate","tag":1,"request":{}}"#.to_owned()),
        Just(
            r#"{"type":"watch","job":"00000000000000000000000000000001","after":18446744073709551615}"#
                .to_owned()
        ),
        Just(r#"{"type":"unwatch","job":"00000000000000000000000000000001"}"#.to_owned()),
        Just("[".repeat(2000)),
        ".{0,80}",
    ];
    let data = prop_oneof![Just(Data::Text), Just(Data::Binary), Just(Data::Continue)];
    let raw = (vec(any::<u8>(), 0..100), data, any::<bool>()).prop_map(|(bytes, data, last)| {
        Message::Frame(WireFrame::message(bytes, OpCode::Data(data), last))
    });
    let control = (vec(any::<u8>(), 0..100), any::<bool>()).prop_map(|(bytes, ping)| {
        if ping { Message::Ping(bytes.into()) } else { Message::Pong(bytes.into()) }
    });
    prop_oneof![3 => words.prop_map(Message::text), 1 => vec(any::<u8>(), 0..200).prop_map(Message::binary), 2 => raw, 1 => control]
}

/// The server still draws for those who ask properly.
async fn serves_on(server: &Server) {
    let mut client = Client::greeted(server).await;
    let (job, _) = client.generate(request(0)).await;
    client.rest(&job).await;
}

#[tokio::test]
async fn no_message_harms_the_server() {
    let server = Server::start(&["--requests-per-second=0", "--jobs-per-minute=0"]).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let mut client = Client::silent(&server).await;
        for _ in 0..15 {
            client.send(noise().new_tree(&mut runner).unwrap().current()).await;
        }
        drop(client);
    }
    serves_on(&server).await;
}

#[tokio::test]
async fn no_request_harms_the_server() {
    let server = Server::start(&["--requests-per-second=0"]).await;
    let mut runner = TestRunner::deterministic();
    let requests = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "\r\n\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: \
         chunked\r\n\r\n0\r\n\r\n",
        "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET /api/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: \
         upgrade\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /%ff%fe/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
    ]
    .map(|text| text.as_bytes().to_vec());
    let random = (0..40).map(|_| vec(any::<u8>(), 0..300).new_tree(&mut runner).unwrap().current());
    for bytes in requests.into_iter().chain(random) {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        // The server may hang up before it has heard everything.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{:?}", String::from_utf8_lossy(&bytes));
    }
    serves_on(&server).await;
}

#[tokio::test]
async fn a_viewer_who_reads_nothing_holds_nobody_up() {
    let server = Server::adjusted(&["--jobs-per-minute=0"], |config, _| {
        config.http.unconfirmed_bytes = 1;
    })
    .await;
    server.gate.open();
    let mut idle = Client::greeted(&server).await;
    let (job, _) = idle.generate(request(0)).await;
    // It reads nothing until others are done.
    for _ in 0..5 {
        serves_on(&server).await;
    }
    let events = idle.rest(&job).await;
    assert!(events.len() > 3, "{events:?}");
}

#[tokio::test]
async fn fifty_viewers_of_one_job_all_see_its_end() {
    let server = Server::held(&[]).await;
    let mut owner = Client::greeted(&server).await;
    let (job, _) = owner.generate(request(4)).await;
    let mut viewers = Vec::new();
    for _ in 0..50 {
        let mut viewer = Client::greeted(&server).await;
        viewer.say(&var_dd_protocol::ClientMessage::Watch { job: job.clone(), after: None }).await;
        let job = job.clone();
        viewers.push(tokio::spawn(async move { viewer.rest(&job).await }));
    }
    server.gate.open();
    let expected = owner.rest(&job).await;
    let last = expected.last().unwrap();
    for viewer in viewers {
        let events = viewer.await.unwrap();
        assert_eq!(events.last().unwrap(), last);
    }
    assert!(matches!(owner_says(&mut owner).await, Heard::Message(_)));
}

/// The connection of the owner still answers.
async fn owner_says(owner: &mut Client) -> Heard {
    owner.send("{}".into()).await;
    owner.hear().await
}
