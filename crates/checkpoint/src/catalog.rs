//! The store's header, and the catalogue: what is visible in a store, as a log of commits.
//!
//! One record added to the log makes a checkpoint visible, or takes some away; that is the only commit point of a store.
//! A new checkpoint's pack travels inside the record as long as it is small. From time to time the log is folded: one new
//! log begins with everything that is visible, and the small packs become one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use evoseal_types::{CheckpointId, Digest};
use serde::{Deserialize, Serialize};

use crate::backend::{Cell, CellState, ObjectBackend, ObjectBackendExt};
use crate::frame::{Copies, Format, damaged};
use crate::journal::{self, Chain};
use crate::settings::Chunking;
use crate::{Error, Result, codec};

/// The object that says what a store is, written once when it is created.
pub(crate) const HEADER: &str = "header";
/// The cell that holds the log of commits.
pub(crate) const CATALOG: &str = "catalog";

const HEADER_FORMAT: Format = Format { magic: b"EVOSTORE", version: 2 };

/// How often a commit is tried against others that commit at the same time.
const COMMIT_ATTEMPTS: u32 = 1000;

/// What a store was made as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreHeader {
    pub(crate) backend: String,
    pub(crate) chunking: Chunking,
}

/// Everything visible in a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    /// Counts the foldings, so that no two logs of a store begin alike.
    pub(crate) generation: u64,
    /// The place of the next checkpoint in the order of creation.
    pub(crate) next_sequence: u64,
    pub(crate) packs: Vec<PackRef>,
    /// In order of creation.
    pub(crate) checkpoints: Vec<CatalogEntry>,
    /// Bytes that the checkpoints added which were deleted since the last collection: no more than that can be waste.
    pub(crate) deleted_bytes: u64,
    /// Records since the log was folded.
    pub(crate) records_since_fold: u64,
    by_id: HashMap<CheckpointId, u64>,
    trees: HashMap<Digest, u32>,
}

/// A pack that may hold objects which a checkpoint needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackEntry {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
    pub(crate) index_offset: u64,
}

/// A pack and, if it lies inside the log, its bytes.
#[derive(Debug, Clone)]
pub(crate) struct PackRef {
    pub(crate) entry: PackEntry,
    pub(crate) inline: Option<Arc<Vec<u8>>>,
}

/// A visible checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CatalogEntry {
    pub(crate) id: CheckpointId,
    pub(crate) sequence: u64,
    pub(crate) tree: Digest,
    pub(crate) created_at_unix_ns: i64,
    pub(crate) size_bytes: u64,
    /// Bytes that the store grew by.
    pub(crate) bytes_stored: u64,
    pub(crate) pinned: Option<String>,
}

/// What the first record of a log says: everything.
#[derive(Debug, Serialize, Deserialize)]
struct Base {
    generation: u64,
    next_sequence: u64,
    packs: Vec<PackEntry>,
    checkpoints: Vec<CatalogEntry>,
    deleted_bytes: u64,
}

/// What a later record says: a change.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Commit {
    /// Packs that are objects of their own.
    pub(crate) packs: Vec<PackEntry>,
    /// The pack that is attached to the record.
    pub(crate) inline: Option<PackEntry>,
    pub(crate) added: Vec<CatalogEntry>,
    pub(crate) removed: Vec<CheckpointId>,
    /// Pins set and taken back.
    pub(crate) pins: Vec<(CheckpointId, Option<String>)>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Meta {
    Base(Base),
    Commit(Commit),
}

/// The catalogue as it was read, with what a commit must find unchanged.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) catalog: Arc<Catalog>,
    state: Option<CellState>,
    chain: Chain,
    /// What is wrong with the log.
    pub(crate) problems: Vec<String>,
    /// What is wrong beside the log, where nothing is lost by it.
    pub(crate) note: Option<String>,
}

impl Loaded {
    fn nothing() -> Self {
        Self {
            catalog: Arc::default(),
            state: None,
            chain: Chain::default(),
            problems: Vec::new(),
            note: None,
        }
    }

