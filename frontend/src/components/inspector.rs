//! The tokens of a finished picture: those that cover a place, scale by scale.

use std::rc::Rc;

use var_dd_protocol::{ErrorBody, JobId, TokenReport};
use wasm_bindgen_futures::spawn_local;
use web_sys::Element;
use yew::prelude::*;

use super::tools::FoldedProps;
use crate::{
    api,
    state::{
        job::Job,
        tokens::{Place, cell},
        words::{self, size},
    },
};

/// A picture and its tokens.
type Whose = Option<(JobId, usize)>;

/// The tokens, which are computed when they are wanted.
#[component]
pub(super) fn Inspector(props: &FoldedProps) -> Html {
    let job = props.finished();
    let place = use_state_eq(Place::default);
    let told = use_state_eq(|| None::<(Whose, Result<Rc<TokenReport>, ErrorBody>)>);
    let whose = job.map(|job| (job.id().clone(), props.picture));
    {
        let told = told.setter();
        use_effect_with(whose.clone(), move |whose| {
            let Some((job, picture)) = whose.clone() else { return };
            spawn_local(async move {
                let report = api::tokens(&job, picture).await.map(Rc::new);
                told.set(Some((Some((job, picture)), report)));
            });
        });
    }
    match (job, &*told) {
        _ if whose.is_none() => Html::default(),
        (Some(job), Some((of, Ok(report)))) if *of == whose => {
            draw(job, props.picture, report, &place)
        }
        (_, Some((of, Err(error)))) if *of == whose => {
            html! { <p class="problem">{ words::refusal(error) }</p> }
        }
        _ => html! { <p class="hint">{ "Looking into it…" }</p> },
    }
}

fn draw(
    job: &Job,
    picture: usize,
    report: &Rc<TokenReport>,
    place: &UseStateHandle<Place>,
) -> Html {
    let finest = report.scales.last().map_or(1, |scale| scale.side.max(1));
    let at = place.within(finest);
    let go = {
        let place = place.setter();
        Callback::from(move |to: Place| place.set(to))
    };
    // A mouse looks where it is, a finger where it taps.
    let look = go.reform(move |event: PointerEvent| {
        let square = event.target_dyn_into::<Element>();
        let square = square.and_then(|target| target.closest(".inspected").ok().flatten());
        let Some(square) = square else { return at };
        let around = square.get_bounding_client_rect();
        Place::of_parts(
            (f64::from(event.client_x()) - around.left()) / around.width().max(1.0),
            (f64::from(event.client_y()) - around.top()) / around.height().max(1.0),
            finest,
        )
    });
    let onkeydown = {
        let go = go.clone();
        Callback::from(move |event: KeyboardEvent| {
            let (x, y) = match event.key().as_str() {
                _ if event.ctrl_key() || event.alt_key() || event.meta_key() => return,
                "ArrowLeft" => (-1, 0),
                "ArrowRight" => (1, 0),
                "ArrowUp" => (0, -1),
                "ArrowDown" => (0, 1),
                _ => return,
            };
            event.prevent_default();
            event.stop_propagation();
            go.emit(at.moved(x, y, finest));
        })
    };
    let outlines = report.scales.iter().map(|scale| {
        let (column, row) = at.on(scale.side, finest);
        let side = f64::from(finest) / f64::from(scale.side.max(1));
        html! {
            <rect
                key={scale.side}
                x={format!("{:.3}", f64::from(column) * side)}
                y={format!("{:.3}", f64::from(row) * side)}
                width={format!("{side:.3}")}
                height={format!("{side:.3}")}
                vector-effect="non-scaling-stroke"
            />
        }
    });
    let rows = report.scales.iter().map(|scale| {
        let token = cell(scale, at.on(scale.side, finest));
        let law = token.and_then(|token| scale.laws.get(token));
        let top = law.map(|law| {
            let chances = law.top.iter();
            // A codeword is not torn from its chance.
            let chances = chances
                .map(|of| format!("{}\u{a0}({:.0}\u{a0}%)", of.code, 100.0 * of.probability));
            chances.collect::<Vec<_>>().join(", ")
        });
        html! {
            <tr key={scale.side}>
                <th scope="row">{ size(scale.side) }</th>
                <td data-testid="codeword">
                    { token.and_then(|token| scale.codes.get(token)).map(ToString::to_string) }
                </td>
                <td>
                    { token.and_then(|token| scale.distances.get(token)).map(|distance| format!("{distance:.2}")) }
                </td>
                <td>{ law.map(|law| format!("{:.1}", law.entropy_bits)) }</td>
                <td>{ top }</td>
            </tr>
        }
    });
    let words = format!("row {} and column {} of {}", at.row + 1, at.column + 1, size(finest));
    html! {
        <>
            <p class="hint">
                { "Point at a place, tap it, or move by the arrow keys: one token of each scale \
                   covers it." }
            </p>
            <div
                class="inspected"
                role="slider"
                tabindex="0"
                aria-label="Place in the picture"
                aria-valuemin="0"
                aria-valuemax={(finest * finest - 1).to_string()}
                aria-valuenow={(at.row * finest + at.column).to_string()}
                aria-valuetext={words.clone()}
                data-testid="inspected"
                data-column={at.column.to_string()}
                data-row={at.row.to_string()}
                onpointerdown={look.clone()}
                onpointermove={look}
                {onkeydown}
            >
                <img src={api::picture_path(job.id(), picture)} alt="" draggable="false" />
                <svg viewBox={format!("0 0 {finest} {finest}")} aria-hidden="true">
                    { for outlines }
                </svg>
            </div>
            <p class="hint" data-testid="inspected-place">{ words }</p>
            // A region that scrolls is reached by the keyboard.
            <div class="token-table" tabindex="0" role="region" aria-label="Tokens at this place">
                <table data-testid="tokens">
                    <thead><tr>
                        <th scope="col">{ "scale" }</th>
                        <th scope="col">{ "codeword" }</th>
                        <th scope="col">{ "distance" }</th>
                        <th scope="col">{ "entropy, bits" }</th>
                        <th scope="col">{ "most likely codewords" }</th>
                    </tr></thead>
                    <tbody>{ for rows }</tbody>
                </table>
            </div>
        </>
    }
}
