//! The standard decision: published score and severities, hard evidence first, closed on every gap.

use std::collections::{BTreeMap, BTreeSet};

use evoseal_regression::{Assessment, DataProblem, Finding, Verdict};
use evoseal_sandbox::ViolationKind;
use evoseal_types::{MetricName, MetricSamples, Objective, Severity};
use serde::{Deserialize, Serialize};

use crate::checks::{MetricCondition, Mode};
use crate::decision::{Decision, DecisionPolicy, Outcome, Penalty, Reason, Rule, SafetyScore};
use crate::evidence::{Evidence, FaultKind, Judgement, Observations};
use crate::flaky::RetestedTest;
use crate::inventory::{TestChanges, tests_run};
use crate::person::{PersonsDecision, PersonsVerdict};
use crate::test_reasons::{check_reasons, test_reasons};
use crate::{Error, OnInconclusive, Result};

/// The thresholds of [`StandardPolicy`], checked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PolicyThresholds {
    /// The lowest safety score that is accepted, 0 to 1.
    pub minimum_safety_score: f64,
    /// The lowest severity of a regression that rejects a version.
    pub reject_severity: Severity,
    /// The lowest severity of a regression that rolls a version back; not below `reject_severity`.
    pub rollback_severity: Severity,
    /// Whether a version must improve the objective, where there is one.
    pub require_improvement: bool,
    /// How sure the improvement must be, 0 to 100, besides the verdict.
    pub min_improvement_score: f64,
    /// What becomes of a version that the evidence does not decide: with `reject` it is rejected, else it is inconclusive.
    #[serde(default)]
    pub on_inconclusive: OnInconclusive,
}

impl Default for PolicyThresholds {
    fn default() -> Self {
        Self {
            minimum_safety_score: 0.8,
            reject_severity: Severity::Low,
            rollback_severity: Severity::Critical,
            require_improvement: true,
            min_improvement_score: 70.0,
            on_inconclusive: OnInconclusive::default(),
        }
    }
}

/// Decides by the rules in the order of [`Rule`]; the harshest outcome wins and every objection is listed.
///
/// A version that touched what judges it (a protected path, or tests that passed before and are gone although the rest
/// passes) is [`Outcome::Tampered`]: what was observed of it does not count, in its favour or against it, and there is no score.
/// Where the surroundings kept the evaluation from being made and nothing else speaks against the version, it is
/// [`Outcome::Error`], without a score either.
///
/// A metric counts as no worse when its verdict is improved or equivalent, or when the harmful end of its interval lies
/// within the threshold: how good it might be does not have to be known. Where the objective is set and improvement is
/// required, its verdict must be improved and `improvement_score` must reach the minimum; that score is
/// `100 * (1 - p / 2)` for a change in the good direction and `100 * p / 2` otherwise, with the two-sided p-value of the
/// comparison (the confidence of the one-sided test, in percent).
///
/// ```
/// use evoseal_safety::{DecisionPolicy, Evidence, Judgement, Observations, Outcome, StandardPolicy, ValidationRequest};
/// use evoseal_types::{TestReport, VersionId};
///
/// let mut request = ValidationRequest {
///     current_version_id: None,
///     new_version_id: VersionId::new("v1")?,
///     observations: Observations::default(),
///     objective: None,
/// };
/// let policy = StandardPolicy::default();
/// let decide = |request: &ValidationRequest| {
///     let (request, measurements, judgement) = (request.clone(), None, Judgement::NotAsked);
///     policy.decide(&Evidence { request, measurements, judgement }).outcome
/// };
/// assert_eq!(decide(&request), Outcome::Reject, "no tests, no trust");
/// request.observations.test_results = vec![TestReport::from_counts("unit_tests", 3, 0, 0, 0)];
/// assert_eq!(decide(&request), Outcome::Accept);
/// # Ok::<(), evoseal_types::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StandardPolicy {
    thresholds: PolicyThresholds,
    conditions: BTreeMap<MetricName, MetricCondition>,
}

impl StandardPolicy {
    /// A policy with these thresholds.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a score outside its range or a rollback severity below the reject severity.
    pub fn new(thresholds: PolicyThresholds) -> Result<Self> {
        let invalid = |what: &str, reason: String| Err(Error::Invalid { what: what.to_owned(), reason });
        if !(0.0..=1.0).contains(&thresholds.minimum_safety_score) {
            let found = thresholds.minimum_safety_score;
            return invalid("minimum_safety_score", format!("{found} is not between 0 and 1"));
        }
        if !(0.0..=100.0).contains(&thresholds.min_improvement_score) {
            let found = thresholds.min_improvement_score;
            return invalid("min_improvement_score", format!("{found} is not between 0 and 100"));
        }
        if thresholds.rollback_severity < thresholds.reject_severity {
            return invalid("rollback_severity", "it is below reject_severity".to_owned());
        }
        Ok(Self { thresholds, conditions: BTreeMap::new() })
    }

