//! Making a directory equal to a checkpoint.
//!
//! In this order, so that nothing is lost: compare; write everything that is new aside, each byte checked; make that
//! durable; only then swing the names, remove what must go, and read the result back. Until the names swing, an error
//! leaves the target as it was; after that, running the restore again completes it.

use std::collections::BTreeMap;
use std::path::Path;

use evoseal_types::{Change, ChangeKind, CheckpointId, Digest, EntryPath};

use crate::engine::{Engine, Snapshot};
use crate::ignore_rules::{IGNORE_FILE_LEN_MAX, IGNORE_FILES};
use crate::local::io_error;
use crate::objects::Reader;
use crate::page::STAGING_PREFIX;
use crate::scan::{RuleSource, Scan, scan};
use crate::stage::Stage;
use crate::store::{Entry, EntryKind, RestoreMode, RestoreReport};
use crate::tree::read_tree;
use crate::workspace::{Root, split};
use crate::{Error, Result, capture, diff_entries};

/// Stands in a directory that was empty when its restore began, until that restore is complete.
pub(crate) const MARKER: &[u8] = b".evoseal-restore-unfinished";

/// The ignore rules that the checkpoint holds: those of the present workspace may have been changed to hide something.
#[derive(Debug)]
struct StoredRules<'a> {
    entries: &'a [Entry],
    files: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl<'a> StoredRules<'a> {
    fn read(reader: &mut Reader, entries: &'a [Entry]) -> Result<Self> {
        let mut files: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        // Entries are sorted by path, and so are the names, but the second kind must come after the first.
        for wanted in IGNORE_FILES {
            for entry in entries {
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

impl RuleSource for StoredRules<'_> {
    fn ignore_files(&self, folder: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        Ok(Some(self.files.get(folder).cloned().unwrap_or_default()))
    }

    fn is_wanted(&self, path: &[u8]) -> bool {
        self.entries.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).is_ok()
    }
}

/// What stands in a target, compared with what should.
struct Comparison {
    root: Root,
    scan: Scan,
    changes: Vec<Change>,
}

/// One restore, before and while it runs.
struct Restore<'a> {
    engine: &'a Engine,
    reader: Reader,
    tree: Digest,
    entries: &'a [Entry],
    rules: StoredRules<'a>,
    mode: RestoreMode,
}

impl Engine {
    /// What a restore would change.
    pub(crate) fn plan_restore(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
    ) -> Result<RestoreReport> {
        self.reading(|snapshot| {
            let (tree, entries) = self.wanted(id, snapshot)?;
            let restore = self.restoration(snapshot, tree, &entries, mode)?;
            let changes = match restore.compare(target) {
                Err(Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound && !target.exists() =>
                {
                    diff_entries(&[], &entries)
                }
                other => other?.changes,
            };
            Ok(report(&entries, changes, tree))
        })
    }

    /// Makes `target` equal to the checkpoint.
    pub(crate) fn restore(
        &self,
        id: CheckpointId,
        target: &Path,
        mode: RestoreMode,
    ) -> Result<RestoreReport> {
        self.reading(|snapshot| {
            let (tree, entries) = self.wanted(id, snapshot)?;
            let mut restore = self.restoration(snapshot, tree, &entries, mode)?;
            restore.run(target)
        })
    }

    fn wanted(&self, id: CheckpointId, snapshot: &Snapshot) -> Result<(Digest, Vec<Entry>)> {
        let tree = snapshot.catalog.entry(id)?.tree;
        Ok((tree, read_tree(&mut self.reader(snapshot), tree)?))
    }

    fn restoration<'a>(
        &'a self,
        snapshot: &Snapshot,
        tree: Digest,
        entries: &'a [Entry],
        mode: RestoreMode,
    ) -> Result<Restore<'a>> {
        let mut reader = self.reader(snapshot);
        let rules = StoredRules::read(&mut reader, entries)?;
        Ok(Restore { engine: self, reader, tree, entries, rules, mode })
    }
}

