//! Reading everything, and saying what is damaged and what that costs; and healing it from a workspace.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use evoseal_types::{CheckpointId, Digest, EntryPath, Timestamp};

use crate::capture::{self, CapturePlan};
use crate::catalog::{self, CATALOG, CatalogEntry, Commit, HEADER};
use crate::engine::{Engine, Snapshot};
use crate::extras::{Extras, TreeObject};
use crate::frame::{Copies, Format, array};
use crate::objects::{OpenPack, Reader};
use crate::pack::{self, ObjectKey, ObjectKind, object_name};
use crate::page::PageNode;
use crate::stat_cache::StatCache;
use crate::store::{Damage, HealReport, VerifyDepth, VerifyReport};
use crate::tree::read_page;
use crate::walk::WalkPlan;
use crate::workspace::join;
use crate::{Error, Result, record};

/// The cell that says when a store was last found undamaged.
const VERIFIED: &str = "verified";
const VERIFIED_FORMAT: Format = Format { magic: b"EVOVERIF", version: 1 };

/// Damage by the name of the object that has it.
#[derive(Debug, Default)]
struct Findings {
    by_object: BTreeMap<String, Finding>,
}

#[derive(Debug, Default)]
struct Finding {
    problem: String,
    checkpoints: BTreeSet<CheckpointId>,
    paths: BTreeSet<EntryPath>,
}

impl Findings {
    fn at(&mut self, object: &str, problem: &str) -> &mut Finding {
        let finding = self.by_object.entry(object.to_owned()).or_default();
        if finding.problem.is_empty() {
            problem.clone_into(&mut finding.problem);
        }
        finding
    }
}

/// What is known about the objects of a store after every pack was looked at.
#[derive(Debug, Default)]
struct Condition {
    /// Objects whose copy is damaged, with the pack that holds it.
    bad: HashMap<ObjectKey, String>,
    /// A pack whose index cannot be read: whatever is missing may have been in it.
    unreadable: Option<String>,
    /// Objects that are needed and not there.
    missing: HashSet<ObjectKey>,
    /// Of the catalogue that was examined.
    generation: u64,
}

/// How often a store is examined while collections move what is read.
const EXAMINATIONS_MAX: u32 = 5;

impl Engine {
    /// Looks at everything that the given checkpoints need; at all packs if none is given.
    pub(crate) fn verify(&self, ids: &[CheckpointId], depth: VerifyDepth) -> Result<VerifyReport> {
        let (mut report, mut condition) = self.examine(ids, depth)?;
        for _ in 1..EXAMINATIONS_MAX {
            let generation = self.load()?.catalog.generation;
            if report.damage.is_empty() || generation == condition.generation {
                break;
            }
            // A collection has moved what was being read.
            (report, condition) = self.examine(ids, depth)?;
        }
        let found = condition.bad.into_keys().chain(condition.missing);
        if ids.is_empty() && depth == VerifyDepth::Full && report.damage.is_empty() {
            // Where it cannot be remembered, in a store that may not be written to, it is true all the same.
            let _ = self.note_verification();
        }
        let mut state = self.state();
        let distrusted: HashSet<ObjectKey> = state.distrusted.iter().copied().chain(found).collect();
        state.distrusted = Arc::new(distrusted);
        Ok(report)
    }

    /// Remembers that the whole store was read and found undamaged.
    fn note_verification(&self) -> Result<()> {
        let before = self.backend.load(VERIFIED, 0)?;
        let now = VERIFIED_FORMAT.seal(&self.clock.now().unix_ns().to_le_bytes());
        // Whoever was faster has said the same.
        self.backend.swap(VERIFIED, before.as_ref().map(|cell| &cell.state), &now).map(|_| ())
    }

    /// When the whole store was last read and found undamaged; `None` also where what says so is not readable.
    pub(crate) fn last_verification(&self) -> Result<Option<Timestamp>> {
        let Some(cell) = self.backend.load(VERIFIED, 0)? else { return Ok(None) };
        let payload = VERIFIED_FORMAT.open(VERIFIED, &cell.bytes).ok();
        let time =
            payload.filter(|payload| payload.len() == 8).map(|payload| i64::from_le_bytes(array(payload)));
        Ok(time.map(Timestamp::from_unix_ns))
    }

