//! Walking a workspace with a few threads: what is there, and the contents of what is not known yet.
//!
//! A folder is one task: it is opened relative to the folder above it, listed, and each entry looked at. What the cache
//! vouches for costs one look; everything else is read, hashed and handed to the store on the spot, while the folder is
//! open.

mod entry;
mod folder;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use evoseal_types::EntryPath;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::extras::Attributes;
use crate::ignore_rules::IgnoreRules;
use crate::objects::RecipePart;
use crate::queue::{Queue, thread_count};
use crate::settings::{CaptureOptions, Chunking};
use crate::sink::{BlockBuilder, PackSink};
use crate::stat_cache::{CachedFolder, SeenReader, SeenWriter, StatCache};
use crate::workspace::{Root, Stamp};
use crate::{Error, Result};

/// How often a file or folder that changes under the walk is looked at again before the walk gives it up.
pub(crate) const ATTEMPTS: u32 = 3;
/// Chunks of large files that wait for a thread, at the most: each takes up to a mebibyte.
const CHUNKS_WAITING_MAX: usize = 2;
/// Room for one reading of a folder's list.
const LIST_LEN: usize = 32 << 10;

/// Where the ignore rules come from.
pub(crate) trait RuleSource: Sync {
    /// The contents of the ignore files that count in `folder`, in ascending order of precedence; `None` where those
    /// that stand there now count.
    fn ignore_files(&self, folder: &[u8]) -> Option<Vec<Vec<u8>>>;

    /// Whether the entry counts even where a rule ignores it.
    fn is_wanted(&self, path: &[u8]) -> bool;
}

/// The rules are those in the workspace as it is now.
#[derive(Debug)]
pub(crate) struct PresentRules;

impl RuleSource for PresentRules {
    fn ignore_files(&self, _folder: &[u8]) -> Option<Vec<Vec<u8>>> {
        None
    }

    fn is_wanted(&self, _path: &[u8]) -> bool {
        false
    }
}

/// The rules are those in the workspace as it is now, but for these paths.
#[derive(Debug)]
pub(crate) struct PresentRulesExcept<'a>(pub(crate) &'a BTreeSet<EntryPath>);

impl RuleSource for PresentRulesExcept<'_> {
    fn ignore_files(&self, _folder: &[u8]) -> Option<Vec<Vec<u8>>> {
        None
    }

    fn is_wanted(&self, path: &[u8]) -> bool {
        EntryPath::new(path).is_ok_and(|path| self.0.contains(&path))
    }
}

/// Nothing is ignored.
#[derive(Debug)]
pub(crate) struct NoRules;

impl RuleSource for NoRules {
    fn ignore_files(&self, _folder: &[u8]) -> Option<Vec<Vec<u8>>> {
        Some(Vec::new())
    }

    fn is_wanted(&self, _path: &[u8]) -> bool {
        true
    }
}

/// What to walk, and how.
#[derive(Clone, Copy)]
pub(crate) struct WalkPlan<'a> {
    pub(crate) root: &'a Root,
    pub(crate) rules: &'a dyn RuleSource,
    pub(crate) options: CaptureOptions,
    /// Directories that are left alone, by device and inode: a store that lies inside the workspace.
    pub(crate) excluded: &'a [(u64, u64)],
    pub(crate) cache: &'a StatCache,
    pub(crate) chunking: Chunking,
    /// Where contents go that the store lacks; without it they are only hashed.
    pub(crate) sink: Option<&'a PackSink<'a>>,
    /// Whether the store holds everything that the cache vouches for.
    pub(crate) cache_is_stored: bool,
}

impl std::fmt::Debug for WalkPlan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalkPlan")
            .field("root", self.root)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What stands in a workspace.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    /// By number: a folder has a higher one than the folder that holds it; the root is the first.
    pub(crate) folders: Vec<WalkedFolder<'a>>,
    pub(crate) found: Findings,
}

/// Counts and lists that do not belong to one folder.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) entries_seen: u64,
    pub(crate) files_read: u64,
    pub(crate) bytes_read: u64,
    pub(crate) file_count: u64,
    pub(crate) size_bytes: u64,
    /// Sockets, pipes and devices.
    pub(crate) skipped: Vec<EntryPath>,
    /// Files that lend their owner's or group's rights to whoever runs them.
    pub(crate) lending: Vec<EntryPath>,
    /// What an interrupted restore left behind.
    pub(crate) leftovers: Vec<EntryPath>,
    /// The last change of a file or symlink after the walk began, with its path.
    pub(crate) disturbance: Option<(Stamp, Vec<u8>)>,
    /// The same of a folder.
    pub(crate) folder_disturbance: Option<(Stamp, Vec<u8>)>,
    /// Whether an ignore file counts that is itself not captured.
    pub(crate) has_hidden_rules: bool,
    /// Files and symlinks with several names, by device and inode.
    pub(crate) linked: BTreeMap<(u64, u64), Vec<Vec<u8>>>,
    pub(crate) attributes: BTreeMap<Vec<u8>, Attributes>,
}

