//! A downloaded picture that comes back: its settings, and whether it is what they draw.

use anyhow::{Result, ensure};
use serde_json::json;
use var_dd_protocol::{Comparison, JobId};
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::set_up;

/// Ways by which a file comes to the page.
const WAYS: [&str; 3] = [
    "window.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))",
    "document.querySelector('header').dispatchEvent( \
        new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }))",
    "const input = document.querySelector('[data-testid=open-file]'); input.files = data.files; \
     input.dispatchEvent(new Event('change', { bubbles: true }))",
];

/// Brings a file to the page, whose bytes a script makes.
async fn open(playground: &Playground, bytes: &str, media_type: &str, way: &str) -> Result<()> {
    let script = format!(
        "const load = async path => new Uint8Array(await (await fetch(path)).arrayBuffer()); \
         const bytes = await (async () => {{ {bytes} }})(); \
         const data = new DataTransfer(); \
         data.items.add(new File([bytes], 'a picture.png', {{ type: '{media_type}' }})); {way}"
    );
    playground.page.value(&script).await.map(drop)
}

/// A result of class 3 with seed 99, the second preset and two pictures.
async fn drawn(playground: &Playground) -> Result<JobId> {
    set_up(playground, 1, 2).await?;
    playground.choose_class(3).await?;
    playground.fill("seed", "99").await?;
    let job = playground.draw().await?;
    Ok(job)
}

async fn check(playground: &Playground, what: &str) -> Result<()> {
    let problems = playground.page.accessibility_problems().await?;
    ensure!(problems.is_empty(), "{what}: {problems:?}");
    let wide = "return document.documentElement.scrollWidth - innerWidth";
    let wide = playground.page.value(wide).await?;
    ensure!(wide.as_i64().is_some_and(|wide| wide <= 0), "{what} scrolls sideways by {wide}");
    let covered = "const card = document.querySelector('[data-testid=opened]') \
            .getBoundingClientRect(); \
        return ['.stage-slot', '.player', '.actions', '.strip', '.generate-bar'].filter(name => { \
            const box = document.querySelector(name).getBoundingClientRect(); \
            return card.left < box.right && box.left < card.right \
                && card.top < box.bottom && box.top < card.bottom; })";
    let covered = playground.page.value(covered).await?;
    ensure!(covered == json!([]), "{what} covers {covered}");
    Ok(())
}

/// Whether the file that was opened is seen on the stage.
const SHOWN: &str = "const shown = \
        document.querySelector('[data-testid=stage] [data-testid=opened-picture]'); \
    return shown?.naturalWidth > 0 || shown?.videoWidth > 0";

async fn settings(playground: &Playground) -> Result<[String; 2]> {
    let class = playground.attribute("class-search", "class").await?;
    Ok([class, playground.attribute("seed", "value").await?])
}

#[tokio::test]
async fn a_downloaded_picture_brings_its_settings_back_and_is_the_one_they_draw() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let giver = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        let job = drawn(&giver).await?;
        let file = format!("return load('/api/results/{job}/pictures/1.png?download=1')");
        for (look, way) in [Look::DESKTOP, Look::PHONE.dark(), Look::NARROW].into_iter().zip(WAYS) {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            open(&playground, &file, "image/png", way).await?;
            playground.element_appears("opened").await?;
            playground.wait_for_attribute("class-search", "class", "3").await?;
            ensure!(settings(&playground).await? == ["3", "99"], "{look:?}: other settings");
            let chosen = "return document.querySelector('[data-testid=plan-1]').checked && \
                document.querySelector('[data-testid=count-2]').checked";
            ensure!(playground.page.value(chosen).await? == true, "{look:?}: other plan or count");
            playground.page.wait_for_text("2 of 2").await?;
            // It is what is on the stage, and named there.
            playground.page.wait_for("the file on the stage", SHOWN).await?;
            playground.page.wait_for_text("The file that you opened: a picture.png").await?;
            let others = "return document.querySelectorAll('[data-testid=stage-picture]').length";
            ensure!(playground.page.value(others).await? == 0, "{look:?}: another picture");
            check(&playground, &format!("the card, {look:?}")).await?;

            // By the keyboard.
            let focus = "document.querySelector('[data-testid=opened-verify]').focus()";
            playground.page.value(focus).await?;
            playground.page.keys("\u{e007}").await?;
            playground.page.wait_for_text("equal to the bit").await?;
            let again = "return document.querySelector('[data-testid=opened-verify]').disabled";
            ensure!(playground.page.value(again).await? == true, "what is known is asked again");
            check(&playground, &format!("the verdict, {look:?}")).await?;
            playground.choose("opened-close").await?;
            let left = "return document.querySelector('[data-testid=opened]') === null && \
                document.activeElement?.dataset.testid === 'open-file'";
            playground.page.wait_for("the focus back at the button", left).await?;
            playground.element_appears("stage-picture").await?;
            // The settings draw the same picture again.
            let again = playground.draw().await?;
            let same = format!(
                "const [one, other] = await Promise.all(['{job}', '{again}'].map(async job => \
                    new Uint8Array(await (await fetch( \
                        `/api/results/${{job}}/pictures/1.png`)).arrayBuffer()))); \
                 return one.length === other.length && one.every((byte, at) => byte === other[at])"
            );
            ensure!(playground.page.value(&same).await? == true, "another picture");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_picture_that_is_not_what_its_settings_draw_is_told_by_how_much() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        let job = drawn(&playground).await?;
        // The pixels of one picture with the text of the other.
        let mixed = format!(
            "const [one, other] = await Promise.all([0, 1].map(at => \
                load(`/api/results/{job}/pictures/${{at}}.png?download=1`))); \
             const pixels = file => {{ for (let at = 33; ; ) {{ \
                const length = new DataView(file.buffer).getUint32(at); \
                if (String.fromCharCode(...file.slice(at + 4, at + 8)) === 'IDAT') return at; \
                at += length + 12; }} }}; \
             return new Uint8Array([...other.slice(0, pixels(other)), ...one.slice(pixels(one))])"
        );
        open(&playground, &mixed, "image/png", WAYS[1]).await?;
        playground.click("opened-verify").await?;
        playground.page.wait_for_text("the largest difference of a colour value is").await?;
        check(&playground, "a difference").await
    })
    .await
}

