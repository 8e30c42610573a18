//! Reading everything, and saying what is damaged and what that costs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use evoseal_types::{CheckpointId, Digest, EntryPath};

use crate::catalog::{self, CATALOG, HEADER};
use crate::engine::{Engine, Snapshot};
use crate::frame::Copies;
use crate::objects::Reader;
use crate::pack::{ObjectKey, ObjectKind, check_header, object_name};
use crate::page::{self, PageNode};
use crate::store::{Damage, VerifyReport};
use crate::workspace::join;
use crate::{Error, Result, record};

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

/// What is known about the objects of a store after every pack was read.
#[derive(Debug, Default)]
struct Condition {
    /// Objects whose copy is damaged, with the pack that holds it.
    bad: HashMap<ObjectKey, String>,
    /// A pack whose index cannot be read: whatever is missing may have been in it.
    unreadable: Option<String>,
}

impl Engine {
    /// Reads everything that the given checkpoints need; all packs if none is given.
    pub(crate) fn verify(&self, ids: &[CheckpointId]) -> Result<VerifyReport> {
        let snapshot = self.snapshot()?;
        let mut report = VerifyReport::default();
        let mut findings = Findings::default();
        self.verify_roots(&mut findings, &mut report)?;
        let chosen: Vec<CheckpointId> = if ids.is_empty() {
            snapshot.catalog.checkpoints.iter().map(|entry| entry.id).collect()
        } else {
            ids.iter().map(|id| snapshot.catalog.entry(*id).map(|entry| entry.id)).collect::<Result<_>>()?
        };
        let condition = self.verify_packs(&snapshot, &mut findings, &mut report)?;
        for id in chosen {
            report.checkpoints_checked += 1;
            let mut walk =
                Walk { reader: self.reader(&snapshot), condition: &condition, findings: &mut findings, id };
            walk.checkpoint(&snapshot)?;
        }
        if !condition.bad.is_empty() {
            let mut state = self.state();
            let bad = condition.bad.keys().copied();
            state.distrusted = Arc::new(state.distrusted.iter().copied().chain(bad).collect());
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
        Ok(report)
    }

    /// Header and catalogue are kept twice: one damaged copy costs nothing, but must be known.
    fn verify_roots(&self, findings: &mut Findings, report: &mut VerifyReport) -> Result<()> {
        report.objects_checked += 2;
        if let Some((_, Copies::One { problem })) = catalog::open(&*self.backend)? {
            findings.at(HEADER, &problem);
        }
        let loaded = catalog::load(&*self.backend)?;
        report.bytes_checked += loaded.size_bytes();
        if let Copies::One { problem } = loaded.copies {
            findings.at(CATALOG, &problem);
        }
        Ok(())
    }

    fn verify_packs(
        &self,
        snapshot: &Snapshot,
        findings: &mut Findings,
        report: &mut VerifyReport,
    ) -> Result<Condition> {
        let mut condition = Condition::default();
        for (digest, problem) in &snapshot.index.unreadable {
            let name = object_name(*digest);
            findings.at(&name, problem);
            condition.unreadable.get_or_insert(name);
        }
        for (number, pack) in (0_u32..).zip(snapshot.index.packs()) {
            let name = object_name(pack.entry.digest);
            let bytes = match self.backend.get(&name) {
                Ok(bytes) => bytes,
                Err(Error::NotFound { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            report.objects_checked += 1;
            report.bytes_checked += bytes.len() as u64;
            if bytes.len() as u64 != pack.entry.size_bytes {
                findings.at(&name, &format!("it has {} bytes, not {}", bytes.len(), pack.entry.size_bytes));
            } else if let Err(error) = check_header(&name, &bytes) {
                findings.at(&name, &problem_of(error));
            }
            let raw: Vec<Result<Vec<u8>>> = pack
                .index
                .blocks
                .iter()
                .map(|block| {
                    let range = block.range();
                    let stored = usize::try_from(range.start)
                        .ok()
                        .zip(usize::try_from(range.end).ok())
                        .and_then(|(start, end)| bytes.get(start..end))
                        .unwrap_or_default();
                    block.unpack(&name, stored.to_vec())
                })
                .collect();
            for object in &pack.index.objects {
                let (start, len) = (object.offset as usize, object.len as usize);
                let problem = match &raw[object.block as usize] {
                    Ok(raw) => {
                        let is_right = object.key.kind == ObjectKind::Recipe
                            || Digest::of(&raw[start..start + len]) == object.key.digest;
                        if is_right {
                            continue;
                        }
                        format!("it holds wrong bytes as {}", object.key.digest)
                    }
                    Err(Error::Damaged { problem, .. }) => problem.clone(),
                    Err(error) => error.to_string(),
                };
                findings.at(&name, &problem);
                // Another pack may hold a good copy, which is then the one that is read.
                if snapshot.index.locate(object.key).is_some_and(|found| found.pack == number) {
                    condition.bad.insert(object.key, name.clone());
                }
            }
        }
        Ok(condition)
    }
}

fn problem_of(error: Error) -> String {
    match error {
        Error::Damaged { problem, .. } => problem,
        other => other.to_string(),
    }
}

/// Follows one checkpoint to everything that it needs.
struct Walk<'a> {
    reader: Reader,
    condition: &'a Condition,
    findings: &'a mut Findings,
    id: CheckpointId,
}

impl Walk<'_> {
    fn checkpoint(&mut self, snapshot: &Snapshot) -> Result<()> {
        let entry = snapshot.catalog.entry(self.id)?;
        if entry.record.is_none() && !self.is_good(ObjectKind::Metadata, entry.id.digest(), None)? {
            return Ok(());
        }
        let opened = match &entry.record {
            Some(bytes) => record::open(entry.id, bytes, None),
            None => {
                self.reader.metadata(entry.id.digest()).and_then(|bytes| record::open(entry.id, &bytes, None))
            }
        };
        if let Err(error) = opened {
            self.findings.at(CATALOG, &error.to_string()).checkpoints.insert(self.id);
        }
        let mut pending = vec![(Vec::new(), entry.tree)];
        while let Some((folder, digest)) = pending.pop() {
            let path = EntryPath::new(&folder).ok();
            if !self.is_good(ObjectKind::Metadata, digest, path.as_ref())? {
                continue;
            }
            let object = format!("page {digest}");
            let entries = match self.reader.metadata(digest).and_then(|bytes| page::decode(&object, &bytes)) {
                Ok(entries) => entries,
                Err(Error::Damaged { object, problem }) => {
                    self.blame(&object, &problem, path.as_ref());
                    continue;
                }
                Err(error) => return Err(error),
            };
            for entry in entries {
                let full = join(&folder, &entry.name);
                match entry.node {
                    PageNode::Directory { page } => pending.push((full, page)),
                    PageNode::File { size_bytes, digest, .. } => {
                        let path = EntryPath::new(&full).ok();
                        if self.is_good(ObjectKind::Content, digest, path.as_ref())? {
                            self.check_size(digest, size_bytes, path.as_ref())?;
                        }
                    }
                    PageNode::Symlink { .. } => {}
                }
            }
        }
        Ok(())
    }

    /// Whether an object and all that it is made of are there and undamaged.
    fn is_good(&mut self, kind: ObjectKind, digest: Digest, path: Option<&EntryPath>) -> Result<bool> {
        let parts = match self.reader.parts(kind, digest) {
            Ok(parts) => parts,
            Err(Error::Damaged { object, problem }) => {
                self.blame(&object, &problem, path);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let mut is_good = true;
        for part in parts {
            if let Some(pack) = self.condition.bad.get(&part) {
                self.blame(&pack.clone(), "", path);
                is_good = false;
            } else if self.reader.index.locate(part).is_none() {
                self.blame(&format!("object {}", part.digest), "it is missing", path);
                is_good = false;
            }
        }
        Ok(is_good)
    }

    /// A list of chunks has no digest of its own: the content that it describes is put together and hashed.
    fn check_size(&mut self, digest: Digest, size_bytes: u64, path: Option<&EntryPath>) -> Result<()> {
        let whole = ObjectKey { kind: ObjectKind::Content, digest };
        let problem = match self.reader.index.object_len(whole) {
            Some(length) if u64::from(length) == size_bytes => None,
            Some(length) => Some(format!("it has {length} bytes, not {size_bytes}")),
            None => match self.reader.stream(digest, Some(size_bytes), &mut |_| Ok(())) {
                Ok(()) => None,
                Err(Error::Damaged { problem, .. }) => Some(problem),
                Err(error) => return Err(error),
            },
        };
        if let Some(problem) = problem {
            self.blame(&format!("content {digest}"), &problem, path);
        }
        Ok(())
    }

    fn blame(&mut self, object: &str, problem: &str, path: Option<&EntryPath>) {
        // What an unreadable pack held is not known, so what is missing is put down to it.
        let is_missing = object.starts_with("object ");
        let pack = self.condition.unreadable.as_deref().filter(|_| is_missing);
        let finding = self.findings.at(pack.unwrap_or(object), problem);
        finding.checkpoints.insert(self.id);
        finding.paths.extend(path.cloned());
    }
}
