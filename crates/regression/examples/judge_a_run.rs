//! Judging over time: a plan, a test that stops as soon as it knows, and a run with one error budget.
//!
//! Run with `cargo run -p evoseal-regression --example judge_a_run`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;

use evoseal_regression::{
    FreshPairs, Iteration, IterationDecision, NoiseProfile, PlanSettings, RunJudge, RunMetric, RunSettings,
    SampleKind, Sampling, SequentialRule, SequentialTest, Verdict, plan,
};
use evoseal_types::{Direction, MetricSpec, Threshold};

/// Measurements of a program that takes `level` milliseconds, give or take two percent.
fn measure(level: f64, count: u32, start: u32) -> Vec<f64> {
    (start..start + count).map(|i| level * (1.0 + 0.02 * (f64::from(i) * 2.399).sin())).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // How many samples does a threshold of three percent need on this machine?
    let noise = NoiseProfile::of_samples(&measure(12.0, 20, 0))?;
    println!("{}", plan(&noise, &PlanSettings::for_threshold(0.03))?.reason);

    // Judge while measuring: stop as soon as the answer is certain.
    let threshold = Threshold::new("latency", 0.03, Direction::Increase)?;
    let rule = SequentialRule { threshold, alpha: 0.025, kind: SampleKind::Mean, pairs_max: 100 };
    let mut test = SequentialTest::new(rule)?;
    for (old, new) in measure(12.0, 100, 3).into_iter().zip(measure(13.0, 100, 40)) {
        if test.push(old, new)? != Verdict::Inconclusive {
            break;
        }
    }
    let report = test.report()?;
    println!("{} after {} pairs", report.verdict, report.pairs);
    assert_eq!(report.verdict, Verdict::Regressed);

    // A run: every candidate is screened with few samples; only suspicious ones are measured again, in turn.
    let mut judge = RunJudge::new(RunSettings::default())?;
    for (number, level) in [(1, 12.0), (2, 12.0), (3, 13.0), (4, 11.4)] {
        let mut metric = RunMetric {
            spec: MetricSpec::new("latency", "ms", Direction::Increase)?,
            threshold: Threshold::new("latency", 0.0, Direction::Increase)?,
            kind: SampleKind::Mean,
            incumbent: measure(12.0, 10, 7 * number),
            candidate: measure(level, 10, 11 * number),
            confirmation: None,
            baselines: BTreeMap::new(),
        };
        let iteration = |metric: RunMetric| Iteration {
            metrics: vec![metric],
            sampling: Sampling::FreshPairs,
            accepted: None,
        };
        let mut report = judge.judge(&iteration(metric.clone()))?;
        if report.decision == IterationDecision::Confirm {
            let (incumbent, candidate) = (measure(12.0, 40, 13 * number), measure(level, 40, 17 * number));
            metric.confirmation = Some(FreshPairs { incumbent, candidate });
            report = judge.judge(&iteration(metric))?;
        }
        println!("iteration {number}: {:?}: {}", report.decision, report.reason);
        assert_eq!(report.decision == IterationDecision::Rollback, level > 12.5);
    }
    let totals = judge.totals();
    println!("at most {:.3} false rollbacks are to be expected in this run", totals.false_rollbacks_max);
    assert!(totals.false_rollbacks_max <= 0.05);
    Ok(())
}
