//! The systems that are measured: ours twice, its peers, and the floors.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evoseal_checkpoint::{CheckpointManager, NewCheckpoint, RestoreMode, Source};
use evoseal_tests::measure::Times;
use evoseal_types::{CheckpointId, VersionId};

use super::floor::{self, Loaded};
use super::process::{Cost, Plan};
use super::trees::Edited;
use super::{Failure, Operation, peers};

/// One measured operation on one system.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) operation: Operation,
    /// The capture's number, from 1 in each store; for other operations the newest one.
    pub(crate) number: u64,
    pub(crate) tree: &'a Edited,
    /// The folder that a restore writes to; it exists and is empty.
    pub(crate) target: &'a Path,
    /// How many captures a removal leaves.
    pub(crate) keep: u64,
}

/// Something that captures trees.
pub(crate) trait System {
    fn name(&self) -> String;
    /// Makes an empty store in a folder that exists. Not measured.
    fn begin(&mut self, store: &Path, tree: &Path) -> Result<(), Failure>;
    /// Does it; `None` if the system cannot.
    fn run(&mut self, task: &Task<'_>) -> Result<Option<Cost>, Failure>;
    /// The programs that the task starts, where it is a whole process.
    fn plan(&self, _task: &Task<'_>) -> Option<Plan> {
        None
    }
    /// What counts as the store, in the folder it was begun in.
    fn stored(&self, store: &Path) -> PathBuf {
        store.to_owned()
    }
    /// A folder that the system must have inside the tree, kept apart from it while others work.
    fn inside(&self) -> Option<&'static str> {
        None
    }
}

/// All names, in the order of the first round.
pub(crate) const NAMES: [&str; 12] = [
    "evoseal",
    "library",
    "git",
    "git-tuned",
    "git-durable",
    "restic",
    "borg",
    "bupstash",
    "cp",
    "tar-lz4",
    "floor",
    "floor-library",
];

/// The systems of these names that are installed, and the versions of those that are programs.
pub(crate) fn find(names: &[String]) -> Result<Vec<Box<dyn System>>, Failure> {
    let mut found: Vec<Box<dyn System>> = Vec::new();
    for name in names {
        match name.as_str() {
            "library" => found.push(Box::new(Library::default())),
            "floor" => found.push(Box::new(Floor { in_process: false, store: PathBuf::new() })),
            "floor-library" => found.push(Box::new(Floor { in_process: true, store: PathBuf::new() })),
            other => match peers::find(other)? {
                Some(peer) => found.push(Box::new(Program { peer, store: PathBuf::new() })),
                None if other == "git" => return Err("git is required and was not found".into()),
                None => {}
            },
        }
    }
    Ok(found)
}

/// The first line that a program says about its version.
pub(crate) fn version_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// A system whose every operation is a sequence of whole processes.
struct Program {
    peer: Box<dyn peers::Peer>,
    store: PathBuf,
}

impl System for Program {
    fn name(&self) -> String {
        self.peer.name().to_owned()
    }

    fn begin(&mut self, store: &Path, tree: &Path) -> Result<(), Failure> {
        store.clone_into(&mut self.store);
        for step in self.peer.begin(store, tree) {
            Plan::new([step]).measure()?;
        }
        if let Some(inside) = self.inside() {
            std::fs::rename(tree.join(inside), store.join(inside))?;
        }
        Ok(())
    }

    fn run(&mut self, task: &Task<'_>) -> Result<Option<Cost>, Failure> {
        self.plan(task).map(|plan| plan.measure()).transpose()
    }

    fn plan(&self, task: &Task<'_>) -> Option<Plan> {
        self.peer.steps(&self.store, task).map(Plan::new)
    }

    fn stored(&self, store: &Path) -> PathBuf {
        self.peer.inside().map_or_else(|| store.to_owned(), |inside| store.join(inside))
    }

    fn inside(&self) -> Option<&'static str> {
        self.peer.inside()
    }
}

/// Measures a call in this process.
fn in_process(work: impl FnOnce() -> Result<(), Failure>) -> Result<Option<Cost>, Failure> {
    let (times, result) = Times::of(work);
    result?;
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    Ok(Some(Cost { wall_ms: ms(times.wall), cpu_ms: ms(times.cpu), peak_memory_bytes: None }))
}

