//! Reading the contents of files, whole or in chunks.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use evoseal_types::Digest;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::Result;
use crate::objects::RecipePart;
use crate::settings::Chunking;

/// Runs of zero bytes are looked for in steps of this many bytes from the beginning of a large file, and not stored. Part of
/// the format: it decides how a file is cut.
const ZEROS_STEP: usize = 64 << 10;
/// How much is read at once.
const READ_LEN: usize = 1 << 20;
/// How much waits before it is cut: several of the largest chunks, so that little is looked at twice.
const PENDING_LEN: usize = 2 << 20;

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Read(io::Error),
    Store(crate::Error),
}

impl From<crate::Error> for ReadError {
    fn from(error: crate::Error) -> Self {
        Self::Store(error)
    }
}

/// Reads a small file into `buffer`: at most one byte more than `size_bytes`, since a file that grows for ever must end.
pub(crate) fn read_whole(file: &File, size_bytes: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    let room = size_bytes + 1;
    if buffer.len() < room {
        buffer.resize(room, 0);
    }
    let mut length = 0;
    while length < room {
        match rustix::io::read(file, &mut buffer[length..room]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    buffer.truncate(length);
    Ok(())
}

/// Cuts a large file into chunks and runs of zeros, and gives its size as it was read: at most one byte more than
/// `size_bytes`. Holes are passed over without being read. How a file is cut depends on its bytes alone, not on where it has
/// holes.
///
/// Each chunk is handed to `take` with its place in the list that comes back.
pub(crate) fn cut_file(
    file: &File,
    size_bytes: u64,
    chunking: Chunking,
    take: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
) -> Result<(Vec<Option<RecipePart>>, u64), ReadError> {
    let mut cutter = Cutter {
        chunking,
        pending: Vec::with_capacity(PENDING_LEN + READ_LEN),
        zeros: 0,
        parts: Vec::new(),
        take,
    };
    let mut buffer = vec![0; READ_LEN];
    let mut offset = 0_u64;
    while offset < size_bytes {
        let data = next_data(file, offset, size_bytes)?;
        // Only whole steps are zeros; the rest of a hole is read.
        let skipped = (data - offset) / ZEROS_STEP as u64 * ZEROS_STEP as u64;
        if skipped > 0 {
            cutter.zeros(skipped)?;
            offset += skipped;
            continue;
        }
        let wanted = usize::try_from(size_bytes - offset).unwrap_or(usize::MAX).min(READ_LEN);
        let count = read_at(file, offset, &mut buffer[..wanted]).map_err(ReadError::Read)?;
        if count == 0 {
            break;
        }
        cutter.data(&buffer[..count])?;
        offset += count as u64;
    }
    // One byte more than was announced tells that the file has grown.
    let has_grown =
        offset == size_bytes && read_at(file, offset, &mut buffer[..1]).map_err(ReadError::Read)? > 0;
    let parts = cutter.finish()?;
    Ok((parts, offset + u64::from(has_grown)))
}

/// The same for bytes in memory.
pub(crate) fn cut_bytes(
    bytes: &[u8],
    chunking: Chunking,
    take: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
) -> Result<Vec<Option<RecipePart>>> {
    let mut cutter = Cutter { chunking, pending: Vec::new(), zeros: 0, parts: Vec::new(), take };
    for bytes in bytes.chunks(READ_LEN) {
        cutter.data(bytes)?;
    }
    cutter.finish()
}

/// Puts the chunks, each with its place, where they belong among the runs of zeros; `None` if one is missing.
pub(crate) fn complete(
    mut parts: Vec<Option<RecipePart>>,
    chunks: impl IntoIterator<Item = (usize, RecipePart)>,
) -> Option<Vec<RecipePart>> {
    for (place, part) in chunks {
        parts[place] = Some(part);
    }
    parts.into_iter().collect()
}

/// Where the next byte that is no hole stands, from a whole step on; `size_bytes` if there is none.
fn next_data(file: &File, offset: u64, size_bytes: u64) -> Result<u64, ReadError> {
    match seek(file.as_fd(), SeekFrom::Data(offset)) {
        Ok(data) => Ok(data.clamp(offset, size_bytes)),
        // Nothing but a hole up to the end.
        Err(Errno::NXIO) => Ok(size_bytes),
        // A file system that does not tell.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(offset),
        Err(error) => Err(ReadError::Read(error.into())),
    }
}

/// Fills the buffer as far as the file reaches.
fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

struct Cutter<'a> {
    chunking: Chunking,
    /// Bytes since the last run of zeros or the last cut.
    pending: Vec<u8>,
    zeros: u64,
    parts: Vec<Option<RecipePart>>,
    take: &'a mut dyn FnMut(usize, &[u8]) -> Result<()>,
}

impl Cutter<'_> {
    fn zeros(&mut self, length: u64) -> Result<()> {
        self.cut(true)?;
        self.zeros += length;
        Ok(())
    }

    /// The next bytes, which begin at a whole step.
    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        for step in bytes.chunks(ZEROS_STEP) {
            if step.len() == ZEROS_STEP && is_zero(step) {
                self.zeros(step.len() as u64)?;
                continue;
            }
            if self.zeros > 0 {
                self.parts.push(Some(RecipePart::Zeros(std::mem::take(&mut self.zeros))));
            }
            self.pending.extend_from_slice(step);
        }
        if self.pending.len() >= PENDING_LEN { self.cut(false) } else { Ok(()) }
    }

    /// Cuts what is pending; what could become part of a longer chunk stays unless it is the end.
    fn cut(&mut self, is_end: bool) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut start = 0;
        {
            let cutter = self.chunking.cutter(&self.pending);
            while start < self.pending.len() {
                let remaining = self.pending.len() - start;
                if !is_end && remaining < self.chunking.size_bytes_max as usize {
                    break;
                }
                let (_, end) = cutter.cut(start, remaining);
                (self.take)(self.parts.len(), &self.pending[start..end])?;
                self.parts.push(None);
                start = end;
            }
        }
        self.pending.drain(..start);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Option<RecipePart>>> {
        self.cut(true)?;
        if self.zeros > 0 {
            self.parts.push(Some(RecipePart::Zeros(self.zeros)));
        }
        Ok(self.parts)
    }
}

