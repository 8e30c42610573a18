//! Walking a workspace: what is there, without reading any content.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use evoseal_types::EntryPath;
use rustix::fs::{Dir, FileType, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use crate::ignore_rules::{IGNORE_FILE_LEN_MAX, IGNORE_FILES, IgnoreRules};
use crate::page::{STAGING_PREFIX, is_left_alone};
use crate::workspace::{FileStat, Root, Stamp, join, stat_in};
use crate::{Error, Result};

/// How often a workspace that changes under the walk is walked again before the walk fails.
pub(crate) const ATTEMPTS: u32 = 3;

/// Where the ignore rules come from.
pub(crate) trait RuleSource {
    /// The contents of the ignore files that count in `folder`, in ascending order of precedence; `None` where those
    /// that stand there now count.
    fn ignore_files(&self, folder: &[u8]) -> Result<Option<Vec<Vec<u8>>>>;

    /// Whether the entry counts even where a rule ignores it.
    fn is_wanted(&self, path: &[u8]) -> bool;
}

/// The rules are those in the workspace as it is now.
#[derive(Debug)]
pub(crate) struct PresentRules;

impl RuleSource for PresentRules {
    fn ignore_files(&self, _folder: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        Ok(None)
    }

    fn is_wanted(&self, _path: &[u8]) -> bool {
        false
    }
}

/// What stands in a workspace.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Every folder that was entered, by path; the root is the empty path.
    pub(crate) folders: BTreeMap<Vec<u8>, Folder>,
    /// When the walk started, on the file system's clock.
    pub(crate) started: Stamp,
    pub(crate) entries_seen: u64,
    /// Sockets, pipes and devices.
    pub(crate) skipped: Vec<EntryPath>,
    /// What an interrupted restore left behind.
    pub(crate) leftovers: Vec<EntryPath>,
}

/// One folder of a workspace.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// Sorted by name.
    pub(crate) entries: Vec<Found>,
    /// Names in it that must not be touched: ignored, left alone, of a kind that is not captured.
    pub(crate) kept: Vec<Vec<u8>>,
}

/// One entry of a folder.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: FoundKind,
}

#[derive(Debug)]
pub(crate) enum FoundKind {
    Directory,
    File(FileStat),
    Symlink(Vec<u8>),
}

/// Walks the tree below `root`. `excluded` are directories that are left alone, by device and inode: a store that lies
/// inside the workspace.
pub(crate) fn scan(root: &Root, rules: &dyn RuleSource, excluded: &[(u64, u64)]) -> Result<Scan> {
    let mut last = Vec::new();
    for _ in 0..ATTEMPTS {
        match Walk::new(root, rules, excluded).run() {
            Ok(scan) => return Ok(scan),
            Err(Interruption::Changed(path)) => last = path,
            Err(Interruption::Failed(error)) => return Err(error),
        }
    }
    Err(Error::Unstable { path: root.shown(&last), attempts: ATTEMPTS })
}

/// Why a walk ended early.
enum Interruption {
    /// Something that was listed is gone or of another kind.
    Changed(Vec<u8>),
    Failed(Error),
}

