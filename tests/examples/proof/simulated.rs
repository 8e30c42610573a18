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

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use evoseal_tests::random::Random;

use crate::Result;
use crate::look::{difference, look};
use crate::operate::{BEGIN, END};

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
        let mut reader = Reader {
            inodes: Vec::new(),
            root: place.to_owned(),
            fresh: Vec::new(),
            changes: Vec::new(),
            open: HashMap::new(),
        };
        reader.add_tree(place)?;
        let mut before = reader.inodes.clone();
        let log = operate()?;
        reader.read(&fs::read_to_string(log)?)?;
        // What the operation made is there from the start, empty and without a name.
        before.append(&mut reader.fresh);
        let changes = std::mem::take(&mut reader.changes);
        let recording = Self { before, changes };
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

/// An open file description.
#[derive(Debug, Clone, Copy)]
struct Open {
    inode: Number,
    offset: usize,
    appends: bool,
}

/// Follows a log with the state as the process saw it.
#[derive(Debug)]
struct Reader {
    inodes: Vec<Inode>,
    /// Inodes that the operation made, as they were then.
    fresh: Vec<Inode>,
    root: PathBuf,
    changes: Vec<Change>,
    open: HashMap<i64, Open>,
}

impl Reader {
    fn add_tree(&mut self, path: &Path) -> Result<Number> {
        let number = self.inodes.len();
        let metadata = fs::symlink_metadata(path)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            self.inodes.push(Inode::Folder { mode, names: BTreeMap::new() });
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let child = self.add_tree(&entry.path())?;
                set_name(&mut self.inodes, number, entry.file_name().as_bytes(), Some(child));
            }
        } else if metadata.is_symlink() {
            self.inodes.push(Inode::Symlink { target: fs::read_link(path)?.into_os_string().into_vec() });
        } else {
            self.inodes.push(Inode::File { mode, bytes: fs::read(path)? });
        }
        Ok(number)
    }

    fn read(&mut self, text: &str) -> Result<()> {
        let mut is_inside = false;
        let mut unfinished: HashMap<&str, String> = HashMap::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            // A call that another thread's output interrupted stands in two pieces.
            let whole = if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
                unfinished.insert(thread, start.to_owned());
                continue;
            } else if let Some((_, end)) =
                rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>"))
            {
                format!("{}{end}", unfinished.remove(thread).unwrap_or_default())
            } else {
                rest.to_owned()
            };
            let Some(call) = Logged::parse(&whole) else { continue };
            let strings = call.strings();
            if strings.iter().any(|string| string.ends_with(BEGIN.as_bytes())) {
                is_inside = true;
            } else if strings.iter().any(|string| string.ends_with(END.as_bytes())) {
                return Ok(());
            } else if is_inside && call.result >= 0 {
                self.take(&call)
                    .map_err(|error| format!("{}({}): {error}", call.name, call.arguments.join(", ")))?;
            }
        }
        Err("the log does not hold a whole operation".into())
    }

    /// The folder and the last name of a path, if both lie in the place.
    fn locate(&self, at: Option<&str>, path: &[u8]) -> Option<(Number, Vec<u8>)> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let full = match at.and_then(descriptor_path) {
            Some(folder) => PathBuf::from(std::ffi::OsString::from_vec(folder)).join(path),
            None => path.to_owned(),
        };
        let relative = full.strip_prefix(&self.root).ok()?;
        let name = relative.file_name()?.as_bytes().to_vec();
        let folder = self.walk(relative.parent().unwrap_or(Path::new("")))?;
        Some((folder, name))
    }

    fn walk(&self, relative: &Path) -> Option<Number> {
        let mut here = 0;
        for part in relative.components() {
            match part {
                std::path::Component::Normal(name) => here = self.named(here, name.as_bytes())?,
                std::path::Component::CurDir => {}
                _ => return None,
            }
        }
        Some(here)
    }

    fn named(&self, folder: Number, name: &[u8]) -> Option<Number> {
        match &self.inodes[folder] {
            Inode::Folder { names, .. } => names.get(name).copied(),
            _ => None,
        }
    }

    fn record(&mut self, change: Change) {
        apply(&mut self.inodes, &change, None);
        self.changes.push(change);
    }

    fn add(&mut self, folder: Number, name: Vec<u8>, inode: Inode) -> Number {
        let number = self.inodes.len();
        self.fresh.push(inode.clone());
        self.inodes.push(inode);
        self.record(Change::Name { folder, name, inode: number });
        number
    }

    fn take(&mut self, call: &Logged) -> Result<()> {
        let argument = |place: usize| call.arguments.get(place).map_or("", String::as_str);
        let path = |place: usize| unescape(argument(place));
        match call.name.as_str() {
            "openat" | "openat2" => self.open(call, Some(argument(0)), &path(1), argument(2), argument(3)),
            "open" => self.open(call, None, &path(0), argument(1), argument(2)),
            "creat" => self.open(call, None, &path(0), "O_CREAT|O_TRUNC", argument(1)),
            "lseek" => {
                let offset = usize::try_from(call.result)?;
                if let Some(open) = self.open.get_mut(&descriptor(argument(0))) {
                    open.offset = offset;
                }
            }
            "write" => self.write(argument(0), &path(1), None, call.result)?,
            "pwrite64" => self.write(argument(0), &path(1), Some(argument(3).parse()?), call.result)?,
            "fsync" | "fdatasync" => {
                if let Some(open) = self.open.get(&descriptor(argument(0))) {
                    self.record(Change::Sync { inode: open.inode });
                }
            }
            "syncfs" | "sync" => self.record(Change::SyncAll),
            "rename" => self.rename((None, &path(0)), (None, &path(1)), "")?,
            "renameat" | "renameat2" => {
                self.rename((Some(argument(0)), &path(1)), (Some(argument(2)), &path(3)), argument(4))?;
            }
            "unlink" | "rmdir" => self.unname(None, &path(0)),
            "unlinkat" => self.unname(Some(argument(0)), &path(1)),
            "mkdir" => self.make_folder(None, &path(0), argument(1)),
            "mkdirat" => self.make_folder(Some(argument(0)), &path(1), argument(2)),
            "symlink" => self.make_symlink(None, &path(1), path(0)),
            "symlinkat" => self.make_symlink(Some(argument(1)), &path(2), path(0)),
            "link" => self.link((None, &path(0)), (None, &path(1)))?,
            "linkat" => self.link((Some(argument(0)), &path(1)), (Some(argument(2)), &path(3)))?,
            "ftruncate" => {
                if let Some(open) = self.open.get(&descriptor(argument(0))) {
                    self.record(Change::Length { inode: open.inode, length: argument(1).parse()? });
                }
            }
            "fchmod" => {
                if let Some(open) = self.open.get(&descriptor(argument(0))) {
                    self.record(Change::Mode { inode: open.inode, mode: octal(argument(1)) });
                }
            }
            "fchmodat" | "fchmodat2" => {
                let found = self
                    .locate(Some(argument(0)), &path(1))
                    .and_then(|(folder, name)| self.named(folder, &name));
                if let Some(inode) = found {
                    self.record(Change::Mode { inode, mode: octal(argument(2)) });
                }
            }
            "writev" | "pwritev" | "pwritev2" | "copy_file_range" | "sendfile" | "splice" | "truncate"
            | "chmod"
                if call.arguments.iter().any(|argument| self.is_within(argument)) =>
            {
                return Err("the simulated file system does not know this call".into());
            }
            // Times, owners, attributes and preallocated space are no part of the model.
            _ => {}
        }
        Ok(())
    }

    /// Whether an argument names something below the place.
    fn is_within(&self, argument: &str) -> bool {
        let path = descriptor_path(argument).unwrap_or_else(|| unescape(argument));
        Path::new(std::ffi::OsStr::from_bytes(&path)).starts_with(&self.root)
    }

    fn open(&mut self, call: &Logged, at: Option<&str>, path: &[u8], flags: &str, mode: &str) {
        let found = if path == b"." || path.is_empty() {
            let relative = at.and_then(descriptor_path).map(std::ffi::OsString::from_vec).map(PathBuf::from);
            relative.and_then(|full| full.strip_prefix(&self.root).ok().and_then(|path| self.walk(path)))
        } else if path == self.root.as_os_str().as_bytes() {
            Some(0)
        } else {
            self.locate(at, path).and_then(|(folder, name)| match self.named(folder, &name) {
                Some(inode) => Some(inode),
                None if flags.contains("O_CREAT") => {
                    // The log shows the mode that was asked for; here the mask is the usual one.
                    let mode = octal(mode) & !0o022;
                    Some(self.add(folder, name, Inode::File { mode, bytes: Vec::new() }))
                }
                None => None,
            })
        };
        // A descriptor's number is used again: whatever it meant before is over.
        self.open.remove(&call.result);
        let Some(inode) = found else { return };
        if flags.contains("O_TRUNC") {
            self.record(Change::Length { inode, length: 0 });
        }
        self.open.insert(call.result, Open { inode, offset: 0, appends: flags.contains("O_APPEND") });
    }

    fn write(&mut self, fd: &str, bytes: &[u8], at: Option<usize>, result: i64) -> Result<()> {
        let written = usize::try_from(result)?;
        let Some(open) = self.open.get(&descriptor(fd)).copied() else { return Ok(()) };
        let Inode::File { bytes: present, .. } = &self.inodes[open.inode] else { return Ok(()) };
        let end = present.len();
        let offset = at.unwrap_or(if open.appends { end } else { open.offset });
        let bytes = bytes.get(..written).ok_or("the log is cut short")?.to_vec();
        if at.is_none()
            && let Some(open) = self.open.get_mut(&descriptor(fd))
        {
            open.offset = offset + written;
        }
        self.record(Change::Write { inode: open.inode, offset, bytes });
        Ok(())
    }

    fn rename(&mut self, from: (Option<&str>, &[u8]), to: (Option<&str>, &[u8]), flags: &str) -> Result<()> {
        let (Some(from), Some(to)) = (self.locate(from.0, from.1), self.locate(to.0, to.1)) else {
            return Ok(());
        };
        let inode = self.named(from.0, &from.1).ok_or("what is renamed is not known")?;
        let exchanged = if flags.contains("EXCHANGE") { self.named(to.0, &to.1) } else { None };
        self.record(Change::Rename { from, to, inode, exchanged });
        Ok(())
    }

    fn unname(&mut self, at: Option<&str>, path: &[u8]) {
        if let Some((folder, name)) = self.locate(at, path) {
            self.record(Change::Unname { folder, name });
        }
    }

    fn make_folder(&mut self, at: Option<&str>, path: &[u8], mode: &str) {
        if let Some((folder, name)) = self.locate(at, path) {
            self.add(folder, name, Inode::Folder { mode: octal(mode) & !0o022, names: BTreeMap::new() });
        }
    }

    fn make_symlink(&mut self, at: Option<&str>, path: &[u8], target: Vec<u8>) {
        if let Some((folder, name)) = self.locate(at, path) {
            self.add(folder, name, Inode::Symlink { target });
        }
    }

    fn link(&mut self, from: (Option<&str>, &[u8]), to: (Option<&str>, &[u8])) -> Result<()> {
        let Some((folder, name)) = self.locate(to.0, to.1) else { return Ok(()) };
        let from = self.locate(from.0, from.1).and_then(|(folder, name)| self.named(folder, &name));
        let inode = from.ok_or("what is linked is not known")?;
        self.record(Change::Name { folder, name, inode });
        Ok(())
    }
}

