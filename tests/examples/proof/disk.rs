//! `cargo xtask crash disk`: every size of disk from nothing to enough.
//!
//! One folder of a place (the store, or what is restored into) lies on a tmpfs that has room for what is there already and
//! for a little more with each step, in bytes or in inodes. The operation is refused or finishes; then the disk is made
//! large, and the next commands must find the old state or the new one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use evoseal_tests::measure::table;
use serde::Serialize;

use crate::machine::{copy_tree, need_mounts, remove_tree, run as run_program, scratch, skip_missing};
use crate::report::{Tally, complain, exit, print, print_failures, write_json};
use crate::scenario::{SCENARIOS, Scenario};
use crate::victim::{End, audit, finish, operate};
use crate::{Result, known};

/// Sizes for each operation.
const STEPS: u64 = 64;
const SMOKE_STEPS: u64 = 6;
/// Numbers of inodes for each operation, one more with each step.
const INODE_STEPS: u64 = 24;
/// More than everything here needs.
const ENOUGH_BYTES: u64 = 64 << 20;
const PAGE: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A few sizes of each.
    #[arg(long)]
    smoke: bool,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Which operations, and which of their folders is on the small disk.
const CASES: [(&str, &str); 7] = [
    ("first checkpoint", "store"),
    ("checkpoint, large file", "store"),
    ("checkpoint, retention", "store"),
    ("delete two of three", "store"),
    ("gc", "store"),
    ("restore, new folder", "target"),
    ("restore, in place, many", "workspace"),
];

#[derive(Debug, Default, Serialize)]
struct Figures {
    operations: BTreeMap<&'static str, Case>,
    failures: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Case {
    /// Free bytes with which it finishes, to the next power of two.
    need_bytes: u64,
    refused: usize,
    finished: usize,
    tally: Tally,
}

/// What the disk has left for the operation.
#[derive(Debug, Clone, Copy)]
enum Free {
    Bytes(u64),
    Inodes(u64),
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    skip_missing(arguments.smoke, "crash disk", try_run(arguments))
}

fn try_run(arguments: &Arguments) -> Result<ExitCode> {
    need_mounts()?;
    let scratch = scratch()?;
    let mut figures = Figures::default();
    for (name, small) in CASES {
        complain(name);
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).ok_or("no such operation")?;
        let base = scratch.path().join("base");
        remove_tree(&base)?;
        scenario.prepare(&base)?;
        let place = Place { base: &base, folder: scratch.path().join("place"), small };
        let need_bytes = place.need(scenario)?;
        let mut case = Case { need_bytes, ..Case::default() };
        for free in steps(need_bytes, arguments.smoke) {
            place.try_size(scenario, free, &mut case, &mut figures.failures)?;
        }
        figures.operations.insert(name, case);
    }
    show(&figures, arguments)
}

/// From nothing to enough in equal steps of whole pages, and inodes one by one.
fn steps(need_bytes: u64, is_smoke: bool) -> Vec<Free> {
    let count = if is_smoke { SMOKE_STEPS } else { STEPS };
    let page = (need_bytes / count).div_ceil(PAGE).max(1) * PAGE;
    let inodes = if is_smoke { 2 } else { 1 };
    let bytes = (0..=count).map(|step| Free::Bytes(step * page));
    bytes.chain((0..INODE_STEPS).step_by(inodes * inodes * inodes).map(Free::Inodes)).collect()
}

/// A place with one of its folders on a small disk.
struct Place<'a> {
    base: &'a Path,
    folder: PathBuf,
    small: &'static str,
}

impl Place<'_> {
    fn mount(&self) -> Result<Small> {
        remove_tree(&self.folder)?;
        copy_tree(self.base, &self.folder)?;
        let disk = self.folder.join(self.small);
        std::fs::create_dir_all(&disk)?;
        let size = format!("size={ENOUGH_BYTES}");
        let mount = [
            "-t".as_ref(),
            "tmpfs".as_ref(),
            "-o".as_ref(),
            size.as_ref(),
            "evoseal-proof".as_ref(),
            disk.as_os_str(),
        ];
        run_program("mount", mount)?;
        let small = Small(disk);
        let content = self.base.join(self.small);
        if content.is_dir() {
            copy_tree(&content, &small.0)?;
        }
        Ok(small)
    }

    /// Free bytes with which the operation finishes: the least power of two in pages.
    fn need(&self, scenario: &Scenario) -> Result<u64> {
        let mut free = PAGE;
        while free < ENOUGH_BYTES {
            let small = self.mount()?;
            let (used, _) = small.used()?;
            small.limit(&format!("size={}", used + free))?;
            if finish(&mut operation(&self.folder, scenario)?)? == End::Acknowledged {
                return Ok(free);
            }
            free *= 2;
        }
        Err(format!("{} does not work on a large disk", scenario.name).into())
    }

    fn try_size(
        &self,
        scenario: &Scenario,
        free: Free,
        case: &mut Case,
        failures: &mut Vec<String>,
    ) -> Result<()> {
        let small = self.mount()?;
        let (bytes, inodes) = small.used()?;
        match free {
            Free::Bytes(free) => small.limit(&format!("size={}", (bytes + free).max(PAGE)))?,
            Free::Inodes(free) => small.limit(&format!("nr_inodes={}", inodes + free))?,
        }
        let end = finish(&mut operation(&self.folder, scenario)?)?;
        small.limit(&format!("size={ENOUGH_BYTES},nr_inodes=100000"))?;
        let (completed, mut findings) = audit(&self.folder, end == End::Acknowledged)?;
        match end {
            End::Acknowledged => case.finished += 1,
            End::Refused => case.refused += 1,
            End::Killed | End::Broken(_) | End::Hung => findings.blocked(format!("it ended as {end:?}")),
        }
        case.tally.points += 1;
        case.tally.count(scenario.name, &mut findings);
        case.tally.completed += usize::from(completed);
        let said = |line: &String| format!("{} with {free:?} free ({end:?}): {line}", scenario.name);
        failures.extend(findings.lines().iter().map(said));
        Ok(())
    }
}

fn operation(place: &Path, scenario: &Scenario) -> Result<Command> {
    let words = operate(place, scenario.arguments)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Ok(command)
}

/// A mounted tmpfs; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// Bytes and inodes in use.
    fn used(&self) -> Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.0)?;
        Ok(((stat.f_blocks - stat.f_bfree) * stat.f_frsize, stat.f_files - stat.f_ffree))
    }

    fn limit(&self, options: &str) -> Result<()> {
        let options = format!("remount,{options}");
        run_program("mount", ["-o".as_ref(), options.as_ref(), self.0.as_os_str()])
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // The namespace takes it in the end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

fn show(figures: &Figures, arguments: &Arguments) -> Result<ExitCode> {
    let mut total = Tally::default();
    let mut rows = Vec::new();
    for (name, case) in &figures.operations {
        let tally = &case.tally;
        total.add(tally);
        let numbers = [
            case.need_bytes,
            tally.tried as u64,
            case.refused as u64,
            case.finished as u64,
            tally.lost as u64,
            tally.mixed as u64,
            tally.blocked as u64,
        ];
        rows.push(
            std::iter::once((*name).to_owned()).chain(numbers.map(|number| number.to_string())).collect(),
        );
    }
    let headings =
        ["operation", "enough, in bytes", "sizes tried", "refused", "finished", "lost", "mixed", "blocked"];
    print(&table(&headings, &rows));
    print_failures(&figures.failures);
    known::show(total.known);
    write_json(arguments.json.as_deref(), figures)?;
    Ok(exit(total.is_clean() && total.tried > 0))
}
