//! How the method works: eight ideas, one at a time, each with a figure to play with that this
//! server draws.

use std::rc::Rc;

use var_dd_protocol::{ModelInfo, TokenReport};
use wasm_bindgen::JsCast;
use web_sys::{HtmlElement, HtmlInputElement};
use yew::prelude::*;
use yew_router::prelude::*;

use crate::{
    api,
    components::{Sign, sign},
    hooks::{
        Fetching, keep_preference, preference_names::LEARNED, use_backend, use_controls,
        use_fetched, use_preview, use_recent, use_result, use_title,
    },
    route::Route,
    state::{
        job::Job,
        lesson::{FLOW_STEPS, Flow, Lesson, MEASURED, frechet},
        words::{self, counted, size},
    },
};

/// The lessons.
#[component]
pub(crate) fn Learn() -> Html {
    use_title("How it works".into());
    use_recent();
    use_effect_with((), |()| keep_preference(LEARNED, "yes"));
    let backend = use_backend();
    let controls = use_controls();
    let store = &backend.store;
    let (location, navigator) = (use_location(), use_navigator());
    let asked = use_memo(location, |location| {
        let query = location.as_ref()?.query::<Vec<(String, String)>>().ok()?;
        query.into_iter().find(|(name, _)| name == "lesson").map(|(_, number)| number)
    });
    let found = asked.as_ref().as_ref().and_then(|number| Lesson::of_number(number));
    let strange = asked.as_ref().clone().filter(|_| found.is_none());
    let lesson = found.unwrap_or(Lesson::Pyramid);

    // A finished result to look into: the example of the server, else the newest that there is.
    let example = store.info.as_ref().and_then(|info| info.example.clone());
    let recent = || store.recent.iter().find(|view| !view.pictures.is_empty());
    let id = example.or_else(|| recent().map(|view| view.id.clone()));
    use_result(id.clone());
    let job = id.as_ref().and_then(|id| store.job(id)).filter(|job| job.is_finished()).cloned();
    let of_job = job.as_ref().and_then(|job| job.about.request.model.clone());
    let model = controls.models.iter().find(|model| Some(&model.name) == of_job.as_ref());
    let model = model.cloned().map(Rc::new).or_else(|| controls.model.clone());
    let is_to_come = id.as_ref().is_some_and(|id| store.missing(id).is_none());
    // The tokens of its first picture.
    let looked_into = use_fetched(id.clone().filter(|_| job.is_some()), |job| async move {
        api::tokens(&job, 0).await.ok().map(Rc::new)
    });
    let tokens = match &looked_into {
        Fetching::Here(tokens) => Some(tokens.clone()),
        Fetching::Coming | Fetching::Missing(_) => None,
    };

    // Each figure stays as it was left.
    let places = use_state_eq(|| [None::<usize>; Lesson::ALL.len()]);
    let at = model.as_ref().map_or(0, |model| {
        let chosen = places[lesson.number() - 1];
        chosen.unwrap_or_else(|| lesson.begin(model)).min(lesson.places(model) - 1)
    });
    let (class, seed) = match &job {
        Some(job) => (job.about.request.class, job.about.request.seed.unwrap_or(1)),
        None => (0, 1),
    };
    let wanted = model.as_ref().and_then(|model| lesson.request(at, model, class, seed));
    let drawn = use_preview(wanted.clone());
    let go = {
        let navigator = navigator.clone();
        Callback::from(move |lesson: Lesson| {
            if let Some(navigator) = &navigator {
                // Plain digits.
                let query = vec![("lesson", lesson.number().to_string())];
                let _ = navigator.push_with_query(&Route::Learn, &query);
            }
        })
    };
    use_focus_of_title(lesson);
    let on_place = {
        let places = places.clone();
        Callback::from(move |event: InputEvent| {
            let typed = event.target_unchecked_into::<HtmlInputElement>().value();
            let mut now = *places;
            now[lesson.number() - 1] = typed.parse().ok();
            places.set(now);
        })
    };
    let said = lesson.words();
    let figure = match (&model, lesson) {
        (None, _) => html! { <p class="hint">{ "Waiting for the server" }</p> },
        (Some(model), Lesson::Flow) => {
            let law = tokens.as_ref().and_then(|tokens| least_certain(tokens));
            flow(at, law, model)
        }
        (_, Lesson::Distance) => distance(at),
        (Some(model), Lesson::Pyramid | Lesson::NextScale) => {
            match job.as_ref().zip(tokens.as_ref()) {
                Some((job, tokens)) if lesson == Lesson::Pyramid => pyramid(at, job, tokens, model),
                Some((job, tokens)) => next_scale(at, job, tokens),
                None if is_to_come => match looked_into {
                    Fetching::Missing(again) => html! {
                        <p class="hint">
                            { "The tokens of the picture could not be fetched. " }
                            <button type="button" onclick={again}>{ "Try again" }</button>
                        </p>
                    },
                    _ => html! { <p class="hint">{ "Looking into a picture" }</p> },
                },
                None => html! {
                    <p class="hint">
                        { "This needs a finished picture to look into. " }
                        <Link<Route> to={Route::Playground}>{ "Draw one" }</Link<Route>>
                    </p>
                },
            }
        }
        (Some(model), Lesson::Teacher) if wanted.is_none() => html! {
            <p class="hint">
                { format!("{} has no teacher on this server, or no plan with it.", model.name) }
            </p>
        },
        (Some(_), _) => picture(drawn.picture.as_ref().map(|picture| picture.url())),
    };
    let value = model.as_ref().map(|model| value(lesson, at, model));
    let trouble = drawn.error.as_ref().filter(|_| wanted.is_some()).map(words::refusal);
    let is_followed = wanted.is_none() || drawn.of == wanted;
    let before = lesson.number().checked_sub(2).and_then(|at| Lesson::ALL.get(at)).copied();
    let after = Lesson::ALL.get(lesson.number()).copied();
    let step = |testid: &'static str, (face, name): (Sign, &'static str), to: Option<Lesson>| {
        let go = go.clone();
        html! {
            <button
                type="button"
                data-testid={testid}
                disabled={to.is_none()}
                onclick={Callback::from(move |_: MouseEvent| {
                    if let Some(to) = to {
                        go.emit(to);
                    }
                })}
            >
                <span class="step-sign" >{ sign(face) }</span>
                <span class="step-name">{ name }</span>
            </button>
        }
    };
    html! {
        <main class="learn" id="main" tabindex="-1">
            <p class="hint" data-testid="lesson" data-lesson={lesson.number().to_string()}>
                { format!("How it works · {} of {}", lesson.number(), Lesson::ALL.len()) }
            </p>
            if let Some(strange) = strange {
                <p class="problem" role="status" data-testid="no-lesson">
                    { format!("There is no lesson “{strange}”: this is the first of {}.", Lesson::ALL.len()) }
                </p>
            }
            <h1 id="lesson-title" tabindex="-1">{ said.title }</h1>
            <div class="lesson">
                <figure class="lesson-figure">
                    <div
                        class="lesson-drawn"
                        data-testid="lesson-figure"
                        data-at={at.to_string()}
                        data-followed={is_followed.to_string()}
                    >{ figure }</div>
                    if let Some((model, value)) = model.as_ref().zip(value) {
                        <label class="lesson-slider">
                            <span>{ said.slider }{ ": " }<strong>{ value.clone() }</strong></span>
                            <input
                                type="range"
                                min="0"
                                max={(lesson.places(model) - 1).to_string()}
                                step="1"
                                value={at.to_string()}
                                aria-valuetext={value}
                                data-testid="lesson-slider"
                                oninput={on_place}
                            />
                        </label>
                    }
                    <p class="problem" role="status">{ trouble.unwrap_or_default() }</p>
                </figure>
                <div class="lesson-text">
                    <p>{ said.text }</p>
                    if lesson == Lesson::Distance { { measured() } }
                    <details data-testid="lesson-formulae">
                        <summary>{ "In formulae" }</summary>
                        <p class="formulae">{ said.formulae }</p>
                        <p>
                            <a href={api::path(&format!("method.html#{}", said.anchor))}>
                                { "All of it: the method" }
                            </a>
                        </p>
                    </details>
                </div>
            </div>
            <nav class="lesson-steps" aria-label="Lessons">
                { step("lesson-back", (Sign::Back, "Back"), before) }
                <ol>
                    { for Lesson::ALL.into_iter().map(|other| {
                        let go = go.clone();
                        let here = other == lesson;
                        html! {
                            <li key={other.number()}>
                                <button
                                    type="button"
                                    class={classes!("quiet", here.then_some("on"))}
                                    data-testid={format!("lesson-{}", other.number())}
                                    aria-current={here.then_some("step")}
                                    aria-label={format!(
                                        "{}: {}", other.number(), other.words().title
                                    )}
                                    onclick={Callback::from(move |_: MouseEvent| go.emit(other))}
                                >{ other.number() }</button>
                            </li>
                        }
                    }) }
                </ol>
                if after.is_some() {
                    { step("lesson-on", (Sign::On, "Next"), after) }
                } else {
                    <Link<Route> to={Route::Playground} classes="button">
                        <span class="step-sign" aria-hidden="true">{ "Draw" }</span>
                        <span class="step-name">{ "Draw something" }</span>
                    </Link<Route>>
                }
            </nav>
        </main>
    }
}

