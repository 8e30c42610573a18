//! The trees that are captured: published sources that cargo has unpacked already, or any folder.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use serde::Deserialize;

use super::Failure;
use super::floor::{Found, walk};

/// Files that the edited operations change.
const CHANGED_FILES: usize = 10;
/// The size of [`Tree::Big`]'s file, and of one edit of it.
const BIG_BYTES: u64 = 1 << 30;
const BIG_EDIT_BYTES: u64 = 1 << 20;
/// The file of [`Tree::Big`].
const BIG_FILE: &str = "big.bin";

/// Files that change what a system stores. Without them all systems store the same.
const LEFT_OUT: [&str; 7] =
    [".git", ".gitignore", ".gitattributes", ".gitmodules", ".ignore", ".evosealignore", ".evoseal"];

/// The settings that our program looks for; part of the tree for every system.
const SETTINGS: &str =
    "[propose]\ncommand = [\"true\"]\n\n[evaluate.test]\ncommand = [\"true\"]\nformat = \"exit_code\"\n";

/// Which tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    /// Some hundred files.
    Small,
    /// Eight thousand files.
    Medium,
    /// Over 60 000 files and a gigabyte.
    Large,
    /// One file of random bytes.
    Big,
    /// A small tree with a long series of checkpoints.
    Series,
    /// A copy of this folder.
    Folder(PathBuf),
}

impl FromStr for Tree {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "S" => Self::Small,
            "M" => Self::Medium,
            "L" => Self::Large,
            "big" => Self::Big,
            "series" => Self::Series,
            folder if Path::new(folder).is_dir() => Self::Folder(folder.into()),
            other => return Err(format!("{other:?} is neither S, M, L, big, series nor a folder")),
        })
    }
}

impl Tree {
    /// The name in tables.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Small => "S".to_owned(),
            Self::Medium => "M".to_owned(),
            Self::Large => "L".to_owned(),
            Self::Big => "big".to_owned(),
            Self::Series => "series".to_owned(),
            Self::Folder(folder) => folder.display().to_string(),
        }
    }

    /// Writes the tree. The same lock file gives the same tree on every machine.
    pub(crate) fn build(&self, target: &Path, smoke: bool) -> Result<(), Failure> {
        std::fs::create_dir_all(target)?;
        match self {
            Self::Small | Self::Series => published(target, if smoke { 60 } else { 400 }, 0)?,
            Self::Medium => published(target, if smoke { 200 } else { 8_000 }, 0)?,
            Self::Large => published(target, 60_001, 1 << 30)?,
            Self::Big => write_big(target, smoke)?,
            Self::Folder(folder) => {
                copy(folder, target, None, &mut (0, 0))?;
            }
        }
        std::fs::write(target.join("evoseal.toml"), SETTINGS)?;
        Ok(())
    }
}

/// The part of `cargo metadata` that is needed.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    manifest_path: PathBuf,
}

/// Copies the sources of the packages that the lock file names, in its order, until there are enough files and bytes.
/// Where one copy of all is not enough, further ones follow whose every file has an edit.
fn published(target: &Path, files: u64, bytes: u64) -> Result<(), Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(manifest)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let mut packages = serde_json::from_slice::<Metadata>(&output.stdout)?.packages;
    packages.retain(|package| package.source.is_some());
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let mut so_far = (0, 0);
    for round in 0_u32.. {
        let before = so_far;
        for package in &packages {
            let folder = package.manifest_path.parent().ok_or("a manifest lies in a folder")?;
            let name = format!("set-{round}/{}-{}", package.name, package.version);
            copy(folder, &target.join(name), (round > 0).then_some(round), &mut so_far)?;
            if so_far.0 >= files && so_far.1 >= bytes {
                return Ok(());
            }
        }
        if so_far == before {
            return Err("cargo has unpacked no sources".into());
        }
    }
    Ok(())
}

/// Copies a folder and counts files and bytes.
fn copy(from: &Path, to: &Path, edit: Option<u32>, so_far: &mut (u64, u64)) -> Result<(), Failure> {
    std::fs::create_dir_all(to)?;
    let mut entries = std::fs::read_dir(from)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let target = to.join(name);
        if kind.is_dir() {
            copy(&entry.path(), &target, edit, so_far)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target)?;
            if let Some(number) = edit {
                edit_file(&target, &format!("\n// copy {number} of {}\n", entry.path().display()))?;
            }
            *so_far = (so_far.0 + 1, so_far.1 + target.metadata()?.size());
        }
    }
    Ok(())
}