    /// Bytes that the log takes up.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.len)
    }
}

impl Catalog {
    pub(crate) fn entry(&self, id: CheckpointId) -> Result<&CatalogEntry> {
        let sequence = self.by_id.get(&id).ok_or_else(|| not_found(id))?;
        let place = self.checkpoints.binary_search_by_key(sequence, |entry| entry.sequence);
        place.map(|place| &self.checkpoints[place]).map_err(|_| not_found(id))
    }

    pub(crate) fn has(&self, id: CheckpointId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Whether some visible checkpoint has this tree: then everything below it is stored.
    pub(crate) fn has_tree(&self, tree: Digest) -> bool {
        self.trees.contains_key(&tree)
    }

    /// The same if these checkpoints were deleted.
    pub(crate) fn without(&self, gone: &[CheckpointId]) -> Self {
        let mut catalog = self.clone();
        catalog.remove(gone);
        catalog
    }

    /// Bytes of packs that lie inside the log.
    pub(crate) fn inline_bytes(&self) -> u64 {
        self.packs.iter().filter(|pack| pack.inline.is_some()).map(|pack| pack.entry.size_bytes).sum()
    }

    fn add(&mut self, entry: CatalogEntry) -> Result<()> {
        let follows = self.checkpoints.last().is_none_or(|last| last.sequence < entry.sequence);
        if !follows || self.by_id.insert(entry.id, entry.sequence).is_some() {
            return Err(damaged(CATALOG, "it lists a checkpoint twice or out of order"));
        }
        self.next_sequence = self.next_sequence.max(entry.sequence.saturating_add(1));
        *self.trees.entry(entry.tree).or_default() += 1;
        self.checkpoints.push(entry);
        Ok(())
    }

    fn add_pack(&mut self, entry: PackEntry, inline: Option<Arc<Vec<u8>>>) -> Result<()> {
        if entry.index_offset > entry.size_bytes {
            return Err(damaged(CATALOG, "a pack's index lies beyond its end"));
        }
        self.packs.push(PackRef { entry, inline });
        Ok(())
    }

    fn remove(&mut self, ids: &[CheckpointId]) {
        let gone: HashSet<u64> = ids.iter().filter_map(|id| self.by_id.remove(id)).collect();
        let (trees, deleted_bytes) = (&mut self.trees, &mut self.deleted_bytes);
        self.checkpoints.retain(|entry| {
            let stays = !gone.contains(&entry.sequence);
            if !stays {
                *deleted_bytes = deleted_bytes.saturating_add(entry.bytes_stored);
                if let Some(count) = trees.get_mut(&entry.tree) {
                    *count -= 1;
                    if *count == 0 {
                        trees.remove(&entry.tree);
                    }
                }
            }
            stays
        });
    }

    fn pin(&mut self, id: CheckpointId, reason: Option<String>) {
        let place = self.by_id.get(&id).and_then(|sequence| {
            self.checkpoints.binary_search_by_key(sequence, |entry| entry.sequence).ok()
        });
        if let Some(place) = place {
            self.checkpoints[place].pinned = reason;
        }
    }

    fn apply(&mut self, meta: Meta, attachment: &[u8]) -> Result<()> {
        match meta {
            Meta::Base(base) => {
                *self = Self { generation: base.generation, ..Self::default() };
                for pack in base.packs {
                    self.add_pack(pack, None)?;
                }
                for entry in base.checkpoints {
                    self.add(entry)?;
                }
                self.next_sequence = self.next_sequence.max(base.next_sequence);
                self.deleted_bytes = base.deleted_bytes;
            }
            Meta::Commit(commit) => {
                self.records_since_fold += 1;
                for pack in commit.packs {
                    self.add_pack(pack, None)?;
                }
                if let Some(pack) = commit.inline {
                    self.add_pack(pack, Some(Arc::new(attachment.to_vec())))?;
                }
                for entry in commit.added {
                    self.add(entry)?;
                }
                self.remove(&commit.removed);
                for (id, reason) in commit.pins {
                    self.pin(id, reason);
                }
            }
        }
        Ok(())
    }

    fn base(&self) -> Meta {
        Meta::Base(Base {
            generation: self.generation,
            next_sequence: self.next_sequence,
            packs: self.packs.iter().map(|pack| pack.entry).collect(),
            checkpoints: self.checkpoints.clone(),
            deleted_bytes: self.deleted_bytes,
        })
    }
}

pub(crate) fn not_found(id: CheckpointId) -> Error {
    Error::NotFound { what: format!("checkpoint {id}") }
}

/// Makes a new store; `false` if there is one already.
pub(crate) fn create(backend: &dyn ObjectBackend) -> Result<bool> {
    if !backend.list(HEADER)?.is_empty() {
        match open(backend) {
            // Torn by a crash of the machine while the store was being made, which nobody can have used since.
            Err(Error::Damaged { .. }) if backend.load(CATALOG, 0)?.is_none() => {}
            _ => return Ok(false),
        }
    }
    let header = StoreHeader { backend: backend.name().to_owned(), chunking: Chunking::STANDARD };
    backend.put(HEADER, &HEADER_FORMAT.seal_twice(&codec::encode("store header", &header)?))?;
    Ok(true)
}

/// Reads the header; `None` if there is no store.
pub(crate) fn open(backend: &dyn ObjectBackend) -> Result<Option<(StoreHeader, Copies)>> {
    let bytes = match backend.get(HEADER) {
        Err(Error::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let (payload, copies) =
        HEADER_FORMAT.open_twice(HEADER, &bytes).map_err(|error| name_store(backend, error))?;
    let header: StoreHeader = codec::decode(HEADER, payload)?;
    if header.backend != backend.name() {
        return Err(Error::Format {
            store: backend.location(),
            found: format!("of backend {:?}", header.backend),
            supported: format!("stores of backend {:?}", backend.name()),
        });
    }
    if !header.chunking.is_valid() {
        return Err(damaged(HEADER, "its chunking parameters are out of range"));
    }
    Ok(Some((header, copies)))
}

/// Reads the catalogue as it is now. Of a log that has only grown since `known` was read, only what is new is read.
pub(crate) fn load(backend: &dyn ObjectBackend, known: Option<Loaded>) -> Result<Loaded> {
    if let Some(known) = known.filter(|known| known.problems.is_empty())
        && let Some(state) = &known.state
        && let Some(cell) = backend.load(CATALOG, state.valid_len)?
    {
        if cell.state == *state {
            return Ok(known);
        }
        if cell.state.len > state.valid_len {
            let grown = read(backend, &known, state.valid_len, &cell)?;
            if grown.problems.is_empty() {
                return Ok(grown);
            }
        }
        // It is another log, or there is damage to be named from its beginning on.
    }
    let Some(cell) = backend.load(CATALOG, 0)? else { return Ok(Loaded::nothing()) };
    read(backend, &Loaded::nothing(), 0, &cell)
}

/// Reads the records of a cell from byte `from` on, where `known` ends.
fn read(backend: &dyn ObjectBackend, known: &Loaded, from: u64, cell: &Cell) -> Result<Loaded> {
    let relative = |length: u64| usize::try_from(length.saturating_sub(from)).unwrap_or(usize::MAX);
    let acknowledged = cell.acknowledged_len.map(relative);
    let parsed = journal::parse(CATALOG, &cell.bytes, known.chain, acknowledged)
        .map_err(|error| name_store(backend, error))?;
    let mut catalog = (*known.catalog).clone();
    let mut problems = parsed.problems;
    for record in &parsed.records {
        let applied = codec::decode::<Meta>(CATALOG, record.meta)
            .and_then(|meta| catalog.apply(meta, record.attachment));
        match applied {
            Ok(()) => {}
            Err(Error::Damaged { problem, .. }) => problems.push(problem),
            Err(error) => return Err(error),
        }
    }
    if let Some(acknowledged) = cell.acknowledged_len.filter(|length| *length > cell.state.len) {
        problems.push(journal::cut_off(cell.state.len, acknowledged));
    }
    let before: &[u8] = known.state.as_ref().map_or(&[], |state| &state.tail);
    let ending = [before, &cell.bytes[..parsed.valid_len]].concat();
    let state = cell.state.cut(from + parsed.valid_len as u64, &ending);
    Ok(Loaded {
        catalog: Arc::new(catalog),
        state: Some(state),
        chain: parsed.chain,
        problems,
        note: cell.problem.clone(),
    })
}

/// Adds a record to the log: `change` is asked what it is on top of the newest catalogue until nobody else was faster.
/// Whatever the change names must be stored already, or be attached. `None` changes nothing. Gives the catalogue after it.
pub(crate) fn commit<T>(
    backend: &dyn ObjectBackend,
    known: Option<Loaded>,
    attachment: Option<&PackRef>,
    mut change: impl FnMut(&Catalog) -> Result<(T, Option<Commit>)>,
) -> Result<(T, Loaded)> {
    let mut loaded = load(backend, known)?;
    for _ in 0..COMMIT_ATTEMPTS {
        let (result, commit) = change(&loaded.catalog)?;
        let Some(mut commit) = commit else { return Ok((result, loaded)) };
        let attached: &[u8] = match attachment {
            Some(PackRef { entry, inline: Some(bytes) }) => {
                commit.inline = Some(*entry);
                bytes
            }
            _ => &[],
        };
        if append(backend, &mut loaded, commit, attached)? {
            return Ok((result, loaded));
        }
        loaded = load(backend, Some(loaded))?;
    }
    Err(Error::Locked { store: backend.location(), holder: "writers that commit without pause".to_owned() })
}

/// `false` if someone else was faster; otherwise `loaded` is what stands there now.
fn append(backend: &dyn ObjectBackend, loaded: &mut Loaded, commit: Commit, attached: &[u8]) -> Result<bool> {
    let Some(state) = &loaded.state else {
        // The first log begins with a base, like every other.
        let base = codec::encode("catalogue", &Catalog::default().base())?;
        let mut bytes = journal::encode(&Chain::default(), &base, &[]);
        let meta = codec::encode("commit", &Meta::Commit(commit))?;
        let record = journal::encode(&journal::chain_of(&bytes), &meta, attached);
        bytes.extend_from_slice(&record);
        let is_done = backend.swap(CATALOG, None, &bytes)?;
        if is_done {
            *loaded = load(backend, None)?;
        }
        return Ok(is_done);
    };
    let meta = Meta::Commit(commit);
    let record = journal::encode(&loaded.chain, &codec::encode("commit", &meta)?, attached);
    if !backend.append(CATALOG, state, &record)? {
        return Ok(false);
    }
    let len = state.valid_len + record.len() as u64;
    loaded.state = Some(CellState { len, valid_len: len, ..CellState::of(&record) });
    loaded.chain = journal::chain_of(&record);
    Arc::make_mut(&mut loaded.catalog).apply(meta, attached)?;
    Ok(true)
}

/// Replaces the log by one that begins with what `change` makes of the catalogue; `false` if it has changed meanwhile.
/// Packs that are attached to the old log must not be in the new catalogue.
pub(crate) fn fold(
    backend: &dyn ObjectBackend,
    loaded: &Loaded,
    change: impl FnOnce(&mut Catalog),
) -> Result<bool> {
    let Some(state) = &loaded.state else { return Ok(true) };
    let mut catalog = (*loaded.catalog).clone();
    change(&mut catalog);
    catalog.generation += 1;
    debug_assert!(
        catalog.packs.iter().all(|pack| pack.inline.is_none()),
        "attached packs end with their log"
    );
    let bytes = journal::encode(&Chain::default(), &codec::encode("catalogue", &catalog.base())?, &[]);
    backend.swap(CATALOG, Some(state), &bytes)
}

/// A format error should name the store, not the part of it that gave it away.
fn name_store(backend: &dyn ObjectBackend, error: Error) -> Error {
    match error {
        Error::Format { found, supported, .. } => {
            Error::Format { store: backend.location(), found, supported }
        }
        other => other,
    }
}
