//! Points in time and the clock that gives them.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds since the start of 1970 in UTC. Text and JSON show it as RFC 3339.
///
/// ```
/// use evoseal_types::Timestamp;
/// assert_eq!(Timestamp::from_unix_ns(1_500_000_000).to_string(), "1970-01-01T00:00:01.5Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    unix_ns: i64,
}

impl Timestamp {
    /// A point in time from nanoseconds since 1970.
    pub const fn from_unix_ns(unix_ns: i64) -> Self {
        Self { unix_ns }
    }

    /// Nanoseconds since 1970.
    pub const fn unix_ns(self) -> i64 {
        self.unix_ns
    }

    /// How much later this is than `earlier`; zero if it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.unix_ns.saturating_sub(earlier.unix_ns)).unwrap_or(0))
    }

    fn as_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.unix_ns))
            .expect("every 64-bit count of nanoseconds lies within jiff's range of ten thousand years")
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_jiff(), f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.unix_ns.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Self::from_unix_ns);
        }
        let text = String::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        i64::try_from(time.as_nanosecond())
            .map(Self::from_unix_ns)
            .map_err(|_| D::Error::custom("time lies outside the years 1677 to 2262"))
    }
}

/// Where the time comes from. Libraries ask the clock that they were given, never the operating system.
///
/// Contract: `monotonic` never goes back within one clock; `now` may, since a person can set the wall clock.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall-clock time, for records.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary fixed point, for durations and deadlines.
    fn monotonic(&self) -> Duration;
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }
}

impl<C: Clock + ?Sized> Clock for Box<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_unix_ns(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is told to move, for tests and simulations.
///
/// ```
/// use evoseal_types::{Clock, ManualClock, Timestamp};
/// use std::time::Duration;
/// let clock = ManualClock::starting_at(Timestamp::from_unix_ns(0));
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now().to_string(), "1970-01-01T00:00:02Z");
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    start: Timestamp,
    elapsed: Mutex<Duration>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, elapsed: Mutex::new(Duration::ZERO) }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        *self.elapsed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let elapsed_ns = i64::try_from(self.monotonic().as_nanos()).unwrap_or(i64::MAX);
        Timestamp::from_unix_ns(self.start.unix_ns.saturating_add(elapsed_ns))
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_json() {
        for unix_ns in [0, 1, -1, i64::MAX, i64::MIN, 1_764_000_000_123_456_789] {
            let time = Timestamp::from_unix_ns(unix_ns);
            let json = serde_json::to_string(&time).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time, "{json}");
        }
    }

    #[test]
    fn time_never_counts_backwards() {
        let (early, late) = (Timestamp::from_unix_ns(5), Timestamp::from_unix_ns(9));
        assert_eq!((late.since(early), early.since(late)), (Duration::from_nanos(4), Duration::ZERO));
    }
}