/// Puts text into the middle of a file; all that follows moves.
fn edit_file(file: &Path, text: &str) -> std::io::Result<()> {
    let mut content = std::fs::read(file)?;
    let middle = content.len() / 2;
    content.splice(middle..middle, text.bytes());
    std::fs::write(file, content)
}

/// Bytes that no compressor shortens, the same for the same key.
fn random(key: &str, len: u64, mut write: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut reader = blake3::Hasher::new().update(key.as_bytes()).finalize_xof();
    let mut block = vec![0; 1 << 20];
    for _ in 0..len.div_ceil(1 << 20) {
        reader.fill(&mut block);
        write(&block)?;
    }
    Ok(())
}

fn write_big(target: &Path, smoke: bool) -> Result<(), Failure> {
    let mut file = File::create(target.join(BIG_FILE))?;
    random("big", if smoke { 8 << 20 } else { BIG_BYTES }, |block| file.write_all(block))?;
    Ok(())
}

/// A tree that is there, and the files in it that are edited.
#[derive(Debug)]
pub(crate) struct Edited {
    pub(crate) root: PathBuf,
    /// The files that are edited, spread over the tree.
    pub(crate) files: Vec<Found>,
    is_big: bool,
}

impl Edited {
    pub(crate) fn new(root: &Path, tree: &Tree) -> Result<Self, Failure> {
        let mut files = walk(root)?.files;
        files.sort();
        let is_big = *tree == Tree::Big;
        files.retain(|file| file.path != Path::new("evoseal.toml"));
        if !is_big {
            // Sources, not archives: what a loop edits.
            files.retain(|file| (1..256 << 10).contains(&file.size_bytes));
        }
        let step = (files.len() / CHANGED_FILES).max(1);
        let files: Vec<Found> = files.into_iter().step_by(step).take(CHANGED_FILES).collect();
        if files.is_empty() {
            return Err("the tree has no file that could be edited".into());
        }
        Ok(Self { root: root.to_owned(), files, is_big })
    }

    /// Changes some of the files; the same number changes them in the same way.
    pub(crate) fn change(&self, count: usize, number: u64) -> Result<(), Failure> {
        if !self.is_big {
            for file in self.files.iter().take(count) {
                edit_file(&self.root.join(&file.path), &format!("\n// edit {number}\n"))?;
            }
            return Ok(());
        }
        let file = File::options().write(true).open(self.root.join(BIG_FILE))?;
        let middle = file.metadata()?.len() / 2;
        random(&format!("edit {number}"), BIG_EDIT_BYTES, |block| file.write_all_at(block, middle))?;
        Ok(())
    }

    /// Puts bytes near the front of the large file.
    pub(crate) fn insert(&self, number: u64) -> Result<(), Failure> {
        let path = self.root.join(BIG_FILE);
        let mut content = std::fs::read(&path)?;
        let mut inserted = Vec::new();
        random(&format!("insert {number}"), BIG_EDIT_BYTES, |block| inserted.write_all(block))?;
        let at = usize::try_from(BIG_EDIT_BYTES)?;
        content.splice(at..at, inserted);
        std::fs::write(path, content)?;
        Ok(())
    }

    /// The bytes of the files that are edited.
    pub(crate) fn contents(&self) -> std::io::Result<Vec<Vec<u8>>> {
        self.files.iter().map(|file| std::fs::read(self.root.join(&file.path))).collect()
    }

    /// Writes the files that are edited, where they differ.
    pub(crate) fn put_back(&self, contents: &[Vec<u8>]) -> std::io::Result<()> {
        for (file, content) in self.files.iter().zip(contents) {
            let path = self.root.join(&file.path);
            if std::fs::read(&path)? != *content {
                std::fs::write(path, content)?;
            }
        }
        Ok(())
    }

    /// The digests of the files that are edited.
    pub(crate) fn state(&self) -> Result<Vec<blake3::Hash>, Failure> {
        let read = |file: &Found| Ok(blake3::hash(&std::fs::read(self.root.join(&file.path))?));
        self.files.iter().map(read).collect()
    }
}

/// Blocks that a file or everything below a folder takes, in bytes.
pub(crate) fn disk_bytes(path: &Path) -> std::io::Result<u64> {
    let metadata = path.symlink_metadata()?;
    let mut sum = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            sum += disk_bytes(&entry?.path())?;
        }
    }
    Ok(sum)
}
