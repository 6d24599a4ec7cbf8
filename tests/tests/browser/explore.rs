//! Pictures as an instrument: the desk, a family, and the pad.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use var_dd_protocol::{Comparison, JobId, Plan, TokenReport};
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::open_drawn;

const ARROW_LEFT: &str = "\u{e012}";
const ARROW_DOWN: &str = "\u{e015}";

/// Looks that differ for what is touched.
const LOOKS: [Look; 2] = [Look::DESKTOP, Look::PHONE];

async fn check(playground: &Playground, what: &str) -> Result<()> {
    let problems = playground.page.accessibility_problems().await?;
    ensure!(problems.is_empty(), "{what}: {problems:?}");
    let wide = "return document.documentElement.scrollWidth - innerWidth";
    let wide = playground.page.value(wide).await?;
    ensure!(wide.as_i64().is_some_and(|wide| wide <= 0), "{what} scrolls sideways by {wide}");
    Ok(())
}

/// Moves a pointer over the pad, to parts of its width and height.
async fn drag(playground: &Playground, to: &[(f64, f64)]) -> Result<()> {
    let script = format!(
        "const pad = document.querySelector('[data-testid=pad]'); \
         const box = pad.getBoundingClientRect(); \
         pad.setPointerCapture = () => {{}}; \
         const at = (kind, [x, y]) => pad.dispatchEvent(new PointerEvent(kind, {{ \
            bubbles: true, pointerId: 1, buttons: 1, pointerType: 'touch', \
            clientX: box.left + x * box.width, clientY: box.top + y * box.height }})); \
         const places = {}; at('pointerdown', places[0]); \
         for (const place of places) at('pointermove', place); at('pointerup', places.at(-1));",
        json!(to)
    );
    playground.page.value(&script).await.map(drop)
}

#[tokio::test]
async fn a_link_to_a_pad_that_is_not_here_says_so() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let path = "/explore?corners=0-1_1-2_2-3_999-4&at=50-50";
        let playground = Playground::open(browsers, &program, Look::NARROW, path).await?;
        playground.wait_for_attribute("pad", "followed", "true").await?;
        playground.element_appears("pad-link").await?;
        check(&playground, "a strange link").await?;
        // What one then does has an address of its own.
        drag(&playground, &[(0.5, 0.5), (0.6, 0.5)]).await?;
        let gone = "return document.querySelector('[data-testid=pad-link]') === null";
        playground.page.wait_for("the pad as one's own", gone).await?;

        // Any part of it that cannot be read is told with its value, and the others are taken.
        let told = "return document.querySelector('[data-testid=pad-link]').textContent";
        for (path, value, help, pins) in [
            ("/explore?pins=%%%", "“%%%”", "as in 10-90_50-20", "0"),
            ("/explore?pins=1-2_3-4&at=far", "“far”", "as in 40-60", "2"),
            ("/explore?pins=1-2_3-4&corners=1", "“1”", "as in 0-11_1-22_2-33_3-44", "2"),
            ("/explore?model=gone&pins=1-2", "“gone”", "no model", "1"),
            ("/explore?pins=1-2_3-4&pictures=7", "“7”", "25, 50 or 96 pictures", "2"),
        ] {
            let playground = Playground::open(browsers, &program, Look::NARROW, path).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            playground.element_appears("pad-link").await?;
            let words = playground.page.value(told).await?.to_string();
            ensure!(words.contains(value) && words.contains(help), "{path}: {words}");
            playground.wait_for_attribute("pad", "pins", pins).await?;
        }

        let path = "/explore?corners=0-1_1-2_2-3_3-4&at=50-50";
        let playground = Playground::open(browsers, &program, Look::DESKTOP, path).await?;
        playground.wait_for_attribute("pad", "followed", "true").await?;
        ensure!(playground.page.value(gone).await? == true, "a link that is right");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_picture_follows_the_finger_over_the_pad_and_its_link_brings_it_back() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let playground = Playground::open(browsers, &program, look, "/explore").await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            // What chance laid out is the same after a reload.
            let laid_out = playground.attribute("corner-1", "seed").await?;
            let addressed = "return location.search.includes('corners=')";
            playground.page.wait_for("an address of the pad", addressed).await?;
            playground.page.reload().await?;
            playground.wait_for_attribute("corner-1", "seed", &laid_out).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            // Many moves at once: the newest counts, and those between are not drawn.
            let before = count(&playground).await?;
            let moves: Vec<_> = (0..=60).map(|at| (0.1 + f64::from(at) * 0.0125, 0.2)).collect();
            drag(&playground, &moves).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            let drawn = count(&playground).await? - before;
            ensure!((1..=4).contains(&drawn), "{drawn} pictures for one place");
            let place = (
                playground.attribute("pad", "x").await?.parse::<i64>()?,
                playground.attribute("pad", "y").await?.parse::<i64>()?,
            );
            ensure!(place.0 > 80 && (10..25).contains(&place.1), "the pad is at {place:?}");

            // The keys, from where the finger left it.
            playground.page.value("document.querySelector('[data-testid=pad]').focus()").await?;
            playground.page.keys(ARROW_LEFT).await?;
            playground.page.keys(ARROW_DOWN).await?;
            let (x, y) = ((place.0 - 5).to_string(), (place.1 + 5).to_string());
            playground.wait_for_attribute("pad", "x", &x).await?;
            playground.wait_for_attribute("pad", "y", &y).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;

            // Another seed in a corner is another picture.
            let seed = playground.attribute("corner-1", "seed").await?;
            playground.choose("corner-seed-1").await?;
            playground.wait_for_other("corner-1", "seed", &seed).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            let at = format!("return location.search.includes('at={x}-{y}')");
            playground.page.wait_for("an address that says where it is", &at).await?;
            check(&playground, "the pad").await?;

            let corners = playground.attribute("corner-1", "seed").await?;
            let address = playground.page.address().await?;
            let path = address.strip_prefix(&program.url("")).unwrap_or_default();
            let other = Playground::open(browsers, &program, Look::NARROW.dark(), path).await?;
            other.wait_for_attribute("pad", "x", &x).await?;
            other.wait_for_attribute("corner-1", "seed", &corners).await?;
            other.wait_for_attribute("pad", "followed", "true").await?;
            check(&other, "the pad on the narrowest screen").await?;

            // Kept, it is a result like any other.
            playground.choose("pad-keep").await?;
            let job = playground.accepted_after(0).await?;
            playground.wait_for_state(&job, "finished").await?;
        }
        Ok(())
    })
    .await
}

