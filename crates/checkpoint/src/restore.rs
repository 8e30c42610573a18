//! Making a directory equal to a checkpoint.
//!
//! In this order, so that nothing is lost: compare; write everything that is new aside, each byte checked; make that
//! durable; only then swing the names, remove what must go, and look at the result. Until the names swing, an error
//! leaves the target as it was; after that, running the restore again completes it.

use std::collections::BTreeMap;
use std::path::Path;

use evoseal_types::{ChangeKind, CheckpointId, Digest, EntryPath};

use crate::capture::{self, CapturePlan};
use crate::difference::{self, Difference, Differences};
use crate::engine::{Engine, Snapshot};
use crate::ignore_rules::{IGNORE_FILE_LEN_MAX, IGNORE_FILES};
use crate::local::io_error;
use crate::objects::Reader;
use crate::pattern::Patterns;
use crate::stage::{Stage, replaces_folder};
use crate::stat_cache::{CachedFolder, Seen, SeenKind, SeenWriter, StatCache};
use crate::store::{Entry, EntryKind, RestoreMode, RestoreReport};
use crate::tree::StoredTree;
use crate::walk::{NoRules, RuleSource, Walk, WalkPlan};
use crate::workspace::{FileStat, Root, Stamp, split};
use crate::{Error, Result};

/// Stands in a directory that was empty when its restore began, until that restore is complete.
pub(crate) const MARKER: &[u8] = b".evoseal-restore-unfinished";

/// The ignore rules that the checkpoint holds: those of the present workspace may have been changed to hide something.
#[derive(Debug)]
struct StoredRules {
    entries: Vec<Entry>,
    files: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl StoredRules {
    fn read(reader: &mut Reader, stored: &StoredTree) -> Result<Self> {
        let entries = stored.entries(reader)?;
        let mut files: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        // Entries are sorted by path, and so are the names, but the second kind must come after the first.
        for wanted in IGNORE_FILES {
            for entry in &entries {
                let (folder, name) = split(entry.path.as_bytes());
                let EntryKind::File { size_bytes, digest, .. } = entry.kind else { continue };
                if name != wanted {
                    continue;
                }
                if size_bytes > IGNORE_FILE_LEN_MAX {
                    return Err(Error::TooLarge {
                        what: format!("ignore file {}", entry.path),
                        actual: size_bytes,
                        limit: IGNORE_FILE_LEN_MAX,
                    });
                }
                files.entry(folder.to_vec()).or_default().push(reader.content(digest, size_bytes)?);
            }
        }
        Ok(Self { entries, files })
    }
}

impl RuleSource for StoredRules {
    fn ignore_files(&self, folder: &[u8]) -> Option<Vec<Vec<u8>>> {
        Some(self.files.get(folder).cloned().unwrap_or_default())
    }

    fn is_wanted(&self, path: &[u8]) -> bool {
        self.entries.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).is_ok()
    }
}

/// Says of a folder whether the checkpoint has it, whatever it holds.
type Wanted<'a> = &'a dyn Fn(&[u8]) -> bool;

/// What stands in a target, compared with what should.
struct Comparison {
    /// Whether nothing at all stands there.
    is_empty: bool,
    differences: Differences,
    /// What an interrupted restore left behind.
    leftovers: Vec<EntryPath>,
    /// A folder that must give way and holds something that could not be brought back.
    blocked: Option<Vec<u8>>,
}

/// One restore, before and while it runs.
struct Restore<'a> {
    engine: &'a Engine,
    reader: Reader,
    stored: StoredTree,
    mode: RestoreMode,
    /// What of the tree is restored; everything without it.
    patterns: Option<&'a Patterns>,
}

impl Engine {
    /// What a restore would change.
    pub(crate) fn plan_restore(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
        patterns: Option<&Patterns>,
    ) -> Result<RestoreReport> {
        self.reading(|snapshot| {
            let mut restore = self.restoration(id, snapshot, mode, patterns)?;
            let differences = match restore.compare(target) {
                Err(Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound && !target.exists() =>
                {
                    restore.everything()?
                }
                other => other?.1.differences,
            };
            Ok(restore.report(&differences))
        })
    }

    /// Makes `target` equal to the checkpoint.
    pub(crate) fn restore(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
        patterns: Option<&Patterns>,
    ) -> Result<RestoreReport> {
        let _released = self.reserve.as_ref().map(|reserve| reserve.release(target));
        self.reading(|snapshot| self.restoration(id, snapshot, mode, patterns)?.run(target))
    }

    fn restoration<'a>(
        &'a self,
        id: CheckpointId,
        snapshot: &Snapshot,
        mode: RestoreMode,
        patterns: Option<&'a Patterns>,
    ) -> Result<Restore<'a>> {
        let tree = snapshot.catalog.entry(id)?.tree;
        let mut reader = self.reader(snapshot);
        let stored = StoredTree::read(&mut reader, tree)?;
        Ok(Restore { engine: self, reader, stored, mode, patterns })
    }
}

