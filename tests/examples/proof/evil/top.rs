//! What stands at the top of a workspace and makes tools stop half-way: a symlink to a folder, a file that cannot be changed, a
//! mounted file system, things of another user, a writer at work.
//!
//! Each case stands alone in a small workspace in which a rollback has entries of every kind to change as well. The rollback
//! works, and the workspace is the version; or it does not, and the workspace is as it was, byte for byte, and nothing stands
//! beside it. Where it did not, the obstacle is removed, and a rollback works.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Rollbacks;
use super::canary::Canary;
use super::case::Case;
use super::project::{MODES, Mode};
use crate::Result;
use crate::look::{Look, difference, look, look_without};
use crate::machine::{output, run};
use crate::report::complain;
use crate::scenario::{edit_more, first_tree, second_tree, write};

/// The project's name.
const PROJECT: &str = "top";
/// How long a writer rests between two writes, in seconds, for each rollback that is tried beside it. Without rest nothing can
/// be captured; with some, the writes fall into every step.
const RESTS: [f64; 8] = [0.0, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2];
const SMOKE_RESTS: [f64; 1] = [0.02];

/// What is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// A folder of the version is a symlink to a folder outside now.
    LinkNow,
    /// It was one in the version, and is a folder now.
    LinkThen,
    /// It is one in both.
    LinkAlways,
    /// A file, or with a slash at its end a folder, with this attribute.
    Flag(&'static str, char),
    /// A file system is mounted on a folder of both.
    Mount,
    /// The folder that holds the workspace may not be written to.
    FixedParent,
    /// A file of root that is the same in the version.
    OthersFile,
    /// A file of root that the rollback must rewrite, in a folder of the user.
    OthersChangedFile,
    /// A folder of root with a file of the user that the rollback must rewrite.
    OthersFolder,
    /// A pipe where the version has a file.
    Pipe,
}

const OBSTACLES: [Obstacle; 15] = [
    Obstacle::LinkNow,
    Obstacle::LinkThen,
    Obstacle::LinkAlways,
    Obstacle::Flag("unchanged", 'i'),
    Obstacle::Flag("README", 'i'),
    Obstacle::Flag("appeared", 'i'),
    Obstacle::Flag("build/", 'i'),
    Obstacle::Flag("README", 'a'),
    Obstacle::Flag("unchanged", 'a'),
    Obstacle::Mount,
    Obstacle::FixedParent,
    Obstacle::OthersFile,
    Obstacle::OthersChangedFile,
    Obstacle::OthersFolder,
    Obstacle::Pipe,
];

/// Those of a smoke run.
const SMOKE_OBSTACLES: [Obstacle; 2] = [Obstacle::LinkNow, Obstacle::Flag("README", 'i')];

/// Writers, each with what it does again and again to files whose names begin with `writer`.
const WRITERS: [(&str, &str); 3] = [
    ("appends to an open file", "file = open(path, 'ab', 0)\nwhile rest(): file.write(b'line\\n')"),
    ("writes a file anew", "while rest(): open(path, 'w').write(str(time.monotonic_ns()))"),
    (
        "replaces a file",
        "while rest():\n    open(path + '.tmp', 'w').write(str(time.monotonic_ns()))\n    os.rename(path + '.tmp', path)",
    ),
];

/// What each of them begins with.
const BEFORE_WRITER: &str = "import os, sys, time\n\
    path = sys.argv[1]\n\
    def rest():\n\
    \x20   time.sleep(float(sys.argv[2]))\n\
    \x20   return True\n\
    print(1, flush=True)\n";

impl Obstacle {
    /// Whether it is one for this user. What belongs to another user, or is the kernel's to forbid, does not stop root.
    fn is_for(self, user: Option<u32>) -> bool {
        match self {
            Self::FixedParent | Self::OthersFile | Self::OthersChangedFile | Self::OthersFolder => {
                user.is_some()
            }
            Self::Flag(..) | Self::Mount => crate::machine::is_root(),
            Self::LinkNow | Self::LinkThen | Self::LinkAlways | Self::Pipe => true,
        }
    }

