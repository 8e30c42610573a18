//! A note beside a cell: how much of it was acknowledged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files::{io_error, remove_file};
use crate::Result;

const MAGIC: &[u8; 8] = b"EVOMARK1";
/// A cell is known by its first bytes, so that the mark of one that was replaced since is not believed.
const HEAD_LEN: usize = 64;
const MARK_LEN: usize = 8 + 32 + 8 + 32;

/// What a mark says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing about this cell: there is no mark, it never reached the disk, or it is another cell's.
    Silent,
    /// So many bytes were acknowledged.
    Acknowledged(u64),
    /// It cannot be read, or not be right.
    Damaged(String),
}

/// Notes that `len` bytes of the cell are acknowledged. It is not synced: a crash of the machine may bring an older one
/// back, and then only a cell that was cut off further than that is noticed.
///
/// Without a mark less is noticed, and nothing is wrong: a failure is no failure of the write that it is about. But an
/// older mark must not stay, which would say less than was acknowledged.
pub(super) fn write(path: &Path, cell: &File, len: u64) {
    if try_write(path, cell, len).is_err() {
        let _ = fs::remove_file(path);
    }
}

fn try_write(path: &Path, cell: &File, len: u64) -> io::Result<()> {
    let mut head = vec![0; head_len(len)];
    cell.read_exact_at(&mut head, 0)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    // In one call and in place: whoever is killed leaves the old mark or the new one.
    file.write_all_at(&encode(&head, len), 0)?;
    if file.metadata()?.len() > MARK_LEN as u64 {
        file.set_len(MARK_LEN as u64)?;
    }
    Ok(())
}

/// Takes the mark away before the cell is replaced.
pub(super) fn remove(path: &Path) -> Result<()> {
    remove_file(path)
}

/// Reads what stands beside the `cell`, of which there are `len` bytes.
pub(super) fn read(path: &Path, cell: &File, len: u64) -> Result<Mark> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Mark::Silent),
        // The cell is readable without it.
        Err(error) => {
            return Ok(Mark::Damaged(format!("its mark {} cannot be read: {error}", path.display())));
        }
        Ok(bytes) => bytes,
    };
    if bytes.iter().all(|byte| *byte == 0) {
        // A crash of the machine came before its bytes did.
        return Ok(Mark::Silent);
    }
    let Some((head, acknowledged_len)) = decode(&bytes) else {
        return Ok(Mark::Damaged(format!("its mark {} is damaged", path.display())));
    };
    let length = head_len(acknowledged_len);
    if len < length as u64 {
        // Marks are removed before a cell is replaced, so it is this one's: it was cut off before the end of its head.
        return Ok(Mark::Acknowledged(acknowledged_len));
    }
    let mut found = vec![0; length];
    cell.read_exact_at(&mut found, 0).map_err(|source| io_error("read", path, source))?;
    if *blake3::hash(&found).as_bytes() == head {
        Ok(Mark::Acknowledged(acknowledged_len))
    } else {
        Ok(Mark::Silent)
    }
}

/// Whether a mark stands where there is no cell, and how much of the cell was acknowledged.
pub(super) fn of_missing(path: &Path) -> Option<u64> {
    fs::read(path).ok().and_then(|bytes| decode(&bytes)).map(|(_, len)| len)
}

fn head_len(len: u64) -> usize {
    usize::try_from(len).map_or(HEAD_LEN, |len| len.min(HEAD_LEN))
}

fn encode(head: &[u8], len: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(blake3::hash(head).as_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

/// The digest of the cell's head, and the length.
fn decode(bytes: &[u8]) -> Option<([u8; 32], u64)> {
    let bytes: &[u8; MARK_LEN] = bytes.try_into().ok()?;
    let (body, checksum) = bytes.split_at(MARK_LEN - 32);
    if !body.starts_with(MAGIC) || blake3::hash(body).as_bytes().as_slice() != checksum {
        return None;
    }
    let (head, len) = body[MAGIC.len()..].split_at(32);
    Some((head.try_into().ok()?, u64::from_le_bytes(len.try_into().ok()?)))
}
