//! Everything that happens between fork and exec, and the probes that find out what may happen there.
//!
//! # The processes of one command
//!
//! ```text
//! harness ── outer ── init ── command ── …
//! ```
//!
//! - *outer* is what the standard library forked. It enters the name spaces, forks *init*, waits for it and exits; a PID
//!   name space holds only for children, so this process is needed to have one.
//! - *init* is process 1 of the name space or, where there is none, a child subreaper. Every orphan becomes its child,
//!   whatever sessions it opened and however often it forked, so *init* always finds the whole descent. It ends it when
//!   the command has ended, when the harness says so, and when the harness has died (end of file on the control pipe). The
//!   kernel closes that pipe however the harness ends. A signal on the parent's death would end *init* no sooner, and it would
//!   let go of the [`Tether`](super::Tether), which it holds until the descent is dead, while the descent still dies.
//! - *command* puts the walls up around itself and returns, and the standard library executes the program.
//!
//! # Rules for this module
//!
//! The harness has many threads, of which a forked child has one; the others may have held any lock. Nothing here
//! allocates, locks, or calls anything but system calls; what needs memory is prepared in a [`Plan`] before the fork.

#[deny(unsafe_code)]
mod mounts;
#[deny(unsafe_code)]
mod probe;

use std::ffi::CString;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_int, pid_t};
use rustix::process::{Resource, Rlimit, Signal};

pub(super) use self::mounts::{Hidden, Mounts};
pub(super) use self::probe::probe;
use super::report::Report;

/// The byte that asks *init* to send SIGTERM to everything.
pub(super) const TERMINATE: u8 = b'T';
/// The byte that asks *init* to kill everything and report.
pub(super) const KILL: u8 = b'K';

/// All that the child needs, prepared before the fork.
#[derive(Debug)]
pub(super) struct Plan {
    /// Name spaces to enter; `None` means a child subreaper.
    pub(super) namespaces: Option<Namespaces>,
    /// Mounts to change; `None` without a mount name space.
    pub(super) mounts: Option<Mounts>,
    /// The rules to restrict the command with.
    pub(super) landlock: Option<OwnedFd>,
    /// Resource limits, soft and hard.
    pub(super) limits: Vec<(Resource, u64, u64)>,
    /// The working directory, entered again after mounts have changed.
    pub(super) directory: CString,
    /// Where *init* is told to end.
    pub(super) control: PipeReader,
    /// Where *init* writes its [`Report`].
    pub(super) report: PipeWriter,
    /// What *init* keeps open for as long as it lives, and nobody below it.
    pub(super) tether: Option<OwnedFd>,
}

/// Name spaces to enter, a PID name space among them.
#[derive(Debug, Clone)]
pub(super) struct Namespaces {
    /// Flags of `unshare`.
    pub(super) flags: c_int,
    /// Contents of `uid_map` and `gid_map` where a user name space is entered.
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Makes `command` run as `plan` says.
pub(super) fn install(command: &mut Command, plan: Plan) {
    let stage = move || plan.become_command();
    // SAFETY: the closure makes only system calls on memory that was prepared before the fork; see the module's rules.
    unsafe { command.pre_exec(stage) };
}

impl Plan {
    /// Runs in *outer*; returns in *command* alone, or with an error that the standard library hands to the harness.
    fn become_command(&self) -> io::Result<()> {
        block_signals()?;
        if let Some(namespaces) = &self.namespaces {
            namespaces.enter()?;
        }
        if let Some(init) = fork()? {
            close_from(0);
            wait_for(init);
            exit(0)
        }
        self.prepare_init()?;
        match fork()? {
            Some(command) => self.supervise(command),
            None => self.restrict(),
        }
    }

    fn prepare_init(&self) -> io::Result<()> {
        match &self.namespaces {
            Some(namespaces) if namespaces.flags & libc::CLONE_NEWNET != 0 => raise_loopback()?,
            Some(_) => {}
            None => rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?,
        }
        self.mounts.as_ref().map_or(Ok(()), Mounts::apply)
    }

    /// Puts the walls up around the calling process.
    fn restrict(&self) -> io::Result<()> {
        rustix::process::setsid()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        for (resource, soft, hard) in &self.limits {
            lower_limit(*resource, *soft, *hard)?;
        }
        if self.mounts.is_some() {
            rustix::process::chdir(self.directory.as_c_str())?;
        }
        drop_capabilities();
        rustix::thread::set_no_new_privs(true)?;
        if let Some(rules) = &self.landlock {
            restrict_self(rules)?;
        }
        // Whatever the harness forgot to mark as its own does not reach the program.
        // SAFETY: a system call without pointers.
        unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        let memory = usage(libc::RUSAGE_SELF).memory_peak_kib.to_ne_bytes();
        // SAFETY: the buffer lives on the stack and has the given length.
        unsafe { libc::write(self.report.as_raw_fd(), memory.as_ptr().cast(), memory.len()) };
        unblock_signals()
    }

