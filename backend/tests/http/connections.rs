//! Connections that stand still, and clients that open more than their share.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use var_dd::config::Config;
use var_dd_protocol::ModelInfo;

use crate::server::{Client, Server};

/// Longer than anything here takes; ends a test that would hang.
const LIMIT: Duration = Duration::from_secs(60);

fn impatient(config: &mut Config, _: &mut ModelInfo) {
    config.http.timeouts.request = Duration::from_secs(3);
    config.http.timeouts.keep_alive = Duration::from_secs(4);
    config.http.timeouts.write = Duration::from_secs(4);
}

fn get(server: &Server, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address)
}

fn chunked(server: &Server) -> String {
    format!(
        "POST /api/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        server.address
    )
}

/// Everything until the server closes, while `drip` is sent again and again.
async fn until_closed(socket: TcpStream, drip: &[u8]) -> String {
    let (mut read, mut write) = socket.into_split();
    let dripping = async {
        while !drip.is_empty() && write.write_all(drip).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await
    };
    let mut answer = Vec::new();
    // A reset is an end as well.
    let reading = async { drop(read.read_to_end(&mut answer).await) };
    let both = async {
        tokio::select! {
            () = reading => {}
            () = dripping => {}
        }
    };
    timeout(LIMIT, both).await.expect("the connection stays open");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn every_kind_of_connection_that_stands_still_is_closed() {
    let server = Server::adjusted(&[], impatient).await;
    let live = get(&server, "/livez");
    let chunk = format!("{}1\r\n{{\r\n", chunked(&server));
    let half = &live[..20];
    let cases = [
        ("nothing is sent", String::new(), &b""[..], 0),
        ("the first head in half", half.to_owned(), b"", 0),
        ("the first head drips", half.to_owned(), b"x", 0),
        ("nothing after an answer", live.clone(), b"", 1),
        ("the second head in half", format!("{live}{half}"), b"", 1),
        ("the second head drips", format!("{live}{half}"), b"x", 1),
        ("the second head drips from its beginning", live.clone(), b"G", 1),
        ("a body in chunks is silent", chunk.clone(), b"", 1),
        ("a body in chunks drips", chunk.clone(), b"1\r\n \r\n", 1),
        (
            "a body that nobody asked for",
            live.replace("Host", "Content-Length: 999\r\nHost"),
            b"",
            1,
        ),
        (
            "one that drips",
            live.replace("Host", "Transfer-Encoding: chunked\r\nHost"),
            b"1\r\n \r\n",
            1,
        ),
    ];
    let stuck = cases.map(|(what, sent, drip, answers)| {
        let address = server.address;
        async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(sent.as_bytes()).await.unwrap();
            let answer = until_closed(socket, drip).await;
            let posted = sent.starts_with("POST");
            let found = answer.matches("HTTP/1.1 200").count()
                + usize::from(posted && answer.contains("HTTP/1.1 408"));
            assert_eq!(found, answers, "{what}: {answer}");
            let closes = answer.to_ascii_lowercase().contains("connection: close");
            assert!(closes || !posted, "{what}: {answer}");
        }
    });
    futures_util::future::join_all(stuck).await;
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for() {
    let server = Server::adjusted(&["--requests-per-second=0"], impatient).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(server.address).await.unwrap();
    // Answers far beyond what any socket buffer holds; then a word from time to time, to see
    // whether anybody is there.
    let wish = get(&server, "/api/openapi.json");
    let asked = async {
        for _ in 0..2000 {
            if socket.write_all(wish.as_bytes()).await.is_err() {
                return;
            }
        }
        while socket.write_all(wish.as_bytes()).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, asked).await.expect("the connection stays open");
}

#[tokio::test]
async fn a_websocket_that_does_not_read_is_closed() {
    let server = Server::adjusted(&["--jobs-per-minute=0"], |config, model| {
        impatient(config, model);
        config.http.unconfirmed_bytes = usize::MAX;
        config.http.session.messages_per_second = std::num::NonZeroU32::MAX;
    })
    .await;
    let client = Client::greeted(&server).await;
    client.ping_without_reading(LIMIT).await;
}

/// A socket from an address of its own.
async fn from(address: [u8; 4], server: &Server) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((address, 0)))?;
    socket.connect(server.address).await
}

