//! Where the evidence of decisions is kept, so that each of them can be made again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use evoseal_types::Digest;

use crate::{Error, Evidence, Result};

impl Evidence {
    /// The digest of this evidence as JSON: the name under which it is kept, and which the audit log bears.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it could not be read back from JSON, as where a number of a finding is infinite.
    pub fn digest(&self) -> Result<Digest> {
        self.encode().map(|(_, digest)| digest)
    }

    /// The JSON, which can be read back, and its digest.
    pub(crate) fn encode(&self) -> Result<(Vec<u8>, Digest)> {
        let invalid = |error: serde_json::Error| Error::Invalid {
            what: "evidence".to_owned(),
            reason: error.to_string(),
        };
        let json = serde_json::to_vec(self).map_err(invalid)?;
        serde_json::from_slice::<Self>(&json).map_err(invalid)?;
        let digest = Digest::of(&json);
        Ok((json, digest))
    }

    /// What has this digest, out of its JSON.
    pub(crate) fn decode(digest: Digest, json: &[u8]) -> Result<Self> {
        let damaged = |problem: String| Error::EvidenceDamaged { digest, problem };
        let found = Digest::of(json);
        if found != digest {
            return Err(damaged(format!("its content has the digest {found}")));
        }
        serde_json::from_slice(json).map_err(|error| damaged(format!("it cannot be read: {error}")))
    }
}

/// Keeps the evidence of decisions by the digest of its JSON.
///
/// ```
/// use evoseal_safety::{Evidence, EvidenceStore, Judgement, MemoryEvidenceStore, Observations, ValidationRequest};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let request = ValidationRequest {
///     current_version_id: None,
///     new_version_id: "v1".parse()?,
///     observations: Observations::default(),
///     objective: None,
/// };
/// let evidence = Evidence { request, measurements: None, judgement: Judgement::NotAsked };
/// let store = MemoryEvidenceStore::default();
/// let digest = store.keep(&evidence).await?;
/// assert_eq!(digest, evidence.digest()?);
/// assert_eq!(store.load(digest).await?, evidence);
/// # Ok(())
/// # }
/// ```
///
/// # Contract
///
/// - *Durable.* Evidence is on storage when `keep` returns, and is never changed or removed.
/// - *By content.* Equal evidence has one name, [`Evidence::digest`]; keeping it again changes nothing. What `load` gives has
///   the digest that was asked for.
/// - *Errors.* [`Error::EvidenceMissing`] for a digest under which nothing is kept, [`Error::EvidenceDamaged`] for what is not
///   as it was kept. After a failed `keep` the evidence is kept wholly or not at all.
#[async_trait]
pub trait EvidenceStore: fmt::Debug + Send + Sync {
    /// Keeps evidence; its digest.
    async fn keep(&self, evidence: &Evidence) -> Result<Digest>;

    /// What is kept under a digest.
    async fn load(&self, digest: Digest) -> Result<Evidence>;

    /// The digests of all that is kept, sorted.
    async fn list(&self) -> Result<Vec<Digest>>;
}

/// Forwards every method to what a smart pointer holds.
macro_rules! forward_evidence_store {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(
            clippy::missing_trait_methods,
            reason = "a forwarding wrapper must not fall back to a default"
        )]
        impl<S: EvidenceStore + ?Sized> EvidenceStore for $pointer<S> {
            async fn keep(&self, evidence: &Evidence) -> Result<Digest> {
                (**self).keep(evidence).await
            }

            async fn load(&self, digest: Digest) -> Result<Evidence> {
                (**self).load(digest).await
            }

            async fn list(&self) -> Result<Vec<Digest>> {
                (**self).list().await
            }
        }
    };
}

forward_evidence_store!(Arc);
forward_evidence_store!(Box);

/// A store that lives as long as the process, for tests and for loops that keep their history elsewhere.
#[derive(Debug, Default)]
pub struct MemoryEvidenceStore {
    kept: Mutex<BTreeMap<Digest, Vec<u8>>>,
}

#[async_trait]
impl EvidenceStore for MemoryEvidenceStore {
    async fn keep(&self, evidence: &Evidence) -> Result<Digest> {
        let (json, digest) = evidence.encode()?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, json);
        Ok(digest)
    }

    async fn load(&self, digest: Digest) -> Result<Evidence> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Evidence::decode(digest, kept.get(&digest).ok_or(Error::EvidenceMissing { digest })?)
    }

    async fn list(&self) -> Result<Vec<Digest>> {
        Ok(self.kept.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect())
    }
}
