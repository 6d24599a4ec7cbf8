//! The playground as a person uses it. Elements are found by the `data-testid` that the page
//! documents.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};
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

/// A picture that the stage came to show.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ShownPicture {
    /// Name of the job.
    pub job: String,
    /// Picture of the job.
    pub picture: u32,
    /// Number of the frame's event.
    pub seq: u64,
    /// SHA-256 of the encoded picture.
    pub digest: String,
}

/// A tile of the strip that holds a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Tile {
    /// Pass of the plan.
    pub pass: u32,
    /// Scale.
    pub scale: u32,
}

/// The playground in a browser of its own.
pub struct Playground {
    /// The page.
    pub page: Page,
    origin: String,
}

impl Playground {
    /// Opens a path of the server in a fresh profile.
    ///
    /// # Errors
    /// When the page does not load.
    pub async fn open(
        browsers: &Browsers,
        program: &Program,
        look: Look,
        path: &str,
    ) -> Result<Self> {
        Self::open_prepared(browsers, program, look, path, &[]).await
    }

    /// Opens a path of the server in a fresh profile, with messages of the server coming at the
    /// pace of `pacer.js`: a stand-in for slow and very fast machines.
    ///
    /// # Errors
    /// When the page does not load.
    pub async fn open_paced(
        browsers: &Browsers,
        program: &Program,
        look: Look,
        path: &str,
        pace: &str,
    ) -> Result<Self> {
        let pace = format!("window.pace = {pace};");
        Self::open_prepared(browsers, program, look, path, &[&pace, include_str!("pacer.js")]).await
    }

    /// Opens a path of the server in a fresh profile where scripts run before those of the page,
    /// and before the one that records what it receives.
    ///
    /// # Errors
    /// When the page does not load.
    pub async fn open_prepared(
        browsers: &Browsers,
        program: &Program,
        look: Look,
        path: &str,
        scripts: &[&str],
    ) -> Result<Self> {
        let scripts = [scripts, &[include_str!("recorder.js")]].concat();
        Self::open_with_only(browsers, program, look, path, &scripts).await
    }

    /// The same without the one that records, for whoever measures: what asks for jobs and pictures
    /// does not work then.
    ///
    /// # Errors
    /// When the page does not load.
    pub async fn open_with_only(
        browsers: &Browsers,
        program: &Program,
        look: Look,
        path: &str,
        scripts: &[&str],
    ) -> Result<Self> {
        let playground = Self { page: browsers.open(look).await?, origin: program.url("") };
        for script in scripts {
            playground.page.before_every_document(script).await?;
        }
        playground.goto(path).await?;
        Ok(playground)
    }

    /// Opens a path of an origin in a fresh profile, with a script that runs before those of every
    /// document.
    ///
    /// # Errors
    /// When the page does not load.
    pub async fn open_at(
        browsers: &Browsers,
        origin: &str,
        look: Look,
        before: &str,
        path: &str,
    ) -> Result<Self> {
        let playground = Self { page: browsers.open(look).await?, origin: origin.to_owned() };
        playground.page.before_every_document(include_str!("recorder.js")).await?;
        if !before.is_empty() {
            playground.page.before_every_document(before).await?;
        }
        playground.goto(path).await?;
        Ok(playground)
    }

    /// Opens a path of the server in a fresh profile whose scroll bars take room.
    ///
    /// # Errors
    /// When the page does not load.
    pub async fn open_with_scroll_bars(
        browsers: &Browsers,
        program: &Program,
        look: Look,
        path: &str,
    ) -> Result<Self> {
        let page = browsers.open_with_scroll_bars(look).await?;
        page.before_every_document(include_str!("recorder.js")).await?;
        let playground = Self { page, origin: program.url("") };
        playground.goto(path).await?;
        Ok(playground)
    }

