//! Whole runs through the judge.

use std::collections::BTreeMap;

use evoseal_types::{Direction, MetricSpec, Threshold};
use serde::{Deserialize, Serialize};

use super::{NoiseKind, NoiseSource, Share};
use crate::{
    FreshPairs, Iteration, IterationDecision, Result, RunJudge, RunMetric, RunSettings, SampleKind, Sampling,
    ScreenOutcome,
};

/// What to simulate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopSimulation {
    /// The shape of the noise.
    pub noise: NoiseKind,
    /// Its coefficient of variation.
    pub cv: f64,
    /// How many iterations a run has.
    pub iterations: usize,
    /// How many metrics each iteration measures.
    pub metrics: usize,
    /// How many samples of the first version are measured before the first iteration.
    pub start_samples: usize,
    /// The harmful changes of the harmful iterations, one row each; zero for runs without any.
    pub effects: Vec<f64>,
    /// The share of the iterations whose candidate is harmful, in one metric.
    pub harmful: f64,
    /// How many samples of incumbent and candidate each iteration has, no others being possible; `None` takes samples as they
    /// are asked for.
    pub fixed_samples: Option<usize>,
    /// The tolerated change.
    pub threshold: f64,
    /// How the run is judged.
    pub settings: RunSettings,
    /// How many runs.
    pub runs: u64,
    /// The seed.
    pub seed: u64,
}

impl Default for LoopSimulation {
    fn default() -> Self {
        Self {
            noise: NoiseKind::Normal,
            cv: 0.05,
            iterations: 1000,
            metrics: 10,
            start_samples: 64,
            effects: vec![0.0, 0.05, 0.10],
            harmful: 0.05,
            fixed_samples: None,
            threshold: 0.0,
            settings: RunSettings::default(),
            runs: 100,
            seed: 1,
        }
    }
}

/// One size of harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopRow {
    /// The harmful change.
    pub effect: f64,
    /// How many runs had any false rollback: of a harmless candidate, for drift or otherwise.
    pub runs_with_false_rollback: Share,
    /// How many harmless candidates were not accepted.
    pub harmless_not_accepted: Share,
    /// How many harmful candidates were rolled back in their iteration.
    pub caught: Share,
    /// How many harmful candidates were accepted.
    pub passed: Share,
    /// How many runs of the program an iteration took on average, of either version, those before the first iteration
    /// included. One run measures all metrics.
    pub measurements_mean: f64,
    /// The same over harmless iterations alone.
    pub measurements_mean_harmless: f64,
    /// How many decisions on fresh pairs a run made on average.
    pub decisions_mean: f64,
}

/// Judges runs, one table row per size of harm. Samples are drawn as the judge asks for them.
pub fn simulate_loop(simulation: &LoopSimulation) -> Result<Vec<LoopRow>> {
    simulation.effects.iter().map(|effect| row(simulation, *effect)).collect()
}

#[derive(Debug, Default)]
struct Counts {
    false_rollbacks: u64,
    harmless: u64,
    harmless_lost: u64,
    harmful: u64,
    caught: u64,
    passed: u64,
    measured: usize,
    measured_harmless: usize,
    decisions: u64,
}

fn row(simulation: &LoopSimulation, effect: f64) -> Result<LoopRow> {
    let (mut all, mut runs_with_false) = (Counts::default(), 0);
    for run in 0..simulation.runs {
        let counts = one_run(simulation, effect, run)?;
        runs_with_false += u64::from(counts.false_rollbacks > 0);
        all.harmless += counts.harmless;
        all.harmless_lost += counts.harmless_lost;
        all.harmful += counts.harmful;
        all.caught += counts.caught;
        all.passed += counts.passed;
        all.measured += counts.measured;
        all.measured_harmless += counts.measured_harmless;
        all.decisions += counts.decisions;
    }
    let iterations = (all.harmless + all.harmful).max(1) as f64;
    let runs = simulation.runs.max(1) as f64;
    Ok(LoopRow {
        effect,
        runs_with_false_rollback: Share::of(runs_with_false, simulation.runs),
        harmless_not_accepted: Share::of(all.harmless_lost, all.harmless),
        caught: Share::of(all.caught, all.harmful),
        passed: Share::of(all.passed, all.harmful),
        measurements_mean: (all.measured as f64 + runs * simulation.start_samples as f64) / iterations,
        measurements_mean_harmless: all.measured_harmless as f64 / all.harmless.max(1) as f64,
        decisions_mean: all.decisions as f64 / runs,
    })
}

