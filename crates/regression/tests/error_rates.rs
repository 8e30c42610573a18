//! How often the detector is wrong, by simulation with recorded seeds. Tolerances are three standard errors.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use common::{Noise, from_toml, judge, measurements, side, two};
use evoseal_regression::simulation::{Cell, CellSimulation, Noise as SimulatedNoise, aa_table, power_table};
use evoseal_regression::statistics::mann_whitney;
use evoseal_regression::{Detector, RankShift, RegressionDetector, SeriesSettings, Verdict, analyze_series};
use evoseal_types::Direction::Increase;
use evoseal_types::{MetricSamples, Sample};

const TRIALS: usize = 2000;

/// Any harm beyond zero is a regression for this one, so that its false alarms can be counted.
fn without_margin() -> RegressionDetector {
    from_toml("regression_threshold = 0.0").unwrap()
}

/// The share of trials in which nothing changed and the detector said that something did: (worse, better).
fn false_alarms(detector: &RegressionDetector, samples: usize, mut draw: impl FnMut() -> f64) -> (f64, f64) {
    let (mut worse, mut better) = (0, 0);
    for _ in 0..TRIALS {
        let mut values = || (0..samples).map(|_| draw()).collect::<Vec<_>>();
        match judge(detector, &two("m", Increase, &values(), &values())).verdict {
            Verdict::Regressed => worse += 1,
            Verdict::Improved => better += 1,
            _ => {}
        }
    }
    (f64::from(worse) / TRIALS as f64, f64::from(better) / TRIALS as f64)
}

/// What a share that should be at most `level` may reach by chance.
fn at_most(level: f64) -> f64 {
    level + 3.0 * (level * (1.0 - level) / TRIALS as f64).sqrt()
}

#[test]
fn false_alarms_stay_within_the_level_under_normal_noise() {
    for samples in [5, 10] {
        let mut noise = Noise::seeded(1 + samples as u64);
        let (worse, better) = false_alarms(&without_margin(), samples, || 100.0 + 5.0 * noise.normal());
        assert!(
            worse <= at_most(0.025) && better <= at_most(0.025),
            "{samples} samples: {worse} and {better}"
        );
        assert!(worse > 0.005, "{worse}: intervals so wide are no use");
    }
}

#[test]
fn false_alarms_stay_within_the_level_under_skewed_noise() {
    let rank = || without_margin().with_analyzer(Arc::new(RankShift)).unwrap();
    for detector in [without_margin(), rank()] {
        for samples in [5, 10] {
            let mut noise = Noise::seeded(3 + samples as u64);
            let (worse, better) = false_alarms(&detector, samples, || 100.0 * (0.3 * noise.normal()).exp());
            assert!(
                worse <= at_most(0.025) && better <= at_most(0.025),
                "{samples} samples: {worse} and {better}"
            );
        }
    }
}

#[test]
fn with_the_standard_margin_noise_of_five_percent_raises_no_alarm() {
    let mut noise = Noise::seeded(7);
    let standard = from_toml("").unwrap();
    let (worse, _) = false_alarms(&standard, 5, || 100.0 + 5.0 * noise.normal());
    assert!(worse <= 0.001, "{worse}");
}

#[test]
fn the_level_holds_for_ten_metrics_together() {
    let (mut noise, detector) = (Noise::seeded(11), without_margin());
    let trials = TRIALS / 5;
    let mut alarmed = 0;
    for _ in 0..trials {
        let mut sides = || {
            (0..10)
                .map(|i| side(&format!("m{i}"), Increase, &noise.normals(5, 100.0, 5.0)))
                .collect::<Vec<_>>()
        };
        let assessment = detector.assess(&measurements(sides(), sides())).unwrap();
        alarmed += u32::from(assessment.regression_detected());
    }
    let share = f64::from(alarmed) / trials as f64;
    assert!(share <= 0.025 + 3.0 * (0.025_f64 * 0.975 / trials as f64).sqrt(), "{share}");
}

#[test]
fn a_loss_of_a_quarter_is_found() {
    let (mut noise, detector) = (Noise::seeded(13), from_toml("").unwrap());
    let mut found = 0;
    for _ in 0..500 {
        let (old, new) = (noise.normals(10, 100.0, 5.0), noise.normals(10, 125.0, 6.25));
        found += u32::from(judge(&detector, &two("m", Increase, &old, &new)).verdict == Verdict::Regressed);
    }
    assert!(found >= 480, "{found} of 500");
}

