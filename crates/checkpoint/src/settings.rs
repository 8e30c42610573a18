//! Settings of a store, under their published names.

use std::path::PathBuf;

use fastcdc::v2020::FastCDC;
use serde::{Deserialize, Serialize};

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
}

impl CheckpointSettings {
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
            auto_cleanup: true,
            compression_enabled: true,
            include_ignored: false,
            keep_mtimes: false,
            keep_xattrs: false,
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
