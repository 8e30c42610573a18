//! tmp
use crate::args::MetricsCommand;
use crate::failure::{Exit, Result};
use crate::output::Output;
use crate::project::Project;

pub(crate) async fn run(_c: &MetricsCommand, _p: &Project, _o: &Output) -> Result<Exit> {
    Ok(Exit::Done)
}
