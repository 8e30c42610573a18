//! Packs: many objects in one immutable file.
//!
//! A pack is a header, compressed blocks, an index sorted by digest, and a trailer that ends it. Small objects share a
//! block, so that they compress well and cost no file of their own. The trailer's checksum covers header and index, the
//! index holds a checksum of each block, and the pack's name is the digest of index and trailer: a pack cannot be changed
//! unseen. The trailer holds random bytes, so that no two packs ever have one name, whatever became of the first.
//!
//! An index is searched where it lies: opening a pack costs reading its index and checking one digest, not an entry in a
//! table for each object.

use evoseal_types::Digest;

use crate::frame::{array, damaged};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"EVOSPACK";
const VERSION: u32 = 2;
pub(crate) const HEADER_LEN: usize = 12;
const NONCE_LEN: usize = 16;
const TRAILER_LEN: usize = NONCE_LEN + 8 + 8 + 32 + 4 + 8;
const BLOCK_LEN: usize = 8 + 4 + 4 + 1 + 32;
const OBJECT_LEN: usize = 32 + 1 + 4 + 4 + 4;

/// The largest object, and so the largest block, in bytes before compression.
pub(crate) const OBJECT_LEN_MAX: usize = 16 << 20;

/// What an object is, apart from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ObjectKind {
    /// The bytes of a file, or of a chunk of a large one; the key is their digest.
    Content,
    /// A directory page, a tree object, extras, a checkpoint record; the key is its digest.
    Metadata,
    /// The list of the chunks of a large file; the key is the digest of the list.
    Recipe,
    /// The list of the chunks of metadata too long for one object; the key is the digest of the whole.
    LongMetadata,
}

impl ObjectKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Content => 0,
            Self::Metadata => 1,
            Self::Recipe => 2,
            Self::LongMetadata => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Content,
            1 => Self::Metadata,
            2 => Self::Recipe,
            3 => Self::LongMetadata,
            _ => return None,
        })
    }

    /// Whether the key is the digest of the object's own bytes.
    pub(crate) fn is_named_by_its_bytes(self) -> bool {
        self != Self::LongMetadata
    }
}

/// Names an object in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    pub(crate) digest: Digest,
    pub(crate) kind: ObjectKind,
}

/// Where a block of a pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) offset: u64,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    pub(crate) compressed: bool,
    pub(crate) checksum: [u8; 32],
}

/// Where an object is in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedObject {
    pub(crate) key: ObjectKey,
    pub(crate) block: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// What a pack says it holds, as it lies in the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackIndex {
    name: String,
    body_len: u64,
    block_count: usize,
    object_count: usize,
    bytes: Vec<u8>,
}

/// The first bytes of every pack.
pub(crate) fn header() -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// The name under which a pack is stored.
pub(crate) fn object_name(pack: Digest) -> String {
    format!("packs/{pack}")
}

/// A block of `raw` bytes, compressed if that makes it shorter; the bytes to store are in `buffer` or `raw` itself.
pub(crate) fn pack_block<'a>(raw: &'a [u8], compress: bool, buffer: &'a mut Vec<u8>) -> (Block, &'a [u8]) {
    let mut stored = raw;
    let mut compressed = false;
    if compress {
        let room = lz4_flex::block::get_maximum_output_size(raw.len());
        if buffer.len() < room {
            buffer.resize(room, 0);
        }
        let length =
            lz4_flex::block::compress_into(raw, buffer).expect("the buffer has the size that was asked for");
        if length < raw.len() {
            stored = &buffer[..length];
            compressed = true;
        }
    }
    let block = Block {
        offset: 0,
        stored_len: to_u32(stored.len()),
        raw_len: to_u32(raw.len()),
        compressed,
        checksum: *blake3::hash(stored).as_bytes(),
    };
    (block, stored)
}

/// Index and trailer of a pack, which follow after its blocks, and the digest that names the pack.
pub(crate) fn seal(
    blocks: &[Block],
    objects: &mut [PackedObject],
    body_len: u64,
) -> Result<(Digest, Vec<u8>)> {
    objects.sort_unstable_by_key(|object| object.key);
    let mut bytes =
        Vec::with_capacity(8 + blocks.len() * BLOCK_LEN + objects.len() * OBJECT_LEN + TRAILER_LEN);
    bytes.extend_from_slice(&to_u32(blocks.len()).to_le_bytes());
    bytes.extend_from_slice(&to_u32(objects.len()).to_le_bytes());
    for block in blocks {
        bytes.extend_from_slice(&block.offset.to_le_bytes());
        bytes.extend_from_slice(&block.stored_len.to_le_bytes());
        bytes.extend_from_slice(&block.raw_len.to_le_bytes());
        bytes.push(u8::from(block.compressed));
        bytes.extend_from_slice(&block.checksum);
    }
    for object in objects {
        bytes.extend_from_slice(object.key.digest.as_bytes());
        bytes.push(object.key.kind.to_byte());
        bytes.extend_from_slice(&object.block.to_le_bytes());
        bytes.extend_from_slice(&object.offset.to_le_bytes());
        bytes.extend_from_slice(&object.len.to_le_bytes());
    }
    let index_len = bytes.len() as u64;
    let mut nonce = [0; NONCE_LEN];
    rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::Io { action: "read", path: "random bytes".into(), source: error.into() })?;
    let checksum = tail_checksum(&bytes, &nonce, body_len, index_len);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&body_len.to_le_bytes());
    bytes.extend_from_slice(&index_len.to_le_bytes());
    bytes.extend_from_slice(&checksum);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(MAGIC);
    Ok((Digest::of(&bytes), bytes))
}

