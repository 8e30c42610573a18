//! A file system that promises as little as POSIX does, to replay an operation on.
//!
//! What an operation does to the disk is taken from a log of its system calls, with the bytes that it wrote. From that
//! log any number of states are made that a power cut could leave: what was synced is there; of everything else each
//! change is there, or not, or in part. That is how ALICE works (Pillai et al., OSDI 2014), and it is the evidence that a
//! storage backend cannot give whose smallest step is a whole durable object: here the engine *and* the files below it are
//! what they are in life, and only the disk lies.
//!
//! What counts as synced: the bytes, length, mode and names of a file after `fsync` or `fdatasync` of that file; the names in
//! a folder after `fsync` of that folder; everything after `syncfs` or `sync`. That a file's sync keeps the names that it has
//! by then is more than POSIX says, and what ext4, xfs and btrfs do; that they keep names in the order in which they were
//! changed is not assumed, except that one rename is one change. A sector of 512 bytes is written whole or not at all.

mod logged;
mod reader;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use evoseal_tests::random::Random;

use self::reader::Reader;
use crate::Result;
use crate::look::{difference, look};

/// Number of an inode in a [`Recording`].
type Number = usize;

/// One change of the disk, or a promise about changes before it.
#[derive(Debug, Clone)]
enum Change {
    /// A name comes into a folder, in place of whatever bore it.
    Name {
        folder: Number,
        name: Vec<u8>,
        inode: Number,
    },
    /// A name goes.
    Unname {
        folder: Number,
        name: Vec<u8>,
    },
    /// Both at once.
    Rename {
        from: (Number, Vec<u8>),
        to: (Number, Vec<u8>),
        inode: Number,
        exchanged: Option<Number>,
    },
    Write {
        inode: Number,
        offset: usize,
        bytes: Vec<u8>,
    },
    Length {
        inode: Number,
        length: usize,
    },
    Mode {
        inode: Number,
        mode: u32,
    },
    Sync {
        inode: Number,
    },
    SyncAll,
}

/// What an inode is.
#[derive(Debug, Clone)]
enum Inode {
    Folder { mode: u32, names: BTreeMap<Vec<u8>, Number> },
    File { mode: u32, bytes: Vec<u8> },
    Symlink { target: Vec<u8> },
}

/// The state before an operation, and everything that the operation did to it.
#[derive(Debug)]
pub(crate) struct Recording {
    before: Vec<Inode>,
    changes: Vec<Change>,
}

/// Which states to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncs {
    /// Every sync keeps its promise.
    Kept,
    /// This one, counted from 0, is left out.
    LeftOut(usize),
    /// All are left out: the control that must go wrong.
    AllLeftOut,
}

impl Recording {
    /// Reads the tree below `place` as the state before, lets `operate` work on it, and reads what that did from the log
    /// that it gives.
    pub(crate) fn of(place: &Path, operate: impl FnOnce() -> Result<PathBuf>) -> Result<Self> {
        let reader = Reader::of(place)?;
        let log = operate()?;
        let recording = reader.read(&fs::read_to_string(log)?)?;
        recording.check(place)?;
        Ok(recording)
    }

    /// With every change applied, the simulated tree must be the real one: else a call was misunderstood.
    fn check(&self, place: &Path) -> Result<()> {
        let beside = place.with_extension("simulated");
        self.materialise(self.changes.len(), Syncs::Kept, &mut Random::certain(), &beside)?;
        let differs = difference(&look(&beside)?, &look(place)?);
        crate::machine::remove_tree(&beside)?;
        differs
            .map_or(Ok(()), |what| Err(format!("the simulated file system went another way: {what}").into()))
    }

    /// How many changes there were, syncs included.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// How many changes there were when an entry had just been renamed, for each time.
    pub(crate) fn renamed(&self) -> Vec<usize> {
        let places = self.changes.iter().enumerate();
        places
            .filter(|(_, change)| matches!(change, Change::Rename { .. }))
            .map(|(place, _)| place + 1)
            .collect()
    }

    /// Makes a state in `target` that a power cut may leave after the first `done` changes.
    pub(crate) fn materialise(
        &self,
        done: usize,
        syncs: Syncs,
        random: &mut Random,
        target: &Path,
    ) -> Result<()> {
        let is_durable = self.durable(done, syncs);
        // Either the names were changed in order, as a journal does it, or each for itself.
        let last_name = random.below(done + 1);
        let is_ordered = random.percent(50);
        let chance = [0, 20, 50, 80, 100][random.below(5)];
        let mut inodes = self.before.clone();
        for (place, change) in self.changes[..done].iter().enumerate() {
            let is_name =
                matches!(change, Change::Name { .. } | Change::Unname { .. } | Change::Rename { .. });
            let is_kept = is_durable[place]
                || if is_name && is_ordered { place < last_name } else { random.percent(chance) };
            if is_kept {
                apply(&mut inodes, change, None);
            } else if random.percent(40) {
                apply(&mut inodes, change, Some(random));
            }
        }
        write_out(&inodes, 0, target)
    }

