//! Starting an operation in a process of its own, whole or cut off.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::{Missing, output};
use crate::report::Findings;
use crate::spot::{Spot, spots};
use crate::strace::{Call, calls, strace, trace_all};

/// Longer than anything here takes, a hundred times over: what is not done by then hangs.
const TIME_LIMIT: Duration = Duration::from_mins(2);

/// What is done to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    Kill,
    Eio,
    Enospc,
    /// The call says that it succeeded and does nothing.
    LeftOut,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Eio => "EIO",
            Self::Enospc => "ENOSPC",
            Self::LeftOut => "left out",
        }
    }

    /// The two expressions for strace.
    pub(crate) fn expressions(self, name: &str, ordinal: usize) -> [String; 2] {
        let what = match self {
            Self::Kill => "signal=KILL",
            Self::Eio => "error=EIO",
            Self::Enospc => "error=ENOSPC",
            Self::LeftOut => "retval=0",
        };
        [format!("trace={name}"), format!("inject={name}:{what}:when={ordinal}")]
    }
}

/// How a victim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It said that it was done.
    Acknowledged,
    /// It said that it failed.
    Refused,
    /// It was killed.
    Killed,
    /// It panicked or ended in another way that it never should.
    Broken(i32),
    /// It did not end.
    Hung,
}

/// The first word of an operation that is done by the `evoseal` program in the place's workspace.
pub(crate) const PROGRAM: &str = "evoseal";

/// `operate` on a place, or `evoseal` in its workspace, to be started.
pub(crate) fn operate<S: AsRef<OsStr>>(place: &Path, arguments: &[S]) -> Result<Vec<OsString>> {
    let this = std::env::current_exe()?;
    let arguments = arguments.iter().map(|argument| argument.as_ref().to_owned());
    let mut arguments = arguments.peekable();
    if arguments.next_if(|first| first == PROGRAM).is_some() {
        let start = [program()?.into_os_string(), "-C".into(), place.join("workspace").into()];
        return Ok(start.into_iter().chain(arguments).collect());
    }
    let start = [this.into_os_string(), "operate".into(), "--place".into(), place.into()];
    Ok(start.into_iter().chain(arguments).collect())
}

/// The program, which cargo puts beside the folder of the examples.
pub(crate) fn program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let program = this.parent().and_then(Path::parent).map(|folder| folder.join(PROGRAM));
    let is_there = |program: &PathBuf| program.is_file();
    let missing = || Missing("the program is not built: cargo build --package evoseal-cli".to_owned());
    Ok(program.filter(is_there).ok_or_else(missing)?)
}

/// Runs the program in the place's workspace; an error is what it said.
pub(crate) fn evoseal(place: &Path, arguments: &[&str]) -> Result<()> {
    let words = operate(place, &[&[PROGRAM], arguments].concat())?;
    output(Command::new(&words[0]).args(&words[1..])).map(drop)
}

/// All calls of an operation, which is done once.
pub(crate) fn trace(cpu: usize, place: &Path, arguments: &[&str], log: &Path) -> Result<Vec<Call>> {
    let mut command = strace(cpu, log);
    command.args(["-e", &trace_all()]).args(operate(place, arguments)?);
    output(&mut command)?;
    calls(log, place, arguments.first() != Some(&PROGRAM))
}

/// The changes of an operation that is done up to an end that may be a refusal.
pub(crate) fn trace_to(
    cpu: usize,
    place: &Path,
    arguments: &[&str],
    log: &Path,
    wanted: End,
) -> Result<Vec<Spot>> {
    let mut command = strace(cpu, log);
    command.args(["-e", &trace_all()]).args(operate(place, arguments)?);
    let end = finish(&mut command)?;
    if end != wanted {
        return Err(format!("{arguments:?} ended with {end:?} instead of {wanted:?}").into());
    }
    spots(log, place, arguments.first() != Some(&PROGRAM))
}