/// Refuses some of the first previews, as a server does whose line is full.
const REFUSING: &str = "const real = window.fetch; let asked = 0; window.fetch = (...of) => { \
    if (!String(of[0]?.url ?? of[0]).endsWith('/api/preview') || ![3, 4, 9].includes(++asked)) \
        return real(...of); \
    const body = { code: 'queue_full', message: 'too many wait', retry_after_s: 1 }; \
    return Promise.resolve(new Response(JSON.stringify(body), { status: 429 })); };";

#[tokio::test]
async fn the_map_fills_while_nothing_is_held_and_begins_anew_with_another_corner() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let playground =
                Playground::open_prepared(browsers, &program, look, "/explore", &[REFUSING])
                    .await?;
            playground.wait_for_attribute("pad", "map", "49").await?;
            check(&playground, "a whole map").await?;
            let seen = "const seen = [...document.querySelectorAll('[data-testid=map-cell]')] \
                .map(cell => cell.src); return new Set(seen).size";
            ensure!(playground.page.value(seen).await? == json!(49), "each cell has its picture");

            // While a finger is on the pad nothing is asked for but the picture under it.
            let hold = |kind: &str| {
                format!(
                    "const pad = document.querySelector('[data-testid=pad]'); \
                     const box = pad.getBoundingClientRect(); pad.setPointerCapture = () => {{}}; \
                     pad.dispatchEvent(new PointerEvent('{kind}', {{ bubbles: true, pointerId: 1, \
                        buttons: 1, clientX: box.left + 50, clientY: box.top + 50 }}))"
                )
            };
            playground.page.value(&hold("pointerdown")).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            let seed = playground.attribute("corner-2", "seed").await?;
            playground.choose("corner-seed-2").await?;
            playground.wait_for_other("corner-2", "seed", &seed).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            playground.wait_for_attribute("pad", "map", "0").await?;
            let (asked, shown) = (previews(&playground).await?, count(&playground).await?);
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            let alone = (previews(&playground).await?, count(&playground).await?);
            ensure!(alone == (asked, shown), "{alone:?} after {asked} and {shown}");
            playground.wait_for_attribute("pad", "map", "0").await?;
            playground.page.value(&hold("pointerup")).await?;
            playground.wait_for_attribute("pad", "map", "49").await?;
        }
        Ok(())
    })
    .await
}

/// Keeps what the page would download.
pub(super) const SAVING: &str = "window.saved = []; const files = new Map(); \
    const made = URL.createObjectURL; URL.createObjectURL = file => { \
        const at = made.call(URL, file); files.set(at, file); return at; }; \
    const press = HTMLElement.prototype.click; \
    HTMLElement.prototype.click = function () { \
        if (this.download) saved.push({ name: this.download, file: files.get(this.href) }); \
        else press.call(this); };";

const END: &str = "\u{e010}";
const DELETE: &str = "\u{e017}";
const ENTER: &str = "\u{e007}";

