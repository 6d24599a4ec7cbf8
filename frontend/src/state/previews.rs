//! Previews that were asked for on the WebSocket and have not come.

use futures_channel::oneshot;
use var_dd_protocol::JobId;

/// Where the answers of previews go.
#[derive(Debug)]
pub(crate) struct Previews<T> {
    is_open: bool,
    /// Tags, increasing, with those who wait.
    waiting: Vec<(u32, oneshot::Sender<T>)>,
}

impl<T> Default for Previews<T> {
    fn default() -> Self {
        Self { is_open: false, waiting: Vec::new() }
    }
}

impl<T> Previews<T> {
    /// The server has greeted.
    pub(crate) fn opened(&mut self) {
        self.is_open = true;
    }

    /// The connection is gone, and what was on its way with it.
    pub(crate) fn lost(&mut self) {
        self.is_open = false;
        self.unheard();
    }

    /// The server did not listen to something, perhaps to one of these.
    pub(crate) fn unheard(&mut self) {
        self.waiting.clear();
    }

    /// A preview is asked for; its answer, which is cancelled when a newer one took its place.
    /// `None` without a connection.
    pub(crate) fn ask(&mut self, tag: u32) -> Option<oneshot::Receiver<T>> {
        let (answer, answered) = oneshot::channel();
        self.is_open.then(|| self.waiting.push((tag, answer)))?;
        Some(answered)
    }

    /// The tag of the preview that comes under this name.
    pub(crate) fn tag_of(&self, job: &JobId) -> Option<u32> {
        let mut tags = self.waiting.iter().map(|(tag, _)| *tag);
        tags.find(|&tag| JobId::of_preview(tag) == *job)
    }

    /// A picture has come. They come in their order, so the server has let go of those before it.
    pub(crate) fn come(&mut self, tag: u32, outcome: T) {
        self.waiting.retain(|(other, _)| *other >= tag);
        self.refused(tag, outcome);
    }

    /// A preview is refused, at once; those before it may still come. False if nobody asked for it.
    pub(crate) fn refused(&mut self, tag: u32, outcome: T) -> bool {
        let Some(at) = self.waiting.iter().position(|(other, _)| *other == tag) else {
            return false;
        };
        // Whoever asked may be gone.
        let _ = self.waiting.remove(at).1.send(outcome);
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn open() -> Previews<&'static str> {
        let mut previews = Previews::default();
        previews.opened();
        previews
    }

    #[test]
    fn nothing_is_asked_without_a_connection() {
        let mut previews = Previews::<()>::default();
        assert!(previews.ask(1).is_none());
        previews.opened();
        let mut answer = previews.ask(2).unwrap();
        previews.lost();
        assert!(answer.try_recv().is_err(), "it will never come");
        assert!(previews.ask(3).is_none());
    }

    #[test]
    fn the_picture_of_a_newer_one_ends_the_wait_for_those_before() {
        let mut previews = open();
        let mut answers: Vec<_> = (1..=3).map(|tag| previews.ask(tag).unwrap()).collect();
        assert_eq!(previews.tag_of(&JobId::of_preview(2)), Some(2));
        assert_eq!(previews.tag_of(&JobId::of_preview(4)), None);
        previews.come(2, "picture");
        assert!(answers[0].try_recv().is_err());
        assert_eq!(answers.remove(1).now_or_never().unwrap(), Ok("picture"));
        assert_eq!(answers[1].try_recv(), Ok(None), "the newest is still to come");
    }

    #[test]
    fn a_refusal_ends_no_other_wait() {
        let mut previews = open();
        let (mut first, second) = (previews.ask(1).unwrap(), previews.ask(2).unwrap());
        assert!(previews.refused(2, "no"));
        assert_eq!(second.now_or_never().unwrap(), Ok("no"));
        assert_eq!(first.try_recv(), Ok(None));
        assert!(!previews.refused(7, "no"), "a job has this tag");
    }
}
