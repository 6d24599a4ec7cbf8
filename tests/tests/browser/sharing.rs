//! Results that leave the page: as files, and in frames of other sites.

use anyhow::{Result, ensure};
use serde_json::json;
use var_dd_tests::{
    browser::{Look, with_browsers},
    playground::Playground,
    program::Program,
};

use crate::set_up;

#[tokio::test]
async fn a_result_leaves_as_one_file_from_the_menu() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        set_up(&playground, 0, 2).await?;
        playground.draw().await?;
        playground.wait_until_shown().await?;
        playground.choose("downloads").await?;
        let fetched = "const found = []; \
            for (const name of ['export-gif', 'export-apng', 'export-webp', 'export-mp4', \
                'export-filmstrip', \
                'export-sheet', 'qr']) { \
                const link = document.querySelector(`[data-testid=${name}]`); \
                const response = await fetch(link.href); \
                found.push(`${response.status} ${response.headers.get('content-type')}`); \
            } \
            return found";
        let found = playground.page.value(fetched).await?;
        ensure!(
            found
                == json!([
                    "200 image/gif",
                    "200 image/apng",
                    "200 image/webp",
                    "200 video/mp4",
                    "200 image/png",
                    "200 image/png",
                    "200 image/svg+xml"
                ]),
            "{found}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn files_are_as_large_as_is_chosen_and_crisp_or_smooth_as_the_stage() -> Result<()> {
    let program = Program::start(&[])?;
    let side = program.info().await?.models[0].image_size;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        set_up(&playground, 0, 1).await?;
        playground.draw().await?;
        playground.wait_until_shown().await?;
        playground.choose("downloads").await?;
        let file = "const load = async name => { \
                const link = document.querySelector(`[data-testid=${name}]`); \
                const picture = await createImageBitmap(await (await fetch(link.href)).blob()); \
                const canvas = new OffscreenCanvas(picture.width, picture.height); \
                const context = canvas.getContext('2d'); \
                context.drawImage(picture, 0, 0); \
                const colours = new Set(); \
                const { data } = context.getImageData(0, 0, picture.width, picture.height); \
                for (let at = 0; at < data.length; at += 4) \
                    colours.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]); \
                return [picture.width, colours.size]; }; \
            return [await load('download'), await load('export-webp')]";
        let drawn = playground.page.value(file).await?;
        ensure!(drawn[0][0] == json!(side) && drawn[1][0] == json!(side), "{drawn}");
        let choose = "const list = document.querySelector('[data-testid=download-size]'); \
            list.selectedIndex = 2; \
            list.dispatchEvent(new Event('change', { bubbles: true })); \
            return list.options[2].textContent";
        playground.page.value(choose).await?;
        let larger = "return document.querySelector('[data-testid=download]') \
            .href.includes('scale=4')";
        playground.page.wait_for("larger files", larger).await?;
        let smooth = playground.page.value(file).await?;
        ensure!(smooth[0][0] == json!(4 * side) && smooth[1][0] == json!(4 * side), "{smooth}");
        ensure!(smooth[0][1] != drawn[0][1], "as many colours as drawn: {smooth}, {drawn}");
        playground.page.value("document.querySelector('[data-testid=pixels]').click()").await?;
        let crisp = "return !document.querySelector('[data-testid=download]') \
            .href.includes('smooth')";
        playground.page.wait_for("crisp files", crisp).await?;
        let crisp = playground.page.value(file).await?;
        ensure!(crisp[0] == json!([4 * side, drawn[0][1]]), "{crisp}, {drawn}");
        let problems = playground.page.accessibility_problems().await?;
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_video_plays_and_ends_with_the_finished_picture() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        set_up(&playground, 0, 1).await?;
        let job = playground.draw().await?;
        // As addresses of their own data, for another page: this one allows no video.
        let data = format!(
            "const data = async path => {{ \
                const blob = await (await fetch(path)).blob(); \
                return await new Promise(done => {{ \
                    const reader = new FileReader(); \
                    reader.onload = () => done(reader.result); \
                    reader.readAsDataURL(blob); }}); }}; \
             return await Promise.all([ \
                '/api/results/{job}/export?as=mp4&pace=even', \
                '/api/results/{job}/pictures/0.png'].map(data))"
        );
        let files = playground.page.value(&data).await?;
        playground.page.goto("about:blank").await?;
        // A frame that was sought is there a moment after the browser says so.
        let played = format!(
            "const [video_data, picture_data] = {files}; \
             const video = document.createElement('video'); \
             const event = name => new Promise((done, fail) => {{ \
                video.addEventListener(name, done, {{ once: true }}); \
                video.addEventListener('error', () => fail(video.error.message)); }}); \
             const loaded = event('loadeddata'); \
             video.muted = true; video.src = video_data; await loaded; \
             const pixels = source => {{ \
                const canvas = document.createElement('canvas'); \
                canvas.width = video.videoWidth; canvas.height = video.videoHeight; \
                const context = canvas.getContext('2d'); \
                context.drawImage(source, 0, 0); \
                return context.getImageData(0, 0, canvas.width, canvas.height).data; }}; \
             const picture = new Image(); picture.src = picture_data; await picture.decode(); \
             const off = () => {{ \
                const [one, other] = [pixels(video), pixels(picture)]; \
                let sum = 0; \
                for (let at = 0; at < one.length; at++) sum += Math.abs(one[at] - other[at]); \
                return sum / one.length * 4 / 3; }}; \
             const seek = async time => {{ \
                const sought = event('seeked'); video.currentTime = time; await sought; }}; \
             await seek(0.1); \
             const first = off(); \
             await seek(video.duration - 0.5); \
             for (let n = 0; n < 100 && off() >= 6; n++) {{ \
                await new Promise(later => setTimeout(later, 50)); }} \
             const last = off(); \
             const ended = event('ended'); await video.play(); await ended; \
             return {{ width: video.videoWidth, height: video.videoHeight, \
                natural: picture.naturalWidth, ms: Math.round(video.duration * 1000), \
                first, last, end: off() }}"
        );
        let played = playground.page.value(&played).await?;
        let info = program.info().await?;
        let model = &info.models[0];
        let side = json!(model.image_size);
        ensure!(played["width"] == side && played["height"] == side, "{played}");
        ensure!(played["natural"] == side, "{played}");
        let ms = 400 * (model.patch_nums.len() - 1) + 2000;
        ensure!(played["ms"] == json!(ms), "{ms} ms: {played}");
        let off = |name: &str| played[name].as_f64().unwrap_or(f64::MAX);
        ensure!(off("last") < 6.0 && off("end") < 6.0, "another picture at its end: {played}");
        ensure!(off("first") > 3.0 * off("last"), "the first scale is the last: {played}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_player_plays_in_a_frame_and_shows_any_scale_without_a_script() -> Result<()> {
    let program = Program::start(&[])?;
    with_browsers(async |browsers| {
        let playground = Playground::open(browsers, &program, Look::DESKTOP, "/").await?;
        playground.wait_until_ready().await?;
        set_up(&playground, 0, 1).await?;
        let job = playground.draw().await?;
        for look in [Look::DESKTOP, Look::DESKTOP.dark(), Look::PHONE, Look::NARROW] {
            playground.page.look(look).await?;
            playground.goto(&format!("/embed/{job}")).await?;
            // What is opaque and uppermost; the finished picture, once all have been played.
            let seen = "return [...document.querySelectorAll('.stage img')] \
                .map(image => getComputedStyle(image).opacity).join('')";
            let count = playground.page.value("return document.images.length").await?;
            let count = count.as_u64().unwrap_or_default() as usize;
            ensure!(count > 3, "{count} scales");
            let at_end = format!("{}1", "0".repeat(count - 1));
            let ended = format!("{seen} === {}", json!(at_end));
            playground.page.wait_for("the finished picture", &ended).await?;
            // By the keyboard, as any choice.
            playground.page.click("label:first-of-type input").await?;
            let first = format!("1{}", "0".repeat(count - 1));
            let shown = playground.page.value(seen).await?;
            ensure!(shown == json!(first), "{look:?}: {shown}");
            playground.page.keys("\u{e014}").await?;
            let shown = playground.page.value(seen).await?;
            ensure!(shown == json!(format!("01{}", "0".repeat(count - 2))), "{look:?}: {shown}");
            let loaded = "return [...document.images].every(image => image.naturalWidth > 0)";
            playground.page.wait_for("every scale", loaded).await?;
            let problems = playground.page.accessibility_problems().await?;
            ensure!(problems.is_empty(), "{look:?}:\n{}", problems.join("\n"));
            let too_wide =
                "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
            ensure!(playground.page.value(too_wide).await? == false, "{look:?}: too wide");
        }
        let complaints = playground.page.complaints().await?;
        let of_policy: Vec<_> =
            complaints.iter().filter(|complaint| complaint.contains("Content Security")).collect();
        ensure!(of_policy.is_empty(), "{of_policy:?}");
        Ok(())
    })
    .await
}
