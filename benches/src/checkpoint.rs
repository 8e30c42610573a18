//! Capturing and restoring a directory, beside git.
//!
//! Ours are calls of the library; git's are whole processes, as a program that stands on git would start them, so a few
//! milliseconds of each are the start of the process. A capture is durable on both sides before it answers: with git by
//! `core.fsync=all` in batches, which is not its default. A restore is durable and read back on our side only; git never
//! syncs the files that it checks out, and there is no setting for it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use evoseal_checkpoint::{CheckpointManager, NewCheckpoint, RestoreMode, Source};
use evoseal_tests::trees::{TreeSize, source_text};
use evoseal_types::{CheckpointId, VersionId};

use crate::Figures;

type Failure = Box<dyn Error>;

/// How many files an iteration changes.
const CHANGED_FILES: usize = 10;

/// The tasks in the order in which they follow each other on one tree.
const TASKS: [&str; 6] = [
    "first capture",
    "capture without a change",
    "capture of 10 changed files",
    "restore into an empty folder",
    "return of 10 changed files",
    "return without a change",
];

/// A store under test.
trait Store {
    /// Captures the tree under a name.
    fn capture(&mut self, tree: &Path, name: &str) -> Result<(), Failure>;
    /// Writes the newest capture into a folder that does not exist.
    fn restore(&mut self, target: &Path) -> Result<(), Failure>;
    /// Makes the tree equal to the newest capture.
    fn roll_back(&mut self, tree: &Path) -> Result<(), Failure>;
}

/// Measures all tasks over both sizes.
pub(crate) fn measure(smoke: bool) -> Result<Vec<Figures>, Failure> {
    let sizes =
        [(100, 10_000), (2_000, 5_000)].map(|(files, file_size_bytes)| TreeSize { files, file_size_bytes });
    let rounds = if smoke { 2 } else { 9 };
    let git_is_here = Command::new("git")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut all = Vec::new();
    // Trees are kept to the end: for seconds after a deletion ext4 searches long for inodes that it may use again, and that
    // time would be taken for a task's.
    let mut places = Vec::new();
    for size in sizes {
        let size = if smoke { TreeSize { files: size.files / 10, ..size } } else { size };
        let mut ours: [Vec<Duration>; TASKS.len()] = Default::default();
        let mut theirs: [Vec<Duration>; TASKS.len()] = Default::default();
        for _ in 0..rounds {
            let place = tempfile::tempdir()?;
            let store = CheckpointManager::builder().directory(place.path().join("store")).create()?;
            round(size, place.path(), &mut Ours { store, newest: None }, &mut ours)?;
            places.push(place);
            if git_is_here {
                let place = tempfile::tempdir()?;
                round(size, place.path(), &mut Git::new(place.path())?, &mut theirs)?;
                places.push(place);
            }
        }
        let name = |task: &str| format!("{task}, {} files x {} B", size.files, size.file_size_bytes);
        let lines = TASKS.iter().zip(ours.into_iter().zip(theirs));
        all.extend(lines.filter_map(|(task, (ours, theirs))| Figures::new(name(task), ours, "git", theirs)));
    }
    Ok(all)
}

/// All tasks once, on a fresh tree and store.
fn round(
    size: TreeSize,
    place: &Path,
    store: &mut dyn Store,
    times: &mut [Vec<Duration>; TASKS.len()],
) -> Result<(), Failure> {
    let tree = place.join("tree");
    size.write(&tree)?;
    let mut time = |task: usize, work: &mut dyn FnMut() -> Result<(), Failure>| {
        let start = Instant::now();
        work()?;
        times[task].push(start.elapsed());
        Ok::<(), Failure>(())
    };
    time(0, &mut || store.capture(&tree, "first"))?;
    time(1, &mut || store.capture(&tree, "same"))?;
    change(size, &tree, 1)?;
    time(2, &mut || store.capture(&tree, "changed"))?;
    time(3, &mut || store.restore(&place.join("copy")))?;
    let captured = std::fs::read(tree.join(TreeSize::path(0)))?;
    change(size, &tree, 2)?;
    time(4, &mut || store.roll_back(&tree))?;
    if std::fs::read(tree.join(TreeSize::path(0)))? != captured {
        return Err("the tree did not come back".into());
    }
    time(5, &mut || store.roll_back(&tree))
}

/// Rewrites some files, spread over the tree.
fn change(size: TreeSize, tree: &Path, seed: u64) -> std::io::Result<()> {
    let count = CHANGED_FILES.min(size.files);
    for number in (0..size.files).step_by(size.files / count).take(count) {
        let text = source_text(seed * 1_000_000 + number as u64, size.file_size_bytes);
        std::fs::write(tree.join(TreeSize::path(number)), text)?;
    }
    Ok(())
}

struct Ours {
    store: CheckpointManager,
    newest: Option<CheckpointId>,
}

impl Ours {
    fn newest(&self) -> Result<CheckpointId, Failure> {
        self.newest.ok_or_else(|| "nothing was captured".into())
    }
}

impl Store for Ours {
    fn capture(&mut self, tree: &Path, name: &str) -> Result<(), Failure> {
        let details = NewCheckpoint { parent: self.newest, ..NewCheckpoint::of(VersionId::new(name)?) };
        let (checkpoint, _) = self.store.create_blocking(&Source::Directory(tree.to_owned()), details)?;
        self.newest = Some(checkpoint.id);
        Ok(())
    }

    fn restore(&mut self, target: &Path) -> Result<(), Failure> {
        self.store.restore_blocking(self.newest()?, target, RestoreMode::Empty)?;
        Ok(())
    }

    fn roll_back(&mut self, tree: &Path) -> Result<(), Failure> {
        self.store.restore_blocking(self.newest()?, tree, RestoreMode::InPlace)?;
        Ok(())
    }
}

struct Git {
    directory: PathBuf,
    tree: PathBuf,
}

impl Git {
    fn new(place: &Path) -> Result<Self, Failure> {
        let git = Self { directory: place.join("store.git"), tree: place.join("tree") };
        std::fs::create_dir(&git.tree)?;
        git.run(&["init", "--quiet"])?;
        Ok(git)
    }

    /// Runs git without any settings of the person who measures.
    fn run(&self, arguments: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new("git");
        for setting in [
            "core.fsync=all",
            "core.fsyncMethod=batch",
            "gc.auto=0",
            "user.name=bench",
            "user.email=bench@example.org",
        ] {
            command.args(["-c", setting]);
        }
        command.arg("--git-dir").arg(&self.directory).arg("--work-tree").arg(&self.tree).args(arguments);
        command.current_dir(&self.tree).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let status = command.stdout(Stdio::null()).status()?;
        if status.success() { Ok(()) } else { Err(format!("git {arguments:?} ended with {status}").into()) }
    }
}

impl Store for Git {
    fn capture(&mut self, _tree: &Path, name: &str) -> Result<(), Failure> {
        self.run(&["add", "--all"])?;
        self.run(&["commit", "--quiet", "--allow-empty", "--message", name])
    }

    fn restore(&mut self, target: &Path) -> Result<(), Failure> {
        std::fs::create_dir(target)?;
        self.run(&["checkout-index", "--all", &format!("--prefix={}/", target.display())])
    }

    fn roll_back(&mut self, _tree: &Path) -> Result<(), Failure> {
        self.run(&["reset", "--quiet", "--hard"])?;
        self.run(&["clean", "--quiet", "--force", "-d"])
    }
}