#[tokio::test]
async fn a_walk_through_pins_is_played_on_the_pad_and_saved_as_a_file() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let playground =
                Playground::open_prepared(browsers, &program, look, "/explore", &[SAVING]).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            let enabled = |id: &str| {
                format!("return document.querySelector('[data-testid={id}]:enabled') !== null")
            };
            ensure!(playground.page.value(&enabled("walk-play")).await? == json!(false), "no pins");
            // By the keys of the pad, then by a double click, then by the button.
            playground.page.value("document.querySelector('[data-testid=pad]').focus()").await?;
            playground.page.keys(ENTER).await?;
            playground.wait_for_attribute("pad", "pins", "1").await?;
            playground.page.keys(END).await?;
            playground.page.keys("p").await?;
            playground.wait_for_attribute("pad", "pins", "2").await?;
            playground.page.keys(DELETE).await?;
            playground.wait_for_attribute("pad", "pins", "1").await?;
            drag(&playground, &[(0.8, 0.2)]).await?;
            let twice = "document.querySelector('[data-testid=pad]') \
                .dispatchEvent(new MouseEvent('dblclick', { bubbles: true }))";
            playground.page.value(twice).await?;
            playground.wait_for_attribute("pad", "pins", "2").await?;
            drag(&playground, &[(0.3, 0.9)]).await?;
            playground.choose("pin").await?;
            playground.wait_for_attribute("pad", "pins", "3").await?;
            check(&playground, "three pins").await?;

            // Played by the space bar; it comes round to its first picture.
            let length = "const list = document.querySelector('[data-testid=walk-length]'); \
                list.selectedIndex = 0; list.dispatchEvent(new Event('change', { bubbles: true }))";
            playground.page.value(length).await?;
            playground.page.value("document.querySelector('[data-testid=pad]').focus()").await?;
            playground.page.keys(" ").await?;
            playground.wait_for_attribute("pad-picture", "step", "24").await?;
            playground.wait_for_attribute("pad-picture", "step", "2").await?;
            check(&playground, "a walk that is played").await?;
            // It stands still while the pad is moved, and asks for nothing more.
            drag(&playground, &[(0.5, 0.5), (0.6, 0.5)]).await?;
            let still = "const picture = document.querySelector('[data-testid=pad-picture]'); \
                return !('step' in picture.dataset)";
            playground.page.wait_for("a walk that stands still", still).await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;

            let files = [
                ("walk-gif", "gif", "GIF89a"),
                ("walk-apng", "png", "PNG"),
                ("walk-mp4", "mp4", "ftyp"),
            ];
            for (button, kind, magic) in files {
                playground.page.value("saved.length = 0").await?;
                playground.choose(button).await?;
                let saved = "if (!saved.length) return false; \
                    const bytes = await saved[0].file.arrayBuffer(); \
                    const text = new TextDecoder('latin1').decode(bytes); \
                    return { name: saved[0].name, head: text.slice(0, 8), \
                        has: text.includes('\"weights\"'), frames: text.split('fcTL').length - 1 }";
                let saved = playground.page.wait_for("a saved file", saved).await?;
                ensure!(saved["name"] == format!("walk.{kind}").as_str(), "{saved}");
                ensure!(saved["head"].as_str().is_some_and(|head| head.contains(magic)), "{saved}");
                ensure!(saved["has"] == json!(true), "the walk is in it: {saved}");
                ensure!(kind != "png" || saved["frames"] == json!(25), "{saved}");
            }
            check(&playground, "a saved walk").await?;

            // The link has the pins.
            let pinned = "return location.search.includes('pins=') && location.href";
            let address = playground.page.wait_for("pins in the address", pinned).await?;
            let address = address.as_str().context("no address")?.to_owned();
            let path = address.strip_prefix(&program.url("")).unwrap_or_default();
            let other = Playground::open(browsers, &program, Look::NARROW.dark(), path).await?;
            other.wait_for_attribute("pad", "pins", "3").await?;
            other.choose("unpin-1").await?;
            other.wait_for_attribute("pad", "pins", "2").await?;
            let (x, y) = {
                other.choose("pin-0").await?;
                (other.attribute("pad", "x").await?, other.attribute("pad", "y").await?)
            };
            ensure!((x.as_str(), y.as_str()) == ("40", "40"), "pin 1 is at {x}, {y}");
            check(&other, "pins on the narrowest screen").await?;
        }
        Ok(())
    })
    .await
}

/// The length of the walk as it is seen, by its place in the list.
const LENGTH: &str = "return document.querySelector('[data-testid=walk-length]').selectedIndex";