/// A call as it stands in the log.
#[derive(Debug)]
struct Logged {
    name: String,
    arguments: Vec<String>,
    result: i64,
}

impl Logged {
    fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.split_once('(')?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        let end = rest.rfind(") ").or_else(|| rest.rfind(")="))?;
        let result = rest[end..].split_once('=')?.1.trim_start();
        let digits: String = result.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
        Some(Self { name: name.to_owned(), arguments: split(&rest[..end]), result: digits.parse().ok()? })
    }

    /// All strings among the arguments.
    fn strings(&self) -> Vec<Vec<u8>> {
        self.arguments
            .iter()
            .filter(|argument| argument.starts_with('"'))
            .map(|argument| unescape(argument))
            .collect()
    }
}

/// Splits arguments at the commas that stand outside of strings, braces and brackets.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut is_string) = (0_i32, false);
    for c in text.chars() {
        match c {
            '"' => is_string = !is_string,
            '{' | '[' | '<' if !is_string => depth += 1,
            '}' | ']' | '>' if !is_string => depth -= 1,
            ',' if !is_string && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut()
            && !(part.is_empty() && c == ' ')
        {
            part.push(c);
        }
    }
    parts
}

/// The bytes of a string that strace wrote in hexadecimal.
fn unescape(text: &str) -> Vec<u8> {
    let text = text.trim_start_matches('"').trim_end_matches("...").trim_end_matches('"');
    text.split("\\x").skip(1).filter_map(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok()).collect()
}

/// The number of a descriptor: `3</path>`.
fn descriptor(argument: &str) -> i64 {
    argument.split('<').next().and_then(|number| number.parse().ok()).unwrap_or(-1)
}

/// The path of a descriptor, which strace writes in hexadecimal as well.
fn descriptor_path(argument: &str) -> Option<Vec<u8>> {
    let (_, path) = argument.split_once('<')?;
    Some(unescape(path.trim_end_matches("(deleted)").trim_end_matches('>')))
}

fn octal(text: &str) -> u32 {
    u32::from_str_radix(text.trim_start_matches('0'), 8).unwrap_or(0)
}