    /// Whether a rollback must work all the same.
    fn must_work(self, mode: Mode) -> bool {
        match self {
            Self::LinkNow | Self::LinkThen | Self::LinkAlways => true,
            Self::FixedParent | Self::OthersFile => mode.name == "in place",
            _ => false,
        }
    }

    /// What the version holds of it.
    fn make_before(self, workspace: &Path, outside: &Path) -> Result<()> {
        match self {
            Self::LinkNow => write(workspace, "top/secret", "of the workspace\n"),
            Self::LinkThen | Self::LinkAlways => Ok(symlink(outside, workspace.join("top"))?),
            Self::Mount => Ok(fs::create_dir(workspace.join("mounted"))?),
            Self::OthersFolder => write(workspace, "others/file", "then\n"),
            Self::Pipe => write(workspace, "pipe", "a file\n"),
            _ => Ok(()),
        }
    }

    /// Puts it in the way.
    fn put(self, project: &Path, user: Option<u32>) -> Result<()> {
        let workspace = project.join("workspace");
        let top = workspace.join("top");
        let root_owns = |path: &str| -> Result<()> { Ok(chown(workspace.join(path), Some(0), Some(0))?) };
        match self {
            Self::LinkNow => {
                fs::remove_dir_all(&top)?;
                symlink(project.join("outside"), &top)?;
            }
            Self::LinkThen => {
                fs::remove_file(&top)?;
                write(&workspace, "top/secret", "of the workspace\n")?;
                own(&top, user)?;
            }
            Self::LinkAlways => {}
            Self::Flag(path, flag) => {
                run("chattr", [format!("+{flag}").into(), workspace.join(path).into_os_string()])?;
            }
            Self::Mount => {
                let options = ["-t", "tmpfs", "-o", "size=1m", "evoseal-proof"].map(Into::into);
                run("mount", options.into_iter().chain([workspace.join("mounted").into_os_string()]))?;
            }
            Self::FixedParent => chown(project, Some(0), Some(0))?,
            Self::OthersFile => root_owns("unchanged")?,
            Self::OthersChangedFile => root_owns("README")?,
            Self::OthersFolder => {
                write(&workspace, "others/file", "now\n")?;
                root_owns("others")?;
            }
            Self::Pipe => {
                fs::remove_file(workspace.join("pipe"))?;
                run("mkfifo", [workspace.join("pipe")])?;
                own(&workspace.join("pipe"), user)?;
            }
        }
        Ok(())
    }

    /// Takes it away again.
    fn take_away(self, project: &Path, user: Option<u32>) -> Result<()> {
        let workspace = project.join("workspace");
        match self {
            Self::Flag(path, flag) => {
                run("chattr", [format!("-{flag}").into(), workspace.join(path).into_os_string()])
            }
            Self::Mount => run("umount", [workspace.join("mounted")]),
            Self::Pipe => Ok(fs::remove_file(workspace.join("pipe"))?),
            _ => own(project, user),
        }
    }
}

/// Whether a path of the workspace is one of a writer's.
fn is_of_writer(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(b"writer")
}

/// Gives a tree to a user.
fn own(path: &Path, user: Option<u32>) -> Result<()> {
    let Some(user) = user else { return Ok(()) };
    output(Command::new("chown").args(["--no-dereference", "-R", &format!("{user}:{user}")]).arg(path))
        .map(drop)
}

/// What a rollback of one workspace is counted in.
struct Top<'a> {
    case: &'a Case<'a>,
    mode: Mode,
    project: PathBuf,
    new: Look,
    counts: &'a mut Rollbacks,
    failures: &'a mut Vec<String>,
}