impl PackIndex {
    /// Reads index and trailer of the pack `name`: the bytes from `index_offset` to the pack's end.
    pub(crate) fn decode(name: Digest, index_offset: u64, mut tail: Vec<u8>) -> Result<Self> {
        let object = object_name(name);
        let refuse = |problem: &str| damaged(&object, problem);
        if Digest::of(&tail) != name {
            return Err(refuse("its index does not have the digest that names the pack"));
        }
        let index_len = tail.len().checked_sub(TRAILER_LEN).ok_or_else(|| refuse("it is cut off"))?;
        let (index, trailer) = tail.split_at(index_len);
        let (nonce, trailer) = trailer.split_at(NONCE_LEN);
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
        let stated = (u64::from_le_bytes(array(&trailer[..8])), u64::from_le_bytes(array(&trailer[8..16])));
        if stated != (index_offset, index_len as u64)
            || trailer[16..48] != tail_checksum(index, nonce, index_offset, index_len as u64)
        {
            return Err(refuse("its trailer contradicts its index"));
        }
        let counts = index.get(..8).ok_or_else(|| refuse("its index is malformed"))?;
        let block_count = u32::from_le_bytes(array(&counts[..4])) as usize;
        let object_count = u32::from_le_bytes(array(&counts[4..])) as usize;
        let expected = block_count
            .checked_mul(BLOCK_LEN)
            .zip(object_count.checked_mul(OBJECT_LEN))
            .and_then(|(blocks, objects)| blocks.checked_add(objects)?.checked_add(8));
        if expected != Some(index_len) {
            return Err(refuse("its index is malformed"));
        }
        tail.truncate(index_len);
        Ok(Self { name: object, body_len: index_offset, block_count, object_count, bytes: tail })
    }