#[tokio::test]
async fn exports_bring_their_settings_back_and_animations_are_verified_by_their_end() -> Result<()>
{
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let giver = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        let job = drawn(&giver).await?;
        for (way, (kind, media_type, words)) in [
            ("webp", "image/webp", None),
            ("apng", "image/apng", None),
            ("gif", "image/gif", Some("256 colours")),
            ("mp4", "video/mp4", Some("with loss")),
            ("sheet", "image/png", Some("side by side")),
            ("filmstrip", "image/png", Some("side by side")),
        ]
        .into_iter()
        .enumerate()
        {
            let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
            playground.wait_until_ready().await?;
            let file = format!("return load('/api/results/{job}/export?as={kind}')");
            open(&playground, &file, media_type, WAYS[way % WAYS.len()]).await?;
            playground.element_appears("opened-verdict").await?;
            ensure!(settings(&playground).await? == ["3", "99"], "{kind}: other settings");
            playground.page.wait_for(&format!("the {kind} on the stage"), SHOWN).await?;
            match words {
                Some(words) => {
                    playground.page.wait_for_text("It cannot be verified").await?;
                    playground.page.wait_for_text(words).await?;
                    let button =
                        "return document.querySelector('[data-testid=opened-verify]') === null";
                    ensure!(playground.page.value(button).await? == true, "{kind} can be verified");
                }
                None => {
                    playground.choose("opened-verify").await?;
                    playground.page.wait_for_text("equal to the bit").await?;
                }
            }
            check(&playground, kind).await?;
            // What is drawn next takes its place.
            playground.draw().await?;
            let gone = "return document.querySelector('[data-testid=opened-picture]') === null";
            ensure!(playground.page.value(gone).await? == true, "{kind} stays on the stage");
        }
        Ok(())
    })
    .await
}

/// Keeps what the page hands to the browser as a download.
const CATCH: &str = "window.kept = []; const make = URL.createObjectURL; \
    URL.createObjectURL = blob => { \
        if (blob.type === 'image/png') window.kept.push(blob); return make(blob); };";

/// The bytes of a download that was kept, as a script that gives them to another page.
async fn kept(playground: &Playground) -> Result<String> {
    let bytes = "if (!window.kept.length) return null; \
        return [...new Uint8Array(await window.kept[0].arrayBuffer())]";
    let bytes = playground.page.wait_for("the sheet", bytes).await?;
    Ok(format!("return new Uint8Array({bytes})"))
}

