//! Deleting checkpoints, giving back the storage that only they needed, and folding the log.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use evoseal_types::{CheckpointId, Digest};

use crate::backend::LockMode;
use crate::catalog::{self, CatalogEntry, Commit, PackRef};
use crate::engine::{Engine, Snapshot};
use crate::extras::TreeObject;
use crate::objects::{Reader, missing};
use crate::pack::{ObjectKey, PackedObject, object_name};
use crate::page::{self, PageNode};
use crate::sink::PackSink;
use crate::store::{DeleteReport, GarbageReport};
use crate::{Error, Result};

/// A pack is rewritten when more than this share of its bytes is needed by nobody, in percent. Lower would copy live
/// data again and again, higher would let a store grow to several times what it needs.
const WASTE_PERCENT_MAX: u64 = 50;
/// Packs below this size count as small, and when there are more than this many they become one: each costs a read
/// when a store is opened.
const SMALL_PACK_LEN: u64 = 1 << 20;
const SMALL_PACKS_MAX: usize = 32;
/// The log is folded when it has this many records, or this many bytes of packs inside it: whoever opens the store reads
/// them all.
const FOLD_RECORDS: u64 = 64;
const FOLD_INLINE_LEN: u64 = 1 << 20;
/// Cleaning up collects when what was deleted could be a share of the store that is worth the work, in percent.
const WORTHWHILE_PERCENT: u64 = 10;

/// What a collection would do.
#[derive(Debug, Default)]
struct Plan {
    /// Packs that nobody needs or that are mostly waste, with the bytes in them that are needed.
    outdated: BTreeSet<usize>,
    live: HashSet<ObjectKey>,
    /// Packs that the catalogue does not name, with their sizes.
    orphans: Vec<(String, u64)>,
    report: GarbageReport,
}

/// About what a checkpoint takes up in a folded log, and an object in the index of its pack.
const CATALOG_ENTRY_LEN: u64 = 128;
const INDEX_ENTRY_LEN: u64 = 48;

/// What the packs of a store hold, needed or not.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) packs: u64,
    pub(crate) packs_in_log: u64,
    pub(crate) packed_bytes: u64,
    pub(crate) raw_bytes: u64,
}

/// The objects that some checkpoints need.
#[derive(Debug, Default)]
struct Live {
    keys: HashSet<ObjectKey>,
    /// Those that were added since somebody looked.
    fresh: Vec<ObjectKey>,
}

impl Live {
    fn add(&mut self, parts: Vec<ObjectKey>) {
        for key in parts {
            if self.keys.insert(key) {
                self.fresh.push(key);
            }
        }
    }

