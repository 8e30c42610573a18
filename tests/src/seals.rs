//! Damage that is sealed again: mutated files in which every digest fits.
//!
//! A store names everything by digests, so that nearly every mutation is refused at the first check and the decoders behind
//! it see nothing of it. Here the store itself tells which bytes are the digest of which other bytes: they are searched for,
//! whatever the format is, and after a mutation all of them are computed anew, from the inside out. What then comes to the
//! decoders is what a hostile hand would write that knows the format.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;

use evoseal_types::Digest;

use crate::random::Random;

const DIGEST_LEN: usize = 32;
/// Bytes at each end of a file in which digests and what they are of are searched for. The search is quadratic.
const SEARCHED: usize = 1_300;
/// The longest head of a record, in front of its digest.
const HEAD_LEN_MAX: usize = 128;
/// How deep digests of digests may be nested.
const DEPTH_MAX: usize = 24;

/// Files of a store by path, and their digests.
#[derive(Debug, Clone)]
pub struct SealedFiles {
    names: Vec<PathBuf>,
    contents: Vec<Vec<u8>>,
    seals: Vec<Seal>,
}

/// A digest, what it is of, and where it stands.
#[derive(Debug, Clone)]
struct Seal {
    /// In which file, and which pieces of it one after the other.
    file: usize,
    pieces: Vec<Range<usize>>,
    /// File and place of every copy.
    places: Vec<(usize, usize)>,
    /// Files that bear the digest as their name.
    named: Vec<usize>,
}

/// Where digests could stand.
type Windows = HashMap<[u8; DIGEST_LEN], (Vec<(usize, usize)>, Vec<usize>)>;

impl SealedFiles {
    /// Searches the digests in a store's files.
    pub fn learn(files: BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let (names, contents): (Vec<PathBuf>, Vec<Vec<u8>>) = files.into_iter().unzip();
        let mut learned = Self { names, contents, seals: Vec::new() };
        let windows = learned.windows();
        for file in 0..learned.contents.len() {
            for region in regions(learned.contents[file].len()) {
                learned.learn_substrings(file, &region, &windows);
                learned.learn_heads(file, &region, &windows);
            }
            learned.learn_trailer(file, &windows);
        }
        learned
    }

    /// How many digests were found. A store whose digests are not found cannot be sealed again.
    pub fn seal_count(&self) -> usize {
        self.seals.len()
    }

