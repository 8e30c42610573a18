//! What differs between a walked workspace and a stored tree, found by comparing pages from the root down: a folder whose
//! digest is right is not looked into.

use std::collections::{BTreeMap, BTreeSet};

use evoseal_types::{Change, ChangeKind, Digest, EntryPath};

use crate::ignore_rules::IGNORE_FILES;
use crate::objects::Reader;
use crate::page::{PageEntry, PageNode};
use crate::selection::change_between;
use crate::stat_cache::{Seen, SeenKind};
use crate::store::{Entry, EntryKind};
use crate::tree::{BuiltTree, StoredTree, kind_of, kind_of_seen, read_page};
use crate::walk::Walk;
use crate::workspace::{join, split};
use crate::{Error, Result};

/// One entry that is not as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) path: EntryPath,
    pub(crate) before: Option<EntryKind>,
    pub(crate) after: Option<EntryKind>,
}

/// Everything that differs.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// Sorted by path.
    pub(crate) list: Vec<Difference>,
    /// Entries that are as they are stored.
    pub(crate) unchanged: u64,
    /// Whether the ignore rules that were walked by may not be those that are stored, so that something that counts may
    /// have been passed over.
    pub(crate) is_doubtful: bool,
}

impl Difference {
    pub(crate) fn change(&self) -> Change {
        let entry =
            |kind: &Option<EntryKind>| kind.clone().map(|kind| Entry { path: self.path.clone(), kind });
        let (before, after) = (entry(&self.before), entry(&self.after));
        change_between(before.as_ref(), after.as_ref()).unwrap_or_else(|| Change {
            // Kind, content and rights are right: it is a link, a time or an attribute that differs.
            path: self.path.clone(),
            kind: ChangeKind::ModeChanged,
            size_bytes_before: self.size_bytes(),
            size_bytes_after: self.size_bytes(),
            digest_after: None,
        })
    }

    fn size_bytes(&self) -> Option<u64> {
        match self.after {
            Some(EntryKind::File { size_bytes, .. }) => Some(size_bytes),
            _ => None,
        }
    }
}

/// Compares what was walked with what is stored.
pub(crate) fn compare(
    walk: &Walk<'_>,
    built: &BuiltTree,
    stored: &StoredTree,
    reader: &mut Reader,
) -> Result<Differences> {
    let mut comparison = Comparison { walk, built, reader, found: Vec::new(), is_doubtful: false };
    let mut pending = vec![Pair { folder: Some(0), page: Some(stored.object.page), path: Vec::new() }];
    while let Some(pair) = pending.pop() {
        comparison.pair(&pair, &mut pending)?;
    }
    let Comparison { mut found, is_doubtful, .. } = comparison;
    let is_doubtful = is_doubtful || (walk.found.has_hidden_rules && !stored.object.options.include_ignored);
    found.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    let known: BTreeSet<&EntryPath> = found.iter().map(|difference| &difference.path).collect();
    let mut more: BTreeMap<EntryPath, EntryKind> = BTreeMap::new();
    for path in extra_differences(built, stored, &known) {
        let path = EntryPath::new(&path)
            .map_err(|error| Error::Invalid { argument: "path", reason: error.to_string() })?;
        if !known.contains(&path)
            && let Some(kind) = walked_kind(walk, &path)
        {
            more.insert(path, kind);
        }
    }
    found.extend(more.into_iter().map(|(path, kind)| Difference {
        path,
        before: Some(kind.clone()),
        after: Some(kind),
    }));
    found.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    let gone = found.iter().filter(|difference| difference.before.is_some()).count() as u64;
    let hollow = built.is_hollow.iter().filter(|is_hollow| **is_hollow).count() as u64;
    let walked: u64 = walk.folders.iter().map(|folder| u64::from(folder.entry_count)).sum();
    Ok(Differences { list: found, unchanged: walked.saturating_sub(gone + hollow), is_doubtful })
}

/// Paths whose links, times or attributes differ, and all names of a file one of whose names is written anew.
fn extra_differences(
    built: &BuiltTree,
    stored: &StoredTree,
    changed: &BTreeSet<&EntryPath>,
) -> BTreeSet<Vec<u8>> {
    let mut paths = BTreeSet::new();
    let is_changed = |path: &[u8]| EntryPath::new(path).is_ok_and(|path| changed.contains(&path));
    for group in stored.extras.links() {
        if !built.extras.links().contains(group) || group.iter().any(|path| is_changed(path)) {
            paths.extend(group.iter().cloned());
        }
    }
    for group in built.extras.links().iter().filter(|group| !stored.extras.links().contains(group)) {
        paths.extend(group.iter().cloned());
    }
    let (present, wanted) = (built.extras.all_attributes(), stored.extras.all_attributes());
    paths.extend(
        wanted.iter().filter(|(path, kept)| present.get(*path) != Some(*kept)).map(|(path, _)| path.clone()),
    );
    paths
}