    fn examine(&self, ids: &[CheckpointId], depth: VerifyDepth) -> Result<(VerifyReport, Condition)> {
        let snapshot = self.snapshot()?;
        let mut report = VerifyReport::default();
        let mut findings = Findings::default();
        self.verify_roots(&mut findings, &mut report)?;
        let chosen: Vec<&CatalogEntry> = if ids.is_empty() {
            snapshot.catalog.checkpoints.iter().collect()
        } else {
            ids.iter().map(|id| snapshot.catalog.entry(*id)).collect::<Result<_>>()?
        };
        let mut condition = self.verify_packs(&snapshot, depth, &mut findings, &mut report)?;
        report.checkpoints_checked = chosen.len() as u64;
        // Once for all checkpoints together; only where something is wrong each one is followed by itself, to name it.
        let mut survey = Walk {
            reader: self.reader(&snapshot),
            condition: &mut condition,
            findings: &mut findings,
            blames: None,
            seen: HashSet::new(),
            is_good: true,
        };
        for entry in &chosen {
            survey.checkpoint(entry)?;
        }
        if !survey.is_good {
            for entry in &chosen {
                let mut walk = Walk {
                    reader: self.reader(&snapshot),
                    condition: &mut condition,
                    findings: &mut findings,
                    blames: Some(entry.id),
                    seen: HashSet::new(),
                    is_good: true,
                };
                walk.checkpoint(entry)?;
            }
        }
        let is_all = ids.is_empty();
        report.damage = findings
            .by_object
            .into_iter()
            .filter(|(_, finding)| is_all || !finding.checkpoints.is_empty())
            .map(|(object, finding)| Damage {
                object,
                problem: finding.problem,
                checkpoints: finding.checkpoints.into_iter().collect(),
                paths: finding.paths.into_iter().collect(),
            })
            .collect();
        Ok((report, condition))
    }

    /// Header and log are kept so that one damaged copy costs nothing, but it must be known.
    fn verify_roots(&self, findings: &mut Findings, report: &mut VerifyReport) -> Result<()> {
        report.objects_checked += 2;
        if let Some((_, Copies::One { problem })) = catalog::open(&*self.backend)? {
            findings.at(HEADER, &problem);
        }
        let loaded = catalog::load(&*self.backend, None)?;
        report.bytes_checked += loaded.size_bytes();
        if !loaded.problems.is_empty() {
            findings.at(CATALOG, &loaded.problems.join("; "));
        }
        report.notes.extend(loaded.note);
        Ok(())
    }

    fn verify_packs(
        &self,
        snapshot: &Snapshot,
        depth: VerifyDepth,
        findings: &mut Findings,
        report: &mut VerifyReport,
    ) -> Result<Condition> {
        let mut condition = Condition { generation: snapshot.catalog.generation, ..Condition::default() };
        for (digest, problem) in &snapshot.index.unreadable {
            let name = object_name(*digest);
            findings.at(&name, problem);
            condition.unreadable.get_or_insert(name);
        }
        for (number, pack) in snapshot.index.packs().iter().enumerate() {
            let mut found = self.verify_pack(pack, depth, report)?;
            if depth == VerifyDepth::Full {
                report.bytes_checked += pack.entry.size_bytes;
            }
            let name = pack.index.name();
            for problem in found.problems.drain(..) {
                findings.at(name, &problem);
            }
            for key in found.bad {
                // Another pack may hold a good copy, which is then the one that is read.
                if snapshot.index.locate(key)?.is_some_and(|location| location.pack == number) {
                    condition.bad.insert(key, name.to_owned());
                }
            }
        }
        Ok(condition)
    }

