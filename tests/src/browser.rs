//! The page in real Chromium, driven by chromedriver.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{
    By, CapabilitiesHelper, ChromiumLikeCapabilities, DesiredCapabilities, TypingData, WebDriver,
    WebElement,
};

use crate::program::PATIENCE;

/// What to do where a browser test cannot run.
const ADVICE: &str = "the browser tests need Chromium and its driver (Debian: apt-get install \
    chromium chromium-driver)";

/// How the page is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Width in CSS pixels.
    pub width: u32,
    /// Height in CSS pixels.
    pub height: u32,
    /// A touch screen with two device pixels per CSS pixel.
    pub phone: bool,
    /// Whether the person prefers dark colours.
    pub dark: bool,
}

impl Look {
    /// A desktop window, light.
    pub const DESKTOP: Self = Self { width: 1280, height: 860, phone: false, dark: false };
    /// A laptop with a low screen, light.
    pub const LAPTOP: Self = Self { width: 1366, height: 650, phone: false, dark: false };
    /// A narrow phone, or a desktop window at 400 %, light.
    pub const NARROW: Self = Self { width: 320, height: 640, phone: true, dark: false };
    /// A phone, light.
    pub const PHONE: Self = Self { width: 390, height: 844, phone: true, dark: false };

    /// The same in dark colours.
    pub const fn dark(self) -> Self {
        Self { dark: true, ..self }
    }
}

/// A running chromedriver and the browsers it opened.
pub struct Browsers {
    driver: Child,
    url: String,
    open: Mutex<Vec<(WebDriver, TempDir)>>,
}

