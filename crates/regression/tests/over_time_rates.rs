//! How often judging over time is wrong, by simulation with recorded seeds. Tolerances are three standard errors unless said
//! otherwise; the full tables are those of `evoseal detect simulate`.
#![allow(clippy::unwrap_used, reason = "tests")]

use evoseal_regression::simulation::{
    Beside, DriftSimulation, GainSimulation, LoopSimulation, NoiseKind, PeekSimulation, Share,
    simulate_drift, simulate_gain, simulate_loop, simulate_peek,
};
use evoseal_regression::{ErrorPolicy, RunSettings};

/// Whether a share that should be at most `level` is so, up to chance.
fn at_most(share: Share, level: f64) -> bool {
    share.share <= level + 3.0 * (level * (1.0 - level) / share.trials as f64).sqrt()
}

/// Whether a share that should be at least `level` is so, up to chance.
fn at_least(share: Share, level: f64) -> bool {
    share.share >= level - 3.0 * (level * (1.0 - level) / share.trials as f64).sqrt()
}

#[test]
fn looking_after_every_pair_keeps_the_level_whatever_the_noise() {
    let simulation = PeekSimulation { effects: vec![0.0], trials: 400, ..PeekSimulation::default() };
    for row in simulate_peek(&simulation).unwrap() {
        assert!(at_most(row.regressed, 0.025) && at_most(row.improved, 0.025), "{row:?}");
        // What it replaces errs far more often, so that the simulation would show an error. Pairs of neighbours cancel what
        // an autoregressive noise has in common.
        assert!(
            row.repeated_t_test.share
                > match row.noise {
                    NoiseKind::Autoregressive | NoiseKind::WeaklyAutoregressive => 0.1,
                    _ => 0.2,
                },
            "{row:?}"
        );
    }
}

#[test]
fn a_tenth_is_found_with_a_fraction_of_the_pairs_of_a_fixed_plan() {
    let noises = vec![NoiseKind::Normal, NoiseKind::LogNormal];
    let simulation = PeekSimulation { noises, effects: vec![0.10], trials: 300, ..PeekSimulation::default() };
    for row in simulate_peek(&simulation).unwrap() {
        assert!(at_least(row.regressed, 0.99) && row.pairs_mean < 12.0, "{row:?}");
    }
}

#[test]
fn with_a_tolerance_an_unchanged_candidate_is_equivalent() {
    let noises = vec![NoiseKind::Normal];
    let simulation = PeekSimulation {
        noises,
        effects: vec![0.0, 0.05],
        threshold: 0.05,
        trials: 200,
        ..PeekSimulation::default()
    };
    let rows = simulate_peek(&simulation).unwrap();
    assert!(at_least(rows[0].equivalent, 0.95) && rows[0].pairs_mean < 50.0, "{:?}", rows[0]);
    // At the threshold itself a regression is as false as one without any change.
    assert!(at_most(rows[1].regressed, 0.025) && at_most(rows[1].equivalent, 0.025), "{:?}", rows[1]);
}

#[test]
fn runs_of_unchanged_code_are_left_alone_and_harm_is_caught_in_its_iteration() {
    let simulation = LoopSimulation { runs: 8, iterations: 250, ..LoopSimulation::default() };
    let rows = simulate_loop(&simulation).unwrap();
    for row in &rows {
        assert!(at_most(row.runs_with_false_rollback, 0.05 / 4.0), "{row:?}");
        assert!(at_most(row.harmless_not_accepted, 0.001), "{row:?}");
    }
    assert!(rows[0].measurements_mean < 13.0 && rows[1].measurements_mean < 18.0, "{rows:?}");
    assert!(at_least(rows[1].caught, 0.85) && at_least(rows[2].caught, 0.99), "{rows:?}");
}

#[test]
fn a_history_that_fits_no_longer_costs_measurements_and_no_rollback() {
    // Values that depend on their predecessors break the screen's assumption, not the decision's: pairs cancel it.
    let simulation = LoopSimulation {
        noise: NoiseKind::Autoregressive,
        runs: 6,
        iterations: 150,
        effects: vec![0.0],
        settings: RunSettings { drift_share: 0.0, ..RunSettings::default() },
        ..LoopSimulation::default()
    };
    let row = &simulate_loop(&simulation).unwrap()[0];
    assert!(row.decisions_mean > 10.0 && row.runs_with_false_rollback.hits == 0, "{row:?}");
}

#[test]
fn policies_that_earn_level_back_find_harm_among_much_harm() {
    for policy in [ErrorPolicy::Lord, ErrorPolicy::Saffron, ErrorPolicy::Addis] {
        let simulation = LoopSimulation {
            runs: 2,
            iterations: 150,
            metrics: 3,
            effects: vec![0.10],
            harmful: 0.4,
            settings: RunSettings { policy, ..RunSettings::default() },
            ..LoopSimulation::default()
        };
        let row = &simulate_loop(&simulation).unwrap()[0];
        assert!(at_least(row.caught, 0.97), "{policy:?}: {row:?}");
    }
}

#[test]
fn a_slow_drift_is_caught_before_five_percent_and_flat_runs_are_not_blamed() {
    let simulation = DriftSimulation { trials: 100, flat_steps: 500, ..DriftSimulation::default() };
    for row in simulate_drift(&simulation).unwrap() {
        assert!(at_least(row.caught, 0.95) && at_most(row.false_alarms, 0.05), "{row:?}");
    }
}

#[test]
fn flat_runs_of_a_machine_that_wanders_are_not_blamed_for_a_drift() {
    // What residuals of independent steps would do: every third run had an alarm.
    for (noise, samples) in [
        (NoiseKind::Autoregressive, 3),
        (NoiseKind::Autoregressive, 10),
        (NoiseKind::Autoregressive, 30),
        (NoiseKind::HeavyTailed, 10),
        (NoiseKind::TwoModes, 10),
    ] {
        let flat_before = vec![0];
        let simulation =
            DriftSimulation { noise, samples, trials: 150, flat_before, ..DriftSimulation::default() };
        let row = &simulate_drift(&simulation).unwrap()[0];
        assert!(at_most(row.false_alarms, 0.05), "{samples}: {row:?}");
    }
}

#[test]
fn a_baseline_measured_in_turn_cancels_what_wanders() {
    let simulation = DriftSimulation {
        noise: NoiseKind::Autoregressive,
        beside: Beside::Baseline,
        trials: 100,
        ..DriftSimulation::default()
    };
    for row in simulate_drift(&simulation).unwrap() {
        assert!(at_least(row.caught, 0.99) && at_most(row.false_alarms, 0.01), "{row:?}");
    }
}

#[test]
fn a_gain_on_fresh_samples_is_unbiased_and_the_one_that_chose_is_not() {
    let rows = simulate_gain(&GainSimulation { trials: 2000, ..GainSimulation::default() }).unwrap();
    for row in &rows {
        assert!(row.fresh_bias.abs() <= 3.0 * row.fresh_bias_error, "{row:?}");
        assert!(at_least(row.coverage, 0.95) && at_most(row.coverage, 0.97), "{row:?}");
    }
    assert!(rows[2].claimed_bias > 0.05, "{:?}", rows[2]);
}

#[test]
fn one_seed_gives_one_table() {
    let simulation = LoopSimulation { runs: 1, iterations: 30, metrics: 2, ..LoopSimulation::default() };
    assert_eq!(simulate_loop(&simulation).unwrap(), simulate_loop(&simulation).unwrap());
    assert_ne!(
        simulate_loop(&simulation).unwrap(),
        simulate_loop(&LoopSimulation { seed: 2, ..simulation }).unwrap()
    );
}
