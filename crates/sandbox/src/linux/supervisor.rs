//! One thread per command: starts it, feeds it, reads it, ends it.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::capture::Capture;
use super::child::{self, Plan};
use super::memory;
use super::plan::{self, Temporary};
use super::report::Report;
use super::{LinuxSandbox, Tether};
use crate::{CommandOutcome, CommandSpec, Ending, Error, Result};

/// From SIGTERM to SIGKILL: time for a test runner to flush what it has, not for a candidate to work on.
const GRACE: Duration = Duration::from_millis(250);
/// How long a killed descent may take to disappear. Only a process inside a hanging system call takes longer.
const END_MAX: Duration = Duration::from_secs(10);
/// Memory is looked at often at first, for short commands, and then at this pace.
const LOOK_MAX: Duration = Duration::from_millis(200);
/// More than a pipe can hold: what a dead writer has left behind is read up to here.
const LEFT_BEHIND_MAX: u64 = 4 << 20;

/// Runs a command to its end. The other end of `cancel` is closed when nobody waits for the outcome any more.
pub(super) fn run(
    harness: &LinuxSandbox,
    command: &CommandSpec,
    cancel: &PipeReader,
) -> Result<CommandOutcome> {
    plan::check(command)?;
    let temporary = harness.temporary()?;
    let started = Instant::now();
    let outcome = start(harness, command, &temporary).and_then(|mut running| {
        let why = running.watch(command, started, cancel)?;
        running.finish(why, started)
    });
    // The descent is dead: nothing can add files while they are removed.
    let removed = temporary.remove();
    outcome.and_then(|outcome| removed.map(|()| outcome))
}

fn start(harness: &LinuxSandbox, command: &CommandSpec, temporary: &Temporary) -> Result<Running> {
    let LinuxSandbox { features, tether, .. } = harness;
    let pipe = |source| Error::Io { action: "open a pipe for", path: command.program.clone().into(), source };
    let (control_read, control) = io::pipe().map_err(pipe)?;
    let (report, report_write) = io::pipe().map_err(pipe)?;
    let plan = Plan {
        namespaces: features.namespaces_for(command.network),
        mounts: plan::mounts(features, command, temporary)?,
        landlock: plan::rules(features, command, temporary)?,
        limits: plan::limits(&command.limits),
        directory: plan::c_string(&command.directory)?,
        control: control_read,
        report: report_write,
        tether: tether.as_ref().map(Tether::hold).transpose().map_err(pipe)?,
    };
    let mut process = Command::new(&command.program);
    process
        .args(&command.args)
        .env_clear()
        .envs(&command.environment)
        .env("TMPDIR", temporary.folder())
        .envs(tether.as_ref().map(Tether::variable))
        .current_dir(&command.directory)
        .stdin(if command.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    child::install(&mut process, plan);
    let mut outer = process.spawn().map_err(|source| start_error(command, source))?;
    // The plan holds the child's ends of the pipes.
    drop(process);
    let limit = command.limits.output_bytes;
    let running = Running {
        stdin: outer.stdin.take().map(|pipe| (pipe, command.stdin.clone(), 0)),
        stdout: Stream::new(outer.stdout.take(), limit),
        stderr: Stream::new(outer.stderr.take(), limit),
        memory_peak_bytes: memory::peak_below(outer.id()),
        outer,
        control: Some(control),
        report,
        reported: Vec::new(),
    };
    running.unblock().map_err(pipe)?;
    Ok(running)
}

/// Why the program did not start. Executing says only "not found" also for a script whose interpreter is missing.
fn start_error(command: &CommandSpec, source: io::Error) -> Error {
    let program = command.program.to_string_lossy().into_owned();
    let exists = program.contains('/') && command.directory.join(&command.program).exists();
    if source.kind() == io::ErrorKind::NotFound && !exists {
        return Error::ProgramMissing { program };
    }
    Error::Start { program, source }
}

/// One output stream.
#[derive(Debug)]
struct Stream<P> {
    /// `None` once it has ended.
    pipe: Option<P>,
    capture: Capture,
}

impl<P: Read + AsFd> Stream<P> {
    fn new(pipe: Option<P>, limit_bytes: u64) -> Self {
        Self { pipe, capture: Capture::new(limit_bytes) }
    }

    /// Reads what there is, at most one buffer; returns how much that was.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        match pipe.read(buffer) {
            Ok(length @ 1..) => {
                self.capture.push(&buffer[..length]);
                length
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Ok(0) | Err(_) => {
                self.pipe = None;
                0
            }
        }
    }

    /// Reads what a dead writer has left in the pipe, without waiting for one that is not dead.
    fn read_rest(&mut self, buffer: &mut [u8]) {
        let mut rest = LEFT_BEHIND_MAX;
        loop {
            let length = self.read(buffer) as u64;
            rest = rest.saturating_sub(length);
            if length == 0 || rest == 0 {
                return;
            }
        }
    }
}

