//! The command lines of every program that is measured, ours included.

use std::path::{Path, PathBuf};

use super::process::{PREVIOUS, Step};
use super::systems::{Task, version_of};
use super::{Failure, Operation};

/// A program that keeps captures.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;
    /// Makes an empty store. Not measured.
    fn begin(&self, store: &Path, tree: &Path) -> Vec<Step>;
    /// The programs to start; `None` if this one cannot do it.
    fn steps(&self, store: &Path, task: &Task<'_>) -> Option<Vec<Step>>;
    /// The folder in the tree that the program keeps its store in.
    fn inside(&self) -> Option<&'static str> {
        None
    }
}

/// The program of this name, if it is installed.
pub(crate) fn find(name: &str) -> Result<Option<Box<dyn Peer>>, Failure> {
    let installed = |program: &str, argument: &str| version_of(Path::new(program), argument);
    Ok(match name {
        "evoseal" => {
            let program = std::env::current_exe()?.with_file_name("evoseal");
            if !program.is_file() {
                return Err(format!("{} is not built: cargo build -p evoseal-cli", program.display()).into());
            }
            Some(Box::new(Evoseal { program }))
        }
        "git" | "git-tuned" | "git-durable" => installed("git", "--version").map(|_| {
            let settings = match name {
                "git-tuned" => GIT_TUNED.as_slice(),
                "git-durable" => GIT_DURABLE.as_slice(),
                _ => &[],
            };
            let name = ["git", "git-tuned", "git-durable"].into_iter().find(|known| *known == name);
            Box::new(Git { name: name.unwrap_or("git"), settings }) as Box<dyn Peer>
        }),
        "restic" => installed("restic", "version").map(|said| Box::new(Restic::of(&said)) as Box<dyn Peer>),
        "borg" => installed("borg", "--version").map(|_| Box::new(Borg) as Box<dyn Peer>),
        "bupstash" => installed("bupstash", "version").map(|_| Box::new(Bupstash) as Box<dyn Peer>),
        "cp" => installed("cp", "--version").map(|_| Box::new(Copying) as Box<dyn Peer>),
        "tar-lz4" => installed("lz4", "--version").map(|_| Box::new(Tar) as Box<dyn Peer>),
        other => {
            return Err(format!(
                "no system is called {other:?}; there are {}",
                super::systems::NAMES.join(", ")
            )
            .into());
        }
    })
}

/// The version of a program that is measured.
pub(crate) fn version(name: &str) -> Option<String> {
    let (program, argument) = match name {
        "git" => ("git", "--version"),
        "restic" => ("restic", "version"),
        "borg" => ("borg", "--version"),
        "bupstash" => ("bupstash", "version"),
        "tar-lz4" => ("lz4", "--version"),
        _ => return None,
    };
    version_of(Path::new(program), argument)
}

struct Evoseal {
    program: PathBuf,
}

impl Peer for Evoseal {
    fn name(&self) -> &'static str {
        "evoseal"
    }

    /// Any command makes the store.
    fn begin(&self, _store: &Path, tree: &Path) -> Vec<Step> {
        vec![Step::new(&self.program, tree).arguments(["checkpoint", "stats"])]
    }

    fn steps(&self, _store: &Path, task: &Task<'_>) -> Option<Vec<Step>> {
        let tree = &task.tree.root;
        let step = Step::new(&self.program, tree).arguments(["--quiet"]);
        let version = format!("v{}", task.number);
        Some(vec![match task.operation {
            Operation::Restore => {
                step.arguments(["checkpoint", "restore", &version, &task.target.to_string_lossy()])
            }
            Operation::RollBack => {
                step.arguments(["checkpoint", "restore", &version, &tree.to_string_lossy(), "--in-place"])
            }
            Operation::Remove => step.arguments(["gc", "--keep", &task.keep.to_string()]),
            _ => step.arguments(["checkpoint", "create", &version]),
        }])
    }

    fn inside(&self) -> Option<&'static str> {
        Some(".evoseal")
    }
}

/// Git with a repository outside the tree, without anyone's settings.
struct Git {
    name: &'static str,
    settings: &'static [&'static str],
}

const GIT_TUNED: [&str; 7] = [
    "core.untrackedCache=true",
    "core.preloadIndex=true",
    "index.version=4",
    "index.skipHash=true",
    "feature.manyFiles=true",
    "core.looseCompression=1",
    "checkout.workers=2",
];
const GIT_DURABLE: [&str; 2] = ["core.fsync=all", "core.fsyncMethod=batch"];
const GIT_ALWAYS: [&str; 4] =
    ["gc.auto=0", "maintenance.auto=false", "user.name=bench", "user.email=bench@example.org"];

