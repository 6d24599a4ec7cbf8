//! One picture, and the empty token map in its place before it is drawn.

use yew::prelude::*;

use crate::state::job::{Frame, Place};

/// An empty token map with so many tokens on a side.
pub(crate) fn token_grid(side: u32) -> Html {
    let side = side.max(1);
    let lines: String = (1..side).map(|at| format!("M{at} 0V{side}M0 {at}H{side}")).collect();
    html! {
        <svg
            class="token-grid"
            viewBox={format!("0 0 {side} {side}")}
            aria-hidden="true"
            focusable="false"
        >
            <path class="shade" d={lines.clone()} vector-effect="non-scaling-stroke" />
            <path d={lines} vector-effect="non-scaling-stroke" />
        </svg>
    }
}

/// Properties of [`Layers`].
#[derive(PartialEq, Properties)]
pub(crate) struct LayersProps {
    /// Number of the picture in its job.
    pub(crate) picture: usize,
    /// Name of the job.
    #[prop_or_default]
    pub(crate) job: AttrValue,
    /// What it shows now.
    pub(crate) shown: Option<(Place, Frame)>,
    /// Whether that is the finished picture.
    pub(crate) last: bool,
    /// Side of the token map to show while there is nothing.
    pub(crate) side: u32,
    /// What it shows, in words.
    pub(crate) alternative: AttrValue,
    /// Side of the picture in CSS pixels, where it does not fill its place.
    #[prop_or_default]
    pub(crate) size: Option<AttrValue>,
    /// The element's name for tests.
    #[prop_or("stage-picture".into())]
    pub(crate) testid: AttrValue,
}

/// A picture that fades into the next.
#[component]
pub(crate) fn Layers(props: &LayersProps) -> Html {
    // The picture now and the one before it, which stays beneath while the new one fades in.
    let layers = use_mut_ref(|| (None::<Frame>, None::<Frame>));
    let now = props.shown.as_ref().map(|(_, frame)| frame.clone());
    let beneath = {
        let mut layers = layers.borrow_mut();
        if layers.0 != now {
            let before = layers.0.take();
            *layers = (now.clone(), now.as_ref().and(before));
        }
        layers.1.clone()
    };
    let Some(((pass, scale), frame)) = &props.shown else {
        return html! { <div class="layers empty">{ token_grid(props.side) }</div> };
    };
    html! {
        <div class="layers">
            if let Some(beneath) = beneath {
                <img
                    class="beneath"
                    src={beneath.picture.url().to_owned()}
                    alt=""
                    aria-hidden="true"
                />
            }
            <img
                key={frame.picture.url()}
                class="above"
                src={frame.picture.url().to_owned()}
                alt={props.alternative.clone()}
                draggable="false"
                width={props.size.clone()}
                height={props.size.clone()}
                data-testid={props.testid.clone()}
                data-job={props.job.clone()}
                data-picture={props.picture.to_string()}
                data-seq={frame.seq.to_string()}
                data-pass={pass.to_string()}
                data-scale={scale.to_string()}
                data-last={props.last.to_string()}
            />
        </div>
    }
}
