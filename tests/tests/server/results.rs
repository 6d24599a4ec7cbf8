//! The result at its link.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode, header};
use var_dd_protocol::{GenerateRequest, JobState, JobView};
use var_dd_tests::{
    client::{Client, What, finished_picture, request},
    program::Program,
};

use crate::plans;

#[tokio::test]
async fn the_link_shows_the_bytes_that_were_streamed() -> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    let mut client = Client::connect(&program).await?;
    for (name, plan, _) in plans(scales) {
        let accepted = client.generate(GenerateRequest { count: 2, ..request(plan, 21) }).await?;
        let events = client.events(&accepted.job).await?;
        let view: JobView = reqwest::get(program.url(&format!("/api/results/{}", accepted.job)))
            .await?
            .json()
            .await?;
        ensure!(
            view.state == JobState::Finished && view.request == accepted.request,
            "{name}: {view:?}"
        );
        ensure!(view.pictures.len() == 2, "{name}: {} pictures", view.pictures.len());
        for (picture, path) in (0..).zip(&view.pictures) {
            let response = reqwest::get(program.url(path)).await?.error_for_status()?;
            ensure!(response.headers()[header::CONTENT_TYPE] == "image/png", "{name}: {path}");
            ensure!(
                response.bytes().await? == finished_picture(&events, picture)?,
                "{name}: {path} differs"
            );
        }
        for entry in &view.frames {
            let streamed = events.iter().find_map(|event| match &event.what {
                What::Frame(header, bytes) if event.seq == entry.seq && *header == entry.header => {
                    Some(bytes)
                }
                _ => None,
            });
            let streamed = streamed
                .with_context(|| format!("{name}: frame {} was not streamed", entry.seq))?;
            let kept =
                reqwest::get(program.url(&entry.url)).await?.error_for_status()?.bytes().await?;
            ensure!(kept == streamed, "{name}: frame {} differs", entry.seq);
        }
        let streamed = events.iter().filter(|event| matches!(event.what, What::Frame(..))).count();
        ensure!(
            view.frames.len() == streamed,
            "{name}: {} of {streamed} frames are kept",
            view.frames.len()
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_page_of_a_link_carries_tags_for_previews_and_a_strict_policy() -> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    let mut client = Client::connect(&program).await?;
    let accepted = client.generate(request(plans(scales).remove(0).1, 4)).await?;
    client.events(&accepted.job).await?;
    let response =
        reqwest::get(program.url(&format!("/r/{}", accepted.job))).await?.error_for_status()?;
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str()?.to_owned();
    ensure!(policy.contains("default-src 'none'") && !policy.contains("unsafe-inline"), "{policy}");
    let html = response.text().await?;
    for part in ["og:title", "og:image", &format!("/api/results/{}/pictures/0.png", accepted.job)] {
        ensure!(html.contains(part), "{part} is not in the page:\n{html}");
    }
    ensure!(
        !html.contains("<script>") && !html.contains("<style"),
        "the page has inline code:\n{html}"
    );
    let absent = reqwest::get(program.url(&format!("/r/{}", "0".repeat(32)))).await?;
    ensure!(
        absent.status() == StatusCode::NOT_FOUND,
        "an unknown link answers {}",
        absent.status()
    );
    Ok(())
}

#[tokio::test]
async fn a_result_is_deleted_by_its_owner_only() -> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    let mut client = Client::connect(&program).await?;
    let accepted = client.generate(request(plans(scales).remove(0).1, 4)).await?;
    client.events(&accepted.job).await?;
    let url = program.url(&format!("/api/results/{}", accepted.job));
    let http = reqwest::Client::new();
    let delete = async |token: &str| {
        let request = http
            .request(Method::DELETE, &url)
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        Ok::<_, reqwest::Error>(request.send().await?.status())
    };
    let refused = delete(&"0".repeat(accepted.owner_token.0.len())).await?;
    ensure!(refused.is_client_error(), "a stranger's delete is answered by {refused}");
    ensure!(reqwest::get(&url).await?.status().is_success(), "a stranger's delete took effect");
    let done = delete(&accepted.owner_token.0).await?;
    ensure!(done.is_success(), "the owner's delete is answered by {done}");
    ensure!(
        reqwest::get(&url).await?.status() == StatusCode::NOT_FOUND,
        "the result is still there"
    );
    Ok(())
}
