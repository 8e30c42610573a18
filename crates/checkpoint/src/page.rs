//! A directory as bytes: the page whose digest stands for the directory and everything below it.
//!
//! The encoding is canonical, so that equal directories have equal bytes: entries strictly ascending by name, nothing
//! optional. A reader refuses any name that could lead out of the directory or into what is always left alone.

use evoseal_types::{Digest, EntryPath};

use crate::Result;
use crate::frame::{array, damaged};

const MAGIC: &[u8; 4] = b"EVP2";

/// The longest name of an entry and the longest target of a symlink, in bytes.
pub(crate) const NAME_LEN_MAX: usize = 255;
pub(crate) const TARGET_LEN_MAX: usize = 4096;

/// What half-done restores call their files. Capture ignores such names, the next restore removes them.
pub(crate) const STAGING_PREFIX: &[u8] = b".evoseal-restore-";

/// The rights that are part of a tree: read, write and execute, and the sticky and set-group bits of a directory.
/// What lends a file its owner's rights (set-user and set-group) is not: whoever restores it would lend their own.
pub(crate) const FILE_MODE_MASK: u32 = 0o1777;
pub(crate) const DIRECTORY_MODE_MASK: u32 = 0o3777;

/// One entry of a directory page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) node: PageNode,
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PageNode {
    Directory { mode: u32, page: Digest },
    File { mode: u32, size_bytes: u64, digest: Digest },
    Symlink { target: Vec<u8> },
}

/// Whether an entry of this name is evoseal's own and is left alone by capture and restore, wherever it stands.
pub(crate) fn is_own(name: &[u8]) -> bool {
    name == b".evoseal" || is_laid_aside(name)
}

/// Whether an entry of this name is what a restore that was cut off has laid aside: no part of a tree, and the next restore in
/// place removes it.
///
/// ```
/// assert!(evoseal_checkpoint::is_laid_aside(b".evoseal-restore-7"));
/// assert!(!evoseal_checkpoint::is_laid_aside(b".evoseal"));
/// ```
pub fn is_laid_aside(name: &[u8]) -> bool {
    name.starts_with(STAGING_PREFIX)
}

/// Writes a page; entries are added in ascending order of their names.
#[derive(Debug)]
pub(crate) struct PageWriter {
    bytes: Vec<u8>,
    count: u32,
}

