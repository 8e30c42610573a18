//! A proposer that varies named constants.

mod search;
mod settings;
mod sites;
mod tried;

use std::collections::BTreeMap;

use async_trait::async_trait;
use evoseal_pipeline::{Proposal, ProposalContext, Proposer, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use sites::Sources;
use tried::Tried;

pub use settings::{Parameter, ParameterProposerSettings, ParameterValues, Site};

use crate::text;

/// The text of a value; `None` for what the workspace holds when it is none of the values.
type Value = Option<String>;
/// A value for each parameter.
type Combination = BTreeMap<String, Value>;

/// Varies named constants in source or configuration files, by chance and without repeating itself.
///
/// Each proposal changes one parameter of the incumbent, one in five changes two; when all of these were tried it goes
/// further away. No combination is proposed twice in a run, and when all were proposed the proposer is exhausted. Which
/// one comes next depends on the seed, the iteration, the workspace and what was proposed before, on nothing else: runs
/// with the same seed and the same decisions propose the same.
///
/// What was tried stands in `parameters-<seed>.json` in the run's folder. An iteration that is repeated after a crash
/// gets the proposal that it had before.
///
/// A parameter whose sites hold none of its values, or values that do not agree, is *as published*: a proper place to
/// start from, to which no proposal goes back. Settings may say which value that is ([`Parameter::published`]).
///
/// Files are written beside their place and renamed; mode and all other bytes stay as they were. A site must be found
/// exactly once, and neither it nor a folder above may be a symlink; otherwise the iteration fails with the file named.
///
/// ```
/// use evoseal_adapters::{ParameterProposer, ParameterProposerSettings};
/// use evoseal_pipeline::{Brief, Proposal, ProposalContext, Proposer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let (workspace, run_directory) = (folder.path().join("workspace"), folder.path().join("run"));
/// # std::fs::create_dir(&workspace)?;
/// # std::fs::create_dir(&run_directory)?;
/// let settings: ParameterProposerSettings = toml::from_str(r#"
///     [[parameters]]
///     name = "table_bits"
///     values = [12, 13]
///     sites = [
///         { file = "table.rs", before = "const SIZE: usize = ", after = ";", format = "1 << {value}" },
///         { file = "table.rs", before = "const SHIFT: usize = ", after = ";", format = "16 - {value}" },
///     ]
/// "#)?;
/// std::fs::write(workspace.join("table.rs"), "const SIZE: usize = 1 << 12;\nconst SHIFT: usize = 16 - 12;\n")?;
///
/// let brief = Brief {
///     objective: None,
///     incumbent: "start".parse()?,
///     incumbent_metrics: Default::default(),
///     outcomes: Vec::new(),
/// };
/// let context = ProposalContext { workspace: workspace.clone(), run_directory, iteration: 1, seed: 7, brief };
/// let proposal = ParameterProposer::new(settings)?.propose(&context).await?;
/// assert_eq!(proposal, Proposal::Edited { summary: "table_bits 12 → 13".to_owned() });
/// assert_eq!(
///     std::fs::read_to_string(workspace.join("table.rs"))?,
///     "const SIZE: usize = 1 << 13;\nconst SHIFT: usize = 16 - 13;\n",
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ParameterProposer {
    parameters: Vec<Parameter>,
}

impl ParameterProposer {
    /// A proposer of these parameters. Names must be unique, and each parameter needs a site whose `format` holds
    /// `{value}`.
    pub fn new(settings: ParameterProposerSettings) -> Result<Self> {
        settings.check()?;
        Ok(Self { parameters: settings.parameters })
    }

    /// What to propose now and, as a side effect of choosing it, the record with it in.
    fn choose(&self, context: &ProposalContext, incumbent: &Combination) -> Result<Option<Combination>> {
        let mut tried = Tried::open(&context.run_directory, context.seed)?;
        if let Some(again) =
            tried.of_iteration(context.iteration).filter(|again| self.offers(incumbent, again))
        {
            return Ok(Some(again.clone()));
        }
        tried.add_incumbent(incumbent);
        let mut rng = ChaCha8Rng::seed_from_u64(context.seed);
        rng.set_stream(context.iteration);
        let Some(wanted) = search::next(&mut rng, &self.parameters, incumbent, &tried.combinations()) else {
            return Ok(None);
        };
        tried.add_proposal(context.iteration, wanted.clone())?;
        Ok(Some(wanted))
    }

    /// Whether a recorded combination can be proposed from this incumbent: it differs, and only by values that can be
    /// written. Settings may have changed since.
    fn offers(&self, incumbent: &Combination, wanted: &Combination) -> bool {
        let reachable =
            |parameter: &Parameter| match (wanted.get(&parameter.name), incumbent.get(&parameter.name)) {
                (None, _) => false,
                (Some(Some(value)), _) => parameter.values.texts().contains(value),
                (wanted, current) => wanted == current,
            };
        wanted != incumbent && wanted.len() == self.parameters.len() && self.parameters.iter().all(reachable)
    }

    fn summary(&self, incumbent: &Combination, wanted: &Combination) -> String {
        let shown = |value: Option<&Value>| match value {
            Some(Some(text)) => text.clone(),
            _ => "as published".to_owned(),
        };
        let changes = self.parameters.iter().filter_map(|Parameter { name, .. }| {
            let (before, after) = (incumbent.get(name), wanted.get(name));
            (before != after).then(|| format!("{name} {} → {}", shown(before), shown(after)))
        });
        text::line(&changes.collect::<Vec<_>>().join(", "), 200)
    }
}

#[async_trait]
impl Proposer for ParameterProposer {
    async fn propose(&self, context: &ProposalContext) -> Result<Proposal> {
        let sources = Sources::read(&context.workspace, &self.parameters)?;
        let incumbent = sources.current(&self.parameters)?;
        match self.choose(context, &incumbent)? {
            Some(wanted) => {
                sources.write(&self.parameters, &incumbent, &wanted)?;
                Ok(Proposal::Edited { summary: self.summary(&incumbent, &wanted) })
            }
            None => Ok(Proposal::Exhausted { reason: "every combination of values was tried".to_owned() }),
        }
    }
}