/// Puts the focus on the title of a lesson that was just opened, so that it is read.
#[hook]
fn use_focus_of_title(lesson: Lesson) {
    let first = use_mut_ref(|| true);
    use_effect_with(lesson, move |_| {
        if first.replace(false) {
            return;
        }
        let document = web_sys::window().and_then(|window| window.document());
        let title = document.and_then(|document| document.get_element_by_id("lesson-title"));
        if let Some(title) = title.and_then(|title| title.dyn_into::<HtmlElement>().ok()) {
            // It can have the focus: it says so.
            let _ = title.focus();
        }
    });
}

/// What the slider says.
fn value(lesson: Lesson, at: usize, model: &ModelInfo) -> String {
    let scale = |at: usize| model.patch_nums.get(at).map_or_else(String::new, |&side| size(side));
    match lesson {
        Lesson::Pyramid | Lesson::NextScale => scale(at),
        Lesson::Prefix => {
            let tokens: u32 = model.patch_nums.iter().take(at + 1).map(|side| side * side).sum();
            format!("1×1 to {}, {}", scale(at), counted(tokens as usize, "token", "tokens"))
        }
        Lesson::Flow => match at {
            0 => "all noise".into(),
            FLOW_STEPS => "all tokens".into(),
            at => format!("{} %", 100 * at / FLOW_STEPS),
        },
        Lesson::Function => {
            let last = lesson.places(model) - 1;
            format!("{} %", 100 * at / last)
        }
        Lesson::OneStep => model.plans.get(at).map_or_else(String::new, |preset| {
            format!("{} · {}", preset.name, words::cost(&preset.plan, model.scales()))
        }),
        Lesson::Teacher => {
            let last = lesson.places(model) - 1;
            if at == last { "nowhere: the student alone".into() } else { scale(at) }
        }
        Lesson::Distance => {
            let (other, d) = bell(at);
            format!("mean {:.1}, width {:.1}: d² = {d:.2}", other.0, other.1)
        }
    }
}

