//! The project that is rolled back, and the trees that may be there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::look::{Look, look};
use crate::machine::{copy_tree, remove_tree};
use crate::scenario::{edit_more, first_tree, second_tree, write};
use crate::victim::evoseal;

/// What no checkpoint holds, by the `.gitignore` of the tree.
const IGNORED: [&str; 3] = [".env", "cache", "src/module1/.env"];
/// The files of these.
const IGNORED_FILES: [&str; 3] = [".env", "src/module1/.env", "cache/deep/build.bin"];

/// The trees that may be there.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) old: Look,
    pub(super) new: Look,
    /// What the old one holds and a checkpoint can.
    pub(super) saved: Look,
    /// The bytes of each ignored file.
    pub(super) ignored: BTreeMap<&'static str, Vec<u8>>,
    /// What lies in the place.
    pub(super) beside: Vec<String>,
}

/// A project with two checkpoints and work of a person since, with entries of every kind in all three states.
pub(super) fn prepare(place: &Path) -> Result<Model> {
    let workspace = place.join("workspace");
    fs::create_dir_all(&workspace)?;
    evoseal(place, &["init"])?;
    write(&workspace, ".gitignore", ".env\ncache/\n")?;
    first_tree(&workspace)?;
    odd_names(&workspace, "first")?;
    write(&workspace, "linked/one", "one file, two names\n")?;
    fs::hard_link(workspace.join("linked/one"), workspace.join("linked/two"))?;
    symlink("src", workspace.join("to a folder"))?;
    sparse(&workspace.join("data/sparse"), 1 << 20)?;
    fs::create_dir_all(workspace.join("empty/in empty"))?;
    evoseal(place, &["checkpoint", "create", "v1"])?;
    let first = look_closely(&workspace)?;

    second_tree(&workspace)?;
    odd_names(&workspace, "second")?;
    fs::remove_file(workspace.join("linked/two"))?;
    write(&workspace, "linked/two", "a file of its own\n")?;
    fs::remove_file(workspace.join("to a folder"))?;
    symlink("nowhere", workspace.join("to a folder"))?;
    sparse(&workspace.join("data/sparse"), 1 << 19)?;
    fs::remove_dir(workspace.join("empty/in empty"))?;
    evoseal(place, &["checkpoint", "create", "v2"])?;

    edit_more(&workspace)?;
    write(&workspace, "notes of mine", "in no checkpoint\n")?;
    write(&workspace, "notes/of/mine", "neither\n")?;
    fs::hard_link(workspace.join("notes of mine"), workspace.join("notes/again"))?;
    for (number, name) in IGNORED_FILES.iter().enumerate() {
        write(&workspace, name, format!("ignored {number}\n"))?;
    }
    symlink("workspace/.evoseal/checkpoints", place.join("store"))?;
    let old = look_closely(&workspace)?;
    let (ignored, saved) = apart(&old);
    if ignored.len() != 5 || first.keys().any(|path| is_ignored(path)) {
        return Err("the ignored files are not as they should be".into());
    }
    let read = |name| Ok((name, fs::read(workspace.join(name))?));
    let files = IGNORED_FILES.into_iter().map(read).collect::<Result<_>>()?;
    let new = first.into_iter().chain(ignored).collect();
    Ok(Model { old, new, saved, ignored: files, beside: names_in(place)? })
}

/// What of a tree is ignored, and what a checkpoint holds.
pub(super) fn apart(tree: &Look) -> (Look, Look) {
    tree.clone().into_iter().partition(|(path, _)| is_ignored(path))
}

/// The names in a folder, in order.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = fs::read_dir(folder)?.map(name).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn is_ignored(path: &str) -> bool {
    IGNORED
        .iter()
        .any(|name| path == *name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
}

fn odd_names(workspace: &Path, text: &str) -> Result<()> {
    for name in ["-rf", " leading and trailing ", "new\nline", "tab\tquote\"'\\", "\u{fc}ml\u{e4}ut", "..."] {
        write(workspace, &format!("odd/{name}"), text)?;
    }
    Ok(fs::write(workspace.join("odd").join(OsStr::from_bytes(b"not \xff UTF-8")), text)?)
}

fn sparse(path: &Path, hole_bytes: u64) -> Result<()> {
    use std::io::{Seek as _, Write as _};
    let mut file = fs::File::create(path)?;
    file.seek(std::io::SeekFrom::Start(hole_bytes))?;
    Ok(file.write_all(b"behind the hole")?)
}

/// A look with the names that one file has.
pub(super) fn look_closely(root: &Path) -> Result<Look> {
    let mut seen = look(root)?;
    let mut names: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                pending.extend((path != root.join(".evoseal")).then_some(path));
            } else if metadata.nlink() > 1 {
                let name = path.strip_prefix(root)?.as_os_str().as_bytes().escape_ascii().to_string();
                names.entry(metadata.ino()).or_default().push(name);
            }
        }
    }
    // What has another name elsewhere alone is a file like any other.
    for group in names.values_mut().filter(|group| group.len() > 1) {
        group.sort();
        let all = format!(" as {group:?}");
        for name in group {
            seen.entry(name.clone()).and_modify(|text| text.push_str(&all));
        }
    }
    Ok(seen)
}

/// A copy of a state for one worker.
pub(super) fn start_from(folder: &Path, worker: usize, state: &Path) -> Result<PathBuf> {
    let place = folder.join(format!("place{worker}"));
    remove_tree(&place)?;
    copy_tree(state, &place)?;
    Ok(place)
}
