//! Play again, hold, and how fast.

use yew::prelude::*;

use crate::{hooks::Playing, state::player::Pace};

/// Properties of [`PlayerBar`].
#[derive(PartialEq, Properties)]
pub(crate) struct PlayerBarProps {
    pub(crate) playing: Playing,
}

/// The buttons of the player.
#[component]
pub(crate) fn PlayerBar(props: &PlayerBarProps) -> Html {
    let playing = &props.playing;
    let toggle = {
        let playing = playing.clone();
        Callback::from(move |_: MouseEvent| playing.toggle())
    };
    let (testid, sign, label) = if playing.is_playing() {
        ("hold", html! { <path d="M6 4h3v12H6zM11 4h3v12h-3z" /> }, "Hold")
    } else {
        ("play", html! { <path d="M6 4l10 6-10 6z" /> }, "Play")
    };
    html! {
        <div class="player">
            <button type="button" class="quiet" data-testid={testid} onclick={toggle} disabled={playing.tile.is_none()}>
                <svg class="sign" viewBox="0 0 20 20" aria-hidden="true">{ sign }</svg>
                { label }
            </button>
            <div class="segments" role="radiogroup" aria-label="Pace">
                { for Pace::ALL.into_iter().map(|pace| draw_pace(pace, playing)) }
            </div>
        </div>
    }
}

fn draw_pace(pace: Pace, playing: &Playing) -> Html {
    let (testid, label, title) = match pace {
        Pace::True => ("pace-true", "true speed", "As fast as it was drawn"),
        Pace::Slow => ("pace-slow", "slowed", "Five times slower than it was drawn"),
        Pace::Scales => ("pace-scales", "by scale", "The same time for every scale"),
    };
    let onchange = {
        let playing = playing.clone();
        Callback::from(move |_: Event| playing.play_at(pace))
    };
    html! {
        <label key={testid} title={title}>
            <input type="radio" name="pace" data-testid={testid} checked={playing.pace() == pace} {onchange} />
            <span>{ label }</span>
        </label>
    }
}
