//! The store's header, and the catalogue: the one small record whose replacement makes a checkpoint visible.

use std::collections::HashSet;

use evoseal_types::{CheckpointId, Digest};
use serde::{Deserialize, Serialize};

use crate::backend::{Cell, CellState, ObjectBackend, ObjectBackendExt};
use crate::frame::{Copies, Format, damaged};
use crate::settings::Chunking;
use crate::{Error, Result, codec};

/// The object that says what a store is, written once when it is created.
pub(crate) const HEADER: &str = "header";
/// The cell that holds the catalogue.
pub(crate) const CATALOG: &str = "catalog";

const HEADER_FORMAT: Format = Format { magic: b"EVOSTORE", version: 1 };
const CATALOG_FORMAT: Format = Format { magic: b"EVOCATLG", version: 1 };

/// How often a commit is tried against others that commit at the same time.
const SWAP_ATTEMPTS: u32 = 1000;

/// What a store was made as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreHeader {
    pub(crate) backend: String,
    pub(crate) chunking: Chunking,
}

/// Everything visible in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalog {
    /// Counts the commits, so that no two catalogues of a store are equal.
    pub(crate) generation: u64,
    /// The place of the next checkpoint in the order of creation.
    pub(crate) next_sequence: u64,
    pub(crate) packs: Vec<PackEntry>,
    /// In order of creation.
    pub(crate) checkpoints: Vec<CatalogEntry>,
}

/// A pack that may hold objects which a checkpoint needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackEntry {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
    pub(crate) index_offset: u64,
}

/// A visible checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CatalogEntry {
    pub(crate) id: CheckpointId,
    pub(crate) sequence: u64,
    pub(crate) tree: Digest,
    /// The record itself if it is short; otherwise it is an object in a pack.
    pub(crate) record: Option<Vec<u8>>,
    pub(crate) pinned: Option<String>,
}

/// A catalogue as it was read, with the state of the cell that a commit must find unchanged.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) catalog: Catalog,
    pub(crate) copies: Copies,
    state: Option<CellState>,
}

impl Loaded {
    /// Bytes that the catalogue takes up.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.len)
    }
}

impl Catalog {
    pub(crate) fn entry(&self, id: CheckpointId) -> Result<&CatalogEntry> {
        self.checkpoints.iter().find(|entry| entry.id == id).ok_or_else(|| not_found(id))
    }

    /// Whether some visible checkpoint has this tree: then everything below it is stored.
    pub(crate) fn has_tree(&self, tree: Digest) -> bool {
        self.checkpoints.iter().any(|entry| entry.tree == tree)
    }

    fn check(&self) -> Result<()> {
        let mut ids = HashSet::new();
        if !self.checkpoints.iter().all(|entry| ids.insert(entry.id)) {
            return Err(damaged(CATALOG, "it lists a checkpoint twice"));
        }
        if self.packs.iter().any(|pack| pack.index_offset > pack.size_bytes) {
            return Err(damaged(CATALOG, "a pack's index lies beyond its end"));
        }
        Ok(())
    }
}

pub(crate) fn not_found(id: CheckpointId) -> Error {
    Error::NotFound { what: format!("checkpoint {id}") }
}

/// Makes a new store; `false` if there is one already.
pub(crate) fn create(backend: &dyn ObjectBackend) -> Result<bool> {
    if !backend.list(HEADER)?.is_empty() {
        return Ok(false);
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

/// Reads the catalogue as it is now.
pub(crate) fn load(backend: &dyn ObjectBackend) -> Result<Loaded> {
    let Some(Cell { bytes, state, .. }) = backend.load(CATALOG, 0)? else {
        return Ok(Loaded { catalog: Catalog::default(), copies: Copies::Both, state: None });
    };
    let (payload, copies) =
        CATALOG_FORMAT.open_twice(CATALOG, &bytes).map_err(|error| name_store(backend, error))?;
    let catalog: Catalog = codec::decode(CATALOG, payload)?;
    catalog.check()?;
    Ok(Loaded { catalog, copies, state: Some(state) })
}

/// Changes the catalogue: `change` is applied to the newest one until nobody else was faster. Whatever `change` adds
/// must be durable already. This is the only commit point of a store.
pub(crate) fn commit<T>(
    backend: &dyn ObjectBackend,
    mut change: impl FnMut(&mut Catalog) -> Result<T>,
) -> Result<T> {
    for _ in 0..SWAP_ATTEMPTS {
        let Loaded { mut catalog, state, .. } = load(backend)?;
        let before = catalog.clone();
        let result = change(&mut catalog)?;
        if catalog == before {
            return Ok(result);
        }
        catalog.generation += 1;
        catalog.check()?;
        let new = CATALOG_FORMAT.seal_twice(&codec::encode("catalogue", &catalog)?);
        if backend.swap(CATALOG, state.as_ref(), &new)? {
            return Ok(result);
        }
    }
    Err(Error::Locked { store: backend.location(), holder: "writers that commit without pause".to_owned() })
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
