//! Pictures side by side with words around them, as one PNG that says how each was drawn.

use futures_channel::oneshot;
use var_dd_protocol::{PARAMETERS_KEYWORD, SheetParameters, with_texts};
use wasm_bindgen::{JsCast, prelude::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, CanvasRenderingContext2d, HtmlCanvasElement, HtmlImageElement};

use super::download;

/// Room around and between, and for a line of text, in pixels.
const GAP: f64 = 8.0;
const LINE: f64 = 28.0;

/// Most letters of a label.
const LETTERS: usize = 28;

const FONT: &str = "16px system-ui, sans-serif";

/// What is painted.
pub(crate) struct Sheet {
    pub(crate) title: String,
    /// Above each column.
    pub(crate) across: Vec<String>,
    /// Before each row.
    pub(crate) down: Vec<String>,
    /// Side of a picture in pixels.
    pub(crate) side: u32,
    /// Addresses of the pictures, row by row; nothing where there is none.
    pub(crate) pictures: Vec<Option<String>>,
    /// What the file says of itself.
    pub(crate) parameters: SheetParameters,
}

/// Paints a sheet and hands it to the browser as a file of a name. Whether that has room for it.
pub(crate) async fn save_sheet(name: &str, sheet: &Sheet) -> bool {
    match bytes(sheet).await {
        Some(bytes) => download(name, "image/png", &bytes),
        None => false,
    }
}

async fn bytes(sheet: &Sheet) -> Option<Vec<u8>> {
    let blob = painted(sheet).await?;
    let buffer = JsFuture::from(blob.array_buffer()).await.ok()?;
    let png = js_sys::Uint8Array::new(&buffer).to_vec();
    let parameters = serde_json::to_string(&sheet.parameters).ok()?;
    let texts = [("Title", sheet.title.clone()), (PARAMETERS_KEYWORD, parameters)];
    Some(with_texts(&png, &texts))
}

async fn painted(sheet: &Sheet) -> Option<Blob> {
    let document = web_sys::window()?.document()?;
    let canvas: HtmlCanvasElement = document.create_element("canvas").ok()?.dyn_into().ok()?;
    let context = || {
        let context = canvas.get_context("2d").ok()??;
        context.dyn_into::<CanvasRenderingContext2d>().ok()
    };
    let cut = |text: &str| text.chars().take(LETTERS).collect::<String>();
    let measure = context()?;
    measure.set_font(FONT);
    let width = |text: &str| measure.measure_text(&cut(text)).map_or(0.0, |size| size.width());
    let widest = |labels: &[String]| labels.iter().map(|label| width(label)).fold(0.0, f64::max);
    // Small pictures give their labels room.
    let side = f64::from(sheet.side);
    let cell = side.max(widest(&sheet.across));
    let left = match widest(&sheet.down) {
        0.0 => GAP,
        widest => widest + 2.0 * GAP,
    };
    let top = 2.0 * LINE + GAP;
    let (columns, rows) = (sheet.across.len().max(1), sheet.down.len().max(1));
    canvas.set_width((left + columns as f64 * (cell + GAP)) as u32);
    canvas.set_height((top + rows as f64 * (side + GAP)) as u32);
    let paper = context()?;
    paper.set_fill_style_str("#faf8f5");
    paper.fill_rect(0.0, 0.0, f64::from(canvas.width()), f64::from(canvas.height()));
    paper.set_fill_style_str("#1d1b18");
    paper.set_font(FONT);
    paper.set_text_baseline("middle");
    paper.fill_text(&sheet.title, GAP, LINE / 2.0 + GAP / 2.0).ok()?;
    for (at, label) in sheet.across.iter().enumerate() {
        let x = left + at as f64 * (cell + GAP);
        paper.fill_text(&cut(label), x, 1.5 * LINE + GAP / 2.0).ok()?;
    }
    for (at, label) in sheet.down.iter().enumerate() {
        let y = top + at as f64 * (side + GAP) + side / 2.0;
        paper.fill_text(&cut(label), GAP, y).ok()?;
    }
    for (at, address) in sheet.pictures.iter().enumerate() {
        let Some(address) = address else { continue };
        let image = HtmlImageElement::new().ok()?;
        image.set_src(address);
        // One that cannot be read leaves its place empty.
        if JsFuture::from(image.decode()).await.is_err() {
            continue;
        }
        let x = left + (at % columns) as f64 * (cell + GAP);
        let y = top + (at / columns) as f64 * (side + GAP);
        paper.draw_image_with_html_image_element_and_dw_and_dh(&image, x, y, side, side).ok()?;
    }
    let (tell, told) = oneshot::channel();
    let done = Closure::once_into_js(move |blob: Option<Blob>| {
        // Nobody waits any more when the page is left.
        let _ = tell.send(blob);
    });
    canvas.to_blob(done.unchecked_ref()).ok()?;
    told.await.ok()?
}