/// Does an operation with a fault in one of its calls. Says as well whether that call was reached.
pub(crate) fn inject(
    cpu: usize,
    place: &Path,
    arguments: &[&str],
    (fault, name, ordinal): (Fault, &str, usize),
    log: &Path,
) -> Result<(End, bool)> {
    let [trace, inject] = fault.expressions(name, ordinal);
    let mut command = strace(cpu, log);
    command.args(["-e", &trace, "-e", &inject]).args(operate(place, arguments)?);
    let end = finish(&mut command)?;
    let is_reached = if fault == Fault::Kill {
        end == End::Killed
    } else {
        let log = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
        let here = place.to_string_lossy();
        log.lines().any(|line| line.contains("INJECTED") && line.contains(&*here))
    };
    Ok((end, is_reached))
}

/// The same with a call that is told by its file, in one of several attempts.
pub(crate) fn inject_at(
    cpu: usize,
    place: &Path,
    arguments: &[&str],
    (fault, spot, attempt): (Fault, &Spot, usize),
    log: &Path,
) -> Result<(End, bool)> {
    let [trace, inject] = fault.expressions(&spot.name, spot.ordinal(attempt));
    let mut command = spot.strace(cpu, place, log)?;
    command.args(["-e", &trace, "-e", &inject]).args(operate(place, arguments)?);
    let end = finish(&mut command)?;
    let is_kill = fault == Fault::Kill;
    Ok((end, is_kill == (end == End::Killed) && spot.is_struck(log, is_kill)?))
}

/// Runs a command to its end, or to the limit.
pub(crate) fn finish(command: &mut Command) -> Result<End> {
    // A group of its own: with strace alone killed, what it traces would go on.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn()?;
    let Some(status) = wait(&mut child, TIME_LIMIT)? else { return Ok(End::Hung) };
    Ok(match (status.code(), status.signal()) {
        (Some(0), _) => End::Acknowledged,
        // What `operate` ends with when the library reports an error, and `evoseal` when anything but itself is to blame.
        (Some(2..=4), _) => End::Refused,
        (_, Some(9)) => End::Killed,
        (code, signal) => End::Broken(code.or(signal).unwrap_or(-1)),
    })
}

/// Waits for a child; one that does not end in time is killed, and there is no status.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > end {
            let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(group) = group {
                // It fails for a child that shares our group, which is then killed alone.
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Lets the next commands run in a process of their own. Says whether they completed a restore.
pub(crate) fn audit(place: &Path, acknowledged: bool) -> Result<(bool, Findings)> {
    let mut arguments = vec!["audit"];
    arguments.extend(acknowledged.then_some("--acknowledged"));
    let words = operate(place, &arguments)?;
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut findings = Findings::default();
    let Some(status) = wait(&mut child, TIME_LIMIT)? else {
        findings.blocked("the next commands hang");
        return Ok((false, findings));
    };
    let mut said = String::new();
    if !status.success() {
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        findings.blocked(format!("the next commands end with {status}: {}", said.trim()));
        return Ok((false, findings));
    }
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    Ok(serde_json::from_str(&said)?)
}

/// Does the first half of an operation: kills it at the middle one of its state-changing calls.
pub(crate) fn kill_half_way(place: &Path, arguments: &[&str]) -> Result<()> {
    let name = place.file_name().ok_or("a place has a name")?.to_string_lossy().into_owned();
    let beside = |suffix: &str| -> PathBuf { place.with_file_name(format!("{name}.{suffix}")) };
    let (copy, log) = (beside("copy"), beside("log"));
    crate::machine::copy_tree(place, &copy)?;
    let found = trace(0, &copy, arguments, &log)?;
    crate::machine::remove_tree(&copy)?;
    let changes: Vec<&Call> = found.iter().filter(|call| call.is_change).collect();
    let middle = changes.get(changes.len() / 2).ok_or("the operation changes nothing")?;
    // A copy again: in the original, files that are known to be unchanged would make for other calls.
    crate::machine::copy_tree(place, &copy)?;
    let (end, _) = inject(0, &copy, arguments, (Fault::Kill, &middle.name, middle.ordinal), &log)?;
    crate::machine::remove_tree(place)?;
    std::fs::rename(&copy, place)?;
    std::fs::remove_file(log)?;
    if end == End::Killed {
        Ok(())
    } else {
        Err(format!("{arguments:?} could not be killed: {end:?}").into())
    }
}
