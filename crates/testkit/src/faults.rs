//! Failing at the n-th step.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happens at the chosen step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This step fails with an error; later ones work again.
    Once,
    /// This step and all later ones fail with an error.
    Forever,
    /// This step and all later ones unwind with [`Crash`], as if the process had been killed: no error handling of the
    /// code under test runs, and no destructor can change anything that goes through [`Faults`].
    Crash,
}

/// What a crash unwinds with. It does not go through the panic hook, so a run of many crashes stays silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash;

/// Counts steps and fails the chosen one. Clones share the count, so several parts can be walked through together.
///
/// ```
/// use evoseal_testkit::{Fault, Faults};
/// let faults = Faults::default();
/// faults.arm(1, Fault::Once);
/// assert!(faults.step("open").is_ok());
/// assert!(faults.step("write").is_err());
/// assert!(faults.step("write").is_ok());
/// assert_eq!(faults.steps(), ["open", "write", "write"]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    steps: Vec<String>,
    armed: Option<(usize, Fault)>,
    kind: Option<io::ErrorKind>,
    refused: Option<Refused>,
    observer: Option<Observer>,
}

type Observer = Arc<dyn Fn(&str) + Send + Sync>;
type Refused = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("steps", &self.steps)
            .field("armed", &self.armed)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Faults {
    /// Forgets all steps so far; the step number `at`, counted from 0, will fail.
    pub fn arm(&self, at: usize, fault: Fault) {
        let mut state = self.state();
        (state.steps, state.armed, state.refused) = (Vec::new(), Some((at, fault)), None);
    }

    /// Forgets all steps so far; those whose names are refused will fail with an error.
    pub fn refuse(&self, is_refused: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let mut state = self.state();
        (state.steps, state.armed) = (Vec::new(), None);
        state.refused = Some(Arc::new(is_refused));
    }

    /// Forgets all steps so far; none will fail.
    pub fn disarm(&self) {
        let mut state = self.state();
        (state.steps, state.armed, state.refused) = (Vec::new(), None, None);
    }

    /// From now on what fails does so with an error of this kind, such as that of a full disk.
    pub fn fail_with(&self, kind: io::ErrorKind) {
        self.state().kind = Some(kind);
    }

    /// Calls `observer` with the name of each step from now on, before the step is taken.
    pub fn observe(&self, observer: impl Fn(&str) + Send + Sync + 'static) {
        self.state().observer = Some(Arc::new(observer));
    }

    /// The names of the steps taken since the last change, the failed ones included.
    pub fn steps(&self) -> Vec<String> {
        self.state().steps.clone()
    }

    /// Takes one step.
    ///
    /// # Errors
    ///
    /// An error of the kind that was chosen, or `Other`, if this step is chosen to fail.
    ///
    /// # Panics
    ///
    /// Unwinds with [`Crash`] if this step is chosen to crash, or came after a crash.
    pub fn step(&self, name: &str) -> io::Result<()> {
        let observer = self.state().observer.clone();
        if let Some(observe) = observer {
            observe(name);
        }
        let mut state = self.state();
        let number = state.steps.len();
        state.steps.push(name.to_owned());
        let fault = match state.armed {
            Some((at, Fault::Once)) if number == at => Fault::Once,
            Some((at, fault @ (Fault::Forever | Fault::Crash))) if number >= at => fault,
            _ if state.refused.as_ref().is_some_and(|is_refused| is_refused(name)) => Fault::Once,
            _ => return Ok(()),
        };
        let kind = state.kind.unwrap_or(io::ErrorKind::Other);
        drop(state);
        if fault == Fault::Crash {
            std::panic::resume_unwind(Box::new(Crash));
        }
        Err(io::Error::new(kind, format!("injected at step {number}: {name}")))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_lasts_until_it_is_disarmed() {
        let faults = Faults::default();
        faults.arm(1, Fault::Crash);
        faults.step("a").unwrap();
        for _ in 0..2 {
            let faults = faults.clone();
            let caught = std::panic::catch_unwind(move || faults.step("b")).unwrap_err();
            assert_eq!(caught.downcast_ref::<Crash>(), Some(&Crash));
        }
        faults.disarm();
        faults.step("c").unwrap();
    }

    #[test]
    fn an_error_can_last() {
        let faults = Faults::default();
        faults.arm(0, Fault::Forever);
        assert!(faults.step("a").is_err() && faults.step("b").is_err());
        faults.fail_with(io::ErrorKind::StorageFull);
        assert_eq!(faults.step("c").unwrap_err().kind(), io::ErrorKind::StorageFull);
        faults.refuse(|name| name == "a");
        assert_eq!(["a", "b", "a"].map(|name| faults.step(name).is_ok()), [false, true, false]);
        faults.disarm();
        faults.step("a").unwrap();
    }
}