    /// Adds everything that a checkpoint needs. Pages that were followed before are not read again.
    fn follow(&mut self, entry: &CatalogEntry, reader: &mut Reader) -> Result<()> {
        self.add(reader.metadata_parts(entry.id.digest())?);
        let parts = reader.metadata_parts(entry.tree)?;
        if self.keys.contains(&parts[0]) {
            return Ok(());
        }
        let mut pending: Vec<Digest> = Vec::new();
        let bytes = reader.metadata(entry.tree)?;
        match TreeObject::decode(&format!("tree {}", entry.tree), &bytes)? {
            None => pending.push(entry.tree),
            Some(tree) => {
                self.add(parts);
                pending.push(tree.page);
                if let Some(extras) = tree.extras {
                    self.add(reader.metadata_parts(extras)?);
                }
            }
        }
        while let Some(digest) = pending.pop() {
            let parts = reader.metadata_parts(digest)?;
            let is_known = self.keys.contains(&parts[0]);
            self.add(parts);
            if is_known {
                continue;
            }
            for entry in page::decode(&format!("page {digest}"), &reader.metadata(digest)?)? {
                match entry.node {
                    PageNode::Directory { page, .. } => pending.push(page),
                    PageNode::File { digest, size_bytes, .. } => {
                        self.add(reader.content_parts(digest, size_bytes)?);
                    }
                    PageNode::Symlink { .. } => {}
                }
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Deletes checkpoints, all or none, and collects what they leave behind if nobody is writing.
    pub(crate) fn delete(&self, ids: &[CheckpointId]) -> Result<DeleteReport> {
        let ids = self.forget(ids)?;
        let bytes_freed = match self.collect_garbage() {
            Ok(report) => report.bytes_freed,
            // The checkpoints are gone. Their storage comes back when nobody writes, or when damage is dealt with.
            Err(Error::Locked { .. } | Error::Damaged { .. }) => 0,
            Err(error) => return Err(error),
        };
        Ok(DeleteReport { checkpoints: ids.into_iter().collect(), bytes_freed })
    }

    /// Deletes checkpoints, all or none, and collects when enough has come together: a loop that deletes one checkpoint for
    /// each that it makes must not read all others each time.
    pub(crate) fn delete_in_passing(&self, ids: &[CheckpointId]) -> Result<()> {
        self.forget(ids)?;
        let deleted = self.load()?.catalog.deleted_bytes;
        if deleted.saturating_mul(100) < self.stored_bytes()?.saturating_mul(WORTHWHILE_PERCENT) {
            return Ok(());
        }
        match self.collect_garbage() {
            Ok(_) | Err(Error::Locked { .. } | Error::Damaged { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes checkpoints invisible.
    fn forget(&self, ids: &[CheckpointId]) -> Result<BTreeSet<CheckpointId>> {
        let ids: BTreeSet<CheckpointId> = ids.iter().copied().collect();
        self.change(None, |catalog| {
            for id in &ids {
                let entry = catalog.entry(*id)?;
                if let Some(reason) = &entry.pinned {
                    return Err(Error::Pinned { id: *id, reason: reason.clone() });
                }
            }
            let removed: Vec<CheckpointId> = ids.iter().copied().collect();
            let commit = (!removed.is_empty()).then(|| Commit { removed, ..Commit::default() });
            Ok(((), commit))
        })?;
        Ok(ids)
    }

    /// What a collection would remove and rewrite if these checkpoints were gone; nothing is changed.
    pub(crate) fn plan_garbage(&self, gone: &[CheckpointId]) -> Result<GarbageReport> {
        let Snapshot { catalog, index } = self.snapshot()?;
        let snapshot = Snapshot { catalog: std::sync::Arc::new(catalog.without(gone)), index };
        Ok(self.plan(&snapshot, WASTE_PERCENT_MAX)?.report)
    }

    /// Removes what no checkpoint needs.
    ///
    /// Writers are excluded by the store's lock. Killed anywhere, it has lost nothing: what is still needed is copied
    /// and durable before one commit swaps the packs, and only packs that the catalogue no longer names are removed.
    pub(crate) fn collect_garbage(&self) -> Result<GarbageReport> {
        let budget = self.settings.max_store_bytes;
        // A store above its budget would lose checkpoints for bytes that are mere waste.
        let is_over_budget = budget > 0 && self.stored_bytes()? > budget - budget / 10;
        self.collect(if is_over_budget { 0 } else { WASTE_PERCENT_MAX })
    }

    /// The same, and no waste is left, however much live data must be copied for it: for a store above its budget.
    pub(crate) fn collect_all_garbage(&self) -> Result<GarbageReport> {
        self.collect(0)
    }

    fn collect(&self, waste_percent_max: u64) -> Result<GarbageReport> {
        let _lock = self.backend.lock(LockMode::Exclusive)?;
        // What a lost record named may be all there still: nothing is thrown away before somebody has looked at it.
        if let Some(problem) = self.load()?.problems.first() {
            return Err(crate::frame::damaged(catalog::CATALOG, problem.as_str()));
        }
        let before = self.stored_bytes()?;
        let snapshot = self.snapshot()?;
        let plan = self.plan(&snapshot, waste_percent_max)?;
        let catalog = &snapshot.catalog;
        let is_tidy =
            plan.outdated.is_empty() && snapshot.index.unreadable.is_empty() && catalog.inline_bytes() == 0;
        if !is_tidy || catalog.deleted_bytes > 0 {
            self.rewrite(&snapshot, &plan)?;
        }
        let named: BTreeSet<String> =
            self.load()?.catalog.packs.iter().map(|pack| object_name(pack.entry.digest)).collect();
        for object in self.backend.list("packs/")? {
            if !named.contains(&object.name) {
                self.backend.delete(&object.name)?;
            }
        }
        let bytes_freed = before.saturating_sub(self.stored_bytes()?);
        Ok(GarbageReport { bytes_freed, ..plan.report })
    }

    fn plan(&self, snapshot: &Snapshot, waste_percent_max: u64) -> Result<Plan> {
        let live = self.live_objects(snapshot)?;
        let mut plan =
            Plan { outdated: outdated_packs(snapshot, &live, waste_percent_max)?, live, ..Plan::default() };
        for number in &plan.outdated {
            let pack = &snapshot.index.packs()[*number];
            let needed: u64 =
                live_in(snapshot, &plan.live, *number)?.iter().map(|object| u64::from(object.len)).sum();
            plan.report.bytes_rewritten += needed;
            plan.report.bytes_freed += pack.entry.size_bytes.saturating_sub(needed);
            if needed == 0 { plan.report.packs_removed += 1 } else { plan.report.packs_rewritten += 1 }
        }
        let named: BTreeSet<String> =
            snapshot.catalog.packs.iter().map(|pack| object_name(pack.entry.digest)).collect();
        let listed = self.backend.list("packs/")?.into_iter();
        plan.orphans.extend(
            listed
                .filter(|object| !named.contains(&object.name))
                .map(|object| (object.name, object.size_bytes)),
        );
        plan.report.packs_removed += plan.orphans.len() as u64;
        plan.report.bytes_freed += plan.orphans.iter().map(|(_, size)| size).sum::<u64>();
        Ok(plan)
    }

    /// Every object that some checkpoint needs. Any damage on the way is an error: what cannot be read cannot be ruled
    /// out. Pages that several checkpoints share are read once.
    fn live_objects(&self, snapshot: &Snapshot) -> Result<HashSet<ObjectKey>> {
        let mut live = Live::default();
        let mut reader = self.reader(snapshot);
        for entry in &snapshot.catalog.checkpoints {
            live.follow(entry, &mut reader)?;
            for key in live.fresh.drain(..) {
                if snapshot.index.locate(key)?.is_none() {
                    return Err(missing(key.digest));
                }
            }
        }
        Ok(live.keys)
    }

    /// What the store would take up without any checkpoint, and by how many bytes it grows with each of `order`. An estimate:
    /// an object counts for its share of the block in which it lies compressed.
    pub(crate) fn growth(&self, snapshot: &Snapshot, order: &[CheckpointId]) -> Result<(u64, Vec<u64>)> {
        let mut live = Live::default();
        let mut reader = self.reader(snapshot);
        let mut growth = Vec::with_capacity(order.len());
        for id in order {
            live.follow(snapshot.catalog.entry(*id)?, &mut reader)?;
            let mut bytes = CATALOG_ENTRY_LEN;
            for key in live.fresh.drain(..) {
                let location = snapshot.index.locate(key)?.ok_or_else(|| missing(key.digest))?;
                let block = snapshot.index.packs()[location.pack].index.block(location.object.block)?;
                let share = u64::from(location.object.len) * u64::from(block.stored_len);
                bytes += share.div_ceil(u64::from(block.raw_len).max(1)) + INDEX_ENTRY_LEN;
            }
            growth.push(bytes);
        }
        let header = self.backend.list(catalog::HEADER)?.iter().map(|object| object.size_bytes).sum();
        Ok((header, growth))
    }

    /// What the packs hold.
    pub(crate) fn held(&self) -> Result<Held> {
        let snapshot = self.snapshot()?;
        let mut held = Held::default();
        for pack in &snapshot.catalog.packs {
            *(if pack.inline.is_some() { &mut held.packs_in_log } else { &mut held.packs }) += 1;
            held.packed_bytes += pack.entry.size_bytes;
        }
        for pack in snapshot.index.packs() {
            for object in pack.index.objects() {
                // What is wrong with an index is for verification to say.
                held.raw_bytes += object.map_or(0, |object| u64::from(object.len));
            }
        }
        Ok(held)
    }

    /// Copies what is live in the outdated packs into new ones and begins a new log without them.
    fn rewrite(&self, snapshot: &Snapshot, plan: &Plan) -> Result<()> {
        let packs = snapshot.index.packs();
        let sink = self.sink(std::sync::Arc::clone(&snapshot.catalog));
        let mut dropped: BTreeSet<Digest> = BTreeSet::new();
        let mut reader = self.reader(snapshot);
        for (number, pack) in packs.iter().enumerate() {
            if plan.outdated.contains(&number) {
                copy_live(&mut reader, &sink, snapshot, &plan.live, number)?;
            } else if snapshot
                .catalog
                .packs
                .iter()
                .any(|found| found.entry == pack.entry && found.inline.is_some())
            {
                self.copy_blocks(&sink, snapshot, number)?;
            } else {
                continue;
            }
            dropped.insert(pack.entry.digest);
        }
        // A pack whose index cannot be read holds nothing that is live: else the walk would have failed.
        dropped.extend(snapshot.index.unreadable.iter().map(|(digest, _)| *digest));
        let (written, _) = sink.finish(false)?;
        self.swap_packs(&dropped, &written.packs, true)
    }

    /// Copies the blocks of a pack as they are.
    fn copy_blocks(&self, sink: &PackSink<'_>, snapshot: &Snapshot, number: usize) -> Result<()> {
        let pack = &snapshot.index.packs()[number];
        let mut by_block: BTreeMap<u32, Vec<(ObjectKey, u32, u32)>> = BTreeMap::new();
        for object in pack.index.objects() {
            let object = object?;
            by_block.entry(object.block).or_default().push((object.key, object.offset, object.len));
        }
        for (block, objects) in by_block {
            let block = pack.index.block(block)?;
            let stored = pack.read(&*self.backend, block.range())?;
            if *blake3::hash(&stored).as_bytes() != block.checksum {
                // Damage is copied to no new place under a new checksum.
                return Err(crate::frame::damaged(pack.index.name(), "a block has a wrong checksum"));
            }
            sink.append(block, &stored, &objects)?;
        }
        Ok(())
    }

    /// Begins a new log with other packs.
    fn swap_packs(&self, dropped: &BTreeSet<Digest>, added: &[PackRef], is_collected: bool) -> Result<()> {
        for _ in 0..FOLD_ATTEMPTS {
            let loaded = self.load()?;
            let done = catalog::fold(&*self.backend, &loaded, |catalog| {
                catalog.packs.retain(|pack| !dropped.contains(&pack.entry.digest));
                catalog.packs.extend(added.iter().cloned());
                if is_collected {
                    catalog.deleted_bytes = 0;
                }
            });
            match done {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Locked {
            store: self.backend.location(),
            holder: "writers that commit without pause".to_owned(),
        })
    }

    /// Folds the log if it has grown long: the packs in it become one pack of their own. Nothing depends on it, so
    /// whoever is in the way makes it wait for the next time.
    pub(crate) fn fold_if_long(&self) -> Result<()> {
        let loaded = self.load()?;
        let catalog = &loaded.catalog;
        let is_long = catalog.records_since_fold >= FOLD_RECORDS || catalog.inline_bytes() >= FOLD_INLINE_LEN;
        if !is_long || !loaded.problems.is_empty() {
            return Ok(());
        }
        let _lock = self.backend.lock(LockMode::Shared)?;
        let snapshot = self.snapshot()?;
        let sink = self.sink(std::sync::Arc::clone(&snapshot.catalog));
        let inline: BTreeSet<Digest> = snapshot
            .catalog
            .packs
            .iter()
            .filter(|pack| pack.inline.is_some())
            .map(|pack| pack.entry.digest)
            .collect();
        for (number, pack) in snapshot.index.packs().iter().enumerate() {
            if inline.contains(&pack.entry.digest) {
                self.copy_blocks(&sink, &snapshot, number)?;
            }
        }
        let (written, _) = sink.finish(false)?;
        let folded = self.load()?;
        let is_same = folded.catalog.generation == snapshot.catalog.generation
            && folded.catalog.packs.len() == snapshot.catalog.packs.len()
            && snapshot.index.unreadable.is_empty();
        let is_done = is_same
            && catalog::fold(&*self.backend, &folded, |catalog| {
                catalog.packs.retain(|pack| !inline.contains(&pack.entry.digest));
                catalog.packs.extend(written.packs.iter().cloned());
            })?;
        if !is_done {
            for pack in &written.packs {
                self.backend.delete(&object_name(pack.entry.digest))?;
            }
        }
        Ok(())
    }

    /// Bytes that the objects and the log take up.
    pub(crate) fn stored_bytes(&self) -> Result<u64> {
        let objects: u64 = self.backend.list("")?.iter().map(|object| object.size_bytes).sum();
        Ok(objects + self.load()?.size_bytes())
    }
}

/// How often a collection tries to begin a new log against whoever deletes or pins meanwhile.
const FOLD_ATTEMPTS: u32 = 100;

/// The live objects of which a pack holds the copy that counts, in the order in which they lie.
fn live_in(snapshot: &Snapshot, live: &HashSet<ObjectKey>, number: usize) -> Result<Vec<PackedObject>> {
    let mut found = Vec::new();
    for object in snapshot.index.packs()[number].index.objects() {
        let object = object?;
        if live.contains(&object.key)
            && snapshot.index.locate(object.key)?.is_some_and(|location| location.pack == number)
        {
            found.push(object);
        }
    }
    found.sort_unstable_by_key(|object| (object.block, object.offset));
    Ok(found)
}

/// Packs without live data, packs with too much waste, and small packs when there are many.
fn outdated_packs(
    snapshot: &Snapshot,
    live: &HashSet<ObjectKey>,
    waste_percent_max: u64,
) -> Result<BTreeSet<usize>> {
    let mut outdated = BTreeSet::new();
    let mut small = Vec::new();
    for (number, pack) in snapshot.index.packs().iter().enumerate() {
        let mut total = 0_u64;
        for object in pack.index.objects() {
            total += u64::from(object?.len).max(1);
        }
        let needed: u64 =
            live_in(snapshot, live, number)?.iter().map(|object| u64::from(object.len).max(1)).sum();
        if needed == 0 || (total - needed) * 100 > total * waste_percent_max {
            outdated.insert(number);
        } else if pack.entry.size_bytes < SMALL_PACK_LEN {
            small.push(number);
        }
    }
    if small.len() > SMALL_PACKS_MAX {
        outdated.extend(small);
    }
    Ok(outdated)
}

/// In the order in which they lie, so that each block is unpacked once.
fn copy_live(
    reader: &mut Reader,
    sink: &PackSink<'_>,
    snapshot: &Snapshot,
    live: &HashSet<ObjectKey>,
    number: usize,
) -> Result<()> {
    let mut builder = crate::sink::BlockBuilder::default();
    for object in live_in(snapshot, live, number)? {
        let bytes = reader.object(object.key)?;
        sink.force(&mut builder, object.key, &bytes)?;
    }
    sink.flush(&mut builder)
}
