//! From a workspace to a tree that it had at one instant.
//!
//! Files are looked at one after the other, while others may change. What was seen is nevertheless what stood there at one
//! instant: nothing that was seen bears a time of change after the walk began, or two walks one after the other have seen the
//! same. Otherwise the workspace is walked again, a few times.

use std::time::{Duration, Instant};

use evoseal_types::Digest;

use crate::sink::{BlockBuilder, PackSink};
use crate::stat_cache::{CachedFolder, StatCache};
use crate::tree::{BuiltTree, MetadataSink};
use crate::walk::{Interruption, Walk, WalkPlan, WalkedFolder, walk};
use crate::workspace::Stamp;
use crate::{Error, Result};

/// How often a workspace that changes is walked before the capture gives up.
const WALKS_MAX: u32 = 6;
/// How long a walk waits, at the most, for the file system's clock to leave the tick of the last change. A clock that was
/// set back would never get there.
const TICK_WAIT_MAX: Duration = Duration::from_millis(40);

/// What a workspace held, and what to know about it next time.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) built: BuiltTree,
    pub(crate) findings: crate::walk::Findings,
    /// What the next walk may know; `None` if it would know nothing new.
    pub(crate) cache: Option<StatCache>,
}

/// How a capture treats what it finds.
pub(crate) struct CapturePlan<'a> {
    pub(crate) walk: WalkPlan<'a>,
    /// Folders that count even if they hold only what is left alone.
    pub(crate) is_wanted: &'a dyn Fn(&[u8]) -> bool,
}

/// Captures a workspace: contents and pages go to the sink of the plan, if it has one.
pub(crate) fn capture(plan: &CapturePlan<'_>) -> Result<Captured> {
    let (captured, ()) = capture_with(plan, |_, _| Ok(()))?;
    Ok(captured)
}

/// The same, and what `look` makes of the walk that counts.
pub(crate) fn capture_with<T>(
    plan: &CapturePlan<'_>,
    mut look: impl FnMut(&Walk<'_>, &BuiltTree) -> Result<T>,
) -> Result<(Captured, T)> {
    let mut own_cache: Option<StatCache> = None;
    let mut before: Option<(Digest, Option<Stamp>)> = None;
    let mut last_disturbed = Vec::new();
    let mut files_read = (0, 0);
    for attempt in 1..=WALKS_MAX {
        let cache = own_cache.as_ref().unwrap_or(plan.walk.cache);
        let walk_plan = WalkPlan {
            cache,
            cache_is_stored: plan.walk.cache_is_stored || own_cache.is_some(),
            ..plan.walk
        };
        let mut walked = match walk(&walk_plan) {
            Ok(walked) => walked,
            Err(Interruption::Failed(error)) => return Err(error),
            Err(Interruption::Changed { path, seen }) => {
                last_disturbed = path;
                // What a first capture has read is stored, and is not read again.
                if own_cache.is_none() && plan.walk.cache.folder_count() == 0 {
                    own_cache = Some(partial_cache(seen));
                }
                before = None;
                continue;
            }
        };
        let built = build(plan, &walk_plan, &walked)?;
        files_read.0 += walked.found.files_read;
        files_read.1 += walked.found.bytes_read;
        let found = &walked.found;
        let seen = (built.tree, found.disturbance.as_ref().map(|(stamp, _)| *stamp));
        // Files that are not captured come and go in folders that are: two equal walks say that nothing else did.
        let is_quiet = seen.1.is_none() && found.folder_disturbance.is_none();
        let is_settled = is_quiet || before == Some(seen);
        if is_settled {
            (walked.found.files_read, walked.found.bytes_read) = files_read;
            let looked = look(&walked, &built)?;
            let is_known = built.is_as_cached
                && own_cache.is_none()
                && plan.walk.cache.tree() == Some(built.tree)
                && walked.folders.iter().all(|folder| folder.cached.is_some())
                && walked.folders.len() == plan.walk.cache.folder_count();
            let cache = (!is_known).then(|| built.cache(&walked));
            return Ok((Captured { built, findings: walked.found, cache }, looked));
        }
        let cache = built.cache(&walked);
        if let Some((stamp, path)) = walked.found.disturbance.max(walked.found.folder_disturbance) {
            if attempt < WALKS_MAX {
                wait_for_tick_after(stamp);
            }
            last_disturbed = path;
        }
        before = Some(seen);
        own_cache = Some(cache);
    }
    Err(Error::Unstable { path: plan.walk.root.shown(&last_disturbed), attempts: WALKS_MAX })
}

/// Makes the pages; they go where the contents went.
fn build(plan: &CapturePlan<'_>, walk_plan: &WalkPlan<'_>, walked: &Walk<'_>) -> Result<BuiltTree> {
    let mut builder = BlockBuilder::default();
    let mut store = |digest: Digest, bytes: &[u8]| match plan.walk.sink {
        Some(sink) => sink.add_metadata(&mut builder, digest, bytes),
        None => Ok(()),
    };
    let sink: &mut MetadataSink<'_> = &mut store;
    // Pages that nobody is known to have stored are handed on again.
    let repeats_known = plan.walk.sink.is_some() && !walk_plan.cache_is_stored;
    let built = BuiltTree::of(walked, plan.walk.options, plan.is_wanted, repeats_known, sink)?;
    plan.walk.sink.map_or(Ok(()), |sink: &PackSink<'_>| sink.flush(&mut builder))?;
    Ok(built)
}

/// A cache of the folders that were walked before a walk was cut off. They have no pages yet, so none is taken as known.
fn partial_cache(mut seen: Vec<WalkedFolder<'_>>) -> StatCache {
    seen.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    let folders = seen.iter().map(|folder| CachedFolder {
        path: &folder.path,
        device: folder.device,
        // No folder has this mode, so that what has no page is never taken as unchanged.
        mode: u32::from(u16::MAX),
        has_kept: folder.has_kept,
        is_hollow: false,
        page: Digest::from_bytes([0; 32]),
        entry_count: folder.entry_count,
        entries: folder.entry_bytes(),
    });
    StatCache::new(None, folders, 0)
}

/// Waits until the clock that marks changes has left `stamp` behind.
fn wait_for_tick_after(stamp: Stamp) {
    let deadline = Instant::now() + TICK_WAIT_MAX;
    while Stamp::now() <= stamp && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}