fn picture(url: Option<&str>) -> Html {
    html! {
        <div class="lesson-square">
            if let Some(url) = url {
                <img
                    src={url.to_owned()}
                    alt="What the slider makes of the picture"
                    data-testid="lesson-picture"
                />
            }
        </div>
    }
}

/// The frame of a scale of the first picture.
fn frame(job: &Job, scale: usize) -> Option<String> {
    let frames = job.frames.first()?.iter().filter(|((_, other), _)| *other as usize == scale);
    frames.max_by_key(|((pass, _), _)| *pass).map(|(_, frame)| frame.picture.url().to_owned())
}

/// A colour for each codeword, as far from those of its neighbours as it goes.
fn colour(code: u32) -> String {
    let turn = (f64::from(code) * 0.618_033_988_75).fract();
    let light = 40 + (code * 37) % 35;
    format!("hsl({:.0} 60% {light}%)", 360.0 * turn)
}

/// The map of a scale beside what it decodes to.
fn pyramid(at: usize, job: &Job, tokens: &TokenReport, model: &ModelInfo) -> Html {
    let Some(scale) = tokens.scales.get(at) else { return Html::default() };
    let side = scale.side.max(1);
    let tiles = scale.codes.iter().enumerate().map(|(place, code)| {
        let place = place as u32;
        html! {
            <rect
                key={place}
                x={(place % side).to_string()}
                y={(place / side).to_string()}
                width="1"
                height="1"
                fill={colour(*code)}
            />
        }
    });
    html! {
        <div class="lesson-pair">
            <div>
                <svg
                    class="lesson-square"
                    viewBox={format!("0 0 {side} {side}")}
                    role="img"
                    aria-label={format!("{} tokens as colours", side * side)}
                    data-testid="lesson-map"
                >{ for tiles }</svg>
                <p class="hint">
                    { format!(
                        "{}, each one of {} codewords",
                        counted((side * side) as usize, "token", "tokens"), model.vocabulary
                    ) }
                </p>
            </div>
            <div>
                { picture(frame(job, at).as_deref()) }
                <p class="hint">{ "what they decode to, with those before" }</p>
            </div>
        </div>
    }
}

