//! The playground as a person uses it: what the tests know of the page's words is here.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;
use var_dd_protocol::JobId;

use crate::{
    browser::{Browsers, Look, Page},
    program::Program,
};

/// A frame as the page received it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReceivedFrame {
    /// The job.
    pub job: JobId,
    /// Number among its events.
    pub seq: u64,
    /// Picture of the job.
    pub picture: u32,
    /// Pass of the plan.
    pub pass: u32,
    /// Scale.
    pub scale: u32,
    /// Whether it is the finished picture.
    pub last: bool,
    /// SHA-256 of the encoded picture.
    pub digest: String,
}

/// The playground in a browser of its own.
pub struct Playground {
    /// The page.
    pub page: Page,
    origin: String,
}

impl Playground {
    /// Opens it in a fresh profile and waits until it can be used.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn open(browsers: &Browsers, program: &Program, look: Look) -> Result<Self> {
        let playground = Self { page: browsers.open(look).await?, origin: program.url("") };
        playground.page.before_every_document(include_str!("recorder.js")).await?;
        playground.goto("/").await?;
        playground.wait_until_ready().await?;
        Ok(playground)
    }

    /// Goes to a path of the server.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn goto(&self, path: &str) -> Result<()> {
        self.page.goto(&format!("{}{path}", self.origin)).await
    }

    /// Waits for the button that everything leads to.
    ///
    /// # Errors
    /// When it does not appear.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let script =
            format!("const found = {}; return found !== undefined && !found.disabled", named("Generate"));
        self.page.wait_for("the Generate button", &script).await?;
        Ok(())
    }

    /// Presses what a screen reader would call `name`.
    ///
    /// # Errors
    /// When there is no such control.
    pub async fn press(&self, name: &str) -> Result<()> {
        let script = format!("const found = {}; found?.click(); return found !== undefined", named(name));
        self.page.wait_for(&format!("a control named {name:?}"), &script).await?;
        Ok(())
    }

    /// Presses Generate; returns the job.
    ///
    /// # Errors
    /// When no job is accepted.
    pub async fn generate(&self) -> Result<JobId> {
        let before = self.accepted().await?.len();
        self.press("Generate").await?;
        self.accepted_after(before).await
    }

    /// The job accepted after `before` others.
    ///
    /// # Errors
    /// When none is.
    pub async fn accepted_after(&self, before: usize) -> Result<JobId> {
        let script = format!("return {ACCEPTED}.length > {before}");
        self.page.wait_for("an accepted job", &script).await?;
        self.accepted().await?.into_iter().nth(before).context("the job is gone")
    }

    /// All jobs accepted since the document was loaded.
    ///
    /// # Errors
    /// When the page does not answer.
    pub async fn accepted(&self) -> Result<Vec<JobId>> {
        Ok(serde_json::from_value(self.page.value(&format!("return {ACCEPTED}")).await?)?)
    }

    /// Waits until the page was told of the end of a job; returns how it ended.
    ///
    /// # Errors
    /// When it is not told.
    pub async fn wait_for_end(&self, job: &JobId) -> Result<String> {
        let ended = format!(
            "return recorded.messages.find(m => m.type === 'event' && m.job === {} && \
             ['finished', 'failed', 'cancelled', 'expired'].includes(m.event.type))?.event.type",
            json!(job)
        );
        let ended = self.page.wait_for("the end of the job", &ended).await?;
        Ok(ended.as_str().unwrap_or_default().to_owned())
    }

    /// Frames of a job that the page received since it was loaded, in order.
    ///
    /// # Errors
    /// When the page does not answer.
    pub async fn received(&self, job: &JobId) -> Result<Vec<ReceivedFrame>> {
        let script = format!(
            "const frames = recorded.frames.filter(frame => frame.job === {}); \
             return frames.every(frame => frame.digest) && frames",
            json!(job)
        );
        Ok(serde_json::from_value(self.page.wait_for("digests of all frames", &script).await?)?)
    }

    /// Digests of the pictures that the stage showed since the document was loaded, in order.
    ///
    /// # Errors
    /// When the page does not answer.
    pub async fn shown(&self) -> Result<Vec<String>> {
        let script = "const shown = recorded.shown.filter(shown => shown.stage).map(shown => shown.src); \
            return await Promise.all(shown.map(async src => recorded.blobs.get(src) ?? \
                [...new Uint8Array(await crypto.subtle.digest('SHA-256', await (await fetch(src)).arrayBuffer()))] \
                .map(byte => byte.toString(16).padStart(2, '0')).join('')))";
        Ok(serde_json::from_value(self.page.value(script).await?)?)
    }
}

/// Jobs in the record of messages.
const ACCEPTED: &str = "recorded.messages.filter(m => m.type === 'accepted').map(m => m.job)";

/// A script for the control with this name, by label or text, that is seen.
fn named(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('button, a, [role=button], [role=radio], input[type=radio], summary')].find(element => {{ \
           const label = element.getAttribute('aria-label') ?? element.labels?.[0]?.innerText ?? element.innerText; \
           return element.checkVisibility() && label.trim().toLowerCase().startsWith({}) }})",
        json!(name.to_lowercase())
    )
}
