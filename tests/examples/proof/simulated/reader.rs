//! Following a log of system calls with the state as the process saw it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::logged::{Logged, descriptor, descriptor_path, octal, unescape};
use super::{Change, Inode, Number, Recording, apply, set_name};
use crate::Result;
use crate::operate::{BEGIN, END};

/// An open file description.
#[derive(Debug, Clone, Copy)]
struct Open {
    inode: Number,
    offset: usize,
    appends: bool,
}

/// Follows a log with the state as the process saw it.
#[derive(Debug)]
pub(super) struct Reader {
    /// What was there at first.
    before: Vec<Inode>,
    inodes: Vec<Inode>,
    /// Inodes that the operation made, as they were then.
    fresh: Vec<Inode>,
    root: PathBuf,
    changes: Vec<Change>,
    open: HashMap<i64, Open>,
}

impl Reader {
    /// Begins with the tree below `root` as it is now.
    pub(super) fn of(root: &Path) -> Result<Self> {
        let mut reader = Self {
            before: Vec::new(),
            inodes: Vec::new(),
            fresh: Vec::new(),
            root: root.to_owned(),
            changes: Vec::new(),
            open: HashMap::new(),
        };
        reader.add_tree(root)?;
        reader.before = reader.inodes.clone();
        Ok(reader)
    }

    /// Follows the log to the end of its operation.
    pub(super) fn read(mut self, text: &str) -> Result<Recording> {
        self.follow(text)?;
        // What the operation made is there from the start, empty and without a name.
        let mut before = self.before;
        before.append(&mut self.fresh);
        Ok(Recording { before, changes: self.changes })
    }

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

    fn follow(&mut self, text: &str) -> Result<()> {
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
        let path = Path::new(OsStr::from_bytes(path));
        let full = match at.and_then(descriptor_path) {
            Some(folder) => PathBuf::from(OsString::from_vec(folder)).join(path),
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
                Component::Normal(name) => here = self.named(here, name.as_bytes())?,
                Component::CurDir => {}
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
        Path::new(OsStr::from_bytes(&path)).starts_with(&self.root)
    }

    fn open(&mut self, call: &Logged, at: Option<&str>, path: &[u8], flags: &str, mode: &str) {
        let found = if path == b"." || path.is_empty() {
            let relative = at.and_then(descriptor_path).map(OsString::from_vec).map(PathBuf::from);
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
