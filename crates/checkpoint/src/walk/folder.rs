//! Opening a folder, listing it, and handing on the folders in it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags, RawDir, Stat, fstat, openat};
use rustix::io::Errno;

use super::{Entries, Folder, HeldFolder, Name, Outcome, Task, Trouble, WalkedFolder, Worker, disturb};
use crate::Error;
use crate::ignore_rules::IgnoreRules;
use crate::page::DIRECTORY_MODE_MASK;
use crate::stat_cache::{CachedFolder, SeenReader};
use crate::workspace::FileStat;

/// Folders that are kept open for those inside them, at the most. Beyond, they are opened from the root again.
const HELD_OPEN_MAX: usize = 24;

impl<'a> Worker<'_, '_, 'a> {
    /// Looks at one folder: opens it, lists it, looks at each entry, and queues the folders in it.
    pub(super) fn folder(
        &mut self,
        number: u32,
        path: Vec<u8>,
        above: Option<Arc<HeldFolder>>,
        rules: &IgnoreRules,
    ) -> Result<(), Trouble> {
        let fd = self
            .open_folder(&path, above.as_deref())
            .map_err(|error| self.interrupt("open", &path, error))?;
        drop(above);
        self.read_names(&fd).map_err(|error| self.interrupt("list", &path, error))?;
        // After the list was read: whatever was added or taken away since the walk began shows in the folder's times.
        let stat = fstat(&fd).map_err(|error| self.interrupt("read", &path, error))?;
        let device = stat.st_dev;
        if device != self.shared.root_device {
            return Err(Trouble::Failed(Error::Invalid {
                argument: "workspace",
                reason: format!(
                    "{} is on another file system, which no checkpoint reaches; exclude it in .evosealignore or unmount it",
                    self.shared.plan.root.shown(&path).display()
                ),
            }));
        }
        disturb(&mut self.found.folder_disturbance, self.shared.started, FileStat::of(&stat).changed, &path);
        if self.shared.plan.options.keep_mtimes || self.shared.plan.options.keep_xattrs {
            self.attributes(&fd, c".", &path, &stat)?;
        }
        let rules = self.rules_inside(&path, &fd, rules)?;
        let cached = self.shared.plan.cache.folder(&path).filter(|cached| cached.device == device);
        let mut known = cached
            .map_or(SeenReader::new(&[], 0), |cached| SeenReader::new(cached.entries, device))
            .peekable();
        let mut children = Vec::new();
        let mut has_kept = false;
        self.seen.bytes.clear();
        self.seen.count = 0;
        let folder = Folder { fd: &fd, path: &path, device, rules: &rules };
        for place in 0..self.order.len() {
            let name = self.order[place];
            self.found.entries_seen += 1;
            let bytes = &self.names[name.start..name.start + name.len];
            while known.peek().is_some_and(|seen| seen.name < bytes) {
                known.next();
            }
            let before = known.peek().filter(|seen| seen.name == bytes).copied();
            match self.entry(&folder, name, before)? {
                Outcome::Captured | Outcome::Skipped | Outcome::Ours => {}
                Outcome::Kept => has_kept = true,
                Outcome::Folder(full) => children.push(full),
            }
        }
        self.finish_folder(number, path, fd, &rules, &stat, has_kept, children, cached);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the end of one function, cut out for length only")]
    fn finish_folder(
        &mut self,
        number: u32,
        path: Vec<u8>,
        fd: OwnedFd,
        rules: &IgnoreRules,
        stat: &Stat,
        has_kept: bool,
        children: Vec<Vec<u8>>,
        cached: Option<CachedFolder<'a>>,
    ) {
        let count = u32::try_from(children.len()).expect("a page limits what a folder holds");
        let first = self.shared.next_number.fetch_add(count, Ordering::Relaxed);
        let mode = stat.st_mode & DIRECTORY_MODE_MASK;
        let is_same = |cached: &CachedFolder<'_>| {
            cached.entries == self.seen.bytes && cached.has_kept == has_kept && cached.mode == mode
        };
        let cached = cached.filter(is_same);
        let entries = match cached {
            Some(cached) => Entries::Cached(cached.entries),
            None => Entries::Seen(self.seen.bytes.clone()),
        };
        let numbers = first..first + count;
        let folder = WalkedFolder {
            path,
            device: stat.st_dev,
            mode,
            has_kept,
            children: numbers.clone().collect(),
            entry_count: self.seen.count,
            entries,
            cached,
        };
        self.folders.push((number, folder));
        if count == 0 {
            return;
        }
        let above = self.hold(fd);
        let tasks = numbers.zip(children).map(|(number, path)| Task::Folder {
            number,
            path,
            above: above.clone(),
            rules: rules.clone(),
        });
        // The first one is to be taken first.
        let tasks: Vec<Task> = tasks.collect();
        self.shared.queue.push(tasks.into_iter().rev());
    }

    fn open_folder(&self, path: &[u8], above: Option<&HeldFolder>) -> Result<OwnedFd, Errno> {
        let Some(above) = above else { return self.shared.plan.root.directory(path) };
        let name = &path[path.iter().rposition(|byte| *byte == b'/').map_or(0, |place| place + 1)..];
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(&above.fd, name, flags, Mode::empty())
    }

    fn hold(&self, fd: OwnedFd) -> Option<Arc<HeldFolder>> {
        let held = &self.shared.held;
        if held.fetch_add(1, Ordering::Relaxed) >= HELD_OPEN_MAX {
            held.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Arc::new(HeldFolder { fd, held: Arc::clone(held) }))
    }

    /// All names in a folder, sorted.
    fn read_names(&mut self, fd: &OwnedFd) -> Result<(), Errno> {
        self.names.clear();
        self.order.clear();
        let mut entries = RawDir::new(fd, self.list.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if !matches!(name, b".\0" | b"..\0") {
                let start = self.names.len();
                self.names.extend_from_slice(name);
                self.order.push(Name {
                    start,
                    len: name.len() - 1,
                    kind: entry.file_type(),
                    inode: entry.ino(),
                });
            }
        }
        let names = &self.names;
        self.order.sort_unstable_by(|left, right| {
            names[left.start..left.start + left.len].cmp(&names[right.start..right.start + right.len])
        });
        Ok(())
    }
}
