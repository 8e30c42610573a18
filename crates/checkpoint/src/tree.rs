//! Trees as nested directory pages: building them from what was walked, and reading entries out of them.

use std::collections::BTreeMap;

use evoseal_types::{Digest, EntryPath};

use crate::extras::{Extras, TreeObject};
use crate::frame::damaged;
use crate::objects::Reader;
use crate::page::{self, NAME_LEN_MAX, PageNode, PageWriter, is_own};
use crate::settings::CaptureOptions;
use crate::stat_cache::{CachedFolder, SeenKind, StatCache};
use crate::store::{Entry, EntryKind};
use crate::walk::Walk;
use crate::workspace::{join, split};
use crate::{Error, Result};

/// The most entries that a tree may have: it bounds what a crafted tree of shared pages can make a reader do.
pub(crate) const ENTRIES_MAX: usize = 20_000_000;
/// The rights of what is captured from memory.
const ENTRY_FILE_MODE: u32 = 0o644;
const ENTRY_DIRECTORY_MODE: u32 = 0o755;

/// Takes the pages, objects and lists that a tree is made of.
pub(crate) type MetadataSink<'a> = dyn FnMut(Digest, &[u8]) -> Result<()> + 'a;

/// A walked workspace as a tree.
#[derive(Debug)]
pub(crate) struct BuiltTree {
    pub(crate) tree: Digest,
    pub(crate) extras: Extras,
    /// The page of each walked folder, by number.
    pub(crate) pages: Vec<Digest>,
    /// Whether a walked folder is no part of the tree: it holds only what is left alone.
    pub(crate) is_hollow: Vec<bool>,
    /// Whether everything is as the cache has it.
    pub(crate) is_as_cached: bool,
}

impl BuiltTree {
    /// Makes the pages of what was walked, deepest first. Pages that the cache has already are handed to `sink` only
    /// if `repeats_known`. Folders that `is_wanted` names are part of the tree even if they hold only what is left alone.
    pub(crate) fn of(
        walk: &Walk<'_>,
        options: CaptureOptions,
        is_wanted: &dyn Fn(&[u8]) -> bool,
        repeats_known: bool,
        sink: &mut MetadataSink<'_>,
    ) -> Result<Self> {
        let count = walk.folders.len();
        let mut pages = vec![Digest::from_bytes([0; 32]); count];
        let mut is_hollow = vec![false; count];
        let mut is_same = vec![false; count];
        let mut buffer = Vec::new();
        // A folder has a higher number than the one that holds it.
        for (number, folder) in walk.folders.iter().enumerate().rev() {
            let children = || folder.children.iter().map(|child| *child as usize);
            if let Some(cached) = folder.cached.filter(|_| !repeats_known)
                && children().all(|child| is_same[child])
            {
                is_same[number] = true;
                pages[number] = cached.page;
                is_hollow[number] = cached.is_hollow && !is_wanted(&folder.path);
                if is_hollow[number] == cached.is_hollow {
                    continue;
                }
                is_same[number] = false;
            }
            // What is left alone inside a hollow folder also keeps the folder above from being truly empty.
            let holds_kept = folder.has_kept || children().any(|child| is_hollow[child]);
            let mut page = PageWriter::new(std::mem::take(&mut buffer));
            let mut is_empty = true;
            let mut next_child = children();
            for seen in folder.entries() {
                match seen.kind {
                    SeenKind::Directory => {
                        let child = next_child.next().expect("each folder that was seen was walked");
                        if is_hollow[child] {
                            continue;
                        }
                        page.directory(seen.name, walk.folders[child].mode, pages[child]);
                    }
                    SeenKind::File { stat, digest, .. } => {
                        page.file(seen.name, stat.rights(), stat.size_bytes, digest);
                    }
                    SeenKind::Symlink { target, .. } => page.symlink(seen.name, target),
                }
                is_empty = false;
            }
            let bytes = page.finish();
            pages[number] = Digest::of(&bytes);
            is_hollow[number] = is_empty && holds_kept && number != 0 && !is_wanted(&folder.path);
            // A page that comes out as it was leaves the pages above as they were, whatever times have changed.
            is_same[number] = folder
                .cached
                .is_some_and(|cached| cached.page == pages[number] && cached.is_hollow == is_hollow[number]);
            if !is_hollow[number] {
                sink(pages[number], &bytes)?;
            }
            buffer = bytes;
        }
        let extras = Extras::new(walk.found.linked.values().cloned(), walk.found.attributes.clone());
        let tree = seal(options, pages[0], &extras, sink)?;
        Ok(Self { tree, extras, pages, is_as_cached: is_same[0], is_hollow })
    }

