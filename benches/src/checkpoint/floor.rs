//! What the machine allows at best: the same work without a store.
//!
//! Two threads, as the floor that the targets speak of. Each step is the least that any correct store must do: look at
//! every entry; read, hash, compress and write every byte and wait for the disk; create every file again.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use super::Failure;

/// Threads of every floor.
const THREADS: usize = 2;

/// Large files are read in pieces of this many bytes, so that the threads can share one.
const PIECE_BYTES: u64 = 4 << 20;

/// A regular file, as the walk found it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// Relative to the root.
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
    mode: u32,
}

/// What a walk found, in no order.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) files: Vec<Found>,
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) symlinks: Vec<PathBuf>,
}

impl Walked {
    /// All bytes of all files.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

/// Folders that wait to be listed, and how many threads may still add some.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<(Vec<PathBuf>, usize)>,
    changed: Condvar,
}

impl Queue {
    fn next(&self) -> Option<PathBuf> {
        let mut state = self.waiting.lock().expect("no thread panics while it holds the queue");
        loop {
            if let Some(folder) = state.0.pop() {
                state.1 += 1;
                return Some(folder);
            }
            if state.1 == 0 {
                self.changed.notify_all();
                return None;
            }
            state = self.changed.wait(state).expect("no thread panics while it holds the queue");
        }
    }

    fn done(&self, found: impl IntoIterator<Item = PathBuf>) {
        let mut state = self.waiting.lock().expect("no thread panics while it holds the queue");
        state.0.extend(found);
        state.1 -= 1;
        self.changed.notify_all();
    }
}

/// Looks at every entry: one listing per folder, one `stat` per entry, relative to the folder's handle.
pub(crate) fn walk(root: &Path) -> Result<Walked, Failure> {
    let queue = Queue { waiting: Mutex::new((vec![PathBuf::new()], 0)), changed: Condvar::new() };
    let handle = File::open(root)?;
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut part = Walked::default();
                    let mut failed = None;
                    while let Some(folder) = queue.next() {
                        let before = part.folders.len();
                        if failed.is_none() {
                            failed = list(&handle, &folder, &mut part).err();
                        }
                        queue.done(part.folders[before..].iter().cloned());
                    }
                    failed.map_or(Ok(part), Err)
                })
            })
            .collect();
        let parts = threads.into_iter().map(|thread| thread.join().expect("listing does not panic"));
        parts.collect::<Result<Vec<_>, _>>()
    })?;
    Ok(parts.into_iter().fold(Walked::default(), |mut all, part| {
        all.files.extend(part.files);
        all.folders.extend(part.folders);
        all.symlinks.extend(part.symlinks);
        all
    }))
}

fn list(root: &File, folder: &Path, part: &mut Walked) -> rustix::io::Result<()> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(root, here, flags, Mode::empty())?;
    for entry in Dir::read_from(&handle)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let path = folder.join(OsString::from_vec(name.to_bytes().to_vec()));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => part.folders.push(path),
            FileType::Symlink => part.symlinks.push(path),
            FileType::RegularFile => part.files.push(Found {
                path,
                size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
                mode: stat.st_mode & 0o777,
            }),
            _ => {}
        }
    }
    Ok(())
}

/// Reads, hashes and compresses every byte, writes the result to one file per thread and waits for the disk. Gives the
/// number of bytes written.
pub(crate) fn capture(tree: &Path, packs: &Path) -> Result<u64, Failure> {
    let files = walk(tree)?.files;
    capture_files(tree, &files, packs)
}

/// The same for the given files, without looking for any.
pub(crate) fn capture_files(tree: &Path, files: &[Found], packs: &Path) -> Result<u64, Failure> {
    let written = work_on(files, |number, next| {
        let pack = packs.join(format!("pack-{number}"));
        let mut pack = std::io::BufWriter::with_capacity(1 << 20, File::create(pack)?);
        let (mut content, mut compressed, mut written) = (Vec::new(), Vec::new(), 0);
        while let Some((file, offset)) = next() {
            read_piece(tree, file, offset, &mut content)?;
            let digest = blake3::hash(&content);
            compressed.resize(lz4_flex::block::get_maximum_output_size(content.len()), 0);
            let len = lz4_flex::block::compress_into(&content, &mut compressed)?;
            pack.write_all(digest.as_bytes())?;
            pack.write_all(&compressed[..len])?;
            written += len as u64 + 32;
        }
        pack.into_inner()?.sync_data()?;
        Ok(written)
    })?;
    Ok(written.iter().sum())
}

