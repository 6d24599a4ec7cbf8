//! Questions to brokers that are just choosing a new leader: for some seconds a stream without one
//! has no answer, or says that it is not there. Asked again, it has.

use std::time::Duration;

use async_nats::jetstream::{
    context::{PublishError, PublishErrorKind},
    stream::{LastRawMessageError, LastRawMessageErrorKind},
};
use tokio::time::{Instant, sleep};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// So long after the first attempt another one is made. Three brokers take two to five seconds
/// until they have a new leader.
const LIMIT: Duration = Duration::from_secs(12);

/// Why a broker did not do what it was asked for.
pub(super) trait Refusal {
    /// Whether it may do the same a moment later.
    fn may_pass(&self) -> bool;
}

impl Refusal for PublishError {
    fn may_pass(&self) -> bool {
        use PublishErrorKind as Kind;
        matches!(self.kind(), Kind::StreamNotFound | Kind::TimedOut | Kind::BrokenPipe)
    }
}

impl Refusal for LastRawMessageError {
    fn may_pass(&self) -> bool {
        use LastRawMessageErrorKind as Kind;
        match self.kind() {
            Kind::NoMessageFound | Kind::InvalidSubject => false,
            Kind::JetStream(answer) => answer.code() == 503,
            // No answer in time, or nobody who would give one.
            Kind::Other => true,
        }
    }
}

/// What `ask` gives, asked again while the brokers may be changing their leader. What is asked may
/// have been done although no answer came, so doing it twice must do no harm.
///
/// # Errors
/// The last refusal.
pub(super) async fn answered<T, E: Refusal, F: Future<Output = Result<T, E>>>(
    ask: impl Fn() -> F,
) -> Result<T, E> {
    let until = Instant::now() + LIMIT;
    loop {
        match ask().await {
            Err(error) if error.may_pass() && Instant::now() < until => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often it is asked for what is refused for so long, and whether it is had in the end.
    async fn asked(kind: PublishErrorKind, refused_for: Duration) -> (u32, bool) {
        let (count, start) = (Cell::new(0), Instant::now());
        let outcome = answered(|| async {
            count.set(count.get() + 1);
            let is_refused = start.elapsed() < refused_for;
            if is_refused { Err(PublishError::new(kind)) } else { Ok(()) }
        });
        let had = outcome.await.is_ok();
        (count.get(), had)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_a_leader_is_asked_until_it_has_one() {
        let (count, had) = asked(PublishErrorKind::StreamNotFound, Duration::from_secs(5)).await;
        assert!(had && count > 10, "{count}");
        let (_, had) = asked(PublishErrorKind::TimedOut, LIMIT * 2).await;
        assert!(!had, "it has an end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_is_not_asked_again() {
        for kind in [PublishErrorKind::WrongLastSequence, PublishErrorKind::MaxPayloadExceeded] {
            assert_eq!(asked(kind, Duration::from_secs(1)).await, (1, false));
        }
    }
}
