//! `cargo xtask crash rollback`: the points of `crash checkpoint` that lie in rollbacks, and crashes during the recovery from
//! a crash.

use std::path::Path;
use std::process::ExitCode;

use crate::crash::{self, shuffle};
use crate::machine::{copy_tree, remove_tree, scratch, skip_missing};
use crate::report::{Findings, Tally, complain, exit, print, print_failures};
use crate::scenario::{PROGRAM_SCENARIOS, Scenario};
use crate::strace::{self, Call};
use crate::victim::{End, Fault, audit, inject, kill_half_way, program, trace};
use crate::{Result, known};

/// The rollbacks among the operations have this in their name.
const ROLLBACKS: &str = "evoseal rollback";
/// The command that is killed while it completes a rollback.
const NEXT: &[&str] = &["evoseal", "status"];
/// Pairs of crashes that a smoke run tries.
const SMOKE_PAIRS: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A few points and pairs, drawn by the seed.
    #[arg(long)]
    smoke: bool,
    /// What is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many pairs of crashes: one in a rollback, one in its recovery.
    #[arg(long, default_value_t = 500)]
    pairs: usize,
    /// Only the pairs.
    #[arg(long)]
    pairs_only: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let points = if arguments.pairs_only {
        ExitCode::SUCCESS
    } else {
        crash::run(&crash::Arguments::only(ROLLBACKS, arguments.smoke, arguments.seed))?
    };
    let pairs = skip_missing(arguments.smoke, "crash rollback", try_pairs(arguments))?;
    Ok(if points == ExitCode::SUCCESS { pairs } else { points })
}

/// Kills a rollback, kills the command that completes it, and lets the one after that do it.
fn try_pairs(arguments: &Arguments) -> Result<ExitCode> {
    strace::need()?;
    program()?;
    let scratch = scratch()?;
    let folder = scratch.path();
    let wanted = if arguments.smoke { SMOKE_PAIRS } else { arguments.pairs };
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    let rollbacks: Vec<&Scenario> =
        PROGRAM_SCENARIOS.iter().filter(|scenario| scenario.name.contains(ROLLBACKS)).collect();
    for scenario in &rollbacks {
        let base = folder.join("base");
        scenario.prepare(&base)?;
        let first = changes(folder, &base, scenario.arguments)?;
        // What a recovery does is known from one that has about half of the work before it.
        let half = folder.join("half");
        copy_tree(&base, &half)?;
        kill_half_way(&half, scenario.arguments)?;
        let second = changes(folder, &half, NEXT)?;
        remove_tree(&half)?;
        let mut pairs: Vec<(&Call, &Call)> =
            first.iter().flat_map(|first| second.iter().map(move |second| (first, second))).collect();
        shuffle(&mut pairs, arguments.seed);
        tally.points += pairs.len();
        let end = tally.tried + wanted.div_ceil(rollbacks.len());
        complain(&format!("{} pairs in {}", pairs.len(), scenario.name));
        for (first, second) in pairs {
            if tally.tried >= end {
                break;
            }
            // Not every crash leaves something to complete, nor every recovery all of the work.
            if let Some(mut findings) = try_pair(folder, &base, scenario, first, second)? {
                tally.count(scenario.name, &mut findings);
                let place =
                    format!("{} {}, then {} {}", first.name, first.ordinal, second.name, second.ordinal);
                failures
                    .extend(findings.lines().into_iter().map(|line| format!("killed at {place}: {line}")));
            }
        }
        remove_tree(&base)?;
    }
    print(&format!(
        "crash in the recovery from a crash: {} of {} pairs tried, {} lost, {} mixed, {} blocked; seed {}",
        tally.tried, tally.points, tally.lost, tally.mixed, tally.blocked, arguments.seed
    ));
    print_failures(&failures);
    known::show(tally.known);
    Ok(exit(tally.is_clean() && tally.tried >= wanted))
}

/// The state-changing calls of an operation.
fn changes(folder: &Path, base: &Path, arguments: &[&str]) -> Result<Vec<Call>> {
    let place = folder.join("traced");
    copy_tree(base, &place)?;
    let calls = trace(0, &place, arguments, &folder.join("log"))?;
    remove_tree(&place)?;
    Ok(calls.into_iter().filter(|call| call.is_change).collect())
}

/// What came of a pair; nothing if one of the two calls was not reached.
fn try_pair(
    folder: &Path,
    base: &Path,
    scenario: &Scenario,
    first: &Call,
    second: &Call,
) -> Result<Option<Findings>> {
    let (place, log) = (folder.join("place"), folder.join("log"));
    remove_tree(&place)?;
    copy_tree(base, &place)?;
    for (arguments, call) in [(scenario.arguments, first), (NEXT, second)] {
        let (end, _) = inject(0, &place, arguments, (Fault::Kill, &call.name, call.ordinal), &log)?;
        if end != End::Killed {
            return Ok(None);
        }
    }
    audit(&place, false).map(|(_, findings)| Some(findings))
}