impl Case<'_> {
    /// Rolls workspaces back in which something is in the way, in each mode.
    pub(super) fn tops(
        &self,
        is_smoke: bool,
        rounds: &mut BTreeMap<&'static str, Rollbacks>,
        failures: &mut Vec<String>,
    ) -> Result<()> {
        for mode in MODES {
            let is_wanted = |obstacle: &Obstacle| {
                obstacle.is_for(self.user) && (!is_smoke || SMOKE_OBSTACLES.contains(obstacle))
            };
            for obstacle in OBSTACLES.into_iter().filter(is_wanted) {
                let counts = rounds.entry(mode.name).or_default();
                let what = format!("{obstacle:?}");
                self.top(mode, counts, failures, |workspace, outside| {
                    obstacle.make_before(workspace, outside)
                })?
                .meet(obstacle)
                .map_err(|error| format!("{what}: {error}"))?;
                self.clean(PROJECT)?;
            }
            let (rests, writers) =
                if is_smoke { (&SMOKE_RESTS[..], &WRITERS[..1]) } else { (&RESTS[..], &WRITERS[..]) };
            for (number, (what, script)) in writers.iter().enumerate() {
                // The file of every second writer is in the version.
                let is_held = number % 2 == 0;
                let counts = rounds.entry(mode.name).or_default();
                let before = |workspace: &Path, _: &Path| {
                    if is_held { write(workspace, "writer", "of the version\n") } else { Ok(()) }
                };
                self.top(mode, counts, failures, before)?.beside_writer(what, script, rests)?;
                self.clean(PROJECT)?;
            }
        }
        Ok(())
    }

    /// A project with a version, and changes since.
    fn top<'a>(
        &'a self,
        mode: Mode,
        counts: &'a mut Rollbacks,
        failures: &'a mut Vec<String>,
        before: impl Fn(&Path, &Path) -> Result<()>,
    ) -> Result<Top<'a>> {
        let project = self.path(PROJECT);
        let workspace = project.join("workspace");
        fs::create_dir_all(&workspace)?;
        fs::set_permissions(&workspace, fs::Permissions::from_mode(0o750))?;
        first_tree(&workspace)?;
        write(&workspace, "unchanged", "the same in both\n")?;
        before(&workspace, &project.join("outside"))?;
        own(&project, self.user)?;
        Canary::set(&project.join("outside"), self.user)?;
        self.must(PROJECT, &["init"])?;
        self.must(PROJECT, &["checkpoint", "create", "v1"])?;
        let new = look(&workspace)?;
        let top = Top { case: self, mode, project, new, counts, failures };
        top.change()?;
        Ok(top)
    }
}

