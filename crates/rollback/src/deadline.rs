//! The time that one rollback has.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use evoseal_types::Clock;

use crate::{Attempt, Error, Result};

/// Started when the rollback was asked for.
#[derive(Debug)]
pub(crate) struct Deadline {
    clock: Arc<dyn Clock>,
    started: Duration,
    limit: Duration,
}

impl Deadline {
    pub(crate) fn start(clock: &Arc<dyn Clock>, limit: Duration) -> Self {
        Self { clock: Arc::clone(clock), started: clock.monotonic(), limit }
    }

    /// How long it has been.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.limit.saturating_sub(self.elapsed())
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }

    pub(crate) fn error(&self, attempts: &[Attempt]) -> Error {
        Error::TimedOut { limit_sec: self.limit.as_secs(), attempts: attempts.to_vec() }
    }

    /// Waits for `work`, which must be harmless to drop, until the time is up.
    pub(crate) async fn within<T, E>(&self, work: impl Future<Output = Result<T, E>> + Send) -> Result<T>
    where
        Error: From<E>,
    {
        if self.has_passed() {
            return Err(self.error(&[]));
        }
        match tokio::time::timeout(self.remaining(), work).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(self.error(&[])),
        }
    }
}
