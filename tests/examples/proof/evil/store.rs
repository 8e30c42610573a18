//! Checkpoints of a tree of odd entries, and of a tree that others are at work on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::canary::Canary;
use super::case::Case;
use super::change::DAMAGE;
use super::{Judged, Round, UNREADABLE};
use crate::Result;
use crate::allowed::is_allowed;
use crate::machine::{output, remove_tree};

impl Case<'_> {
    /// Captures a tree, restores it into an empty folder, damages it and restores it in place.
    pub(super) fn round_trip(&self, round: &mut Round, failures: &mut Vec<String>) -> Result<()> {
        self.make("workspace", 1, &[])?;
        self.describe("workspace", "before")?;
        let mut created = self.operate(&["create", "v1"])?;
        if self.user.is_some()
            && let Err(error) = &created
            && error.contains("PermissionDenied")
        {
            // Its owner may not read some of it. A refusal that names the first such entry is right; the rest must work.
            round.unreadable = error.chars().take(200).collect();
            self.clean("workspace")?;
            self.make("workspace", 1, &UNREADABLE)?;
            self.describe("workspace", "before")?;
            created = self.operate(&["create", "v1"])?;
        }
        round.entries = fs::read_to_string(self.path("before"))?.lines().count();
        if let Err(error) = created {
            round.unlisted += 1;
            failures.push(format!("the tree is refused: {error}"));
            return Ok(());
        }
        let again = self.operate(&["create", "v2"])?;
        if let Err(error) = again {
            round.unlisted += 1;
            failures.push(format!("the tree is refused the second time: {error}"));
        }
        // Capturing changes nothing: no renamed `.git`, no mode opened and left open.
        for difference in self.compare("before", "workspace")? {
            round.unlisted += 1;
            failures.push(format!("changed by the capture: {}: {}", difference.class, difference.path));
        }
        match self.operate(&["restore", "v1", "target"])? {
            Ok(()) => {
                let judged = Judged::of("restored", self.compare("workspace", "target")?, is_allowed);
                round.count(judged, failures);
            }
            Err(error) => {
                round.unlisted += 1;
                failures.push(format!("the tree is not restored: {error}"));
            }
        }
        self.script(DAMAGE, &[&self.path("workspace")])?;
        match self.operate(&["restore", "v1", "workspace", "--in-place"])? {
            Ok(()) => {
                let differences = self.compare("before", "workspace")?;
                // What is written anew has a new time, so that build tools notice, and is a file of its own.
                let differences = differences.into_iter().filter(|found| found.class != "mtime_ns");
                round.count(Judged::of("restored in place", differences, is_allowed), failures);
            }
            Err(error) => {
                round.unlisted += 1;
                failures.push(format!("the tree is not restored in place: {error}"));
            }
        }
        Ok(())
    }

    /// Captures and rolls back a tree that others are at work on.
    pub(super) fn disturbed(
        &self,
        seconds: u64,
        round: &mut Round,
        failures: &mut Vec<String>,
    ) -> Result<()> {
        let workspace = self.path("workspace");
        // The tree of odd entries is not needed for this, and takes long.
        self.clean("workspace")?;
        let live = workspace.join("live");
        fs::create_dir_all(&live)?;
        symlink(self.path("canary"), live.join("victim-link"))?;
        for number in 0..200 {
            fs::write(workspace.join(format!("still{number}")), format!("{number}"))?;
        }
        if let Some(user) = self.user {
            output(Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(self.place))?;
        }
        let canary = Canary::set(&self.path("canary"), self.user)?;
        let mut live = self.start_live(seconds)?;
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut made = Vec::new();
        let mut number = 0;
        while Instant::now() < end {
            number += 1;
            let version = format!("live{number}");
            match self.operate(&["create", &version])? {
                Ok(()) => made.push(version),
                Err(error) => {
                    round.refused += 1;
                    if !is_named_refusal(&error) {
                        failures.push(format!("refused without a name for it: {error}"));
                        round.torn += 1;
                    }
                }
            }
            let Some(back) = made.last().filter(|_| number % 4 == 0) else { continue };
            // Whatever comes of it, it must not leave the tree, nor end in anything but a named error.
            if let Err(error) = self.operate(&["restore", back, "workspace", "--in-place"])?
                && !is_named_refusal(&error)
            {
                failures.push(format!("rollback refused without a name for it: {error}"));
                round.torn += 1;
            }
        }
        // Not killed: its children, who do the work, would go on until their time is over.
        live.wait()?;
        if let Some(what) = canary.touched()? {
            round.escaped += 1;
            failures.push(format!("the canary outside the tree {what}"));
        }
        round.snapshots = made.len();
        for version in made {
            let target = self.path("snapshot");
            if let Err(error) = self.operate(&["restore", &version, "snapshot"])? {
                round.torn += 1;
                failures.push(format!("{version} does not restore: {error}"));
            } else if let Some(what) = torn(&target.join("live"))? {
                round.torn += 1;
                failures.push(format!("{version} is torn: {what}"));
            }
            remove_tree(&target)?;
        }
        remove_tree(&workspace)
    }

    fn start_live(&self, seconds: u64) -> Result<Child> {
        let mut command = self.command(&self.tools.python);
        command.arg(&self.tools.generator).arg("live").arg(self.path("workspace"));
        // A second more than is needed: the tree is never still while it is captured.
        command.args(["--seconds", &(seconds + 1).to_string()]);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }
}

/// Whether an error says that the tree changed, and not that something of ours went wrong. All of these name the path.
fn is_named_refusal(error: &str) -> bool {
    [
        "Unstable",
        "NotRestored",
        "NotFound",
        "NotEmpty",
        "NotADirectory",
        "IsADirectory",
        "DirectoryNotEmpty",
        "AlreadyExists",
    ]
    .iter()
    .any(|name| error.contains(name))
}

/// What does not fit together in a snapshot of the disturbed folder.
fn torn(live: &Path) -> Result<Option<String>> {
    let number = |name: &str| -> Result<Option<i64>> {
        match fs::read_to_string(live.join(name)) {
            Ok(text) => Ok(Some(text.strip_suffix('\n').unwrap_or("torn").parse().unwrap_or(-1))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    // The first is written, then the second: they are equal, or the first is ahead by one.
    if let (Some(a), Some(b)) = (number("pair-a")?, number("pair-b")?)
        && (a < 0 || b < 0 || !(0..=1).contains(&(a - b)))
    {
        return Ok(Some(format!("pair-a is {a}, pair-b is {b}")));
    }
    for name in ["victim", "victim-link"] {
        let path = live.join(name);
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        if is_folder && fs::read_dir(&path)?.next().is_some() {
            return Ok(Some(format!("{name} was followed out of the tree")));
        }
    }
    let log = fs::read_to_string(live.join("append.log")).unwrap_or_default();
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let numbers: Vec<i64> = whole.lines().filter_map(|line| line.parse().ok()).collect();
    if numbers.len() != whole.lines().count() || numbers.windows(2).any(|pair| pair[1] != pair[0] + 1) {
        return Ok(Some("append.log has a gap".to_owned()));
    }
    Ok(None)
}
