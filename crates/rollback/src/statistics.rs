//! Counting over the history without holding it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::{Initiator, RollbackRecord, RollbackStatistics};

/// Counts records one by one.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    total: u64,
    successful: u64,
    automatic: u64,
    manual: u64,
    recovery: u64,
    reasons: BTreeMap<String, u64>,
}

impl Counter {
    pub(crate) fn add(&mut self, record: RollbackRecord) {
        self.total += 1;
        self.successful += u64::from(record.report.is_some());
        match record.request.initiator {
            Initiator::Automatic => self.automatic += 1,
            Initiator::Person(_) => self.manual += 1,
            Initiator::Recovery => self.recovery += 1,
        }
        *self.reasons.entry(record.request.reason).or_default() += 1;
    }

    pub(crate) fn finish(self) -> RollbackStatistics {
        let mut reason_counts: Vec<(String, u64)> = self.reasons.into_iter().collect();
        // A stable sort: equally frequent reasons stay in alphabetical order.
        reason_counts.sort_by_key(|(_, count)| Reverse(*count));
        RollbackStatistics {
            total_rollbacks: self.total,
            successful_rollbacks: self.successful,
            failed_rollbacks: self.total - self.successful,
            success_rate: (self.total > 0).then(|| self.successful as f64 / self.total as f64),
            auto_rollbacks: self.automatic,
            manual_rollbacks: self.manual,
            recovery_rollbacks: self.recovery,
            reason_counts,
        }
    }
}
