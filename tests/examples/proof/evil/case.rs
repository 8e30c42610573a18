//! A place on one file system, worked in as one user; and the programs that are run there.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::allowed::Difference;
use crate::machine::output;

/// Kinds of entries that are left out, with the reason.
pub(super) const LEFT_OUT: &[(&str, &str)] = &[];

/// The programs that a round needs.
#[derive(Debug)]
pub(super) struct Tools {
    /// This program.
    pub(super) proof: PathBuf,
    pub(super) evoseal: PathBuf,
    pub(super) generator: PathBuf,
    pub(super) python: PathBuf,
}

/// A place on one file system, worked in as one user.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) tools: &'a Tools,
    pub(super) place: &'a Path,
    /// Another user than this one.
    pub(super) user: Option<u32>,
}

impl Case<'_> {
    /// A program, to be started as the user.
    pub(super) fn command(&self, program: &Path) -> Command {
        let Some(user) = self.user else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        let id = user.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
        // A home that this user cannot read is in Python's way.
        command.env("HOME", "/").current_dir("/");
        command
    }

    /// The generator, as the user.
    pub(super) fn tool(&self, arguments: &[&OsStr]) -> Result<String> {
        let mut command = self.command(&self.tools.python);
        command.arg(&self.tools.generator).args(arguments);
        let output = command.output()?;
        // The comparison ends with 1 if it finds differences, which is no failure of the tool.
        if output.status.code() == Some(0) || arguments.first() == Some(&"compare".as_ref()) {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Some Python, as the user.
    pub(super) fn script(&self, script: &str, arguments: &[&Path]) -> Result<()> {
        let mut command = self.command(&self.tools.python);
        command.args(["-c", script]).args(arguments);
        output(&mut command).map(drop)
    }

    /// An operation on the store; an error is what it said.
    pub(super) fn operate(&self, arguments: &[&str]) -> Result<Result<(), String>> {
        let mut command = self.command(&self.tools.proof);
        command.args([
            "operate".as_ref(),
            "--everything".as_ref(),
            "--place".as_ref(),
            self.place.as_os_str(),
        ]);
        command.args(arguments);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        match output.status.code() {
            Some(0) => Ok(Ok(())),
            Some(3) => Ok(Err(said)),
            _ => Err(format!("{arguments:?} ended with {}: {said}", output.status).into()),
        }
    }

    /// A command of the program in the workspace of a project; an error is what it said when it refused or failed.
    pub(super) fn evoseal(&self, project: &str, arguments: &[&str]) -> Result<Result<(), String>> {
        let mut command = self.command(&self.tools.evoseal);
        command.arg("-C").arg(self.path(project).join("workspace")).args(arguments);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        match output.status.code() {
            Some(0) => Ok(Ok(())),
            Some(2..=4) => Ok(Err(said)),
            _ => Err(format!("evoseal {arguments:?} ended with {}: {said}", output.status).into()),
        }
    }

    /// The same where only success will do.
    pub(super) fn must(&self, project: &str, arguments: &[&str]) -> Result<()> {
        self.evoseal(project, arguments)?
            .map_err(|error| format!("evoseal {arguments:?} in {project}: {error}").into())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// A tree of odd entries.
    pub(super) fn make(&self, name: &str, seed: u64, without: &[&str]) -> Result<()> {
        let left_out = LEFT_OUT.iter().map(|(kind, _)| *kind).chain(without.iter().copied());
        let left_out = left_out.collect::<Vec<_>>().join(",");
        let arguments: [OsString; 5] = [
            "make".into(),
            self.path(name).into(),
            "--seed".into(),
            seed.to_string().into(),
            format!("--skip={left_out}").into(),
        ];
        self.tool(&arguments.each_ref().map(OsString::as_os_str)).map(drop)
    }

    /// Removes a folder, if it is there, and all that is in it, whatever modes and flags it has.
    pub(super) fn clean(&self, name: &str) -> Result<()> {
        if !self.path(name).exists() {
            return Ok(());
        }
        let mut command = Command::new(&self.tools.python);
        command.arg(&self.tools.generator).args(["clean", "--flags"]).arg(self.path(name));
        output(&mut command).map(drop)
    }

    /// The differences between two trees or descriptions of trees.
    pub(super) fn compare(&self, a: &str, b: &str) -> Result<Vec<Difference>> {
        let (a, b) = (self.path(a), self.path(b));
        let said = self.tool(&[
            "compare".as_ref(),
            a.as_os_str(),
            b.as_os_str(),
            "--show".as_ref(),
            "100000".as_ref(),
        ])?;
        let mut class = "";
        let mut found = Vec::new();
        for line in said.lines() {
            if let Some(line) = line.strip_prefix("   ") {
                // No path has a colon and a space in it.
                let (path, what) = line.split_once(": ").unwrap_or((line, ""));
                found.push(Difference {
                    class: class.to_owned(),
                    path: path.to_owned(),
                    what: what.to_owned(),
                });
            } else if let Some((name, _)) = line.split_once(": ") {
                class = name;
            }
        }
        if !said.contains("compared: ") {
            return Err(format!("the comparison said nothing: {said}").into());
        }
        Ok(found)
    }

    /// Writes down what a tree looks like now.
    pub(super) fn describe(&self, name: &str, file: &str) -> Result<()> {
        let (tree, file) = (self.path(name), self.path(file));
        self.tool(&["manifest".as_ref(), tree.as_os_str(), file.as_os_str()])?;
        Ok(())
    }
}