    /// What the next walk may know about the workspace.
    pub(crate) fn cache(&self, walk: &Walk<'_>) -> StatCache {
        let mut order: Vec<usize> = (0..walk.folders.len()).collect();
        order.sort_unstable_by(|left, right| walk.folders[*left].path.cmp(&walk.folders[*right].path));
        let size =
            walk.folders.iter().map(|folder| folder.entry_bytes().len() + folder.path.len() + 64).sum();
        let folders = order.into_iter().map(|number| {
            let folder = &walk.folders[number];
            CachedFolder {
                path: &folder.path,
                device: folder.device,
                mode: folder.mode,
                has_kept: folder.has_kept,
                is_hollow: self.is_hollow[number],
                page: self.pages[number],
                entry_count: folder.entry_count,
                entries: folder.entry_bytes(),
            }
        });
        StatCache::new(Some(self.tree), folders, size)
    }
}

/// The tree's digest: that of the root's page, or of a tree object where there is more to say.
fn seal(
    options: CaptureOptions,
    page: Digest,
    extras: &Extras,
    sink: &mut MetadataSink<'_>,
) -> Result<Digest> {
    let mut object = TreeObject { options, page, extras: None };
    if !extras.is_empty() {
        let bytes = extras.encode()?;
        object.extras = Some(Digest::of(&bytes));
        sink(Digest::of(&bytes), &bytes)?;
    }
    if options == CaptureOptions::default() && object.extras.is_none() {
        return Ok(page);
    }
    let bytes = object.encode();
    sink(Digest::of(&bytes), &bytes)?;
    Ok(Digest::of(&bytes))
}

/// A tree of named contents, given as size and digest by path.
pub(crate) fn build_entries(
    files: &BTreeMap<&EntryPath, (u64, Digest)>,
    sink: &mut MetadataSink<'_>,
) -> Result<Digest> {
    let mut folders: BTreeMap<&[u8], BTreeMap<&[u8], PageNode>> =
        BTreeMap::from([(&b""[..], BTreeMap::new())]);
    for (path, (size_bytes, digest)) in files {
        let refuse =
            |reason: &str| Error::Invalid { argument: "entries", reason: format!("{path}: {reason}") };
        if path.components().any(|name| is_own(name) || name == b".git") {
            return Err(refuse("names such as .git and .evoseal are left alone and cannot be stored"));
        }
        if path.components().any(|name| name.len() > NAME_LEN_MAX) {
            return Err(refuse("a name in it is longer than 255 bytes"));
        }
        let (folder, name) = split(path.as_bytes());
        let mut above = folder;
        while !above.is_empty() {
            folders.entry(above).or_default();
            above = split(above).0;
        }
        let node = PageNode::File { mode: ENTRY_FILE_MODE, size_bytes: *size_bytes, digest: *digest };
        folders.entry(folder).or_default().insert(name, node);
    }
    if let Some(path) = files.keys().find(|path| folders.contains_key(path.as_bytes())) {
        return Err(Error::Invalid {
            argument: "entries",
            reason: format!("{path} is both a file and a folder"),
        });
    }
    // A folder comes after the one that holds it, so that the reverse order sees what is inside first.
    while let Some((path, entries)) = folders.pop_last() {
        let entries: Vec<page::PageEntry> =
            entries.into_iter().map(|(name, node)| page::PageEntry { name: name.to_vec(), node }).collect();
        let bytes = page::encode(&entries);
        let digest = Digest::of(&bytes);
        sink(digest, &bytes)?;
        if path.is_empty() {
            return Ok(digest);
        }
        let (above, name) = split(path);
        let node = PageNode::Directory { mode: ENTRY_DIRECTORY_MODE, page: digest };
        folders.entry(above).or_default().insert(name, node);
    }
    unreachable!("the root is among the folders and ends the loop")
}