/// Whether a connection is served.
async fn is_served(mut socket: TcpStream, server: &Server) -> bool {
    let _ = socket.write_all(get(server, "/livez").as_bytes()).await;
    let mut answer = [0; 12];
    let read = timeout(LIMIT, socket.read_exact(&mut answer)).await.expect("no answer comes");
    read.is_ok() && answer == *b"HTTP/1.1 200"
}

#[tokio::test]
async fn connections_beyond_the_limit_of_an_address_are_closed_at_once() {
    let server = Server::adjusted(&["--connections-per-client=3"], |config, _| {
        // Those that are there stay.
        config.http.timeouts.request = Duration::from_secs(600);
        config.http.timeouts.keep_alive = Duration::from_secs(600);
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        // Served once, it is certainly counted: workers take connections in any order.
        socket.write_all(get(&server, "/livez").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"alive\n") {
            answer.push(timeout(LIMIT, socket.read_u8()).await.expect("no answer").unwrap());
        }
        held.push(socket);
    }
    for _ in 0..200 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let mut answer = Vec::new();
        // Without a word from here.
        let _ = timeout(LIMIT, socket.read_to_end(&mut answer)).await.expect("it stays open");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 429 "));
    }
    assert!(is_served(from([127, 0, 0, 2], &server).await.unwrap(), &server).await);
    assert!(is_served(held.pop().unwrap(), &server).await);
}

#[tokio::test]
async fn no_number_of_addresses_that_fill_every_place_lock_another_one_out() {
    let flags = ["--connections=20", "--connections-per-client=4"];
    let server = Server::adjusted(&flags, |config, _| {
        config.http.timeouts.request = Duration::from_secs(600);
    })
    .await;
    let mut held = Vec::new();
    for host in 2..8 {
        for _ in 0..4 {
            held.push(from([127, 0, 0, host], &server).await.unwrap());
        }
    }
    for host in 20..30 {
        let socket = from([127, 0, 0, host], &server).await.unwrap();
        assert!(is_served(socket, &server).await, "127.0.0.{host}");
    }
}

#[tokio::test]
async fn websockets_are_shared_out_among_the_clients_of_a_proxy() {
    let flags = ["--connections=6", "--connections-per-client=4", "--trusted-proxy=127.0.0.1"];
    let server = Server::start(&flags).await;
    let mut held = Vec::new();
    for client in
        ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2", "192.0.2.2", "192.0.2.2"]
    {
        held.push(Client::forwarded_for(&server, client).await.unwrap());
    }
    let mut late = Client::forwarded_for(&server, "[2001:db8::7]:443").await.unwrap();
    late.greet().await;
    let _other = Client::forwarded_for(&server, "192.0.2.9").await.unwrap();
    // Two, two, one and one: nobody has so much more that it should go.
    assert!(Client::forwarded_for(&server, "192.0.2.9").await.is_err());
}

#[tokio::test]
async fn a_client_over_its_limit_of_websockets_is_told() {
    let flags = ["--connections-per-client=2", "--trusted-proxy=127.0.0.1"];
    let server = Server::start(&flags).await;
    let _first = Client::forwarded_for(&server, "192.0.2.1:4431").await.unwrap();
    let _second = Client::forwarded_for(&server, "192.0.2.1:4432").await.unwrap();
    assert!(Client::forwarded_for(&server, "192.0.2.1").await.is_err());
    assert!(Client::forwarded_for(&server, "192.0.2.2").await.is_ok());
}

#[tokio::test]
async fn health_needs_no_host() {
    let server = Server::start(&[]).await;
    for path in ["/livez", "/readyz"] {
        for request in [
            format!("GET {path} HTTP/1.0\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: 10.1.2.3\r\nConnection: close\r\n\r\n"),
        ] {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            timeout(LIMIT, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
            assert!(answer.split(' ').nth(1) == Some("200"), "{request}: {answer}");
        }
    }
}
