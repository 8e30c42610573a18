//! A directory tree in memory.

use std::collections::BTreeMap;
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