#[tokio::test]
async fn the_length_of_a_walk_stays_as_chosen_whatever_becomes_of_its_pins() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/explore").await?;
        playground.wait_for_attribute("pad", "followed", "true").await?;
        ensure!(playground.page.value(LENGTH).await? == 1, "four seconds until one says so");
        let choose = "const list = document.querySelector('[data-testid=walk-length]'); \
            list.selectedIndex = 2; list.dispatchEvent(new Event('change', { bubbles: true }))";
        playground.page.value(choose).await?;
        let is = async |pins: &str, length: i64| {
            playground.wait_for_attribute("pad", "pins", pins).await?;
            let now = playground.page.value(LENGTH).await?;
            ensure!(now == length, "{pins} pins: {now}, and not {length}");
            anyhow::Ok(())
        };
        for (pins, x) in [("1", 0.2), ("2", 0.5), ("3", 0.9)] {
            drag(&playground, &[(x, 0.4)]).await?;
            playground.choose("pin").await?;
            is(pins, 2).await?;
        }
        for (pins, button) in [("2", "unpin-0"), ("1", "unpin-0"), ("0", "unpin-0")] {
            playground.choose(button).await?;
            is(pins, 2).await?;
        }
        for (pins, x) in [("1", 0.3), ("2", 0.6)] {
            drag(&playground, &[(x, 0.7)]).await?;
            playground.choose("pin").await?;
            is(pins, 2).await?;
        }
        // Elsewhere and back, and by its link.
        let kept = "return location.search.includes('pictures=96') && \
            location.search.includes('_') && location.href";
        let address = playground.page.wait_for("a link with all of it", kept).await?;
        playground.goes_to("nav a[href='/']", "/").await?;
        playground.wait_until_ready().await?;
        playground.back().await?;
        is("2", 2).await?;
        let address = address.as_str().context("no address")?.to_owned();
        let path = address.strip_prefix(&program.url("")).unwrap_or_default();
        let other = Playground::open(browsers, &program, Look::NARROW, path).await?;
        other.wait_for_attribute("pad", "pins", "2").await?;
        ensure!(other.page.value(LENGTH).await? == 2, "another length by the link");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_picture_kept_from_the_pad_leads_back_to_its_place_there() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let path = "/explore?corners=0-11_1-22_2-33_3-44&at=20-70";
        let playground = Playground::open(browsers, &program, Look::DESKTOP, path).await?;
        playground.wait_for_attribute("pad", "followed", "true").await?;
        playground.choose("pad-keep").await?;
        let job = playground.accepted_after(0).await?;
        playground.wait_for_state(&job, "finished").await?;
        for (look, place) in [(Look::DESKTOP, ".caption"), (Look::NARROW.dark(), ".on-stage")] {
            let other = Playground::open(browsers, &program, look, &format!("/r/{job}")).await?;
            other.wait_for_state(&job, "finished").await?;
            check(&other, "a result between corners").await?;
            other.page.click(&format!("{place} [data-testid=to-pad] a")).await?;
            other.wait_for_attribute("pad", "followed", "true").await?;
            other.wait_for_attribute("pad", "x", "20").await?;
            other.wait_for_attribute("pad", "y", "70").await?;
            other.wait_for_attribute("corner-2", "seed", "33").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_link_of_the_pad_is_copied_by_its_key() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let path = "/explore?corners=0-11_1-22_2-33_3-44&at=20-70";
        let playground = Playground::open(browsers, &program, Look::DESKTOP, path).await?;
        playground.wait_for_attribute("pad", "followed", "true").await?;
        playground.page.keys("s").await?;
        let told = "return document.querySelector('[data-testid=pad-shared]').textContent !== ''";
        playground.page.wait_for("words of the link", told).await.map(drop)
    })
    .await
}

/// Pictures that the pad has shown.
async fn count(playground: &Playground) -> Result<i64> {
    Ok(playground.attribute("pad", "count").await?.parse()?)
}

/// The words about the difference.
const TOLD: &str = "document.querySelector('[data-testid=desk-told]').innerText";

#[tokio::test]
async fn scales_are_weighed_on_the_desk_and_a_picture_is_drawn_anew_from_one_on() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let (playground, first) = open_drawn(browsers, &program, look, 1).await?;
            let parent = playground.draw().await?;
            playground.wait_until_shown().await?;
            playground.choose("desk-open").await?;
            let same = format!("return {TOLD}.includes('same picture')");
            playground.page.wait_for("the untouched picture", &same).await?;
            ensure!(previews(&playground).await? == 1, "a desk at rest asks once");
            check(&playground, "the desk").await?;
            // Scrolled to, nothing lies over it.
            let free = "const desk = document.querySelector('[data-testid=desk-picture]'); \
                desk.scrollIntoView(); \
                const stage = document.querySelector('[data-testid=stage]'); \
                const fixed = getComputedStyle(stage).position === 'fixed'; \
                const top = element => element.getBoundingClientRect().top; \
                const bar = document.querySelector('.generate-bar'); \
                return innerWidth > 899 || (fixed && top(stage) >= top(bar))";
            playground.page.wait_for("a desk that nothing covers", free).await?;

            playground.fill("gain-1", "0.25").await?;
            let differs = format!("return {TOLD}.includes('dB')");
            playground.page.wait_for("a difference", &differs).await?;
            playground.choose("desk-reset").await?;
            playground.page.wait_for("the untouched picture again", &same).await?;
            playground.choose("mute-0").await?;
            playground.page.wait_for("a difference by a muted scale", &differs).await?;
            playground.choose("mute-0").await?;
            playground.choose("solo-0").await?;
            playground.page.wait_for("a difference by one scale alone", &differs).await?;
            playground.choose("desk-reset").await?;

            // Crossed with the picture before, from the first scale on it is that picture.
            let cross = format!(
                "const list = document.querySelector('[data-testid=cross-with]'); \
                 if (![...list.options].some(option => option.value === '{first}')) return false; \
                 list.value = '{first}'; list.dispatchEvent(new Event('change', {{ bubbles: true }})); \
                 return true"
            );
            playground.page.wait_for("the picture before in the list", &cross).await?;
            playground.element_appears("cut").await?;
            playground.fill("cut", "0").await?;
            playground.page.wait_for("a difference by another picture", &differs).await?;
            check(&playground, "a crossing").await?;
            playground.choose("desk-keep").await?;
            let crossed = playground.accepted_after(2).await?;
            playground.wait_for_state(&crossed, "finished").await?;
            ensure!(family(&playground).await? == json!([parent, first]), "both are its parents");

            // Drawn anew from the fourth scale on: the scales before are the parent's.
            playground.goto(&format!("/r/{parent}")).await?;
            playground.wait_for_state(&parent, "finished").await?;
            playground.choose("desk-open").await?;
            playground.choose("reroll-3").await?;
            let child = playground.accepted_after(0).await?;
            playground.wait_for_state(&child, "finished").await?;
            ensure!(family(&playground).await? == json!([parent]), "its parent is told");
            let named = "return document.querySelector('[data-testid=on-stage]').textContent";
            let named = playground.page.value(named).await?;
            let sides = &program.info().await?.models[0].patch_nums;
            let way = format!("1 student step from {0}×{0} on", sides[3]);
            ensure!(named.as_str().is_some_and(|named| named.contains(&way)), "{named}");
            check(&playground, "a child").await?;
        }
        Ok(())
    })
    .await
}

