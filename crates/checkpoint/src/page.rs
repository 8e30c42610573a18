//! A directory as bytes: the page whose digest stands for the directory and everything below it.
//!
//! The encoding is canonical, so that equal directories have equal bytes: entries strictly ascending by name, nothing
//! optional. A reader refuses any name that could lead out of the directory or into what is always left alone.

use evoseal_types::{Digest, EntryPath};

use crate::Result;
use crate::frame::{array, damaged};

const MAGIC: &[u8; 4] = b"EVP1";

/// The longest name of an entry and the longest target of a symlink, in bytes.
pub(crate) const NAME_LEN_MAX: usize = 255;
pub(crate) const TARGET_LEN_MAX: usize = 4096;

/// What half-done restores call their files. Capture ignores such names, the next restore removes them.
pub(crate) const STAGING_PREFIX: &[u8] = b".evoseal-restore-";

/// One entry of a directory page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) node: PageNode,
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PageNode {
    Directory { page: Digest },
    File { size_bytes: u64, digest: Digest, executable: bool },
    Symlink { target: Vec<u8> },
}

/// Whether an entry of this name is left alone by capture and restore, wherever it stands.
pub(crate) fn is_left_alone(name: &[u8]) -> bool {
    matches!(name, b".git" | b".evoseal") || name.starts_with(STAGING_PREFIX)
}

/// The bytes of a page. `entries` must be sorted by name.
pub(crate) fn encode(entries: &[PageEntry]) -> Vec<u8> {
    debug_assert!(entries.is_sorted_by(|left, right| left.name < right.name), "entries must be sorted");
    let mut bytes = Vec::with_capacity(8 + entries.len() * 64);
    bytes.extend_from_slice(MAGIC);
    push_length(&mut bytes, entries.len());
    for entry in entries {
        let kind = match &entry.node {
            PageNode::Directory { .. } => 0,
            PageNode::File { executable: false, .. } => 1,
            PageNode::File { executable: true, .. } => 2,
            PageNode::Symlink { .. } => 3,
        };
        bytes.push(kind);
        push_length(&mut bytes, entry.name.len());
        bytes.extend_from_slice(&entry.name);
        match &entry.node {
            PageNode::Directory { page } => bytes.extend_from_slice(page.as_bytes()),
            PageNode::File { size_bytes, digest, .. } => {
                bytes.extend_from_slice(&size_bytes.to_le_bytes());
                bytes.extend_from_slice(digest.as_bytes());
            }
            PageNode::Symlink { target } => {
                push_length(&mut bytes, target.len());
                bytes.extend_from_slice(target);
            }
        }
    }
    bytes
}

/// Reads a page back. `object` names it in errors.
pub(crate) fn decode(object: &str, bytes: &[u8]) -> Result<Vec<PageEntry>> {
    let mut input = Input { object, bytes };
    if input.take(4)? != MAGIC {
        return Err(damaged(object, "it is no directory page"));
    }
    // A count is not trusted: every entry takes at least six bytes, so what follows bounds it.
    let count = input.length(bytes.len() / 6)?;
    let mut entries: Vec<PageEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = input.entry()?;
        if entries.last().is_some_and(|last| last.name >= entry.name) {
            return Err(damaged(object, "its entries are out of order"));
        }
        entries.push(entry);
    }
    if !input.bytes.is_empty() {
        return Err(damaged(object, "bytes follow after its end"));
    }
    Ok(entries)
}

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("names, targets and directories are limited to far less");
    bytes.extend_from_slice(&length.to_le_bytes());
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

    fn length(&mut self, limit: usize) -> Result<usize> {
        let length = u32::from_le_bytes(array(self.take(4)?)) as usize;
        if length > limit {
            return Err(damaged(self.object, "a length in it is beyond its limit"));
        }
        Ok(length)
    }

    fn digest(&mut self) -> Result<Digest> {
        Ok(Digest::from_bytes(array(self.take(32)?)))
    }

    fn entry(&mut self) -> Result<PageEntry> {
        let kind = self.take(1)?[0];
        let length = self.length(NAME_LEN_MAX)?;
        let name = self.take(length)?.to_vec();
        if name.contains(&b'/') || EntryPath::new(&name).is_err() || is_left_alone(&name) {
            let shown = String::from_utf8_lossy(&name).into_owned();
            return Err(damaged(self.object, format!("the name {shown:?} would escape base directory")));
        }
        let node = match kind {
            0 => PageNode::Directory { page: self.digest()? },
            1 | 2 => PageNode::File {
                size_bytes: u64::from_le_bytes(array(self.take(8)?)),
                digest: self.digest()?,
                executable: kind == 2,
            },
            3 => {
                let length = self.length(TARGET_LEN_MAX)?;
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
        let node = PageNode::File { size_bytes: 3, digest: Digest::of(b"abc"), executable: true };
        PageEntry { name: name.to_vec(), node }
    }

    fn page() -> Vec<PageEntry> {
        let link = PageNode::Symlink { target: b"/\xff".to_vec() };
        let directory = PageNode::Directory { page: Digest::of(b"page") };
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
        for bad in
            ["..", ".", "", "a/b", "/etc", "a\0", ".git", ".evoseal", ".evoseal-restore-1", &"x".repeat(256)]
        {
            let bytes = encode(&[file(bad.as_bytes())]);
            assert!(matches!(decode("page", &bytes), Err(Error::Damaged { .. })), "{bad:?}");
        }
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