impl Restore<'_> {
    /// What it takes where nothing stands.
    fn everything(&mut self) -> Result<Differences> {
        let entries = self.stored.entries(&mut self.reader)?.into_iter();
        let list =
            entries.map(|entry| Difference { path: entry.path, before: None, after: Some(entry.kind) });
        let mut differences = Differences { list: list.collect(), ..Differences::default() };
        self.choose(&mut differences)?;
        Ok(differences)
    }

    fn compare(&mut self, target: &Path) -> Result<(Root, Comparison)> {
        let root = self.engine.open_workspace(target)?;
        let present = Engine::rules(self.stored.object.options);
        let mut comparison = self.compare_under(&root, present, None)?;
        if comparison.differences.is_doubtful {
            let rules = StoredRules::read(&mut self.reader, &self.stored)?;
            comparison = if self.stored.object.options.include_ignored {
                self.compare_under(&root, present, Some(&|path| rules.is_wanted(path)))?
            } else {
                self.compare_under(&root, &rules, Some(&|path| rules.is_wanted(path)))?
            };
        }
        if self.mode == RestoreMode::Empty {
            // A resumed restore may add to what it made before; anything else in there is not ours.
            let is_resumed = comparison.leftovers.iter().any(|path| path.as_bytes() == MARKER);
            let only_adds = comparison.differences.list.iter().all(|difference| difference.before.is_none());
            if (!comparison.is_empty && !is_resumed) || !only_adds {
                return Err(Error::NotEmpty { path: root.path().to_owned() });
            }
        }
        self.choose(&mut comparison.differences)?;
        Ok((root, comparison))
    }

    fn compare_under(
        &mut self,
        root: &Root,
        rules: &dyn RuleSource,
        wanted: Option<Wanted<'_>>,
    ) -> Result<Comparison> {
        let known = self.engine.stat_cache(root.path());
        let excluded = self.engine.excluded();
        let walk = WalkPlan {
            root,
            rules,
            options: self.stored.object.options,
            excluded: &excluded,
            cache: &known,
            chunking: self.engine.header.chunking,
            sink: None,
            cache_is_stored: true,
        };
        let (stored, reader) = (&self.stored, &mut self.reader);
        let plan = CapturePlan { walk, is_wanted: wanted.unwrap_or(&|_| false) };
        let (captured, (is_empty, differences, blocked)) = capture::capture_with(&plan, |walk, built| {
            let differences = difference::compare(walk, built, stored, reader)?;
            let blocked = blocked_by(walk, &differences);
            let folder = &walk.folders[0];
            Ok((folder.entry_count == 0 && !folder.has_kept, differences, blocked))
        })?;
        let is_equal = differences.list.is_empty() && !differences.is_doubtful;
        // What was seen with a checkpoint's wishes in mind is not what the next capture will see.
        if let Some(cache) = captured.cache.filter(|_| is_equal && wanted.is_none()) {
            self.engine.keep_stat_cache(root.path(), cache);
        }
        Ok(Comparison { is_empty, differences, leftovers: captured.findings.leftovers, blocked })
    }

    /// Leaves out what was not asked for.
    fn choose(&self, differences: &mut Differences) -> Result<()> {
        let Some(patterns) = self.patterns else { return Ok(()) };
        let mut kept = patterns.choose(&differences.list)?;
        std::mem::swap(&mut differences.list, &mut kept);
        Ok(())
    }

    fn run(&mut self, target: &Path) -> Result<RestoreReport> {
        let is_new = !target.exists();
        std::fs::create_dir_all(target).map_err(|source| io_error("create", target, source))?;
        let result = self.run_in(target);
        if is_new && result.is_ok() {
            // The target's own name is durable only with the folder that holds it.
            let above =
                target.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::File::open(above)
                .and_then(|folder| folder.sync_all())
                .map_err(|source| io_error("sync", above, source))?;
        }
        if is_new && result.is_err() {
            // Only an empty directory goes, so nothing can be lost if this was not the whole story.
            let _ = std::fs::remove_dir(target);
        }
        result
    }

    fn run_in(&mut self, target: &Path) -> Result<RestoreReport> {
        let (root, Comparison { differences, leftovers, blocked, .. }) = self.compare(target)?;
        if self.mode == RestoreMode::InPlace && differences.list.is_empty() && leftovers.is_empty() {
            // The comparison has just read the target and found it equal; reading it back would say the same.
            return Ok(self.report(&differences));
        }
        if let Some(folder) = blocked {
            return Err(Error::NotEmpty { path: root.shown(&folder) });
        }
        let options = self.stored.object.options;
        let extras = self.stored.extras.clone();
        let mut stage = Stage::new(&root, options, &extras, differences.list.len());
        for path in &leftovers {
            if self.mode == RestoreMode::InPlace || path.as_bytes() != MARKER {
                root.remove_tree(path.as_bytes())?;
            }
        }
        if self.mode == RestoreMode::Empty {
            stage.write_marker(MARKER)?;
        }
        if let Err(error) = stage.prepare(&self.reader, &differences.list) {
            stage.abandon();
            if self.mode == RestoreMode::Empty && leftovers.is_empty() {
                let _ = root.remove_tree(MARKER);
            }
            return Err(error);
        }
        let applied = stage.apply(&differences.list);
        stage.abandon();
        applied?;
        if self.mode == RestoreMode::Empty && self.patterns.is_none() {
            let has_rules = !leftovers.is_empty()
                || differences
                    .list
                    .iter()
                    .any(|difference| IGNORE_FILES.contains(&split(difference.path.as_bytes()).1));
            self.read_back(&root, &stage, has_rules)?;
        } else if let Some(path) = stage.first_disturbed(&differences.list)? {
            return Err(Error::NotRestored { target: root.path().to_owned(), path: path.to_string() });
        }
        stage.sync(&differences.list)?;
        if self.mode == RestoreMode::Empty {
            stage.remove_marker(MARKER)?;
        }
        Ok(self.report(&differences))
    }

    /// The target as it is now must be the checkpoint's tree. What was just written, each byte of it checked, is not read
    /// again as long as nobody has touched it since.
    fn read_back(&mut self, root: &Root, stage: &Stage<'_>, has_rules: bool) -> Result<()> {
        let device = root.identity()?.0;
        let known = cache_of(&stage.take_written(), device);
        let options = self.stored.object.options;
        let excluded = self.engine.excluded();
        let rules;
        let source: &dyn RuleSource = if options.include_ignored || !has_rules {
            &NoRules
        } else {
            rules = StoredRules::read(&mut self.reader, &self.stored)?;
            &rules
        };
        let walk = WalkPlan {
            root,
            rules: source,
            options,
            excluded: &excluded,
            cache: &known,
            chunking: self.engine.header.chunking,
            sink: None,
            cache_is_stored: true,
        };
        let plan = CapturePlan { walk, is_wanted: &|path| source.is_wanted(path) };
        let (stored, reader) = (&self.stored, &mut self.reader);
        let (captured, first) = capture::capture_with(&plan, |walk, built| {
            if built.tree == stored.tree {
                return Ok(None);
            }
            let differences = difference::compare(walk, built, stored, reader)?;
            let first = differences.list.first().map(|difference| difference.path.to_string());
            Ok(Some(first.unwrap_or_else(|| "an entry".to_owned())))
        })?;
        if let Some(path) = first {
            return Err(Error::NotRestored { target: root.path().to_owned(), path });
        }
        if let Some(cache) = captured.cache {
            self.engine.keep_stat_cache(root.path(), cache);
        }
        Ok(())
    }

    fn report(&self, differences: &Differences) -> RestoreReport {
        RestoreReport {
            changes: differences.list.iter().map(Difference::change).collect(),
            unchanged: differences.unchanged,
            tree: self.stored.tree,
        }
    }
}

