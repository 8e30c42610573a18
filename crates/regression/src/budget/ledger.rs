//! Which decision may be made at which level.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::statistics::invalid;

/// The share of the budget for the decisions that are expected.
const EXPECTED_SHARE: f64 = 0.8;

/// How the error budget of a run is spent.
///
/// All policies share one spending sequence. With `h` the number of decisions that is expected, each of the first h has the
/// share `gamma(k) = 0.8 / h`; the rest is for those that nobody expected, `0.2 h / ((h + j - 1) (h + j))` for the j-th of
/// them. It never rises and never ends, and its sum over all k is exactly one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPolicy {
    /// The chance of *any* false rollback in the whole run is at most the budget (alpha spending): decision k has the level
    /// `budget gamma(k)`. Holds however the decisions depend on each other, as long as each is valid given the past. The
    /// levels fall with every decision, so a run with very many real regressions gets slower in confirming them.
    #[default]
    FamilyWise,
    /// The expected share of false ones among the rollbacks is at most the budget, LORD++ (Ramdas, Yang, Wainwright and
    /// Jordan 2017, "Online control of the false discovery rate with decaying memory", eq. 9): each rollback earns level
    /// back. For runs in which many candidates are bad.
    Lord,
    /// As [`Lord`](Self::Lord), and decisions with a p-value above 0.5 cost nothing: SAFFRON (Ramdas, Zrnic, Wainwright and
    /// Jordan 2018, section 2).
    Saffron,
    /// As [`Saffron`](Self::Saffron) with candidates below 0.25, and p-values above 0.5 are set aside altogether, which
    /// helps where most harmless candidates are better than harmless: ADDIS (Tian and Ramdas 2019, algorithm 1).
    Addis,
}

impl ErrorPolicy {
    /// Below which p-value a decision is a candidate and above which it is set aside: `lambda` and `tau` of the papers.
    const fn bounds(self) -> (f64, f64) {
        match self {
            Self::FamilyWise | Self::Lord => (0.0, 1.0),
            Self::Saffron => (0.5, 1.0),
            Self::Addis => (0.25, 0.5),
        }
    }
}

/// The account of one run. A pure function of the p-values recorded so far.
///
/// With `W0` half the budget, `c` the number of decisions so far that count (all for LORD++; those with p above lambda for
/// SAFFRON; those with p above lambda and at most tau for ADDIS) and `c_j` that number after rollback j, the level of the
/// next decision is, in all three,
///
/// `(tau - lambda) (W0 gamma(c + 1) + (budget - W0) gamma(c - c_1 + 1) + budget sum over j >= 2 of gamma(c - c_j + 1))`,
///
/// at most lambda where that is not zero. The false discovery rates hold for decisions on fresh samples, each valid given
/// the past (for SAFFRON and ADDIS in the form of the ratio of expectations).
///
/// ```
/// use evoseal_regression::{ErrorLedger, ErrorPolicy};
/// let mut ledger = ErrorLedger::new(ErrorPolicy::FamilyWise, 0.05, 50)?;
/// assert!((ledger.next_level() - 0.05 * 0.8 / 50.0).abs() < 1e-15);
/// assert!(!ledger.record(0.2)?);
/// assert!(ledger.record(1e-6)?);
/// assert_eq!((ledger.decisions(), ledger.rejections()), (2, 1));
/// assert!(ledger.spent() < 0.002);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorLedger {
    policy: ErrorPolicy,
    budget: f64,
    horizon: f64,
    decisions: u64,
    /// How many decisions aged the account so far.
    clock: u64,
    /// The clock after each rejection.
    rejected_at: Vec<u64>,
    spent: f64,
}

impl ErrorLedger {
    /// An account with nothing spent. `budget` lies strictly between 0 and 1; `decisions_expected` is 1 or more, and being
    /// wrong about it costs power, never validity.
    pub fn new(policy: ErrorPolicy, budget: f64, decisions_expected: usize) -> Result<Self> {
        if !(budget > 0.0 && budget < 1.0) {
            return Err(invalid("error_budget", format!("{budget} does not lie strictly between 0 and 1")));
        }
        if decisions_expected == 0 {
            return Err(invalid("decisions_expected", "at least one decision must be expected"));
        }
        let horizon = decisions_expected as f64;
        Ok(Self { policy, budget, horizon, decisions: 0, clock: 0, rejected_at: Vec::new(), spent: 0.0 })
    }

    /// The level of the next decision.
    pub fn next_level(&self) -> f64 {
        let gamma = |age: u64| {
            let (age, h) = (age as f64, self.horizon);
            // Beyond the expected decisions, the j-th of which has the age h + j - 1.
            if age < h { EXPECTED_SHARE / h } else { (1.0 - EXPECTED_SHARE) * h / (age * (age + 1.0)) }
        };
        if self.policy == ErrorPolicy::FamilyWise {
            return self.budget * gamma(self.decisions);
        }
        let (lambda, tau) = self.policy.bounds();
        let start = self.budget / 2.0;
        let earned: f64 = (0..)
            .zip(&self.rejected_at)
            .map(|(j, at)| if j == 0 { self.budget - start } else { self.budget } * gamma(self.clock - at))
            .sum();
        let level = (tau - lambda) * (start * gamma(self.clock) + earned);
        if lambda > 0.0 { level.min(lambda) } else { level }
    }