/// What a map is drawn from, and how sure the network is about each.
fn next_scale(at: usize, job: &Job, tokens: &TokenReport) -> Html {
    let bits: Vec<Option<f32>> = tokens
        .scales
        .iter()
        .map(|scale| {
            let laws = scale.laws.iter().map(|law| law.entropy_bits);
            (!scale.laws.is_empty()).then(|| laws.sum::<f32>() / scale.laws.len() as f32)
        })
        .collect();
    let most = bits.iter().flatten().copied().fold(1.0, f32::max);
    let bars = bits.iter().enumerate().map(|(scale, bits)| {
        let height = 36.0 * bits.unwrap_or(0.0) / most;
        html! {
            <rect
                key={scale}
                class={classes!("bar", (scale == at).then_some("here"))}
                x={format!("{:.1}", scale as f32 * 10.0 + 1.5)}
                y={format!("{:.2}", 40.0 - height)}
                width="7"
                height={format!("{height:.2}")}
            />
        }
    });
    let middle = tokens.scales.get(at).and_then(|scale| {
        let middle = (scale.side / 2 * scale.side + scale.side / 2) as usize;
        scale.laws.get(middle)
    });
    let chances = middle.map(|law| {
        let top = law.top.iter();
        let top = top.map(|of| format!("{} ({:.0} %)", of.code, 100.0 * of.probability));
        format!("In the middle: codeword {}.", top.collect::<Vec<_>>().join(", "))
    });
    let width = tokens.scales.len() * 10;
    let told = bits.get(at).copied().flatten();
    html! {
        <>
            <div class="lesson-pair">
                <div>
                    { picture(at.checked_sub(1).and_then(|before| frame(job, before)).as_deref()) }
                    <p class="hint">{ if at == 0 { "nothing yet" } else { "known before" } }</p>
                </div>
                <div>
                    { picture(frame(job, at).as_deref()) }
                    <p class="hint">{ "with the new map" }</p>
                </div>
            </div>
            <svg
                class="lesson-bars"
                viewBox={format!("0 0 {width} 40")}
                role="img"
                aria-label="Uncertainty of a token at each scale, in bits"
            >{ for bars }</svg>
            <p class="hint">
                { match told {
                    Some(bits) => format!("{bits:.1} bits of uncertainty for each token. "),
                    None => "No network drew this scale. ".to_owned(),
                } }
                { chances.unwrap_or_default() }
            </p>
        </>
    }
}

/// The law of the token about which least is known, and its scale's side and number of codewords.
fn least_certain(tokens: &TokenReport) -> Option<&var_dd_protocol::TokenLaw> {
    let laws = tokens.scales.iter().flat_map(|scale| &scale.laws);
    laws.max_by(|one, other| {
        one.top
            .first()
            .map_or(0.0, |top| -top.probability)
            .total_cmp(&other.top.first().map_or(0.0, |top| -top.probability))
    })
}

