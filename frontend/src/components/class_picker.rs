//! The class: search as you type, by keyboard or pointer.

use std::rc::Rc;

use var_dd_protocol::{ModelInfo, classes};
use wasm_bindgen::JsCast;
use web_sys::{Element, HtmlInputElement};
use yew::prelude::*;

use super::help;
use crate::{
    api,
    hooks::{Key, is_composing, random_below, use_keys},
    state::{
        glossary::Term,
        words::{self, counted},
    },
};

/// Options drawn at once.
const SHOWN: usize = 60;

/// Properties of [`ClassPicker`].
#[derive(PartialEq, Properties)]
pub(crate) struct ClassPickerProps {
    /// The model whose classes they are.
    pub(crate) model: Rc<ModelInfo>,
    /// The chosen one.
    pub(crate) chosen: usize,
    pub(crate) on_choose: Callback<usize>,
}

/// A combo box of classes.
#[component]
pub(crate) fn ClassPicker(props: &ClassPickerProps) -> Html {
    // What was typed, while the list is open.
    let typed = use_state_eq(|| None::<String>);
    let active = use_state_eq(|| 0_usize);
    // Why what was typed chose nothing.
    let missed = use_state_eq(|| None::<String>);
    let list = use_node_ref();
    let input = use_node_ref();
    let found = use_memo(((*typed).clone(), props.model.clone()), |(typed, model)| {
        typed.as_ref().map(|typed| classes::search(&model.classes, typed)).unwrap_or_default()
    });
    let shown = &found[..found.len().min(SHOWN)];
    {
        let list = list.clone();
        use_effect_with((*active, typed.is_some()), move |_| keep_active_in_sight(&list));
    }

    {
        let input = input.clone();
        use_keys(Callback::from(move |key| {
            let wanted = key == Key::Search;
            if let Some(input) = input.cast::<HtmlInputElement>().filter(|_| wanted) {
                // An element of the document takes the focus or stays as it is.
                let _ = input.focus();
            }
            wanted
        }));
    }
    let active_at_first = props.chosen.min(SHOWN - 1);
    let open = {
        let (typed, active, missed) = (typed.clone(), active.clone(), missed.setter());
        Callback::from(move |()| {
            missed.set(None);
            typed.set(Some(String::new()));
            // Without anything typed all are listed in order.
            active.set(active_at_first);
        })
    };
    let close = {
        let typed = typed.clone();
        Callback::from(move |()| typed.set(None))
    };
    // Whoever goes on with half a name typed has it, if it leaves no doubt, or is told.
    let leave = {
        let (typed, missed, found) = (typed.clone(), missed.setter(), found.clone());
        let (model, on_choose) = (props.model.clone(), props.on_choose.clone());
        Callback::from(move |_: FocusEvent| {
            let text = typed.as_deref().unwrap_or_default().trim();
            let class = classes::of_text(&model.classes, text);
            missed.set(
                (!text.is_empty() && class.is_none()).then(|| words::no_class(text, found.len())),
            );
            if let Some(class) = class {
                on_choose.emit(class);
            }
            typed.set(None);
        })
    };
    let choose = {
        let (close, on_choose, input) = (close.clone(), props.on_choose.clone(), input.clone());
        Callback::from(move |class: usize| {
            on_choose.emit(class);
            close.emit(());
            if let Some(input) = input.cast::<HtmlInputElement>() {
                input.set_value("");
            }
        })
    };
    let oninput = {
        let (typed, active) = (typed.clone(), active.clone());
        Callback::from(move |event: InputEvent| {
            let input: HtmlInputElement = event.target_unchecked_into();
            typed.set(Some(input.value()));
            active.set(0);
        })
    };
    let is_open = typed.is_some();
    let is_untouched =
        *active == active_at_first && typed.as_ref().is_some_and(|typed| typed.is_empty());
    let on_random = {
        let (on_choose, count) = (props.on_choose.clone(), props.model.classes.len());
        let chosen = props.chosen;
        Callback::from(move |_: MouseEvent| {
            // Another one than now, where there is another.
            let by = 1 + random_below((count as u64).saturating_sub(1)) as usize;
            on_choose.emit((chosen + by) % count.max(1));
        })
    };
    let onkeydown = {
        let (found, active, open, close, choose) =
            (found.clone(), active.clone(), open.clone(), close.clone(), choose.clone());
        Callback::from(move |event: KeyboardEvent| {
            // The keys of a composition choose signs, not classes.
            if is_composing(&event) {
                return;
            }
            let last = found.len().min(SHOWN).saturating_sub(1);
            match event.key().as_str() {
                "ArrowDown" if !is_open => open.emit(()),
                "ArrowDown" => active.set(if *active >= last { 0 } else { *active + 1 }),
                "ArrowUp" if is_open => active.set(if *active == 0 { last } else { *active - 1 }),
                "Home" if is_open => active.set(0),
                "End" if is_open => active.set(last),
                // Nothing was typed or gone to: the class stays, also one that is not listed.
                "Enter" if is_untouched => close.emit(()),
                "Enter" if is_open => {
                    if let Some(&class) = found.get(*active) {
                        choose.emit(class);
                    }
                }
                "Escape" if is_open => close.emit(()),
                _ => return,
            }
            event.prevent_default();
            event.stop_propagation();
        })
    };
    let onclick = {
        let open = open.clone();
        Callback::from(move |_: MouseEvent| {
            if !is_open {
                open.emit(());
            }
        })
    };
    let name = props.model.classes.get(props.chosen).cloned().unwrap_or_default();
    let active_id = shown.get(*active).map(|class| format!("class-option-{class}"));
    html! {
        <div class="field class-picker">
            <div class="label-line">
                <label for="class-search">{ "Class" }</label>
                { help(Term::Class) }
            </div>
            <div class="with-buttons">
            <input
                ref={input}
                id="class-search"
                data-testid="class-search"
                data-class={props.chosen.to_string()}
                type="text"
                role="combobox"
                autocomplete="off"
                autocapitalize="off"
                spellcheck="false"
                enterkeyhint="done"
                aria-expanded={is_open.to_string()}
                aria-controls="class-list"
                aria-autocomplete="list"
                aria-activedescendant={active_id.filter(|_| is_open)}
                placeholder={name.clone()}
                value={(*typed).clone().unwrap_or_else(|| name.clone())}
                onfocus={open.reform(|_: FocusEvent| ())}
                {onclick}
                onblur={leave}
                {oninput}
                {onkeydown}
            />
            <button
                type="button"
                class="quiet"
                data-testid="random-class"
                aria-label="Random class"
                onclick={on_random}
            >
                <svg class="sign" viewBox="0 0 20 20" aria-hidden="true">
                    <path
                        d="M13 3h4v4h-1.600V5.700l-9.600 9.700H2v-1.600h3.100L14.200 4.600H13zM2 \
                           4.600h3.800l3 3-1.100 1.100-2.600-2.500H2zM12.400 11.200l3 \
                           3V13H17v4h-4v-1.600h1.300l-3-3z"
                    />
                </svg>
            </button>
            </div>
            <p class="problem" role="status" data-testid="class-missed">
                { missed.as_ref().map(|words| format!("{words} It is still {name}.")) }
            </p>
            <div class={classes!("options", (!is_open).then_some("closed"))}>
                // Not a place of its own for the Tab key: the arrows move within it.
                <div ref={list} id="class-list" role="listbox" aria-label="Classes" tabindex="-1">
                    { for shown.iter().enumerate().map(|(at, &class)| {
                        let choose = choose.clone();
                        html! {
                            <div
                                key={class}
                                id={format!("class-option-{class}")}
                                data-testid={format!("class-option-{class}")}
                                role="option"
                                class={classes!("option", (at == *active).then_some("active"))}
                                aria-selected={(class == props.chosen).to_string()}
                                // The input keeps the focus, so that it does not close the list
                                // before the click.
                                onmousedown={Callback::from(|event: MouseEvent| event.prevent_default())}
                                onclick={Callback::from(move |_: MouseEvent| choose.emit(class))}
                            >
                                // Decoration: the name says it. One that cannot be drawn leaves
                                // its place empty.
                                <img
                                    class="class-thumbnail"
                                    alt=""
                                    width="32"
                                    height="32"
                                    loading="lazy"
                                    decoding="async"
                                    src={api::thumbnail_path(&props.model.name, class)}
                                />
                                <span class="class-name">{ &props.model.classes[class] }</span>
                                <span class="number">{ class }</span>
                            </div>
                        }
                    }) }
                </div>
                if is_open && found.is_empty() {
                    <p class="hint">{ "No class of this name" }</p>
                } else if found.len() > SHOWN {
                    <p class="hint">
                        { format!("{}; type to find them", counted(found.len() - SHOWN, "more class", "more classes")) }
                    </p>
                }
            </div>
        </div>
    }
}

fn keep_active_in_sight(list: &NodeRef) {
    let Some(list) = list.cast::<Element>() else { return };
    let active = list.query_selector(".option.active").ok().flatten();
    let Some(active) = active.and_then(|active| active.dyn_into::<web_sys::HtmlElement>().ok())
    else {
        return;
    };
    let (top, height) = (active.offset_top(), active.offset_height());
    if top < list.scroll_top() {
        list.set_scroll_top(top);
    } else if top + height > list.scroll_top() + list.client_height() {
        list.set_scroll_top(top + height - list.client_height());
    }
}