    fn verify_pack(
        &self,
        pack: &OpenPack,
        depth: VerifyDepth,
        report: &mut VerifyReport,
    ) -> Result<PackCondition> {
        let mut found = PackCondition::default();
        let name = pack.index.name();
        let header = pack.read(&*self.backend, 0..pack::HEADER_LEN as u64);
        match header.and_then(|bytes| pack::check_header(name, &bytes)) {
            Ok(()) => {}
            Err(error @ Error::Damaged { .. }) => found.problems.push(problem_of(error)),
            Err(error) => return Err(error),
        }
        if !pack.index.is_sorted() {
            found.problems.push("its index is not in order".to_owned());
        }
        let mut by_block: BTreeMap<u32, Vec<pack::PackedObject>> = BTreeMap::new();
        for object in pack.index.objects() {
            match object {
                Ok(object) => by_block.entry(object.block).or_default().push(object),
                Err(error) => found.problems.push(problem_of(error)),
            }
        }
        if depth == VerifyDepth::Quick {
            return Ok(found);
        }
        for (number, objects) in by_block {
            let raw = pack
                .index
                .block(number)
                .and_then(|block| block.unpack(name, pack.read(&*self.backend, block.range())?));
            for object in objects {
                report.objects_checked += 1;
                let (start, len) = (object.offset as usize, object.len as usize);
                let problem = match &raw {
                    Ok(raw) => {
                        let bytes = raw.get(start..start + len);
                        let is_right = bytes.is_some_and(|bytes| {
                            !object.key.kind.is_named_by_its_bytes() || Digest::of(bytes) == object.key.digest
                        });
                        if is_right {
                            continue;
                        }
                        format!("it holds wrong bytes as {}", object.key.digest)
                    }
                    Err(Error::Damaged { problem, .. }) => problem.clone(),
                    Err(error) => error.to_string(),
                };
                found.problems.push(problem);
                found.bad.push(object.key);
            }
        }
        Ok(found)
    }