    /// The same with conditions on single metrics.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the metric, for a condition that nothing can fulfil.
    pub fn with_conditions(self, conditions: BTreeMap<MetricName, MetricCondition>) -> Result<Self> {
        for (name, condition) in &conditions {
            condition.check().map_err(|error| match error {
                Error::Invalid { reason, .. } => {
                    Error::Invalid { what: format!("metric_conditions.{name}"), reason }
                }
                error => error,
            })?;
        }
        Ok(Self { conditions, ..self })
    }

    /// How much a metric counts.
    fn mode_of(&self, metric: &MetricName) -> Mode {
        self.conditions.get(metric).map_or(Mode::Required, |condition| condition.mode)
    }

    /// Adds an objection to a metric, as much as the metric counts.
    fn object_to(
        &self,
        metric: &MetricName,
        reasons: &mut Vec<Reason>,
        rule: Rule,
        outcome: Outcome,
        message: String,
    ) {
        let mode = self.mode_of(metric);
        let message = if mode == Mode::Wanted { format!("wanted: {message}") } else { message };
        if let Some(outcome) = mode.weigh(outcome) {
            object(reasons, rule, outcome, message);
        }
    }

    /// The thresholds.
    pub fn thresholds(&self) -> &PolicyThresholds {
        &self.thresholds
    }
}

impl DecisionPolicy for StandardPolicy {
    fn decide(&self, evidence: &Evidence) -> Decision {
        let person = evidence.request.observations.person.as_ref();
        if let Some(person) = person.filter(|person| person.verdict != PersonsVerdict::Approve) {
            return decided_by_a_person(person);
        }
        let mut reasons = Vec::new();
        edit_reasons(evidence, &mut reasons);
        fault_reasons(evidence, &mut reasons);
        let test_changes = test_reasons(evidence, &mut reasons);
        check_reasons(&evidence.request.observations, &mut reasons);
        let hard_evidence = reasons.iter().any(|reason| reason.outcome != Outcome::Accept);
        let tampered = reasons.iter().any(|reason| reason.outcome == Outcome::Tampered);
        let objective = objective_finding(evidence).filter(|_| !tampered);
        let improvement = objective.map(improvement_score);
        let objective_improved = objective.map(|finding| finding.verdict == Verdict::Improved);
        if !tampered {
            self.measurement_reasons(evidence, hard_evidence, &mut reasons);
            self.limit_reasons(&evidence.request.observations, hard_evidence, &mut reasons);
            self.improvement_reasons(evidence, hard_evidence, improvement, &mut reasons);
        }
        let safety_score = self.safety_score(evidence, no_data(evidence, &reasons));
        self.score_reasons(&safety_score, &mut reasons);
        // A question that a person has answered is none any more, whatever becomes of open ones.
        let worst = reasons.iter().map(|reason| reason.outcome).max();
        let answered = person.filter(|_| worst == Some(Outcome::Inconclusive));
        if self.thresholds.on_inconclusive == OnInconclusive::Reject && answered.is_none() {
            for reason in reasons.iter_mut().filter(|reason| reason.outcome == Outcome::Inconclusive) {
                reason.outcome = Outcome::Reject;
            }
        }
        if reasons.iter().all(|reason| reason.outcome == Outcome::Accept) {
            let excused = evidence.request.observations.retests.iter().any(RetestedTest::is_excused);
            let tests = if excused { "all tests pass but flaky ones" } else { "all tests pass" };
            let message = format!("{tests} and no metric is measurably worse");
            reasons.push(Reason { rule: Rule::NoObjection, outcome: Outcome::Accept, message });
        }
        reasons.sort_by_key(|reason| reason.rule);
        let mut outcome = reasons.iter().map(|reason| reason.outcome).max().unwrap_or(Outcome::Reject);
        let decided_by = reasons.iter().rev().find(|reason| reason.outcome == outcome);
        let first = reasons.iter().find(|reason| reason.outcome == outcome);
        let decided_by = if outcome == Outcome::Accept { decided_by } else { first };
        let mut decided_by = decided_by.map_or(Rule::NoObjection, |reason| reason.rule);
        if let Some(person) = answered {
            reasons.insert(0, reason_of(person));
            (outcome, decided_by) = (Outcome::Accept, Rule::Overridden);
        }
        Decision {
            outcome,
            decided_by,
            reasons,
            safety_score,
            test_changes,
            improvement_score: improvement,
            objective_improved,
        }
    }
}

