//! Rounds over one tree: every operation, every system, in turns.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::floor::walk;
use super::process::Cost;
use super::systems::{System, Task};
use super::trees::{Edited, Tree, disk_bytes};
use super::{Failure, Operation, peers};

/// Trees with more files are not run once more under `strace`.
const TRACED_FILES_MAX: usize = 20_000;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rounds: u64,
    /// What the peers say about their versions.
    pub(crate) versions: Vec<String>,
    pub(crate) trees: Vec<About>,
    pub(crate) figures: Vec<Figure>,
}

/// A tree's size.
#[derive(Debug, Serialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) files: usize,
    pub(crate) folders: usize,
    pub(crate) size_bytes: u64,
}

/// One system at one operation on one tree.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) tree: String,
    pub(crate) system: String,
    pub(crate) operation: Operation,
    /// By round.
    pub(crate) costs: Vec<Cost>,
    /// What the store takes on disk after the operation, by round.
    pub(crate) store_bytes: Vec<u64>,
    /// Calls that wait for a disk, where they could be counted.
    pub(crate) syncs: Option<u64>,
}

impl Report {
    pub(crate) fn new(systems: &[String], rounds: u64) -> Self {
        let versions = systems.iter().filter_map(|name| peers::version(name)).collect();
        Self { rounds, versions, trees: Vec::new(), figures: Vec::new() }
    }

    /// Where the figures of a system at an operation are gathered.
    pub(crate) fn figure(&mut self, tree: &str, system: &str, operation: Operation) -> &mut Figure {
        let known =
            |figure: &Figure| figure.tree == tree && figure.system == system && figure.operation == operation;
        let position = self.figures.iter().position(known).unwrap_or_else(|| {
            let (tree, system) = (tree.to_owned(), system.to_owned());
            self.figures.push(Figure {
                tree,
                system,
                operation,
                costs: Vec::new(),
                store_bytes: Vec::new(),
                syncs: None,
            });
            self.figures.len() - 1
        });
        &mut self.figures[position]
    }
}

/// A tree and the folder in which everything about it happens.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) tree: Edited,
    place: PathBuf,
    is_big: bool,
    files: usize,
    handle: File,
}

impl Session {
    pub(crate) fn new(tree: &Tree, root: &Path, place: &Path) -> Result<Self, Failure> {
        let files = walk(root)?.files.len();
        let edited = Edited::new(root, tree)?;
        let handle = File::open(place)?;
        Ok(Self {
            name: tree.name(),
            tree: edited,
            place: place.to_owned(),
            is_big: *tree == Tree::Big,
            files,
            handle,
        })
    }

    pub(crate) fn about(&self) -> Result<About, Failure> {
        let walked = walk(&self.tree.root)?;
        let name = self.name.clone();
        Ok(About {
            name,
            files: walked.files.len(),
            folders: walked.folders.len(),
            size_bytes: walked.size_bytes(),
        })
    }

