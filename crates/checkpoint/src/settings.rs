//! Settings of a store, under their published names.

use std::path::PathBuf;
use std::time::Duration;

use fastcdc::v2020::FastCDC;
use serde::{Deserialize, Serialize};

use crate::retention::RetentionPolicy;

/// Section `safety.checkpoints` of the settings.
///
/// ```
/// use evoseal_checkpoint::CheckpointSettings;
/// let settings: CheckpointSettings = toml::from_str("checkpoint_directory = 'saved'\ncompression = false")?;
/// assert_eq!(settings.checkpoint_dir, std::path::Path::new("saved"));
/// assert_eq!((settings.max_checkpoints, settings.compression_enabled), (50, false));
/// assert!(toml::from_str::<CheckpointSettings>("max_checkpoint = 3").is_err(), "misspelt keys are refused");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSettings {
    /// Where the store is. Default `.evoseal/checkpoints`, which capture leaves alone. Also `checkpoint_directory`.
    #[serde(alias = "checkpoint_directory")]
    pub checkpoint_dir: PathBuf,
    /// How many checkpoints automatic cleanup keeps, at least 1. Default 50: a day of work at one every ten minutes.
    pub max_checkpoints: u64,
    /// Keeps, beyond `max_checkpoints`, all that are no older than this many seconds when the newest was made. Default 0: none.
    pub keep_within_sec: u64,
    /// Keeps, beyond `max_checkpoints`, the newest of each of the last so many hours (UTC) that have one. Default 0.
    pub keep_hourly: u64,
    /// The same for days. Default 0.
    pub keep_daily: u64,
    /// The same for weeks. Default 0.
    pub keep_weekly: u64,
    /// The same for months. Default 0.
    pub keep_monthly: u64,
    /// The same for years. Default 0.
    pub keep_yearly: u64,
    /// How many bytes the whole store may take up; 0, the default, for no limit. When it is larger, cleanup deletes the
    /// oldest checkpoints whatever the rules above say, down to nine tenths, so that not every checkpoint has to do it again.
    /// What is pinned or may be needed is never deleted for it.
    pub max_store_bytes: u64,
    /// Whether the oldest checkpoints beyond `max_checkpoints` are deleted after a new one is durable. Pinned and
    /// protected ones and the parent of the new one are never deleted. Default true: a store must not fill the disk.
    pub auto_cleanup: bool,
    /// Whether new objects are compressed. Default true: sources shrink to a third at little cost. Also `compression`.
    #[serde(alias = "compression")]
    pub compression_enabled: bool,
    /// Whether files that `.gitignore` and `.evosealignore` exclude are captured, and repositories inside the workspace with
    /// their `.git`; the workspace's own `.git` never is. Default false: build outputs are large and can be made again.
    pub include_ignored: bool,
    /// Whether times of modification are captured and restored. Default false: a file that is rewritten gets a new time, so
    /// that build tools notice.
    pub keep_mtimes: bool,
    /// Whether extended attributes are captured and restored. Default false: few trees have any that mean something.
    pub keep_xattrs: bool,
    /// How many bytes are set aside on the disk of a local store, to be given up to a restore onto the same file system, so
    /// that it succeeds on a disk that is full. Default 0: nothing is set aside. As many bytes as the workspace has are enough
    /// for everything.
    pub reserve_bytes: u64,
}

impl CheckpointSettings {
    /// Which checkpoints cleanup keeps.
    pub fn retention(&self) -> RetentionPolicy {
        RetentionPolicy {
            last: self.max_checkpoints,
            within: Duration::from_secs(self.keep_within_sec),
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
        }
    }

    /// What of a workspace is captured.
    pub(crate) fn capture_options(&self) -> CaptureOptions {
        CaptureOptions {
            include_ignored: self.include_ignored,
            keep_mtimes: self.keep_mtimes,
            keep_xattrs: self.keep_xattrs,
        }
    }
}

/// What of a workspace is captured beyond kinds, contents and rights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CaptureOptions {
    pub(crate) include_ignored: bool,
    pub(crate) keep_mtimes: bool,
    pub(crate) keep_xattrs: bool,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            checkpoint_dir: PathBuf::from(".evoseal/checkpoints"),
            max_checkpoints: 50,
            keep_within_sec: 0,
            keep_hourly: 0,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
            max_store_bytes: 0,
            auto_cleanup: true,
            compression_enabled: true,
            include_ignored: false,
            keep_mtimes: false,
            keep_xattrs: false,
            reserve_bytes: 0,
        }
    }
}

/// How large contents are cut. Part of the stored format: a store keeps the parameters it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "they are one quantity with its unit, and its bounds")]
pub(crate) struct Chunking {
    pub(crate) size_bytes_min: u32,
    pub(crate) size_bytes_avg: u32,
    pub(crate) size_bytes_max: u32,
}

impl Chunking {
    /// Small enough that an edit of a large file stores about a megabyte, large enough that lists of chunks stay short.
    pub(crate) const STANDARD: Self =
        Self { size_bytes_min: 64 << 10, size_bytes_avg: 256 << 10, size_bytes_max: 1 << 20 };

    /// Cuts `bytes` by content.
    pub(crate) fn cutter<'a>(&self, bytes: &'a [u8]) -> FastCDC<'a> {
        FastCDC::new(
            bytes,
            self.size_bytes_min as usize,
            self.size_bytes_avg as usize,
            self.size_bytes_max as usize,
        )
    }

    /// Whether the chunker takes these numbers and every chunk fits into a block.
    pub(crate) fn is_valid(self) -> bool {
        (64..=1 << 20).contains(&self.size_bytes_min)
            && (256..=4 << 20).contains(&self.size_bytes_avg)
            && (1024..=crate::pack::OBJECT_LEN_MAX).contains(&(self.size_bytes_max as usize))
            && [self.size_bytes_min, self.size_bytes_avg, self.size_bytes_max]
                .iter()
                .all(|size| size % 2 == 0)
            && self.size_bytes_min <= self.size_bytes_avg
            && self.size_bytes_avg <= self.size_bytes_max
    }
}
