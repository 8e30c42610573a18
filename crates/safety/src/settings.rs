//! The switches of the safety layer.

use serde::{Deserialize, Serialize};

/// What runs by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SafetySwitches {
    /// Whether each version is captured. Default: on, since without it nothing can be rolled back.
    pub auto_checkpoint: bool,
    /// Whether the workspace goes back to the accepted version when a candidate is not accepted. Default: on.
    pub auto_rollback: bool,
    /// Whether the scope and the size of edits are checked. Default: on. Tampering with protected paths, tests and
    /// measurements decide in any case.
    pub safety_checks_enabled: bool,
    /// Whether old checkpoints are deleted after each decision. Default: on.
    pub auto_cleanup: bool,
    /// How many checkpoints are kept, besides those that a rollback may need. Default 50.
    pub max_checkpoints: usize,
}

impl Default for SafetySwitches {
    fn default() -> Self {
        Self {
            auto_checkpoint: true,
            auto_rollback: true,
            safety_checks_enabled: true,
            auto_cleanup: true,
            max_checkpoints: 50,
        }
    }
}