/// A stored tree without its entries.
#[derive(Debug)]
pub(crate) struct StoredTree {
    pub(crate) tree: Digest,
    pub(crate) object: TreeObject,
    pub(crate) extras: Extras,
}

impl StoredTree {
    pub(crate) fn read(reader: &mut Reader, tree: Digest) -> Result<Self> {
        let object = format!("tree {tree}");
        let decoded = TreeObject::decode(&object, &reader.metadata(tree)?)?;
        let object =
            decoded.unwrap_or(TreeObject { options: CaptureOptions::default(), page: tree, extras: None });
        let extras = match object.extras {
            Some(digest) => Extras::decode(&format!("extras {digest}"), &reader.metadata(digest)?)?,
            None => Extras::default(),
        };
        Ok(Self { tree, object, extras })
    }

    /// All entries, sorted by path.
    pub(crate) fn entries(&self, reader: &mut Reader) -> Result<Vec<Entry>> {
        let mut entries = read_entries(reader, None, self.object.page)?;
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(entries)
    }
}

/// The entries of one page as they stand in `folder`; the root is the empty path.
pub(crate) fn read_page(reader: &mut Reader, folder: &[u8], page: Digest) -> Result<Vec<page::PageEntry>> {
    let object = format!("page {page}");
    let entries = page::decode(&object, &reader.metadata(page)?)?;
    if folder.is_empty() && entries.iter().any(|entry| entry.name == b".git") {
        return Err(damaged(&object, "it would replace the .git of the workspace"));
    }
    Ok(entries)
}

/// All entries below a folder, not sorted. Every page is checked against its digest, every name against escape.
pub(crate) fn read_entries(
    reader: &mut Reader,
    folder: Option<&EntryPath>,
    page: Digest,
) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut pending = vec![(folder.map_or_else(Vec::new, |path| path.as_bytes().to_vec()), page)];
    while let Some((folder, digest)) = pending.pop() {
        for entry in read_page(reader, &folder, digest)? {
            let full = join(&folder, &entry.name);
            let path = EntryPath::new(&full)
                .map_err(|error| damaged(&format!("page {digest}"), error.to_string()))?;
            if let PageNode::Directory { page, .. } = &entry.node {
                pending.push((full, *page));
            }
            entries.push(Entry { path, kind: kind_of(entry.node) });
            if entries.len() > ENTRIES_MAX {
                let object = format!("page {digest}");
                return Err(damaged(&object, format!("its tree has more than {ENTRIES_MAX} entries")));
            }
        }
    }
    Ok(entries)
}

/// A stored entry as it is listed.
pub(crate) fn kind_of(node: PageNode) -> EntryKind {
    match node {
        PageNode::Directory { mode, .. } => EntryKind::Directory { mode },
        PageNode::File { mode, size_bytes, digest } => EntryKind::File { size_bytes, digest, mode },
        PageNode::Symlink { target } => EntryKind::Symlink { target },
    }
}

/// A walked entry as it is listed; `mode` is that of the folder if it is one.
pub(crate) fn kind_of_seen(kind: SeenKind<'_>, mode: u32) -> EntryKind {
    match kind {
        SeenKind::Directory => EntryKind::Directory { mode },
        SeenKind::File { stat, digest, .. } => {
            EntryKind::File { size_bytes: stat.size_bytes, digest, mode: stat.rights() }
        }
        SeenKind::Symlink { target, .. } => EntryKind::Symlink { target: target.to_vec() },
    }
}
