//! A long history in one store: whether a capture gets slower, what each adds, and what removing most of them takes.

use super::rounds::{Report, Session};
use super::systems::{System, Task};
use super::trees::disk_bytes;
use super::{Failure, Operation};

/// Files that change between two captures.
const CHANGED_FILES: usize = 3;
/// Captures of which a median stands for the beginning or the end of the series.
const WINDOW: usize = 10;

/// Captures `snapshots` times, then removes nine of ten. Only a removal is one measurement per run.
pub(crate) fn measure(
    session: &Session,
    systems: &mut [Box<dyn System>],
    snapshots: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    for (turn, system) in systems.iter_mut().enumerate() {
        let store = session.folder(&format!("store-{turn}"))?;
        system.begin(&store, &session.tree.root)?;
    }
    for number in 1..=snapshots {
        session.tree.change(CHANGED_FILES, number)?;
        for turn in 0..systems.len() {
            let turn = (turn + usize::try_from(number)?) % systems.len();
            let operation = if number == 1 { Operation::First } else { Operation::Changed };
            step(session, &mut *systems[turn], turn, (operation, number, 0), report)?;
        }
    }
    for (turn, system) in systems.iter_mut().enumerate() {
        let task = (Operation::Remove, snapshots, snapshots / 10);
        step(session, &mut **system, turn, task, report)?;
    }
    Ok(())
}

fn step(
    session: &Session,
    system: &mut dyn System,
    turn: usize,
    (operation, number, keep): (Operation, u64, u64),
    report: &mut Report,
) -> Result<(), Failure> {
    let store = session.folder(&format!("store-{turn}"))?;
    let task = Task { operation, number, tree: &session.tree, target: &store, keep };
    if let Some(cost) = session.run(system, &store, &task)? {
        let stored = disk_bytes(&system.stored(&store))?;
        let figure = report.figure(&session.name, &system.name(), operation);
        figure.costs.push(cost);
        figure.store_bytes.push(stored);
    }
    Ok(())
}

/// The CPU time and the wall time of the last captures over those of the first ones, and the growth per capture in bytes.
pub(crate) fn drift(figure: &super::rounds::Figure) -> Option<(f64, f64, f64)> {
    let count = figure.costs.len();
    if count < 2 * WINDOW - 1 {
        return None;
    }
    let window = WINDOW.min(count / 2);
    let median = |part: &[super::process::Cost], of: fn(&super::process::Cost) -> f64| {
        super::table::median(&part.iter().map(of).collect::<Vec<_>>())
    };
    let (first, last) = (&figure.costs[..window], &figure.costs[count - window..]);
    let cpu = median(last, |cost| cost.cpu_ms)? / median(first, |cost| cost.cpu_ms)?;
    let wall = median(last, |cost| cost.wall_ms)? / median(first, |cost| cost.wall_ms)?;
    let grown = *figure.store_bytes.last()? as f64 - *figure.store_bytes.first()? as f64;
    Some((cpu, wall, grown / (figure.store_bytes.len() - 1) as f64))
}
