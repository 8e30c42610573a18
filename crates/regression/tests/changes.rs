//! Changes, trends and anomalies of series: invariances, error rates by simulation with recorded seeds, and bounds.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Noise;
use evoseal_regression::{
    ChangePoint, ChangePointMethod, OnlineAnomalies, OnlineChanges, SeriesReport, SeriesSettings,
    analyze_series, analyze_series_online, change_points,
};
use evoseal_types::Direction::{Decrease, Increase};
use proptest::prelude::*;

fn report(values: &[f64]) -> SeriesReport {
    analyze_series(values, None, &SeriesSettings::default()).unwrap()
}

fn online(values: &[f64]) -> SeriesReport {
    analyze_series_online(values, None, &SeriesSettings::default()).unwrap()
}

fn places(changes: &[ChangePoint]) -> Vec<(usize, (usize, usize))> {
    changes.iter().map(|change| (change.index, change.interval)).collect()
}

/// Noise with some steps and outliers.
fn steps() -> impl Strategy<Value = Vec<f64>> {
    (any::<u64>(), 8_usize..150, prop::collection::vec((0.0..1.0_f64, -8.0..8.0_f64), 0..4)).prop_map(
        |(seed, n, steps)| {
            let mut noise = Noise::seeded(seed);
            let level =
                |place: f64| steps.iter().filter(|(from, _)| *from <= place).map(|(_, by)| by).sum::<f64>();
            (0..n).map(|index| level(index as f64 / n as f64) + noise.normal()).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shift_and_scale_move_no_change(values in steps(), shift in -1e3..1e3_f64, power in -20_i32..20) {
        let scale = 2.0_f64.powi(power);
        let moved: Vec<f64> = values.iter().map(|value| (value + shift) * scale).collect();
        for search in [report, online] {
            let (plain, moved) = (search(&values), search(&moved));
            prop_assert_eq!(places(&plain.change_points), places(&moved.change_points));
            for (a, b) in plain.change_points.iter().zip(&moved.change_points) {
                prop_assert!(((a.after - a.before) * scale - (b.after - b.before)).abs() < 1e-6 * scale);
            }
        }
    }

    #[test]
    fn upside_down_only_the_signs_turn(values in steps()) {
        let turned: Vec<f64> = values.iter().map(|value| -value).collect();
        for (search, settings) in [(report as fn(&[f64]) -> SeriesReport, "whole"), (online, "online")] {
            let (plain, turned) = (search(&values), search(&turned));
            prop_assert_eq!(places(&plain.change_points), places(&turned.change_points), "{}", settings);
            let scores = |report: &SeriesReport, sign: f64| -> Vec<(usize, f64)> {
                report.anomalies.iter().map(|anomaly| (anomaly.index, sign * anomaly.score)).collect()
            };
            prop_assert_eq!(scores(&plain, 1.0), scores(&turned, -1.0));
        }
        let harm = |values: &[f64], direction| -> Vec<(usize, Option<bool>)> {
            let found = change_points(values, Some(direction), ChangePointMethod::Auto).unwrap();
            found.iter().map(|change| (change.index, change.is_harmful)).collect()
        };
        prop_assert_eq!(harm(&values, Increase), harm(&turned, Decrease));
    }

    #[test]
    fn improvements_are_never_anomalies(values in steps()) {
        for direction in [Increase, Decrease] {
            let settings = SeriesSettings::default();
            for report in [
                analyze_series(&values, Some(direction), &settings).unwrap(),
                analyze_series_online(&values, Some(direction), &settings).unwrap(),
            ] {
                prop_assert!(report.anomalies.iter().all(|anomaly| anomaly.score * direction.harm_sign() > 0.0));
            }
        }
    }

    #[test]
    fn what_was_said_online_does_not_depend_on_the_future(values in steps(), cut in 0.1..1.0_f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the length")]
        let cut = (values.len() as f64 * cut) as usize;
        let said = |values: &[f64]| {
            let (mut changes, mut anomalies) = (OnlineChanges::new(None), OnlineAnomalies::new(None));
            let each = values.iter().map(|value| (changes.push(*value).unwrap(), anomalies.push(*value).unwrap()));
            each.collect::<Vec<_>>()
        };
        prop_assert_eq!(&said(&values)[..cut], &said(&values[..cut])[..]);
    }

    #[test]
    fn every_change_lies_in_its_interval_between_its_neighbours(values in steps()) {
        for method in [ChangePointMethod::Auto, ChangePointMethod::Pelt { penalty: None }] {
            let found = change_points(&values, None, method).unwrap();
            prop_assert_eq!(&found, &change_points(&values, None, method).unwrap(), "the same answer again");
            let mut last = 0;
            for change in &found {
                prop_assert!(last < change.interval.0 && change.interval.0 <= change.index);
                prop_assert!(change.index <= change.interval.1 && change.interval.1 < values.len());
                prop_assert!((0.0..=1.0).contains(&change.confidence), "{:?}", change);
                last = change.index;
            }
        }
    }
}

/// A kind of noise, by name.
type Draw = fn(&mut Noise, &mut f64) -> f64;

const INDEPENDENT: [(&str, Draw); 4] = [
    ("normal", |noise, _| noise.normal()),
    ("log-normal", |noise, _| (0.5 * noise.normal()).exp()),
    ("t with 3 degrees of freedom", |noise, _| {
        let square: f64 = (0..3).map(|_| noise.normal().powi(2)).sum();
        noise.normal() / (square / 3.0).sqrt()
    }),
    ("two modes", |noise, _| 0.3 * noise.normal() + if noise.normal() < -0.52 { 2.0 } else { 0.0 }),
];

fn changes_of_the_whole(values: &[f64]) -> usize {
    change_points(values, None, ChangePointMethod::Auto).unwrap().len()
}

fn changes_one_by_one(values: &[f64]) -> usize {
    let mut detector = OnlineChanges::new(None);
    values.iter().filter_map(|value| detector.push(*value).unwrap()).count()
}

/// The share of series of nothing but noise that have a change.
fn false_alarms(search: fn(&[f64]) -> usize, draw: Draw, n: usize, trials: usize) -> f64 {
    let mut noise = Noise::seeded(n as u64);
    let mut found = 0;
    for _ in 0..trials {
        let mut state = 0.0;
        let values: Vec<f64> = (0..n).map(|_| draw(&mut noise, &mut state)).collect();
        found += usize::from(search(&values) > 0);
    }
    found as f64 / trials as f64
}

#[test]
fn flat_noise_rarely_has_a_change() {
    // At most the stated level and three standard errors of 400 trials.
    for (name, draw) in INDEPENDENT {
        for (n, level) in [(20, 0.03), (100, 0.02)] {
            let limit = level + 3.0 * (level * (1.0 - level) / 400.0_f64).sqrt();
            let share = false_alarms(changes_of_the_whole, draw, n, 400);
            assert!(share <= limit, "{name}, {n} values: {share}");
        }
        let share = false_alarms(changes_one_by_one, draw, 200, 100);
        assert!(share <= 0.05 + 3.0 * 0.0218, "{name}, online: {share}");
    }
}

#[test]
fn dependent_noise_is_not_taken_for_changes() {
    let autoregression: Draw = |noise, state| {
        *state = 0.7 * *state + noise.normal();
        *state
    };
    let share = false_alarms(changes_of_the_whole, autoregression, 400, 100);
    assert!(share <= 0.05, "of series of an AR(1) of 0.7, {share} have a change");
}

#[test]
fn steps_are_found_where_they_are_and_their_intervals_hold_them() {
    let (mut found, mut held, mut at_once) = (0, 0, 0);
    let mut noise = Noise::seeded(4);
    let trials = 200;
    for _ in 0..trials {
        let values = [noise.normals(50, 100.0, 5.0), noise.normals(20, 110.0, 5.0)].concat();
        let near = |change: &ChangePoint| change.index.abs_diff(50) <= 5;
        let whole = change_points(&values, None, ChangePointMethod::Auto).unwrap();
        if let Some(change) = whole.iter().find(|change| near(change)) {
            found += 1;
            held += usize::from((change.interval.0..=change.interval.1).contains(&50));
            assert!(
                (change.after - change.before - 10.0).abs() < 6.0 && change.confidence > 0.9,
                "{change:?}"
            );
        }
        let mut detector = OnlineChanges::new(None);
        at_once += values.iter().filter_map(|value| detector.push(*value).unwrap()).filter(near).count();
    }
    assert!(found > trials * 80 / 100, "{found} of {trials} steps of two standard deviations");
    assert!(held * 100 >= found * 95, "{held} of {found} intervals hold the place");
    assert!(at_once > trials * 40 / 100, "{at_once} of {trials} online");
}

#[test]
fn up_to_three_odd_values_are_no_level() {
    let mut values = Noise::seeded(9).normals(120, 50.0, 1.0);
    values[30] = 80.0;
    for value in &mut values[70..73] {
        *value = 20.0;
    }
    let found = report(&values);
    assert_eq!(found.change_points, []);
    let marked: Vec<_> = found.anomalies.iter().map(|one| (one.index, one.method.as_str())).collect();
    assert_eq!(marked, [(30, "spike"), (70, "drop"), (71, "drop"), (72, "drop")]);
}

#[test]
fn a_drift_is_a_trend_and_a_season_is_neither_change_nor_anomaly() {
    let mut noise = Noise::seeded(12);
    let drift: Vec<f64> = (0..200).map(|index| 0.2 * f64::from(index) + noise.normal()).collect();
    let found = report(&drift);
    assert_eq!(found.change_points, []);
    let trend = found.trend.unwrap();
    assert!(
        trend.slope_interval.low < 0.2 && 0.2 < trend.slope_interval.high && trend.p_value < 1e-9,
        "{trend:?}"
    );
    assert!(trend.prediction_interval.low < 40.0 && 40.0 < trend.prediction_interval.high, "{trend:?}");
    let daily: Vec<f64> = (0..480)
        .map(|hour| 20.0 * (f64::from(hour % 24) / 24.0 * std::f64::consts::TAU).sin() + noise.normal())
        .collect();
    let found = report(&daily);
    assert_eq!((found.change_points, found.anomalies), (vec![], vec![]));
    // A night at noon is nothing special for the level, but for the season.
    let mut broken = daily.clone();
    for value in &mut broken[412..424] {
        *value += 15.0;
    }
    let alarms: Vec<usize> = online(&broken).anomalies.iter().map(|alarm| alarm.index).collect();
    assert!(alarms.iter().any(|index| (412..440).contains(index)), "{alarms:?}");
}

#[test]
fn a_step_and_a_spike_under_a_season_are_found() {
    let mut noise = Noise::seeded(77);
    let mut monthly: Vec<f64> = (0..240)
        .map(|month| {
            let season = 20.0 * (f64::from(month % 12) / 12.0 * std::f64::consts::TAU).cos();
            season + noise.normal() + if month < 130 { 100.0 } else { 106.0 }
        })
        .collect();
    // No more than the month before or after, but far too much for its own season.
    monthly[54] += 25.0;
    let found = report(&monthly);
    assert_eq!(found.change_points.iter().map(|change| change.index).collect::<Vec<_>>(), [130]);
    let (before, after) = (found.change_points[0].before, found.change_points[0].after);
    assert!((before - 100.0).abs() < 1.0 && (after - 106.0).abs() < 1.0, "{before} {after}");
    assert_eq!(found.anomalies.iter().map(|anomaly| anomaly.index).collect::<Vec<_>>(), [54]);
}

#[test]
fn energy_and_pelt_find_the_plain_step_as_well() {
    let mut noise = Noise::seeded(31);
    let values = [noise.normals(40, 10.0, 1.0), noise.normals(40, 14.0, 1.0)].concat();
    let methods = [
        ChangePointMethod::Auto,
        ChangePointMethod::Pelt { penalty: None },
        ChangePointMethod::Pelt { penalty: Some(13.0) },
        ChangePointMethod::Energy { level: 0.01, permutations: 199, seed: 1 },
    ];
    for method in methods {
        let found = change_points(&values, None, method).unwrap();
        assert_eq!(found.iter().map(|change| change.index).collect::<Vec<_>>(), [40], "{method:?}");
    }
    let greedy = change_points(&values, None, ChangePointMethod::Pelt { penalty: Some(0.1) }).unwrap();
    assert!(greedy.len() > 5, "a low price finds changes in noise: {}", greedy.len());
    let long = vec![1.0; 50_001];
    assert!(change_points(&long, None, methods[1]).is_err(), "its time grows with the square of the length");
    assert_eq!(change_points(&long, None, ChangePointMethod::Auto).unwrap(), []);
}

#[test]
fn streams_refuse_what_is_no_number_and_go_on() {
    let (mut changes, mut anomalies) = (OnlineChanges::new(None), OnlineAnomalies::new(None));
    for bad in [f64::NAN, f64::INFINITY, 2e150] {
        assert!(changes.push(bad).is_err() && anomalies.push(bad).is_err(), "{bad}");
    }
    assert_eq!((changes.push(1.0).unwrap(), anomalies.push(1.0).unwrap()), (None, None));
}
