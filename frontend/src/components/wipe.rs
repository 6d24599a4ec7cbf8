//! Two pictures, one over the other, with a line to drag between them.

use web_sys::{Element, HtmlElement, HtmlInputElement, HtmlSelectElement};
use yew::prelude::*;

/// Properties of [`Wipe`].
#[derive(PartialEq, Properties)]
pub(crate) struct WipeProps {
    pub(crate) left: Html,
    pub(crate) right: Html,
    /// Names of all pictures that there are.
    pub(crate) names: Vec<String>,
    /// The two that lie over each other.
    pub(crate) pair: (usize, usize),
    /// What stands for a name under its picture, where none can be chosen; the name if absent.
    #[prop_or_default]
    pub(crate) captions: Vec<Html>,
    /// Where others can be chosen: the new pair.
    #[prop_or_default]
    pub(crate) on_pair: Option<Callback<(usize, usize)>>,
}

/// Two pictures, one over the other, and a line to drag between them.
#[component]
pub(crate) fn Wipe(props: &WipeProps) -> Html {
    let over = use_node_ref();
    let percent = use_state_eq(|| 50.0_f64);
    {
        let over = over.clone();
        use_effect_with(*percent, move |percent| {
            if let Some(over) = over.cast::<HtmlElement>() {
                // The style sheet says what it is for.
                let _ = over.style().set_property("--wipe", &format!("{percent}%"));
            }
        });
    }
    let oninput = {
        let percent = percent.setter();
        Callback::from(move |event: InputEvent| {
            percent.set(event.target_unchecked_into::<HtmlInputElement>().value_as_number());
        })
    };
    let drag = |takes_hold: bool| {
        let (percent, over) = (percent.setter(), over.clone());
        Callback::from(move |event: PointerEvent| {
            let Some(square) = over.cast::<Element>().filter(|_| event.buttons() & 1 == 1) else {
                return;
            };
            if takes_hold {
                // It hears of the pointer until it is let go, wherever it is.
                let _ = square.set_pointer_capture(event.pointer_id());
            }
            let place = square.get_bounding_client_rect();
            let part = (f64::from(event.client_x()) - place.left()) / place.width().max(1.0);
            percent.set((100.0 * part).round().clamp(0.0, 100.0));
        })
    };
    let (left, right) = props.pair;
    let choice = |label: &'static str, chosen: usize, other: usize, is_left: bool| {
        let Some(on_pair) = props.on_pair.clone() else {
            let caption = props.captions.get(chosen).cloned();
            return caption.unwrap_or_else(|| html! { <span>{ &props.names[chosen] }</span> });
        };
        let onchange = Callback::from(move |event: Event| {
            let input: HtmlSelectElement = event.target_unchecked_into();
            let picked = input.selected_index().max(0) as usize;
            // Choosing the other one changes sides.
            let other = if picked == other { chosen } else { other };
            on_pair.emit(if is_left { (picked, other) } else { (other, picked) });
        });
        html! {
            <label>
                <span class="unseen">{ label }</span>
                <select {onchange}>
                    { for props.names.iter().enumerate().map(|(index, name)| html! {
                        <option key={index} selected={index == chosen}>{ name }</option>
                    }) }
                </select>
            </label>
        }
    };
    // Captions name the sides already.
    let label = |name: &str| {
        let name = props.captions.is_empty().then(|| name.to_owned());
        html! {
            if let Some(name) = name { <span class="wipe-label" aria-hidden="true">{ name }</span> }
        }
    };
    html! {
        <div class="wipe">
            <div
                class="square"
                ref={over.clone()}
                data-testid="wipe-square"
                onpointerdown={drag(true)}
                onpointermove={drag(false)}
            >
                <div class="wipe-side">
                    { props.left.clone() }
                    { label(&props.names[left]) }
                </div>
                <div class="wipe-side over">
                    { props.right.clone() }
                    { label(&props.names[right]) }
                </div>
                <div class="wipe-line" aria-hidden="true"></div>
            </div>
            <input
                type="range"
                min="0"
                max="100"
                value={percent.to_string()}
                data-testid="wipe"
                aria-valuetext={format!("at {percent} %", percent = *percent)}
                aria-label={format!("Line between {} and {}", props.names[left], props.names[right])}
                {oninput}
            />
            <div class="wipe-names">
                { choice("On the left", left, right, true) }
                { choice("On the right", right, left, false) }
            </div>
        </div>
    }
}
