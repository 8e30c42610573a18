//! A directory tree in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use evoseal_checkpoint::{Entry, EntryKind};
use evoseal_types::{Digest, EntryPath};

/// One entry of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Its content.
        bytes: Vec<u8>,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
}

/// A whole tree, by path. Read from a directory it holds all but `.git`, `.evoseal` and special files; ignore files
/// have no effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<EntryPath, Node>);

impl Tree {
    /// Reads the tree below `directory` without following symlinks.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        let mut folders: Vec<Option<EntryPath>> = vec![None];
        while let Some(folder) = folders.pop() {
            let place = folder.as_ref().map_or(directory.to_owned(), |path| directory.join(path.as_path()));
            for item in fs::read_dir(place)? {
                let name = item?.file_name();
                if name == ".git" || name == ".evoseal" {
                    continue;
                }
                let path = match &folder {
                    Some(folder) => folder.join(name.as_bytes()),
                    None => EntryPath::new(name.as_bytes()),
                };
                let path = path.map_err(io::Error::other)?;
                let Some(node) = Node::read(&directory.join(path.as_path()))? else { continue };
                if node == Node::Directory {
                    folders.push(Some(path.clone()));
                }
                tree.0.insert(path, node);
            }
        }
        Ok(tree)
    }

    /// What of the tree below `directory` a capture holds: all but what `rules` ignore and `also` does not name. A folder
    /// that holds ignored entries and nothing else is not part of the tree, unless `also` names it.
    pub(crate) fn capture(
        directory: &Path,
        rules: &Rules,
        also: impl Fn(&EntryPath) -> bool,
    ) -> io::Result<Self> {
        let (mut tree, mut full, mut holding) = (Self::default(), BTreeSet::new(), BTreeSet::new());
        // Backwards, what a folder holds comes before the folder.
        for (path, node) in Self::read(directory)?.0.into_iter().rev() {
            let is_hollow = full.contains(&path) && !holding.contains(&path);
            let counts = also(&path) || !rules.ignore(&path) && !is_hollow;
            if let Some(parent) = path.parent() {
                full.insert(parent.clone());
                if counts {
                    holding.insert(parent);
                }
            }
            if counts {
                tree.0.insert(path, node);
            }
        }
        Ok(tree)
    }

    /// The ignore rules that the tree holds.
    pub(crate) fn rules(&self) -> Rules {
        let file = EntryPath::new(".gitignore").expect("a name is a path");
        match self.0.get(&file) {
            Some(Node::File { bytes, .. }) => Rules::parse(bytes),
            _ => Rules::default(),
        }
    }

    /// The entries as a checkpoint lists them.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |(path, node): (&EntryPath, &Node)| Entry { path: path.clone(), kind: node.kind() };
        self.0.iter().map(entry).collect()
    }

    /// A digest that is equal exactly when two trees are equal.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        let mut field = |field: &[u8]| {
            bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
            bytes.extend_from_slice(field);
        };
        for (path, node) in &self.0 {
            field(path.as_bytes());
            match node {
                Node::File { bytes, executable } => {
                    field(if *executable { b"x" } else { b"f" });
                    field(bytes);
                }
                Node::Symlink(target) => {
                    field(b"l");
                    field(target);
                }
                Node::Directory => field(b"d"),
            }
        }
        Digest::of(&bytes)
    }
}

/// The little of ignore rules that a fake understands: each line of the `.gitignore` at the top is a name, and whatever
/// bears it, anywhere in the tree, is ignored with all below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules(BTreeSet<Vec<u8>>);

impl Rules {
    fn parse(bytes: &[u8]) -> Self {
        let name = |line: &[u8]| line.strip_suffix(b"/").unwrap_or(line).to_vec();
        Self(bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(name).collect())
    }

    /// The rules of the workspace at `directory`.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let file = directory.join(".gitignore");
        if !fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
            return Ok(Self::default());
        }
        Ok(Self::parse(&fs::read(file)?))
    }

    fn ignore(&self, path: &EntryPath) -> bool {
        path.components().any(|name| self.0.contains(name))
    }
}

impl Node {
    fn read(place: &Path) -> io::Result<Option<Self>> {
        let metadata = fs::symlink_metadata(place)?;
        Ok(if metadata.is_dir() {
            Some(Self::Directory)
        } else if metadata.is_symlink() {
            Some(Self::Symlink(fs::read_link(place)?.into_os_string().into_vec()))
        } else if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            Some(Self::File { bytes: fs::read(place)?, executable })
        } else {
            None
        })
    }

    /// Makes this entry at `place`; a file that stands there is replaced, a directory left alone.
    pub(crate) fn write(&self, place: &Path) -> io::Result<()> {
        match self {
            Self::Directory if place.is_dir() => Ok(()),
            Self::Directory => fs::create_dir(place),
            Self::Symlink(target) => {
                Self::clear(place)?;
                symlink(std::ffi::OsStr::from_bytes(target), place)
            }
            Self::File { bytes, executable } => {
                Self::clear(place)?;
                fs::write(place, bytes)?;
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(place, fs::Permissions::from_mode(mode))
            }
        }
    }

    /// Removes what stands at `place`, a directory only if it is empty.
    pub(crate) fn clear(place: &Path) -> io::Result<()> {
        match fs::symlink_metadata(place) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir(place),
            Ok(_) => fs::remove_file(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn kind(&self) -> EntryKind {
        match self {
            Self::File { bytes, executable } => EntryKind::File {
                size_bytes: bytes.len() as u64,
                digest: Digest::of(bytes),
                mode: if *executable { 0o755 } else { 0o644 },
            },
            Self::Symlink(target) => EntryKind::Symlink { target: target.clone() },
            Self::Directory => EntryKind::Directory { mode: 0o755 },
        }
    }

    /// Bytes of content.
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::File { bytes, .. } => bytes.len() as u64,
            Self::Symlink(_) | Self::Directory => 0,
        }
    }
}
