//! A picture over the whole window: enlarged, with its numbers, from scale to scale and from
//! picture to picture by buttons, keys and swipes.

use std::rc::Rc;

use web_sys::{HtmlDialogElement, HtmlElement};
use yew::prelude::*;

use super::{Layers, Sign, share::use_share, sign};
use crate::{
    hooks::{Playing, letters_are_keys, sign_of},
    state::{job::Job, words},
};

/// How far a finger goes for a swipe, in CSS pixels.
const SWIPE: i32 = 48;

/// How large a picture is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zoom {
    /// As large as the window allows.
    Fit,
    /// So many CSS pixels for each of its own.
    Times(u32),
}

impl Zoom {
    const ALL: [Self; 5] =
        [Self::Fit, Self::Times(1), Self::Times(2), Self::Times(4), Self::Times(8)];

    fn words(self) -> String {
        match self {
            Self::Fit => "fit".into(),
            Self::Times(1) => "1:1".into(),
            Self::Times(times) => format!("{times}×"),
        }
    }

    /// The one `by` further on, at most the first or last.
    fn stepped(self, by: isize) -> Self {
        let at = Self::ALL.iter().position(|&zoom| zoom == self).unwrap_or(0);
        Self::ALL[at.saturating_add_signed(by).min(Self::ALL.len() - 1)]
    }
}

/// Properties of [`Lightbox`].
#[derive(PartialEq, Properties)]
pub(crate) struct LightboxProps {
    pub(crate) job: Rc<Job>,
    pub(crate) playing: Playing,
    /// The picture brought forward, if any.
    pub(crate) forward: Option<usize>,
    pub(crate) on_forward: Callback<Option<usize>>,
    /// Whether pixels are shown as squares.
    pub(crate) crisp: bool,
    pub(crate) on_pixels: Callback<bool>,
    pub(crate) on_close: Callback<()>,
}