/// One folder of a workspace.
#[derive(Debug)]
pub(crate) struct WalkedFolder<'a> {
    pub(crate) path: Vec<u8>,
    pub(crate) device: u64,
    pub(crate) mode: u32,
    /// Whether something in it is ignored or left alone.
    pub(crate) has_kept: bool,
    /// The numbers of the folders in it, in the order of their names.
    pub(crate) children: Vec<u32>,
    pub(crate) entry_count: u32,
    pub(crate) entries: Entries<'a>,
    /// What the cache has about it, if all of it is still so.
    pub(crate) cached: Option<CachedFolder<'a>>,
}

/// What was seen in a folder.
#[derive(Debug)]
pub(crate) enum Entries<'a> {
    Cached(&'a [u8]),
    Seen(Vec<u8>),
}

impl WalkedFolder<'_> {
    pub(crate) fn entry_bytes(&self) -> &[u8] {
        match &self.entries {
            Entries::Cached(bytes) => bytes,
            Entries::Seen(bytes) => bytes,
        }
    }

    /// The entries in ascending order of their names.
    pub(crate) fn entries(&self) -> SeenReader<'_> {
        SeenReader::new(self.entry_bytes(), self.device)
    }
}

/// Why a walk ended early.
#[derive(Debug)]
pub(crate) enum Interruption<'a> {
    /// Something that was listed is gone or of another kind; what was seen until then may serve as a cache.
    Changed {
        path: Vec<u8>,
        seen: Vec<WalkedFolder<'a>>,
    },
    Failed(Error),
}

/// The same inside one folder.
enum Trouble {
    Changed(Vec<u8>),
    Failed(Error),
}

impl Trouble {
    /// How much it says about what went wrong.
    fn weight(&self) -> u8 {
        match self {
            Self::Failed(Error::Interrupted { .. }) => 0,
            Self::Changed(_) => 1,
            Self::Failed(_) => 2,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

enum Task {
    Folder { number: u32, path: Vec<u8>, above: Option<Arc<HeldFolder>>, rules: IgnoreRules },
    Chunk { bytes: Vec<u8>, number: usize, file: Arc<LargeFile> },
}

/// A folder that is open for those inside it.
struct HeldFolder {
    fd: OwnedFd,
    held: Arc<AtomicUsize>,
}

impl Drop for HeldFolder {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A large file whose chunks are hashed and stored by whichever thread is free.
#[derive(Default)]
struct LargeFile {
    waiting: AtomicUsize,
    chunks: Mutex<Vec<(usize, RecipePart)>>,
}

/// Walks the tree once.
pub(crate) fn walk<'a>(plan: &WalkPlan<'a>) -> Result<Walk<'a>, Interruption<'a>> {
    let started = Stamp::now();
    let root = Task::Folder { number: 0, path: Vec::new(), above: None, rules: IgnoreRules::default() };
    let shared = Shared {
        plan,
        started,
        root_device: plan.root.identity().map_err(Interruption::Failed)?.0,
        queue: Queue::new(root),
        next_number: AtomicU32::new(1),
        held: Arc::default(),
        trouble: Mutex::default(),
    };
    let results: Vec<WorkerResult<'a>> = std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..thread_count()).map(|_| scope.spawn(|| Worker::new(&shared).run())).collect();
        let own = Worker::new(&shared).run();
        let joined = others
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(joined).collect()
    });
    let mut found = Findings::default();
    let mut numbered = Vec::new();
    for (findings, folders) in results {
        found.merge(findings);
        numbered.extend(folders);
    }
    numbered.sort_unstable_by_key(|(number, _)| *number);
    let is_complete = numbered.iter().enumerate().all(|(place, (number, _))| place == *number as usize);
    let folders: Vec<WalkedFolder<'a>> = numbered.into_iter().map(|(_, folder)| folder).collect();
    match shared.trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(Trouble::Failed(error)) => Err(Interruption::Failed(error)),
        Some(Trouble::Changed(path)) => Err(Interruption::Changed { path, seen: folders }),
        None => {
            debug_assert!(is_complete, "every folder that was pushed was walked");
            found.skipped.sort();
            found.lending.sort();
            found.leftovers.sort();
            Ok(Walk { folders, found })
        }
    }
}

