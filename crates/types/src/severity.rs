//! How bad a finding is, and what to do about a set of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad a regression is, by the published rule on the ratio of change to threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Beyond the threshold.
    Low,
    /// At least one and a half thresholds.
    Medium,
    /// At least two thresholds.
    High,
    /// At least the critical threshold.
    Critical,
}

impl Severity {
    /// The penalty that one regression of this severity takes from the safety score: critical 0.4, high 0.2, medium
    /// 0.1, low 0.05.
    pub const fn penalty(self) -> f64 {
        match self {
            Self::Low => 0.05,
            Self::Medium => 0.1,
            Self::High => 0.2,
            Self::Critical => 0.4,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// What the detector advises, in the published words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recommendation {
    /// Nothing was found.
    NoAction,
    /// Only low findings, or one or two of medium severity.
    Monitor,
    /// More than two findings of medium severity.
    CautionAdvised,
    /// At least one finding of high severity.
    ReviewRequired,
    /// At least one critical finding.
    RollbackRequired,
}

impl Recommendation {
    /// The published rule over the severities of all findings.
    ///
    /// ```
    /// use evoseal_types::{Recommendation, Severity::*};
    /// assert_eq!(Recommendation::of([Low, Critical]), Recommendation::RollbackRequired);
    /// assert_eq!(Recommendation::of([]), Recommendation::NoAction);
    /// ```
    pub fn of(severities: impl IntoIterator<Item = Severity>) -> Self {
        let mut counts = [0_usize; 4];
        for severity in severities {
            counts[severity as usize] += 1;
        }
        match counts {
            [0, 0, 0, 0] => Self::NoAction,
            [_, _, _, critical] if critical > 0 => Self::RollbackRequired,
            [_, _, high, _] if high > 0 => Self::ReviewRequired,
            [_, medium, _, _] if medium > 2 => Self::CautionAdvised,
            _ => Self::Monitor,
        }
    }
}

impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoAction => "no_action",
            Self::Monitor => "monitor",
            Self::CautionAdvised => "caution_advised",
            Self::ReviewRequired => "review_required",
            Self::RollbackRequired => "rollback_required",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recommendations_follow_the_published_rule() {
        use Severity::{Critical, High, Low, Medium};
        let cases: [(&[Severity], Recommendation); 6] = [
            (&[], Recommendation::NoAction),
            (&[Low, Low, Low, Low], Recommendation::Monitor),
            (&[Medium, Medium], Recommendation::Monitor),
            (&[Medium, Medium, Medium], Recommendation::CautionAdvised),
            (&[High, Medium, Medium, Medium], Recommendation::ReviewRequired),
            (&[Critical, High], Recommendation::RollbackRequired),
        ];
        for (severities, expected) in cases {
            assert_eq!(Recommendation::of(severities.iter().copied()), expected, "{severities:?}");
        }
    }
}
