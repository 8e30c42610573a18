//! Deleting checkpoints, and giving back the storage that only they needed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use evoseal_types::{CheckpointId, Digest};

use crate::backend::LockMode;
use crate::catalog::{self, PackEntry};
use crate::engine::{Engine, Snapshot};
use crate::objects::{Reader, Writer};
use crate::pack::{ObjectKey, ObjectKind, object_name};
use crate::page::{self, PageNode};
use crate::store::DeleteReport;
use crate::{Error, Result};

/// A pack is rewritten when more than this share of its bytes is needed by nobody, in percent. Lower would copy live
/// data again and again, higher would let a store grow to several times what it needs.
const WASTE_PERCENT_MAX: u64 = 50;
/// Packs below this size count as small, and when there are more than this many they become one: each costs a read
/// when a store is opened.
const SMALL_PACK_LEN: u64 = 1 << 20;
const SMALL_PACKS_MAX: usize = 32;

impl Engine {
    /// Deletes checkpoints, all or none, and collects what they leave behind if nobody is writing.
    pub(crate) fn delete(&self, ids: &[CheckpointId]) -> Result<DeleteReport> {
        let before = self.stored_bytes()?;
        let ids: BTreeSet<CheckpointId> = ids.iter().copied().collect();
        catalog::commit(&*self.backend, |catalog| {
            for id in &ids {
                let entry = catalog.entry(*id)?;
                if let Some(reason) = &entry.pinned {
                    return Err(Error::Pinned { id: *id, reason: reason.clone() });
                }
            }
            catalog.checkpoints.retain(|entry| !ids.contains(&entry.id));
            Ok(())
        })?;
        match self.collect_garbage() {
            // The checkpoints are gone. Their storage comes back when nobody writes, or when damage is dealt with.
            Ok(_) | Err(Error::Locked { .. } | Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let after = self.stored_bytes()?;
        Ok(DeleteReport { checkpoints: ids.into_iter().collect(), bytes_freed: before.saturating_sub(after) })
    }

    /// Removes what no checkpoint needs; gives the bytes that came back.
    ///
    /// Writers are excluded by the store's lock. Killed anywhere, it has lost nothing: what is still needed is copied
    /// and durable before one commit swaps the packs, and only packs that the catalogue no longer names are removed.
    pub(crate) fn collect_garbage(&self) -> Result<u64> {
        let _lock = self.backend.lock(LockMode::Exclusive)?;
        let before = self.stored_bytes()?;
        let snapshot = self.snapshot()?;
        let live = self.live_objects(&snapshot)?;
        let outdated = outdated_packs(&snapshot, &live);
        if !outdated.is_empty() {
            self.rewrite(&snapshot, &live, &outdated)?;
        }
        let named: BTreeSet<String> = catalog::load(&*self.backend)?
            .catalog
            .packs
            .iter()
            .map(|pack| object_name(pack.digest))
            .collect();
        for object in self.backend.list("packs/")? {
            if !named.contains(&object.name) {
                self.backend.delete(&object.name)?;
            }
        }
        Ok(before.saturating_sub(self.stored_bytes()?))
    }

    /// Every object that some checkpoint needs. Any damage on the way is an error: what cannot be read cannot be ruled out.
    fn live_objects(&self, snapshot: &Snapshot) -> Result<HashSet<ObjectKey>> {
        let mut live = HashSet::new();
        let mut reader = self.reader(snapshot);
        let mut pending: Vec<Digest> = Vec::new();
        for entry in &snapshot.catalog.checkpoints {
            pending.push(entry.tree);
            if entry.record.is_none() {
                live.extend(reader.parts(ObjectKind::Metadata, entry.id.digest())?);
            }
        }
        while let Some(digest) = pending.pop() {
            let parts = reader.parts(ObjectKind::Metadata, digest)?;
            let is_known = live.contains(&parts[0]);
            live.extend(parts);
            if is_known {
                continue;
            }
            for entry in page::decode(&format!("page {digest}"), &reader.metadata(digest)?)? {
                match entry.node {
                    PageNode::Directory { page } => pending.push(page),
                    PageNode::File { digest, .. } => {
                        if !live.contains(&ObjectKey { kind: ObjectKind::Content, digest }) {
                            live.extend(reader.parts(ObjectKind::Content, digest)?);
                        }
                    }
                    PageNode::Symlink { .. } => {}
                }
            }
        }
        Ok(live)
    }

    /// Copies what is live in the outdated packs into new ones and swaps them in the catalogue.
    fn rewrite(
        &self,
        snapshot: &Snapshot,
        live: &HashSet<ObjectKey>,
        outdated: &BTreeSet<u32>,
    ) -> Result<()> {
        let mut reader = self.reader(snapshot);
        let mut writer = Writer::new(
            Arc::clone(&self.backend),
            Arc::clone(&snapshot.index),
            Arc::default(),
            self.header.chunking,
            self.settings.compression_enabled,
        );
        copy_live(&mut reader, &mut writer, snapshot, live, outdated)?;
        let new = writer.finish().store(&*self.backend)?;
        let packs = snapshot.index.packs();
        let dropped: BTreeSet<Digest> =
            outdated.iter().map(|pack| packs[*pack as usize].entry.digest).collect();
        // A pack whose index cannot be read holds nothing that is live: else the walk would have failed.
        let unreadable = snapshot.index.unreadable.iter().map(|(digest, _)| *digest);
        let dropped: BTreeSet<Digest> = dropped.into_iter().chain(unreadable).collect();
        catalog::commit(&*self.backend, |catalog| {
            let kept = catalog.packs.iter().filter(|pack| !dropped.contains(&pack.digest)).copied();
            let added = new.iter().map(|(entry, _)| *entry);
            let mut seen = BTreeSet::new();
            catalog.packs = kept.chain(added).filter(|pack: &PackEntry| seen.insert(pack.digest)).collect();
            Ok(())
        })
    }

    /// Bytes that the objects and the catalogue take up.
    pub(crate) fn stored_bytes(&self) -> Result<u64> {
        let objects: u64 = self.backend.list("")?.iter().map(|object| object.size_bytes).sum();
        Ok(objects + catalog::load(&*self.backend)?.size_bytes())
    }
}

/// Packs without live data, packs with too much waste, and small packs when there are many.
fn outdated_packs(snapshot: &Snapshot, live: &HashSet<ObjectKey>) -> BTreeSet<u32> {
    let packs = snapshot.index.packs();
    let mut outdated = BTreeSet::new();
    let mut small = Vec::new();
    for (number, pack) in (0_u32..).zip(packs) {
        let (mut needed, mut total) = (0_u64, 0_u64);
        for object in &pack.index.objects {
            total += u64::from(object.len).max(1);
            let is_this_copy = snapshot.index.locate(object.key).is_some_and(|found| found.pack == number);
            if is_this_copy && live.contains(&object.key) {
                needed += u64::from(object.len).max(1);
            }
        }
        if needed == 0 || (total - needed) * 100 > total * WASTE_PERCENT_MAX {
            outdated.insert(number);
        } else if pack.entry.size_bytes < SMALL_PACK_LEN {
            small.push(number);
        }
    }
    if small.len() > SMALL_PACKS_MAX {
        outdated.extend(small);
    }
    outdated
}

fn copy_live(
    reader: &mut Reader,
    writer: &mut Writer,
    snapshot: &Snapshot,
    live: &HashSet<ObjectKey>,
    outdated: &BTreeSet<u32>,
) -> Result<()> {
    for number in outdated {
        // In the order in which they lie, so that each block is unpacked once.
        let mut objects: BTreeMap<(u32, u32), ObjectKey> = BTreeMap::new();
        for (place, object) in (0_u32..).zip(&snapshot.index.packs()[*number as usize].index.objects) {
            let is_this_copy = snapshot.index.locate(object.key).is_some_and(|found| found.pack == *number);
            if is_this_copy && live.contains(&object.key) {
                objects.insert((object.block, place), object.key);
            }
        }
        for key in objects.into_values() {
            let bytes = reader.object(key)?;
            writer.force_object(key, &bytes)?;
        }
    }
    Ok(())
}