fn one_run(simulation: &LoopSimulation, effect: f64, run: u64) -> Result<Counts> {
    let mut settings = simulation.settings;
    if simulation.fixed_samples.is_some() {
        // Then each iteration is a decision.
        settings.decisions_expected = settings.decisions_expected.max(simulation.iterations);
    }
    let mut judge = RunJudge::new(settings)?;
    // Each metric has a noise of its own, so that memory between values stays within a metric.
    let streams = simulation.metrics as u64 + 1;
    let mut choice = NoiseSource::new(simulation.noise, simulation.seed, run * streams);
    let mut sources: Vec<NoiseSource> = (1..streams)
        .map(|metric| NoiseSource::new(simulation.noise, simulation.seed, run * streams + metric))
        .collect();
    let mut counts = Counts::default();
    for number in 0..simulation.iterations {
        let is_harmful = effect > 0.0 && number > 0 && choice.uniform() < simulation.harmful;
        let chosen = choice.uniform() * simulation.metrics as f64;
        let worse = (0..simulation.metrics).find(|metric| is_harmful && chosen < *metric as f64 + 1.0);
        let level = |metric: usize| if worse == Some(metric) { 1.0 + effect } else { 1.0 };
        let (decision, measured, has_drift) =
            one_iteration(simulation, &mut judge, &mut sources, number, level)?;
        counts.measured += measured;
        if is_harmful {
            counts.harmful += 1;
            counts.caught += u64::from(decision == IterationDecision::Rollback);
            counts.passed += u64::from(decision == IterationDecision::Accept);
        } else {
            counts.harmless += 1;
            counts.harmless_lost += u64::from(decision != IterationDecision::Accept);
            counts.measured_harmless += measured;
            counts.false_rollbacks += u64::from(decision == IterationDecision::Rollback);
        }
        // A drift that is reported beside a harmful candidate is as false as any other while nothing harmful was accepted.
        counts.false_rollbacks += u64::from(is_harmful && has_drift && counts.passed == 0);
    }
    counts.decisions = judge.ledger().decisions();
    Ok(counts)
}

/// One iteration as a run would measure it: candidates one by one until the screen is done, fresh pairs only if wanted.
fn one_iteration(
    simulation: &LoopSimulation,
    judge: &mut RunJudge,
    sources: &mut [NoiseSource],
    number: usize,
    level: impl Fn(usize) -> f64,
) -> Result<(IterationDecision, usize, bool)> {
    let cv = simulation.cv;
    let (sampling, fresh, most) = match simulation.fixed_samples {
        Some(fixed) => (Sampling::Fixed, fixed, fixed),
        None => (Sampling::OnDemand, 0, simulation.settings.screen_samples_max),
    };
    let threshold = Threshold::new("metric", simulation.threshold, Direction::Increase)?;
    let mut iteration = Iteration { metrics: Vec::new(), sampling, accepted: None };
    for (metric, source) in sources.iter_mut().enumerate() {
        let before = if number == 0 { simulation.start_samples } else { 0 };
        let (mut incumbent, mut candidate) = (source.values(before, 1.0, cv), Vec::new());
        for _ in 0..most {
            // In turns, as samples that cannot be had again should be.
            incumbent.extend((fresh > 0).then(|| source.value(1.0, cv)));
            candidate.push(source.value(level(metric), cv));
        }
        iteration.metrics.push(RunMetric {
            spec: MetricSpec::new(format!("metric{metric:03}"), "", Direction::Increase)?,
            threshold,
            kind: SampleKind::Mean,
            incumbent,
            candidate,
            confirmation: None,
            baselines: BTreeMap::new(),
        });
    }
    if sampling == Sampling::Fixed {
        let report = judge.judge(&iteration)?;
        return Ok((report.decision, 2 * most, !report.drift.is_empty()));
    }
    let (outcome, samples) = judge.screen(&iteration)?;
    for metric in &mut iteration.metrics {
        metric.candidate.truncate(samples);
    }
    let mut measured = samples;
    let mut report = if outcome == ScreenOutcome::Suspicious { None } else { Some(judge.judge(&iteration)?) };
    if report.as_ref().is_none_or(|report| report.decision == IterationDecision::Confirm) {
        for (metric, source) in sources.iter_mut().enumerate() {
            let mut fresh = FreshPairs::default();
            for _ in 0..simulation.settings.confirm_pairs_max {
                fresh.incumbent.push(source.value(1.0, cv));
                fresh.candidate.push(source.value(level(metric), cv));
            }
            iteration.metrics[metric].confirmation = Some(fresh);
        }
        // Fresh samples beyond those that the decision looked at would not have been measured.
        let pairs = judge.clone().judge(&iteration)?.pairs;
        for fresh in iteration.metrics.iter_mut().filter_map(|metric| metric.confirmation.as_mut()) {
            fresh.incumbent.truncate(pairs);
            fresh.candidate.truncate(pairs);
        }
        measured += 2 * pairs;
        report = Some(judge.judge(&iteration)?);
    }
    let report = report.expect("judged, with pairs where they were wanted");
    Ok((report.decision, measured, !report.drift.is_empty()))
}
