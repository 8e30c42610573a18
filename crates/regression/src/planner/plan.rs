//! From noise and threshold to a number of samples.

use serde::{Deserialize, Serialize};

use super::{NoiseProfile, PilotDesign};
use crate::sequential::t_evidence;
use crate::statistics::{invalid, t_power, t_quantile};
use crate::{Error, Result};

/// Beyond so many samples on a side nobody measures; the search ends here.
const SAMPLES_MAX: usize = 1_000_000;

/// What is asked of a plan. All fractions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlanSettings {
    /// The tolerated change of the mean, 0 or more.
    pub threshold: f64,
    /// The harmful change that shall be called a regression, above the threshold; twice the threshold. The same number of
    /// samples then calls an unchanged candidate equivalent, for both lie one threshold away from it.
    pub effect: f64,
    /// The confidence level of the interval, strictly between 0 and 1; 0.95.
    pub level: f64,
    /// The chance with which the effect shall be found, strictly between 0 and 1; 0.95.
    pub power: f64,
    /// The most samples on each side that can be measured, 2 or more; 100.
    pub samples_max: usize,
    /// Whether incumbent and candidate are measured in turn and judged as pairs; true.
    pub paired: bool,
}

impl PlanSettings {
    /// The defaults for a threshold, which is above zero.
    pub const fn for_threshold(threshold: f64) -> Self {
        Self { threshold, effect: 2.0 * threshold, level: 0.95, power: 0.95, samples_max: 100, paired: true }
    }
}

/// How many samples a threshold needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplePlan {
    /// Whether the samples that can be measured suffice, and single values are fine enough.
    pub feasible: bool,
    /// The noise that was planned for.
    pub noise: NoiseProfile,
    /// What was asked.
    pub settings: PlanSettings,
    /// How many samples (process starts, where the pilot had them) of each side a plan with a fixed number needs.
    pub samples: usize,
    /// After about how many pairs a sequential test decides if the candidate has the planned effect.
    pub sequential_at_effect: usize,
    /// After about how many pairs a sequential test decides if nothing changed; `None` where nothing is tolerated, so that
    /// equivalence cannot be shown.
    pub sequential_unchanged: Option<usize>,
    /// The smallest threshold for which the samples that can be measured suffice, the effect in the same proportion to it;
    /// where nothing is tolerated, the smallest effect.
    pub smallest_visible: f64,
    /// The plan in a sentence.
    pub reason: String,
}

/// Plans the comparison of two means.
///
/// The contrast of a pair under a true change `e` and a threshold `u` has mean `(e - u) m` and standard deviation
/// `cv m sqrt((1 + e)^2 + (1 + u)^2)`, as noise grows with the level. So n samples a side have the noncentrality
/// `(e - u) sqrt(n) / (cv sqrt((1 + e)^2 + (1 + u)^2))`, and the plan is the smallest n whose t-test at
/// `(1 - level) / 2` has the power: [`t_power`] with n - 1 degrees of freedom for pairs, 2 n - 2 otherwise. Pairs are
/// planned as if they did not share any noise: what they share makes the plan safe. The sequential figures are where the
/// evidence on the mean path reaches its bound.
///
/// ```
/// use evoseal_regression::{NoiseProfile, PlanSettings, plan};
/// let noise = NoiseProfile::stated(0.05)?;
/// let five_percent = plan(&noise, &PlanSettings::for_threshold(0.05))?;
/// assert!(five_percent.feasible && five_percent.samples > 25 && five_percent.samples < 35);
/// let one_percent = plan(&noise, &PlanSettings::for_threshold(0.01))?;
/// assert!(!one_percent.feasible && one_percent.samples > 500);
/// assert!(one_percent.smallest_visible > 0.02 && one_percent.smallest_visible < 0.03);
/// # Ok::<(), evoseal_regression::Error>(())
/// ```
pub fn plan(noise: &NoiseProfile, settings: &PlanSettings) -> Result<SamplePlan> {
    check(settings)?;
    let samples = needed(noise.cv, settings)?;
    let smallest_visible = smallest(noise, settings)?;
    let too_coarse = coarse_step(noise).is_some_and(|step| step > settings.effect);
    let feasible = samples.is_some_and(|n| n <= settings.samples_max) && !too_coarse;
    let samples = samples.unwrap_or(SAMPLES_MAX);
    let sequential_unchanged = if settings.threshold > 0.0 {
        Some(decided_after(standardised(noise.cv, 0.0, settings.threshold), settings.level)?)
    } else {
        None
    };
    let effect = standardised(noise.cv, settings.effect, settings.threshold);
    Ok(SamplePlan {
        feasible,
        noise: *noise,
        settings: *settings,
        samples,
        sequential_at_effect: decided_after(effect, settings.level)?,
        sequential_unchanged,
        smallest_visible,
        reason: reason(noise, settings, samples, smallest_visible, too_coarse),
    })
}

