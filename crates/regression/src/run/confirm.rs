//! Stage two: the decision on fresh pairs.

use evoseal_types::Threshold;

use super::screen::{likelihood_ratio, relative_variance};
use super::{FreshPairs, RunSettings};
use crate::drift::Moments;
use crate::{Result, SampleKind, SequentialReport, SequentialRule, SequentialTest, Verdict};

/// How many values the screen's idea of the noise counts as.
const PRIOR_PAIRS: f64 = 10.0;

/// How much the pairs must speak against harm, as a logarithm, to let a suspicious metric go. By Wald (1945) a metric with the
/// smallest harm is let go with a chance of at most `exp(-5)`, less than a hundredth.
const CLEARANCE: f64 = 5.0;

/// The chance that stage two lets the smallest harm go.
pub(crate) const CONFIRMATION_MISS: f64 = 0.01;

/// One suspicious metric in stage two.
#[derive(Debug)]
pub(crate) struct Suspect<'a> {
    pub(crate) threshold: Threshold,
    pub(crate) kind: SampleKind,
    pub(crate) fresh: &'a FreshPairs,
    /// The accepted versions.
    pub(crate) reference: Moments,
    /// The harm that must not slip through.
    pub(crate) harm: f64,
}

/// How stage two ended for one metric.
#[derive(Debug)]
pub(crate) struct Confirmed {
    pub(crate) report: SequentialReport,
    /// Whether the data speak against the smallest harm, so that it was let go.
    pub(crate) is_cleared: bool,
}

/// Judges all suspects pair after pair until one is a regression, or all are settled, or the pairs are used up. `alpha` is the
/// level of the decision as a whole: each of m suspects has alpha / m (Bonferroni).
pub(crate) fn confirm(
    suspects: &[Suspect<'_>],
    alpha: f64,
    settings: &RunSettings,
) -> Result<Vec<Confirmed>> {
    let each = alpha / suspects.len().max(1) as f64;
    let mut courses: Vec<Course<'_>> =
        suspects.iter().map(|suspect| Course::new(suspect, each, settings)).collect::<Result<_>>()?;
    let pairs = suspects.iter().map(|suspect| suspect.fresh.incumbent.len()).max().unwrap_or(0);
    for pair in 0..pairs.min(settings.confirm_pairs_max) {
        for course in &mut courses {
            course.step(pair, settings)?;
        }
        let found = courses.iter().any(|course| course.verdict == Verdict::Regressed);
        if found || courses.iter().all(|course| course.is_over) {
            break;
        }
    }
    courses
        .into_iter()
        .map(|course| Ok(Confirmed { report: course.test.report()?, is_cleared: course.is_cleared }))
        .collect()
}

struct Course<'a> {
    suspect: &'a Suspect<'a>,
    test: SequentialTest,
    old: Moments,
    new: Moments,
    differences: Moments,
    verdict: Verdict,
    is_cleared: bool,
    is_over: bool,
}

impl<'a> Course<'a> {
    fn new(suspect: &'a Suspect<'a>, alpha: f64, settings: &RunSettings) -> Result<Self> {
        let rule = SequentialRule {
            threshold: suspect.threshold,
            alpha,
            kind: suspect.kind,
            pairs_max: settings.confirm_pairs_max,
        };
        Ok(Self {
            suspect,
            test: SequentialTest::new(rule)?,
            old: Moments::default(),
            new: Moments::default(),
            differences: Moments::default(),
            verdict: Verdict::Inconclusive,
            is_cleared: false,
            is_over: false,
        })
    }

    fn step(&mut self, pair: usize, settings: &RunSettings) -> Result<()> {
        let Some((old, new)) =
            self.suspect.fresh.incumbent.get(pair).zip(self.suspect.fresh.candidate.get(pair))
        else {
            self.is_over = true;
            return Ok(());
        };
        if self.is_over {
            return Ok(());
        }
        self.verdict = self.test.push(*old, *new)?;
        self.old.push(*old);
        self.new.push(*new);
        self.differences.push(new - old);
        let n = self.old.count;
        if self.verdict == Verdict::Inconclusive && n >= settings.screen_samples_min as f64 {
            let scale = if self.old.mean.abs() > 0.0 { self.old.mean.abs() } else { 1.0 };
            let sign = self.suspect.threshold.direction().harm_sign();
            let change = sign * (self.new.mean - self.old.mean) / scale;
            let known = 2.0 * relative_variance(self.suspect.reference) * PRIOR_PAIRS;
            let variance = (known + self.differences.squares / (scale * scale)) / (PRIOR_PAIRS + n - 1.0) / n;
            let tolerated = self.suspect.threshold.threshold();
            let ratio = likelihood_ratio(change, variance, self.suspect.harm, tolerated);
            self.is_cleared = ratio <= -CLEARANCE;
        }
        self.is_over = self.is_cleared || self.verdict != Verdict::Inconclusive;
        Ok(())
    }
}
