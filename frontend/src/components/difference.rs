//! Where two pictures differ, and by how much.

use wasm_bindgen::JsCast;
use web_sys::{CanvasRenderingContext2d, Element, HtmlCanvasElement, HtmlImageElement};
use yew::prelude::*;

use crate::state::desk::{difference_in_words, psnr};

/// Properties of [`Difference`].
#[derive(PartialEq, Properties)]
pub(crate) struct DifferenceProps {
    /// Address of one picture.
    pub(crate) of: AttrValue,
    /// Address of the other.
    pub(crate) to: AttrValue,
    /// What it is called, under it.
    #[prop_or(AttrValue::Static("what differs, four times as bright"))]
    pub(crate) caption: AttrValue,
    /// Told how far they lie apart, in words; they stand under the map if nobody is.
    #[prop_or_default]
    pub(crate) on_told: Option<Callback<String>>,
}

/// The map of the difference of two pictures, four times as bright, and their peak signal-to-noise
/// ratio.
#[component]
pub(crate) fn Difference(props: &DifferenceProps) -> Html {
    // The words of another pair are not those of this one.
    let pair = (props.of.clone(), props.to.clone());
    let told = use_state_eq(|| (pair.clone(), String::new()));
    let onload = {
        let (told, on_told, pair) = (told.setter(), props.on_told.clone(), pair.clone());
        Callback::from(move |event: Event| {
            let Some(words) = measured(&event) else { return };
            match &on_told {
                Some(on_told) => on_told.emit(words),
                None => told.set((pair.clone(), words)),
            }
        })
    };
    let words = if told.0 == pair { told.1.clone() } else { String::new() };
    html! {
        <figure class="difference-of">
            <div class="desk-square difference">
                <img src={props.of.clone()} alt="" onload={onload.clone()} />
                <img class="over" src={props.to.clone()} alt="" {onload} />
            </div>
            <figcaption>{ &props.caption }</figcaption>
            if props.on_told.is_none() {
                <figcaption class="difference-words" data-testid="difference-words">
                    { words }
                </figcaption>
            }
        </figure>
    }
}

/// How far two pictures lie apart, in words, once both are there.
fn measured(event: &Event) -> Option<String> {
    let square = event.target_dyn_into::<Element>()?.closest(".difference").ok()??;
    let pixels = |selector: &str| {
        let image = square.query_selector(selector).ok()??.dyn_into::<HtmlImageElement>().ok()?;
        let (width, height) = (image.natural_width(), image.natural_height());
        if !image.complete() || width == 0 {
            return None;
        }
        let document = image.owner_document()?;
        let canvas: HtmlCanvasElement = document.create_element("canvas").ok()?.dyn_into().ok()?;
        canvas.set_width(width);
        canvas.set_height(height);
        let context: CanvasRenderingContext2d = canvas.get_context("2d").ok()??.dyn_into().ok()?;
        context.draw_image_with_html_image_element(&image, 0.0, 0.0).ok()?;
        let data = context.get_image_data(0.0, 0.0, width.into(), height.into()).ok()?;
        Some(((width, height), data.data().0))
    };
    let (one, other) = (pixels("img:not(.over)")?, pixels("img.over")?);
    Some(if one.0 == other.0 {
        difference_in_words(psnr(&one.1, &other.1))
    } else {
        format!("{} pixels wide and {}: no pixel to pixel difference", one.0.0, other.0.0)
    })
}