    /// The life of *init* after it has forked the command.
    fn supervise(&self, command: pid_t) -> ! {
        // SAFETY: `dup2` and `close` take numbers; the process owns all of its descriptors and no destructor runs any more.
        unsafe {
            let report = libc::fcntl(self.report.as_raw_fd(), libc::F_DUPFD, 4);
            let control = libc::fcntl(self.control.as_raw_fd(), libc::F_DUPFD, 4);
            let tether = self.tether.as_ref().map(|tether| libc::fcntl(tether.as_raw_fd(), libc::F_DUPFD, 4));
            libc::dup2(control, 0);
            libc::dup2(report, 1);
            match tether {
                Some(tether) => libc::dup2(tether, 2),
                None => libc::close(2),
            };
        }
        close_from(3);
        let signals = child_signals();
        let mut status = None;
        let mut asked = false;
        loop {
            reap_ended(command, &mut status);
            if status.is_some() || asked {
                break;
            }
            match next_order(signals) {
                Some(TERMINATE) => self.signal_all(command, libc::SIGTERM),
                Some(_) => asked = true,
                None => {}
            }
        }
        let stragglers = self.end_descent(command, &mut status);
        let usage = usage(libc::RUSAGE_CHILDREN);
        let report = Report { status: status.unwrap_or(libc::SIGKILL), stragglers, ..usage }.encode();
        // SAFETY: the buffer lives on the stack and has the given length.
        unsafe { libc::write(1, report.as_ptr().cast(), report.len()) };
        exit(0)
    }

    /// Kills until no descendant is left; counts those that outlived the command or had left its group.
    fn end_descent(&self, command: pid_t, status: &mut Option<c_int>) -> u32 {
        let outlived = status.is_some();
        let mut stragglers = 0;
        loop {
            self.signal_all(command, libc::SIGKILL);
            let Some(pid) = next_dead() else { return stragglers };
            // A process that has ended keeps its group until it is waited for.
            // SAFETY: system calls without pointers, and one with a pointer to a local.
            let (group, mut ended) = (unsafe { libc::getpgid(pid) }, 0);
            unsafe { libc::waitpid(pid, &raw mut ended, libc::__WALL) };
            if pid == command {
                *status = Some(ended);
            } else if killed(ended) && (outlived || group != command) {
                stragglers += 1;
            }
        }
    }

