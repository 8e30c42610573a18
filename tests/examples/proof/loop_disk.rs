//! The disk.
use crate::Result;
pub(crate) fn run(_: bool, _: Option<&std::path::Path>) -> Result<std::process::ExitCode> {
    Err("".into())
}