fn check(settings: &PlanSettings) -> Result<()> {
    let inside = |value: f64| value > 0.0 && value < 1.0;
    let refuse = |what: &str, reason: String| Err(invalid(what, reason));
    if !(settings.threshold >= 0.0 && settings.threshold.is_finite()) {
        return refuse("threshold", format!("{} is not a fraction of zero or more", settings.threshold));
    }
    if !(settings.effect > settings.threshold && settings.effect.is_finite()) {
        let reason = format!("{} does not exceed the threshold of {}", settings.effect, settings.threshold);
        return refuse("effect", reason);
    }
    if !inside(settings.level) {
        return refuse("level", format!("{} does not lie strictly between 0 and 1", settings.level));
    }
    if !inside(settings.power) {
        return refuse("power", format!("{} does not lie strictly between 0 and 1", settings.power));
    }
    if settings.samples_max < 2 {
        return refuse("samples_max", "no plan has fewer than 2 samples".to_owned());
    }
    Ok(())
}

/// The distance of the true change from the asked one, in standard deviations of one contrast.
fn standardised(cv: f64, change: f64, asked: f64) -> f64 {
    (change - asked).abs() / (cv * (1.0 + change).hypot(1.0 + asked))
}

/// The smallest sufficient number on a side; `None` where a million are too few.
fn needed(cv: f64, settings: &PlanSettings) -> Result<Option<usize>> {
    let effect = standardised(cv, settings.effect, settings.threshold);
    let suffices = |n: usize| Ok::<_, Error>(power(n, effect, settings)? >= settings.power);
    let mut high = 2;
    while !suffices(high)? {
        high *= 2;
        if high > SAMPLES_MAX {
            return Ok(None);
        }
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if suffices(middle)? { high = middle } else { low = middle }
    }
    Ok(Some(high))
}

fn power(n: usize, effect: f64, settings: &PlanSettings) -> Result<f64> {
    let degrees = if settings.paired { n as f64 - 1.0 } else { 2.0 * n as f64 - 2.0 };
    t_power(degrees, effect * (n as f64).sqrt(), t_quantile(settings.level, degrees)?)
}

/// Scales threshold and effect together until the measurable samples just suffice.
fn smallest(noise: &NoiseProfile, settings: &PlanSettings) -> Result<f64> {
    let n = settings.samples_max;
    let scaled = |factor: f64| standardised(noise.cv, settings.effect * factor, settings.threshold * factor);
    let suffices = |factor: f64| Ok::<_, Error>(power(n, scaled(factor), settings)? >= settings.power);
    let base = if settings.threshold > 0.0 { settings.threshold } else { settings.effect };
    // Noise grows with the level, so that even a large change may stay invisible to very few samples.
    let (mut low, mut high) = (0.0, 1.0);
    while !suffices(high)? {
        high *= 2.0;
        if high * base > 1e6 {
            return Ok(f64::MAX);
        }
    }
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if suffices(middle)? { high = middle } else { low = middle }
    }
    Ok((high * base).max(coarse_step(noise).unwrap_or(0.0)))
}

/// The resolution, where the noise is too small to carry values over its steps, so that their mean is as coarse as they are.
fn coarse_step(noise: &NoiseProfile) -> Option<f64> {
    noise.resolution.filter(|step| noise.cv < step / 2.0)
}

