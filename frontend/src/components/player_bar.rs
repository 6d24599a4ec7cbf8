//! Play again, pause, skip the show, and how fast.

use yew::prelude::*;

use super::help;
use crate::{
    hooks::Playing,
    state::{glossary::Term, player::Pace},
};

/// The buttons of the player.
pub(crate) fn player_bar(playing: &Playing) -> Html {
    let toggle = {
        let playing = playing.clone();
        Callback::from(move |_: MouseEvent| playing.toggle())
    };
    let (testid, sign, label) = if playing.is_focusing() {
        ("skip", "M4 4l7 6-7 6zM12 4h3v12h-3z", "Skip")
    } else if playing.is_playing() {
        ("pause", "M6 4h3v12H6zM11 4h3v12h-3z", "Pause")
    } else {
        ("play", "M6 4l10 6-10 6z", "Play")
    };
    html! {
        <div class="player">
            // One button in three states: the focus stays where it is.
            <button
                type="button"
                class="play"
                data-testid={testid}
                onclick={toggle}
                disabled={playing.tile.is_none() && !playing.is_focusing()}
            >
                <svg class="sign" viewBox="0 0 20 20" aria-hidden="true"><path d={sign} /></svg>
                { label }
            </button>
            <div class="segments" role="radiogroup" aria-label="Pace">
                { for Pace::ALL.into_iter().map(|pace| draw_pace(pace, playing)) }
            </div>
            { help(Term::Pace) }
        </div>
    }
}

fn draw_pace(pace: Pace, playing: &Playing) -> Html {
    let (testid, label, meaning) = match pace {
        Pace::True => ("pace-true", "true speed", "Play as fast as it was drawn"),
        Pace::Slow => ("pace-slow", "slowed", "Play five times slower than it was drawn"),
        Pace::Scales => ("pace-scales", "by scale", "Play every scale for the same time"),
    };
    // A click and not a change: the pace that is chosen already plays again.
    let onclick = {
        let playing = playing.clone();
        Callback::from(move |_: MouseEvent| playing.play_at(pace))
    };
    html! {
        <label key={testid}>
            <input
                type="radio"
                name="pace"
                data-testid={testid}
                aria-label={meaning}
                checked={playing.pace() == pace}
                {onclick}
            />
            <span>{ label }</span>
        </label>
    }
}
