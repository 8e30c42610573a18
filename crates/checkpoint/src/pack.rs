//! Packs: many objects in one immutable file.
//!
//! A pack is a header, compressed blocks, an index, and a trailer that ends it. Small objects share a block, so that
//! they compress well and cost no file of their own. The trailer's checksum covers header and index, the index holds a
//! checksum of each block, and the pack's name is the digest of index and trailer: a pack cannot be changed unseen.

use evoseal_types::Digest;

use crate::frame::{array, damaged};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"EVOSPACK";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 12;
const TRAILER_LEN: usize = 8 + 8 + 32 + 4 + 8;
const BLOCK_LEN: usize = 8 + 4 + 4 + 1 + 32;
const OBJECT_LEN: usize = 1 + 32 + 4 + 4 + 4;

/// A block is closed when it holds this much, before compression.
const BLOCK_TARGET: usize = 128 << 10;
/// An object of at least this size has a block of its own.
const OWN_BLOCK_MIN: usize = 64 << 10;
/// The largest object, and so the largest block, in bytes before compression.
pub(crate) const OBJECT_LEN_MAX: usize = 16 << 20;

/// What an object is, apart from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ObjectKind {
    /// Bytes of file contents; the key is their digest.
    Content,
    /// A directory page, a checkpoint record; the key is its digest. Kept in blocks of their own.
    Metadata,
    /// The list of chunks of a large object; the key is the digest of the whole.
    Recipe,
}

/// Names an object in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    pub(crate) kind: ObjectKind,
    pub(crate) digest: Digest,
}

/// Where a block of a pack is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) offset: u64,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    compressed: bool,
    checksum: [u8; 32],
}

/// Where an object is in its pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedObject {
    pub(crate) key: ObjectKey,
    pub(crate) block: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// What a pack says it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PackIndex {
    pub(crate) blocks: Vec<Block>,
    pub(crate) objects: Vec<PackedObject>,
}

/// A finished pack.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
    pub(crate) index_offset: u64,
    pub(crate) index: PackIndex,
}

/// Puts objects together to a pack.
#[derive(Debug)]
pub(crate) struct PackBuilder {
    compress: bool,
    body: Vec<u8>,
    index: PackIndex,
    open_content: OpenBlock,
    open_metadata: OpenBlock,
}

#[derive(Debug, Default)]
struct OpenBlock {
    raw: Vec<u8>,
    /// Key, offset and length of the objects that wait in `raw`.
    objects: Vec<(ObjectKey, u32, u32)>,
}

