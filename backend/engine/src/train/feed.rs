//! Drawn pictures, made ahead of the network that learns from them.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
};

use super::{TrainError, pictures};

/// Added to the seed of pictures that no network learns from.
const HELD_OUT: u64 = 0x5eed_0000_0000;

/// Batches made ahead.
const AHEAD: usize = 2;

/// Which pictures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) seed: u64,
    pub(super) classes: usize,
    pub(super) side: u32,
    /// How much of their range sizes and places take; see [`pictures::draw`].
    pub(super) variety: f32,
}

/// Drawn pictures and their classes.
#[derive(Debug)]
pub(super) struct Drawn {
    /// `side · side · 3` bytes each.
    pub(super) pictures: Vec<Vec<u8>>,
    pub(super) classes: Vec<i64>,
}

impl Stream {
    /// The stream of pictures that networks never learn from.
    pub(super) fn held_out(self) -> Self {
        Self { seed: self.seed.wrapping_add(HELD_OUT), ..self }
    }

    /// Class of picture `index`: each in turn.
    pub(super) fn class(&self, index: u64) -> usize {
        (index % self.classes as u64) as usize
    }

    /// Pictures `from..from + count`.
    ///
    /// # Errors
    /// When they cannot be drawn.
    pub(super) fn draw(&self, from: u64, count: usize) -> Result<Drawn, TrainError> {
        let one = |index: u64| {
            let drawn =
                pictures::draw(self.seed, index, self.class(index), self.side, self.variety);
            drawn.map_err(|error| TrainError::Picture(error.to_string()))
        };
        let indices: Vec<u64> = (from..from + count as u64).collect();
        let threads =
            thread::available_parallelism().map_or(1, usize::from).min(count.div_ceil(8)).max(1);
        let some = |indices: &[u64]| {
            indices.iter().map(|&index| one(index)).collect::<Result<Vec<_>, _>>()
        };
        let parts: Vec<Result<Vec<_>, _>> = if threads == 1 {
            vec![some(&indices)]
        } else {
            thread::scope(|scope| {
                let part = |part| scope.spawn(move || some(part));
                let handles: Vec<_> = indices.chunks(count.div_ceil(threads)).map(part).collect();
                let panicked = || Err(TrainError::Picture("drawing panicked".into()));
                handles
                    .into_iter()
                    .map(|handle| handle.join().unwrap_or_else(|_| panicked()))
                    .collect()
            })
        };
        let mut pictures = Vec::with_capacity(count);
        for part in parts {
            pictures.extend(part?);
        }
        Ok(Drawn {
            pictures,
            classes: indices.iter().map(|&index| self.class(index) as i64).collect(),
        })
    }
}

/// Batches of a stream in order, drawn by a thread of their own.
#[derive(Debug)]
pub(super) struct Feed {
    batches: Option<Receiver<Result<Drawn, TrainError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Batches `from`, `from + 1`, … of `batch` pictures.
    pub(super) fn new(stream: Stream, from: u64, batch: usize) -> Self {
        let (sender, batches) = sync_channel(AHEAD);
        let thread = thread::spawn(move || {
            for step in from.. {
                let drawn = stream.draw(step * batch as u64, batch);
                let failed = drawn.is_err();
                if sender.send(drawn).is_err() || failed {
                    break;
                }
            }
        });
        Self { batches: Some(batches), thread: Some(thread) }
    }

    /// The next batch.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub(super) fn next(&mut self) -> Result<Drawn, TrainError> {
        let next = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        next.unwrap_or_else(|| Err(TrainError::Picture("the thread that draws has ended".into())))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The thread ends when nobody takes its batches any more.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Stream = Stream { seed: 3, classes: 16, side: 8, variety: 1.0 };

    #[test]
    fn a_feed_goes_on_where_another_would_be() {
        let mut whole = Feed::new(STREAM, 0, 20);
        whole.next().unwrap();
        let second = whole.next().unwrap();
        let resumed = Feed::new(STREAM, 1, 20).next().unwrap();
        assert_eq!(second.pictures, resumed.pictures);
        assert_eq!(second.classes, resumed.classes);
        assert_eq!(second.classes[..3], [4, 5, 6]);
        assert_eq!(second.pictures, STREAM.draw(20, 20).unwrap().pictures);
    }

    #[test]
    fn held_out_pictures_are_others() {
        assert_ne!(
            STREAM.draw(0, 1).unwrap().pictures,
            STREAM.held_out().draw(0, 1).unwrap().pictures
        );
    }
}
