//! The measure step: both versions in turns, start by start.

use std::collections::BTreeMap;

use evoseal_pipeline::{Evaluation, Result};
use evoseal_safety::{EvaluationFault, FaultKind, Subject};
use evoseal_sandbox::CommandOutcome;
use evoseal_types::{Direction, MetricName, MetricSamples, MetricSpec, Sample};

use super::side::{Side, complete_stdout};
use super::{MeasureSettings, MeasuredTime, MetricFormat, MetricSettings};
use crate::parse::{self, Reading};
use crate::{Launcher, StepSettings};

/// The stage in faults.
pub(super) const STAGE: &str = "measure";

/// What one start gave: the values of each metric in the order of printing.
type Start = BTreeMap<MetricName, Vec<f64>>;

/// A measurement of one or two versions.
#[derive(Debug)]
pub(super) struct Measurement<'a> {
    launcher: &'a Launcher,
    settings: &'a MeasureSettings,
    step: StepSettings,
    metrics: &'a BTreeMap<MetricName, MetricSettings>,
    /// The unit of each metric, the same for both versions; empty for none.
    units: BTreeMap<MetricName, String>,
    candidate: BTreeMap<MetricName, Vec<Sample>>,
    incumbent: BTreeMap<MetricName, Vec<Sample>>,
    /// How often each version is started and counted.
    rounds: u32,
}

impl<'a> Measurement<'a> {
    pub(super) fn new(
        launcher: &'a Launcher,
        settings: &'a MeasureSettings,
        metrics: &'a BTreeMap<MetricName, MetricSettings>,
        rounds: u32,
    ) -> Self {
        let units = metrics.iter().filter_map(|(name, metric)| Some((name.clone(), metric.unit.clone()?)));
        Self {
            launcher,
            settings,
            step: settings.step(),
            metrics,
            units: units.collect(),
            candidate: BTreeMap::new(),
            incumbent: BTreeMap::new(),
            rounds,
        }
    }

    /// Measures and adds everything to `evaluation`. The first fault ends the measurement; what was measured before it is kept.
    pub(super) async fn run(
        mut self,
        candidate: &Side<'_>,
        incumbent: Option<&Side<'_>>,
        evaluation: &mut Evaluation,
    ) -> Result<()> {
        let fault = self.rounds(candidate, incumbent).await?;
        evaluation.can_measure_again = fault.is_none() && incumbent.is_some();
        evaluation.paired = fault.is_none() && incumbent.is_some() && self.is_paired();
        evaluation.faults.extend(fault);
        evaluation.metrics = self.samples(&self.candidate);
        evaluation.incumbent_metrics = self.samples(&self.incumbent);
        Ok(())
    }

    async fn rounds(
        &mut self,
        candidate: &Side<'_>,
        incumbent: Option<&Side<'_>>,
    ) -> Result<Option<EvaluationFault>> {
        let warmup = self.settings.warmup;
        for round in 0..warmup.saturating_add(self.rounds) {
            // Who comes second may find a warmer cache or a hotter processor: each comes first in every other round.
            let turns =
                if round % 2 == 0 { [incumbent, Some(candidate)] } else { [Some(candidate), incumbent] };
            for side in turns.into_iter().flatten() {
                match self.start(side).await? {
                    Ok(_) if round < warmup => {}
                    Ok(start) => self.record(side.subject, round - warmup, start),
                    Err(fault) => return Ok(Some(fault)),
                }
            }
        }
        Ok(None)
    }

    /// Starts the command once for one version.
    async fn start(&mut self, side: &Side<'_>) -> Result<Result<Start, EvaluationFault>> {
        let outcome = match side.run(self.launcher, STAGE, &self.step).await? {
            Ok(outcome) => outcome,
            Err(fault) => return Ok(Err(fault)),
        };
        if let Some(fault) = side.failure(STAGE, &self.step, &outcome) {
            return Ok(Err(fault));
        }
        let start = self.read(&outcome).and_then(|readings| self.check(readings)).map(|mut start| {
            start.extend(self.settings.measure_time.iter().map(|time| time_of(*time, &outcome)));
            start
        });
        Ok(start.map_err(|reason| side.fault(STAGE, FaultKind::Unreadable, reason)))
    }