impl PageWriter {
    /// Starts a page in `buffer`, whose content is thrown away.
    pub(crate) fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(&[0; 4]);
        Self { bytes: buffer, count: 0 }
    }

    fn entry(&mut self, kind: u8, name: &[u8]) {
        self.count += 1;
        self.bytes.push(kind);
        self.bytes.push(u8::try_from(name.len()).expect("names have at most 255 bytes"));
        self.bytes.extend_from_slice(name);
    }

    fn mode(&mut self, mode: u32) {
        let mode = u16::try_from(mode).expect("the bits of a mode are few");
        self.bytes.extend_from_slice(&mode.to_le_bytes());
    }

    pub(crate) fn directory(&mut self, name: &[u8], mode: u32, page: Digest) {
        self.entry(0, name);
        self.mode(mode);
        self.bytes.extend_from_slice(page.as_bytes());
    }

    pub(crate) fn file(&mut self, name: &[u8], mode: u32, size_bytes: u64, digest: Digest) {
        self.entry(1, name);
        self.mode(mode);
        self.bytes.extend_from_slice(&size_bytes.to_le_bytes());
        self.bytes.extend_from_slice(digest.as_bytes());
    }

    pub(crate) fn symlink(&mut self, name: &[u8], target: &[u8]) {
        self.entry(2, name);
        let length = u16::try_from(target.len()).expect("targets have at most 4096 bytes");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(target);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes[4..8].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

/// The bytes of a page. `entries` must be sorted by name.
pub(crate) fn encode(entries: &[PageEntry]) -> Vec<u8> {
    debug_assert!(entries.is_sorted_by(|left, right| left.name < right.name), "entries must be sorted");
    let mut page = PageWriter::new(Vec::with_capacity(8 + entries.len() * 64));
    for entry in entries {
        match &entry.node {
            PageNode::Directory { mode, page: digest } => page.directory(&entry.name, *mode, *digest),
            PageNode::File { mode, size_bytes, digest } => {
                page.file(&entry.name, *mode, *size_bytes, *digest);
            }
            PageNode::Symlink { target } => page.symlink(&entry.name, target),
        }
    }
    page.finish()
}

/// Reads a page back. `object` names it in errors.
pub(crate) fn decode(object: &str, bytes: &[u8]) -> Result<Vec<PageEntry>> {
    let mut input = Input { object, bytes };
    if input.take(4)? != MAGIC {
        return Err(damaged(object, "it is no directory page"));
    }
    let count = u32::from_le_bytes(array(input.take(4)?)) as usize;
    // Nothing is allocated by the count alone: the bytes that are there bound it.
    let mut entries: Vec<PageEntry> = Vec::with_capacity(count.min(input.bytes.len() / 8));
    for _ in 0..count {
        let entry = input.entry()?;
        if entries.last().is_some_and(|last| last.name >= entry.name) {
            return Err(damaged(object, "its entries are not in ascending order"));
        }
        entries.push(entry);
    }
    if !input.bytes.is_empty() {
        return Err(damaged(object, "bytes follow after its last entry"));
    }
    Ok(entries)
}

struct Input<'a> {
    object: &'a str,
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.bytes.split_at_checked(length).ok_or_else(|| damaged(self.object, "it is cut off"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn digest(&mut self) -> Result<Digest> {
        Ok(Digest::from_bytes(array(self.take(32)?)))
    }

    fn mode(&mut self, mask: u32) -> Result<u32> {
        let mode = u32::from(u16::from_le_bytes(array(self.take(2)?)));
        if mode & !mask == 0 { Ok(mode) } else { Err(damaged(self.object, "a mode in it is no mode")) }
    }

    fn entry(&mut self) -> Result<PageEntry> {
        let kind = self.take(1)?[0];
        let length = usize::from(self.take(1)?[0]);
        let name = self.take(length)?.to_vec();
        if name.contains(&b'/') || EntryPath::new(&name).is_err() || is_own(&name) {
            let shown = String::from_utf8_lossy(&name).into_owned();
            return Err(damaged(self.object, format!("the name {shown:?} would escape base directory")));
        }
        let node = match kind {
            0 => PageNode::Directory { mode: self.mode(DIRECTORY_MODE_MASK)?, page: self.digest()? },
            1 => PageNode::File {
                mode: self.mode(FILE_MODE_MASK)?,
                size_bytes: u64::from_le_bytes(array(self.take(8)?)),
                digest: self.digest()?,
            },
            2 => {
                let length = usize::from(u16::from_le_bytes(array(self.take(2)?)));
                if length > TARGET_LEN_MAX {
                    return Err(damaged(self.object, "a length in it is beyond its limit"));
                }
                PageNode::Symlink { target: self.take(length)?.to_vec() }
            }
            other => return Err(damaged(self.object, format!("{other} is no kind of entry"))),
        };
        Ok(PageEntry { name, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn file(name: &[u8]) -> PageEntry {
        let node = PageNode::File { mode: 0o755, size_bytes: 3, digest: Digest::of(b"abc") };
        PageEntry { name: name.to_vec(), node }
    }

    fn page() -> Vec<PageEntry> {
        let link = PageNode::Symlink { target: b"/\xff".to_vec() };
        let directory = PageNode::Directory { mode: 0o3777, page: Digest::of(b"page") };
        vec![
            file(b"a\n"),
            PageEntry { name: b"b".to_vec(), node: link },
            PageEntry { name: b"c\xff".to_vec(), node: directory },
        ]
    }

    #[test]
    fn a_page_reads_back() {
        assert_eq!(decode("page", &encode(&page())).unwrap(), page());
        assert_eq!(decode("page", &encode(&[])).unwrap(), []);
    }

    #[test]
    fn names_that_would_escape_or_touch_what_is_left_alone_are_refused() {
        for bad in ["..", ".", "", "a/b", "/etc", "a\0", ".evoseal", ".evoseal-restore-1"] {
            let bytes = encode(&[file(bad.as_bytes())]);
            assert!(matches!(decode("page", &bytes), Err(Error::Damaged { .. })), "{bad:?}");
        }
    }

    #[test]
    fn rights_that_a_restore_would_lend_are_refused() {
        let mut bytes = encode(&[file(b"a")]);
        let place = bytes.iter().position(|byte| *byte == b'a').unwrap() + 1;
        bytes[place..place + 2].copy_from_slice(&0o4755_u16.to_le_bytes());
        assert!(matches!(decode("page", &bytes), Err(Error::Damaged { .. })));
    }

    #[test]
    fn entries_twice_or_out_of_order_are_refused() {
        let mut bytes = encode(&[file(b"a"), file(b"b")]);
        let place = bytes.iter().rposition(|byte| *byte == b'b').unwrap();
        bytes[place] = b'a';
        assert!(decode("page", &bytes).is_err());
    }

    #[test]
    fn every_truncation_is_damage() {
        let bytes = encode(&page());
        for length in 0..bytes.len() {
            assert!(decode("page", &bytes[..length]).is_err(), "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused_and_what_decodes_is_canonical(bytes in proptest::collection::vec(0_u8..8, 0..80)) {
            let mut page = MAGIC.to_vec();
            page.extend(bytes);
            if let Ok(entries) = decode("page", &page) {
                proptest::prop_assert_eq!(encode(&entries), page);
            }
        }
    }
}
