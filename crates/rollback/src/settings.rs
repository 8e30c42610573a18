//! How far a rollback may go.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The section `safety.rollback` of the settings, with the published keys.
///
/// ```
/// use evoseal_rollback::RollbackSettings;
/// let settings: RollbackSettings = serde_json::from_str(r#"{ "rollback_timeout": 12.5 }"#)?;
/// assert_eq!((settings.max_rollback_attempts, settings.rollback_timeout.as_millis()), (3, 12_500));
/// assert!(serde_json::from_str::<RollbackSettings>(r#"{ "max_attempts": 3 }"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollbackSettings {
    /// Whether older known-good versions are tried where the requested one is damaged or unhealthy. Default true: an
    /// unattended loop is better off at an older good version than stopped at a bad one.
    pub enable_rollback_failure_recovery: bool,
    /// How many versions are tried in all, the requested one included; at least 1. Default 3: more failures than that
    /// mean that the store or the health check is broken, not the version.
    pub max_rollback_attempts: u32,
    /// How long all attempts together may take, in seconds; more than 0. Default 30. A restore that has begun is not
    /// cut off: the time is checked before each attempt, and limits every other wait.
    #[serde(with = "seconds")]
    pub rollback_timeout: Duration,
    /// How the workspace becomes the version. Default `in_place`; see [`RollbackMode`].
    pub mode: RollbackMode,
    /// A command that says with its exit code whether a restored workspace is fit for use. Default: none; the digest is
    /// checked in any case. The program `evoseal` runs it in its sandbox; a program of one's own hands in a
    /// [`Verifier`](crate::Verifier) instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckSettings>,
    /// Files and folders of the workspace, such as `target`, that hold what can be made again. With each rollback everything
    /// in them goes that the restored version does not hold, and nothing of it is saved: what a bad candidate left in a cache
    /// must not survive it. Default: none. `.evoseal` and `.git` are refused; no symlink is followed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<String>,
}

/// How a workspace becomes another version.
///
/// ```
/// use evoseal_rollback::{RollbackMode, RollbackSettings};
/// let settings: RollbackSettings = serde_json::from_str(r#"{ "mode": "exchange" }"#)?;
/// assert_eq!(settings.mode, RollbackMode::Exchange);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackMode {
    /// What differs is rewritten, one file after the other. The cost grows with what differs. Between a crash and the next
    /// start the tree may be between two versions; the next start ends that.
    #[default]
    InPlace,
    /// The whole version is built beside the workspace, and the two change places at one instant: whoever looks sees the
    /// old version or the new one, also after a crash. The cost grows with the size of the tree. Unchanged files stay the
    /// same files; the folder of the workspace is a new one, so that a shell or an editor that stands in it must enter it
    /// anew. Needs Linux, a file system that knows `RENAME_EXCHANGE`, and the right to make a folder beside the workspace.
    ///
    /// While the two change places, and after a crash just then until the next start, symlinks stand in for what no version
    /// holds (ignored files, `.git`): its paths lead to the same files as ever, which are then in the folder
    /// `.<workspace>.evoseal-exchange` beside the workspace.
    Exchange,
}

impl RollbackMode {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(crate) fn is_in_place(&self) -> bool {
        *self == Self::InPlace
    }
}

/// A command that looks at a restored workspace.
///
/// ```
/// use evoseal_rollback::HealthCheckSettings;
/// let check: HealthCheckSettings =
///     serde_json::from_str(r#"{ "command": ["make", "check"], "limits": { "wall_time_sec": 20 } }"#)?;
/// assert_eq!(check.limits["wall_time_sec"], 20);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckSettings {
    /// The program and its arguments; started in the workspace, and healthy is what it ends on with code 0.
    pub command: Vec<String>,
    /// Its limits by their names, as in `[evaluate.test.limits]`. Default: those of the sandbox. The rollback's own
    /// time limit holds besides.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
}

impl Default for RollbackSettings {
    fn default() -> Self {
        Self {
            enable_rollback_failure_recovery: true,
            max_rollback_attempts: 3,
            rollback_timeout: Duration::from_secs(30),
            mode: RollbackMode::InPlace,
            health_check: None,
            caches: Vec::new(),
        }
    }
}

impl RollbackSettings {
    /// Refuses settings under which no rollback could work.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |what, reason: &str| Err(Error::Invalid { what, reason: reason.to_owned() });
        if self.max_rollback_attempts == 0 {
            return refuse("max_rollback_attempts", "it is 0, so that nothing would ever be tried");
        }
        if self.rollback_timeout.is_zero() {
            return refuse("rollback_timeout", "it is 0, so that nothing would ever be tried");
        }
        if self.health_check.as_ref().is_some_and(|check| check.command.first().is_none_or(String::is_empty))
        {
            return refuse("health_check", "its command names no program");
        }
        crate::caches::check(&self.caches).map(drop)
    }

    /// The most elements of a ladder that are tried.
    pub(crate) fn attempts_max(&self) -> usize {
        if self.enable_rollback_failure_recovery {
            usize::try_from(self.max_rollback_attempts).unwrap_or(usize::MAX)
        } else {
            1
        }
    }
}

/// A duration as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        if value.subsec_nanos() == 0 {
            serializer.serialize_u64(value.as_secs())
        } else {
            serializer.serialize_f64(value.as_secs_f64())
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_published_ones_and_read_back() {
        let json = serde_json::to_string(&RollbackSettings::default()).unwrap();
        let expected = r#"{"enable_rollback_failure_recovery":true,"max_rollback_attempts":3,"rollback_timeout":30,"mode":"in_place"}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<RollbackSettings>(&json).unwrap(), RollbackSettings::default());
    }

    #[test]
    fn settings_that_allow_nothing_are_refused() {
        let default = RollbackSettings::default;
        for (bad, what) in [
            (RollbackSettings { max_rollback_attempts: 0, ..default() }, "max_rollback_attempts"),
            (RollbackSettings { rollback_timeout: Duration::ZERO, ..default() }, "rollback_timeout"),
        ] {
            assert!(bad.check().unwrap_err().to_string().starts_with(what));
        }
        for bad in ["-1", "1e300", "null"] {
            let json = format!("{{\"rollback_timeout\":{bad}}}");
            assert!(serde_json::from_str::<RollbackSettings>(&json).is_err(), "{json}");
        }
    }
}
