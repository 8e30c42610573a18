//! What a tree has beyond its pages: which names are one file, times and attributes where they are kept.
//!
//! Most trees have none of it, and then the digest of the root's page is the tree's digest. Otherwise the tree's digest is
//! that of a *tree object*, which names the root's page and a list of extras.

use std::collections::BTreeMap;

use evoseal_types::{Digest, EntryPath};
use serde::{Deserialize, Serialize};

use crate::frame::{array, damaged};
use crate::settings::CaptureOptions;
use crate::workspace::Stamp;
use crate::{Result, codec};

const MAGIC: &[u8; 4] = b"EVT2";
const LEN: usize = 4 + 4 + 32 + 32;
const INCLUDES_IGNORED: u32 = 1;
const KEEPS_TIMES: u32 = 2;
const KEEPS_ATTRIBUTES: u32 = 4;

/// A tree that is more than its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeObject {
    pub(crate) options: CaptureOptions,
    pub(crate) page: Digest,
    /// The digest of the encoded extras, if there are any.
    pub(crate) extras: Option<Digest>,
}

impl TreeObject {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let flags = [
            (self.options.include_ignored, INCLUDES_IGNORED),
            (self.options.keep_mtimes, KEEPS_TIMES),
            (self.options.keep_xattrs, KEEPS_ATTRIBUTES),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum::<u32>();
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(self.page.as_bytes());
        bytes.extend_from_slice(self.extras.map_or([0; 32], |digest| *digest.as_bytes()).as_slice());
        bytes
    }

    /// Reads a tree object; `None` if the bytes are those of a page.
    pub(crate) fn decode(object: &str, bytes: &[u8]) -> Result<Option<Self>> {
        if bytes.get(..4) != Some(MAGIC) {
            return Ok(None);
        }
        if bytes.len() != LEN {
            return Err(damaged(object, "it has not the length of a tree"));
        }
        let flags = u32::from_le_bytes(array(&bytes[4..8]));
        if flags & !(INCLUDES_IGNORED | KEEPS_TIMES | KEEPS_ATTRIBUTES) != 0 {
            return Err(damaged(object, "it was captured in a way that is not known"));
        }
        let options = CaptureOptions {
            include_ignored: flags & INCLUDES_IGNORED != 0,
            keep_mtimes: flags & KEEPS_TIMES != 0,
            keep_xattrs: flags & KEEPS_ATTRIBUTES != 0,
        };
        let extras: [u8; 32] = array(&bytes[40..]);
        let extras = (extras != [0; 32]).then(|| Digest::from_bytes(extras));
        Ok(Some(Self { options, page: Digest::from_bytes(array(&bytes[8..40])), extras }))
    }
}

/// Hard links, times and attributes of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extras {
    /// Groups of two and more paths that are one file, each group sorted, the groups sorted by their first path.
    links: Vec<Vec<Vec<u8>>>,
    /// By path.
    attributes: BTreeMap<Vec<u8>, Attributes>,
}

/// What is kept about one entry when it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    /// Seconds since 1970 and nanoseconds.
    modified: Option<(i64, u32)>,
    pub(crate) extended: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Attributes {
    pub(crate) fn new(modified: Option<Stamp>, extended: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        Self { modified: modified.map(|stamp| (stamp.seconds, stamp.nanoseconds)), extended }
    }

    pub(crate) fn modified(&self) -> Option<Stamp> {
        self.modified.map(|(seconds, nanoseconds)| Stamp { seconds, nanoseconds })
    }
}

impl Extras {
    /// Puts extras together. Groups of one path are no links.
    pub(crate) fn new(
        groups: impl IntoIterator<Item = Vec<Vec<u8>>>,
        attributes: BTreeMap<Vec<u8>, Attributes>,
    ) -> Self {
        let mut links: Vec<Vec<Vec<u8>>> = groups.into_iter().filter(|group| group.len() > 1).collect();
        for group in &mut links {
            group.sort_unstable();
        }
        links.sort_unstable();
        Self { links, attributes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.attributes.is_empty()
    }

    /// For each path that is the same file as an earlier one, in path order, that earlier one: the first of its group.
    pub(crate) fn links(&self) -> &[Vec<Vec<u8>>] {
        &self.links
    }

    pub(crate) fn attributes(&self, path: &[u8]) -> Option<&Attributes> {
        self.attributes.get(path)
    }

    pub(crate) fn all_attributes(&self) -> &BTreeMap<Vec<u8>, Attributes> {
        &self.attributes
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        codec::encode("links and attributes of a tree", self)
    }

    /// Reads extras back, each path checked.
    pub(crate) fn decode(object: &str, bytes: &[u8]) -> Result<Self> {
        let extras: Self = codec::decode(object, bytes)?;
        let paths = extras.links.iter().flatten().chain(extras.attributes.keys());
        for path in paths {
            EntryPath::new(path).map_err(|error| damaged(object, error.to_string()))?;
        }
        let is_canonical = extras.links.is_sorted_by(|left, right| left < right)
            && extras
                .links
                .iter()
                .all(|group| group.len() > 1 && group.is_sorted_by(|left, right| left < right));
        if !is_canonical {
            return Err(damaged(object, "its links are not in ascending order"));
        }
        Ok(extras)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_object_reads_back_and_a_page_is_none() {
        let options = CaptureOptions { include_ignored: true, keep_mtimes: false, keep_xattrs: true };
        for extras in [None, Some(Digest::of(b"extras"))] {
            let tree = TreeObject { options, page: Digest::of(b"page"), extras };
            assert_eq!(TreeObject::decode("tree", &tree.encode()).unwrap(), Some(tree));
        }
        assert_eq!(TreeObject::decode("tree", b"EVP2\0\0\0\0").unwrap(), None);
        assert!(TreeObject::decode("tree", b"EVT2").is_err());
    }

    #[test]
    fn extras_read_back_and_unsafe_paths_are_refused() {
        let groups = [vec![b"z".to_vec(), b"a".to_vec()], vec![b"alone".to_vec()]];
        let attributes = Attributes::new(
            Some(Stamp { seconds: -5, nanoseconds: 7 }),
            BTreeMap::from([(b"user.a".to_vec(), b"\xff".to_vec())]),
        );
        let extras = Extras::new(groups, BTreeMap::from([(b"a".to_vec(), attributes)]));
        assert_eq!(extras.links(), [[b"a".to_vec(), b"z".to_vec()]]);
        assert_eq!(Extras::decode("extras", &extras.encode().unwrap()).unwrap(), extras);
        let unsafe_link = Extras::new([vec![b"../x".to_vec(), b"a".to_vec()]], BTreeMap::new());
        assert!(Extras::decode("extras", &unsafe_link.encode().unwrap()).is_err());
    }
}