#[tokio::test]
async fn a_sheet_of_a_comparison_or_a_grid_leads_back_to_it() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let model = program.info().await?.models.remove(0);
        let plans: Vec<_> = model.plans.iter().take(2).map(|preset| preset.plan.clone()).collect();
        let class = model.classes[3].clone();
        let comparison = Comparison::new(&model.name, 3, &class, 99, plans);
        let grid = "grid?across=seed%3A+99-100&down=class%3A+3%2C4";
        for (place, sheet, full) in [
            (comparison.to_string(), "compare-sheet", "compare-again"),
            (grid.to_owned(), "grid-sheet", "grid-share"),
        ] {
            let address = format!("/{place}");
            let giver =
                Playground::open_prepared(browsers, &program, Look::DESKTOP, &address, &[CATCH])
                    .await?;
            if sheet == "grid-sheet" {
                giver.wait_for_attribute("grid-told", "there", "4").await?;
            }
            let ready = format!(
                "return document.querySelector('[data-testid={full}]:enabled') !== null && \
                    document.querySelector('[data-testid={sheet}]:enabled') !== null"
            );
            giver.page.wait_for("a full sheet", &ready).await?;
            // The pictures themselves are blobs, too.
            giver.page.value("window.kept.length = 0").await?;
            giver.choose(sheet).await?;
            let bytes = kept(&giver).await?;

            let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
            playground.wait_until_ready().await?;
            open(&playground, &bytes, "image/png", WAYS[1]).await?;
            playground.element_appears("opened-page").await?;
            ensure!(settings(&playground).await? == ["3", "99"], "{place}: other settings");
            playground.page.wait_for_text("A sheet is painted here").await?;
            check(&playground, &place).await?;
            playground.choose("opened-page").await?;
            match sheet {
                "grid-sheet" => playground.wait_for_attribute("grid-told", "there", "4").await?,
                _ => playground.element_appears("compare-column").await?,
            }
            let there = playground.page.address().await?;
            ensure!(there.ends_with(&place), "{there} is not {place}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_saved_walk_opens_again_with_its_pins_and_its_length() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let path = "/explore?corners=0-11_1-22_2-33_3-44&at=20-70&pins=20-70_90-10_50-50\
            &pictures=25";
        let scripts = [crate::explore::SAVING];
        let giver =
            Playground::open_prepared(browsers, &program, Look::DESKTOP, path, &scripts).await?;
        giver.wait_for_attribute("pad", "pins", "3").await?;
        for (kind, media_type, look) in [
            ("gif", "image/gif", Look::DESKTOP),
            ("apng", "image/apng", Look::NARROW.dark()),
            ("mp4", "video/mp4", Look::PHONE),
        ] {
            giver.page.value("saved.length = 0").await?;
            giver.choose(&format!("walk-{kind}")).await?;
            let bytes = "if (!saved.length) return null; \
                return [...new Uint8Array(await saved[0].file.arrayBuffer())]";
            let bytes = giver.page.wait_for("the walk", bytes).await?;
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            let bytes = format!("return new Uint8Array({bytes})");
            open(&playground, &bytes, media_type, WAYS[1]).await?;
            playground.page.wait_for_text("Open the walk").await?;
            playground.page.wait_for("the walk on the stage", SHOWN).await?;
            check(&playground, &format!("a walk as {kind}, {look:?}")).await?;
            playground.choose("opened-page").await?;
            playground.wait_for_attribute("pad", "pins", "3").await?;
            playground.wait_for_attribute("pad", "followed", "true").await?;
            let seen = "const at = name => document.querySelector(`[data-testid=${name}]`); \
                return [at('pad').dataset.x, at('pad').dataset.y, at('corner-3').dataset.seed, \
                    at('pin-1').title, at('walk-length').selectedIndex]";
            let seen = playground.page.value(seen).await?;
            let expected = json!(["20", "70", "44", "90 % across, 10 % down", 0]);
            ensure!(seen == expected, "{kind}: {seen}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_file_without_settings_is_told_plainly_and_one_can_go_on_from_it() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        for look in [Look::DESKTOP, Look::NARROW.dark()] {
            let playground = Playground::open(browsers, &program, look, "/").await?;
            playground.wait_until_ready().await?;
            let before = settings(&playground).await?;
            // Whatever it is called: a text, and a picture that is cut off.
            let cut = "return new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10, 0, 0])";
            for (bytes, media_type, words) in [
                ("return 'no picture'", "text/plain", "Only PNG, WebP, GIF and MP4 files say"),
                ("return 'no picture'", "image/png", "Only PNG, WebP, GIF and MP4 files say"),
                (cut, "image/png", "cut off"),
            ] {
                open(&playground, bytes, media_type, WAYS[1]).await?;
                playground.page.wait_for_text(words).await?;
                let link = "return document.querySelector('[data-testid=opened-go-on]') === null";
                ensure!(playground.page.value(link).await? == true, "{media_type} to go on from");
                let none = "return document.querySelector('[data-testid=opened-picture]') === null";
                ensure!(playground.page.value(none).await? == true, "{media_type} on the stage");
                playground.choose("opened-close").await?;
            }

            let drawn = "const canvas = document.createElement('canvas'); \
                canvas.width = 90; canvas.height = 60; \
                canvas.getContext('2d').fillRect(10, 10, 30, 30); \
                const blob = await new Promise(done => canvas.toBlob(done, 'image/png')); \
                return await blob.arrayBuffer()";
            open(&playground, drawn, "image/png", WAYS[0]).await?;
            playground.page.wait_for_text("It does not say how it was drawn").await?;
            ensure!(settings(&playground).await? == before, "settings came from nowhere");
            playground.page.wait_for("the picture on the stage", SHOWN).await?;
            check(&playground, "a file without settings").await?;
            playground.choose("opened-go-on").await?;
            playground.element_appears("bench").await?;
            ensure!(playground.page.address().await?.ends_with("/picture"), "another place");
        }
        Ok(())
    })
    .await
}
