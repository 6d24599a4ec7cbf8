//! How many pictures.

use yew::prelude::*;

use super::help;
use crate::state::glossary::Term;

/// Buttons from one to the most.
pub(crate) fn count_picker(most: u32, chosen: u32, on_choose: &Callback<u32>) -> Html {
    html! {
        <fieldset class="field">
            <legend>{ "Pictures" }</legend>
            { help(Term::Count) }
            <div class="segments wide">
                { for (1..=most).map(|count| {
                    let onchange = on_choose.reform(move |_: Event| count);
                    html! {
                        <label key={count}>
                            <input
                                type="radio"
                                name="count"
                                data-testid={format!("count-{count}")}
                                checked={count == chosen}
                                {onchange}
                            />
                            <span>{ count }</span>
                        </label>
                    }
                }) }
            </div>
        </fieldset>
    }
}