    /// Sends a signal to the whole descent, or without a PID name space to all of it that can be found now: the
    /// command's group and the children of *init*, among which every orphan turns up.
    fn signal_all(&self, command: pid_t, signal: c_int) {
        // SAFETY: system calls without pointers. In a PID name space, -1 means all others in it.
        unsafe {
            if self.namespaces.is_some() {
                libc::kill(-1, signal);
                return;
            }
            // The leader may not have opened its group yet.
            libc::kill(-command, signal);
        }
        if signal == libc::SIGKILL {
            for_each_child(|pid| {
                // SAFETY: as above; `pid` is our child and not yet waited for, so the number is not reused.
                unsafe { libc::kill(pid, signal) };
            });
        }
    }
}

impl Namespaces {
    fn enter(&self) -> io::Result<()> {
        // SAFETY: a system call without pointers; the process has one thread.
        check(unsafe { libc::unshare(self.flags) })?;
        if let Some((users, groups)) = &self.identity {
            write_file(c"/proc/self/setgroups", b"deny")?;
            write_file(c"/proc/self/uid_map", users)?;
            write_file(c"/proc/self/gid_map", groups)?;
        }
        Ok(())
    }
}

/// Makes a mount and all below it read-only.
fn set_read_only(path: &std::ffi::CStr) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path ends with NUL; pointer and size are those of a local.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The version of Landlock's interface that the kernel offers; 0 for none.
pub(super) fn landlock_version() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no structure and returns a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    u32::try_from(version).unwrap_or(0)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `Some` with the child's id in the parent, `None` in the child.
fn fork() -> io::Result<Option<pid_t>> {
    // SAFETY: both sides go on with system calls only, as this module's rules demand.
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

fn exit(code: c_int) -> ! {
    // SAFETY: ends the process without running anything of the harness.
    unsafe { libc::_exit(code) }
}

fn wait_for(pid: pid_t) -> c_int {
    let mut status = 0;
    // SAFETY: the pointer is to a local.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
    status
}

fn killed(status: c_int) -> bool {
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
}

/// Waits for what has already ended, the command or orphans.
fn reap_ended(command: pid_t, status: &mut Option<c_int>) {
    loop {
        let mut ended = 0;
        // SAFETY: the pointer is to a local.
        let pid = unsafe { libc::waitpid(-1, &raw mut ended, libc::WNOHANG | libc::__WALL) };
        if pid <= 0 {
            return;
        }
        if pid == command {
            *status = Some(ended);
            return;
        }
    }
}

/// Blocks until a child has ended and leaves it to be waited for; `None` when there are no children.
fn next_dead() -> Option<pid_t> {
    loop {
        // SAFETY: a zeroed `siginfo_t` is valid, and the pointer is to a local.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let options = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
            (libc::waitid(libc::P_ALL, 0, &raw mut info, options), info)
        };
        if result == 0 {
            // SAFETY: `waitid` has filled the fields of a child's signal.
            return Some(unsafe { info.si_pid() });
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

/// Blocks until a child has ended (`None`) or the harness has written a byte; its death reads as [`KILL`].
fn next_order(signals: c_int) -> Option<u8> {
    let wish = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut fds = [wish(signals), wish(0)];
    let mut buffer = [0_u8; size_of::<libc::signalfd_siginfo>()];
    // SAFETY: pointers and lengths are those of the two local arrays.
    unsafe {
        // A second, in case the machine had no descriptor left for the signals.
        if libc::poll(fds.as_mut_ptr(), 2, 1000) <= 0 {
            return None;
        }
        if fds[0].revents != 0 {
            libc::read(signals, buffer.as_mut_ptr().cast(), buffer.len());
        }
        if fds[1].revents == 0 {
            return None;
        }
        if libc::read(0, buffer.as_mut_ptr().cast(), 1) == 1 { Some(buffer[0]) } else { Some(KILL) }
    }
}

/// Calls `visit` for each child of the calling process, which has one thread.
fn for_each_child(mut visit: impl FnMut(pid_t)) {
    let mut buffer = [0_u8; 4096];
    // SAFETY: the path is a constant C string; the pointer and length are those of the local buffer.
    unsafe {
        let file = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file == -1 {
            return;
        }
        let mut pid = 0;
        while let Ok(length @ 1..) =
            usize::try_from(libc::read(file, buffer.as_mut_ptr().cast(), buffer.len()))
        {
            for byte in &buffer[..length.min(4096)] {
                if byte.is_ascii_digit() {
                    pid = pid * 10 + pid_t::from(byte - b'0');
                } else if pid != 0 {
                    visit(pid);
                    pid = 0;
                }
            }
        }
        libc::close(file);
    }
}

/// CPU time and memory of this process or of all children that it has waited for.
fn usage(whom: c_int) -> Report {
    // SAFETY: a zeroed `rusage` is valid, and the pointer is to a local.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(whom, &raw mut usage);
        usage
    };
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let micros = |time: libc::timeval| number(time.tv_sec) * 1_000_000 + number(time.tv_usec);
    Report {
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        memory_peak_kib: number(usage.ru_maxrss),
        ..Report::default()
    }
}

/// Closes every descriptor from `first` on.
fn close_from(first: c_int) {
    // SAFETY: the calling process owns its descriptors and uses none of these again.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) == -1 {
            // Kernels before 5.9, and filters that do not know the call.
            for fd in first..65_536 {
                libc::close(fd);
            }
        }
    }
}

fn write_file(path: &std::ffi::CStr, content: &[u8]) -> io::Result<()> {
    // SAFETY: the path ends with NUL, and pointer and length are the slice's.
    unsafe {
        let file = check(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
        let written = libc::write(file, content.as_ptr().cast(), content.len());
        let result = if written == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
        libc::close(file);
        result
    }
}

/// Switches the loopback interface on, which a new network name space has and which test suites use.
fn raise_loopback() -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "the two flags are 0x41")]
    const UP: libc::c_short = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: a zeroed `ifreq` is valid; the name fits; the pointer is to a local.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed() as libc::c_char;
        request.ifr_name[1] = b'o'.cast_signed() as libc::c_char;
        request.ifr_ifru.ifru_flags = UP;
        let result = check(libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request));
        libc::close(socket);
        result.map(|_| ())
    }
}

/// Sets a limit, or leaves it where the machine's own is lower.
fn lower_limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let ceiling = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(soft.min(ceiling)), maximum: Some(hard.min(ceiling)) };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

/// Takes from root's programs what no build or test needs and what leads out of the sandbox: all capabilities but those
/// over files, ids and low ports. Without effect, and without need, for other users.
fn drop_capabilities() {
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE; not DAC_READ_SEARCH, which
    // opens files by number behind every mount.
    const KEPT: u64 = 0b101_1111_1011;
    for capability in 0..64 {
        if KEPT & (1 << capability) == 0 {
            // SAFETY: a system call without pointers; unknown numbers and lack of permission are refused without effect.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
    }
}

fn restrict_self(rules: &OwnedFd) -> io::Result<()> {
    // SAFETY: a system call without pointers.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn block_signals() -> io::Result<()> {
    // The harness's handlers must not run in its forked copies. A child signal that is ignored would never be reported.
    // SAFETY: the pointers are to a local that `sigfillset` initialises.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()))?;
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    Ok(())
}

fn unblock_signals() -> io::Result<()> {
    // SAFETY: as in `block_signals`.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()))?;
    }
    Ok(())
}

/// A descriptor that is readable when a child has ended.
fn child_signals() -> c_int {
    // SAFETY: the pointers are to a local that `sigemptyset` initialises.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    }
}

/// The user and group of the calling process.
pub(super) fn identity() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}
