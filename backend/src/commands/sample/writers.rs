//! Threads that write pictures while the device draws the next ones.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Scope, ScopedJoinHandle},
};

/// Threads that take jobs from a bounded queue.
pub(super) struct Writers<'scope, J> {
    queue: SyncSender<J>,
    threads: Vec<ScopedJoinHandle<'scope, anyhow::Result<()>>>,
    failed: Arc<AtomicBool>,
}

impl<'scope, J: Send + 'scope> Writers<'scope, J> {
    /// Starts `threads` threads that call `write`; `waiting` jobs at most wait for one of them.
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        threads: usize,
        waiting: usize,
        write: &'env (dyn Fn(J) -> anyhow::Result<()> + Sync),
    ) -> Self {
        let (queue, jobs) = sync_channel(waiting);
        let jobs = Arc::new(Mutex::new(jobs));
        let failed = Arc::new(AtomicBool::new(false));
        let work = |_| {
            let (jobs, failed) = (jobs.clone(), failed.clone());
            scope.spawn(move || {
                while let Some(job) = next(&jobs) {
                    // After a failure the queue is emptied, so that whoever fills it never waits in
                    // vain.
                    if !failed.load(Ordering::Relaxed) {
                        write(job).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                    }
                }
                Ok(())
            })
        };
        let threads = (0..threads.max(1)).map(work).collect();
        Self { queue, threads, failed }
    }

    /// Hands over a job, once there is room. False if a thread has failed; [`Writers::finish`] says
    /// why.
    pub(super) fn submit(&self, job: J) -> bool {
        !self.failed.load(Ordering::Relaxed) && self.queue.send(job).is_ok()
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// The first failure of a thread.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        drop(self.queue);
        let outcomes = self.threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(_) => anyhow::bail!("a writing thread panicked"),
        });
        // All of them, so that none writes on when this returns.
        outcomes.collect::<Vec<_>>().into_iter().collect()
    }
}

fn next<J>(jobs: &Mutex<Receiver<J>>) -> Option<J> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, thread};

    use super::*;

    #[test]
    fn every_job_is_done_once_and_all_before_the_end() {
        let done = Mutex::new(Vec::new());
        let write = |job: usize| {
            done.lock().unwrap().push(job);
            Ok(())
        };
        thread::scope(|scope| {
            let writers = Writers::start(scope, 3, 2, &write);
            assert!((0..100).all(|job| writers.submit(job)));
            writers.finish()
        })
        .unwrap();
        let done = done.into_inner().unwrap();
        assert_eq!(done.len(), 100);
        assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), (0..100).collect());
    }

    #[test]
    fn a_failure_ends_the_work_and_is_told() {
        let write = |job: usize| {
            if job == 7 { anyhow::bail!("cannot write picture {job}") } else { Ok(()) }
        };
        let (submitted, outcome) = thread::scope(|scope| {
            let writers = Writers::start(scope, 2, 1, &write);
            // Far more than fit in the queue: a sender that waited for a dead thread would hang
            // here.
            let submitted = (0..10_000).take_while(|&job| writers.submit(job)).count();
            (submitted, writers.finish())
        });
        assert!(submitted < 10_000);
        assert_eq!(outcome.unwrap_err().to_string(), "cannot write picture 7");
    }
}