#[test]
fn intervals_hold_the_true_change_as_often_as_they_say() {
    let (mut noise, detector) = (Noise::seeded(17), from_toml("").unwrap());
    let mut missed = 0;
    for _ in 0..TRIALS {
        // A mean so noisy that an interval which takes it as known would miss twice as often.
        let (old, new) = (noise.normals(6, 100.0, 30.0), noise.normals(6, 200.0, 20.0));
        let interval = judge(&detector, &two("m", Increase, &old, &new)).interval.unwrap();
        missed += u32::from(interval.low > 1.0 || interval.high < 1.0);
    }
    let share = f64::from(missed) / TRIALS as f64;
    assert!(share <= at_most(0.05) && share >= 0.03, "{share}");
}

#[test]
fn a_quiet_series_has_hardly_any_change_points_and_a_step_is_found() {
    let mut noise = Noise::seeded(19);
    let settings = SeriesSettings::default();
    let (mut false_changes, mut found) = (0, 0);
    for _ in 0..100 {
        let quiet = noise.normals(100, 100.0, 5.0);
        false_changes += analyze_series(&quiet, None, &settings).unwrap().change_points.len();
        let step: Vec<f64> =
            quiet.iter().enumerate().map(|(i, value)| value + if i < 60 { 0.0 } else { 15.0 }).collect();
        let changes = analyze_series(&step, Some(Increase), &settings).unwrap().change_points;
        found += usize::from(
            changes.iter().any(|change| change.index.abs_diff(60) <= 2 && change.is_harmful == Some(true)),
        );
    }
    assert!(false_changes <= 10 && found >= 95, "{false_changes} false, {found} found");
}

/// A corner of the table that `cargo xtask simulate` computes in full.
#[test]
fn the_default_keeps_its_level_whatever_the_noise() {
    let cells: Vec<Cell> = Cell::grid()
        .into_iter()
        .filter(|cell| cell.samples == 10 && (cell.coefficient_of_variation - 0.05).abs() < 1e-9)
        .collect();
    assert_eq!(cells.len(), 12, "six noises, with and without variance between starts");
    let settings = CellSimulation { trials: 400, ..CellSimulation::default() };
    for row in aa_table(&cells, &settings).unwrap() {
        assert!(row.holds, "{row:?}");
    }
}

#[test]
fn the_default_sees_what_the_best_test_sees() {
    let cells = [
        (SimulatedNoise::Normal, false),
        (SimulatedNoise::StudentT3, false),
        (SimulatedNoise::Bimodal, false),
        (SimulatedNoise::Normal, true),
    ];
    let cells = cells.map(|(noise, between_starts)| Cell {
        noise,
        coefficient_of_variation: 0.05,
        samples: 10,
        between_starts,
        in_turn: true,
    });
    let settings = CellSimulation { trials: 400, ..CellSimulation::default() };
    for row in power_table(&cells, &[0.05], &settings).unwrap() {
        assert!(row.holds && row.power > 0.3, "{row:?}");
    }
}

/// Four process starts of thirty iterations: between starts 5 %, within them 1 %. The U test over all iterations calls most
/// unchanged pairs different.
#[test]
fn iterations_of_a_start_are_no_independent_samples() {
    let mut noise = Noise::seeded(23);
    let detector = without_margin();
    let (mut naive, mut ours, trials) = (0, 0, 200);
    for _ in 0..trials {
        let mut starts = || -> Vec<Sample> {
            (0..4_u32)
                .flat_map(|start| {
                    let level = 100.0 + 5.0 * noise.normal();
                    noise
                        .normals(30, level, 1.0)
                        .into_iter()
                        .zip(0..)
                        .map(move |(value, i)| Sample::new(start, i, value))
                        .collect::<Vec<_>>()
                })
                .collect()
        };
        let sides =
            [starts(), starts()].map(|samples| MetricSamples::new(common::spec("m", Increase), samples));
        naive += u32::from(mann_whitney(&sides[0].values(), &sides[1].values()).unwrap().p_value < 0.05);
        let [incumbent, candidate] = sides;
        let finding = judge(&detector, &measurements(vec![incumbent], vec![candidate]));
        ours += u32::from([Verdict::Regressed, Verdict::Improved].contains(&finding.verdict));
    }
    assert!(naive > trials / 2, "{naive} of {trials}");
    assert!(
        f64::from(ours) / f64::from(trials) <= 0.05 + 3.0 * (0.05_f64 * 0.95 / f64::from(trials)).sqrt(),
        "{ours} of {trials}"
    );
}
