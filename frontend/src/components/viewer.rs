//! The light table: stage, words, strip, player and times of one job.

use std::rc::Rc;

use yew::prelude::*;

use super::{PlayerBar, Stage, Status, StatusLine, Strip, Times};
use crate::{
    hooks::{Key, owner_token, use_backend, use_keys, use_player},
    state::job::Job,
};

/// Properties of [`Viewer`].
#[derive(PartialEq, Properties)]
pub(crate) struct ViewerProps {
    pub(crate) job: Option<Rc<Job>>,
    pub(crate) status: Status,
    /// Whether a finished job plays once by itself when it comes.
    pub(crate) plays_by_itself: bool,
    /// The picture brought forward, if any.
    pub(crate) forward: Option<usize>,
    pub(crate) on_forward: Callback<Option<usize>>,
    /// More words beside the state.
    #[prop_or_default]
    pub(crate) note: AttrValue,
    /// What belongs under it.
    #[prop_or_default]
    pub(crate) children: Html,
}

/// A job to watch, scrub through and, if it is an own one that runs, to stop.
#[component]
pub(crate) fn Viewer(props: &ViewerProps) -> Html {
    let backend = use_backend();
    let ViewerProps { job, forward, on_forward, .. } = props;
    let playing = use_player(job.clone(), *forward, props.plays_by_itself);
    let stoppable = job.as_ref().map(|job| job.id()).filter(|id| {
        let runs = job.as_ref().is_some_and(|job| !job.state.is_final());
        runs && owner_token(id).is_some()
    });
    let cancel = stoppable.cloned().map(|id| {
        let backend = backend.clone();
        Callback::from(move |()| backend.cancel(&id))
    });
    {
        let (playing, cancel, forward, on_forward) =
            (playing.clone(), cancel.clone(), *forward, on_forward.clone());
        use_keys(Callback::from(move |key| {
            match (key, &cancel) {
                (Key::Back, _) => playing.step(-1),
                (Key::On, _) => playing.step(1),
                (Key::Play, _) => playing.toggle(),
                (Key::Cancel, Some(cancel)) => cancel.emit(()),
                (Key::Cancel, None) if forward.is_some() => on_forward.emit(None),
                _ => return false,
            }
            true
        }));
    }
    html! {
        <section class="table" aria-label="Pictures">
            <Stage job={job.clone()} playing={playing.clone()} forward={*forward} {on_forward} />
            <StatusLine status={props.status.clone()}>
                if let Some(cancel) = cancel {
                    <button
                        type="button"
                        class="quiet"
                        data-testid="cancel"
                        onclick={cancel.reform(|_: MouseEvent| ())}
                        title="Cancel (Esc)"
                    >{ "Cancel" }</button>
                }
                if !props.note.is_empty() {
                    <span class="hint">{ &props.note }</span>
                }
            </StatusLine>
            <Strip job={job.clone()} playing={playing.clone()} />
            <div class="under">
                <PlayerBar playing={playing.clone()} />
                <Times job={job.clone()} />
            </div>
            { props.children.clone() }
        </section>
    }
}