/// Points on their way from noise to codewords.
fn flow(at: usize, law: Option<&var_dd_protocol::TokenLaw>, model: &ModelInfo) -> Html {
    let flow = Flow::of(law);
    let ends = flow.ends();
    let codes: Vec<u32> = match law {
        Some(law) if law.top.len() > 1 => law.top.iter().map(|of| of.code).collect(),
        _ => (1..=5).collect(),
    };
    let name = |which: usize| codes.get(which).copied().unwrap_or_default();
    let place = |value: f64| format!("{value:.3}");
    let targets = flow.codewords.iter().enumerate().map(|(which, ([x, y], chance))| {
        html! {
            <g key={which}>
                <circle
                    cx={place(*x)}
                    cy={place(*y)}
                    r={place(0.12 + 0.5 * chance.sqrt())}
                    fill={colour(name(which))}
                    opacity="0.35"
                />
                <text x={place(*x * 1.42)} y={place(*y * 1.42 + 0.08)} class="flow-name">
                    { format!("{:.0} %", 100.0 * chance) }
                </text>
            </g>
        }
    });
    let points = flow.paths.iter().enumerate().filter_map(|(point, path)| {
        let [x, y] = *path.get(at)?;
        let end = flow.nearest(*path.last()?);
        let way: Vec<_> = path.iter().take(at + 1).map(|[x, y]| format!("{x:.2},{y:.2}")).collect();
        Some(html! {
            <g key={point}>
                <polyline points={way.join(" ")} class="flow-way" stroke={colour(name(end))} />
                <circle cx={place(x)} cy={place(y)} r="0.06" fill={colour(name(end))} />
            </g>
        })
    });
    let told = flow.codewords.iter().zip(&ends).enumerate().map(|(which, ((_, chance), ends))| {
        format!(
            "{ends} of {} at codeword {} ({:.0} %)",
            flow.paths.len(),
            name(which),
            100.0 * chance
        )
    });
    html! {
        <>
            <svg
                class="lesson-square flow"
                viewBox="-3.3 -3.3 6.6 6.6"
                role="img"
                aria-label="Points of noise on their way to five codewords"
                data-testid="lesson-flow"
            >{ for targets }{ for points }</svg>
            <p class="hint">
                { match law {
                    Some(_) => format!(
                        "The five most probable of {} codewords for one token of a picture here, \
                            laid out in a plane. At the end: ", model.vocabulary
                    ),
                    None => "Five codewords, laid out in a plane. At the end: ".to_owned(),
                } }
                { told.collect::<Vec<_>>().join(", ") }{ "." }
            </p>
        </>
    }
}

/// The bell curve of drawn pictures at a place of the slider, and its distance from the real one.
fn bell(at: usize) -> ((f64, f64), f64) {
    let other = (0.1 * at as f64, 1.0 - 0.01 * at as f64);
    (other, frechet((0.0, 1.0), other))
}

/// Two bell curves.
fn distance(at: usize) -> Html {
    let (other, _) = bell(at);
    let line = |(mean, width): (f64, f64)| {
        let points = (0..=80).map(|step| {
            let x = -3.0 + 0.1 * f64::from(step) * 1.25;
            let y = (-0.5 * ((x - mean) / width).powi(2)).exp() / width;
            format!("{x:.3},{:.3}", -1.6 * y)
        });
        points.collect::<Vec<_>>().join(" ")
    };
    html! {
        <svg
            class="lesson-bells"
            viewBox="-3.2 -3 10.4 3.3"
            role="img"
            aria-label="Two bell curves: real pictures, and drawn ones further off"
        >
            <polyline class="bell real" points={line((0.0, 1.0))} />
            <polyline class="bell drawn" points={line(other)} />
            <text x="0" y="-1.9" class="flow-name">{ "real" }</text>
            <text
                x={format!("{:.2}", other.0)}
                y={format!("{:.2}", -1.75 / other.1 - 0.3)}
                class="flow-name"
            >
                { "drawn" }
            </text>
        </svg>
    }
}

/// What the paper measured.
fn measured() -> Html {
    let heads = ["1 step", "2", "3", "4", "6", "teacher, 10"];
    html! {
        <div
            class="token-table"
            tabindex="0"
            role="region"
            aria-label="FID that the paper measured"
        >
            <table data-testid="lesson-measured">
                <caption>{ "FID, lower is better" }</caption>
                <thead><tr>
                    <th scope="col">{ "model" }</th>
                    { for heads.into_iter().map(|head| html! {
                        <th key={head} scope="col">{ head }</th>
                    }) }
                </tr></thead>
                <tbody>
                    { for MEASURED.into_iter().map(|(model, scores)| html! {
                        <tr key={model}>
                            <th scope="row">{ model }</th>
                            { for scores.into_iter().map(|score| html! {
                                <td>
                                    { score.map(|score| format!("{score:.2}")).unwrap_or_default() }
                                </td>
                            }) }
                        </tr>
                    }) }
                </tbody>
            </table>
        </div>
    }
}