/// A started command.
#[derive(Debug)]
struct Running {
    outer: Child,
    stdin: Option<(ChildStdin, Vec<u8>, usize)>,
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
    /// Orders to *init*; closing it means the same as [`child::KILL`].
    control: Option<PipeWriter>,
    report: PipeReader,
    reported: Vec<u8>,
    memory_peak_bytes: u64,
}

/// Why we ended a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    ByItself,
    TimedOut,
    Cancelled,
}

/// What a descriptor in the poll set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Report,
    Cancel,
    Stdin,
    Stdout,
    Stderr,
}

impl Running {
    fn unblock(&self) -> io::Result<()> {
        let pipes = [
            self.stdin.as_ref().map(|(pipe, ..)| pipe.as_fd()),
            self.stdout.pipe.as_ref().map(AsFd::as_fd),
            self.stderr.pipe.as_ref().map(AsFd::as_fd),
        ];
        for pipe in pipes.into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(())
    }

    /// Moves bytes and watches the clock until *init* has reported.
    fn watch(&mut self, command: &CommandSpec, started: Instant, cancel: &PipeReader) -> Result<Ended> {
        let mut why = Ended::ByItself;
        let mut deadline = started + command.limits.wall_time();
        let mut look = Duration::from_millis(1);
        let mut next_look = started + look;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let now = Instant::now();
            if now >= next_look {
                self.memory_peak_bytes = self.memory_peak_bytes.max(memory::peak_below(self.outer.id()));
                look = (look * 2).min(LOOK_MAX);
                next_look = now + look;
            }
            if now >= deadline {
                deadline = now + self.escalate(command, &mut why)?;
            }
            let cancel = (why != Ended::Cancelled).then(|| cancel.as_fd());
            let ready = self.wait(cancel, deadline.min(next_look).saturating_duration_since(now));
            for source in ready.map_err(|source| self.lost(command, source))? {
                match source {
                    Source::Report if self.read_report() => return Ok(why),
                    Source::Report => {}
                    Source::Cancel => {
                        why = Ended::Cancelled;
                        self.control = None;
                        deadline = Instant::now() + END_MAX;
                    }
                    Source::Stdin => self.feed(),
                    Source::Stdout => {
                        self.stdout.read(&mut buffer);
                    }
                    Source::Stderr => {
                        self.stderr.read(&mut buffer);
                    }
                }
            }
        }
    }

    /// The next step against a command that has not ended at its deadline; returns how long to wait for its effect.
    fn escalate(&mut self, command: &CommandSpec, why: &mut Ended) -> Result<Duration> {
        let order = |control: &mut Option<PipeWriter>, byte| {
            // A broken pipe means that *init* has ended, which the report's end shows.
            control.as_mut().is_some_and(|control| control.write_all(&[byte]).is_ok())
        };
        if *why == Ended::ByItself {
            *why = Ended::TimedOut;
            order(&mut self.control, child::TERMINATE);
            return Ok(GRACE);
        }
        if self.control.is_some() {
            order(&mut self.control, child::KILL);
            self.control = None;
            return Ok(END_MAX);
        }
        Err(self.lost(command, io::ErrorKind::TimedOut.into()))
    }

    /// The last resort, where *init* itself does not answer.
    fn lost(&mut self, command: &CommandSpec, source: io::Error) -> Error {
        self.control = None;
        Error::Io { action: "end", path: command.program.clone().into(), source }
    }

    /// Waits until something can be done.
    fn wait(&self, cancel: Option<BorrowedFd<'_>>, time: Duration) -> io::Result<Vec<Source>> {
        let input = PollFlags::IN;
        let candidates = [
            (Source::Stdout, self.stdout.pipe.as_ref().map(AsFd::as_fd), input),
            (Source::Stderr, self.stderr.pipe.as_ref().map(AsFd::as_fd), input),
            (Source::Stdin, self.stdin.as_ref().map(|(pipe, ..)| pipe.as_fd()), PollFlags::OUT),
            (Source::Cancel, cancel, input),
            (Source::Report, Some(self.report.as_fd()), input),
        ];
        let (sources, mut fds): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .filter_map(|(source, fd, flags)| Some((source, PollFd::from_borrowed_fd(fd?, flags))))
            .unzip();
        let timeout = Timespec::try_from(time).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let ready = sources.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(source, _)| source).collect())
    }

    /// Takes what *init* has written; true once it is whole or *init* has ended without it.
    fn read_report(&mut self) -> bool {
        let mut buffer = [0; Report::LEN];
        match self.report.read(&mut buffer) {
            Ok(length @ 1..) => {
                self.reported.extend_from_slice(&buffer[..length]);
                self.reported.len() >= Report::LEN
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
            Ok(0) | Err(_) => true,
        }
    }

    fn feed(&mut self) {
        let Some((pipe, bytes, sent)) = &mut self.stdin else { return };
        match pipe.write(&bytes[*sent..]) {
            Ok(length) => *sent += length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return;
            }
            // The command does not want the rest.
            Err(_) => *sent = bytes.len(),
        }
        if *sent == bytes.len() {
            self.stdin = None;
        }
    }

    fn finish(mut self, why: Ended, started: Instant) -> Result<CommandOutcome> {
        let wall_time = started.elapsed();
        let mut buffer = vec![0; 64 << 10];
        self.stdout.read_rest(&mut buffer);
        self.stderr.read_rest(&mut buffer);
        self.outer.wait().map_err(|source| Error::Io {
            action: "wait for",
            path: format!("process {}", self.outer.id()).into(),
            source,
        })?;
        // Without a report *init* was killed from outside, for instance for lack of memory, and all else with it.
        let killed = Report { status: rustix::process::Signal::KILL.as_raw(), ..Report::default() };
        let report = Report::decode(&self.reported).unwrap_or(killed);
        Ok(CommandOutcome {
            ending: ending(why, report.status),
            stdout: self.stdout.capture.finish(),
            stderr: self.stderr.capture.finish(),
            wall_time,
            cpu_user: Duration::from_micros(report.user_us),
            cpu_system: Duration::from_micros(report.system_us),
            memory_peak_bytes: memory_peak(&report, self.memory_peak_bytes),
            stragglers_killed: report.stragglers,
        })
    }
}

fn ending(why: Ended, status: i32) -> Ending {
    let status = ExitStatus::from_raw(status);
    match (why, status.code(), status.signal()) {
        (Ended::TimedOut, ..) => Ending::TimedOut,
        (Ended::Cancelled, ..) => Ending::Cancelled,
        (Ended::ByItself, Some(code), _) => Ending::Exited(code),
        (Ended::ByItself, None, signal) => Ending::Signalled(signal.unwrap_or_default()),
    }
}

/// The kernel's figure is exact where it exceeds what the forked copy of the harness had; below that only what was seen
/// in `/proc` belongs to the program.
fn memory_peak(report: &Report, seen_bytes: u64) -> u64 {
    // The kernel counts pages per processor and adds them up now and then.
    const SLACK_KIB: u64 = 1024;
    if report.memory_peak_kib > report.memory_fork_kib + SLACK_KIB {
        report.memory_peak_kib * 1024
    } else {
        seen_bytes.min(report.memory_peak_kib * 1024)
    }
}