impl Top<'_> {
    fn workspace(&self) -> PathBuf {
        self.project.join("workspace")
    }

    /// Changes of every kind, made to the version.
    fn change(&self) -> Result<()> {
        let workspace = self.workspace();
        second_tree(&workspace)?;
        edit_more(&workspace)?;
        write(&workspace, "appeared", "in no version\n")?;
        own(&workspace, self.case.user)
    }

    fn fail(&mut self, what: &str, why: &str) {
        let name = self.mode.name;
        self.failures.push(format!("{name}, {what}: {why}"));
    }

    /// Counts a rollback that was refused or failed, and changed nothing.
    fn refused(&mut self, what: &str, why: &str) {
        self.counts.refused += 1;
        let why = why.replace(&*self.project.to_string_lossy(), "").replace('\n', " ");
        self.counts.reasons.entry(what.to_owned()).or_insert(why);
    }

    /// What stands in the folder of the project; and who has the workspace, with which rights.
    fn neighbours(&self) -> Result<Look> {
        use std::os::unix::fs::MetadataExt;
        let mut found = Look::new();
        for entry in fs::read_dir(&self.project)? {
            let entry = entry?;
            let seen = entry.metadata()?;
            let text = format!("{:o} of {}:{}", seen.mode(), seen.uid(), seen.gid());
            found.insert(entry.file_name().to_string_lossy().into_owned(), text);
        }
        Ok(found)
    }

    /// Rolls back with something in the way, and then without.
    fn meet(mut self, obstacle: Obstacle) -> Result<()> {
        let what = format!("{obstacle:?}");
        if let Err(error) = obstacle.put(&self.project, self.case.user) {
            complain(&format!("not tried: {what}: {error}"));
            return Ok(());
        }
        let old = look(&self.workspace())?;
        let neighbours = self.neighbours()?;
        let canary = Canary::set(&self.project.join("outside"), self.case.user)?;
        let rolled_back = self.case.evoseal(PROJECT, &self.mode.rollback("v1"))?;
        if let Some(how) = canary.touched()? {
            self.counts.escaped += 1;
            self.fail(&what, &format!("the canary outside the tree {how}"));
        }
        if let Some(left) = difference(&self.neighbours()?, &neighbours) {
            self.counts.escaped += 1;
            self.fail(&what, &format!("beside the workspace {left}"));
        }
        let found = look(&self.workspace())?;
        match rolled_back {
            Ok(()) => {
                self.counts.done += 1;
                let mut new = self.new.clone();
                if obstacle == Obstacle::Pipe && found.contains_key("pipe") {
                    // Whether a pipe may go for a file is not what is asked here.
                    new.insert("pipe".to_owned(), found["pipe"].clone());
                }
                if let Some(difference) = difference(&found, &new) {
                    self.counts.half_way += 1;
                    self.fail(&what, &format!("said to be the version: {difference}"));
                }
            }
            Err(error) => {
                if let Some(difference) = difference(&found, &old) {
                    self.counts.half_way += 1;
                    self.fail(&what, &format!("refused ({error}), and not as before: {difference}"));
                } else if obstacle.must_work(self.mode) {
                    self.counts.unlisted += 1;
                    self.fail(&what, &format!("refused: {error}"));
                } else {
                    self.refused(&what, &error);
                }
            }
        }
        obstacle.take_away(&self.project, self.case.user)?;
        self.settle(&what)
    }

    /// A rollback with nothing in the way.
    fn settle(&mut self, what: &str) -> Result<()> {
        if let Err(error) = self.case.evoseal(PROJECT, &self.mode.rollback("v1"))? {
            self.counts.unlisted += 1;
            self.fail(what, &format!("with nothing in the way any more: {error}"));
            return Ok(());
        }
        self.counts.done += 1;
        if let Some(difference) = difference(&look(&self.workspace())?, &self.new) {
            self.counts.half_way += 1;
            self.fail(what, &format!("with nothing in the way any more: {difference}"));
        }
        Ok(())
    }

    /// Rolls back while somebody writes at the top.
    fn beside_writer(mut self, what: &str, script: &str, rests: &[f64]) -> Result<()> {
        let path = self.workspace().join("writer");
        let script = format!("{BEFORE_WRITER}{script}");
        let mut new = self.new.clone();
        new.retain(|path, _| !is_of_writer(Path::new(path)));
        for rest in rests {
            if look(&self.workspace())? == self.new {
                self.change()?;
            }
            let others = || look_without(&self.workspace(), is_of_writer);
            let old = others()?;
            let mut writer = self.case.command(&self.case.tools.python);
            writer.args(["-c", &script]).arg(&path).arg(rest.to_string());
            let mut writer = writer.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
            let mut said = writer.stdout.take().ok_or("the writer says nothing")?;
            said.read_exact(&mut [0])?;
            let rolled_back = self.case.evoseal(PROJECT, &self.mode.rollback("v1"));
            let found = others();
            writer.kill()?;
            writer.wait()?;
            let (rolled_back, found) = (rolled_back?, found?);
            match (&rolled_back, found == old, found == new) {
                (Ok(()), _, true) => self.counts.done += 1,
                (Err(error), true, _) | (Err(error), _, true) => {
                    self.refused(what, error);
                }
                _ => {
                    self.counts.half_way += 1;
                    let [old, new] = [&old, &new].map(|tree| difference(&found, tree).unwrap_or_default());
                    self.fail(what, &format!("{rolled_back:?}, neither old ({old}) nor new ({new})"));
                }
            }
        }
        self.settle(what)?;
        let left = self.neighbours()?;
        if left.keys().any(|name| name != "workspace" && name != "outside") {
            self.counts.escaped += 1;
            self.fail(what, &format!("beside the workspace is {left:?}"));
        }
        Ok(())
    }
}
