//! The contract of [`EvidenceStore`]. That evidence survives a crash, and that damage is noticed, depends on where it is
//! kept and is for the store's own tests.

use std::any::Any;
use std::sync::Arc;

use evoseal_types::{Direction, MetricSamples, MetricSpec, TestReport, VersionId};

use super::{Verdict, ensure, suite, wrong};
use crate::{Error, Evidence, EvidenceStore, Judgement, Observations, ValidationRequest};

/// Makes an empty store, and what keeps it alive.
pub type Fixture<'a> = &'a dyn Fn() -> (Box<dyn EvidenceStore>, Box<dyn Any>);

suite! { $ evidence_store_conformance evidence_store Fixture<'_>,
    begins_empty
    gives_back_what_was_kept
    names_evidence_by_the_digest_of_its_json
    keeps_the_same_evidence_once
    says_that_evidence_is_missing
    keeps_evidence_of_many_writers
}

/// Evidence on a version of this name, with a value that JSON has no number for.
fn evidence(name: &str) -> Result<Evidence, String> {
    let spec = MetricSpec::new("latency", "ms", Direction::Increase).map_err(wrong)?;
    let request = ValidationRequest {
        current_version_id: None,
        new_version_id: VersionId::new(name).map_err(wrong)?,
        observations: Observations {
            test_results: vec![TestReport::from_counts("unit_tests", 3, 0, 0, 0)],
            metrics: vec![MetricSamples::independent(spec, &[0.1, 1e300, f64::INFINITY])],
            ..Observations::default()
        },
        objective: None,
    };
    let judgement = Judgement::Failed("line\nbreaks, \"quotes\" and ü".to_owned());
    Ok(Evidence { request, measurements: None, judgement })
}

/// A fresh store keeps nothing.
pub async fn begins_empty(fixture: Fixture<'_>) -> Verdict {
    let (store, _guard) = fixture();
    let found = store.list().await.map_err(wrong)?;
    ensure(found.is_empty(), || format!("a fresh store keeps {found:?}"))
}

/// What is loaded is what was kept, each under its own digest.
pub async fn gives_back_what_was_kept(fixture: Fixture<'_>) -> Verdict {
    let (store, _guard) = fixture();
    let kept = [evidence("v1")?, evidence("v2")?];
    let mut digests = Vec::new();
    for evidence in &kept {
        digests.push(store.keep(evidence).await.map_err(wrong)?);
    }
    for (digest, evidence) in digests.iter().zip(&kept) {
        let found = store.load(*digest).await.map_err(wrong)?;
        ensure(found == *evidence, || format!("kept {evidence:?}, loaded {found:?}"))?;
    }
    digests.sort_unstable();
    let listed = store.list().await.map_err(wrong)?;
    ensure(listed == digests, || format!("kept {digests:?}, listed {listed:?}"))
}

/// `keep` answers [`Evidence::digest`].
pub async fn names_evidence_by_the_digest_of_its_json(fixture: Fixture<'_>) -> Verdict {
    let (store, _guard) = fixture();
    let evidence = evidence("v1")?;
    let (named, expected) = (store.keep(&evidence).await.map_err(wrong)?, evidence.digest().map_err(wrong)?);
    ensure(named == expected, || format!("it is named {named} and has the digest {expected}"))
}

/// Keeping again adds nothing.
pub async fn keeps_the_same_evidence_once(fixture: Fixture<'_>) -> Verdict {
    let (store, _guard) = fixture();
    let evidence = evidence("v1")?;
    let first = store.keep(&evidence).await.map_err(wrong)?;
    let second = store.keep(&evidence).await.map_err(wrong)?;
    let listed = store.list().await.map_err(wrong)?;
    ensure(first == second && listed == [first], || {
        format!("named {first} and {second}, and listed as {listed:?}")
    })
}

/// What was never kept is an error of its own kind.
pub async fn says_that_evidence_is_missing(fixture: Fixture<'_>) -> Verdict {
    let (store, _guard) = fixture();
    store.keep(&evidence("v1")?).await.map_err(wrong)?;
    let unknown = evidence("v2")?.digest().map_err(wrong)?;
    match store.load(unknown).await {
        Err(Error::EvidenceMissing { digest }) if digest == unknown => Ok(()),
        other => Err(format!("what was never kept gives {other:?}")),
    }
}

/// Several tasks at once, the same evidence and different ones.
pub async fn keeps_evidence_of_many_writers(fixture: Fixture<'_>) -> Verdict {
    let (store, _guard) = fixture();
    let store: Arc<dyn EvidenceStore> = Arc::from(store);
    let mut writers = Vec::new();
    for writer in 0..4 {
        let store = Arc::clone(&store);
        writers.push(tokio::spawn(async move {
            for name in ["shared".to_owned(), format!("v{writer}")] {
                store.keep(&evidence(&name)?).await.map_err(wrong)?;
                tokio::task::yield_now().await;
            }
            Ok::<(), String>(())
        }));
    }
    for writer in writers {
        writer.await.map_err(wrong)??;
    }
    let listed = store.list().await.map_err(wrong)?;
    ensure(listed.len() == 5, || format!("five were kept, and {listed:?} are listed"))?;
    for digest in listed {
        store.load(digest).await.map_err(wrong)?;
    }
    Ok(())
}