impl PackBuilder {
    pub(crate) fn new(compress: bool) -> Self {
        let mut body = MAGIC.to_vec();
        body.extend_from_slice(&VERSION.to_le_bytes());
        Self {
            compress,
            body,
            index: PackIndex::default(),
            open_content: OpenBlock::default(),
            open_metadata: OpenBlock::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.index.blocks.is_empty()
            && self.open_content.raw.is_empty()
            && self.open_content.objects.is_empty()
            && self.open_metadata.objects.is_empty()
    }

    /// Bytes so far, blocks that are still open uncompressed.
    pub(crate) fn size_bytes(&self) -> usize {
        self.body.len() + self.open_content.raw.len() + self.open_metadata.raw.len()
    }

    /// Adds an object. The caller knows that the store lacks it and that its key is right.
    pub(crate) fn add(&mut self, key: ObjectKey, bytes: &[u8]) -> Result<()> {
        if bytes.len() > OBJECT_LEN_MAX {
            return Err(Error::TooLarge {
                what: "an object".to_owned(),
                actual: bytes.len() as u64,
                limit: OBJECT_LEN_MAX as u64,
            });
        }
        if bytes.len() >= OWN_BLOCK_MIN {
            let alone = OpenBlock { raw: bytes.to_vec(), objects: vec![(key, 0, to_u32(bytes.len()))] };
            self.close(alone);
            return Ok(());
        }
        let open = match key.kind {
            ObjectKind::Content => &mut self.open_content,
            ObjectKind::Metadata | ObjectKind::Recipe => &mut self.open_metadata,
        };
        open.objects.push((key, to_u32(open.raw.len()), to_u32(bytes.len())));
        open.raw.extend_from_slice(bytes);
        if open.raw.len() >= BLOCK_TARGET {
            let full = std::mem::take(open);
            self.close(full);
        }
        Ok(())
    }

    fn close(&mut self, open: OpenBlock) {
        if open.objects.is_empty() {
            return;
        }
        let packed = if self.compress { lz4_flex::block::compress(&open.raw) } else { Vec::new() };
        let compressed = self.compress && packed.len() < open.raw.len();
        let stored = if compressed { &packed } else { &open.raw };
        let block = to_u32(self.index.blocks.len());
        self.index.blocks.push(Block {
            offset: self.body.len() as u64,
            stored_len: to_u32(stored.len()),
            raw_len: to_u32(open.raw.len()),
            compressed,
            checksum: *blake3::hash(stored).as_bytes(),
        });
        self.body.extend_from_slice(stored);
        let objects = open.objects.into_iter();
        self.index.objects.extend(objects.map(|(key, offset, len)| PackedObject { key, block, offset, len }));
    }

    /// Closes all blocks and writes index and trailer.
    pub(crate) fn finish(mut self) -> Pack {
        let content = std::mem::take(&mut self.open_content);
        self.close(content);
        let metadata = std::mem::take(&mut self.open_metadata);
        self.close(metadata);
        let index_offset = self.body.len() as u64;
        self.index.encode(&mut self.body);
        let mut bytes = self.body;
        let index_len = bytes.len() as u64 - index_offset;
        let mut trailer = Vec::with_capacity(TRAILER_LEN);
        trailer.extend_from_slice(&index_offset.to_le_bytes());
        trailer.extend_from_slice(&index_len.to_le_bytes());
        let index_start = bytes.len() - index_bytes(index_len);
        trailer.extend_from_slice(&tail_checksum(&bytes[index_start..], index_offset, index_len));
        trailer.extend_from_slice(&VERSION.to_le_bytes());
        trailer.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&trailer);
        let digest = Digest::of(&bytes[index_start..]);
        Pack { digest, bytes, index_offset, index: self.index }
    }
}

/// The name under which a pack is stored.
pub(crate) fn object_name(pack: Digest) -> String {
    format!("packs/{pack}")
}