/// Previews that came since the document was loaded, on the WebSocket or over plain HTTP.
async fn previews(playground: &Playground) -> Result<i64> {
    let count = "return performance.getEntriesByType('resource') \
        .filter(entry => entry.name.endsWith('/api/preview')).length + \
        recorded.frames.filter(frame => frame.job.startsWith('0'.repeat(24))).length";
    let count = playground.page.value(count).await?;
    count.as_i64().with_context(|| format!("{count} is no number"))
}

/// The results in the family strip.
async fn family(playground: &Playground) -> Result<Value> {
    playground.element_appears("family").await?;
    let script =
        "return [...document.querySelectorAll('[data-testid=ancestor]')].map(of => of.dataset.job)";
    playground.page.value(script).await
}

/// The value of the line between two pictures that lie over each other.
const LINE: &str = "document.querySelector('[data-testid=wipe]').value";

/// Whether the words under every map of differences are there, so many of them.
fn told(count: usize) -> String {
    format!(
        "const told = [...document.querySelectorAll('[data-testid=difference-words]')]; \
         return told.length === {count} && \
            told.every(words => /dB|same picture/.test(words.textContent))"
    )
}

#[tokio::test]
async fn any_two_pictures_are_laid_over_each_other_with_a_line_to_drag() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let (playground, first) = open_drawn(browsers, &program, look, 1).await?;
            playground.choose("count-2").await?;
            let pair = playground.draw().await?;
            playground.wait_until_shown().await?;
            playground.choose("swipe-open").await?;
            playground.element_appears("swipe-with").await?;
            playground.page.wait_for("a difference in words", &told(1)).await?;
            let sides = "return ['left', 'right'].map(side => \
                document.querySelector(`[data-testid=swipe-${side}]`).getAttribute('src'))";
            let picture = |job: &JobId, index: usize| {
                json!(format!("/api/results/{job}/pictures/{index}.png"))
            };
            let both = json!([picture(&pair, 1), picture(&pair, 0)]);
            ensure!(playground.page.value(sides).await? == both, "the other of its result first");
            check(&playground, "two pictures over each other").await?;

            // By the keys, then by the pointer on the picture.
            playground.page.value("document.querySelector('[data-testid=wipe]').focus()").await?;
            playground.page.keys(ARROW_LEFT).await?;
            let moved = format!("return {LINE} === '49'");
            playground.page.wait_for("the line a step to the left", &moved).await?;
            let drag = "const square = document.querySelector('[data-testid=wipe-square]'); \
                const box = square.getBoundingClientRect(); square.setPointerCapture = () => {}; \
                for (const [kind, x] of [['pointerdown', 0.5], ['pointermove', 0.8]]) \
                    square.dispatchEvent(new PointerEvent(kind, { bubbles: true, pointerId: 1, \
                        buttons: 1, clientX: box.left + x * box.width, clientY: box.top + 20 }))";
            playground.page.value(drag).await?;
            let moved = format!("return {LINE} === '80'");
            playground.page.wait_for("the line where the pointer is", &moved).await?;
            let cut = "return getComputedStyle(document.querySelector('.wipe-side.over')).clipPath";
            let cut = playground.page.value(cut).await?;
            ensure!(cut.as_str().is_some_and(|cut| cut.contains("80%")), "{cut}");

            // Another picture, from the result before.
            let choose = format!(
                "const list = document.querySelector('[data-testid=swipe-with]'); \
                 list.value = '{first} 0'; \
                 list.dispatchEvent(new Event('change', {{ bubbles: true }}))"
            );
            playground.page.value(&choose).await?;
            let both = json!([picture(&first, 0), picture(&pair, 0)]);
            let is_other = format!(
                "return JSON.stringify((() => {{ {sides} }})()) === {}",
                json!(both.to_string())
            );
            playground.page.wait_for("the picture before", &is_other).await?;
            playground.page.wait_for("their difference in words", &told(1)).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn six_plans_race_on_one_link_and_are_held_against_one_of_them() -> Result<()> {
    let program = Program::start(&[])?;
    let model = program.info().await?.models.remove(0);
    let lists: [&[u32]; 6] = [&[0], &[0, 1], &[0, 2], &[0, 3], &[0, 4], &[0, 2, 4]];
    let plans = lists.map(|list| Plan::FewStep { t_list: list.to_vec(), loss_split_t: 3 });
    let race = Comparison::new(&model.name, 2, &model.classes[2], 11, plans.into());
    with_browsers(async |browsers| {
        for look in [Look::LAPTOP, Look::PHONE] {
            let playground =
                Playground::open(browsers, &program, look, &format!("/{race}")).await?;
            let done = "const columns = \
                [...document.querySelectorAll('[data-testid=compare-column]')]; \
                return columns.length === 6 && \
                    columns.every(column => column.querySelector('.race-times'))";
            playground.page.wait_for("six measured plans", done).await?;
            let against = "const list = document.querySelector('[data-testid=race-against]'); \
                list.selectedIndex = 2; list.dispatchEvent(new Event('change', { bubbles: true }))";
            playground.page.value(against).await?;
            playground.page.wait_for("five differences in words", &told(5)).await?;
            let reference = "const columns = \
                [...document.querySelectorAll('[data-testid=compare-column]')]; \
                return columns.findIndex(column => \
                    column.querySelector('[data-testid=race-reference]'))";
            ensure!(playground.page.value(reference).await? == json!(1), "the second is chosen");
            check(&playground, "six plans").await?;
            // It belongs to the pictures that are seen.
            let over = "const line = document.querySelector('[data-testid=compare-scrubber]'); \
                return Number(line.value) >= Number(line.max) - 0.2";
            playground.page.wait_for("the end of the race", over).await?;
            let words = "[...document.querySelectorAll('[data-testid=difference-words]')]\
                .map(words => words.innerText).join()";
            let of_ends = playground.page.value(&format!("return {words}")).await?;
            // Again and again: what plays may come to its end at the same moment.
            let sought = format!(
                "const line = document.querySelector('[data-testid=compare-scrubber]'); \
                 Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(\
                 line, line.max / 2); \
                 line.dispatchEvent(new Event('input', {{ bubbles: true }})); \
                 return {words} !== {of_ends}"
            );
            playground.page.wait_for("the differences of earlier pictures", &sought).await?;
            playground.choose("compare-wipe").await?;
            playground.page.wait_for("the difference of the two", &told(1)).await?;
            check(&playground, "two of six plans over each other").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_plan_that_fits_a_time_is_offered_by_this_machine_s_own_times() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let (playground, _) = open_drawn(browsers, &program, look, 1).await?;
            let words = "document.querySelector('[data-testid=budget-words]').innerText";
            for (typed, told) in [("0.001", "fastest takes"), ("soon", "milliseconds")] {
                playground.fill("budget", typed).await?;
                let is_told = format!("return {words}.includes('{told}')");
                playground.page.wait_for(told, &is_told).await?;
            }
            playground.fill("budget", "600000").await?;
            playground.choose("budget-take").await?;
            let fits = format!(
                "const chosen = document.querySelector('[name=plan]:checked').closest('label'); \
                 return {words}.startsWith(chosen.querySelector('.plan-name').innerText + ' fits')"
            );
            playground.page.wait_for("the plan that is offered", &fits).await?;
            check(&playground, "a time to fit").await?;
            // Enter takes what is offered, and draws neither that nor what is no time.
            playground.choose("plan-0").await?;
            let before = playground.accepted().await?.len();
            for typed in ["soon", "0.001", "600000"] {
                playground.fill("budget", typed).await?;
                let focus = "document.querySelector('[data-testid=budget]').focus()";
                playground.page.value(focus).await?;
                playground.page.keys(ENTER).await?;
            }
            playground.page.wait_for("the plan that Enter took", &fits).await?;
            let drawn = playground.accepted().await?.len() - before;
            ensure!(drawn == 0, "{look:?}: Enter in the field of a time drew {drawn} results");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_tokens_of_a_place_are_told_by_pointer_tap_and_keys() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in LOOKS {
            let (playground, job) = open_drawn(browsers, &program, look, 1).await?;
            playground.wait_until_shown().await?;
            let address = program.url(&format!("/api/results/{job}/tokens"));
            let report: TokenReport = reqwest::get(address).await?.json().await?;
            let finest = report.scales.last().map_or(1, |scale| scale.side);

            playground.choose("inspector-open").await?;
            playground.element_appears("inspected").await?;
            for (x, y) in [(0.1, 0.1), (0.9, 0.55)] {
                let point = format!(
                    "const square = document.querySelector('[data-testid=inspected]'); \
                     const box = square.getBoundingClientRect(); \
                     square.dispatchEvent(new PointerEvent('pointerdown', {{ bubbles: true, \
                        clientX: box.left + {x} * box.width, clientY: box.top + {y} * box.height }}))"
                );
                playground.page.value(&point).await?;
                let column = ((x * f64::from(finest)) as u32).to_string();
                playground.wait_for_attribute("inspected", "column", &column).await?;
            }
            playground.page.value("document.querySelector('[data-testid=inspected]').focus()").await?;
            let before = playground.attribute("inspected", "row").await?.parse::<u32>()?;
            playground.page.keys(ARROW_DOWN).await?;
            let row = before + 1;
            playground.wait_for_attribute("inspected", "row", &row.to_string()).await?;

            // What is told is what the server computed for the tokens that cover the place.
            let column = playground.attribute("inspected", "column").await?.parse::<u32>()?;
            let told = "return [...document.querySelectorAll('[data-testid=codeword]')].map(of => of.innerText)";
            let told = playground.page.value(told).await?;
            let expected: Vec<String> = report
                .scales
                .iter()
                .map(|scale| {
                    let on = |at: u32| (2 * at + 1) * scale.side / (2 * finest);
                    scale.codes[(on(row) * scale.side + on(column)) as usize].to_string()
                })
                .collect();
            ensure!(told == json!(expected), "{told} instead of {expected:?}");
            check(&playground, "the tokens").await?;
        }
        Ok(())
    })
    .await
}

/// Puts a PNG of colours into the field for files: a picture from a phone, wider than high.
const CHOOSE: &str = "const canvas = document.createElement('canvas'); canvas.width = 300; canvas.height = 200; \
    const paint = canvas.getContext('2d'); \
    for (const [at, colour] of ['#d2691e', '#1e90d2', '#2e8b57', '#faf8f5'].entries()) { \
        paint.fillStyle = colour; paint.fillRect((at % 2) * 150, at > 1 ? 100 : 0, 150, 100); } \
    const blob = await new Promise(done => canvas.toBlob(done, 'image/png')); \
    const data = new DataTransfer(); data.items.add(new File([blob], 'mine.png', { type: 'image/png' })); ";

/// A pointer that goes over the mask, to parts of its width and height.
async fn paint(playground: &Playground, to: &[(f64, f64)]) -> Result<()> {
    let script = format!(
        "const mask = document.querySelector('[data-testid=mask]'); \
         const box = mask.getBoundingClientRect(); mask.setPointerCapture = () => {{}}; \
         const at = (kind, [x, y]) => mask.dispatchEvent(new PointerEvent(kind, {{ \
            bubbles: true, pointerId: 1, buttons: 1, pointerType: 'touch', \
            clientX: box.left + x * box.width, clientY: box.top + y * box.height }})); \
         const places = {}; at('pointerdown', places[0]); \
         for (const place of places) at('pointermove', place); at('pointerup', places.at(-1));",
        json!(to)
    );
    playground.page.value(&script).await.map(drop)
}

/// Largest difference of the two pictures of the bench inside and outside of the left half.
const HALVES: &str = "const pixels = async image => { await image.decode(); \
        const canvas = document.createElement('canvas'); \
        canvas.width = canvas.height = image.naturalWidth; \
        const on = canvas.getContext('2d'); on.drawImage(image, 0, 0); \
        return on.getImageData(0, 0, canvas.width, canvas.width); }; \
    const [after, before] = await Promise.all(['[data-testid=bench-picture]', '.wipe-side:not(.over) img'] \
        .map(of => pixels(document.querySelector(of)))); \
    const sums = [0, 0]; const width = after.width; \
    for (let at = 0; at < after.data.length; at++) { \
        const right = (at >> 2) % width >= width / 2 ? 1 : 0; \
        sums[right] += Math.abs(after.data[at] - before.data[at]); } return sums";

#[tokio::test]
async fn a_picture_of_one_s_own_sharpens_and_is_drawn_anew_under_a_mask() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::PHONE, Look::NARROW.dark()] {
            let playground = Playground::open(browsers, &program, look, "/picture").await?;
            playground.wait_for_attribute("connection", "connection", "open").await?;
            check(&playground, "no picture yet").await?;
            // A file that is none, and a picture of another kind, are refused in words.
            for (kind, told) in [("text/plain", "choose a PNG"), ("image/png", "send a PNG")] {
                let choose = format!(
                    "const data = new DataTransfer(); \
                     data.items.add(new File(['nothing'], 'mine.txt', {{ type: '{kind}' }})); \
                     const field = document.querySelector('[data-testid=own-file]'); \
                     if (field.disabled) return false; field.files = data.files; \
                     field.dispatchEvent(new Event('change', {{ bubbles: true }})); return true"
                );
                playground.page.wait_for("a field for files", &choose).await?;
                playground.page.wait_for_text(told).await?;
            }
            check(&playground, "a refused file").await?;

            let choose = format!(
                "{CHOOSE} const field = document.querySelector('[data-testid=own-file]'); \
                 field.files = data.files; field.dispatchEvent(new Event('change', {{ bubbles: true }}));"
            );
            playground.page.value(&choose).await?;
            playground.element_appears("bench").await?;
            let scales = program.info().await?.models[0].scales();
            let last = (scales - 1).to_string();
            playground.wait_for_attribute("own-picture", "scale", &last).await?;
            playground.fill("own-scale", "1").await?;
            playground.wait_for_attribute("own-picture", "scale", "1").await?;
            playground.fill("own-scale", &last).await?;
            check(&playground, "a picture at hand").await?;

            // The left quarter by finger; then a cell more by the keys.
            playground.choose("mask-broad").await?;
            let down = [(0.05, 0.05), (0.05, 0.95), (0.12, 0.95), (0.12, 0.05)];
            paint(&playground, &down).await?;
            playground.wait_for_attribute("mask", "marked", "32").await?;
            playground.page.value("document.querySelector('[data-testid=mask]').focus()").await?;
            playground.page.keys(ARROW_DOWN).await?;
            playground.page.keys(ARROW_DOWN).await?;
            playground.page.keys(" ").await?;
            playground.wait_for_attribute("mask", "marked", "31").await?;
            playground.page.keys(" ").await?;
            playground.wait_for_attribute("mask", "marked", "32").await?;
            playground.wait_for_attribute("bench-followed", "followed", "true").await?;
            let sums = playground.page.value(HALVES).await?;
            let of = |at: usize| sums[at].as_f64().unwrap_or_default();
            ensure!(of(0) > 2.0 * of(1), "it is drawn on the left and not on the right: {sums}");
            check(&playground, "a mask").await?;

            // The student, another try, the fine scales.
            let before = previews(&playground).await?;
            playground.choose("by-student").await?;
            playground.choose("bench-seed").await?;
            playground.wait_for_attribute("bench-followed", "followed", "true").await?;
            playground.choose("work-reroll").await?;
            playground.fill("reroll-from", "2").await?;
            playground.wait_for_attribute("bench-followed", "followed", "true").await?;
            ensure!(previews(&playground).await? > before, "it is drawn at once");
            check(&playground, "fine scales anew").await?;
            let results = reqwest::get(program.url("/api/results")).await?.json::<Value>().await?;
            let kept = results["results"].as_array().map_or(0, Vec::len);

            // Kept, it is a result that no list has.
            playground.choose("bench-keep").await?;
            let job = playground.accepted_after(0).await?;
            playground.wait_for_state(&job, "finished").await?;
            let results = reqwest::get(program.url("/api/results")).await?.json::<Value>().await?;
            let listed = results["results"].as_array().map_or(0, Vec::len);
            ensure!(listed == kept, "{listed} results are listed, {kept} were before");

            // A part of that result is drawn anew.
            playground.wait_until_shown().await?;
            playground.choose("desk-open").await?;
            playground.choose("desk-edit").await?;
            playground.element_appears("bench").await?;
            paint(&playground, &[(0.5, 0.5), (0.7, 0.5)]).await?;
            playground.wait_for_attribute("bench-followed", "followed", "true").await?;
            playground.choose("bench-keep").await?;
            let child = playground.accepted_after(1).await?;
            playground.wait_for_state(&child, "finished").await?;
            ensure!(family(&playground).await? == json!([job]), "its parent is told");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_picture_is_pasted_or_dropped_and_crossed_with_a_result() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let (playground, other) = open_drawn(browsers, &program, Look::DESKTOP, 1).await?;
        playground.goto("/picture").await?;
        playground.wait_for_attribute("connection", "connection", "open").await?;
        for event in [
            "window.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))",
            "document.querySelector('main').dispatchEvent( \
                new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }))",
        ] {
            playground.page.value(&format!("{CHOOSE} {event}")).await?;
            playground.element_appears("bench").await?;
            playground.choose("work-cross").await?;
            let cross = format!(
                "const list = document.querySelector('[data-testid=cross-with]'); \
                 if (![...list.options].some(option => option.value === '{other}')) return false; \
                 list.value = '{other}'; list.dispatchEvent(new Event('change', {{ bubbles: true }})); \
                 return true"
            );
            playground.page.wait_for("the result in the list", &cross).await?;
            playground.wait_for_attribute("bench-followed", "followed", "true").await?;
            check(&playground, "a crossing with a picture of one's own").await?;
            playground.page.reload().await?;
            playground.wait_for_attribute("connection", "connection", "open").await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_walk_is_saved_from_one_row_of_buttons_and_signs_are_of_one_set() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let path = "/explore?corners=9-5_13-7_1-21_5-4&at=68-72&pins=20-25_70-20";
        let wide = |width, height| Look { width, height, ..Look::DESKTOP };
        for look in [Look::NARROW, Look::PHONE, wide(768, 1024), wide(1366, 768)] {
            let playground = Playground::open(browsers, &program, look, path).await?;
            playground.element_appears("walk-mp4").await?;
            let rows = "return ['gif', 'apng', 'mp4'].map(kind => document.querySelector( \
                `[data-testid=walk-${kind}]`).getBoundingClientRect()) \
                .map(box => [box.top, box.left >= 0 && box.right <= innerWidth])";
            let rows = playground.page.value(rows).await?;
            ensure!(
                rows[0][1] == true && rows[0] == rows[1] && rows[0] == rows[2],
                "{look:?}: {rows}"
            );
            // A button without words has a drawn sign, whatever fonts there are.
            let glyphs = "return [...document.querySelectorAll('button')] \
                .filter(button => /^[^\\p{L}\\p{N}?]+$/u.test(button.textContent.trim())) \
                .map(button => button.outerHTML)";
            let glyphs = playground.page.value(glyphs).await?;
            ensure!(glyphs == json!([]), "{look:?}: {glyphs}");
        }
        Ok(())
    })
    .await
}
