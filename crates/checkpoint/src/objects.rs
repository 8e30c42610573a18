//! Finding and reading objects across all packs of a store.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use evoseal_types::Digest;

use crate::backend::ObjectBackend;
use crate::catalog::{PackEntry, PackRef};
use crate::frame::{array, damaged};
use crate::pack::{ObjectKey, ObjectKind, PackIndex, PackedObject, object_name};
use crate::{Error, Result};

/// A file larger than this is cut into chunks, so that a small change costs little. Part of the format: it decides
/// whether a file's digest is that of its bytes or that of its list of chunks.
pub(crate) const WHOLE_LEN_MAX: u64 = 1 << 20;
/// Bytes of unpacked blocks that a reader keeps. Neighbouring files share blocks, so a few are enough.
const CACHED_LEN_MAX: usize = 2 << 20;
/// The longest directory page or list of extras, in bytes: a directory of some two million entries.
pub(crate) const METADATA_LEN_MAX: usize = 256 << 20;
const RECIPE_MAGIC: &[u8; 4] = b"EVR2";

/// What all packs together hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    packs: Vec<Arc<OpenPack>>,
    /// Packs whose index cannot be read, and why.
    pub(crate) unreadable: Vec<(Digest, String)>,
}

/// A pack whose index has been read.
#[derive(Debug)]
pub(crate) struct OpenPack {
    pub(crate) entry: PackEntry,
    pub(crate) index: PackIndex,
    /// The whole pack, if it lies inside the catalogue.
    inline: Option<Arc<Vec<u8>>>,
}

/// Where an object is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Location {
    /// The number of the pack in the index.
    pub(crate) pack: usize,
    pub(crate) object: PackedObject,
}

impl OpenPack {
    fn open(backend: &dyn ObjectBackend, pack: &PackRef) -> Result<Self> {
        let entry = pack.entry;
        let tail = match &pack.inline {
            Some(bytes) => {
                let start = usize::try_from(entry.index_offset).ok();
                start.and_then(|start| bytes.get(start..)).unwrap_or_default().to_vec()
            }
            None => backend.get_range(&object_name(entry.digest), entry.index_offset..entry.size_bytes)?,
        };
        let index = PackIndex::decode(entry.digest, entry.index_offset, tail)?;
        Ok(Self { entry, index, inline: pack.inline.clone() })
    }

    /// Bytes of the pack.
    pub(crate) fn read(&self, backend: &dyn ObjectBackend, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        let name = self.index.name();
        let Some(bytes) = &self.inline else {
            return match backend.get_range(name, range) {
                Err(Error::NotFound { .. }) => Err(damaged(name, "it is missing")),
                other => other,
            };
        };
        let place = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let part = place.and_then(|(start, end)| bytes.get(start..end));
        part.map(<[u8]>::to_vec).ok_or_else(|| damaged(name, "it was cut off"))
    }
}