    /// Stores again what is damaged or missing and what the workspace still holds, and throws the damaged copies away.
    /// Nothing else is stored, and no checkpoint is made.
    pub(crate) fn heal(&self, workspace: &Path) -> Result<HealReport> {
        let lock = self.backend.lock(crate::LockMode::Shared)?;
        let (before, condition) = self.examine(&[], VerifyDepth::Full)?;
        let wanted: HashSet<ObjectKey> = condition.bad.keys().copied().chain(condition.missing).collect();
        let mut report = HealReport { objects_healed: 0, before, after: VerifyReport::default() };
        if !wanted.is_empty() {
            let root = self.open_workspace(workspace)?;
            let sink = self.sink(self.load()?.catalog).healing(wanted.clone());
            let excluded = self.excluded();
            let options = self.settings.capture_options();
            let nothing = StatCache::default();
            let walk = WalkPlan {
                root: &root,
                rules: Self::rules(options),
                options,
                excluded: &excluded,
                cache: &nothing,
                chunking: self.header.chunking,
                sink: Some(&sink),
                cache_is_stored: false,
            };
            capture::capture(&CapturePlan { walk, is_wanted: &|_| false })?;
            let (written, _) = sink.finish(false)?;
            report.objects_healed = written.objects_new;
            if !written.packs.is_empty() {
                let packs: Vec<_> = written.packs.iter().map(|pack| pack.entry).collect();
                self.change(None, |_| Ok(((), Some(Commit { packs: packs.clone(), ..Commit::default() }))))?;
            }
        }
        drop(lock);
        if report.objects_healed > 0 {
            match self.collect_all_garbage() {
                // The damaged copies are superseded. Where they cannot be thrown away now, the next collection does it.
                Ok(_) | Err(Error::Locked { .. } | Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        report.after = self.verify(&[], VerifyDepth::Full)?;
        Ok(report)
    }
}

/// What is wrong with one pack.
#[derive(Debug, Default)]
struct PackCondition {
    problems: Vec<String>,
    bad: Vec<ObjectKey>,
}

fn problem_of(error: Error) -> String {
    match error {
        Error::Damaged { problem, .. } => problem,
        other => other.to_string(),
    }
}

/// Follows checkpoints to everything that they need.
struct Walk<'a> {
    reader: Reader,
    condition: &'a mut Condition,
    findings: &'a mut Findings,
    /// The checkpoint that findings are put down to.
    blames: Option<CheckpointId>,
    /// Pages that were followed already; with their place while a checkpoint is to be blamed.
    seen: HashSet<(Vec<u8>, Digest)>,
    is_good: bool,
}

impl Walk<'_> {
    fn checkpoint(&mut self, entry: &CatalogEntry) -> Result<()> {
        if self.metadata_is_good(entry.id.digest(), None)? {
            let opened = self
                .reader
                .metadata(entry.id.digest())
                .and_then(|bytes| record::open(entry.id, &bytes, None));
            if let Err(error) = opened.and_then(|record| {
                if record.tree == entry.tree { Ok(()) } else { Err(crate::objects::missing(entry.tree)) }
            }) {
                self.blame(CATALOG, &error.to_string(), None);
            }
        }
        if !self.metadata_is_good(entry.tree, None)? {
            return Ok(());
        }
        let object = format!("tree {}", entry.tree);
        let tree =
            match self.reader.metadata(entry.tree).and_then(|bytes| TreeObject::decode(&object, &bytes)) {
                Ok(tree) => tree,
                Err(error) => return self.refuse(error, None),
            };
        if let Some(extras) = tree.and_then(|tree| tree.extras)
            && self.metadata_is_good(extras, None)?
            && let Err(error) =
                self.reader.metadata(extras).and_then(|bytes| Extras::decode("extras", &bytes))
        {
            self.refuse(error, None)?;
        }
        self.pages(tree.map_or(entry.tree, |tree| tree.page))
    }

    fn pages(&mut self, root: Digest) -> Result<()> {
        let mut pending = vec![(Vec::new(), root)];
        while let Some((folder, digest)) = pending.pop() {
            let place = if self.blames.is_some() { folder.clone() } else { Vec::new() };
            if !self.seen.insert((place, digest)) {
                continue;
            }
            let path = EntryPath::new(&folder).ok();
            if !self.metadata_is_good(digest, path.as_ref())? {
                continue;
            }
            let entries = match read_page(&mut self.reader, &folder, digest) {
                Ok(entries) => entries,
                Err(error) => {
                    self.refuse(error, path.as_ref())?;
                    continue;
                }
            };
            for entry in entries {
                let full = join(&folder, &entry.name);
                match entry.node {
                    PageNode::Directory { page, .. } => pending.push((full, page)),
                    PageNode::File { size_bytes, digest, .. } => {
                        let path = EntryPath::new(&full).ok();
                        self.content(digest, size_bytes, path.as_ref())?;
                    }
                    PageNode::Symlink { .. } => {}
                }
            }
        }
        Ok(())
    }

    fn metadata_is_good(&mut self, digest: Digest, path: Option<&EntryPath>) -> Result<bool> {
        match self.reader.metadata_parts(digest) {
            Ok(parts) => self.all_good(parts, path),
            Err(Error::Damaged { .. }) => {
                let key = ObjectKey { digest, kind: ObjectKind::Metadata };
                self.all_good(vec![key], path)
            }
            Err(error) => Err(error),
        }
    }

    fn content(&mut self, digest: Digest, size_bytes: u64, path: Option<&EntryPath>) -> Result<()> {
        let parts = match self.reader.content_parts(digest, size_bytes) {
            Ok(parts) => parts,
            // The list of chunks itself: what is wrong with it is known, or it does not add up to the file.
            Err(error @ Error::Damaged { .. }) => {
                let list = ObjectKey { digest, kind: ObjectKind::Recipe };
                if self.all_good(vec![list], path)? {
                    self.refuse(error, path)?;
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let is_small = parts.len() == 1 && parts[0].kind == ObjectKind::Content;
        if !self.all_good(parts, path)? || !is_small {
            return Ok(());
        }
        let key = ObjectKey { digest, kind: ObjectKind::Content };
        let found = self.reader.index.locate(key)?.map_or(0, |location| u64::from(location.object.len));
        if found != size_bytes {
            self.blame(
                &format!("content {digest}"),
                &format!("it has {found} bytes, not {size_bytes}"),
                path,
            );
        }
        Ok(())
    }

    /// Whether all objects are there and undamaged.
    fn all_good(&mut self, parts: Vec<ObjectKey>, path: Option<&EntryPath>) -> Result<bool> {
        let mut is_good = true;
        for part in parts {
            if let Some(pack) = self.condition.bad.get(&part) {
                self.blame(&pack.clone(), "", path);
                is_good = false;
            } else if self.reader.index.locate(part)?.is_none() {
                self.condition.missing.insert(part);
                // What an unreadable pack held is not known, so what is missing is put down to it.
                let object =
                    self.condition.unreadable.clone().unwrap_or_else(|| format!("object {}", part.digest));
                self.blame(&object, "it is missing", path);
                is_good = false;
            }
        }
        Ok(is_good)
    }

    fn refuse(&mut self, error: Error, path: Option<&EntryPath>) -> Result<()> {
        match error {
            Error::Damaged { object, problem } => {
                self.blame(&object, &problem, path);
                Ok(())
            }
            other => Err(other),
        }
    }

    fn blame(&mut self, object: &str, problem: &str, path: Option<&EntryPath>) {
        self.is_good = false;
        if let Some(id) = self.blames {
            let finding = self.findings.at(object, problem);
            finding.checkpoints.insert(id);
            finding.paths.extend(path.cloned());
        }
    }
}