    /// Records the p-value of the decision that was made at [`next_level`](Self::next_level), and says whether it is a
    /// rejection. An e-value `e` counts as the p-value `1 / e`.
    pub fn record(&mut self, p_value: f64) -> Result<bool> {
        if !(0.0..=1.0).contains(&p_value) {
            return Err(invalid("p-value", format!("{p_value} is no probability")));
        }
        let level = self.next_level();
        // An e-value that reached 1 / level exactly is a rejection, and rounding must not undo it.
        let rejected = p_value <= level * (1.0 + 1e-12);
        let (lambda, tau) = self.policy.bounds();
        self.decisions += 1;
        self.spent += level;
        // Without a lambda there are no candidates, and every decision counts, one with p = 0 too.
        self.clock += u64::from((lambda <= 0.0 || p_value > lambda) && p_value <= tau);
        if rejected {
            self.rejected_at.push(self.clock);
        }
        Ok(rejected)
    }

    /// How many decisions were made.
    pub const fn decisions(&self) -> u64 {
        self.decisions
    }

    /// How many of them rejected a candidate.
    pub fn rejections(&self) -> usize {
        self.rejected_at.len()
    }

    /// The sum of the levels of all decisions so far: at most so many false rejections are to be expected.
    pub const fn spent(&self) -> f64 {
        self.spent
    }

    /// The budget of the run.
    pub const fn budget(&self) -> f64 {
        self.budget
    }

    /// The policy.
    pub const fn policy(&self) -> ErrorPolicy {
        self.policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(policy: ErrorPolicy) -> ErrorLedger {
        ErrorLedger::new(policy, 0.05, 10).unwrap()
    }

    #[test]
    fn the_family_wise_budget_is_never_exceeded_and_nearly_used_up() {
        let mut ledger = ledger(ErrorPolicy::FamilyWise);
        let mut last = 1.0;
        for _ in 0..100_000 {
            assert!(ledger.next_level() <= last);
            last = ledger.next_level();
            ledger.record(0.7).unwrap();
        }
        assert!(ledger.spent() < 0.05 && ledger.spent() > 0.0499, "{}", ledger.spent());
    }

    #[test]
    fn lord_earns_back_what_a_rejection_is_worth() {
        // Two decisions expected: 0.4, 0.4, then 0.2 * 2 / (2 * 3), 0.2 * 2 / (3 * 4), …
        let gamma = [0.4, 0.4, 0.4 / 6.0, 0.4 / 12.0];
        let mut ledger = ErrorLedger::new(ErrorPolicy::Lord, 0.05, 2).unwrap();
        assert!((ledger.next_level() - 0.025 * gamma[0]).abs() < 1e-15);
        assert!(!ledger.record(0.9).unwrap() && ledger.record(0.0).unwrap() && ledger.record(0.0).unwrap());
        // Decision 4, with rejections at 2 and 3.
        let expected = 0.025 * gamma[3] + 0.025 * gamma[1] + 0.05 * gamma[0];
        assert!((ledger.next_level() - expected).abs() < 1e-15);
    }

    #[test]
    fn saffron_does_not_age_with_candidates_and_addis_not_with_hopeless_ones() {
        let of = |policy| ErrorLedger::new(policy, 0.05, 1).unwrap();
        let (mut saffron, mut addis) = (of(ErrorPolicy::Saffron), of(ErrorPolicy::Addis));
        let (before, before_addis) = (saffron.next_level(), addis.next_level());
        saffron.record(0.4).unwrap();
        addis.record(0.9).unwrap();
        assert!(
            (saffron.next_level() - before).abs() < 1e-18
                && (addis.next_level() - before_addis).abs() < 1e-18
        );
        saffron.record(0.6).unwrap();
        addis.record(0.4).unwrap();
        assert!(saffron.next_level() < before && addis.next_level() < before_addis);
    }

    #[test]
    fn a_p_value_at_the_level_rejects_and_what_is_none_is_refused() {
        let mut ledger = ledger(ErrorPolicy::FamilyWise);
        assert!(ledger.record(ledger.next_level()).unwrap());
        assert!(!ledger.record(ledger.next_level() * 1.01).unwrap());
        assert!(ledger.record(f64::NAN).is_err() && ledger.record(1.5).is_err());
        assert!(ErrorLedger::new(ErrorPolicy::Lord, 1.0, 10).is_err());
        assert!(ErrorLedger::new(ErrorPolicy::Lord, 0.05, 0).is_err());
    }
}
