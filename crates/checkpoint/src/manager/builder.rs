//! How a manager is put together, and a store opened or made.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use evoseal_types::{Clock, SystemClock};

use super::CheckpointManager;
use crate::backend::ObjectBackend;
use crate::catalog;
use crate::engine::{Engine, Gate, State};
use crate::local::LocalBackend;
use crate::memory::MemoryBackend;
use crate::reserve::Reserve;
use crate::settings::CheckpointSettings;
use crate::stat_cache::StatCacheFolder;
use crate::{Error, Result};

/// Puts a [`CheckpointManager`] together.
#[derive(Debug, Clone)]
pub struct CheckpointManagerBuilder {
    place: Option<Place>,
    clock: Arc<dyn Clock>,
    settings: CheckpointSettings,
    stat_cache_directory: Option<PathBuf>,
}

/// Where the bytes of a new manager are.
#[derive(Debug, Clone)]
enum Place {
    Directory(PathBuf),
    Backend(Arc<dyn ObjectBackend>),
}

impl CheckpointManagerBuilder {
    /// Without further word the store is in the directory that the settings name, and the time is the system's.
    pub(super) fn new() -> Self {
        Self {
            place: None,
            clock: Arc::new(SystemClock::new()),
            settings: CheckpointSettings::default(),
            stat_cache_directory: None,
        }
    }

    /// Keeps the store in a directory of the local file system.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.place = Some(Place::Directory(directory.into()));
        self
    }

    /// Keeps the store in memory.
    pub fn in_memory(self) -> Self {
        self.backend(Arc::new(MemoryBackend::new()))
    }

    /// Keeps the store in any backend.
    pub fn backend(mut self, backend: Arc<dyn ObjectBackend>) -> Self {
        self.place = Some(Place::Backend(backend));
        self
    }

    /// Where the times of checkpoints come from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces the settings.
    pub fn settings(mut self, settings: CheckpointSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Where the hints about unchanged files are kept between processes. Default: `cache` in the store's directory, or
    /// nowhere for other backends.
    pub fn stat_cache_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.stat_cache_directory = Some(directory.into());
        self
    }

    /// Opens the store that is there, or makes one.
    pub fn open_or_create(self) -> Result<CheckpointManager> {
        let prepared = self.prepare()?;
        catalog::create(&*prepared.backend)?;
        prepared.open()
    }

    /// Makes a new store.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`](crate::Error::NotEmpty) if there is one already.
    pub fn create(self) -> Result<CheckpointManager> {
        let prepared = self.prepare()?;
        if !catalog::create(&*prepared.backend)? {
            return Err(Error::NotEmpty { path: PathBuf::from(prepared.backend.location()) });
        }
        prepared.open()
    }

    /// Opens the store that is there.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound) if there is none, [`Error::Format`](crate::Error::Format) if a newer
    /// version or another backend made it. Nothing is changed in either case.
    pub fn open(self) -> Result<CheckpointManager> {
        let directory = match &self.place {
            Some(Place::Directory(directory)) => Some(directory.clone()),
            Some(Place::Backend(_)) => None,
            None => Some(self.settings.checkpoint_dir.clone()),
        };
        if let Some(directory) = directory.filter(|directory| !directory.join("objects").is_dir()) {
            return Err(Error::NotFound { what: format!("checkpoint store in {}", directory.display()) });
        }
        self.prepare()?.open()
    }

    fn prepare(self) -> Result<Prepared> {
        if self.settings.max_checkpoints == 0 {
            return Err(Error::Invalid {
                argument: "max_checkpoints",
                reason: "at least one checkpoint must be kept".to_owned(),
            });
        }
        let place = self.place.unwrap_or_else(|| Place::Directory(self.settings.checkpoint_dir.clone()));
        let (backend, directory) = match place {
            Place::Backend(backend) => (backend, None),
            Place::Directory(directory) => {
                let local = LocalBackend::open(directory)?;
                let directory = local.directory().to_owned();
                let backend: Arc<dyn ObjectBackend> = Arc::new(local);
                (backend, Some(directory))
            }
        };
        let stat_caches =
            self.stat_cache_directory.or_else(|| directory.as_ref().map(|store| store.join("cache")));
        Ok(Prepared {
            backend,
            directory,
            clock: self.clock,
            settings: self.settings,
            stat_caches: stat_caches.map(StatCacheFolder),
        })
    }
}

/// Everything but the header, which is read last.
struct Prepared {
    backend: Arc<dyn ObjectBackend>,
    directory: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    settings: CheckpointSettings,
    stat_caches: Option<StatCacheFolder>,
}

impl Prepared {
    fn open(self) -> Result<CheckpointManager> {
        let (header, _) = catalog::open(&*self.backend)?.ok_or_else(|| Error::NotFound {
            what: format!("checkpoint store in {}", self.backend.location()),
        })?;
        // A damaged or newer catalogue is refused now rather than at the first use.
        let loaded = catalog::load(&*self.backend, None)?;
        let reserve_bytes = self.settings.reserve_bytes;
        let engine = Engine {
            backend: self.backend,
            clock: self.clock,
            settings: self.settings,
            header,
            reserve: self.directory.as_ref().and_then(|store| Reserve::new(store, reserve_bytes)),
            directory: self.directory,
            stat_caches: self.stat_caches,
            gate: Gate::default(),
            state: Mutex::new(State::of(loaded)),
        };
        Ok(CheckpointManager { engine: Arc::new(engine) })
    }
}