/// Compares in long words, which the processor does many of at a time.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0)
        && bytes.chunks(4096).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

/// What a chunk is in a list of parts.
pub(crate) fn chunk_part(bytes: &[u8]) -> RecipePart {
    let len = u32::try_from(bytes.len()).expect("chunks are at most 16 MiB");
    RecipePart::Chunk { digest: Digest::of(bytes), len }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The parts of a file and the bytes that they stand for.
    fn cut(file: &File, size_bytes: u64) -> (Vec<RecipePart>, u64) {
        let mut chunks = Vec::new();
        let (parts, length) = cut_file(file, size_bytes, Chunking::STANDARD, &mut |place, bytes| {
            chunks.push((place, chunk_part(bytes)));
            Ok(())
        })
        .unwrap();
        (complete(parts, chunks).unwrap(), length)
    }

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8 | 1
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn holes_and_written_zeros_are_cut_alike_and_not_stored() {
        let (head, tail) = (noise(300_000, 1), noise(70_000, 2));
        let gap = 10 << 20;
        let mut sparse = tempfile::tempfile().unwrap();
        sparse.write_all(&head).unwrap();
        sparse.write_all_at(&tail, (head.len() + gap) as u64).unwrap();
        let mut dense = tempfile::tempfile().unwrap();
        dense.write_all(&[&head[..], &vec![0; gap], &tail].concat()).unwrap();
        let size = (head.len() + gap + tail.len()) as u64;
        let (parts, length) = cut(&sparse, size);
        assert_eq!(length, size);
        assert_eq!(cut(&dense, size).0, parts);
        let zeros: u64 =
            parts.iter().map(|part| if let RecipePart::Zeros(length) = part { *length } else { 0 }).sum();
        assert!(zeros >= (gap - 2 * ZEROS_STEP) as u64, "{zeros}");
    }

    #[test]
    fn a_file_that_grew_or_shrank_is_noticed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&noise(3_000_000, 3)).unwrap();
        assert_eq!(cut(&file, 3_000_000).1, 3_000_000);
        assert_eq!(cut(&file, 2_999_999).1, 3_000_000);
        assert_eq!(cut(&file, 3_000_001).1, 3_000_000);
    }

    #[test]
    fn an_insertion_changes_the_chunks_around_it_only() {
        let bytes = noise(20 << 20, 4);
        let changed = [&bytes[..1 << 20], &noise(1 << 20, 5), &bytes[1 << 20..]].concat();
        let parts = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            cut(&file, bytes.len() as u64).0
        };
        let (before, after) = (parts(&bytes), parts(&changed));
        let new = after.iter().filter(|part| !before.contains(part)).count();
        assert!(new <= 10, "{new} of {} chunks are new", after.len());
    }
}