/// A dialog over the whole window; open while it is there.
#[component]
pub(crate) fn Lightbox(props: &LightboxProps) -> Html {
    let LightboxProps { job, playing, forward, .. } = props;
    let dialog = use_node_ref();
    let zoom = use_state_eq(|| Zoom::Fit);
    // Where a finger went down.
    let down = use_mut_ref(|| None::<(i32, i32)>);
    {
        let dialog = dialog.clone();
        use_effect_with((), move |()| {
            if let Some(dialog) = dialog.cast::<HtmlDialogElement>() {
                // It is in the document and closed, so that nothing can go wrong.
                let _ = dialog.show_modal();
                // As a whole: its first control would take the arrow keys for itself.
                let _ = dialog.focus();
            }
        });
    }
    let count = job.frames.len();
    let picture = forward.unwrap_or(0).min(count - 1);
    let timeline = &playing.timeline;
    let at = playing.tile.unwrap_or(0).min(timeline.tiles.len().saturating_sub(1));
    let shown = timeline.frame_at(job, picture, at);
    let tile = timeline.tiles.get(at);
    let words = tile.map(|tile| words::tile(tile, timeline)).unwrap_or_default();
    let share = use_share(Some(job), (count > 1).then_some(picture));
    let step_picture = {
        let on_forward = props.on_forward.clone();
        Callback::from(move |by: isize| {
            let next = picture.saturating_add_signed(by).min(count - 1);
            if next != picture || count > 1 {
                on_forward.emit(Some(next));
            }
        })
    };
    let step_scale = {
        let playing = playing.clone();
        Callback::from(move |by: isize| playing.step(by))
    };
    let step_zoom = {
        let zoom = zoom.clone();
        Callback::from(move |by: isize| zoom.set(zoom.stepped(by)))
    };
    let onkeydown = {
        let (step_picture, step_scale, step_zoom) =
            (step_picture.clone(), step_scale.clone(), step_zoom.clone());
        let (on_pixels, crisp, playing) = (props.on_pixels.clone(), props.crisp, playing.clone());
        Callback::from(move |event: KeyboardEvent| {
            if event.ctrl_key() || event.alt_key() || event.meta_key() {
                return;
            }
            match sign_of(&event).as_str() {
                "+" | "=" | "-" | "p" if !letters_are_keys() => return,
                "+" | "=" => step_zoom.emit(1),
                "-" => step_zoom.emit(-1),
                "p" => on_pixels.emit(!crisp),
                _ if has_own_arrows(&event) => return,
                "ArrowLeft" => step_scale.emit(-1),
                "ArrowRight" => step_scale.emit(1),
                "ArrowUp" | "PageUp" => step_picture.emit(-1),
                "ArrowDown" | "PageDown" => step_picture.emit(1),
                "Home" => step_scale.emit(isize::MIN / 2),
                "End" => step_scale.emit(isize::MAX / 2),
                " " if event.repeat() => {}
                " " if !is_button(&event) => playing.toggle(),
                _ => return,
            }
            event.prevent_default();
            event.stop_propagation();
        })
    };
    let onpointerdown = {
        let down = down.clone();
        Callback::from(move |event: PointerEvent| {
            *down.borrow_mut() = Some((event.client_x(), event.client_y()));
        })
    };
    let onpointerup = {
        let (down, step_picture, step_scale) = (down, step_picture.clone(), step_scale.clone());
        // An enlarged picture is moved about, not swiped away.
        let swipes = *zoom == Zoom::Fit;
        Callback::from(move |event: PointerEvent| {
            let Some((x, y)) = down.borrow_mut().take().filter(|_| swipes) else { return };
            let (x, y) = (event.client_x() - x, event.client_y() - y);
            if x.abs() > SWIPE && x.abs() > 2 * y.abs() {
                // To the left for the next: of several pictures, else of the scales.
                let by = -x.signum() as isize;
                if count > 1 { step_picture.emit(by) } else { step_scale.emit(by) }
            } else if y.abs() > SWIPE && y.abs() > 2 * x.abs() {
                step_scale.emit(-y.signum() as isize);
            }
        })
    };
    let press = |step: &Callback<isize>, by: isize| step.reform(move |_: MouseEvent| by);
    let is_any =
        |tiles: std::ops::Range<usize>| tiles.into_iter().any(|tile| playing.is_drawn(tile));
    let (has_before, has_after) = (is_any(0..at), is_any(at + 1..timeline.tiles.len()));
    let size = match *zoom {
        Zoom::Fit => None,
        Zoom::Times(times) => Some((job.about.image_size * times).to_string()),
    };
    let press_share = share.press.reform(|_: MouseEvent| ());
    let close = {
        let dialog = dialog.clone();
        Callback::from(move |_: MouseEvent| {
            if let Some(dialog) = dialog.cast::<HtmlDialogElement>() {
                dialog.close();
            }
        })
    };
    html! {
        <dialog
            ref={dialog}
            class="lightbox"
            tabindex="-1"
            data-testid="lightbox"
            data-picture={picture.to_string()}
            data-zoom={zoom.words()}
            aria-label={format!("{}, enlarged", job.about.class_name)}
            onclose={props.on_close.reform(|_: Event| ())}
            {onkeydown}
        >
            <div class="lightbox-bar">
                <p class="lightbox-name">
                    <strong>{ &job.about.class_name }</strong>
                    if count > 1 { <span>{ format!(" · {} of {count}", picture + 1) }</span> }
                </p>
                <div class="segments" role="radiogroup" aria-label="Size">
                    { for Zoom::ALL.into_iter().map(|choice| {
                        let zoom = zoom.clone();
                        let checked = *zoom == choice;
                        html! {
                            <label key={choice.words()}>
                                <input
                                    type="radio"
                                    name="zoom"
                                    {checked}
                                    onchange={Callback::from(move |_: Event| zoom.set(choice))}
                                />
                                <span>{ choice.words() }</span>
                            </label>
                        }
                    }) }
                </div>
                <button
                    type="button"
                    class={classes!(props.crisp.then_some("on"))}
                    aria-pressed={props.crisp.to_string()}
                    onclick={{
                        let crisp = props.crisp;
                        props.on_pixels.reform(move |_: MouseEvent| !crisp)
                    }}
                >{ "Crisp pixels" }</button>
                <button type="button" data-testid="share-this" onclick={press_share}>
                    { "Share this one" }
                </button>
                <button
                    type="button"
                    class="lightbox-close"
                    data-testid="lightbox-close"
                    onclick={close}
                >{ "Close" }</button>
            </div>
            <div
                class={classes!("lightbox-picture", props.crisp.then_some("crisp"), size.is_some().then_some("enlarged"))}
                // A region that scrolls is reached by the keyboard.
                tabindex={size.is_some().then_some("0")}
                {onpointerdown}
                {onpointerup}
            >
                <Layers
                    {picture}
                    job={job.id().to_string()}
                    shown={shown.map(|(place, frame)| (place, frame.clone()))}
                    last={shown.map(|(place, _)| place) == timeline.tiles.last().map(|tile| tile.place)}
                    side={tile.map_or(1, |tile| tile.side)}
                    alternative={words::alternative(&job.about, picture, tile.map(|tile| tile.side))}
                    testid="lightbox-image"
                    {size}
                />
            </div>
            <p class="scale-caption">{ words }</p>
            <div class="lightbox-bar">
                // At an end a button does nothing; disabled, it would lose the focus.
                if count > 1 {
                    <div class="steps" role="group" aria-label="Pictures">
                        <button
                            type="button"
                            data-testid="previous-picture"
                            aria-disabled={(picture == 0).then_some("true")}
                            onclick={press(&step_picture, -1)}
                        >{ sign(Sign::Back) }{ "Picture" }</button>
                        <button
                            type="button"
                            data-testid="next-picture"
                            aria-disabled={(picture + 1 == count).then_some("true")}
                            onclick={press(&step_picture, 1)}
                        >{ "Picture" }{ sign(Sign::On) }</button>
                    </div>
                }
                <div class="steps" role="group" aria-label="Scales">
                    <button
                        type="button"
                        data-testid="previous-scale"
                        aria-disabled={(!has_before).then_some("true")}
                        onclick={press(&step_scale, -1)}
                    >{ sign(Sign::Back) }{ "Scale" }</button>
                    <button
                        type="button"
                        data-testid="next-scale"
                        aria-disabled={(!has_after).then_some("true")}
                        onclick={press(&step_scale, 1)}
                    >{ "Scale" }{ sign(Sign::On) }</button>
                </div>
            </div>
            { share.card }
        </dialog>
    }
}

/// Whether what was reached by the keyboard moves by arrows itself: the choice of sizes, and an
/// enlarged picture. After a click they stay the way through scales and pictures.
fn has_own_arrows(event: &KeyboardEvent) -> bool {
    let target = event.target_dyn_into::<HtmlElement>();
    target.is_some_and(|target| {
        target.matches(":is(input, .enlarged):focus-visible").unwrap_or(false)
    })
}

/// Whether the key went to a button, which has a use of its own for it.
fn is_button(event: &KeyboardEvent) -> bool {
    event
        .target_dyn_into::<HtmlElement>()
        .is_some_and(|target| matches!(target.tag_name().as_str(), "BUTTON" | "INPUT"))
}