/// The number of pairs after which the evidence on the mean path suffices.
fn decided_after(effect: f64, level: f64) -> Result<usize> {
    let wanted = -((1.0 - level) / 2.0).ln();
    let suffices = |n: usize| Ok::<_, Error>(t_evidence(n, effect * (n as f64).sqrt())? >= wanted);
    let mut high = 2;
    while !suffices(high)? {
        high *= 2;
        if high > SAMPLES_MAX {
            return Ok(SAMPLES_MAX);
        }
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if suffices(middle)? { high = middle } else { low = middle }
    }
    Ok(high)
}

fn reason(
    noise: &NoiseProfile,
    settings: &PlanSettings,
    samples: usize,
    smallest: f64,
    too_coarse: bool,
) -> String {
    let percent = |fraction: f64| format!("{:.2} %", fraction * 100.0);
    let unit = if noise.design == PilotDesign::Starts { "process starts" } else { "samples" };
    let mut text = if settings.threshold > 0.0 {
        format!(
            "to call a change of {} a regression beyond {} with power {}, this noise (CV {}) needs {samples} {unit} of each side",
            percent(settings.effect),
            percent(settings.threshold),
            settings.power,
            percent(noise.cv),
        )
    } else {
        format!(
            "to see a change of {} with power {}, this noise (CV {}) needs {samples} {unit} of each side",
            percent(settings.effect),
            settings.power,
            percent(noise.cv),
        )
    };
    if samples > settings.samples_max {
        let more = format!(
            ", more than the {} that can be measured; these see {} at best",
            settings.samples_max,
            percent(smallest)
        );
        text.push_str(&more);
    }
    if too_coarse {
        text += "; single values are too coarse for it";
    }
    if noise.autocorrelation.is_some_and(|r| r > 0.3) {
        text += "; neighbouring values depend on each other, so measure in turn and judge pairs, or the plan is too small";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(cv: f64, settings: PlanSettings) -> SamplePlan {
        plan(&NoiseProfile::stated(cv).unwrap(), &settings).unwrap()
    }

    #[test]
    fn the_planned_number_just_suffices() {
        let settings = PlanSettings::for_threshold(0.05);
        let effect = standardised(0.05, settings.effect, settings.threshold);
        for paired in [true, false] {
            let settings = PlanSettings { paired, ..settings };
            let n = planned(0.05, settings).samples;
            assert!(
                power(n, effect, &settings).unwrap() >= 0.95
                    && power(n - 1, effect, &settings).unwrap() < 0.95
            );
        }
    }

    #[test]
    fn the_smallest_visible_threshold_is_feasible_and_less_is_not() {
        let refused = planned(0.05, PlanSettings::for_threshold(0.01));
        assert!(!refused.feasible && refused.reason.contains("at best"), "{refused:?}");
        assert!(planned(0.05, PlanSettings::for_threshold(refused.smallest_visible * 1.001)).feasible);
        assert!(!planned(0.05, PlanSettings::for_threshold(refused.smallest_visible * 0.97)).feasible);
    }

    #[test]
    fn a_coarse_timer_makes_a_plan_infeasible_however_many_samples() {
        let noise = NoiseProfile { resolution: Some(0.2), ..NoiseProfile::stated(0.01).unwrap() };
        let plan = plan(&noise, &PlanSettings::for_threshold(0.05)).unwrap();
        assert!(!plan.feasible && plan.smallest_visible >= 0.2 && plan.reason.contains("coarse"));
    }

    #[test]
    fn nothing_tolerated_can_be_planned_for_an_effect_only() {
        let settings = PlanSettings { effect: 0.05, ..PlanSettings::for_threshold(0.0) };
        let plan = planned(0.05, settings);
        assert!(
            plan.feasible && plan.sequential_unchanged.is_none() && plan.sequential_at_effect < plan.samples
        );
        assert!(super::plan(&plan.noise, &PlanSettings::for_threshold(0.0)).is_err());
    }
}