impl From<Error> for Interruption {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Walk<'a> {
    root: &'a Root,
    source: &'a dyn RuleSource,
    excluded: &'a [(u64, u64)],
    /// Folders to enter, with the rules that hold in the folder above. One is open at a time, so that neither depth nor
    /// width needs open files or stack.
    pending: Vec<(Vec<u8>, IgnoreRules)>,
    scan: Scan,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Root, source: &'a dyn RuleSource, excluded: &'a [(u64, u64)]) -> Self {
        let scan = Scan {
            folders: BTreeMap::new(),
            started: Stamp::now(),
            entries_seen: 0,
            skipped: Vec::new(),
            leftovers: Vec::new(),
        };
        Self { root, source, excluded, pending: vec![(Vec::new(), IgnoreRules::default())], scan }
    }

    fn run(mut self) -> Result<Scan, Interruption> {
        while let Some((path, rules)) = self.pending.pop() {
            let folder = self.enter(&path, &rules)?;
            self.scan.folders.insert(path, folder);
        }
        self.scan.skipped.sort();
        self.scan.leftovers.sort();
        Ok(self.scan)
    }

    fn enter(&mut self, path: &[u8], above: &IgnoreRules) -> Result<Folder, Interruption> {
        let fd = self.root.directory(path).map_err(|error| self.interrupt("open", path, error))?;
        let names = read_names(&fd).map_err(|error| self.interrupt("list", path, error))?;
        let rules = above.inside(path, &self.ignore_files(path, &fd, &names)?);
        let mut folder = Folder::default();
        for name in names {
            self.scan.entries_seen += 1;
            let full = join(path, &name);
            match self.look(&fd, &full, &name, &rules)? {
                Some(kind) => {
                    if matches!(kind, FoundKind::Directory) {
                        self.pending.push((full, rules.clone()));
                    }
                    folder.entries.push(Found { name, kind });
                }
                None if name.starts_with(STAGING_PREFIX) => {}
                None => folder.kept.push(name),
            }
        }
        Ok(folder)
    }

    /// What stands under a name; `None` if it is not to be captured.
    fn look(
        &mut self,
        folder: &OwnedFd,
        full: &[u8],
        name: &[u8],
        rules: &IgnoreRules,
    ) -> Result<Option<FoundKind>, Interruption> {
        if name.starts_with(STAGING_PREFIX) {
            self.scan.leftovers.push(entry_path(full)?);
        }
        if is_left_alone(name) {
            return Ok(None);
        }
        let stat = stat_in(folder, name).map_err(|error| self.interrupt("read", full, error))?;
        let stat = stat.ok_or_else(|| Interruption::Changed(full.to_vec()))?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_directory = file_type == FileType::Directory;
        if is_directory && self.excluded.contains(&(stat.st_dev, stat.st_ino)) {
            return Ok(None);
        }
        if rules.ignores(full, is_directory) && !self.source.is_wanted(full) {
            return Ok(None);
        }
        let path = entry_path(full)?;
        Ok(match file_type {
            FileType::Directory => Some(FoundKind::Directory),
            FileType::RegularFile => Some(FoundKind::File(FileStat::of(&stat))),
            FileType::Symlink => {
                let target = readlinkat(folder, OsStr::from_bytes(name), Vec::new())
                    .map_err(|error| self.interrupt("read", full, error))?;
                Some(FoundKind::Symlink(target.into_bytes()))
            }
            _ => {
                self.scan.skipped.push(path);
                None
            }
        })
    }

    fn ignore_files(
        &self,
        path: &[u8],
        folder: &OwnedFd,
        names: &[Vec<u8>],
    ) -> Result<Vec<Vec<u8>>, Interruption> {
        if let Some(files) = self.source.ignore_files(path)? {
            return Ok(files);
        }
        let mut files = Vec::new();
        for name in IGNORE_FILES {
            if names.binary_search_by(|other| other.as_slice().cmp(name)).is_ok() {
                files.extend(self.read_ignore_file(folder, &join(path, name), name)?);
            }
        }
        Ok(files)
    }

    /// The content of an ignore file; `None` if it is no regular file. A symlink is not followed, as in git.
    fn read_ignore_file(
        &self,
        folder: &OwnedFd,
        full: &[u8],
        name: &[u8],
    ) -> Result<Option<Vec<u8>>, Interruption> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(folder, OsStr::from_bytes(name), flags, Mode::empty()) {
            Ok(file) => std::fs::File::from(file),
            Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(error) => return Err(self.interrupt("open", full, error)),
        };
        let fail = |source| Error::Io { action: "read", path: self.root.shown(full), source };
        if !file.metadata().map_err(fail)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(IGNORE_FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > IGNORE_FILE_LEN_MAX {
            return Err(Interruption::Failed(Error::TooLarge {
                what: format!("ignore file {}", self.root.shown(full).display()),
                actual: bytes.len() as u64,
                limit: IGNORE_FILE_LEN_MAX,
            }));
        }
        Ok(Some(bytes))
    }

    /// The root must be there; below it, what is gone or is no directory any more has changed since it was listed.
    fn interrupt(&self, action: &'static str, path: &[u8], error: Errno) -> Interruption {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL if !path.is_empty() => {
                Interruption::Changed(path.to_vec())
            }
            error => Interruption::Failed(self.root.error(action, path, error)),
        }
    }
}

fn entry_path(full: &[u8]) -> Result<EntryPath, Interruption> {
    EntryPath::new(full).map_err(|error| {
        Interruption::Failed(Error::Invalid { argument: "workspace", reason: error.to_string() })
    })
}

/// All names in a folder, sorted.
fn read_names(folder: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}
