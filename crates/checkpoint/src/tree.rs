//! Trees as nested directory pages: building them from entries, and reading entries out of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use evoseal_types::{Digest, EntryPath};

use crate::frame::damaged;
use crate::objects::Reader;
use crate::page::{self, NAME_LEN_MAX, PageEntry, PageNode, is_left_alone};
use crate::store::{Entry, EntryKind};
use crate::workspace::{join, split};
use crate::{Error, Result};

/// The most entries that a tree may have: it bounds what a crafted tree of shared pages can make a reader do.
pub(crate) const ENTRIES_MAX: usize = 20_000_000;

/// A tree on its way to pages.
#[derive(Debug, Clone, Default)]
pub(crate) struct TreeBuilder {
    /// The entries of each folder by its path, sorted by name; the root is the empty path.
    folders: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, EntryKind>>,
    /// Folders that are not part of the tree if nothing captured is in them: they exist only for what is left alone.
    hollow: BTreeSet<Vec<u8>>,
    /// Folders that are part of the tree whatever is in them.
    wanted: BTreeSet<Vec<u8>>,
}

impl TreeBuilder {
    /// Adds a folder, which may stay empty. A hollow one holds something that is not captured.
    pub(crate) fn folder(&mut self, path: Vec<u8>, is_hollow: bool) {
        if is_hollow {
            self.hollow.insert(path.clone());
        }
        self.folders.entry(path).or_default();
    }

    /// Keeps a folder in the tree even if it is hollow.
    pub(crate) fn want(&mut self, path: Vec<u8>) {
        self.wanted.insert(path);
    }

    /// Adds a file or symlink. Its folder is added elsewhere.
    pub(crate) fn entry(&mut self, folder: &[u8], name: &[u8], kind: EntryKind) {
        if let Some(entries) = self.folders.get_mut(folder) {
            entries.insert(name.to_vec(), kind);
        } else {
            self.folders.insert(folder.to_vec(), BTreeMap::from([(name.to_vec(), kind)]));
        }
    }

    /// A tree from named contents, given as size and digest by path.
    pub(crate) fn of_files<'a>(files: impl Iterator<Item = (&'a EntryPath, u64, Digest)>) -> Result<Self> {
        let mut tree = Self::default();
        tree.folder(Vec::new(), false);
        for (path, size_bytes, digest) in files {
            let refuse =
                |reason: &str| Error::Invalid { argument: "entries", reason: format!("{path}: {reason}") };
            if path.components().any(is_left_alone) {
                return Err(refuse("names such as .git and .evoseal are left alone and cannot be stored"));
            }
            if path.components().any(|name| name.len() > NAME_LEN_MAX) {
                return Err(refuse("a name in it is longer than 255 bytes"));
            }
            let (folder, name) = split(path.as_bytes());
            let mut above = folder;
            while !above.is_empty() {
                tree.folder(above.to_vec(), false);
                above = split(above).0;
            }
            tree.entry(folder, name, EntryKind::File { size_bytes, digest, executable: false });
        }
        let clash = tree.folders.iter().find_map(|(folder, entries)| {
            let names = entries.keys().map(|name| join(folder, name));
            names.into_iter().find(|path| tree.folders.contains_key(path))
        });
        match clash {
            Some(path) => Err(Error::Invalid {
                argument: "entries",
                reason: format!("{} is both a file and a folder", String::from_utf8_lossy(&path)),
            }),
            None => Ok(tree),
        }
    }

    /// Makes the pages, deepest first, hands each to `sink`, and gives the digest of the root's page.
    pub(crate) fn build(mut self, sink: &mut dyn FnMut(Digest, &[u8]) -> Result<()>) -> Result<Digest> {
        let mut pages: HashMap<Vec<u8>, Vec<PageEntry>> = HashMap::new();
        // A folder comes after the one that holds it, so that the reverse order sees what is inside first.
        while let Some((path, entries)) = self.folders.pop_last() {
            let mut page = pages.remove(&path).unwrap_or_default();
            page.extend(entries.into_iter().map(|(name, kind)| PageEntry { name, node: node_of(kind) }));
            let (above, name) = split(&path);
            let is_root = path.is_empty();
            if page.is_empty() && self.hollow.contains(&path) && !self.wanted.contains(&path) && !is_root {
                // What is left alone in here also keeps the folder above from being truly empty.
                self.hollow.insert(above.to_vec());
                continue;
            }
            page.sort_by(|left, right| left.name.cmp(&right.name));
            let bytes = page::encode(&page);
            let digest = Digest::of(&bytes);
            sink(digest, &bytes)?;
            if is_root {
                return Ok(digest);
            }
            let node = PageNode::Directory { page: digest };
            pages.entry(above.to_vec()).or_default().push(PageEntry { name: name.to_vec(), node });
        }
        let bytes = page::encode(&[]);
        sink(Digest::of(&bytes), &bytes)?;
        Ok(Digest::of(&bytes))
    }

    /// All entries, sorted by path, without hollow folders.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut hollow = self.hollow.clone();
        // Folders that turned out to have something in them; a folder comes before what is inside it.
        let mut filled: BTreeSet<&[u8]> = BTreeSet::new();
        for (folder, entries) in self.folders.iter().rev() {
            let above = split(folder).0;
            let is_filled = !entries.is_empty() || filled.contains(folder.as_slice());
            if !is_filled && hollow.contains(folder) && !self.wanted.contains(folder) {
                hollow.insert(above.to_vec());
                continue;
            }
            filled.insert(above);
            if !folder.is_empty() {
                found.push(Entry { path: to_path(folder)?, kind: EntryKind::Directory });
            }
            for (name, kind) in entries {
                found.push(Entry { path: to_path(&join(folder, name))?, kind: kind.clone() });
            }
        }
        found.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(found)
    }
}

fn node_of(kind: EntryKind) -> PageNode {
    match kind {
        EntryKind::File { size_bytes, digest, executable } => {
            PageNode::File { size_bytes, digest, executable }
        }
        EntryKind::Symlink { target } => PageNode::Symlink { target },
        EntryKind::Directory => unreachable!("folders are added by their own method"),
    }
}

fn to_path(bytes: &[u8]) -> Result<EntryPath> {
    EntryPath::new(bytes).map_err(|error| Error::Invalid { argument: "path", reason: error.to_string() })
}

/// All entries of a stored tree, sorted by path. Every page is checked against its digest, every name against escape.
pub(crate) fn read_tree(reader: &mut Reader, tree: Digest) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut pending = vec![(Vec::new(), tree)];
    while let Some((folder, digest)) = pending.pop() {
        let object = format!("page {digest}");
        for entry in page::decode(&object, &reader.metadata(digest)?)? {
            let full = join(&folder, &entry.name);
            let path = EntryPath::new(&full).map_err(|error| damaged(&object, error.to_string()))?;
            let kind = match entry.node {
                PageNode::Directory { page } => {
                    pending.push((full, page));
                    EntryKind::Directory
                }
                PageNode::File { size_bytes, digest, executable } => {
                    EntryKind::File { size_bytes, digest, executable }
                }
                PageNode::Symlink { target } => EntryKind::Symlink { target },
            };
            entries.push(Entry { path, kind });
            if entries.len() > ENTRIES_MAX {
                return Err(damaged(&object, format!("its tree has more than {ENTRIES_MAX} entries")));
            }
        }
    }
    entries.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(entries)
}