impl Findings {
    fn merge(&mut self, other: Self) {
        self.entries_seen += other.entries_seen;
        self.files_read += other.files_read;
        self.bytes_read += other.bytes_read;
        self.file_count += other.file_count;
        self.size_bytes += other.size_bytes;
        self.skipped.extend(other.skipped);
        self.lending.extend(other.lending);
        self.leftovers.extend(other.leftovers);
        self.disturbance = self.disturbance.take().max(other.disturbance);
        self.folder_disturbance = self.folder_disturbance.take().max(other.folder_disturbance);
        self.has_hidden_rules |= other.has_hidden_rules;
        for (inode, paths) in other.linked {
            self.linked.entry(inode).or_default().extend(paths);
        }
        self.attributes.extend(other.attributes);
    }
}

struct Shared<'p, 'a> {
    plan: &'p WalkPlan<'a>,
    started: Stamp,
    root_device: u64,
    queue: Queue<Task>,
    next_number: AtomicU32,
    held: Arc<AtomicUsize>,
    trouble: Mutex<Option<Trouble>>,
}

type WorkerResult<'a> = (Findings, Vec<(u32, WalkedFolder<'a>)>);

/// What one thread works with; all of it is used again for the next folder.
struct Worker<'s, 'p, 'a> {
    shared: &'s Shared<'p, 'a>,
    found: Findings,
    folders: Vec<(u32, WalkedFolder<'a>)>,
    list: Vec<u8>,
    /// The names in a folder, each with a NUL after it.
    names: Vec<u8>,
    order: Vec<Name>,
    seen: SeenWriter,
    buffer: Vec<u8>,
    builder: BlockBuilder,
}

#[derive(Clone, Copy)]
struct Name {
    start: usize,
    len: usize,
    kind: FileType,
    inode: u64,
}

impl<'s, 'p, 'a> Worker<'s, 'p, 'a> {
    fn new(shared: &'s Shared<'p, 'a>) -> Self {
        Self {
            shared,
            found: Findings::default(),
            folders: Vec::new(),
            list: Vec::with_capacity(LIST_LEN),
            names: Vec::new(),
            order: Vec::new(),
            seen: SeenWriter::default(),
            buffer: Vec::new(),
            builder: BlockBuilder::default(),
        }
    }

    fn run(mut self) -> WorkerResult<'a> {
        while let Some(task) = self.shared.queue.take() {
            let done = match task {
                Task::Folder { number, path, above, rules } => self.folder(number, path, above, &rules),
                Task::Chunk { bytes, number, file } => {
                    self.chunk(&bytes, number, &file).map_err(Trouble::Failed)
                }
            };
            self.note(done);
            self.shared.queue.done();
        }
        if let Some(sink) = self.shared.plan.sink {
            let flushed = sink.flush(&mut self.builder).map_err(Trouble::Failed);
            self.note(flushed);
        }
        (self.found, self.folders)
    }

    /// Keeps the trouble that says most and ends the walk: a failure before a change, and either before what was cut off
    /// because of it.
    fn note(&self, done: Result<(), Trouble>) {
        let Err(new) = done else { return };
        self.shared.queue.close();
        let mut trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.as_ref().is_none_or(|known| known.weight() < new.weight()) {
            *trouble = Some(new);
        }
    }

    fn name(&self, name: Name) -> &CStr {
        CStr::from_bytes_with_nul(&self.names[name.start..=name.start + name.len])
            .expect("names are kept with the NUL that ends them")
    }

    /// The root must be there; below it, what is gone or is no directory any more has changed since it was listed.
    fn interrupt(&self, action: &'static str, path: &[u8], error: Errno) -> Trouble {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::NODATA if !path.is_empty() => {
                Trouble::Changed(path.to_vec())
            }
            error => Trouble::Failed(self.shared.plan.root.error(action, path, error)),
        }
    }
}

/// The folder whose entries are looked at.
struct Folder<'f> {
    fd: &'f OwnedFd,
    path: &'f [u8],
    device: u64,
    rules: &'f IgnoreRules,
}

/// What became of an entry.
enum Outcome {
    Captured,
    /// It must not be touched: ignored, or left alone.
    Kept,
    /// It is of a kind that is not captured.
    Skipped,
    /// What a restore that was cut off left behind.
    Ours,
    /// A folder to be walked.
    Folder(Vec<u8>),
}

/// Remembers the latest change since the walk began.
fn disturb(latest: &mut Option<(Stamp, Vec<u8>)>, started: Stamp, changed: Stamp, path: &[u8]) {
    if changed >= started && latest.as_ref().is_none_or(|(latest, _)| *latest < changed) {
        *latest = Some((changed, path.to_vec()));
    }
}

fn entry_path(full: &[u8]) -> Result<EntryPath, Trouble> {
    EntryPath::new(full)
        .map_err(|error| Trouble::Failed(Error::Invalid { argument: "workspace", reason: error.to_string() }))
}