impl PackIndex {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&to_u32(self.blocks.len()).to_le_bytes());
        bytes.extend_from_slice(&to_u32(self.objects.len()).to_le_bytes());
        for block in &self.blocks {
            bytes.extend_from_slice(&block.offset.to_le_bytes());
            bytes.extend_from_slice(&block.stored_len.to_le_bytes());
            bytes.extend_from_slice(&block.raw_len.to_le_bytes());
            bytes.push(u8::from(block.compressed));
            bytes.extend_from_slice(&block.checksum);
        }
        for object in &self.objects {
            bytes.push(match object.key.kind {
                ObjectKind::Content => 0,
                ObjectKind::Metadata => 1,
                ObjectKind::Recipe => 2,
            });
            bytes.extend_from_slice(object.key.digest.as_bytes());
            bytes.extend_from_slice(&object.block.to_le_bytes());
            bytes.extend_from_slice(&object.offset.to_le_bytes());
            bytes.extend_from_slice(&object.len.to_le_bytes());
        }
    }

    /// Reads index and trailer of the pack `name`: the bytes from `index_offset` to the pack's end.
    pub(crate) fn decode(name: Digest, index_offset: u64, tail: &[u8]) -> Result<Self> {
        let object = object_name(name);
        let refuse = |problem: &str| damaged(&object, problem);
        if Digest::of(tail) != name {
            return Err(refuse("its index does not have the digest that names the pack"));
        }
        let (index, trailer) = tail
            .len()
            .checked_sub(TRAILER_LEN)
            .map(|length| tail.split_at(length))
            .ok_or_else(|| refuse("it is cut off"))?;
        let version = u32::from_le_bytes(array(&trailer[48..52]));
        if &trailer[52..] != MAGIC {
            return Err(refuse("it does not end with the right magic bytes"));
        }
        if version != VERSION {
            return Err(Error::Format {
                store: object,
                found: version.to_string(),
                supported: VERSION.to_string(),
            });
        }
        let index_len = index.len() as u64;
        let stated = (u64::from_le_bytes(array(&trailer[..8])), u64::from_le_bytes(array(&trailer[8..16])));
        if stated != (index_offset, index_len)
            || trailer[16..48] != tail_checksum(index, index_offset, index_len)
        {
            return Err(refuse("its trailer contradicts its index"));
        }
        Self::decode_entries(index, index_offset).ok_or_else(|| refuse("its index is malformed"))
    }

    /// `None` for any count, offset or length that does not fit.
    fn decode_entries(index: &[u8], body_len: u64) -> Option<Self> {
        let (head, rest) = index.split_at_checked(8)?;
        let block_count = u32::from_le_bytes(array(&head[..4])) as usize;
        let object_count = u32::from_le_bytes(array(&head[4..])) as usize;
        let (blocks, objects) = rest.split_at_checked(block_count.checked_mul(BLOCK_LEN)?)?;
        if objects.len() != object_count.checked_mul(OBJECT_LEN)? {
            return None;
        }
        let blocks: Option<Vec<Block>> =
            blocks.chunks_exact(BLOCK_LEN).map(|bytes| decode_block(bytes, body_len)).collect();
        let blocks = blocks?;
        let objects: Option<Vec<PackedObject>> =
            objects.chunks_exact(OBJECT_LEN).map(|bytes| decode_object(bytes, &blocks)).collect();
        Some(Self { blocks, objects: objects? })
    }
}

impl Block {
    /// The bytes that the block holds, from the bytes that are stored.
    pub(crate) fn unpack(&self, object: &str, stored: Vec<u8>) -> Result<Vec<u8>> {
        // The checksum comes first, so that the decompressor never sees bytes that we did not write.
        if *blake3::hash(&stored).as_bytes() != self.checksum {
            return Err(damaged(object, format!("the block at {} has a wrong checksum", self.offset)));
        }
        if !self.compressed {
            return Ok(stored);
        }
        let mut raw = vec![0; self.raw_len as usize];
        match lz4_flex::block::decompress_into(&stored, &mut raw) {
            Ok(length) if length == raw.len() => Ok(raw),
            _ => Err(damaged(object, format!("the block at {} does not decompress", self.offset))),
        }
    }

    pub(crate) fn range(&self) -> std::ops::Range<u64> {
        self.offset..self.offset + u64::from(self.stored_len)
    }
}

/// Checks the twelve bytes at the start of a pack, which no index covers.
pub(crate) fn check_header(object: &str, bytes: &[u8]) -> Result<()> {
    let expected = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
    if bytes.get(..HEADER_LEN) == Some(&expected[..]) {
        Ok(())
    } else {
        Err(damaged(object, "its first bytes are not those of a pack"))
    }
}

fn decode_block(bytes: &[u8], body_len: u64) -> Option<Block> {
    let block = Block {
        offset: u64::from_le_bytes(array(&bytes[..8])),
        stored_len: u32::from_le_bytes(array(&bytes[8..12])),
        raw_len: u32::from_le_bytes(array(&bytes[12..16])),
        compressed: match bytes[16] {
            0 => false,
            1 => true,
            _ => return None,
        },
        checksum: array(&bytes[17..49]),
    };
    let end = block.offset.checked_add(u64::from(block.stored_len))?;
    let raw_len = block.raw_len as usize;
    let fits = end <= body_len
        && raw_len <= OBJECT_LEN_MAX
        && (block.compressed || block.stored_len == block.raw_len);
    fits.then_some(block)
}