impl Restore<'_> {
    fn compare(&self, target: &Path) -> Result<Comparison> {
        let root = self.engine.open_workspace(target)?;
        let scan = scan(&root, &self.rules, &self.engine.excluded())?;
        let is_resumed = scan.leftovers.iter().any(|path| path.as_bytes() == MARKER);
        let is_empty =
            scan.folders.get(&b""[..]).is_none_or(|top| top.entries.is_empty() && top.kept.is_empty());
        let not_empty = || Error::NotEmpty { path: root.path().to_owned() };
        if self.mode == RestoreMode::Empty && !is_empty && !is_resumed {
            return Err(not_empty());
        }
        let known = self.engine.stat_cache(root.path());
        let present = capture::capture(&root, &scan, &known, &|path| self.rules.is_wanted(path), None)?;
        let changes = diff_entries(&present.tree.entries()?, self.entries);
        if changes.is_empty() && *known != present.cache {
            self.engine.keep_stat_cache(root.path(), present.cache);
        }
        // A resumed restore may add to what it made before; anything else in there is not ours.
        if self.mode == RestoreMode::Empty && changes.iter().any(|change| change.kind != ChangeKind::Added) {
            return Err(not_empty());
        }
        Ok(Comparison { root, scan, changes })
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
        let Comparison { root, scan, changes } = self.compare(target)?;
        if self.mode == RestoreMode::InPlace && changes.is_empty() && scan.leftovers.is_empty() {
            // The comparison has just read the target and found it equal; reading it back would say the same.
            return Ok(report(self.entries, changes, self.tree));
        }
        refuse_loss(&root, &scan, &changes)?;
        let mut stage = Stage::new(&root);
        for path in &scan.leftovers {
            if self.mode == RestoreMode::InPlace || path.as_bytes() != MARKER {
                stage.remove_tree(path.as_bytes())?;
            }
        }
        if self.mode == RestoreMode::Empty {
            stage.write_marker(MARKER)?;
        }
        if let Err(error) = stage.prepare(&mut self.reader, self.entries, &changes) {
            stage.abandon();
            if self.mode == RestoreMode::Empty && scan.leftovers.is_empty() {
                let _ = stage.remove_tree(MARKER);
            }
            return Err(error);
        }
        let applied = stage.apply(&changes);
        stage.abandon();
        applied?;
        self.read_back(&root)?;
        stage.sync(&changes)?;
        if self.mode == RestoreMode::Empty {
            stage.remove_tree(MARKER)?;
        }
        Ok(report(self.entries, changes, self.tree))
    }

    /// The target as it is now must be the checkpoint's tree.
    fn read_back(&self, root: &Root) -> Result<()> {
        let scan = scan(root, &self.rules, &self.engine.excluded())?;
        let known = self.engine.stat_cache(root.path());
        let present = capture::capture(root, &scan, &known, &|path| self.rules.is_wanted(path), None)?;
        let found = present.tree.clone().build(&mut |_, _| Ok(()))?;
        if found != self.tree {
            let differences = diff_entries(&present.tree.entries()?, self.entries);
            let path =
                differences.first().map_or_else(|| "an entry".to_owned(), |change| change.path.to_string());
            return Err(Error::NotRestored { target: root.path().to_owned(), path });
        }
        if *known != present.cache {
            self.engine.keep_stat_cache(root.path(), present.cache);
        }
        Ok(())
    }
}

/// A folder that must give way to something else may hold nothing that is ignored or left alone: it could not be
/// brought back.
fn refuse_loss(root: &Root, scan: &Scan, changes: &[Change]) -> Result<()> {
    for change in changes.iter().filter(|change| change.kind == ChangeKind::KindChanged) {
        let path = change.path.as_bytes();
        let inside = |folder: &[u8]| {
            folder == path || folder.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"))
        };
        let held = scan.folders.iter().find(|(folder, content)| inside(folder) && !content.kept.is_empty());
        if let Some((folder, _)) = held {
            return Err(Error::NotEmpty { path: root.shown(folder) });
        }
    }
    Ok(())
}

fn report(entries: &[Entry], changes: Vec<Change>, tree: Digest) -> RestoreReport {
    let rewritten = changes.iter().filter(|change| change.kind != ChangeKind::Removed).count();
    RestoreReport { unchanged: (entries.len() - rewritten) as u64, changes, tree }
}

/// The entries below a folder of a sorted list.
pub(crate) fn below<'a>(entries: &'a [Entry], folder: &EntryPath) -> &'a [Entry] {
    let first = [folder.as_bytes(), b"/"].concat();
    // The byte after the separator bounds everything that starts with it.
    let end = [folder.as_bytes(), b"0"].concat();
    let from = entries.partition_point(|entry| entry.path.as_bytes() < first.as_slice());
    let to = entries.partition_point(|entry| entry.path.as_bytes() < end.as_slice());
    &entries[from..to]
}

/// The name of the n-th thing that is written aside.
pub(crate) fn staging_name(number: u64) -> Vec<u8> {
    [STAGING_PREFIX, number.to_string().as_bytes()].concat()
}
