//! Files that an earlier version wrote are read as they were meant. The fixtures are never changed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::Scene;
use evoseal_rollback::{Initiator, Rollback};

#[tokio::test]
async fn the_first_format_is_read() {
    let scene = Scene::new();
    fs::create_dir(scene.state()).unwrap();
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1");
    for name in ["history.log", "known-good.log"] {
        fs::copy(fixture.join(name), scene.state().join(name)).unwrap();
    }
    let manager = scene.manager();
    let history = manager.history().await.unwrap();
    let report = history[0].report.as_ref().unwrap();
    assert_eq!((report.version_id.as_str(), report.fell_back(), report.changes.len()), ("v1", true, 2));
    assert_eq!(history[1].request.initiator, Initiator::Person("ada".to_owned()));
    assert_eq!((history.len(), history[1].request.reason.as_str()), (2, "an odd\nreason"));
    assert_eq!(manager.known_good().await.unwrap(), [report.restored, report.requested]);
}