    /// The name of the pack, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn object_count(&self) -> u32 {
        to_u32(self.object_count)
    }

    /// A block, whose place and sizes are within their limits.
    pub(crate) fn block(&self, number: u32) -> Result<Block> {
        let malformed = || damaged(&self.name, "a block in its index is malformed");
        let number = number as usize;
        if number >= self.block_count {
            return Err(malformed());
        }
        decode_block(&self.bytes[8 + number * BLOCK_LEN..][..BLOCK_LEN], self.body_len).ok_or_else(malformed)
    }

    fn key(&self, number: usize) -> &[u8] {
        &self.bytes[8 + self.block_count * BLOCK_LEN + number * OBJECT_LEN..][..33]
    }

    /// An object, which lies within its block.
    pub(crate) fn object(&self, number: u32) -> Result<PackedObject> {
        let malformed = || damaged(&self.name, "an object in its index is malformed");
        let number = number as usize;
        if number >= self.object_count {
            return Err(malformed());
        }
        let bytes = &self.bytes[8 + self.block_count * BLOCK_LEN + number * OBJECT_LEN..][..OBJECT_LEN];
        let digest = Digest::from_bytes(array(&bytes[..32]));
        let kind = ObjectKind::from_byte(bytes[32]).ok_or_else(malformed)?;
        let field = |start: usize| u32::from_le_bytes(array(&bytes[start..start + 4]));
        let object = PackedObject {
            key: ObjectKey { digest, kind },
            block: field(33),
            offset: field(37),
            len: field(41),
        };
        let end = object.offset.checked_add(object.len).ok_or_else(malformed)?;
        if end > self.block(object.block)?.raw_len { Err(malformed()) } else { Ok(object) }
    }

    /// All objects, ascending by digest.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Result<PackedObject>> {
        (0..self.object_count()).map(|number| self.object(number))
    }

    /// The object of that name. Digests are spread evenly, so a guess at the place is nearly right.
    pub(crate) fn find(&self, key: ObjectKey) -> Result<Option<PackedObject>> {
        if self.object_count == 0 {
            return Ok(None);
        }
        let mut wanted = [0; 33];
        wanted[..32].copy_from_slice(key.digest.as_bytes());
        wanted[32] = key.kind.to_byte();
        let head = u64::from_be_bytes(array(&wanted[..8]));
        let count = self.object_count as u128;
        let guess = usize::try_from((u128::from(head) * count) >> 64).unwrap_or(0);
        let (mut low, mut high) = self.bracket(&wanted, guess);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle) < &wanted[..] {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low < self.object_count && self.key(low) == wanted {
            self.object(to_u32(low)).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A range that holds the first key that is not below `wanted`, found by doubling steps from a guess.
    fn bracket(&self, wanted: &[u8; 33], guess: usize) -> (usize, usize) {
        let guess = guess.min(self.object_count - 1);
        let mut step = 8;
        if self.key(guess) < &wanted[..] {
            let mut low = guess + 1;
            loop {
                let high = low.saturating_add(step).min(self.object_count);
                if high == self.object_count || self.key(high) >= &wanted[..] {
                    return (low, high);
                }
                low = high + 1;
                step *= 2;
            }
        }
        let mut high = guess;
        loop {
            let low = high.saturating_sub(step);
            if low == 0 || self.key(low) < &wanted[..] {
                return (low, high);
            }
            high = low;
            step *= 2;
        }
    }

    /// Whether the objects are in strictly ascending order, without which they would not be found.
    pub(crate) fn is_sorted(&self) -> bool {
        (1..self.object_count).all(|number| self.key(number - 1) < self.key(number))
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
    if bytes.get(..HEADER_LEN) == Some(&header()[..]) {
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

pub(crate) fn to_u32(length: usize) -> u32 {
    u32::try_from(length).expect("packs, blocks and objects are limited to far less than 4 GiB")
}

/// The checksum in the trailer covers the header too, whose bytes are the same in every pack of this version.
fn tail_checksum(index: &[u8], nonce: &[u8], index_offset: u64, index_len: u64) -> [u8; 32] {
    *blake3::Hasher::new()
        .update(&header())
        .update(nonce)
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

    /// The body and the tail of a pack with one block.
    fn pack_of(objects: &[&[u8]]) -> (Digest, Vec<u8>, Vec<u8>) {
        let raw = objects.concat();
        let mut buffer = Vec::new();
        let (mut block, stored) = pack_block(&raw, true, &mut buffer);
        block.offset = HEADER_LEN as u64;
        let body = [&header()[..], stored].concat();
        let mut offset = 0;
        let mut packed: Vec<PackedObject> = objects
            .iter()
            .map(|bytes| {
                let object = PackedObject { key: key(bytes), block: 0, offset, len: to_u32(bytes.len()) };
                offset += object.len;
                object
            })
            .collect();
        let (digest, tail) = seal(&[block], &mut packed, body.len() as u64).unwrap();
        (digest, body, tail)
    }

    #[test]
    fn objects_come_out_of_a_pack_as_they_went_in() {
        let large = vec![7; 200_000];
        let objects = [b"a".as_slice(), b"", &large];
        let (digest, body, tail) = pack_of(&objects);
        let index = PackIndex::decode(digest, body.len() as u64, tail).unwrap();
        assert!(index.is_sorted());
        for bytes in objects {
            let found = index.find(key(bytes)).unwrap().unwrap();
            let block = index.block(found.block).unwrap();
            let range = block.range();
            let stored = body[range.start.try_into().unwrap()..range.end.try_into().unwrap()].to_vec();
            let raw = block.unpack("pack", stored).unwrap();
            assert_eq!(&raw[found.offset as usize..][..found.len as usize], bytes);
        }
        assert_eq!(index.find(key(b"other")).unwrap(), None);
    }

    #[test]
    fn each_of_many_objects_is_found_and_others_are_not() {
        for count in [1_u32, 2, 7, 100, 3000] {
            let contents: Vec<Vec<u8>> = (0..count).map(|number| number.to_le_bytes().to_vec()).collect();
            let slices: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
            let (digest, body, tail) = pack_of(&slices);
            let index = PackIndex::decode(digest, body.len() as u64, tail).unwrap();
            for bytes in &contents {
                assert_eq!(index.find(key(bytes)).unwrap().map(|found| found.key), Some(key(bytes)));
            }
            for other in 0..1000_u32 {
                assert_eq!(index.find(key(&[&other.to_le_bytes()[..], b"other"].concat())).unwrap(), None);
            }
        }
    }

    #[test]
    fn equal_contents_never_give_packs_of_one_name() {
        assert_ne!(pack_of(&[b"a"]).0, pack_of(&[b"a"]).0);
    }

    #[test]
    fn any_flipped_byte_of_index_and_trailer_is_damage() {
        let (digest, body, tail) = pack_of(&[b"a", b"b"]);
        for place in 0..tail.len() {
            let mut bytes = tail.clone();
            bytes[place] ^= 8;
            let result = PackIndex::decode(digest, body.len() as u64, bytes);
            assert!(matches!(result, Err(Error::Damaged { .. })), "byte {place}");
        }
        for length in 0..tail.len() {
            assert!(PackIndex::decode(digest, body.len() as u64, tail[..length].to_vec()).is_err());
        }
    }
}