/// Reads and hashes every byte: what finding out what changed in a file costs.
pub(crate) fn hash_files(tree: &Path, files: &[Found]) -> Result<(), Failure> {
    work_on(files, |_, next| {
        let mut content = Vec::new();
        while let Some((file, offset)) = next() {
            read_piece(tree, file, offset, &mut content)?;
            std::hint::black_box(blake3::hash(&content));
        }
        Ok(())
    })?;
    Ok(())
}

/// A source of pieces of files: each is handed out once.
type Pieces<'a, 'b> = dyn FnMut() -> Option<(&'a Found, u64)> + 'b;

/// Runs `work` in each thread over pieces of files that they share.
fn work_on<T: Send>(
    files: &[Found],
    work: impl Fn(usize, &mut Pieces<'_, '_>) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let pieces: Vec<(&Found, u64)> = files
        .iter()
        .flat_map(|file| {
            (0..file.size_bytes.div_ceil(PIECE_BYTES).max(1)).map(move |n| (file, n * PIECE_BYTES))
        })
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (pieces, next, work) = (&pieces, &next, &work);
                scope.spawn(move || {
                    let mut take = || pieces.get(next.fetch_add(1, Ordering::Relaxed)).copied();
                    // The error crosses to another thread as text: `dyn Error` need not be `Send`.
                    work(number, &mut take).map_err(|error| error.to_string())
                })
            })
            .collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("the work does not panic"));
        results.map(|result| result.map_err(Failure::from)).collect()
    })
}

fn read_piece(tree: &Path, file: &Found, offset: u64, content: &mut Vec<u8>) -> std::io::Result<()> {
    let len = file.size_bytes.saturating_sub(offset).min(PIECE_BYTES);
    content.resize(usize::try_from(len).expect("a piece is a few megabytes"), 0);
    File::open(tree.join(&file.path))?.read_exact_at(content, offset)
}

/// A tree in memory, to be written as fast as the file system creates files.
#[derive(Debug)]
pub(crate) struct Loaded {
    folders: Vec<PathBuf>,
    /// By folder, so that no two threads wait for one folder's lock.
    files: Vec<Vec<(Found, Vec<u8>)>>,
}

impl Loaded {
    /// Reads a tree.
    pub(crate) fn read(tree: &Path) -> Result<Self, Failure> {
        let mut walked = walk(tree)?;
        walked.folders.sort();
        walked.files.sort();
        let mut files: Vec<Vec<(Found, Vec<u8>)>> = Vec::new();
        for file in walked.files {
            let content = std::fs::read(tree.join(&file.path))?;
            let beside = files.last().and_then(|group| group.first());
            let same = beside.is_some_and(|(other, _)| other.path.parent() == file.path.parent());
            match files.last_mut().filter(|_| same) {
                Some(group) => group.push((file, content)),
                None => files.push(vec![(file, content)]),
            }
        }
        Ok(Self { folders: walked.folders, files })
    }

    /// Writes it, without waiting for the disk.
    pub(crate) fn write(&self, target: &Path) -> Result<(), Failure> {
        for folder in &self.folders {
            std::fs::create_dir(target.join(folder))?;
        }
        let next = AtomicUsize::new(0);
        let write_groups = || -> std::io::Result<()> {
            while let Some(group) = self.files.get(next.fetch_add(1, Ordering::Relaxed)) {
                for (file, content) in group {
                    let mut options = File::options();
                    options.write(true).create_new(true).mode(file.mode | 0o200);
                    let mut handle = options.open(target.join(&file.path))?;
                    handle.write_all(content)?;
                    handle.set_permissions(std::fs::Permissions::from_mode(file.mode))?;
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(write_groups)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("writing does not panic"))
        })?;
        Ok(())
    }
}
