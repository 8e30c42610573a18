//! Asking a run to end.

use std::sync::Arc;

use tokio::sync::watch;

/// Asks a run to end: the step under way is abandoned, the workspace returned to the incumbent.
///
/// ```
/// use evoseal_pipeline::Cancellation;
/// let cancellation = Cancellation::default();
/// let for_the_signal_handler = cancellation.clone();
/// for_the_signal_handler.cancel();
/// assert!(cancellation.is_cancelled());
/// ```
#[derive(Debug, Clone)]
pub struct Cancellation {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Cancellation {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(false)) }
    }
}

impl Cancellation {
    /// Asks. Idempotent.
    pub fn cancel(&self) {
        self.sender.send_replace(true);
    }

    /// Whether it was asked.
    pub fn is_cancelled(&self) -> bool {
        *self.sender.borrow()
    }

    /// Waits until it is asked.
    pub async fn cancelled(&self) {
        // The sender lives as long as this clone, so waiting cannot fail.
        let _ = self.sender.subscribe().wait_for(|asked| *asked).await;
    }

    /// Finishes `work`, or gives `None` as soon as the run is asked to end.
    pub(crate) async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.cancelled() => None,
            done = work => Some(done),
        }
    }
}
