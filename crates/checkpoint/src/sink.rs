//! Adding objects to a store: from many threads into packs that nothing names yet.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use evoseal_types::Digest;

use crate::backend::{ObjectBackend, ObjectWriter};
use crate::catalog::{PackEntry, PackRef};
use crate::content;
use crate::objects::{Index, METADATA_LEN_MAX, Reader, RecipePart, WHOLE_LEN_MAX, encode_recipe};
use crate::pack::{self, Block, ObjectKey, ObjectKind, PackedObject, object_name, to_u32};
use crate::settings::Chunking;
use crate::{Error, Result};

/// A block is closed when it holds this much, before compression. Smaller ones compress worse, larger ones make the
/// reading of a single small file dearer.
const BLOCK_TARGET: usize = 128 << 10;
/// An object of at least this size has a block of its own.
const OWN_BLOCK_MIN: usize = 64 << 10;
/// A pack up to this size becomes part of the commit itself, so that a small checkpoint costs one sync.
const INLINE_LEN_MAX: usize = 256 << 10;
/// A pack is finished and the next one begun when it has grown to this many bytes: what is given back later is given
/// back by packs.
const PACK_TARGET: u64 = 64 << 20;
const SHARDS: usize = 16;

/// Makes packs out of objects that come from any number of threads.
pub(crate) struct PackSink<'a> {
    backend: Arc<dyn ObjectBackend>,
    pub(crate) chunking: Chunking,
    compress: bool,
    /// Objects whose stored copy is known to be damaged: they are stored again.
    distrusted: Arc<HashSet<ObjectKey>>,
    load_index: Box<dyn Fn() -> Result<Arc<Index>> + Send + Sync + 'a>,
    index: OnceLock<Arc<Index>>,
    /// If set, only these objects are taken, and those whether or not the store seems to have them.
    healing: Option<HashSet<ObjectKey>>,
    added: [Mutex<HashSet<ObjectKey>>; SHARDS],
    open: Mutex<OpenPack>,
}

impl std::fmt::Debug for PackSink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackSink").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// The pack that is being written.
#[derive(Debug, Default)]
struct OpenPack {
    place: Place,
    len: u64,
    blocks: Vec<Block>,
    objects: Vec<PackedObject>,
    finished: Vec<PackRef>,
    objects_new: u64,
    bytes_stored: u64,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    Object(Box<dyn ObjectWriter>),
}

impl Default for Place {
    fn default() -> Self {
        Self::Memory(Vec::new())
    }
}

/// What a [`PackSink`] made. What is inline is not stored yet.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) packs: Vec<PackRef>,
    pub(crate) objects_new: u64,
    pub(crate) bytes_stored: u64,
}

/// Objects of one thread on their way into a block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    content: OpenBlock,
    metadata: OpenBlock,
    packed: Vec<u8>,
}

#[derive(Debug, Default)]
struct OpenBlock {
    raw: Vec<u8>,
    /// Key, offset and length of the objects that wait in `raw`.
    objects: Vec<(ObjectKey, u32, u32)>,
}

impl<'a> PackSink<'a> {
    /// The index of what the store has already is asked for when it is first needed.
    pub(crate) fn new(
        backend: Arc<dyn ObjectBackend>,
        chunking: Chunking,
        compress: bool,
        distrusted: Arc<HashSet<ObjectKey>>,
        load_index: impl Fn() -> Result<Arc<Index>> + Send + Sync + 'a,
    ) -> Self {
        Self {
            backend,
            chunking,
            compress,
            distrusted,
            load_index: Box::new(load_index),
            index: OnceLock::new(),
            healing: None,
            added: std::array::from_fn(|_| Mutex::default()),
            open: Mutex::default(),
        }
    }

    /// Takes only what is damaged or missing, and that in any case.
    pub(crate) fn healing(mut self, wanted: HashSet<ObjectKey>) -> Self {
        self.healing = Some(wanted);
        self
    }

