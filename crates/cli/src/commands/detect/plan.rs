//! `evoseal detect plan`: how many samples a threshold needs.

use evoseal_regression::{NoiseProfile, PlanSettings, SamplePlan, plan};

use crate::commands::series;
use crate::detect_args::PlanArguments;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;

pub(super) fn run(arguments: &PlanArguments, output: Output) -> Result<Exit> {
    let settings = PlanSettings {
        threshold: arguments.threshold,
        effect: arguments.effect.unwrap_or(2.0 * arguments.threshold),
        level: arguments.level,
        power: arguments.power,
        samples_max: arguments.max,
        paired: !arguments.unpaired,
    };
    let plan = plan(&noise(arguments)?, &settings).map_err(|error| {
        let failure = Failure::usage(error.to_string());
        if settings.threshold > 0.0 {
            failure
        } else {
            failure.hint("where nothing is tolerated, name the change to find: `--effect 0.05`")
        }
    })?;
    output.data(&plan, || text(&plan));
    Ok(if plan.feasible { Exit::Done } else { Exit::Found })
}

/// The noise that was stated or measured.
fn noise(arguments: &PlanArguments) -> Result<NoiseProfile> {
    let Some(pilot) = &arguments.pilot else {
        // The arguments have one of the two.
        return Ok(NoiseProfile::stated(arguments.cv.unwrap_or(f64::NAN))?);
    };
    let series = series::read(pilot, arguments.column.as_deref(), arguments.group_by.as_deref())?;
    let values: Vec<Vec<f64>> = series.into_iter().map(|series| series.values).collect();
    let noise = if arguments.group_by.is_some() {
        NoiseProfile::of_starts(&values)
    } else {
        NoiseProfile::of_samples(&values.concat())
    };
    noise.map_err(|error| {
        Failure::usage(format!("{}: {error}", pilot.display()))
            .hint("measure the present version ten times or more, or state the noise with `--cv`")
    })
}

fn text(plan: &SamplePlan) -> String {
    let mut lines = vec![plan.reason.clone()];
    let unchanged = plan.sequential_unchanged.map(|pairs| format!(", and after {pairs} if nothing changed"));
    lines.push(format!(
        "judged while sampling, it is decided after about {} pairs if the change is there{}",
        plan.sequential_at_effect,
        unchanged.unwrap_or_default()
    ));
    if !plan.feasible {
        lines.push("refused: measure more, on a quieter machine, or tolerate more".to_owned());
    }
    lines.join("\n")
}