fn decode_object(bytes: &[u8], blocks: &[Block]) -> Option<PackedObject> {
    let kind = match bytes[0] {
        0 => ObjectKind::Content,
        1 => ObjectKind::Metadata,
        2 => ObjectKind::Recipe,
        _ => return None,
    };
    let key = ObjectKey { kind, digest: Digest::from_bytes(array(&bytes[1..33])) };
    let number = |start: usize| u32::from_le_bytes(array(&bytes[start..start + 4]));
    let object = PackedObject { key, block: number(33), offset: number(37), len: number(41) };
    let end = object.offset.checked_add(object.len)?;
    (end <= blocks.get(object.block as usize)?.raw_len).then_some(object)
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).expect("packs, blocks and objects are limited to far less than 4 GiB")
}

fn index_bytes(index_len: u64) -> usize {
    usize::try_from(index_len).expect("the index was just made in memory")
}

/// The checksum in the trailer covers the header too, whose bytes are the same in every pack of this version.
fn tail_checksum(index: &[u8], index_offset: u64, index_len: u64) -> [u8; 32] {
    *blake3::Hasher::new()
        .update(MAGIC)
        .update(&VERSION.to_le_bytes())
        .update(&index_offset.to_le_bytes())
        .update(&index_len.to_le_bytes())
        .update(index)
        .finalize()
        .as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> ObjectKey {
        ObjectKey { kind: ObjectKind::Content, digest: Digest::of(bytes) }
    }

    fn pack_of(objects: &[&[u8]]) -> Pack {
        let mut builder = PackBuilder::new(true);
        for bytes in objects {
            builder.add(key(bytes), bytes).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn objects_come_out_of_a_pack_as_they_went_in() {
        let large = vec![7; 200_000];
        let objects = [b"a".as_slice(), b"", &large];
        let pack = pack_of(&objects);
        let offset = usize::try_from(pack.index_offset).unwrap();
        let index = PackIndex::decode(pack.digest, pack.index_offset, &pack.bytes[offset..]).unwrap();
        assert_eq!(index, pack.index);
        for bytes in objects {
            let found = index.objects.iter().find(|object| object.key == key(bytes)).unwrap();
            let block = &index.blocks[found.block as usize];
            let range = block.range();
            let stored = pack.bytes[range.start.try_into().unwrap()..range.end.try_into().unwrap()].to_vec();
            let raw = block.unpack("pack", stored).unwrap();
            assert_eq!(&raw[found.offset as usize..][..found.len as usize], bytes);
        }
    }

    #[test]
    fn small_objects_share_a_block() {
        let objects: Vec<Vec<u8>> = (0..100_u8).map(|byte| vec![byte; 100]).collect();
        let slices: Vec<&[u8]> = objects.iter().map(Vec::as_slice).collect();
        assert_eq!(pack_of(&slices).index.blocks.len(), 1);
    }

    #[test]
    fn every_flipped_byte_of_index_and_trailer_is_damage() {
        let pack = pack_of(&[b"one", b"two"]);
        let offset = usize::try_from(pack.index_offset).unwrap();
        for place in offset..pack.bytes.len() {
            let mut bytes = pack.bytes.clone();
            bytes[place] ^= 1;
            let decoded = PackIndex::decode(pack.digest, pack.index_offset, &bytes[offset..]);
            assert!(matches!(decoded, Err(Error::Damaged { .. })), "byte {place}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_as_index_are_refused_or_within_bounds(bytes in proptest::collection::vec(0_u8..4, 0..200)) {
            if let Some(index) = PackIndex::decode_entries(&bytes, 1000) {
                proptest::prop_assert!(index.blocks.iter().all(|block| block.range().end <= 1000));
            }
        }
    }
}
