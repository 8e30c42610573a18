//! `evoseal baseline`.

use evoseal_types::VersionId;

use crate::args::BaselineCommand;
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::Project;

pub(crate) async fn run(command: &BaselineCommand, project: &Project, output: Output) -> Result<Exit> {
    let stores = project.stores().await?;
    if let BaselineCommand::Set { name, version } = command {
        let version =
            match version {
                Some(version) => VersionId::new(version.clone())?,
                None => project.run_state()?.incumbent.map(|(version, _)| version.version_id).ok_or_else(
                    || Failure::usage("there is no accepted version yet").hint("`evoseal run` makes one"),
                )?,
            };
        stores.gate.set_baseline(name, &version).await?;
        output.say(format!("{name} is {version} from now on"));
    }
    let baselines = stores.gate.baselines().await?;
    let value: Vec<_> = baselines
        .iter()
        .map(|(name, (version, checkpoint))| {
            serde_json::json!({ "name": name, "version_id": version, "checkpoint": checkpoint })
        })
        .collect();
    output.data(&value, || {
        if baselines.is_empty() {
            return "no baselines; `evoseal baseline set NAME` names the accepted version".to_owned();
        }
        let line = |(name, (version, checkpoint)): (&String, &(VersionId, evoseal_types::CheckpointId))| {
            format!("{name:<16} {version:<16} {}", checkpoint.short())
        };
        baselines.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(Exit::Done)
}