/// What a person said.
fn reason_of(person: &PersonsDecision) -> Reason {
    Reason { rule: Rule::Overridden, outcome: person.verdict.outcome(), message: person.to_string() }
}

/// The decision on a version that a person has refused before. Nothing was observed of it.
fn decided_by_a_person(person: &PersonsDecision) -> Decision {
    let reason = reason_of(person);
    Decision {
        outcome: reason.outcome,
        decided_by: Rule::Overridden,
        reasons: vec![reason],
        safety_score: SafetyScore::none("a person has decided about this version before"),
        test_changes: TestChanges::default(),
        improvement_score: None,
        objective_improved: None,
    }
}

/// Adds an objection.
pub(crate) fn object(reasons: &mut Vec<Reason>, rule: Rule, outcome: Outcome, message: String) {
    reasons.push(Reason { rule, outcome, message });
}

/// What guards say.
fn edit_reasons(evidence: &Evidence, reasons: &mut Vec<Reason>) {
    for violation in &evidence.request.observations.violations {
        let (rule, outcome) = match violation.kind {
            ViolationKind::Tampered => (Rule::Tampered, Outcome::Tampered),
            ViolationKind::OutOfScope | ViolationKind::TooLarge => (Rule::EditNotAllowed, Outcome::RollBack),
        };
        object(reasons, rule, outcome, violation.reason.clone());
    }
}

/// What went wrong while evaluating.
fn fault_reasons(evidence: &Evidence, reasons: &mut Vec<Reason>) {
    for fault in &evidence.request.observations.faults {
        let outcome = if fault.is_environmental() { Outcome::Error } else { Outcome::RollBack };
        let first_line = fault.message.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        let message = match fault.kind {
            // The message alone says what kept it from running.
            FaultKind::NotRun => format!("{}: {}", fault.stage, first_line.trim()),
            _ => format!("{} of the {} {}: {}", fault.stage, fault.subject, fault.kind, first_line.trim()),
        };
        object(reasons, Rule::EvaluationFault, outcome, message);
    }
}

/// Why nothing that was observed counts, given the reasons so far.
fn no_data(evidence: &Evidence, reasons: &[Reason]) -> Option<&'static str> {
    let worst = reasons.iter().map(|reason| reason.outcome).max()?;
    // An edit that is not allowed is not evaluated; its score would look like that of failed tests.
    let not_evaluated = evidence.request.observations.test_results.is_empty()
        && reasons.iter().any(|reason| reason.rule == Rule::EditNotAllowed);
    match worst {
        Outcome::Tampered => Some("the candidate touched what judges it"),
        Outcome::Error => Some("the evaluation could not be made"),
        _ if not_evaluated => Some("the edit is not allowed and was not evaluated"),
        _ => None,
    }
}

impl StandardPolicy {
    /// What the measurements say.
    fn measurement_reasons(&self, evidence: &Evidence, hard_evidence: bool, reasons: &mut Vec<Reason>) {
        let request = &evidence.request;
        for metric in &request.observations.metrics {
            if metric.samples.iter().any(|sample| !sample.value.is_finite()) {
                let message = format!("{} has a value that is not a finite number", metric.spec.name);
                let name = &metric.spec.name;
                self.object_to(name, reasons, Rule::MetricUnusable, Outcome::Reject, message);
            }
            if metric.samples.is_empty() {
                let message = format!("{} has no samples", metric.spec.name);
                let name = &metric.spec.name;
                self.object_to(name, reasons, Rule::MetricUnusable, Outcome::Reject, message);
            }
        }
        if let Some(objective) = request.objective.as_ref().filter(|_| !hard_evidence) {
            objective_reasons(objective, &request.observations.metrics, reasons);
        }
        match &evidence.judgement {
            Judgement::Failed(why) => {
                object(reasons, Rule::DetectorFailed, Outcome::Reject, format!("the detector failed: {why}"));
            }
            Judgement::NotAsked => {
                let measured = !request.observations.metrics.is_empty()
                    || !request.observations.incumbent_metrics.is_empty();
                if request.current_version_id.is_some() && measured && !hard_evidence {
                    let message = "the measurements were not judged".to_owned();
                    object(reasons, Rule::DetectorFailed, Outcome::Reject, message);
                }
            }
            Judgement::Assessed(assessment) => {
                for finding in &assessment.findings {
                    self.finding_reason(assessment, finding, reasons);
                }
                for name in unjudged(&request.observations, assessment) {
                    let message = format!("the detector said nothing about {name}");
                    self.object_to(name, reasons, Rule::DetectorFailed, Outcome::Reject, message);
                }
            }
        }
    }