impl Index {
    /// Reads the index of every pack that `known` does not have. A damaged one costs only what it holds.
    pub(crate) fn load(backend: &dyn ObjectBackend, packs: &[PackRef], known: Option<&Self>) -> Result<Self> {
        let known: HashMap<Digest, &Arc<OpenPack>> =
            known.iter().flat_map(|index| &index.packs).map(|pack| (pack.entry.digest, pack)).collect();
        let mut index = Self::default();
        for pack in packs {
            let digest = pack.entry.digest;
            if let Some(open) = known.get(&digest) {
                index.packs.push(Arc::clone(open));
                continue;
            }
            match OpenPack::open(backend, pack) {
                Ok(open) => index.packs.push(Arc::new(open)),
                Err(Error::Damaged { problem, .. }) => index.unreadable.push((digest, problem)),
                Err(Error::NotFound { .. }) => {
                    index.unreadable.push((digest, "it is missing".to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(index)
    }

    /// Whether the index is exactly that of `packs`.
    pub(crate) fn is_of(&self, packs: &[PackRef]) -> bool {
        self.unreadable.is_empty()
            && self.packs.len() == packs.len()
            && self.packs.iter().zip(packs).all(|(open, pack)| open.entry == pack.entry)
    }

    /// Where an object is. Where several packs have it the newest copy counts, so that storing it again heals.
    pub(crate) fn locate(&self, key: ObjectKey) -> Result<Option<Location>> {
        for (pack, open) in self.packs.iter().enumerate().rev() {
            if let Some(object) = open.index.find(key)? {
                return Ok(Some(Location { pack, object }));
            }
        }
        Ok(None)
    }

    pub(crate) fn packs(&self) -> &[Arc<OpenPack>] {
        &self.packs
    }
}

/// A part of a content.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece<'a> {
    Bytes(&'a [u8]),
    /// A long run of zero bytes, of which nothing is stored.
    Zeros(u64),
}

/// Takes the parts of a content in order.
pub(crate) type PieceSink<'a> = dyn FnMut(Piece<'_>) -> Result<()> + 'a;

/// Reads objects, checking each against its digest.
#[derive(Debug)]
pub(crate) struct Reader {
    backend: Arc<dyn ObjectBackend>,
    pub(crate) index: Arc<Index>,
    cache: VecDeque<CachedBlock>,
    cached_len: usize,
}

/// Pack, number of the block in it, and the block unpacked.
type CachedBlock = ((usize, u32), Arc<Vec<u8>>);

impl Reader {
    pub(crate) fn new(backend: Arc<dyn ObjectBackend>, index: Arc<Index>) -> Self {
        Self { backend, index, cache: VecDeque::new(), cached_len: 0 }
    }

    /// A reader of the same store with a cache of its own.
    pub(crate) fn another(&self) -> Self {
        Self::new(Arc::clone(&self.backend), Arc::clone(&self.index))
    }

    /// Hands the checked bytes of one object to `take`.
    pub(crate) fn with_object<T>(&mut self, key: ObjectKey, take: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let location = self.index.locate(key)?.ok_or_else(|| missing(key.digest))?;
        let block = self.block(location.pack, location.object.block)?;
        let start = location.object.offset as usize;
        let bytes = block.get(start..start + location.object.len as usize);
        let bytes =
            bytes.ok_or_else(|| damaged(self.pack_name(location.pack), "an object leaves its block"))?;
        if key.kind.is_named_by_its_bytes() && Digest::of(bytes) != key.digest {
            return Err(damaged(
                self.pack_name(location.pack),
                format!("it holds wrong bytes as {}", key.digest),
            ));
        }
        Ok(take(bytes))
    }

    /// The bytes of one object.
    pub(crate) fn object(&mut self, key: ObjectKey) -> Result<Vec<u8>> {
        self.with_object(key, <[u8]>::to_vec)
    }

    /// Hands out a content in order, piece by piece, each checked before it is handed out. What came before an error
    /// must be thrown away.
    pub(crate) fn stream(&mut self, digest: Digest, size_bytes: u64, sink: &mut PieceSink<'_>) -> Result<()> {
        if size_bytes <= WHOLE_LEN_MAX {
            let key = ObjectKey { digest, kind: ObjectKind::Content };
            return self.with_object(key, |bytes| {
                check_size(digest, size_bytes, bytes.len() as u64)?;
                sink(Piece::Bytes(bytes))
            })?;
        }
        for part in self.recipe(digest, size_bytes)? {
            match part {
                RecipePart::Zeros(length) => sink(Piece::Zeros(length))?,
                RecipePart::Chunk { digest, len } => {
                    let key = ObjectKey { digest, kind: ObjectKind::Content };
                    self.with_object(key, |bytes| {
                        check_size(digest, u64::from(len), bytes.len() as u64)?;
                        sink(Piece::Bytes(bytes))
                    })??;
                }
            }
        }
        Ok(())
    }

    /// The parts of a large file, which add up to its size.
    pub(crate) fn recipe(&mut self, digest: Digest, size_bytes: u64) -> Result<Vec<RecipePart>> {
        let key = ObjectKey { digest, kind: ObjectKind::Recipe };
        let parts = decode_recipe(digest, &self.object(key)?)?;
        // A list that cannot be right is refused before anything is read: it could name one chunk a million times.
        let total = parts.iter().try_fold(0_u64, |total, part| total.checked_add(part.len()));
        check_size(digest, size_bytes, total.unwrap_or(u64::MAX))?;
        Ok(parts)
    }

    /// A content in one piece.
    pub(crate) fn content(&mut self, digest: Digest, size_bytes: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream(digest, size_bytes, &mut |piece| {
            match piece {
                Piece::Bytes(piece) => bytes.extend_from_slice(piece),
                Piece::Zeros(length) => {
                    let length = usize::try_from(length).ok().and_then(|more| bytes.len().checked_add(more));
                    let length = length.filter(|length| *length <= CONTENT_LEN_MAX);
                    let length = length.ok_or_else(|| Error::TooLarge {
                        what: format!("content {digest} in one piece"),
                        actual: size_bytes,
                        limit: CONTENT_LEN_MAX as u64,
                    })?;
                    bytes.resize(length, 0);
                }
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// A directory page, a record, a list: in one object unless it is very large.
    pub(crate) fn metadata(&mut self, digest: Digest) -> Result<Vec<u8>> {
        let whole = ObjectKey { digest, kind: ObjectKind::Metadata };
        if self.index.locate(whole)?.is_some() {
            return self.object(whole);
        }
        let list = ObjectKey { digest, kind: ObjectKind::LongMetadata };
        if self.index.locate(list)?.is_none() {
            return Err(missing(digest));
        }
        let mut bytes = Vec::new();
        for part in decode_recipe(digest, &self.object(list)?)? {
            let RecipePart::Chunk { digest: chunk, len } = part else {
                return Err(damaged(&format!("object {digest}"), "its list of chunks is malformed"));
            };
            if bytes.len() + len as usize > METADATA_LEN_MAX {
                return Err(damaged(&format!("object {digest}"), "it is longer than any page may be"));
            }
            let key = ObjectKey { digest: chunk, kind: ObjectKind::Content };
            self.with_object(key, |chunk| bytes.extend_from_slice(chunk))?;
        }
        if Digest::of(&bytes) != digest {
            return Err(damaged(&format!("object {digest}"), "its chunks do not add up to it"));
        }
        Ok(bytes)
    }

    /// The objects that a page, record or list is made of: itself, or its list and chunks.
    pub(crate) fn metadata_parts(&mut self, digest: Digest) -> Result<Vec<ObjectKey>> {
        let whole = ObjectKey { digest, kind: ObjectKind::Metadata };
        if self.index.locate(whole)?.is_some() {
            return Ok(vec![whole]);
        }
        let list = ObjectKey { digest, kind: ObjectKind::LongMetadata };
        let parts = decode_recipe(digest, &self.object(list)?)?;
        Ok(std::iter::once(list).chain(chunks_of(&parts)).collect())
    }

    /// The objects that a file of that digest and size is made of.
    pub(crate) fn content_parts(&mut self, digest: Digest, size_bytes: u64) -> Result<Vec<ObjectKey>> {
        if size_bytes <= WHOLE_LEN_MAX {
            return Ok(vec![ObjectKey { digest, kind: ObjectKind::Content }]);
        }
        let parts = self.recipe(digest, size_bytes)?;
        let list = ObjectKey { digest, kind: ObjectKind::Recipe };
        Ok(std::iter::once(list).chain(chunks_of(&parts)).collect())
    }

    fn block(&mut self, pack: usize, number: u32) -> Result<Arc<Vec<u8>>> {
        if let Some(place) = self.cache.iter().position(|(key, _)| *key == (pack, number)) {
            let entry = self.cache.remove(place).expect("the place was just found");
            let block = Arc::clone(&entry.1);
            self.cache.push_front(entry);
            return Ok(block);
        }
        let open = &self.index.packs[pack];
        let block = open.index.block(number)?;
        let stored = open.read(&*self.backend, block.range())?;
        let raw = Arc::new(block.unpack(open.index.name(), stored)?);
        self.cached_len += raw.len();
        self.cache.push_front(((pack, number), Arc::clone(&raw)));
        while self.cached_len > CACHED_LEN_MAX && self.cache.len() > 1 {
            let (_, oldest) = self.cache.pop_back().expect("there is more than one");
            self.cached_len -= oldest.len();
        }
        Ok(raw)
    }

    fn pack_name(&self, pack: usize) -> &str {
        self.index.packs[pack].index.name()
    }
}

/// The largest content that is handed out in one piece, in bytes.
const CONTENT_LEN_MAX: usize = 4 << 30;

/// A part of a large file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecipePart {
    Chunk { digest: Digest, len: u32 },
    Zeros(u64),
}

impl RecipePart {
    fn len(&self) -> u64 {
        match self {
            Self::Chunk { len, .. } => u64::from(*len),
            Self::Zeros(len) => *len,
        }
    }
}

pub(crate) fn chunks_of(parts: &[RecipePart]) -> impl Iterator<Item = ObjectKey> {
    parts.iter().filter_map(|part| match part {
        RecipePart::Chunk { digest, .. } => Some(ObjectKey { digest: *digest, kind: ObjectKind::Content }),
        RecipePart::Zeros(_) => None,
    })
}

pub(crate) fn missing(digest: Digest) -> Error {
    damaged(&format!("object {digest}"), "it is missing")
}

fn check_size(digest: Digest, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(damaged(&format!("content {digest}"), format!("it has {found} bytes, not {expected}")))
}

/// The bytes of a list of parts: its own digest names the file.
pub(crate) fn encode_recipe(parts: &[RecipePart]) -> Vec<u8> {
    let mut bytes = RECIPE_MAGIC.to_vec();
    for part in parts {
        match part {
            RecipePart::Chunk { digest, len } => {
                bytes.push(0);
                bytes.extend_from_slice(&len.to_le_bytes());
                bytes.extend_from_slice(digest.as_bytes());
            }
            RecipePart::Zeros(len) => {
                bytes.push(1);
                bytes.extend_from_slice(&len.to_le_bytes());
            }
        }
    }
    bytes
}

fn decode_recipe(digest: Digest, bytes: &[u8]) -> Result<Vec<RecipePart>> {
    let malformed = || damaged(&format!("content {digest}"), "its list of chunks is malformed");
    let mut rest = bytes.strip_prefix(RECIPE_MAGIC.as_slice()).ok_or_else(malformed)?;
    let mut parts = Vec::with_capacity(rest.len() / 37);
    while let Some((kind, after)) = rest.split_first() {
        let length = if *kind == 0 { 36 } else { 8 };
        let (part, after) = after.split_at_checked(length).ok_or_else(malformed)?;
        parts.push(match kind {
            0 => RecipePart::Chunk {
                digest: Digest::from_bytes(array(&part[4..])),
                len: u32::from_le_bytes(array(&part[..4])),
            },
            1 => RecipePart::Zeros(u64::from_le_bytes(array(part))),
            _ => return Err(malformed()),
        });
        rest = after;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_reads_back_and_every_truncation_inside_a_part_is_damage() {
        let chunk = RecipePart::Chunk { digest: Digest::of(b"x"), len: 7 };
        let parts = [chunk, RecipePart::Zeros(1 << 40), chunk];
        let bytes = encode_recipe(&parts);
        let digest = Digest::of(&bytes);
        assert_eq!(decode_recipe(digest, &bytes).unwrap(), parts);
        let ends = [4, 4 + 37, 4 + 37 + 9, bytes.len()];
        for length in 0..bytes.len() {
            assert_eq!(decode_recipe(digest, &bytes[..length]).is_ok(), ends.contains(&length), "{length}");
        }
    }
}
