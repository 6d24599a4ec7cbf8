//! Signs for buttons, drawn, so that no font decides what they look like.

use yew::prelude::*;

/// What a sign shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Back,
    Close,
    Dice,
    On,
    Star,
    StarFilled,
}

const STAR: &str = "M10 2.2l2.4 4.9 5.4.8-3.9 3.8.9 5.4-4.8-2.6-4.8 2.6.9-5.4\
    -3.9-3.8 5.4-.8z";

/// A sign of the set; the button says in words what it does.
pub(crate) fn sign(sign: Sign) -> Html {
    let (is_filled, path) = match sign {
        Sign::Back => (false, "M12.5 4L6.5 10l6 6"),
        Sign::On => (false, "M7.5 4l6 6-6 6"),
        Sign::Close => (false, "M4.5 4.5l11 11M15.5 4.5l-11 11"),
        Sign::Dice => (
            true,
            "M5 2h10a3 3 0 0 1 3 3v10a3 3 0 0 1-3 3H5a3 3 0 0 1-3-3V5a3 3 0 0 1 3-3zm0 1.6A1.4 \
             1.4 0 0 0 3.6 5v10A1.4 1.4 0 0 0 5 16.4h10a1.4 1.4 0 0 0 \
             1.4-1.4V5A1.4 1.4 0 0 0 15 3.6zM5.2 6.5a1.3 1.3 0 1 0 2.6 0a1.3 \
             1.3 0 1 0-2.6 0zm7 0a1.3 1.3 0 1 0 2.6 0a1.3 1.3 0 1 0-2.6 0zM8.7 \
             10a1.3 1.3 0 1 0 2.6 0a1.3 1.3 0 1 0-2.6 0zM5.2 13.5a1.3 1.3 0 1 \
             0 2.6 0a1.3 1.3 0 1 0-2.6 0zm7 0a1.3 1.3 0 1 0 2.6 0a1.3 1.3 0 1 \
             0-2.6 0z",
        ),
        Sign::Star => (false, STAR),
        Sign::StarFilled => (true, STAR),
    };
    html! {
        <svg
            class={classes!("sign", (!is_filled).then_some("outlined"))}
            viewBox="0 0 20 20"
            aria-hidden="true"
        >
            <path fill-rule="evenodd" d={path} />
        </svg>
    }
}