    /// What one finding says, if it stands against the version or deserves a warning.
    fn finding_reason(&self, assessment: &Assessment, finding: &Finding, reasons: &mut Vec<Reason>) {
        let against =
            finding.baseline.as_ref().map_or(String::new(), |name| format!(" against baseline {name}"));
        // Detectors are free to begin their sentence with the metric's name; it is said once.
        let metric = &finding.metric.name;
        let name = metric.as_str();
        let reason = finding.reason.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
        let message = format!("{name}{against}: {}", reason.unwrap_or(&finding.reason));
        match finding.verdict {
            Verdict::Improved | Verdict::Equivalent => {}
            Verdict::Regressed => {
                // A regression without a severity is a detector's fault; it counts as the worst.
                let severity = finding.severity.unwrap_or(Severity::Critical);
                let outcome = if severity >= self.thresholds.rollback_severity {
                    Outcome::RollBack
                } else if severity >= self.thresholds.reject_severity {
                    Outcome::Reject
                } else {
                    Outcome::Accept
                };
                let message = format!("{message} ({severity})");
                self.object_to(metric, reasons, Rule::Regression, outcome, message);
            }
            Verdict::Inconclusive if no_worse(finding) || is_cleared(assessment, finding) => {}
            Verdict::Inconclusive => {
                self.object_to(metric, reasons, Rule::Inconclusive, Outcome::Inconclusive, message);
            }
            Verdict::InsufficientData => {
                let outcome = match (&finding.baseline, finding.problem) {
                    // A baseline from before a metric was declared has nothing to say about it.
                    (Some(_), Some(DataProblem::MissingInIncumbent)) => Outcome::Accept,
                    (
                        _,
                        Some(
                            DataProblem::MissingInIncumbent
                            | DataProblem::NonFiniteInIncumbent
                            | DataProblem::TooFewSamples,
                        ),
                    ) => Outcome::Inconclusive,
                    _ => Outcome::Reject,
                };
                self.object_to(metric, reasons, Rule::MetricUnusable, outcome, message);
            }
        }
    }

    /// Limits of single metrics. One with a limit that was not measured is no better than one beyond it.
    fn limit_reasons(&self, observations: &Observations, hard_evidence: bool, reasons: &mut Vec<Reason>) {
        for (name, condition) in self.conditions.iter().filter(|(_, condition)| condition.has_limit()) {
            let message = match observations.metrics.iter().find(|metric| metric.spec.name == *name) {
                Some(metric) => condition.broken_by(metric),
                // What did not pass its tests is not measured.
                None if hard_evidence => None,
                None => Some(format!("{name} has a limit and was not measured")),
            };
            if let Some(message) = message {
                self.object_to(name, reasons, Rule::MetricLimit, Outcome::Reject, message);
            }
        }
    }

    /// What the score says.
    fn score_reasons(&self, score: &SafetyScore, reasons: &mut Vec<Reason>) {
        let minimum = self.thresholds.minimum_safety_score;
        if score.no_data.is_none() && score.score < minimum {
            let message = format!("the safety score is {:.2}; at least {minimum:.2} is needed", score.score);
            object(reasons, Rule::SafetyScore, Outcome::Reject, message);
        }
    }

    /// What the objective says.
    fn improvement_reasons(
        &self,
        evidence: &Evidence,
        hard_evidence: bool,
        score: Option<f64>,
        reasons: &mut Vec<Reason>,
    ) {
        let (Some(finding), Some(score)) = (objective_finding(evidence), score) else { return };
        if hard_evidence
            || !self.thresholds.require_improvement
            || finding.verdict == Verdict::InsufficientData
        {
            return;
        }
        let name = &finding.metric.name;
        if finding.verdict != Verdict::Improved {
            let message = format!("the objective did not improve: {}", finding.reason);
            object(reasons, Rule::NoImprovement, Outcome::Reject, message);
        } else if score < self.thresholds.min_improvement_score {
            let minimum = self.thresholds.min_improvement_score;
            let message =
                format!("the improvement of {name} scores {score:.1}; at least {minimum:.1} is needed");
            object(reasons, Rule::NoImprovement, Outcome::Reject, message);
        }
    }
}

