//! `evoseal detect simulate loop|drift|peek|gain`: the stated error rates over time, checked from a seed.

use evoseal_regression::RunSettings;
use evoseal_regression::simulation::{
    Beside, DriftRow, DriftSimulation, GainRow, GainSimulation, LoopRow, LoopSimulation, NoiseKind, PeekRow,
    PeekSimulation, Share, simulate_drift, simulate_gain, simulate_loop, simulate_peek,
};

use super::run_loop::budgeted;
use crate::detect_args::{NoiseArguments, SimulateOverTime};
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;

pub(super) fn run(command: &SimulateOverTime, output: Output) -> Result<Exit> {
    match command {
        SimulateOverTime::Loop {
            runs,
            iterations,
            metrics,
            harmful,
            effects,
            fixed_samples,
            threshold,
            budget,
            noise,
        } => {
            check(noise)?;
            fraction("--harmful", *harmful)?;
            if *metrics == 0 {
                return Err(Failure::usage("--metrics: an iteration has one metric or more"));
            }
            let rows = simulate_loop(&LoopSimulation {
                noise: shape(noise),
                cv: noise.cv,
                iterations: *iterations,
                metrics: *metrics,
                effects: effects.clone(),
                harmful: *harmful,
                fixed_samples: fixed_samples.map(usize::from),
                threshold: *threshold,
                settings: budgeted(RunSettings::default(), budget),
                runs: *runs,
                seed: noise.seed,
                ..LoopSimulation::default()
            })?;
            output.lines(&rows, loop_text);
        }
        SimulateOverTime::Drift { trials, samples, slope, limit, alpha, candidate_only, baseline, noise } => {
            check(noise)?;
            if *samples == 0 {
                return Err(Failure::usage("--samples: a step has one sample or more"));
            }
            if !(*slope > 0.0 && *limit > 0.0 && *limit <= 1.0 && *limit / *slope <= 1e4) {
                return Err(Failure::usage(
                    "--slope must be above 0, and --limit above 0, at most 1 and at most ten thousand steps",
                ));
            }
            let rows = simulate_drift(&DriftSimulation {
                noise: shape(noise),
                cv: noise.cv,
                samples: *samples,
                slope: *slope,
                limit: *limit,
                beside: match (*baseline, *candidate_only) {
                    (true, _) => Beside::Baseline,
                    (false, true) => Beside::Nothing,
                    (false, false) => Beside::Incumbent,
                },
                alpha: *alpha,
                trials: *trials,
                seed: noise.seed,
                ..DriftSimulation::default()
            })?;
            output.lines(&rows, drift_text);
        }
        SimulateOverTime::Peek { trials, max, effects, threshold, noise } => {
            check(noise)?;
            let rows = simulate_peek(&PeekSimulation {
                noises: noise.noise.map_or_else(|| NoiseKind::ALL.to_vec(), |shape| vec![shape.into()]),
                cv: noise.cv,
                effects: effects.clone(),
                threshold: *threshold,
                pairs_max: *max,
                trials: *trials,
                seed: noise.seed,
            })?;
            output.lines(&rows, peek_text);
        }
        SimulateOverTime::Gain { trials, candidates, samples, pairs, noise } => {
            check(noise)?;
            if *samples == 0 || *pairs < 2 || candidates.contains(&0) {
                return Err(Failure::usage(
                    "--samples and --candidates must be 1 or more, --pairs 2 or more",
                ));
            }
            let rows = simulate_gain(&GainSimulation {
                noise: shape(noise),
                cv: noise.cv,
                candidates: candidates.clone(),
                samples: *samples,
                fresh_pairs: *pairs,
                trials: *trials,
                seed: noise.seed,
                ..GainSimulation::default()
            })?;
            output.lines(&rows, gain_text);
        }
    }
    Ok(Exit::Done)
}

fn shape(noise: &NoiseArguments) -> NoiseKind {
    noise.noise.map_or(NoiseKind::Normal, Into::into)
}

fn check(noise: &NoiseArguments) -> Result<()> {
    if noise.cv > 0.0 && noise.cv <= 1.0 {
        return Ok(());
    }
    Err(Failure::usage(format!("--cv: {} is not above 0 and at most 1", noise.cv)))
}

fn fraction(option: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(Failure::usage(format!("{option}: {value} is no share")))
    }
}

fn percent(share: Share) -> String {
    format!(
        "{:.2} % [{:.2}, {:.2}]",
        share.share * 100.0,
        share.interval[0] * 100.0,
        share.interval[1] * 100.0
    )
}

fn loop_text(row: &LoopRow) -> String {
    let harmful = if row.caught.trials > 0 {
        format!("; harm caught in its iteration {}, accepted {}", percent(row.caught), percent(row.passed))
    } else {
        String::new()
    };
    format!(
        "harm {:+.1} %: runs with a false rollback {}{harmful}; measurements an iteration {:.1}, {:.1} for harmless ones; decisions a run {:.1}",
        row.effect * 100.0,
        percent(row.runs_with_false_rollback),
        row.measurements_mean,
        row.measurements_mean_harmless,
        row.decisions_mean
    )
}

fn drift_text(row: &DriftRow) -> String {
    format!(
        "drift after {} flat steps: caught in time {}, alarms before it {}, true change at the alarm {:.2} % (median), {:.2} % (95 in 100); flat runs with an alarm {}",
        row.flat_before,
        percent(row.caught),
        percent(row.early_alarms),
        row.change_at_alarm[0] * 100.0,
        row.change_at_alarm[1] * 100.0,
        percent(row.false_alarms)
    )
}

fn peek_text(row: &PeekRow) -> String {
    let fixed =
        row.fixed_plan.map_or(String::new(), |pairs| format!(", a fixed plan for this change {pairs}"));
    format!(
        "{:?}, {:+.1} %: regressed {}, improved {}, equivalent {}; pairs {:.1}{fixed}; t-test after every pair {}",
        row.noise,
        row.effect * 100.0,
        percent(row.regressed),
        percent(row.improved),
        percent(row.equivalent),
        row.pairs_mean,
        percent(row.repeated_t_test)
    )
}

fn gain_text(row: &GainRow) -> String {
    format!(
        "best of {}: true gain {:.2} %, overstated by {:+.2} points when chosen, by {:+.3} ({:.3}) on fresh pairs, whose interval holds it in {}",
        row.candidates,
        row.true_gain * 100.0,
        row.claimed_bias * 100.0,
        row.fresh_bias * 100.0,
        row.fresh_bias_error * 100.0,
        percent(row.coverage)
    )
}
