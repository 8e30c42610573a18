//! Pure functions over listings: which checkpoint a text means, and what differs between two trees.

use std::cmp::Ordering;

use evoseal_types::{Change, ChangeKind, CheckpointId, Digest};

use crate::store::{Checkpoint, Entry, EntryKind};
use crate::{Error, Result};

/// The one checkpoint out of `listed` (oldest first) that `text` means: a version id (its newest checkpoint), a full id,
/// or a prefix of at least four hexadecimal digits that only one id has.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Ambiguous`] with the candidates.
pub fn resolve_checkpoint(listed: Vec<Checkpoint>, text: &str) -> Result<Checkpoint> {
    if let Some(found) = listed.iter().rev().find(|checkpoint| checkpoint.details.version_id.as_str() == text)
    {
        return Ok(found.clone());
    }
    let prefix = text.to_ascii_lowercase();
    let is_prefix = (4..=64).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut matches: Vec<Checkpoint> = listed
        .into_iter()
        .filter(|checkpoint| is_prefix && checkpoint.id.to_string().starts_with(&prefix))
        .collect();
    match matches.len() {
        0 => Err(Error::NotFound { what: format!("checkpoint or version {text:?}") }),
        1 => Ok(matches.remove(0)),
        _ => {
            let candidates: Vec<CheckpointId> = matches.iter().map(|checkpoint| checkpoint.id).collect();
            Err(Error::Ambiguous { prefix: text.to_owned(), candidates })
        }
    }
}

/// What changed from `before` to `after`, both sorted by path; the result is sorted by path.
pub fn diff_entries(before: &[Entry], after: &[Entry]) -> Vec<Change> {
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.path.cmp(&right.path),
        };
        let left = if order == Ordering::Greater { None } else { old.next() };
        let right = if order == Ordering::Less { None } else { new.next() };
        changes.extend(change_between(left, right));
    }
}

/// The change of one entry, if there is any.
pub(crate) fn change_between(before: Option<&Entry>, after: Option<&Entry>) -> Option<Change> {
    let kind = match (before.map(|entry| &entry.kind), after.map(|entry| &entry.kind)) {
        (Some(left), Some(right)) if left == right => return None,
        (None, None) => return None,
        (None, Some(_)) => ChangeKind::Added,
        (Some(_), None) => ChangeKind::Removed,
        (Some(EntryKind::File { digest: left, .. }), Some(EntryKind::File { digest: right, .. })) => {
            if left == right { ChangeKind::ModeChanged } else { ChangeKind::Modified }
        }
        (Some(EntryKind::Symlink { .. }), Some(EntryKind::Symlink { .. })) => ChangeKind::Modified,
        (Some(EntryKind::Directory { .. }), Some(EntryKind::Directory { .. })) => ChangeKind::ModeChanged,
        _ => ChangeKind::KindChanged,
    };
    let size = |entry: Option<&Entry>| match entry.map(|entry| &entry.kind) {
        Some(EntryKind::File { size_bytes, .. }) => Some(*size_bytes),
        _ => None,
    };
    let digest_after = match after.map(|entry| &entry.kind) {
        Some(EntryKind::File { digest, .. }) => Some(*digest),
        Some(EntryKind::Symlink { target }) => Some(Digest::of(target)),
        _ => None,
    };
    let path = after.or(before)?.path.clone();
    Some(Change { path, kind, size_bytes_before: size(before), size_bytes_after: size(after), digest_after })
}