    /// A folder beside the tree, made where it is missing.
    pub(crate) fn folder(&self, name: &str) -> std::io::Result<PathBuf> {
        let folder = self.place.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Measures all rounds, and counts the waits for the disk in one more whose times are dropped.
    pub(crate) fn measure(
        &self,
        systems: &mut [Box<dyn System>],
        rounds: u64,
        report: &mut Report,
    ) -> Result<(), Failure> {
        for round in 0..rounds {
            super::say(&format!("tree {}, round {} of {rounds}", self.name, round + 1));
            self.round(systems, round, Some(report))?;
        }
        let traced = super::systems::version_of(Path::new("strace"), "--version").is_some();
        if traced && !self.is_big && self.files <= TRACED_FILES_MAX {
            for (system, operation, syncs) in self.round(systems, rounds, None)? {
                report.figure(&self.name, &system, operation).syncs = Some(syncs);
            }
        }
        Ok(())
    }

    /// One round; without a report it counts the waits for the disk.
    fn round(
        &self,
        systems: &mut [Box<dyn System>],
        round: u64,
        mut report: Option<&mut Report>,
    ) -> Result<Vec<(String, Operation, u64)>, Failure> {
        use Operation::{Changed, First, Inserted, Restore, RollBack, Same};
        let operations: &[Operation] = if self.is_big {
            &[First, Same, Changed, Inserted, Restore, RollBack]
        } else {
            &[First, Same, Changed, Restore, RollBack]
        };
        let stores: Vec<PathBuf> =
            (0..systems.len()).map(|n| self.place.join(format!("store-{round}-{n}"))).collect();
        for (system, store) in systems.iter_mut().zip(&stores) {
            std::fs::create_dir(store)?;
            system.begin(store, &self.tree.root)?;
        }
        let mut number = 0;
        let mut counted = Vec::new();
        for (step, &operation) in operations.iter().enumerate() {
            number += u64::from(operation.captures());
            match operation {
                Changed => self.tree.change(self.tree.files.len(), round * 100)?,
                Inserted => self.tree.insert(round)?,
                _ => {}
            }
            for turn in order(systems.len(), round) {
                let (system, store) = (&mut systems[turn], &stores[turn]);
                let target = self.place.join(format!("restored-{round}-{step}-{turn}"));
                let task = Task { operation, number, tree: &self.tree, target: &target, keep: 0 };
                if report.is_none() {
                    counted.extend(self.count(&mut **system, store, &task)?);
                } else if let Some(cost) = self.run(&mut **system, store, &task)?
                    && let Some(report) = report.as_deref_mut()
                {
                    let stored = disk_bytes(&system.stored(store))?;
                    let figure = report.figure(&self.name, &system.name(), operation);
                    figure.costs.push(cost);
                    figure.store_bytes.push(stored);
                }
            }
        }
        Ok(counted)
    }

    /// Runs one task and checks what came of it.
    pub(crate) fn run(
        &self,
        system: &mut dyn System,
        store: &Path,
        task: &Task<'_>,
    ) -> Result<Option<Cost>, Failure> {
        self.prepared(system, store, task, |system| system.run(task))
    }

    /// Runs one task under `strace`.
    fn count(
        &self,
        system: &mut dyn System,
        store: &Path,
        task: &Task<'_>,
    ) -> Result<Option<(String, Operation, u64)>, Failure> {
        let Some(plan) = system.plan(task) else { return Ok(None) };
        let listing = self.place.join("syncs");
        let syncs = self.prepared(system, store, task, |_| plan.count_syncs(&listing).map(Some))?;
        Ok(syncs.map(|syncs| (system.name(), task.operation, syncs)))
    }

    /// Brings the tree into the state that a task starts from, and compares it afterwards.
    fn prepared<T>(
        &self,
        system: &mut dyn System,
        store: &Path,
        task: &Task<'_>,
        work: impl FnOnce(&mut dyn System) -> Result<Option<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let root = &self.tree.root;
        let before = self.tree.state()?;
        let contents = if task.operation == Operation::RollBack { self.tree.contents()? } else { Vec::new() };
        let extra = root.join("new-file.txt");
        if task.operation == Operation::RollBack {
            self.tree.change(self.tree.files.len(), 77)?;
            std::fs::write(&extra, "a new file\n")?;
        }
        if task.operation == Operation::Restore {
            std::fs::create_dir(task.target)?;
        }
        let inside = system.inside().map(|name| (root.join(name), store.join(name)));
        if let Some((here, kept)) = inside.as_ref().filter(|(_, kept)| kept.exists()) {
            std::fs::rename(kept, here)?;
        }
        rustix::fs::syncfs(&self.handle)?;
        let result = work(system);
        if let Some((here, kept)) = inside.filter(|(here, _)| here.exists()) {
            std::fs::rename(here, kept)?;
        }
        let name = system.name();
        let result = result.map_err(|error| format!("{name}, {}: {error}", task.operation.name()))?;
        let is_floor = name.starts_with("floor");
        if task.operation == Operation::RollBack {
            if result.is_some() && !is_floor && (self.tree.state()? != before || extra.exists()) {
                return Err(format!("{name} did not bring the tree back").into());
            }
            // By hand for those that cannot.
            if extra.exists() {
                std::fs::remove_file(&extra)?;
                self.tree.put_back(&contents)?;
            }
        }
        if task.operation == Operation::Restore && result.is_some() {
            let (there, here) = (walk(task.target)?.files.len(), walk(root)?.files.len());
            if there != here {
                return Err(format!("{name} restored {there} of {here} files").into());
            }
        }
        Ok(result)
    }
}

/// Who is first, second and so on: another in each round, and in every other round backwards.
fn order(count: usize, round: u64) -> Vec<usize> {
    let first = usize::try_from(round).unwrap_or(0) % count.max(1);
    let mut order: Vec<usize> = (0..count).map(|place| (place + first) % count).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_has_its_turn_and_none_is_always_first() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| order(3, round)).collect();
        assert_eq!(rounds, [[0, 1, 2], [0, 2, 1], [2, 0, 1], [2, 1, 0]]);
    }
}