/// Whether the objective was measured, and means the metric's own direction.
fn objective_reasons(objective: &Objective, metrics: &[MetricSamples], reasons: &mut Vec<Reason>) {
    let name = &objective.metric;
    let message = match metrics.iter().find(|metric| metric.spec.name == *name) {
        None => format!("the objective {name} was not measured"),
        Some(metric) if metric.spec.direction != objective.direction => {
            format!("the objective and the metric {name} disagree about the harmful direction")
        }
        Some(_) => return,
    };
    object(reasons, Rule::MetricUnusable, Outcome::Reject, message);
}

/// Metrics that were measured on either side and have no finding against the incumbent, sorted.
fn unjudged<'a>(observations: &'a Observations, assessment: &Assessment) -> BTreeSet<&'a MetricName> {
    let measured = observations.metrics.iter().chain(&observations.incumbent_metrics);
    measured
        .map(|metric| &metric.spec.name)
        .filter(|name| assessment.against_incumbent(name).is_none())
        .collect()
}

/// Whether the judge of the run saw no sign of harm in the metric: samples were taken until it could say so.
fn is_cleared(assessment: &Assessment, finding: &Finding) -> bool {
    let run = assessment.run.as_ref().filter(|_| finding.baseline.is_none());
    run.is_some_and(|run| run.is_cleared(&finding.metric.name))
}

/// Whether the harmful end of the interval lies within the threshold. False where the interval is an absolute one, or
/// where one of its ends is not a number.
fn no_worse(finding: &Finding) -> bool {
    let (Some(interval), Some(_)) = (finding.interval, finding.change) else { return false };
    let sign = finding.metric.direction.harm_sign();
    let worst = (sign * interval.low).max(sign * interval.high);
    !interval.low.is_nan() && !interval.high.is_nan() && worst <= finding.threshold.threshold()
}

/// The finding on the objective against the incumbent.
fn objective_finding(evidence: &Evidence) -> Option<&Finding> {
    let objective = evidence.request.objective.as_ref()?;
    evidence.judgement.assessment()?.against_incumbent(&objective.metric)
}

/// How sure an improvement is, in percent.
fn improvement_score(finding: &Finding) -> f64 {
    let Some(change) = finding.absolute_change.filter(|change| change.is_finite()) else { return 0.0 };
    let harm = finding.metric.direction.harm_sign() * change;
    // Without a p-value the comparison was exact. One that is no probability says nothing.
    let p_value = match finding.p_value {
        None => f64::from(harm.abs() <= 0.0),
        Some(p_value) if (0.0..=1.0).contains(&p_value) => p_value,
        Some(_) => return 0.0,
    };
    if harm < 0.0 { 100.0 * (1.0 - p_value / 2.0) } else { 100.0 * p_value / 2.0 }
}

impl StandardPolicy {
    /// The published score, over the metrics that decide.
    fn safety_score(&self, evidence: &Evidence, no_data: Option<&str>) -> SafetyScore {
        if let Some(why) = no_data {
            return SafetyScore::none(why);
        }
        let reports = &evidence.request.observations.test_results;
        let excused = |report| evidence.request.observations.excused_failures(report);
        let excused: u64 = reports.iter().map(excused).fold(0, u64::saturating_add);
        let run = tests_run(&reports.iter().collect::<Vec<_>>()).saturating_sub(excused);
        let passed: u64 = reports
            .iter()
            .map(|report| report.tests_passed.min(report.tests_run))
            .fold(0, u64::saturating_add);
        let test_pass_rate = if run == 0 { 0.0 } else { passed as f64 / run as f64 };
        let regressions = evidence.judgement.assessment().into_iter().flat_map(Assessment::regressions);
        let penalties: Vec<Penalty> = regressions
            .filter(|finding| self.mode_of(&finding.metric.name) == Mode::Required)
            .map(|finding| {
                let severity = finding.severity.unwrap_or(Severity::Critical);
                Penalty { metric: finding.metric.name.clone(), severity, penalty: severity.penalty() }
            })
            .collect();
        let total: f64 = penalties.iter().map(|penalty| penalty.penalty).sum();
        let score = (test_pass_rate * (1.0 - total).max(0.0)).clamp(0.0, 1.0);
        SafetyScore { score, no_data: None, test_pass_rate, penalties }
    }
}
