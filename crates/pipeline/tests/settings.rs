//! The published settings are read as they were published, and nothing else is.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use std::time::Duration;

use evoseal_pipeline::{EvolutionConfig, LoopProgress, StopReason};
use evoseal_types::{Direction, MetricName, Severity};

/// The example of the published description.
const PUBLISHED: &str = r#"{
    "metrics_config": {
        "enabled": true,
        "storage_path": "metrics/",
        "thresholds": {
            "accuracy": {"threshold": 0.05, "direction": "decrease"},
            "performance": {"threshold": 0.2, "direction": "increase"}
        }
    },
    "validation_config": {
        "enabled": true,
        "min_improvement_score": 70.0,
        "confidence_level": 0.95
    },
    "safety_config": {
        "auto_checkpoint": true,
        "auto_rollback": true,
        "safety_checks_enabled": true,
        "checkpoints": {
            "checkpoint_dir": "checkpoints/",
            "max_checkpoints": 50,
            "auto_cleanup": true,
            "compression_enabled": true
        },
        "rollback": {
            "enable_rollback_failure_recovery": true,
            "max_rollback_attempts": 3,
            "rollback_timeout": 30
        },
        "regression": {
            "regression_threshold": 0.1,
            "enable_statistical_analysis": true,
            "enable_anomaly_detection": true,
            "metric_thresholds": {
                "accuracy": {"threshold": 0.05, "direction": "decrease"},
                "performance": {"threshold": 0.2, "direction": "increase"},
                "memory_usage": {"threshold": 0.3, "direction": "increase"}
            }
        }
    }
}"#;

#[test]
fn the_published_example_is_read() {
    let config: EvolutionConfig = serde_json::from_str(PUBLISHED).unwrap();
    assert_eq!(config.metrics.storage_path.as_deref(), Some("metrics/".as_ref()));
    assert_eq!(config.validation.min_improvement_score, 70.0);
    assert_eq!(config.safety.checkpoints.checkpoint_dir.to_str(), Some("checkpoints/"));
    assert_eq!(config.safety.rollback.rollback_timeout, Duration::from_secs(30));
    let memory = MetricName::new("memory_usage").unwrap();
    let threshold = config.detector().metric_thresholds[&memory];
    assert_eq!((threshold.threshold, threshold.direction), (Some(0.3), Some(Direction::Increase)));
    let switches = config.safety_switches();
    assert!(switches.auto_checkpoint && switches.auto_rollback && switches.auto_cleanup);
    assert_eq!((config.max_iterations, config.max_consecutive_rejections), (1000, 5));
}

#[test]
fn defaults_are_the_published_ones_and_read_back() {
    let config = EvolutionConfig::default();
    assert_eq!(serde_json::from_str::<EvolutionConfig>("{}").unwrap(), config);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<EvolutionConfig>(&json).unwrap(), config);
    assert_eq!(
        (config.safety.reject_severity, config.safety.rollback_severity),
        (Severity::Low, Severity::Critical)
    );
    let options = config.run_options();
    assert!(options.iterations == 1000 && options.enable_checkpoints && options.enable_auto_rollback);
}

#[test]
fn a_key_that_is_not_known_is_refused_in_every_section() {
    let unknown = [
        r#"{ "safety": { "auto_roll_back": true } }"#,
        r#"{ "safety": { "checkpoints": { "max_checkpoint": 1 } } }"#,
        r#"{ "safety": { "rollback": { "timeout": 1 } } }"#,
        r#"{ "safety": { "regression": { "threshold": 1 } } }"#,
        r#"{ "metrics": { "path": "x" } }"#,
        r#"{ "validation": { "min_score": 1 } }"#,
        r#"{ "rollback": {} }"#,
    ];
    for json in unknown {
        let error = serde_json::from_str::<EvolutionConfig>(json).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{json}: {error}");
    }
}

#[test]
fn settings_become_what_they_say() {
    let json = r#"{
        "validation": { "enabled": false, "min_improvement_score": 60 },
        "safety": { "auto_checkpoint": false, "auto_rollback": false, "minimum_safety_score": 0.5 },
        "max_iterations": 7, "max_consecutive_rejections": 2
    }"#;
    let config: EvolutionConfig = serde_json::from_str(json).unwrap();
    let policy = config.policy().unwrap();
    let thresholds = policy.thresholds();
    assert_eq!((thresholds.minimum_safety_score, thresholds.min_improvement_score), (0.5, 60.0));
    assert!(!thresholds.require_improvement);
    let options = config.run_options();
    assert_eq!(
        (options.iterations, options.enable_checkpoints, options.enable_auto_rollback),
        (7, false, false)
    );
    let progress = LoopProgress { iterations_done: 2, consecutive_failures: 2, ..LoopProgress::default() };
    let reasons: Vec<StopReason> =
        config.stop_conditions().iter().filter_map(|condition| condition.should_stop(&progress)).collect();
    assert_eq!(reasons, [StopReason::ConsecutiveFailures { count: 2 }]);
    let out_of_range = r#"{ "safety": { "minimum_safety_score": 2 } }"#;
    assert!(serde_json::from_str::<EvolutionConfig>(out_of_range).unwrap().policy().is_err());
}
