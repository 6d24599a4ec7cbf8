//! Pages of other origins that use the server.

use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use var_dd_tests::{
    browser::{Browsers, Look, with_browsers},
    program::Program,
};

/// A page that draws by the interface of a server elsewhere, and writes what came of it.
fn page(server: &str) -> String {
    let script = r#"
        const say = text => { document.title = text; };
        const draw = async () => {
            const plan = { kind: "few_step", t_list: [0], loss_split_t: 3 };
            const asked = await fetch(SERVER + "/api/jobs", {
                method: "POST",
                headers: { "Content-Type": "application/json", "Idempotency-Key": "k1" },
                body: JSON.stringify({ class: 1, seed: 3, plan }),
            });
            const job = await asked.json();
            const path = SERVER + asked.headers.get("Location");
            let view;
            do {
                view = await (await fetch(path)).json();
            } while (view.state === "queued" || view.state === "running");
            const picture = await (await fetch(SERVER + view.pictures[0])).blob();
            const gone = await fetch(path, {
                method: "DELETE",
                headers: { Authorization: "Bearer " + job.owner_token },
            });
            say([asked.status, view.state, picture.type, gone.status].join(" "));
        };
        draw().catch(error => say("refused: " + error.name));
    "#;
    let script = script.replace("SERVER", &json!(server).to_string());
    format!("<!doctype html><title>waiting</title><script>{script}</script>")
}

/// Serves the page at an origin of its own, for as long as the test runs.
async fn elsewhere(listener: TcpListener, page: String) {
    let page = Arc::new(page);
    while let Ok((mut socket, _)) = listener.accept().await {
        let page = page.clone();
        tokio::spawn(async move {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n";
            let length = page.len();
            let answer = format!("{head}Content-Length: {length}\r\n\r\n{page}");
            let _ = socket.write_all(answer.as_bytes()).await;
        });
    }
}

/// What the page elsewhere says in the end.
async fn said(browsers: &Browsers, address: &str) -> Result<String> {
    let page = browsers.open(Look::DESKTOP).await?;
    page.goto(&format!("http://{address}/")).await?;
    let title = page
        .wait_for(
            "the page elsewhere to end",
            "return document.title !== 'waiting' && document.title",
        )
        .await?;
    Ok(title.as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_draws_and_deletes_and_another_one_cannot() -> Result<()> {
    let friend = TcpListener::bind("127.0.0.1:0").await?;
    let stranger = TcpListener::bind("127.0.0.1:0").await?;
    let (at_friend, at_stranger) =
        (friend.local_addr()?.to_string(), stranger.local_addr()?.to_string());
    let program = Program::start(&["--allow-origin", &format!("http://{at_friend}")])?;
    let page = page(&program.url(""));
    tokio::spawn(elsewhere(friend, page.clone()));
    tokio::spawn(elsewhere(stranger, page));
    with_browsers(async |browsers| {
        let drawn = said(browsers, &at_friend).await?;
        anyhow::ensure!(drawn == "202 finished image/png 204", "{drawn}");
        let refused = said(browsers, &at_stranger).await?;
        anyhow::ensure!(refused == "refused: TypeError", "{refused}");
        Ok(())
    })
    .await
}
