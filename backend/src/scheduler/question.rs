//! Questions to a model that leave nothing behind: asked between batches, answered once.

use std::sync::{Mutex, PoisonError, mpsc::SyncSender};

use tokio::sync::{Semaphore, oneshot};
use var_dd_protocol::{ErrorBody, ErrorCode};

use super::{
    live::internal,
    worker::{Question, Task, for_the_public},
};
use crate::generator::{Generator, GeneratorError};

/// Questions that may wait for the device.
pub(super) const WAITING: usize = 16;

/// Where questions go in.
#[derive(Debug)]
pub(super) struct Questions {
    device: Mutex<Option<SyncSender<Task>>>,
    room: Semaphore,
}

impl Default for Questions {
    fn default() -> Self {
        Self { device: Mutex::new(None), room: Semaphore::new(WAITING) }
    }
}

impl Questions {
    /// Lets questions go to the device; `None` ends that, and with it the thread can end.
    pub(super) fn connect(&self, device: Option<SyncSender<Task>>) {
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = device;
    }

    /// Asks a model. Whoever stops waiting takes the question back, unless the device has it.
    ///
    /// # Errors
    /// When too many questions wait, the server shuts down, or the device cannot answer.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        model: usize,
        question: impl FnOnce(&dyn Generator) -> Result<T, GeneratorError> + Send + 'static,
    ) -> Result<T, ErrorBody> {
        let Ok(_room) = self.room.try_acquire() else {
            let message =
                format!("{WAITING} questions wait for the device already; try again in a moment");
            return Err(ErrorBody::new(ErrorCode::QueueFull, message).retry_after(1));
        };
        let (answer, answered) = oneshot::channel();
        let ask = Box::new(move |generator: &dyn Generator| {
            if !answer.is_closed() {
                let _ = answer.send(question(generator));
            }
        });
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let task = Task::Ask(Question { model, ask });
        let is_sent = device.is_some_and(|device| device.try_send(task).is_ok());
        if !is_sent {
            let message = "the server is shutting down and answers no more; try again when it is \
                           back";
            return Err(ErrorBody::new(ErrorCode::ShuttingDown, message).retry_after(5));
        }
        match answered.await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error @ GeneratorError::OutOfMemory { .. })) => {
                let message = for_the_public(&error.to_string());
                Err(ErrorBody::new(ErrorCode::OutOfMemory, message))
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a question failed");
                Err(internal(for_the_public(&error.to_string())))
            }
            Err(_) => Err(internal("the question was lost by a fault of the server")),
        }
    }
}