    /// Which of the first `done` changes are certain to be there.
    fn durable(&self, done: usize, syncs: Syncs) -> Vec<bool> {
        let mut is_durable = vec![false; done];
        let mut sync = 0;
        for place in 0..done {
            let (inode, is_all) = match &self.changes[place] {
                Change::Sync { inode, .. } => (*inode, false),
                Change::SyncAll => (0, true),
                _ => continue,
            };
            let is_kept = match syncs {
                Syncs::Kept => true,
                Syncs::LeftOut(number) => number != sync,
                Syncs::AllLeftOut => false,
            };
            sync += 1;
            if !is_kept {
                continue;
            }
            for (before, change) in self.changes[..place].iter().enumerate() {
                let is_covered = match change {
                    Change::Name { folder, inode: of, .. } => *folder == inode || *of == inode,
                    Change::Unname { folder, .. } => *folder == inode,
                    Change::Rename { from, to, inode: of, .. } => [from.0, to.0, *of].contains(&inode),
                    Change::Write { inode: of, .. }
                    | Change::Length { inode: of, .. }
                    | Change::Mode { inode: of, .. } => *of == inode,
                    Change::Sync { .. } | Change::SyncAll => false,
                };
                is_durable[before] |= is_all || is_covered;
            }
        }
        is_durable
    }
}

/// Applies a change, or the part of it that `torn` chooses: names are whole or not at all.
fn apply(inodes: &mut [Inode], change: &Change, torn: Option<&mut Random>) {
    match change {
        Change::Name { .. } | Change::Unname { .. } | Change::Rename { .. } | Change::Mode { .. }
            if torn.is_some() => {}
        Change::Name { folder, name, inode } => set_name(inodes, *folder, name, Some(*inode)),
        Change::Unname { folder, name } => set_name(inodes, *folder, name, None),
        Change::Rename { from, to, inode, exchanged } => {
            set_name(inodes, from.0, &from.1, *exchanged);
            set_name(inodes, to.0, &to.1, Some(*inode));
        }
        Change::Mode { inode, mode } => {
            if let Some(Inode::File { mode: of, .. } | Inode::Folder { mode: of, .. }) =
                inodes.get_mut(*inode)
            {
                *of = *mode;
            }
        }
        Change::Length { inode, length } => {
            if let Some(Inode::File { bytes, .. }) = inodes.get_mut(*inode) {
                bytes.resize(*length, 0);
            }
        }
        Change::Write { inode, offset, bytes: new } => {
            let Some(Inode::File { bytes, .. }) = inodes.get_mut(*inode) else { return };
            let end = offset + new.len();
            let before = bytes.len();
            if before < end {
                bytes.resize(end, 0);
            }
            match torn {
                None => bytes[*offset..end].copy_from_slice(new),
                Some(random) => tear(bytes, before, *offset, new, random),
            }
        }
        Change::Sync { .. } | Change::SyncAll => {}
    }
}

/// What is there of bytes that were on their way: some of their sectors, the others as they were or empty; and the new end
/// of the file, or one between the old and the new.
fn tear(bytes: &mut Vec<u8>, before: usize, offset: usize, new: &[u8], random: &mut Random) {
    const SECTOR: usize = 512;
    let end = offset + new.len();
    let chance = [0, 50, 90][random.below(3)];
    let mut start = offset;
    while start < end {
        let next = ((start / SECTOR + 1) * SECTOR).min(end);
        if random.percent(chance) {
            bytes[start..next].copy_from_slice(&new[start - offset..next - offset]);
        }
        start = next;
    }
    if bytes.len() > before && random.percent(50) {
        let length = before + random.below(bytes.len() - before + 1);
        bytes.truncate(length);
    }
}

fn set_name(inodes: &mut [Inode], folder: Number, name: &[u8], inode: Option<Number>) {
    let Some(Inode::Folder { names, .. }) = inodes.get_mut(folder) else { return };
    match inode {
        Some(inode) => names.insert(name.to_vec(), inode),
        None => names.remove(name),
    };
}

/// Writes a simulated tree to a real folder. A folder under two names, which a lost half of a move could give, is written
/// under the first.
fn write_out(inodes: &[Inode], number: Number, target: &Path) -> Result<()> {
    let mut written: HashMap<Number, PathBuf> = HashMap::new();
    let mut pending = vec![(number, target.to_owned())];
    let mut modes = Vec::new();
    while let Some((number, place)) = pending.pop() {
        match &inodes[number] {
            Inode::Folder { mode, names } => {
                if written.insert(number, place.clone()).is_some() {
                    continue;
                }
                fs::create_dir_all(&place)?;
                modes.push((place.clone(), *mode));
                for (name, inode) in names {
                    pending.push((*inode, place.join(std::ffi::OsStr::from_bytes(name))));
                }
            }
            Inode::File { mode, bytes } => {
                if let Some(first) = written.get(&number) {
                    fs::hard_link(first, &place)?;
                    continue;
                }
                fs::write(&place, bytes)?;
                fs::set_permissions(&place, fs::Permissions::from_mode(*mode))?;
                written.insert(number, place);
            }
            Inode::Symlink { target } => symlink(std::ffi::OsStr::from_bytes(target), &place)?,
        }
    }
    for (place, mode) in modes.into_iter().rev() {
        fs::set_permissions(place, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