/// A folder that must give way to something else may hold nothing that is ignored or left alone: it could not be
/// brought back.
fn blocked_by(walk: &Walk<'_>, differences: &Differences) -> Option<Vec<u8>> {
    let giving_way = differences.list.iter().filter(|difference| replaces_folder(difference));
    for difference in giving_way {
        debug_assert_eq!(difference.change().kind, ChangeKind::KindChanged);
        let path = difference.path.as_bytes();
        let inside = |folder: &[u8]| {
            folder == path || folder.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"))
        };
        let held = walk.folders.iter().find(|folder| folder.has_kept && inside(&folder.path));
        if let Some(folder) = held {
            return Some(folder.path.clone());
        }
    }
    None
}

/// A cache of the files that were just written.
fn cache_of(written: &BTreeMap<EntryPath, (FileStat, Digest)>, device: u64) -> StatCache {
    type File<'n> = (&'n [u8], FileStat, Digest);
    let now = Stamp::now();
    let mut folders: BTreeMap<&[u8], Vec<File<'_>>> = BTreeMap::new();
    for (path, (stat, digest)) in written {
        let (folder, name) = split(path.as_bytes());
        folders.entry(folder).or_default().push((name, *stat, *digest));
    }
    let seen: Vec<(&[u8], SeenWriter)> = folders
        .into_iter()
        .map(|(folder, mut files)| {
            files.sort_unstable_by(|left, right| left.0.cmp(right.0));
            let mut writer = SeenWriter::default();
            for (name, stat, digest) in files {
                let is_trusted = stat.changed < now && stat.modified < now;
                writer.push(&Seen { name, kind: SeenKind::File { stat, digest, is_trusted } });
            }
            (folder, writer)
        })
        .collect();
    let folders = seen.iter().map(|(path, writer)| CachedFolder {
        path,
        device,
        // No folder has this mode, so that what has no page is never taken as unchanged.
        mode: u32::from(u16::MAX),
        has_kept: false,
        is_hollow: false,
        page: Digest::from_bytes([0; 32]),
        entry_count: writer.count,
        entries: &writer.bytes,
    });
    StatCache::new(None, folders, 0)
}