    fn read(&self, outcome: &CommandOutcome) -> Result<Vec<Reading>, String> {
        match self.settings.format {
            MetricFormat::Lines => {
                parse::metric_lines::parse(&complete_stdout(outcome)?).map_err(|error| error.to_string())
            }
            MetricFormat::Json => parse::json::parse(&complete_stdout(outcome)?)
                .map(|results| results.metrics)
                .map_err(|error| format!("standard output: {error}")),
            MetricFormat::None => Ok(Vec::new()),
        }
    }

    /// Compares what was printed with what is declared.
    fn check(&mut self, readings: Vec<Reading>) -> Result<Start, String> {
        let mut start = Start::new();
        for Reading { name, value, unit } in readings {
            let Some(declared) = self.metrics.get(&name) else {
                return Err(format!(
                    "metric {name} is not declared: declare it under `metrics` or do not print it"
                ));
            };
            // A line without a unit is short for the declared one.
            let printed = unit.or_else(|| declared.unit.clone()).unwrap_or_default();
            let known = self.units.entry(name.clone()).or_insert_with(|| printed.clone());
            if *known != printed {
                return Err(format!("metric {name} has unit {printed:?} here and {known:?} elsewhere"));
            }
            start.entry(name).or_default().push(value);
        }
        for name in self.metrics.keys() {
            let count = start.get(name).map_or(0, Vec::len);
            match self.settings.values_per_start {
                _ if count == 0 => return Err(format!("metric {name} is declared and was not printed")),
                Some(expected) if count as u64 != u64::from(expected) => {
                    return Err(format!("metric {name} has {count} values in one start, not {expected}"));
                }
                _ => {}
            }
        }
        Ok(start)
    }

    fn record(&mut self, subject: Subject, start: u32, values: Start) {
        let side = match subject {
            Subject::Candidate => &mut self.candidate,
            Subject::Incumbent => &mut self.incumbent,
        };
        for (name, values) in values {
            let samples =
                (0_u32..).zip(values).map(|(iteration, value)| Sample::new(start, iteration, value));
            side.entry(name).or_default().extend(samples);
        }
    }

    fn samples(&self, side: &BTreeMap<MetricName, Vec<Sample>>) -> Vec<MetricSamples> {
        let spec = |name: &MetricName| match self.metrics.get(name) {
            Some(metric) => MetricSpec {
                name: name.clone(),
                unit: self.units.get(name).cloned().unwrap_or_default(),
                direction: metric.direction,
            },
            // Only the sandbox's own clocks are recorded without being declared.
            None => MetricSpec { name: name.clone(), unit: "s".to_owned(), direction: Direction::Increase },
        };
        side.iter().map(|(name, samples)| MetricSamples::new(spec(name), samples.clone())).collect()
    }

    /// Whether each sample of one side has its neighbour at the same index of the other: one value per start throughout.
    fn is_paired(&self) -> bool {
        let rounds = self.rounds as usize;
        let one_per_start = |samples: &Vec<Sample>| {
            samples.len() == rounds && samples.iter().all(|sample| sample.iteration == 0)
        };
        self.candidate.keys().eq(self.incumbent.keys())
            && self.candidate.values().chain(self.incumbent.values()).all(one_per_start)
    }
}

fn time_of(time: MeasuredTime, outcome: &CommandOutcome) -> (MetricName, Vec<f64>) {
    let name = MetricName::new(time.metric()).expect("the names of our own metrics are valid");
    let duration = match time {
        MeasuredTime::Wall => outcome.wall_time,
        MeasuredTime::Cpu => outcome.cpu_user + outcome.cpu_system,
    };
    (name, vec![duration.as_secs_f64()])
}
