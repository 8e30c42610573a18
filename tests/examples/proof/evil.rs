//! `cargo xtask evil`: a tree of everything that is known to break such tools, captured, restored and compared.
//!
//! The tree is made, compared and disturbed by a generator that is no part of this repository (`--tool`). On every file
//! system, as root and as another user: capture it, restore it into an empty folder, damage it and roll it back in place.
//! Then the tree is disturbed while it is captured and restored: each snapshot is consistent or refused with a name for the
//! reason, and nothing outside the tree is read or changed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use evoseal_tests::measure::table;
use serde::Serialize;

use crate::Result;
use crate::allowed::{Difference, is_allowed};
use crate::machine::{
    FileSystem, Missing, Mounted, is_root, need_program, output, remove_tree, scratch, skip_missing,
};
use crate::report::{complain, exit, print, print_failures, write_json};

const KINDS: [FileSystem; 4] = [FileSystem::Tmpfs, FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs];
/// Room for a few copies of the tree.
const SIZE_BYTES: u64 = 1 << 30;
/// Nobody, under its usual number.
const OTHER_USER: u32 = 65534;
/// Kinds of entries that are left out, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[];

/// Kinds with entries that only root can read.
const UNREADABLE: [&str; 2] = ["modes", "ro-dirs"];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// On tmpfs only, and two seconds of disturbance.
    #[arg(long)]
    smoke: bool,
    /// The generator, a Python program.
    #[arg(long, value_name = "FILE")]
    tool: Option<PathBuf>,
    /// Other folders to work in, besides images of tmpfs, ext4, xfs and btrfs.
    #[arg(long, value_name = "DIR")]
    fs: Vec<PathBuf>,
    /// For how long the tree is disturbed, on each file system.
    #[arg(long, default_value_t = 20, value_name = "N")]
    seconds: u64,
    /// Where to write the figures as JSON as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What one round gave, on one file system as one user.
#[derive(Debug, Default, Serialize)]
struct Round {
    entries: usize,
    /// What the capture said about entries that their owner may not read.
    unreadable: String,
    /// Differences between the tree and what was restored, by class; only those that stand in no list.
    unlisted: usize,
    listed: usize,
    snapshots: usize,
    refused: usize,
    torn: usize,
    /// The canary was read or changed.
    escaped: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    skip_missing(arguments.smoke, "evil", try_run(arguments))
}

fn try_run(arguments: &Arguments) -> Result<ExitCode> {
    let tool =
        arguments.tool.as_ref().ok_or_else(|| Missing("no generator is given (--tool FILE)".to_owned()))?;
    need_program("python3", "python3")?;
    let scratch = scratch()?;
    // Another user must be able to get at what it works with.
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
    let program = scratch.path().join("proof");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::copy(tool, scratch.path().join("tool.py"))?;
    let tools = Tools { program, generator: scratch.path().join("tool.py"), python: python() };
    let mut rounds: BTreeMap<String, Round> = BTreeMap::new();
    let mut failures = Vec::new();
    let users: &[Option<u32>] = if is_root() { &[None, Some(OTHER_USER)] } else { &[None] };
    let kinds = if arguments.smoke { &KINDS[..1] } else { &KINDS[..] };
    for kind in kinds {
        kind.need()?;
        let mounted = Mounted::new(*kind, SIZE_BYTES, scratch.path())?;
        for user in users {
            let name = format!("{} as {}", kind.name(), user.map_or("this user", |_| "another user"));
            one(&name, mounted.folder(), *user, &tools, arguments, &mut rounds, &mut failures)?;
        }
    }
    for folder in &arguments.fs {
        for user in users {
            let name = format!("{} as {}", folder.display(), user.map_or("this user", |_| "another user"));
            one(&name, folder, *user, &tools, arguments, &mut rounds, &mut failures)?;
        }
    }
    show(&rounds, &failures, arguments)
}

/// A Python that every user may run: one below somebody's home is not.
fn python() -> PathBuf {
    let system = PathBuf::from("/usr/bin/python3");
    if system.exists() { system } else { PathBuf::from("python3") }
}

fn one(
    name: &str,
    folder: &Path,
    user: Option<u32>,
    tools: &Tools,
    arguments: &Arguments,
    rounds: &mut BTreeMap<String, Round>,
    failures: &mut Vec<String>,
) -> Result<()> {
    complain(name);
    let place = tempfile::Builder::new().prefix("evil-").tempdir_in(folder)?;
    let case = Case { tools, place: place.path(), user };
    if let Some(user) = user {
        chown(place.path(), Some(user), Some(user))?;
    }
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
    let mut round = Round::default();
    let mut found = Vec::new();
    case.round_trip(&mut round, &mut found)?;
    case.disturbed(if arguments.smoke { 2 } else { arguments.seconds }, &mut round, &mut found)?;
    failures.extend(found.into_iter().map(|failure| format!("{name}: {failure}")));
    rounds.insert(name.to_owned(), round);
    // Modes without rights and odd names are in the way of an ordinary removal.
    for part in fs::read_dir(place.path())? {
        let part = part?.path();
        if part.is_dir() {
            case.tool(&["clean".as_ref(), part.as_os_str()])?;
        }
    }
    Ok(())
}