    fn index(&self) -> Result<&Arc<Index>> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let index = (self.load_index)()?;
        Ok(self.index.get_or_init(|| index))
    }

    fn shard(&self, key: ObjectKey) -> MutexGuard<'_, HashSet<ObjectKey>> {
        let shard = usize::from(key.digest.as_bytes()[0]) % SHARDS;
        self.added[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stored(&self, key: ObjectKey) -> Result<bool> {
        if let Some(wanted) = &self.healing {
            return Ok(!wanted.contains(&key));
        }
        Ok(!self.distrusted.contains(&key) && self.index()?.locate(key)?.is_some())
    }

    fn has(&self, key: ObjectKey) -> Result<bool> {
        Ok(self.shard(key).contains(&key) || self.is_stored(key)?)
    }

    /// Whether the store holds everything that a file is made of.
    pub(crate) fn has_content(&self, digest: Digest, size_bytes: u64) -> Result<bool> {
        if size_bytes <= WHOLE_LEN_MAX {
            return self.has(ObjectKey { digest, kind: ObjectKind::Content });
        }
        let list = ObjectKey { digest, kind: ObjectKind::Recipe };
        if self.shard(list).contains(&list) {
            return Ok(true);
        }
        if !self.is_stored(list)? {
            return Ok(false);
        }
        let mut reader = Reader::new(Arc::clone(&self.backend), Arc::clone(self.index()?));
        self.has_all(reader.content_parts(digest, size_bytes))
    }

    fn has_metadata(&self, digest: Digest, len: usize) -> Result<bool> {
        if len as u64 <= WHOLE_LEN_MAX {
            return self.has(ObjectKey { digest, kind: ObjectKind::Metadata });
        }
        let list = ObjectKey { digest, kind: ObjectKind::LongMetadata };
        if self.shard(list).contains(&list) {
            return Ok(true);
        }
        if !self.is_stored(list)? {
            return Ok(false);
        }
        let mut reader = Reader::new(Arc::clone(&self.backend), Arc::clone(self.index()?));
        self.has_all(reader.metadata_parts(digest))
    }

    fn has_all(&self, parts: Result<Vec<ObjectKey>>) -> Result<bool> {
        match parts {
            Ok(parts) => {
                for part in parts {
                    if !self.has(part)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Err(Error::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the bytes of a small file, unless the store has them.
    pub(crate) fn add_content(&self, builder: &mut BlockBuilder, digest: Digest, bytes: &[u8]) -> Result<()> {
        self.add(builder, ObjectKey { digest, kind: ObjectKind::Content }, bytes)
    }

    /// Takes a content that is in memory, of any size; gives its digest.
    pub(crate) fn add_bytes(&self, builder: &mut BlockBuilder, bytes: &[u8]) -> Result<Digest> {
        if bytes.len() as u64 <= WHOLE_LEN_MAX {
            let digest = Digest::of(bytes);
            self.add_content(builder, digest, bytes)?;
            return Ok(digest);
        }
        let mut chunks = Vec::new();
        let parts = content::cut_bytes(bytes, self.chunking, &mut |number, chunk| {
            let part = content::chunk_part(chunk);
            if let RecipePart::Chunk { digest, .. } = part {
                self.add_content(builder, digest, chunk)?;
            }
            chunks.push((number, part));
            Ok(())
        })?;
        let parts = content::complete(parts, chunks).expect("every chunk was handed out and done");
        self.add_recipe(builder, &parts)
    }

    /// Takes a checkpoint's record, even if a deleted checkpoint had the same.
    pub(crate) fn force_record(
        &self,
        builder: &mut BlockBuilder,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<()> {
        if bytes.len() as u64 > WHOLE_LEN_MAX {
            return self.add_metadata(builder, digest, bytes);
        }
        self.force(builder, ObjectKey { digest, kind: ObjectKind::Metadata }, bytes)
    }

    /// Takes the list of a large file's chunks, which are added already; gives the file's digest.
    pub(crate) fn add_recipe(&self, builder: &mut BlockBuilder, parts: &[RecipePart]) -> Result<Digest> {
        let bytes = encode_recipe(parts);
        let digest = Digest::of(&bytes);
        self.add(builder, ObjectKey { digest, kind: ObjectKind::Recipe }, &bytes)?;
        Ok(digest)
    }

    /// Takes a directory page, a record, a list.
    pub(crate) fn add_metadata(
        &self,
        builder: &mut BlockBuilder,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<()> {
        if bytes.len() > METADATA_LEN_MAX {
            return Err(Error::TooLarge {
                what: "a directory page or record".to_owned(),
                actual: bytes.len() as u64,
                limit: METADATA_LEN_MAX as u64,
            });
        }
        if self.has_metadata(digest, bytes.len())? {
            return Ok(());
        }
        if bytes.len() as u64 <= WHOLE_LEN_MAX {
            return self.add(builder, ObjectKey { digest, kind: ObjectKind::Metadata }, bytes);
        }
        let mut parts = Vec::new();
        for chunk in self.chunking.cutter(bytes) {
            let chunk = &bytes[chunk.offset..chunk.offset + chunk.length];
            let digest = Digest::of(chunk);
            self.add_content(builder, digest, chunk)?;
            parts.push(RecipePart::Chunk { digest, len: to_u32(chunk.len()) });
        }
        self.add(builder, ObjectKey { digest, kind: ObjectKind::LongMetadata }, &encode_recipe(&parts))
    }

    fn add(&self, builder: &mut BlockBuilder, key: ObjectKey, bytes: &[u8]) -> Result<()> {
        if self.is_stored(key)? { Ok(()) } else { self.force(builder, key, bytes) }
    }

    /// Stores an object even if a pack has it already; only once, however many threads bring it.
    pub(crate) fn force(&self, builder: &mut BlockBuilder, key: ObjectKey, bytes: &[u8]) -> Result<()> {
        if !self.shard(key).insert(key) {
            return Ok(());
        }
        if bytes.len() > pack::OBJECT_LEN_MAX {
            return Err(Error::TooLarge {
                what: "an object".to_owned(),
                actual: bytes.len() as u64,
                limit: pack::OBJECT_LEN_MAX as u64,
            });
        }
        if bytes.len() >= OWN_BLOCK_MIN {
            return self.write_block(bytes, &[(key, 0, to_u32(bytes.len()))], &mut builder.packed);
        }
        let open = if key.kind == ObjectKind::Content { &mut builder.content } else { &mut builder.metadata };
        open.objects.push((key, to_u32(open.raw.len()), to_u32(bytes.len())));
        open.raw.extend_from_slice(bytes);
        if open.raw.len() >= BLOCK_TARGET {
            self.write_block(&open.raw, &open.objects, &mut builder.packed)?;
            open.raw.clear();
            open.objects.clear();
        }
        Ok(())
    }

    /// Writes what still waits in a builder.
    pub(crate) fn flush(&self, builder: &mut BlockBuilder) -> Result<()> {
        let BlockBuilder { content, metadata, packed } = builder;
        for open in [content, metadata] {
            if !open.objects.is_empty() {
                self.write_block(&open.raw, &open.objects, packed)?;
                open.raw.clear();
                open.objects.clear();
            }
        }
        Ok(())
    }

    /// Compresses on the calling thread; only the writing itself is done one after the other.
    fn write_block(&self, raw: &[u8], objects: &[(ObjectKey, u32, u32)], packed: &mut Vec<u8>) -> Result<()> {
        let (block, stored) = pack::pack_block(raw, self.compress, packed);
        self.append(block, stored, objects)
    }

    /// Appends a block as it is to the pack.
    pub(crate) fn append(
        &self,
        mut block: Block,
        stored: &[u8],
        objects: &[(ObjectKey, u32, u32)],
    ) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len == 0 {
            open.write(&*self.backend, &pack::header())?;
        }
        block.offset = open.len;
        open.write(&*self.backend, stored)?;
        let number = to_u32(open.blocks.len());
        open.blocks.push(block);
        open.objects.extend(objects.iter().map(|(key, offset, len)| PackedObject {
            key: *key,
            block: number,
            offset: *offset,
            len: *len,
        }));
        if open.len >= PACK_TARGET { open.finish_pack(&*self.backend, false) } else { Ok(()) }
    }

    /// Ends the last pack. A small one is kept for the commit if `may_inline`; all others are stored when this returns.
    pub(crate) fn finish(self, may_inline: bool) -> Result<(Written, HashSet<ObjectKey>)> {
        let mut healed = HashSet::new();
        if !self.distrusted.is_empty() {
            for shard in &self.added {
                let added = shard.lock().unwrap_or_else(PoisonError::into_inner);
                healed.extend(self.distrusted.iter().filter(|key| added.contains(key)).copied());
            }
        }
        let mut open = self.open.into_inner().unwrap_or_else(PoisonError::into_inner);
        if open.len > 0 {
            open.finish_pack(&*self.backend, may_inline)?;
        }
        let written =
            Written { packs: open.finished, objects_new: open.objects_new, bytes_stored: open.bytes_stored };
        Ok((written, healed))
    }
}

impl OpenPack {
    fn write(&mut self, backend: &dyn ObjectBackend, bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        match &mut self.place {
            Place::Memory(held) if held.len() + bytes.len() <= INLINE_LEN_MAX => {
                held.extend_from_slice(bytes);
            }
            Place::Memory(held) => {
                let mut writer = backend.writer()?;
                writer.write(held)?;
                writer.write(bytes)?;
                self.place = Place::Object(writer);
            }
            Place::Object(writer) => writer.write(bytes)?,
        }
        Ok(())
    }

    fn finish_pack(&mut self, backend: &dyn ObjectBackend, may_inline: bool) -> Result<()> {
        let mut objects = std::mem::take(&mut self.objects);
        let blocks = std::mem::take(&mut self.blocks);
        // Packs that become one may hold the same object, which several writers have brought: the newest copy counts.
        objects.sort_unstable_by_key(|object| (object.key, std::cmp::Reverse(object.block)));
        objects.dedup_by_key(|object| object.key);
        let index_offset = self.len;
        let (digest, tail) = pack::seal(&blocks, &mut objects, index_offset)?;
        let size_bytes = index_offset + tail.len() as u64;
        let entry = PackEntry { digest, size_bytes, index_offset };
        let inline = match std::mem::take(&mut self.place) {
            Place::Memory(mut bytes) if may_inline => {
                bytes.extend_from_slice(&tail);
                Some(Arc::new(bytes))
            }
            Place::Memory(bytes) => {
                let mut writer = backend.writer()?;
                writer.write(&bytes)?;
                writer.write(&tail)?;
                writer.finish(&object_name(digest))?;
                None
            }
            Place::Object(mut writer) => {
                writer.write(&tail)?;
                writer.finish(&object_name(digest))?;
                None
            }
        };
        self.finished.push(PackRef { entry, inline });
        self.objects_new += objects.len() as u64;
        self.bytes_stored += size_bytes;
        self.len = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryBackend;
    use crate::pack::PackIndex;

    #[test]
    fn an_object_that_two_packs_brought_stands_once_when_they_become_one() {
        let sink =
            PackSink::new(Arc::new(MemoryBackend::new()), Chunking::STANDARD, true, Arc::default(), || {
                Ok(Arc::default())
            });
        let key = ObjectKey { digest: Digest::of(b"same"), kind: ObjectKind::Content };
        for _ in 0..2 {
            let mut packed = Vec::new();
            let (block, stored) = pack::pack_block(b"same", true, &mut packed);
            sink.append(block, stored, &[(key, 0, 4)]).unwrap();
        }
        let (written, _) = sink.finish(true).unwrap();
        let PackRef { entry, inline } = &written.packs[0];
        let start = usize::try_from(entry.index_offset).unwrap();
        let tail = inline.as_ref().unwrap()[start..].to_vec();
        let index = PackIndex::decode(entry.digest, entry.index_offset, tail).unwrap();
        assert!(index.is_sorted(), "verification would call the pack damaged");
        assert_eq!(index.find(key).unwrap().map(|found| found.block), Some(1), "the newest copy counts");
    }
}
