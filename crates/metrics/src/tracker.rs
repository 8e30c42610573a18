//! The standard store: one SQLite database.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use evoseal_types::{MetricSpec, VersionId};
use rusqlite::Connection;

use crate::schema::{self, Failure};
use crate::{
    Error, MemoryMetricStore, MetricStore, MetricsSettings, NewRecord, Record, RecordFilter, Result, queries,
};

/// Keeps measurements in an SQLite database; the standard [`MetricStore`].
///
/// Any number of processes may use one database at once: readers see whole sessions, writers wait for each other for up to
/// thirty seconds and then fail as transient. Questions about the history are in
/// [`MetricQueries`](crate::MetricQueries). The layout is described in the crate's `FORMAT.md`.
///
/// Its methods run on the blocking threads of the tokio runtime in which they are called.
///
/// ```
/// use evoseal_metrics::{MetricStore, MetricsTracker, NewRecord, RecordFilter};
/// use evoseal_types::{Direction, MetricSamples, MetricSpec, Timestamp};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// let tracker = MetricsTracker::open(folder.path()).await?;
/// let latency = MetricSpec::new("latency", "ms", Direction::Increase)?;
/// tracker
///     .append(NewRecord {
///         version_id: "v1".parse()?,
///         recorded_at: Timestamp::from_unix_ns(0),
///         metrics: vec![MetricSamples::independent(latency, &[12.1, f64::NAN])],
///         test_results: Vec::new(),
///         tags: Default::default(),
///     })
///     .await?;
/// let records = MetricsTracker::open(folder.path()).await?.records(&RecordFilter::default()).await?;
/// assert!(records[0].record.metrics[0].samples[1].value.is_nan());
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct MetricsTracker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl MetricsTracker {
    /// The name of the database within a directory.
    pub const FILE_NAME: &str = "metrics.db";

    /// Opens the database at `path`, or creates it with the folders above it.
    ///
    /// Where `path` is a directory, or ends with a separator, it is [`FILE_NAME`](Self::FILE_NAME) within. A database of
    /// another program or of a newer format is refused, unchanged, with [`Error::Format`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let given = path.as_ref().to_owned();
        blocking("open", move || {
            let path = file_path(given);
            let connection = schema::open(&path).map_err(|failure| failure.into_error("open", &path))?;
            Ok(Self { shared: Arc::new(Shared { path, connection: Mutex::new(connection) }) })
        })
        .await
    }

    /// The store that the settings ask for: the database at `storage_path`, or at `default_path` where the settings name
    /// none; one in memory where metrics are switched off.
    pub async fn open_configured(
        settings: &MetricsSettings,
        default_path: &Path,
    ) -> Result<Arc<dyn MetricStore>> {
        if !settings.enabled {
            return Ok(Arc::new(MemoryMetricStore::new()));
        }
        let path = settings.storage_path.as_deref().unwrap_or(default_path);
        Ok(Arc::new(Self::open(path).await?))
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Runs `work` with the connection on a blocking thread. It runs to its end even if the caller stops waiting, so that a
    /// transaction is never cut off in the middle.
    async fn with<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        blocking(action, move || {
            // A panic within a transaction has rolled it back, so the connection is sound.
            let mut connection = shared.connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection).map_err(|failure| failure.into_error(action, &shared.path))
        })
        .await
    }
}

#[async_trait]
impl MetricStore for MetricsTracker {
    async fn append(&self, record: NewRecord) -> Result<u64> {
        let given = self.append_all(vec![record]).await?;
        Ok(given[0])
    }

    async fn append_all(&self, records: Vec<NewRecord>) -> Result<Vec<u64>> {
        self.with("append to", move |connection| queries::append(connection, &records)).await
    }

    async fn records(&self, filter: &RecordFilter) -> Result<Vec<Record>> {
        let filter = filter.clone();
        self.with("read", move |connection| queries::records(connection, &filter)).await
    }

    async fn metrics(&self) -> Result<Vec<MetricSpec>> {
        self.with("read", |connection| queries::metrics(connection)).await
    }

    async fn set_accepted(&self, version_id: &VersionId, accepted: bool) -> Result<()> {
        let version_id = version_id.clone();
        self.with("write to", move |connection| queries::set_accepted(connection, &version_id, accepted))
            .await
    }
}

fn file_path(given: PathBuf) -> PathBuf {
    let names_directory = given.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
    if names_directory || given.is_dir() { given.join(MetricsTracker::FILE_NAME) } else { given }
}

async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Interrupted { action }),
        },
    }
}