/// Runs a test with browsers and closes them afterwards, however it ended.
///
/// # Errors
/// When there is no browser, or the test fails.
pub async fn with_browsers(test: impl AsyncFnOnce(&Browsers) -> Result<()>) -> Result<()> {
    let browsers = Browsers::start()?;
    let outcome = AssertUnwindSafe(test(&browsers)).catch_unwind().await;
    browsers.close().await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

impl Browsers {
    fn start() -> Result<Self> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().context(ADVICE)?;
        let output = driver.stdout.take().context("chromedriver has no output")?;
        let mut lines = BufReader::new(output).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // A full pipe would stop the driver.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let port = port.context("chromedriver did not say on which port it listens")?;
        Ok(Self { driver, url: format!("http://127.0.0.1:{port}"), open: Mutex::default() })
    }

    /// Opens a browser with a fresh profile: no cookies, no storage, no cache.
    ///
    /// # Errors
    /// When Chromium does not start.
    pub async fn open(&self, look: Look) -> Result<Page> {
        self.open_with(look, &["--hide-scrollbars"]).await
    }

    /// The same with scroll bars that take room, as on most desktops.
    ///
    /// # Errors
    /// When Chromium does not start.
    pub async fn open_with_scroll_bars(&self, look: Look) -> Result<Page> {
        self.open_with(look, &[]).await
    }

    async fn open_with(&self, look: Look, arguments: &[&str]) -> Result<Page> {
        let profile = TempDir::new()?;
        let mut capabilities = DesiredCapabilities::chrome();
        if let Some(path) = ["/usr/bin/chromium", "/usr/bin/chromium-browser"]
            .iter()
            .find(|path| PathBuf::from(path).exists())
        {
            capabilities.set_binary(path)?;
        }
        for argument in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", profile.path().display()),
        ]
        .iter()
        .chain(arguments)
        {
            capabilities.add_arg(argument)?;
        }
        capabilities.set("goog:loggingPrefs", json!({"browser": "ALL"}))?;
        let driver = WebDriver::new(&self.url, capabilities).await.context(ADVICE)?;
        driver.set_script_timeout(PATIENCE).await?;
        let page = Page { driver: driver.clone() };
        self.open.lock().expect("no test holds this lock").push((driver, profile));
        page.look(look).await?;
        Ok(page)
    }

    async fn close(mut self) {
        let open = std::mem::take(&mut *self.open.lock().expect("no test holds this lock"));
        for (driver, _profile) in open {
            // The test's own outcome matters more than that of closing.
            let _ = driver.quit().await;
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A page in a browser.
#[derive(Clone)]
pub struct Page {
    driver: WebDriver,
}

impl Page {
    /// Goes to an address.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn goto(&self, url: &str) -> Result<()> {
        Ok(self.driver.goto(url).await?)
    }

    /// Loads the page again.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn reload(&self) -> Result<()> {
        Ok(self.driver.refresh().await?)
    }

    /// Opens an address in another tab of the same browser, which then is the one that is used.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn new_tab(&self, url: &str) -> Result<()> {
        let tab = self.driver.new_tab().await?;
        self.driver.switch_to_window(tab).await?;
        self.goto(url).await
    }

    /// Uses the tab that was opened so many tabs after the first.
    ///
    /// # Errors
    /// When there is no such tab.
    pub async fn use_tab(&self, number: usize) -> Result<()> {
        let tabs = self.driver.windows().await?;
        let tab = tabs.into_iter().nth(number).context("no such tab")?;
        Ok(self.driver.switch_to_window(tab).await?)
    }

    /// The address shown.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn address(&self) -> Result<String> {
        Ok(self.driver.current_url().await?.to_string())
    }

    /// Changes size, kind of screen and colours.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn look(&self, look: Look) -> Result<()> {
        let scale = if look.phone { 2 } else { 1 };
        let size = json!({
            "width": look.width, "height": look.height, "deviceScaleFactor": scale, "mobile": look.phone,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await?;
        self.devtools("Emulation.setTouchEmulationEnabled", json!({"enabled": look.phone})).await?;
        let scheme = if look.dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await
    }

    /// Has a script run in every document from now on, before those of the page.
    ///
    /// # Errors
    /// When the browser refuses.
    pub async fn before_every_document(&self, script: &str) -> Result<()> {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).await
    }

    /// A command of the DevTools protocol.
    ///
    /// # Errors
    /// When the browser refuses it.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Result<()> {
        self.driver
            .cdp()
            .send_raw(command, parameters)
            .await
            .with_context(|| command.to_owned())?;
        Ok(())
    }

    /// The value of a script, which may be a promise's.
    ///
    /// # Errors
    /// When the script throws.
    pub async fn value(&self, script: &str) -> Result<Value> {
        let wrapped = format!(
            "const done = arguments[arguments.length - 1]; \
             (async () => {{ {script} }})().then(v => done({{ value: v ?? null }}), e => done({{ \
             error: String(e) }}));"
        );
        let mut answer = self.driver.execute_async(wrapped, Vec::new()).await?.json().clone();
        if let Some(error) = answer.get("error") {
            bail!("{script}: {error}");
        }
        Ok(answer["value"].take())
    }

    /// The text that a person sees.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn text(&self) -> Result<String> {
        Ok(self
            .value("return document.body.innerText")
            .await?
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Waits until a script gives a value other than false or null, and returns it.
    ///
    /// # Errors
    /// When it does not come to that; with what the page showed and said.
    pub async fn wait_for(&self, what: &str, script: &str) -> Result<Value> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            // The page may be between two documents.
            if let Ok(value) = self.value(script).await
                && !matches!(value, Value::Null | Value::Bool(false))
            {
                return Ok(value);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said: Vec<_> =
            self.driver.browser_log().await?.into_iter().map(|entry| entry.message).collect();
        bail!(
            "waited for {what}, but the page shows:\n{}\nand said:\n{}",
            self.text().await?,
            said.join("\n")
        )
    }

    /// Waits until the page shows a text.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_for_text(&self, text: &str) -> Result<()> {
        let script = format!(
            "return document.body.innerText.toLowerCase().includes({})",
            json!(text.to_lowercase())
        );
        self.wait_for(&format!("the text {text:?}"), &script).await?;
        Ok(())
    }

    /// The element that matches a CSS selector, once it is there.
    ///
    /// # Errors
    /// When there is none.
    pub async fn element(&self, selector: &str) -> Result<WebElement> {
        let script = format!("return document.querySelector({}) !== null", json!(selector));
        self.wait_for(selector, &script).await?;
        Ok(self.driver.find(By::Css(selector)).await?)
    }

    /// Clicks an element, once it is there.
    ///
    /// # Errors
    /// When there is none, or something covers it.
    pub async fn click(&self, selector: &str) -> Result<()> {
        // Whoever sees it half behind what stays in place scrolls first.
        let clear = format!(
            "const found = document.querySelector({}); \
             const box = found?.getBoundingClientRect(); \
             const over = box && document.elementFromPoint( \
                 box.left + box.width / 2, box.top + box.height / 2); \
             if (found && !found.contains(over)) \
                 found.scrollIntoView({{ block: 'center', behavior: 'instant' }});",
            json!(selector)
        );
        let element = self.element(selector).await?;
        self.value(&clear).await?;
        element.click().await.with_context(|| format!("clicking {selector}"))
    }

    /// Types into whatever has the focus, as a person at the keyboard does.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn keys(&self, keys: impl Into<TypingData>) -> Result<()> {
        Ok(self.driver.action_chain().send_keys(keys).perform().await?)
    }

    /// A picture of what is seen, as PNG.
    ///
    /// # Errors
    /// When the browser cannot.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        Ok(self.driver.screenshot_as_png().await?)
    }

    /// What the page complained of to the developer: errors, and breaches of its own policy.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let log = self.driver.browser_log().await?;
        let severe = log.into_iter().filter(|entry| entry.level == "SEVERE");
        Ok(severe.map(|entry| entry.message).collect())
    }

    /// Runs axe-core on the page as it is; returns everything that it finds, in words.
    ///
    /// # Errors
    /// When axe-core is not there or fails.
    pub async fn accessibility_problems(&self) -> Result<Vec<String>> {
        let script = axe_script()?;
        // By the driver and not by a tag, which the page's policy would rightly refuse.
        self.driver.execute(script, Vec::new()).await?;
        let found = self
            .value(
                "const found = await axe.run(); \
                 return found.violations.map(v => `${v.id} (${v.impact}): ${v.help}: ` + \
                 v.nodes.map(n => n.html + ' ' + n.failureSummary).join(' | '));",
            )
            .await?;
        let found = found.as_array().context("axe-core gave no list")?;
        Ok(found.iter().map(|problem| problem.as_str().unwrap_or_default().to_owned()).collect())
    }
}

fn axe_script() -> Result<String> {
    let path = env::var_os("VAR_DD_AXE")
        .context("VAR_DD_AXE is not set; `cargo xtask test` fetches axe-core and sets it")?;
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
