//! Decisions made again from the evidence that was kept.

use std::fs;

use serde_json::Value;

use crate::evolved;

#[test]
fn decisions_come_out_the_same_again_and_other_thresholds_show_what_would_flip() {
    let project = evolved();
    let same = project.evoseal(&["rejudge", "--json"]).run().expect(0).json();
    assert_eq!((&same["decisions"], &same["changed"]), (&Value::from(6), &Value::from(0)), "{same}");
    assert_eq!(same["detector_asked"], true);
    let text = project.evoseal(&["rejudge"]).run().expect(0).stdout;
    assert_eq!(text, "6 decisions: 6 the same\n");

    // The policy alone: what was judged then is decided on. The regression of v3 is high.
    let lenient =
        ["rejudge", "--set", "safety.reject_severity=critical", "--set", "safety.minimum_safety_score=0.5"];
    let report = project.evoseal(&[&lenient[..], &["--json"]].concat()).run().expect(1).json();
    assert_eq!(
        (&report["flips"], &report["detector_asked"]),
        (&Value::from(1), &Value::from(false)),
        "{report}"
    );
    let flipped = report["rows"].as_array().unwrap().iter().find(|row| row["flips"] == true).unwrap();
    assert_eq!(
        [&flipped["version_id"], &flipped["before"]["outcome"], &flipped["after"]["outcome"]],
        ["v3", "reject", "accept"]
    );
    let text = project.evoseal(&lenient).run().expect(1).stdout;
    assert!(text.contains("v3") && text.contains("regression") && text.contains("1 would flip"), "{text}");

    // The detector: it judges the measurements of then again.
    let set = ["rejudge", "--set", "safety.regression.regression_threshold=0.5", "--json"];
    let report = project.evoseal(&set).run().expect(1).json();
    assert_eq!(
        (&report["flips"], &report["detector_asked"]),
        (&Value::from(1), &Value::from(true)),
        "{report}"
    );
    let set = ["rejudge", "--set", "metrics.thresholds.cost={ threshold = 0.5, direction = \"increase\" }"];
    project.evoseal(&set).run().expect(1);

    // A change of the file is found without being told, also where every outcome stays.
    project.add_settings("[safety.regression]\nregression_threshold = 0.11\n");
    let report = project.evoseal(&["rejudge", "--json"]).run().expect(1).json();
    assert_eq!(report["flips"], 0, "{report}");
    assert_ne!(report["changed"], 0, "{report}");
    project.configure("regression_threshold = 0.11", "regression_threshold = 0.5");
    let text = project.evoseal(&["rejudge"]).run().expect(1).stdout;
    assert!(text.contains("1 would flip"), "{text}");

    project
        .evoseal(&["rejudge", "--set", "safety.minimum_safty_score=0.5"])
        .run()
        .expect(2)
        .says(&["unknown key `minimum_safty_score`", "did you mean `minimum_safety_score`?"]);
    project.evoseal(&["rejudge", "--set", "safety.minimum_safety_score=7"]).run().expect(2);
    project
        .evoseal(&["rejudge", "--set", "run.iterations=7"])
        .run()
        .expect(2)
        .says(&["no decision depends on"]);
}

#[test]
fn evidence_that_is_damaged_or_gone_is_named_by_its_version() {
    let project = evolved();
    let records = project.evoseal(&["audit", "list", "--json"]).run().expect(0).stdout;
    let evidence_of = |version: &str| {
        let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut decided =
            records.map(|record| record["what"].clone()).filter(|what| what["event"] == "decided");
        let digest = decided.find(|what| what["version_id"] == version).unwrap()["evidence"]
            .as_str()
            .unwrap()
            .to_owned();
        (project.path(&format!(".evoseal/evidence/{digest}.evidence")), digest)
    };
    let ((gone, gone_digest), (damaged, damaged_digest)) = (evidence_of("v1"), evidence_of("v3"));
    fs::remove_file(gone).unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let report = project.evoseal(&["rejudge", "--json"]).run().expect(4).json();
    let unreadable: Vec<(&str, &str)> = report["unreadable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lost| (lost["version_id"].as_str().unwrap(), lost["problem"].as_str().unwrap()))
        .collect();
    assert_eq!(
        unreadable,
        [
            ("v1", format!("the evidence {gone_digest} is missing").as_str()),
            ("v3", format!("the evidence {damaged_digest} is damaged: its checksum does not match").as_str()),
        ]
    );
    let found = project.evoseal(&["audit", "verify"]).run().expect(4).stdout;
    assert!(found.contains(&gone_digest) && found.contains(&damaged_digest), "{found}");
}