/// The programs that a round needs.
#[derive(Debug)]
struct Tools {
    program: PathBuf,
    generator: PathBuf,
    python: PathBuf,
}

/// A place on one file system, worked in as one user.
struct Case<'a> {
    tools: &'a Tools,
    place: &'a Path,
    user: Option<u32>,
}

impl Case<'_> {
    fn command(&self, program: &Path) -> Command {
        let Some(user) = self.user else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        let id = user.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
        // A home that this user cannot read is in Python's way.
        command.env("HOME", "/").current_dir("/");
        command
    }

    fn tool(&self, arguments: &[&OsStr]) -> Result<String> {
        let mut command = self.command(&self.tools.python);
        command.arg(&self.tools.generator).args(arguments);
        let output = command.output()?;
        // The comparison ends with 1 if it finds differences, which is no failure of the tool.
        if output.status.code() == Some(0) || arguments.first() == Some(&"compare".as_ref()) {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// An operation; an error is what it said.
    fn operate(&self, arguments: &[&str]) -> Result<Result<(), String>> {
        let mut command = self.command(&self.tools.program);
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

    fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn make(&self, name: &str, without: &[&str]) -> Result<()> {
        let left_out = LEFT_OUT.iter().map(|(kind, _)| *kind).chain(without.iter().copied());
        let left_out = left_out.collect::<Vec<_>>().join(",");
        let arguments: [OsString; 5] = [
            "make".into(),
            self.path(name).into(),
            "--seed".into(),
            "1".into(),
            format!("--skip={left_out}").into(),
        ];
        self.tool(&arguments.each_ref().map(OsString::as_os_str)).map(drop)
    }

    /// The differences between two trees or descriptions of trees.
    fn compare(&self, a: &str, b: &str) -> Result<Vec<Difference>> {
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
                let (path, what) = line.rsplit_once(": ").unwrap_or((line, ""));
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

    /// Judges differences by the list of those that are allowed.
    fn judge(when: &str, differences: Vec<Difference>, round: &mut Round, failures: &mut Vec<String>) {
        for difference in differences {
            if is_allowed(&difference) {
                round.listed += 1;
            } else {
                round.unlisted += 1;
                failures
                    .push(format!("{when}: {}: {}: {}", difference.class, difference.path, difference.what));
            }
        }
    }

    fn describe(&self, name: &str, file: &str) -> Result<()> {
        let (tree, file) = (self.path(name), self.path(file));
        self.tool(&["manifest".as_ref(), tree.as_os_str(), file.as_os_str()])?;
        Ok(())
    }

    fn round_trip(&self, round: &mut Round, failures: &mut Vec<String>) -> Result<()> {
        self.make("workspace", &[])?;
        self.describe("workspace", "before")?;
        let mut created = self.operate(&["create", "v1"])?;
        if self.user.is_some()
            && let Err(error) = &created
            && error.contains("PermissionDenied")
        {
            // Its owner may not read some of it. A refusal that names the first such entry is right; the rest must work.
            round.unreadable = error.chars().take(200).collect();
            self.tool(&["clean".as_ref(), self.path("workspace").as_os_str()])?;
            self.make("workspace", &UNREADABLE)?;
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
            Ok(()) => Self::judge("restored", self.compare("workspace", "target")?, round, failures),
            Err(error) => {
                round.unlisted += 1;
                failures.push(format!("the tree is not restored: {error}"));
            }
        }
        self.damage()?;
        match self.operate(&["restore", "v1", "workspace", "--in-place"])? {
            Ok(()) => {
                let differences = self.compare("before", "workspace")?;
                // What is written anew has a new time, so that build tools notice, and is a file of its own.
                let differences = differences.into_iter().filter(|found| found.class != "mtime_ns").collect();
                Self::judge("rolled back", differences, round, failures);
            }
            Err(error) => {
                round.unlisted += 1;
                failures.push(format!("the tree is not rolled back: {error}"));
            }
        }
        Ok(())
    }

    /// Damages the tree in each of the ways that a rollback has to undo: gone, new, changed, another kind, another mode.
    fn damage(&self) -> Result<()> {
        let script = "import os, shutil, sys\n\
            top = sys.argv[1]\n\
            p = lambda *parts: os.path.join(top, *parts)\n\
            shutil.rmtree(p('casefold'))\n\
            open(p('casefold'), 'w').write('a file now')\n\
            shutil.rmtree(p('symlinks', 'real'))\n\
            os.symlink('/etc', p('symlinks', 'real'))\n\
            for name in sorted(os.listdir(p('hugedir')))[::3]: os.unlink(p('hugedir', name))\n\
            for number in range(50): open(p('hugedir', 'new%d' % number), 'w').write('new')\n\
            for name in os.listdir(p('sizes'))[::2]:\n\
            \x20   if os.path.isfile(p('sizes', name)): open(p('sizes', name), 'ab').write(b'more')\n\
            os.unlink(p('names', '-rf'))\n\
            os.mkdir(p('names', '-rf'))\n\
            os.chmod(p('sizes', 's0000000'), 0o755)\n\
            os.makedirs(p('new', 'deep', 'er'))\n\
            os.symlink('nowhere', p('new', 'link'))\n";
        let mut command = self.command(&self.tools.python);
        command.args(["-c", script]).arg(self.path("workspace"));
        output(&mut command).map(drop)
    }

    /// Captures and rolls back a tree that others are at work on.
    fn disturbed(&self, seconds: u64, round: &mut Round, failures: &mut Vec<String>) -> Result<()> {
        let workspace = self.path("workspace");
        // The tree of odd entries is not needed for this, and takes long.
        self.tool(&["clean".as_ref(), workspace.as_os_str()])?;
        let canary = self.path("canary");
        let live = workspace.join("live");
        fs::create_dir_all(&live)?;
        fs::create_dir_all(&canary)?;
        fs::write(canary.join("secret"), "never read\n")?;
        symlink(&canary, live.join("victim-link"))?;
        for number in 0..200 {
            fs::write(workspace.join(format!("still{number}")), format!("{number}"))?;
        }
        if let Some(user) = self.user {
            output(Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(self.place))?;
        }
        let before = Canary::set(&canary)?;
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
        if let Some(what) = before.touched(&canary)? {
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

/// A folder and a file outside the tree, with times by which a reader gives itself away.
#[derive(Debug)]
struct Canary {
    times: Vec<(i64, i64)>,
}

impl Canary {
    /// Sets the time of the last access so far back that every mount option but `noatime` moves it at the next one.
    fn set(folder: &Path) -> Result<Self> {
        output(
            Command::new("touch").args(["-a", "-d", "3 days ago"]).arg(folder.join("secret")).arg(folder),
        )?;
        Ok(Self { times: Self::times(folder)? })
    }

    fn times(folder: &Path) -> Result<Vec<(i64, i64)>> {
        let of = |path: PathBuf| -> Result<(i64, i64)> {
            let metadata = fs::symlink_metadata(path)?;
            Ok((metadata.atime(), metadata.mtime()))
        };
        Ok(vec![of(folder.to_owned())?, of(folder.join("secret"))?])
    }

    fn touched(&self, folder: &Path) -> Result<Option<&'static str>> {
        // The times first: looking at the content moves them.
        let times = Self::times(folder)?;
        let read = times.iter().zip(&self.times).any(|(now, then)| now.0 != then.0);
        let written = times.iter().zip(&self.times).any(|(now, then)| now.1 != then.1);
        if written
            || fs::read_to_string(folder.join("secret"))? != "never read\n"
            || fs::read_dir(folder)?.count() != 1
        {
            return Ok(Some("was changed"));
        }
        Ok(read.then_some("was read"))
    }
}

fn show(rounds: &BTreeMap<String, Round>, failures: &[String], arguments: &Arguments) -> Result<ExitCode> {
    let row = |(name, round): (&String, &Round)| {
        let numbers = [
            round.entries,
            round.unlisted,
            round.listed,
            round.snapshots,
            round.refused,
            round.torn,
            round.escaped,
        ];
        std::iter::once(name.clone()).chain(numbers.map(|number| number.to_string())).collect()
    };
    let rows: Vec<Vec<String>> = rounds.iter().map(row).collect();
    let headings = ["where", "entries", "unlisted", "listed", "snapshots", "refused", "torn", "escaped"];
    print(&table(&headings, &rows));
    for (name, round) in rounds.iter().filter(|(_, round)| !round.unreadable.is_empty()) {
        print(&format!(
            "{name}: without {}, which are refused by name: {}",
            UNREADABLE.join(" and "),
            round.unreadable
        ));
    }
    for (kind, why) in LEFT_OUT {
        print(&format!("left out: {kind}: {why}"));
    }
    print_failures(failures);
    write_json(arguments.json.as_deref(), rounds)?;
    Ok(exit(
        failures.is_empty() && rounds.values().all(|round| round.unlisted + round.torn + round.escaped == 0),
    ))
}