    /// The files with a few bytes changed. In most cases all digests fit again; in some one does not, in some none.
    pub fn mutated(&self, random: &mut Random) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut changed = self.clone();
        for _ in 0..=random.below(3) {
            changed.mutate(random);
        }
        if !random.percent(15) {
            let left_open = random.percent(20).then(|| random.below(self.seals.len()));
            changed.seal(left_open);
        }
        if random.percent(10) {
            let file = random.below(changed.contents.len());
            let length = random.below(changed.contents[file].len() + 1);
            changed.contents[file].truncate(length);
        }
        changed.names.into_iter().zip(changed.contents).collect()
    }

    fn mutate(&mut self, random: &mut Random) {
        const INTERESTING: [u64; 12] =
            [0, 1, 2, 0x7F, 0xFF, 0xFFFF, 1 << 20, 1 << 26, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 40, u64::MAX];
        const NAMES: [&[u8]; 8] = [b"..", b"../", b"/", b"\0", b".git", b"a/b", b".evoseal", b"\xFF"];
        let file = random.below(self.contents.len());
        let regions = regions(self.contents[file].len());
        let Some(region) = regions.get(random.below(regions.len())) else { return };
        let place = region.start + random.below(region.len());
        let here = &mut self.contents[file][place..];
        let bytes: Vec<u8> = match random.below(6) {
            0 => vec![here[0] ^ (1 << random.below(8))],
            1 => vec![u8::try_from(random.below(256)).unwrap_or(0)],
            2 => INTERESTING[random.below(INTERESTING.len())].to_le_bytes()[..4].to_vec(),
            3 => INTERESTING[random.below(INTERESTING.len())].to_le_bytes().to_vec(),
            4 => NAMES[random.below(NAMES.len())].to_vec(),
            // One more or one less than what is there.
            _ => {
                let delta = if random.percent(50) { 1 } else { 255 };
                vec![here[0].wrapping_add(delta)]
            }
        };
        let length = bytes.len().min(here.len());
        here[..length].copy_from_slice(&bytes[..length]);
    }

    /// Computes every digest anew until nothing changes.
    fn seal(&mut self, left_open: Option<usize>) {
        for _ in 0..DEPTH_MAX {
            let mut is_changed = false;
            for number in (0..self.seals.len()).filter(|number| Some(*number) != left_open) {
                let seal = self.seals[number].clone();
                let mut hasher = blake3::Hasher::new();
                for piece in seal.pieces {
                    hasher.update(&self.contents[seal.file][piece]);
                }
                let digest = *hasher.finalize().as_bytes();
                for (file, place) in seal.places {
                    let there = &mut self.contents[file][place..place + DIGEST_LEN];
                    is_changed |= there != digest;
                    there.copy_from_slice(&digest);
                }
                for file in seal.named {
                    self.names[file].set_file_name(hex(&digest));
                }
            }
            if !is_changed {
                return;
            }
        }
    }

    fn windows(&self) -> Windows {
        let mut windows = Windows::new();
        for (file, bytes) in self.contents.iter().enumerate() {
            for region in regions(bytes.len()) {
                for (place, window) in bytes[region.clone()].windows(DIGEST_LEN).enumerate() {
                    let window: [u8; DIGEST_LEN] = window.try_into().expect("a window has its length");
                    windows.entry(window).or_default().0.push((file, region.start + place));
                }
            }
        }
        for (file, name) in self.names.iter().enumerate() {
            let digest = name.file_name().and_then(|name| unhex(name.to_str()?));
            if let Some(digest) = digest {
                windows.entry(digest).or_default().1.push(file);
            }
        }
        windows
    }

    fn found(&mut self, file: usize, pieces: &[Range<usize>], digest: &[u8; DIGEST_LEN], windows: &Windows) {
        if let Some((places, named)) = windows.get(digest) {
            self.seals.push(Seal {
                file,
                pieces: pieces.to_vec(),
                places: places.clone(),
                named: named.clone(),
            });
        }
    }

    /// Digests of bytes that lie together: blocks, objects, records, the tail that names a pack.
    fn learn_substrings(&mut self, file: usize, region: &Range<usize>, windows: &Windows) {
        for start in region.clone() {
            let mut hasher = blake3::Hasher::new();
            for end in start + 1..=region.end {
                hasher.update(&self.contents[file][end - 1..end]);
                let digest = *hasher.finalize().as_bytes();
                self.found(file, std::slice::from_ref(&(start..end)), &digest, windows);
            }
        }
    }

    /// Digests that stand between what they are of: a record's head, the digest, the payload.
    fn learn_heads(&mut self, file: usize, region: &Range<usize>, windows: &Windows) {
        let is_magic = |place: &usize| self.contents[file][*place..].starts_with(b"EVO");
        let starts: Vec<usize> = region.clone().filter(is_magic).collect();
        for start in starts {
            for place in start + 1..(start + HEAD_LEN_MAX).min(region.end.saturating_sub(DIGEST_LEN)) {
                let payload = place + DIGEST_LEN;
                let stated = &self.contents[file][place..payload];
                let stated: [u8; DIGEST_LEN] = stated.try_into().expect("the slice has this length");
                let mut hasher = blake3::Hasher::new();
                hasher.update(&self.contents[file][start..place]);
                for end in payload..=region.end {
                    if end > payload {
                        hasher.update(&self.contents[file][end - 1..end]);
                    }
                    if *hasher.finalize().as_bytes() == stated {
                        self.found(file, &[start..place, payload..end], &stated, windows);
                    }
                }
            }
        }
    }

    /// The digest in a file's trailer, of the file's head, of the numbers before it, and of the index before these.
    fn learn_trailer(&mut self, file: usize, windows: &Windows) {
        const HEAD_LEN: usize = 12;
        let length = self.contents[file].len();
        let Some(region) = regions(length).pop() else { return };
        for place in length.saturating_sub(80).max(region.start)..length.saturating_sub(DIGEST_LEN) {
            for numbers in [16, 32] {
                let Some(end) = place.checked_sub(numbers).filter(|end| *end > region.start) else {
                    continue;
                };
                let bytes = &self.contents[file];
                let stated: [u8; DIGEST_LEN] =
                    bytes[place..place + DIGEST_LEN].try_into().expect("the slice has this length");
                let of = |start: usize| {
                    let mut hasher = blake3::Hasher::new();
                    hasher.update(&bytes[..HEAD_LEN]).update(&bytes[end..place]).update(&bytes[start..end]);
                    *hasher.finalize().as_bytes()
                };
                if let Some(start) = (region.start..end).find(|start| of(*start) == stated) {
                    self.found(file, &[0..HEAD_LEN, end..place, start..end], &stated, windows);
                }
            }
        }
    }
}

/// The parts of a file that are searched: all of it, or both its ends.
fn regions(length: usize) -> Vec<Range<usize>> {
    let middle = length.saturating_sub(SEARCHED);
    let regions =
        if length <= 2 * SEARCHED { [0..length, length..length] } else { [0..SEARCHED, middle..length] };
    regions.into_iter().filter(|region| !region.is_empty()).collect()
}

fn hex(digest: &[u8; DIGEST_LEN]) -> String {
    Digest::from_bytes(*digest).to_string()
}

fn unhex(text: &str) -> Option<[u8; DIGEST_LEN]> {
    if text.len() != 2 * DIGEST_LEN || !text.is_ascii() {
        return None;
    }
    let mut digest = [0; DIGEST_LEN];
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_digests_fit_again_after_a_change() {
        let inner = *blake3::hash(b"content").as_bytes();
        let index = [b"index of ".as_slice(), &inner].concat();
        let outer = *blake3::hash(&index).as_bytes();
        let mut head = b"EVOTEST\0".to_vec();
        head.extend_from_slice(
            blake3::Hasher::new().update(b"EVOTEST\0").update(&outer).finalize().as_bytes(),
        );
        head.extend_from_slice(&outer);
        let pack = [b"content".as_slice(), &index].concat();
        let files = BTreeMap::from([(PathBuf::from("head"), head), (PathBuf::from(hex(&outer)), pack)]);
        let mut learned = SealedFiles::learn(files.clone());
        assert_eq!(learned.seal_count(), 3);
        let file = learned.names.iter().position(|name| name != "head").unwrap();
        learned.contents[file][0] = b'k';
        learned.seal(None);
        let again: BTreeMap<PathBuf, Vec<u8>> =
            learned.names.iter().cloned().zip(learned.contents.iter().cloned()).collect();
        assert_eq!(SealedFiles::learn(again.clone()).seal_count(), 3, "all of them fit");
        assert!(
            again.keys().all(|name| name.to_str() == Some("head") || !files.contains_key(name)),
            "renamed"
        );
    }
}
