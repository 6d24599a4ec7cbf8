//! What the server refuses, and how it says so.

use anyhow::{Result, ensure};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};
use var_dd_protocol::{ClientMessage, ErrorBody, ErrorCode, ServerMessage};
use var_dd_tests::{
    client::{Client, request},
    program::Program,
};

use crate::{plans, slow_plan};

async fn post(program: &Program, body: &Value) -> Result<Response> {
    Ok(reqwest::Client::new().post(program.url("/api/jobs")).json(body).send().await?)
}

/// Status and code of a refusal.
async fn refusal(response: Response) -> Result<(StatusCode, ErrorBody)> {
    Ok((response.status(), response.json().await?))
}

#[tokio::test]
async fn impossible_requests_are_refused_with_the_bound_and_the_value() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let (classes, scales) = (model.classes.len(), model.scales());
    let one_step = json!({"kind": "few_step", "t_list": [0], "loss_split_t": 3});
    let steps = |t_list: &[u32]| json!({"kind": "few_step", "t_list": t_list, "loss_split_t": 3});
    let cases = [
        (
            json!({"class": classes, "plan": one_step}),
            ErrorCode::ClassOutOfRange,
            classes.to_string(),
        ),
        (json!({"class": 0, "plan": steps(&[0, 2, 2])}), ErrorCode::InvalidPlan, "2".into()),
        (
            json!({"class": 0, "plan": steps(&[0, scales])}),
            ErrorCode::InvalidPlan,
            scales.to_string(),
        ),
        (json!({"class": 0, "plan": steps(&[])}), ErrorCode::InvalidPlan, "t_list".into()),
        (json!({"class": 0, "plan": one_step, "count": 9}), ErrorCode::CountOutOfRange, "9".into()),
        (json!({"class": 0, "plan": one_step, "count": 0}), ErrorCode::CountOutOfRange, "0".into()),
        (
            json!({"class": 0, "plan": one_step, "seed": 1u64 << 60}),
            ErrorCode::SeedOutOfRange,
            (1u64 << 60).to_string(),
        ),
        (
            json!({"class": 0, "plan": one_step, "model": "none of these"}),
            ErrorCode::UnknownModel,
            "none of these".into(),
        ),
    ];
    for (body, code, value) in cases {
        let (status, error) = refusal(post(&program, &body).await?).await?;
        ensure!(error.code == code, "{body}: {error:?}");
        ensure!(status.is_client_error(), "{body}: {status}");
        ensure!(
            error.message.contains(&value),
            "{body}: the message does not name {value}: {}",
            error.message
        );
        if code != ErrorCode::UnknownModel {
            ensure!(status == StatusCode::UNPROCESSABLE_ENTITY, "{body}: {status}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() -> Result<()> {
    let program = Program::start(&[])?;
    let response = post(&program, &json!({"class": 0, "model": "x".repeat(4 << 20)})).await?;
    let (status, error) = refusal(response).await?;
    ensure!(
        status == StatusCode::PAYLOAD_TOO_LARGE && error.code == ErrorCode::TooLarge,
        "{status}: {error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_full_queue_says_when_to_try_again() -> Result<()> {
    let program = Program::start(&["--queue-limit", "1"])?;
    let scales = program.info().await?.models[0].scales();
    let body = json!({"class": 0, "plan": slow_plan(scales), "count": 8});
    for _ in 0..30 {
        let response = post(&program, &body).await?;
        if response.status().is_success() {
            continue;
        }
        let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
        let (status, error) = refusal(response).await?;
        ensure!(status == StatusCode::TOO_MANY_REQUESTS, "{status}: {error:?}");
        ensure!(error.code == ErrorCode::QueueFull, "{error:?}");
        let seconds: u32 =
            retry_after.map_or(Ok(0), |value| Ok::<_, anyhow::Error>(value.to_str()?.parse()?))?;
        ensure!(
            seconds > 0 && error.retry_after_s == Some(seconds),
            "Retry-After is {seconds}: {error:?}"
        );
        return Ok(());
    }
    anyhow::bail!("thirty jobs fit into a queue of one")
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() -> Result<()> {
    let program = Program::start(&[])?;
    let own = format!("http://{}", program.address());
    Client::connect_from(&program, Some(&own)).await?;
    ensure!(
        Client::connect_from(&program, Some("https://elsewhere.example")).await.is_err(),
        "a foreign page got in"
    );
    let response = reqwest::Client::new()
        .post(program.url("/api/jobs"))
        .header(header::ORIGIN, "https://elsewhere.example")
        .json(&json!({"class": 0, "plan": {"kind": "few_step", "t_list": [0], "loss_split_t": 3}}))
        .send()
        .await?;
    let (status, error) = refusal(response).await?;
    ensure!(
        status == StatusCode::FORBIDDEN && error.code == ErrorCode::OriginRefused,
        "{status}: {error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_none_is_answered_and_the_connection_serves_on() -> Result<()> {
    let program = Program::start(&[])?;
    let scales = program.info().await?.models[0].scales();
    let mut client = Client::connect(&program).await?;
    client.send_text("{\"type\":\"sing\"}").await?;
    let answer = client.message().await?;
    let ServerMessage::Error { error, .. } = answer else {
        anyhow::bail!("the server answered {answer:?}");
    };
    ensure!(error.code == ErrorCode::MalformedMessage, "{error:?}");
    let accepted = client.generate(request(plans(scales).remove(0).1, 1)).await?;
    client.events(&accepted.job).await?;
    Ok(())
}

#[tokio::test]
async fn watching_a_job_that_is_none_says_so() -> Result<()> {
    let program = Program::start(&[])?;
    let mut client = Client::connect(&program).await?;
    let job = var_dd_protocol::JobId::from_bits(7);
    client.send(&ClientMessage::Watch { job: job.clone(), after: None }).await?;
    let answer = client.message().await?;
    let ServerMessage::Error { job: about, error } = answer else {
        anyhow::bail!("the server answered {answer:?}");
    };
    ensure!(about == Some(job) && error.code == ErrorCode::NotFound, "{error:?}");
    Ok(())
}

#[tokio::test]
async fn the_server_tells_its_health_its_numbers_and_its_interface() -> Result<()> {
    let program = Program::start(&[])?;
    for path in ["/livez", "/readyz"] {
        ensure!(reqwest::get(program.url(path)).await?.status().is_success(), "{path}");
    }
    let metrics = reqwest::get(program.url("/metrics")).await?.error_for_status()?.text().await?;
    ensure!(metrics.contains("# TYPE"), "{metrics}");
    let interface: Value =
        reqwest::get(program.url("/api/openapi.json")).await?.error_for_status()?.json().await?;
    for path in ["/api/info", "/api/jobs", "/api/results", "/api/results/{id}"] {
        ensure!(interface["paths"].get(path).is_some(), "{path} is not described");
    }
    Ok(())
}