impl Git {
    fn step(store: &Path, tree: &Path) -> Step {
        Step::new("git", tree)
            .environment("GIT_DIR", store.join("repository").to_string_lossy())
            .environment("GIT_WORK_TREE", tree.to_string_lossy())
            .environment("GIT_CONFIG_GLOBAL", "/dev/null")
            .environment("GIT_CONFIG_NOSYSTEM", "1")
    }

    fn reference(number: u64) -> String {
        format!("refs/checkpoints/{number}")
    }
}

impl Peer for Git {
    fn name(&self) -> &'static str {
        self.name
    }

    fn begin(&self, store: &Path, tree: &Path) -> Vec<Step> {
        let init = Step::new("git", tree)
            .arguments(["init", "--quiet", "--bare"])
            .arguments([store.join("repository").to_string_lossy()]);
        let settings = GIT_ALWAYS.iter().chain(self.settings).filter_map(|setting| setting.split_once('='));
        let set = |(key, value)| Self::step(store, tree).arguments(["config", key, value]);
        std::iter::once(init).chain(settings.map(set)).collect()
    }

    /// Each capture is a commit without a parent under a name of its own, so that any of them can be removed.
    fn steps(&self, store: &Path, task: &Task<'_>) -> Option<Vec<Step>> {
        let tree = &task.tree.root;
        let git = || Self::step(store, tree);
        let newest = Self::reference(task.number);
        Some(match task.operation {
            Operation::Restore => {
                let index = store.join(format!("index-{}", task.number));
                let restore = git().environment("GIT_INDEX_FILE", index.to_string_lossy());
                let restore = restore.environment("GIT_WORK_TREE", task.target.to_string_lossy());
                vec![restore.arguments(["read-tree", "--reset", "-u", &newest])]
            }
            Operation::RollBack => vec![
                git().arguments(["read-tree", "--reset", "-u", &newest]),
                git().arguments(["clean", "-fdq"]),
            ],
            Operation::Remove => {
                let gone = 1..=task.number.saturating_sub(task.keep);
                let lines = gone.map(|number| format!("delete {}", Self::reference(number)));
                vec![
                    git()
                        .arguments(["update-ref", "--stdin"])
                        .input(lines.collect::<Vec<_>>().join("\n") + "\n"),
                    git().arguments(["gc", "--quiet", "--prune=now"]),
                ]
            }
            _ => vec![
                git().arguments(["add", "--all"]),
                git().arguments(["write-tree"]),
                git().arguments(["commit-tree", PREVIOUS, "-m", &newest]),
                git().arguments(["update-ref", &newest, PREVIOUS]),
            ],
        })
    }
}

/// What this version of restic can do.
struct Restic {
    has_no_scan: bool,
    restores_in_place: bool,
}

impl Restic {
    fn of(said: &str) -> Self {
        let minor = said.split_whitespace().nth(1).and_then(|version| version.split('.').nth(1));
        let minor: u32 = minor.and_then(|minor| minor.parse().ok()).unwrap_or(0);
        Self { has_no_scan: minor >= 15, restores_in_place: minor >= 17 }
    }

    fn step(store: &Path, tree: &Path) -> Step {
        Step::new("restic", tree)
            .environment("RESTIC_PASSWORD", "bench")
            .environment("RESTIC_REPOSITORY", store.join("repository").to_string_lossy())
            .arguments(["-q", "--no-cache"])
    }
}

impl Peer for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn begin(&self, store: &Path, tree: &Path) -> Vec<Step> {
        vec![Self::step(store, tree).arguments(["init"])]
    }

    fn steps(&self, store: &Path, task: &Task<'_>) -> Option<Vec<Step>> {
        let (tree, step) = (&task.tree.root, Self::step(store, &task.tree.root));
        let step = match task.operation {
            Operation::Restore => {
                step.arguments(["restore", "latest", "--target", &task.target.to_string_lossy()])
            }
            // Before 0.17 a restore rewrites every file and leaves what is new: another task.
            Operation::RollBack if !self.restores_in_place => return None,
            Operation::RollBack => step
                .arguments(["restore", "latest", "--target", &tree.to_string_lossy()])
                .arguments(["--overwrite", "if-changed", "--delete"]),
            Operation::Remove => step.arguments(["forget", "--keep-last", &task.keep.to_string(), "--prune"]),
            _ if self.has_no_scan => step.arguments(["backup", "--no-scan", "."]),
            _ => step.arguments(["backup", "."]),
        };
        Some(vec![step])
    }
}