/// Our library, opened once and called in this process, as a loop uses it.
#[derive(Default)]
struct Library {
    store: Option<CheckpointManager>,
    newest: Option<CheckpointId>,
}

impl System for Library {
    fn name(&self) -> String {
        "library".to_owned()
    }

    fn begin(&mut self, store: &Path, _tree: &Path) -> Result<(), Failure> {
        let settings = evoseal_checkpoint::CheckpointSettings { auto_cleanup: false, ..Default::default() };
        self.store =
            Some(CheckpointManager::builder().settings(settings).directory(store.join("store")).create()?);
        self.newest = None;
        Ok(())
    }

    fn run(&mut self, task: &Task<'_>) -> Result<Option<Cost>, Failure> {
        let store = self.store.as_ref().ok_or("the store was not begun")?;
        let newest = self.newest.ok_or("nothing was captured");
        match task.operation {
            Operation::Restore => in_process(|| {
                store.restore_blocking(newest?, task.target, RestoreMode::Empty)?;
                Ok(())
            }),
            Operation::RollBack => in_process(|| {
                store.restore_blocking(newest?, &task.tree.root, RestoreMode::InPlace)?;
                Ok(())
            }),
            Operation::Remove => in_process(|| {
                let listed = store.list_blocking()?;
                let surplus =
                    evoseal_checkpoint::surplus(&listed, task.keep, &std::collections::BTreeSet::new())?;
                store.delete_blocking(&surplus)?;
                Ok(())
            }),
            _ => {
                let version = VersionId::new(format!("v{}", task.number))?;
                let details = NewCheckpoint { parent: self.newest, ..NewCheckpoint::of(version) };
                let source = Source::Directory(task.tree.root.clone());
                let mut made = None;
                let cost = in_process(|| {
                    made = Some(store.create_blocking(&source, details)?.0.id);
                    Ok(())
                });
                self.newest = made;
                cost
            }
        }
    }
}

/// The least that any system must do.
struct Floor {
    in_process: bool,
    store: PathBuf,
}

impl System for Floor {
    fn name(&self) -> String {
        if self.in_process { "floor-library" } else { "floor" }.to_owned()
    }

    fn begin(&mut self, store: &Path, _tree: &Path) -> Result<(), Failure> {
        store.clone_into(&mut self.store);
        Ok(())
    }

    fn run(&mut self, task: &Task<'_>) -> Result<Option<Cost>, Failure> {
        match task.operation {
            Operation::Remove => Ok(None),
            // A process would have to read the tree first. Measured without that, and without the start of a process.
            Operation::Restore => {
                let loaded = Loaded::read(&task.tree.root)?;
                in_process(|| loaded.write(task.target))
            }
            _ if self.in_process => {
                in_process(|| work(task.operation, &task.tree.root, &self.store, &paths(task)))
            }
            operation => {
                let step = super::process::Step::new(std::env::current_exe()?, &self.store)
                    .arguments([FLOOR.to_owned(), serde_json::to_string(&operation)?])
                    .arguments([super::text(&task.tree.root)?, super::text(&self.store)?])
                    .arguments(paths(task).iter().map(|path| path.to_string_lossy().into_owned()));
                Plan::new([step]).measure().map(Some)
            }
        }
    }
}

/// The hidden subject under which this program does a floor's work.
pub(crate) const FLOOR: &str = "floor";

fn paths(task: &Task<'_>) -> Vec<PathBuf> {
    task.tree.files.iter().map(|file| file.path.clone()).collect()
}

/// A floor's work. `edited` are the files that changed, relative to the tree.
pub(crate) fn work(
    operation: Operation,
    tree: &Path,
    store: &Path,
    edited: &[PathBuf],
) -> Result<(), Failure> {
    match operation {
        Operation::First => floor::capture(tree, store).map(|_| ()),
        Operation::Same | Operation::RollBack => floor::walk(tree).map(|_| ()),
        _ => {
            let walked = floor::walk(tree)?;
            let changed: Vec<_> =
                walked.files.into_iter().filter(|file| edited.contains(&file.path)).collect();
            let large = changed.iter().any(|file| file.size_bytes > 64 << 20);
            if large {
                floor::hash_files(tree, &changed)
            } else {
                floor::capture_files(tree, &changed, store).map(|_| ())
            }
        }
    }
}
