//! `cargo xtask crash loop --disk`: the disk of a run fills up in the middle of each phase.
//!
//! Workspace and state lie on a small tmpfs. Once the run has come to a place, everything that is free is taken by a file
//! beside the project. The run must end with the code of its surroundings and say where and what to do; a start on the full disk
//! must not make it worse; and once there is room again the next start must go on, so that in the end every decision is that
//! of a run with room enough.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use evoseal_tests::measure::table;
use rustix::fs::{FallocateFlags, fallocate};
use serde::Serialize;

use crate::Result;
use crate::course::{Course, LOOK, Persons, Place, Repeated, Watch, end_of, finished, prepare, start};
use crate::machine::{FileSystem, Mounted, need_mounts, scratch, skip_missing};
use crate::report::{Findings, complain, exit, print, print_failures, write_json};
use crate::victim::wait;

const DISK_BYTES: u64 = 32 << 20;
/// More than a run writes in a moment.
const SLACK_BYTES: u64 = 2 << 20;
/// Longer than any start takes.
const TIME_LIMIT: Duration = Duration::from_mins(1);

#[derive(Debug, Default, Serialize)]
struct Figures {
    iterations: u64,
    /// After which entry of the journal the disk was filled.
    filled: BTreeMap<String, usize>,
    /// How often the run ended because of it; otherwise what was left to do needed no room.
    stopped: usize,
    repeated: Repeated,
    findings: Findings,
}

pub(crate) fn run(is_smoke: bool, json: Option<&Path>) -> Result<ExitCode> {
    skip_missing(is_smoke, "crash loop --disk", try_run(is_smoke, json))
}

fn try_run(is_smoke: bool, json: Option<&Path>) -> Result<ExitCode> {
    need_mounts()?;
    let iterations = if is_smoke { 4 } else { 10 };
    let scratch = scratch()?;
    complain("undisturbed");
    let course = Course::take(&scratch.path().join("undisturbed"), iterations)?;
    let disk = Mounted::new(FileSystem::Tmpfs, DISK_BYTES, scratch.path())?;
    let root = disk.folder().join("project");
    prepare(&root)?;
    let mut figures = Figures { iterations, ..Figures::default() };
    disturb(&root, &course, &mut figures)?;
    greedy(&disk.folder().join("greedy"), &mut figures.findings)?;
    let rows: Vec<Vec<String>> =
        figures.filled.iter().map(|(phase, count)| vec![phase.clone(), count.to_string()]).collect();
    print(&table(&["filled after", "times"], &rows));
    let count: usize = figures.filled.values().sum();
    print(&format!(
        "{iterations} iterations, the disk filled {count} times, the run ended {} times because of it",
        figures.stopped
    ));
    print_failures(&figures.findings.lines());
    write_json(json, &figures)?;
    Ok(exit(figures.findings.is_clean() && count > 0 && figures.stopped > 0))
}

fn disturb(root: &Path, course: &Course, figures: &mut Figures) -> Result<()> {
    let persons = Persons::of(root)?;
    let places: Vec<Place> =
        course.stays.keys().copied().filter(|place| place.0 <= course.iterations).collect();
    for place in places {
        fill_at(root, course, place, figures)?;
        persons.compare(root, &mut figures.findings);
        if !figures.findings.is_clean() {
            return Ok(());
        }
    }
    let left = course.iterations.saturating_sub(finished(root)?);
    let (code, said) = end_of(start(root, left)?)?;
    if !matches!(code, Some(0 | 1)) {
        figures.findings.blocked(format!("the last start ended with {code:?}: {said}"));
    }
    figures.repeated = course.compare(root, &mut figures.findings)?;
    persons.compare(root, &mut figures.findings);
    Ok(())
}

/// A candidate that fills the disk itself is refused like any other that breaks something, and the run goes on.
fn greedy(root: &Path, findings: &mut Findings) -> Result<()> {
    prepare(root)?;
    // All of it, and so much that it is there and cannot be captured.
    let agent = r"case $EVOSEAL_ITERATION in
        1) cat /dev/zero > big;;
        2) dd if=/dev/urandom of=big bs=1M count=18 2>/dev/null;;
        *) echo 900 > cost.txt;;
        esac
        ";
    std::fs::write(root.join("agent.sh"), agent)?;
    let (code, said) = end_of(start(root, 3)?)?;
    let accepted = std::fs::read_to_string(root.join("cost.txt"))?;
    if code != Some(1) || finished(root)? != 3 || accepted != "900\n" || root.join("big").exists() {
        findings.blocked(format!("a candidate that fills the disk: {code:?}, cost {accepted:?}: {said}"));
    }
    Ok(())
}

/// Lets a run come to a place, fills the disk, and looks at how it ends.
fn fill_at(root: &Path, course: &Course, place: Place, figures: &mut Figures) -> Result<()> {
    let left = course.iterations.saturating_sub(finished(root)?);
    let mut watch = Watch::new(root);
    let mut child = start(root, left)?;
    while watch.place < place || !(watch.is_active || place.1 == 0) {
        if child.try_wait()?.is_some() {
            let (code, said) = end_of(child)?;
            figures.findings.blocked(format!("before {place:?} it ended with {code:?}: {said}"));
            return Ok(());
        }
        std::thread::sleep(LOOK);
        watch.look()?;
    }
    let ballast = Ballast::fill(root)?;
    watch.look()?;
    *figures.filled.entry(watch.phase.clone()).or_default() += 1;
    if wait(&mut child, TIME_LIMIT)?.is_none() {
        figures.findings.blocked(format!("with a full disk at {place:?} it does not end"));
        return Ok(());
    }
    let (code, said) = end_of(child)?;
    judge(code, &said, &format!("with a full disk at {place:?}"), figures);
    figures.stopped += usize::from(code == Some(3));
    // Whoever tries again at once is told the same, and makes nothing worse.
    let left = course.iterations.saturating_sub(finished(root)?);
    let (code, said) = end_of(start(root, left)?)?;
    judge(code, &said, &format!("started with a full disk, after {place:?}"), figures);
    drop(ballast);
    Ok(())
}

/// It may have come to its end, or says which path it is about and what to do.
fn judge(code: Option<i32>, said: &str, context: &str, figures: &mut Figures) {
    let is_explained = said.contains("error: ") && said.contains("/project") && said.contains("make room");
    match code {
        Some(0 | 1) => {}
        Some(3) if is_explained => {}
        _ => figures.findings.blocked(format!("{context} it ended with {code:?}: {said}")),
    }
}

/// A file beside the project that takes all room; it goes when this is dropped.
struct Ballast(PathBuf);

impl Ballast {
    fn fill(root: &Path) -> Result<Self> {
        let path = root.with_file_name("ballast");
        let mut file = File::create(&path)?;
        let ballast = Self(path);
        let found = rustix::fs::statvfs(root)?;
        let most = (found.f_bavail * found.f_frsize).saturating_sub(SLACK_BYTES);
        // A call that fails takes everything for a moment and gives it back, which no disk that fills up does: only as much
        // as is surely there is taken at once.
        if most > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, most)?;
        }
        file.seek(SeekFrom::Start(most))?;
        let piece = vec![1; 16 << 10];
        while file.write_all(&piece).is_ok() {}
        Ok(ballast)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
