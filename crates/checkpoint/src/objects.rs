//! Finding, reading and adding objects across all packs of a store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;
use std::sync::Arc;

use evoseal_types::Digest;
use fastcdc::v2020::StreamCDC;

use crate::backend::{ObjectBackend, ObjectBackendExt};
use crate::catalog::PackEntry;
use crate::frame::{array, damaged};
use crate::pack::{Block, ObjectKey, ObjectKind, Pack, PackBuilder, PackIndex, object_name};
use crate::settings::Chunking;
use crate::{Error, Result};

/// A file larger than this is cut into chunks, so that a small change costs little.
pub(crate) const WHOLE_LEN_MAX: u64 = 1 << 20;
/// A pack is written when it has grown to this many bytes; it bounds what a capture keeps in memory.
const PACK_TARGET: usize = 16 << 20;
/// Blocks that a reader keeps unpacked. Neighbouring files share blocks, so a few are enough.
const CACHED_BLOCKS: usize = 8;
/// The longest directory page or record: a directory of some two million entries.
const METADATA_LEN_MAX: usize = 256 << 20;
const RECIPE_MAGIC: &[u8; 4] = b"EVR1";

/// What all packs together hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    packs: Vec<IndexedPack>,
    locations: HashMap<ObjectKey, Location>,
    /// Packs whose index cannot be read, and why.
    pub(crate) unreadable: Vec<(Digest, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct IndexedPack {
    pub(crate) entry: PackEntry,
    pub(crate) index: Arc<PackIndex>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Location {
    pub(crate) pack: u32,
    pub(crate) block: u32,
    offset: u32,
    len: u32,
}

impl Index {
    /// Reads the index of every pack. A damaged one costs only what it holds.
    pub(crate) fn load(backend: &dyn ObjectBackend, entries: &[PackEntry]) -> Result<Self> {
        let mut index = Self::default();
        index.extend(backend, entries)?;
        Ok(index)
    }

    pub(crate) fn extend(&mut self, backend: &dyn ObjectBackend, entries: &[PackEntry]) -> Result<()> {
        for entry in entries {
            match read_index(backend, entry) {
                Ok(index) => self.add(*entry, Arc::new(index)),
                Err(Error::Damaged { problem, .. }) => self.unreadable.push((entry.digest, problem)),
                Err(Error::NotFound { .. }) => {
                    self.unreadable.push((entry.digest, "it is missing".to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds a pack. Where an object is in several packs the newest copy counts, so that storing it again heals.
    pub(crate) fn add(&mut self, entry: PackEntry, index: Arc<PackIndex>) {
        let pack = u32::try_from(self.packs.len()).expect("far fewer packs fit into a catalogue");
        self.locations.reserve(index.objects.len());
        for object in &index.objects {
            let location = Location { pack, block: object.block, offset: object.offset, len: object.len };
            self.locations.insert(object.key, location);
        }
        self.packs.push(IndexedPack { entry, index });
    }

    /// Whether the packs are exactly these, and then the ones that follow after them.
    pub(crate) fn is_prefix_of<'a>(&self, entries: &'a [PackEntry]) -> Option<&'a [PackEntry]> {
        if !self.unreadable.is_empty() {
            return None;
        }
        let (known, new) = entries.split_at_checked(self.packs.len())?;
        known.iter().eq(self.packs.iter().map(|pack| &pack.entry)).then_some(new)
    }

    pub(crate) fn locate(&self, key: ObjectKey) -> Option<Location> {
        self.locations.get(&key).copied()
    }

    pub(crate) fn packs(&self) -> &[IndexedPack] {
        &self.packs
    }

    /// Bytes of an object as it went in.
    pub(crate) fn object_len(&self, key: ObjectKey) -> Option<u32> {
        self.locate(key).map(|location| location.len)
    }
}

fn read_index(backend: &dyn ObjectBackend, entry: &PackEntry) -> Result<PackIndex> {
    let tail = backend.get_range(&object_name(entry.digest), entry.index_offset..entry.size_bytes)?;
    PackIndex::decode(entry.digest, entry.index_offset, &tail)
}

/// Reads objects, checking each against its digest.
#[derive(Debug)]
pub(crate) struct Reader {
    backend: Arc<dyn ObjectBackend>,
    pub(crate) index: Arc<Index>,
    cache: VecDeque<CachedBlock>,
}

/// Pack, number of the block in it, and the block unpacked.
type CachedBlock = ((u32, u32), Arc<Vec<u8>>);

impl Reader {
    pub(crate) fn new(backend: Arc<dyn ObjectBackend>, index: Arc<Index>) -> Self {
        Self { backend, index, cache: VecDeque::new() }
    }

    /// The bytes of one object.
    pub(crate) fn object(&mut self, key: ObjectKey) -> Result<Vec<u8>> {
        let location = self.index.locate(key).ok_or_else(|| missing(key.digest))?;
        let block = self.block(location.pack, location.block)?;
        let start = location.offset as usize;
        // The index was checked: every object lies within its block.
        let bytes = block[start..start + location.len as usize].to_vec();
        if key.kind != ObjectKind::Recipe && Digest::of(&bytes) != key.digest {
            return Err(damaged(
                &self.pack_name(location.pack),
                format!("it holds wrong bytes as {}", key.digest),
            ));
        }
        Ok(bytes)
    }

    /// Hands out a content in order, piece by piece. Each piece is checked before it is handed out, the whole at the
    /// end: what came before an error must be thrown away.
    pub(crate) fn stream(
        &mut self,
        digest: Digest,
        size_bytes: Option<u64>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let whole = ObjectKey { kind: ObjectKind::Content, digest };
        if self.index.locate(whole).is_some() {
            let bytes = self.object(whole)?;
            check_size(digest, size_bytes, bytes.len() as u64)?;
            return sink(&bytes);
        }
        let recipe = ObjectKey { kind: ObjectKind::Recipe, digest };
        let recipe = decode_recipe(digest, &self.object(recipe)?)?;
        // A list that cannot be right is refused before anything is read: it could name one chunk a million times.
        check_size(digest, size_bytes, recipe.iter().map(|(_, length)| u64::from(*length)).sum())?;
        let mut hasher = blake3::Hasher::new();
        for (chunk, length) in recipe {
            let bytes = self.object(ObjectKey { kind: ObjectKind::Content, digest: chunk })?;
            check_size(chunk, Some(u64::from(length)), bytes.len() as u64)?;
            hasher.update(&bytes);
            sink(&bytes)?;
        }
        if hasher.finalize().as_bytes() != digest.as_bytes() {
            return Err(damaged(&format!("content {digest}"), "its chunks do not add up to it"));
        }
        Ok(())
    }

    /// A content in one piece.
    pub(crate) fn content(&mut self, digest: Digest, size_bytes: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream(digest, Some(size_bytes), &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// A directory page or a record, which is in one object unless it is very large.
    pub(crate) fn metadata(&mut self, digest: Digest) -> Result<Vec<u8>> {
        let key = ObjectKey { kind: ObjectKind::Metadata, digest };
        if self.index.locate(key).is_some() {
            return self.object(key);
        }
        let mut bytes = Vec::new();
        self.stream(digest, None, &mut |piece| {
            if bytes.len() + piece.len() > METADATA_LEN_MAX {
                return Err(damaged(&format!("object {digest}"), "it is longer than any page may be"));
            }
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// The objects that a content is made of: itself, or its recipe and chunks.
    pub(crate) fn parts(&mut self, kind: ObjectKind, digest: Digest) -> Result<Vec<ObjectKey>> {
        let whole = ObjectKey { kind, digest };
        if self.index.locate(whole).is_some() {
            return Ok(vec![whole]);
        }
        let recipe = ObjectKey { kind: ObjectKind::Recipe, digest };
        let chunks = decode_recipe(digest, &self.object(recipe)?)?;
        let chunks = chunks.into_iter().map(|(digest, _)| ObjectKey { kind: ObjectKind::Content, digest });
        Ok(std::iter::once(recipe).chain(chunks).collect())
    }

    fn block(&mut self, pack: u32, number: u32) -> Result<Arc<Vec<u8>>> {
        if let Some(place) = self.cache.iter().position(|(key, _)| *key == (pack, number)) {
            let entry = self.cache.remove(place).expect("the place was just found");
            let block = Arc::clone(&entry.1);
            self.cache.push_front(entry);
            return Ok(block);
        }
        let name = self.pack_name(pack);
        let block: &Block = &self.index.packs[pack as usize].index.blocks[number as usize];
        let stored = match self.backend.get_range(&name, block.range()) {
            Err(Error::NotFound { .. }) => return Err(damaged(&name, "it is missing")),
            other => other?,
        };
        let raw = Arc::new(block.unpack(&name, stored)?);
        self.cache.truncate(CACHED_BLOCKS - 1);
        self.cache.push_front(((pack, number), Arc::clone(&raw)));
        Ok(raw)
    }

    fn pack_name(&self, pack: u32) -> String {
        object_name(self.index.packs[pack as usize].entry.digest)
    }
}

fn missing(digest: Digest) -> Error {
    damaged(&format!("object {digest}"), "it is missing")
}

fn check_size(digest: Digest, expected: Option<u64>, found: u64) -> Result<()> {
    match expected {
        Some(expected) if expected != found => {
            Err(damaged(&format!("content {digest}"), format!("it has {found} bytes, not {expected}")))
        }
        _ => Ok(()),
    }
}

fn encode_recipe(chunks: &[(Digest, u32)]) -> Vec<u8> {
    let mut bytes = RECIPE_MAGIC.to_vec();
    for (digest, length) in chunks {
        bytes.extend_from_slice(digest.as_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
    }
    bytes
}

fn decode_recipe(digest: Digest, bytes: &[u8]) -> Result<Vec<(Digest, u32)>> {
    let chunks = bytes.strip_prefix(RECIPE_MAGIC.as_slice()).filter(|chunks| chunks.len() % 36 == 0);
    let chunks =
        chunks.ok_or_else(|| damaged(&format!("content {digest}"), "its list of chunks is malformed"))?;
    let decode =
        |chunk: &[u8]| (Digest::from_bytes(array(&chunk[..32])), u32::from_le_bytes(array(&chunk[32..])));
    Ok(chunks.chunks_exact(36).map(decode).collect())
}

/// Adds objects that the store lacks, as packs that nothing names yet.
#[derive(Debug)]
pub(crate) struct Writer {
    backend: Arc<dyn ObjectBackend>,
    index: Arc<Index>,
    /// Objects whose stored copy is known to be damaged: they are stored again.
    distrusted: Arc<HashSet<ObjectKey>>,
    chunking: Chunking,
    compress: bool,
    added: HashSet<ObjectKey>,
    builder: PackBuilder,
    finished: Vec<(PackEntry, Arc<PackIndex>)>,
    bytes_stored: u64,
}

/// What a [`Writer`] made. The last pack is not stored yet.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) finished: Vec<(PackEntry, Arc<PackIndex>)>,
    pub(crate) last: Option<Pack>,
    pub(crate) objects_new: u64,
    pub(crate) bytes_stored: u64,
}

impl Writer {
    pub(crate) fn new(
        backend: Arc<dyn ObjectBackend>,
        index: Arc<Index>,
        distrusted: Arc<HashSet<ObjectKey>>,
        chunking: Chunking,
        compress: bool,
    ) -> Self {
        Self {
            backend,
            index,
            distrusted,
            chunking,
            compress,
            added: HashSet::new(),
            builder: PackBuilder::new(compress),
            finished: Vec::new(),
            bytes_stored: 0,
        }
    }

    fn has(&self, key: ObjectKey) -> bool {
        self.added.contains(&key) || (self.index.locate(key).is_some() && !self.distrusted.contains(&key))
    }

    /// Whether the store holds everything that a content or page is made of.
    pub(crate) fn has_all(&self, kind: ObjectKind, digest: Digest) -> Result<bool> {
        if self.has(ObjectKey { kind, digest }) {
            return Ok(true);
        }
        let recipe = ObjectKey { kind: ObjectKind::Recipe, digest };
        if self.added.contains(&recipe) {
            return Ok(true);
        }
        if !self.has(recipe) {
            return Ok(false);
        }
        let mut reader = Reader::new(Arc::clone(&self.backend), Arc::clone(&self.index));
        match reader.parts(kind, digest) {
            Ok(parts) => Ok(parts.into_iter().all(|part| self.has(part))),
            Err(Error::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores a content or a page, in chunks if it is large.
    pub(crate) fn add(&mut self, kind: ObjectKind, digest: Digest, bytes: &[u8]) -> Result<()> {
        if kind == ObjectKind::Metadata && bytes.len() > METADATA_LEN_MAX {
            return Err(Error::TooLarge {
                what: "a directory page or record".to_owned(),
                actual: bytes.len() as u64,
                limit: METADATA_LEN_MAX as u64,
            });
        }
        if bytes.len() as u64 > WHOLE_LEN_MAX {
            let (found, _) = self.add_stream(bytes).map_err(|error| match error {
                StreamError::Read(source) => {
                    Error::Invalid { argument: "content", reason: source.to_string() }
                }
                StreamError::Store(error) => error,
            })?;
            debug_assert_eq!(found, digest, "the caller computed the digest of these bytes");
            return Ok(());
        }
        self.add_object(ObjectKey { kind, digest }, bytes)
    }

    /// Stores what `source` yields as chunks and a recipe; gives its digest and size.
    pub(crate) fn add_stream(&mut self, source: impl Read) -> Result<(Digest, u64), StreamError> {
        let Chunking { size_bytes_min, size_bytes_avg, size_bytes_max } = self.chunking;
        let cut =
            StreamCDC::new(source, size_bytes_min as usize, size_bytes_avg as usize, size_bytes_max as usize);
        let mut hasher = blake3::Hasher::new();
        let mut chunks = Vec::new();
        for chunk in cut {
            let chunk = chunk.map_err(|error| StreamError::Read(error.into()))?;
            hasher.update(&chunk.data);
            let digest = Digest::of(&chunk.data);
            self.add_object(ObjectKey { kind: ObjectKind::Content, digest }, &chunk.data)?;
            chunks.push((digest, u32::try_from(chunk.data.len()).expect("chunks are at most 16 MiB")));
        }
        let size_bytes = chunks.iter().map(|(_, length)| u64::from(*length)).sum();
        let digest = Digest::from_bytes(*hasher.finalize().as_bytes());
        let recipe = ObjectKey { kind: ObjectKind::Recipe, digest };
        // A stored recipe may have been cut with other parameters; then its own chunks may be gone. Storing the list
        // again keeps recipe and chunks together.
        self.force_object(recipe, &encode_recipe(&chunks))?;
        Ok((digest, size_bytes))
    }

    fn add_object(&mut self, key: ObjectKey, bytes: &[u8]) -> Result<()> {
        if self.has(key) { Ok(()) } else { self.force_object(key, bytes) }
    }

    /// Stores an object even if a pack has it already.
    pub(crate) fn force_object(&mut self, key: ObjectKey, bytes: &[u8]) -> Result<()> {
        if !self.added.insert(key) {
            return Ok(());
        }
        self.builder.add(key, bytes)?;
        if self.builder.size_bytes() >= PACK_TARGET {
            let full = std::mem::replace(&mut self.builder, PackBuilder::new(self.compress));
            let pack = full.finish();
            self.bytes_stored += pack.bytes.len() as u64;
            self.finished.push(store_pack(&*self.backend, pack)?);
        }
        Ok(())
    }

    /// Objects that were distrusted and have been stored again.
    pub(crate) fn healed(&self) -> HashSet<ObjectKey> {
        self.distrusted.intersection(&self.added).copied().collect()
    }

    pub(crate) fn finish(self) -> Written {
        let last = (!self.builder.is_empty()).then(|| self.builder.finish());
        let bytes_last = last.as_ref().map_or(0, |pack| pack.bytes.len() as u64);
        Written {
            finished: self.finished,
            last,
            objects_new: self.added.len() as u64,
            bytes_stored: self.bytes_stored + bytes_last,
        }
    }
}

impl Written {
    /// For a capture that found everything stored already.
    pub(crate) fn nothing() -> Self {
        Self { finished: Vec::new(), last: None, objects_new: 0, bytes_stored: 0 }
    }

    /// Stores the last pack; after this everything is durable, and nothing names it yet.
    pub(crate) fn store(mut self, backend: &dyn ObjectBackend) -> Result<Vec<(PackEntry, Arc<PackIndex>)>> {
        if let Some(pack) = self.last.take() {
            self.finished.push(store_pack(backend, pack)?);
        }
        Ok(self.finished)
    }
}

fn store_pack(backend: &dyn ObjectBackend, pack: Pack) -> Result<(PackEntry, Arc<PackIndex>)> {
    backend.put(&object_name(pack.digest), &pack.bytes)?;
    let entry = PackEntry {
        digest: pack.digest,
        size_bytes: pack.bytes.len() as u64,
        index_offset: pack.index_offset,
    };
    Ok((entry, Arc::new(pack.index)))
}

/// Why a stream could not be stored.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The source could not be read.
    Read(std::io::Error),
    /// The store could not take it.
    Store(Error),
}

impl From<Error> for StreamError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}
