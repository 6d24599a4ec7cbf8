//! The seed, with dice and lock.

use web_sys::HtmlInputElement;
use yew::prelude::*;

use super::{Sign, explain_as, sign};
use crate::{
    hooks::{Key, use_keys},
    state::{custom_plan::Problem, glossary::Term},
};

/// Properties of [`SeedField`].
#[derive(PartialEq, Properties)]
pub(crate) struct SeedFieldProps {
    /// As typed.
    pub(crate) seed: String,
    /// Whether it stays from picture to picture.
    pub(crate) locked: bool,
    /// Which picture it is for, in words.
    pub(crate) told: Option<&'static str>,
    pub(crate) problem: Option<Problem>,
    pub(crate) on_type: Callback<String>,
    pub(crate) on_dice: Callback<()>,
    pub(crate) on_lock: Callback<bool>,
}

/// A field for the seed.
#[component]
pub(crate) fn SeedField(props: &SeedFieldProps) -> Html {
    let oninput = props.on_type.reform(|event: InputEvent| {
        let input: HtmlInputElement = event.target_unchecked_into();
        input.value()
    });
    let locked = props.locked;
    let on_dice = props.on_dice.reform(|_: MouseEvent| ());
    {
        let on_dice = props.on_dice.clone();
        use_keys(Callback::from(move |key| {
            let wanted = key == Key::NewSeed;
            if wanted {
                on_dice.emit(());
            }
            wanted
        }));
    }
    html! {
        <div class="field">
            <div class="label-line">
                <label for="seed">{ "Seed" }</label>
                { explain_as(Term::Seed, "what is a seed?") }
            </div>
            <div class="with-buttons">
                <input
                    id="seed"
                    data-testid="seed"
                    type="text"
                    inputmode="numeric"
                    autocomplete="off"
                    spellcheck="false"
                    value={props.seed.clone()}
                    aria-invalid={props.problem.is_some().to_string()}
                    aria-describedby={match (&props.problem, props.told) {
                        (Some(_), _) => Some("seed-problem"),
                        (None, Some(_)) => Some("seed-told"),
                        (None, None) => None,
                    }}
                    {oninput}
                />
                <button
                    type="button"
                    class="quiet"
                    data-testid="seed-dice"
                    onclick={on_dice}
                    aria-label="New seed"
                    title="New seed (r)"
                >
                    { sign(Sign::Dice) }
                </button>
                <button
                    type="button"
                    class={classes!("quiet", locked.then_some("on"))}
                    data-testid="seed-lock"
                    onclick={props.on_lock.reform(move |_: MouseEvent| !locked)}
                    aria-pressed={locked.to_string()}
                    aria-label="Keep the seed"
                    title={if locked { "Every picture uses this seed" } else { "Every picture \
                        gets a new seed" }}
                >
                    <svg class="sign" viewBox="0 0 20 20" aria-hidden="true">
                        if locked {
                            <path fill-rule="evenodd" d="M6 9V6.5a4 4 0 0 1 8 0V9h1v9H5V9zm1.6 \
                                0h4.8V6.5a2.4 2.4 0 0 0-4.8 0z" />
                        } else {
                            <path fill-rule="evenodd" d="M6 9V6.5a4 4 0 0 1 7.5-2l-1.4.8A2.4 \
                                2.4 0 0 0 7.6 6.5V9H15v9H5V9zm.600 1.6v5.8h6.8v-5.8z" />
                        }
                    </svg>
                </button>
            </div>
            if let Some(problem) = &props.problem {
                <p id="seed-problem" class="problem">{ &problem.message }</p>
            } else if let Some(told) = props.told {
                <p id="seed-told" class="hint" data-testid="seed-told">{ told }</p>
            }
        </div>
    }
}
