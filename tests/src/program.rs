//! Running the `evoseal` program.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long one start of the program may take before it counts as hung. Far more than any needs, also on a busy machine.
const TIME_LIMIT: Duration = Duration::from_mins(2);

/// One start of the program, still to be made.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

/// What a start of the program came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; `None` if it was ended by a signal.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A start of the program that goes on while the test does something else. Dropping it kills the program.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
}

impl Program {
    /// The program in `directory` with these arguments. It sees no colour setting and no terminal.
    pub fn new<A: Into<OsString>>(directory: &Path, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(Self::path());
        command.current_dir(directory).args(arguments.into_iter().map(Into::into));
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env("COLUMNS", "100");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// Where the built program is: beside the folder in which cargo puts test executables.
    ///
    /// # Panics
    ///
    /// If it has not been built. Cargo builds it with `cargo test --workspace`, but not for `-p evoseal-tests` alone.
    pub fn path() -> PathBuf {
        let test = std::env::current_exe().expect("the system knows where this test is");
        let folder = test.ancestors().find(|folder| folder.ends_with("deps")).and_then(Path::parent);
        let program = folder.unwrap_or(Path::new("target/debug")).join("evoseal");
        assert!(
            program.is_file(),
            "{} does not exist: build it first with `cargo build -p evoseal-cli`, in the same profile as the tests",
            program.display()
        );
        program
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives access to the command, for what has no method of its own.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or does not end within two minutes.
    pub fn run(self) -> Finished {
        self.start().finish()
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(mut self) -> Running {
        let child = self.command.spawn().expect("the program can be started");
        Running { child: Some(child) }
    }
}

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the child is there until it is waited for"))
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("the child is there until it is waited for").id()
    }

    /// Whether it has ended by now.
    ///
    /// # Panics
    ///
    /// If the system does not say.
    pub fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("the child is there until it is waited for");
        child.try_wait().expect("the system knows its own children").is_some()
    }

    /// Sends a signal to the program, not to what it started.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the program has not been waited for");
    }

    /// Waits until `file` exists.
    ///
    /// # Panics
    ///
    /// With what the program said, if it ends before that or takes too long.
    pub fn wait_for_file(&mut self, file: &Path) {
        let mut waited = Duration::ZERO;
        while !file.exists() {
            if self.has_ended() || waited > TIME_LIMIT {
                let child = self.child.take().expect("it was there a line ago");
                let output = finish(child);
                panic!("{} was not written: {output:?}", file.display());
            }
            std::thread::sleep(Duration::from_millis(5));
            waited += Duration::from_millis(5);
        }
    }

    /// Waits for the end of the program.
    ///
    /// # Panics
    ///
    /// If it does not end within two minutes; it is killed then.
    pub fn finish(mut self) -> Finished {
        finish(self.child.take().expect("the child is there until it is waited for"))
    }

    /// Kills it as a crash of the machine would, and waits until it is gone.
    pub fn kill(self) -> Finished {
        self.signal(Signal::KILL);
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Collects the output, and kills the process if that takes too long.
fn finish(child: Child) -> Finished {
    let pid = Pid::from_child(&child);
    let (done, ended) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        // An answer is the drop of the sender. The process is not reaped before that, so its id is still its own.
        let late = ended.recv_timeout(TIME_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = kill_process(pid, Signal::KILL);
        }
        late
    });
    let output: Output = child.wait_with_output().expect("the output can be read");
    drop(done);
    let late = watchdog.join().expect("the watchdog does not panic");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let finished =
        Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
    assert!(!late, "the program did not end within {TIME_LIMIT:?}: {finished:?}");
    finished
}

impl Finished {
    /// Checks the exit code.
    ///
    /// # Panics
    ///
    /// With everything that the program said, if it is another.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks that standard error has each of these texts.
    ///
    /// # Panics
    ///
    /// With standard error, if one is missing.
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in:\n{}", self.stderr);
        }
        self
    }

    /// Checks that standard output has each of these texts.
    ///
    /// # Panics
    ///
    /// With standard output, if one is missing.
    pub fn shows(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stdout.contains(text), "no {text:?} in:\n{}", self.stdout);
        }
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in:\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

/// The processes `sleep` that sleep for so long, to be told apart by the number of seconds.
pub fn sleeping(seconds: &str) -> Vec<u32> {
    let line = format!("sleep\0{seconds}\0");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let number = |process: std::fs::DirEntry| {
        let is_it = std::fs::read(process.path().join("cmdline")).ok()? == line.as_bytes();
        is_it.then(|| process.file_name().to_str()?.parse().ok())?
    };
    processes.filter_map(number).collect()
}