    /// Waits until the new picture has come into focus, or skips what is left of it.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn wait_until_shown(&self) -> Result<()> {
        self.wait_for_attribute("stage", "focusing", "false").await
    }

    /// Goes to a path of the server.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn goto(&self, path: &str) -> Result<()> {
        self.page.goto(&format!("{}{path}", self.origin)).await
    }

    /// Follows a link or presses a button inside the page until the address ends so.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn goes_to(&self, selector: &str, end: &str) -> Result<()> {
        let selector = json!(selector);
        self.page
            .wait_for(
                &format!("{selector}, to go to {end}"),
                &format!(
                    "if (location.href.endsWith({})) return true; \
                     document.querySelector({selector})?.click(); return false",
                    json!(end)
                ),
            )
            .await?;
        Ok(())
    }

    /// Goes back as the browser's button does.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn back(&self) -> Result<()> {
        self.page.value("history.back()").await.map(drop)
    }

    /// Waits until `data-<attribute>` of an element is there and is not `value`.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn wait_for_other(&self, id: &str, attribute: &str, value: &str) -> Result<String> {
        let selector = json!(by_id(id));
        let script = format!(
            "const found = document.querySelector({selector})?.getAttribute('data-{attribute}'); \
             return found && found !== {} && found",
            json!(value)
        );
        let found = self.page.wait_for(&format!("another {attribute} of {id}"), &script).await?;
        Ok(found.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page is connected and a job can be asked for.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn wait_until_ready(&self) -> Result<()> {
        self.wait_for_attribute("connection", "connection", "open").await?;
        let script = "return document.querySelector('[data-testid=generate]:enabled') !== null";
        self.page.wait_for("the button Generate", script).await?;
        Ok(())
    }

    /// Waits until `data-<attribute>` of an element has a value.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn wait_for_attribute(&self, id: &str, attribute: &str, value: &str) -> Result<()> {
        let selector = json!(format!("{}[data-{attribute}={value:?}]", by_id(id)));
        let script = format!("return document.querySelector({selector}) !== null");
        self.page.wait_for(&format!("{id} with {attribute} {value:?}"), &script).await?;
        Ok(())
    }

    /// `data-<attribute>` of an element, or what its field holds for `value`.
    ///
    /// # Errors
    /// When there is no such element.
    pub async fn attribute(&self, id: &str, attribute: &str) -> Result<String> {
        let selector = json!(by_id(id));
        let script = format!(
            "const found = document.querySelector({selector}); \
             return found && String({attribute:?} === 'value' ? found.value : \
             found.getAttribute('data-{attribute}'))"
        );
        let value = self.page.wait_for(id, &script).await?;
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    /// Chooses a radio button or presses a button, wherever it is scrolled to.
    ///
    /// # Errors
    /// When there is no such control.
    pub async fn choose(&self, id: &str) -> Result<()> {
        let selector = json!(by_id(id));
        let script = format!(
            "const found = document.querySelector({selector}); found?.click(); return found !== \
             null"
        );
        self.page.wait_for(id, &script).await?;
        Ok(())
    }

    /// Clicks what can be seen, as a person does.
    ///
    /// # Errors
    /// When it is not there or covered.
    pub async fn click(&self, id: &str) -> Result<()> {
        self.page.click(&by_id(id)).await
    }

    /// Ticks a box or chooses a radio button unless it is already.
    ///
    /// # Errors
    /// When there is no such control.
    pub async fn tick(&self, id: &str) -> Result<()> {
        let selector = json!(by_id(id));
        let script = format!(
            "const found = document.querySelector({selector}); if (found && !found.checked) \
             found.click(); \
             return found !== null"
        );
        self.page.wait_for(id, &script).await?;
        Ok(())
    }

    /// Waits until an element is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn element_appears(&self, id: &str) -> Result<()> {
        self.page.element(&by_id(id)).await.map(drop)
    }

    /// Types into a field, in place of what it holds.
    ///
    /// # Errors
    /// When there is no such field.
    pub async fn fill(&self, id: &str, text: &str) -> Result<()> {
        let (selector, text) = (json!(by_id(id)), json!(text));
        let script = format!(
            "const found = document.querySelector({selector}); if (!found) return false; \
             found.value = {text}; \
             found.dispatchEvent(new InputEvent('input', {{ bubbles: true }})); return true"
        );
        self.page.wait_for(id, &script).await?;
        Ok(())
    }

    /// Asks for pictures and waits until they are finished; returns their name.
    ///
    /// # Errors
    /// When they are refused, or not finished in time.
    pub async fn draw(&self) -> Result<JobId> {
        let job = self.generate().await?;
        self.wait_for_state(&job, "finished").await?;
        Ok(job)
    }

    /// Chooses a class from the list.
    ///
    /// # Errors
    /// When there is no such class.
    pub async fn choose_class(&self, class: usize) -> Result<()> {
        self.page
            .value(&format!("document.querySelector({})?.focus()", json!(by_id("class-search"))))
            .await?;
        self.choose(&format!("class-option-{class}")).await?;
        self.wait_for_attribute("class-search", "class", &class.to_string()).await?;
        self.leave_field().await
    }

    /// Takes the focus off any field, so that keys are the page's again.
    ///
    /// # Errors
    /// When the page does not answer.
    pub async fn leave_field(&self) -> Result<()> {
        self.page.value("document.activeElement?.blur()").await.map(drop)
    }

    /// Brings the picture of a drawn tile to the stage.
    ///
    /// # Errors
    /// When there is no such tile.
    pub async fn choose_tile(&self, index: usize) -> Result<()> {
        let script =
            format!("const found = {DRAWN}[{index}]; found?.click(); return found !== undefined");
        self.page.wait_for(&format!("tile {index}"), &script).await?;
        Ok(())
    }

    /// The first picture on the stage once the tile is the current one and the stage shows its
    /// frame.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn settled_on_stage(&self, index: usize) -> Result<ShownPicture> {
        let script = format!(
            "const tile = {DRAWN}[{index}]; const image = \
             document.querySelector('[data-testid=stage-picture]'); \
             return tile?.dataset.current === 'true' && image?.dataset.seq === tile.dataset.seq && \
             image.complete"
        );
        self.page.wait_for(&format!("the picture of tile {index}"), &script).await?;
        self.on_stage().await?.into_iter().next().context("the stage is empty")
    }

    /// Clicks Generate; returns the job.
    ///
    /// # Errors
    /// When no job is accepted.
    pub async fn generate(&self) -> Result<JobId> {
        self.wait_until_ready().await?;
        let before = self.accepted().await?.len();
        self.click("generate").await?;
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
        self.value(&format!("return {ACCEPTED}")).await
    }

    /// Waits until the page shows a job in a state.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn wait_for_state(&self, job: &JobId, state: &str) -> Result<()> {
        let selector = json!(format!("{}[data-job='{job}']", by_id("job-state")));
        let script = format!("return document.querySelector({selector})?.dataset.state");
        let ends = ["finished", "failed", "cancelled", "expired", "refused"];
        let waiting = format!(
            "const state = await (async () => {{ {script} }})(); return state === {state:?} || \
             {}.includes(state) ? state : null",
            json!(ends)
        );
        let reached = self.page.wait_for(&format!("the state {state:?}"), &waiting).await?;
        if reached != state {
            bail!(
                "the job is {reached} and not {state}; the page shows:\n{}",
                self.page.text().await?
            );
        }
        Ok(())
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

    /// Pictures that the stage came to show since the document was loaded, in order.
    ///
    /// # Errors
    /// When the page does not answer.
    pub async fn shown(&self) -> Result<Vec<ShownPicture>> {
        self.value(&format!("return await Promise.all(recorded.shown.map({WITH_DIGEST}))")).await
    }

    /// The pictures on the stage now.
    ///
    /// # Errors
    /// When the page does not answer.
    pub async fn on_stage(&self) -> Result<Vec<ShownPicture>> {
        let script = format!(
            "const images = [...document.querySelectorAll('[data-testid=stage-picture]')]; \
             return await Promise.all(images.map(image => ({{ job: image.dataset.job, \
             picture: Number(image.dataset.picture), \
             seq: Number(image.dataset.seq), src: image.src }})).map({WITH_DIGEST}))"
        );
        self.value(&script).await
    }

    /// Tiles of the strip that hold a picture, in order.
    ///
    /// # Errors
    /// When the page does not answer.
    pub async fn drawn_tiles(&self) -> Result<Vec<Tile>> {
        self.value(&format!(
            "return {DRAWN}.map(({{ dataset }}) => ({{ pass: Number(dataset.pass), scale: \
                Number(dataset.scale) }}))"
        ))
        .await
    }

    async fn value<T: DeserializeOwned>(&self, script: &str) -> Result<T> {
        let value = self.page.value(script).await?;
        serde_json::from_value(value.clone()).with_context(|| format!("{script} gives {value}"))
    }
}

/// Tiles with a picture.
const DRAWN: &str = "[...document.querySelectorAll('[data-testid=tile][data-drawn=true]')]";

/// Jobs in the record of messages.
const ACCEPTED: &str = "recorded.messages.filter(m => m.type === 'accepted').map(m => m.job)";

/// Puts the digest of its bytes in place of the address of a picture.
const WITH_DIGEST: &str = "async ({ src, ...shown }) => ({ ...shown, digest: await \
                           (recorded.blobs.get(src) ?? \
    fetch(src).then(answer => answer.arrayBuffer()).then(recorded.digest)) })";

fn by_id(id: &str) -> String {
    format!("[data-testid={id:?}]")
}