/// What was seen at a path.
fn walked_kind(walk: &Walk<'_>, path: &EntryPath) -> Option<EntryKind> {
    let mut number = 0_usize;
    let mut parts = path.components().peekable();
    while let Some(name) = parts.next() {
        let folder = walk.folders.get(number)?;
        let mut children = folder.children.iter().map(|child| *child as usize);
        let found = folder
            .entries()
            .map(|seen| (seen, if seen.kind == SeenKind::Directory { children.next() } else { None }))
            .find(|(seen, _)| seen.name == name);
        let (seen, child) = found?;
        if parts.peek().is_none() {
            return Some(kind_of_seen(seen.kind, child.map_or(0, |child| walk.folders[child].mode)));
        }
        number = child?;
    }
    None
}

/// A folder on both sides, or on one.
struct Pair {
    folder: Option<usize>,
    page: Option<Digest>,
    path: Vec<u8>,
}

struct Comparison<'c, 'w> {
    walk: &'c Walk<'w>,
    built: &'c BuiltTree,
    reader: &'c mut Reader,
    found: Vec<Difference>,
    is_doubtful: bool,
}

impl Comparison<'_, '_> {
    fn pair(&mut self, pair: &Pair, pending: &mut Vec<Pair>) -> Result<()> {
        if let (Some(number), Some(page)) = (pair.folder, pair.page)
            && self.built.pages[number] == page
            && !self.built.is_hollow[number]
        {
            return Ok(());
        }
        let walk = self.walk;
        let wanted = match pair.page {
            Some(page) => read_page(self.reader, &pair.path, page)?,
            None => Vec::new(),
        };
        let present: Vec<(Seen<'_>, Option<usize>)> = pair.folder.map_or_else(Vec::new, |number| {
            let folder = &walk.folders[number];
            let mut children = folder.children.iter().map(|child| *child as usize);
            let with_child = folder
                .entries()
                .map(|seen| (seen, if seen.kind == SeenKind::Directory { children.next() } else { None }));
            with_child.filter(|(_, child)| child.is_none_or(|child| !self.built.is_hollow[child])).collect()
        });
        let has_kept = pair.folder.is_some_and(|number| {
            let folder = &walk.folders[number];
            folder.has_kept || folder.children.iter().any(|child| self.built.is_hollow[*child as usize])
        });
        let (mut wanted, mut present) = (wanted.into_iter().peekable(), present.into_iter().peekable());
        loop {
            let order = match (present.peek(), wanted.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((seen, _)), Some(entry)) => seen.name.cmp(&entry.name),
            };
            let left = if order == std::cmp::Ordering::Greater { None } else { present.next() };
            let right = if order == std::cmp::Ordering::Less { None } else { wanted.next() };
            // What is to be added may stand there already, unseen because a rule passed over it.
            self.is_doubtful |= left.is_none() && has_kept;
            self.entry(&pair.path, left, right, pending)?;
        }
    }

    fn entry(
        &mut self,
        folder: &[u8],
        present: Option<(Seen<'_>, Option<usize>)>,
        wanted: Option<PageEntry>,
        pending: &mut Vec<Pair>,
    ) -> Result<()> {
        let name = present.as_ref().map_or_else(
            || wanted.as_ref().map_or_else(Vec::new, |entry| entry.name.clone()),
            |(seen, _)| seen.name.to_vec(),
        );
        let child = present.as_ref().and_then(|(_, child)| *child);
        let page = wanted.as_ref().and_then(|entry| match entry.node {
            PageNode::Directory { page, .. } => Some(page),
            _ => None,
        });
        let full = join(folder, &name);
        let before = present.map(|(seen, child)| {
            kind_of_seen(seen.kind, child.map_or(0, |child| self.walk.folders[child].mode))
        });
        let after = wanted.map(|entry| kind_of(entry.node));
        if child.is_some() || page.is_some() {
            pending.push(Pair { folder: child, page, path: full.clone() });
        }
        if before != after {
            self.is_doubtful |= IGNORE_FILES.contains(&split(&full).1);
            let path = EntryPath::new(&full)
                .map_err(|error| Error::Invalid { argument: "path", reason: error.to_string() })?;
            self.found.push(Difference { path, before, after });
        }
        Ok(())
    }
}