struct Borg;

impl Borg {
    fn step(store: &Path, directory: &Path) -> Step {
        Step::new("borg", directory)
            .environment("BORG_BASE_DIR", store.join("base").to_string_lossy())
            .environment("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
            .environment("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes")
            .environment("BORG_REPO", store.join("repository").to_string_lossy())
    }
}

impl Peer for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn begin(&self, store: &Path, tree: &Path) -> Vec<Step> {
        vec![Self::step(store, tree).arguments(["init", "--encryption", "none"])]
    }

    fn steps(&self, store: &Path, task: &Task<'_>) -> Option<Vec<Step>> {
        let step = || Self::step(store, &task.tree.root);
        let archive = format!("::a{}", task.number);
        Some(match task.operation {
            Operation::Restore => vec![Self::step(store, task.target).arguments(["extract", &archive])],
            Operation::RollBack => return None,
            Operation::Remove => vec![
                step().arguments(["prune", "--keep-last", &task.keep.to_string()]),
                step().arguments(["compact"]),
            ],
            _ => vec![step().arguments(["create", "--compression", "lz4", &archive, "."])],
        })
    }
}

struct Bupstash;

impl Bupstash {
    fn step(store: &Path, tree: &Path) -> Step {
        Step::new("bupstash", tree)
            .environment("BUPSTASH_REPOSITORY", store.join("repository").to_string_lossy())
            .environment("BUPSTASH_KEY", store.join("key").to_string_lossy())
            .environment("BUPSTASH_SEND_LOG", store.join("send-log").to_string_lossy())
            .environment("BUPSTASH_QUERY_CACHE", store.join("query-cache").to_string_lossy())
    }
}

impl Peer for Bupstash {
    fn name(&self) -> &'static str {
        "bupstash"
    }

    fn begin(&self, store: &Path, tree: &Path) -> Vec<Step> {
        vec![
            Self::step(store, tree).arguments(["init"]),
            Self::step(store, tree)
                .arguments(["new-key", "-o"])
                .arguments([store.join("key").to_string_lossy()]),
        ]
    }

    fn steps(&self, store: &Path, task: &Task<'_>) -> Option<Vec<Step>> {
        let tree = &task.tree.root;
        let step = || Self::step(store, tree);
        let name = format!("n={}", task.number);
        let restore =
            |into: &Path| step().arguments(["restore", "-q", "--into", &into.to_string_lossy(), &name]);
        Some(match task.operation {
            Operation::Restore => vec![restore(task.target)],
            Operation::RollBack => vec![restore(tree)],
            Operation::Remove => return None,
            _ => vec![
                step()
                    .arguments(["put", "-q", "--compression", "lz4", &name, "::"])
                    .arguments([tree.to_string_lossy()]),
            ],
        })
    }
}

struct Copying;

impl Peer for Copying {
    fn name(&self) -> &'static str {
        "cp"
    }

    fn begin(&self, _store: &Path, _tree: &Path) -> Vec<Step> {
        Vec::new()
    }

    fn steps(&self, store: &Path, task: &Task<'_>) -> Option<Vec<Step>> {
        let step = Step::new("cp", &task.tree.root);
        let copy = store.join("copy");
        match task.operation {
            Operation::First => Some(vec![step.arguments(["-a", ".", &copy.to_string_lossy()])]),
            Operation::Restore => {
                let from = copy.join(".");
                Some(vec![step.arguments(["-a", &from.to_string_lossy(), &task.target.to_string_lossy()])])
            }
            _ => None,
        }
    }
}

struct Tar;

impl Peer for Tar {
    fn name(&self) -> &'static str {
        "tar-lz4"
    }

    fn begin(&self, _store: &Path, _tree: &Path) -> Vec<Step> {
        Vec::new()
    }

    fn steps(&self, store: &Path, task: &Task<'_>) -> Option<Vec<Step>> {
        let archive = store.join("tree.tar.lz4");
        let archive = archive.to_string_lossy();
        match task.operation {
            Operation::First => {
                let step = Step::new("tar", &task.tree.root);
                Some(vec![step.arguments(["-I", "lz4 -q -1", "-cf", &archive, "."])])
            }
            Operation::Restore => {
                Some(vec![Step::new("tar", task.target).arguments(["-I", "lz4 -q", "-xf", &archive])])
            }
            _ => None,
        }
    }
}
