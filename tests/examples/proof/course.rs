//! A run whose course is known: what is proposed, tested and measured depends on the number of the iteration alone, so that
//! every decision is the same on every machine and after every crash.
//!
//! [`Course`] is what a run that nobody disturbs comes to. What disturbed runs come to is held against it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evoseal_pipeline::{EvolutionPipeline, Journal, RunState};
use evoseal_safety::{AuditEvent, AuditLog, FileAuditLog};
use evoseal_tests::sleeping;
use evoseal_types::SystemClock;
use serde_json::{Value, json};

use crate::Result;
use crate::report::Findings;
use crate::victim::program;

/// What the strays of the candidates sleep, in seconds, to be told apart.
pub(crate) const NAP: &str = "7777";

/// One of each kind in turn. What is accepted costs less each time.
const AGENT: &str = r#"echo "$EVOSEAL_ITERATION" >> proposals.log
better() { echo $((1000 - EVOSEAL_ITERATION * 10)) > cost.txt; mkdir -p parts; echo "$EVOSEAL_ITERATION" > "parts/$EVOSEAL_ITERATION"; }
case $((EVOSEAL_ITERATION % 10)) in
1 | 4) better ;;
2) echo 5000 > cost.txt; rm -rf parts; echo junk > junk.txt; ln -s /etc link ;;
3) echo 'echo 41' > program.sh ;;
5) echo half > cost.txt; echo half > half.txt; exit 7 ;;
6) ;;
7) better; echo 'exit 0' > tests/run.sh ;;
8) better; (setsid env -i sleep 7777 > /dev/null 2>&1 &); chmod +x program.sh; rm -f "parts/1" ;;
9) rm cost.txt ;;
0) better; rm -f parts/4; mkdir -p empty ;;
esac
"#;

const TESTS: &str = r#"[ "$EVOSEAL_ROLE" = candidate ] && echo "$EVOSEAL_ITERATION" >> "$EVOSEAL_SUBJECT_DIR/evaluations.log"
echo; echo "running 1 test"
if [ "$(sh program.sh)" = 42 ]; then echo "test answers ... ok"; echo
    echo "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s"
else echo "test answers ... FAILED"; echo
    echo "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s"; exit 1
fi
"#;

/// So few checkpoints are kept that some are deleted in every iteration.
const SETTINGS: &str = r#"[run]
max_consecutive_rejections = 1000
[propose]
command = ["sh", "agent.sh"]
[safety.checkpoints]
max_checkpoints = 6
[edit]
protected = ["tests/**", "agent.sh"]
[evaluate.test]
command = ["sh", "tests/run.sh"]
format = "libtest"
[evaluate.measure]
command = ["sh", "tests/measure.sh"]
rounds = 3
warmup = 0
[evaluate.metrics.cost]
unit = "ms"
direction = "increase"
"#;

/// What the program works on.
const FILES: [(&str, &str); 6] = [
    ("evoseal.toml", SETTINGS),
    ("agent.sh", AGENT),
    ("tests/run.sh", TESTS),
    ("tests/measure.sh", "echo \"METRIC cost=$(cat cost.txt) ms\"\n"),
    ("program.sh", "echo 42\n"),
    ("cost.txt", "1000\n"),
];

/// What is the person's: some of it ignored, so that no checkpoint holds it, some of it not.
const PERSONS: [(&str, &str); 6] = [
    (".gitignore", ".env\ncache/\n*.log\n"),
    (".env", "TOKEN=precious\n"),
    ("cache/deep/build.bin", "an hour of work\n"),
    ("notes of mine.txt", "remember the milk\n"),
    ("todo/first", "not committed\n"),
    ("empty.txt", ""),
];

/// Files of the commands' own, which count what was done.
const LOGS: [&str; 2] = ["proposals.log", "evaluations.log"];

/// Where a run is: the iteration, and how many entries the journal has about it since it began last. Any kind of entry counts,
/// so that a phase that is added later is a place too.
pub(crate) type Place = (u64, usize);

/// What a run that nobody disturbs comes to.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) iterations: u64,
    /// How long it stayed in each place, and the last entry there.
    pub(crate) stays: BTreeMap<Place, (Duration, String)>,
    /// From the start of the program to the first entry that it writes.
    pub(crate) startup: Duration,
    decisions: Vec<Value>,
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    logged: [BTreeMap<u64, usize>; 2],
}

/// What a disturbed run did beyond that.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Repeated {
    pub(crate) proposals: usize,
    pub(crate) evaluations: usize,
}

/// Writes the project into a folder.
pub(crate) fn prepare(root: &Path) -> Result<()> {
    for (name, text) in FILES.iter().chain(&PERSONS) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().ok_or("a file stands in a folder")?)?;
        fs::write(path, text)?;
    }
    Ok(())
}

impl Course {
    /// Lets the program run through, undisturbed.
    pub(crate) fn take(root: &Path, iterations: u64) -> Result<Self> {
        prepare(root)?;
        let mut stays: BTreeMap<Place, (Duration, String)> = BTreeMap::new();
        let mut child = start(root, iterations)?;
        let (began, mut since) = (Instant::now(), Instant::now());
        let mut watch = Watch::new(root);
        let mut startup = None;
        while child.try_wait()?.is_none() {
            let before = (watch.place, watch.phase.clone());
            watch.look()?;
            if watch.is_active {
                startup.get_or_insert_with(|| began.elapsed());
            }
            if watch.place != before.0 {
                stays.insert(before.0, (since.elapsed(), before.1));
                since = Instant::now();
            }
            std::thread::sleep(LOOK);
        }
        let ended = end_of(child)?;
        if !matches!(ended.0, Some(0 | 1)) {
            return Err(format!("the undisturbed run ended with {:?}: {}", ended.0, ended.1).into());
        }
        Ok(Self {
            iterations,
            stays,
            startup: startup.ok_or("the journal was never written")?,
            decisions: decisions(root)?,
            files: files(root)?,
            logged: [logged(root, LOGS[0])?, logged(root, LOGS[1])?],
        })
    }

    /// Everything that must hold at the end of a disturbed run.
    pub(crate) fn compare(&self, root: &Path, findings: &mut Findings) -> Result<Repeated> {
        let decisions = decisions(root)?;
        if decisions != self.decisions {
            let at = decisions
                .iter()
                .zip(&self.decisions)
                .take_while(|(found, expected)| found == expected)
                .count();
            let show = |list: &[Value]| list.get(at).map_or("nothing".to_owned(), Value::to_string);
            findings.lost(format!(
                "record {at} of the audit log is {}, not {}",
                show(&decisions),
                show(&self.decisions)
            ));
        }
        let files = files(root)?;
        for path in self.files.keys().chain(files.keys()) {
            if files.get(path) != self.files.get(path) {
                findings.mixed(format!("{} is not as in the undisturbed run", path.display()));
            }
        }
        let strays = strays(root);
        if !strays.is_empty() {
            findings.mixed(format!("processes are left: {strays:?}"));
        }
        let repeated = |index: usize, findings: &mut Findings| -> Result<usize> {
            let found = logged(root, LOGS[index])?;
            let mut more = 0;
            for iteration in
                found.keys().chain(self.logged[index].keys()).collect::<std::collections::BTreeSet<_>>()
            {
                let count = |counts: &BTreeMap<u64, usize>| counts.get(iteration).copied().unwrap_or(0);
                let (expected, found) = (count(&self.logged[index]), count(&found));
                if found < expected {
                    findings.lost(format!(
                        "iteration {iteration} has {found} of {expected} lines in {}",
                        LOGS[index]
                    ));
                }
                // What was cut off in the middle may have written a part of its lines.
                more += found.saturating_sub(expected).div_ceil(expected.max(1));
            }
            Ok(more)
        };
        Ok(Repeated { proposals: repeated(0, findings)?, evaluations: repeated(1, findings)? })
    }
}

/// The person's files, each with what tells that it was not even touched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Persons(BTreeMap<&'static str, (u64, i64, i64, Vec<u8>)>);

impl Persons {
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let look = |(name, _): &(&'static str, &str)| -> Result<_> {
            let path = root.join(name);
            let metadata = fs::symlink_metadata(&path).map_err(|error| format!("{name}: {error}"))?;
            Ok((*name, (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), fs::read(&path)?)))
        };
        PERSONS.iter().map(look).collect::<Result<_>>().map(Self)
    }

    /// Names the first that is not as it was.
    pub(crate) fn compare(&self, root: &Path, findings: &mut Findings) {
        match Self::of(root) {
            Err(error) => findings.lost(format!("a file of the person's is gone: {error}")),
            Ok(now) => {
                for (name, was) in &self.0 {
                    if now.0.get(name) != Some(was) {
                        findings.lost(format!("{name:?} of the person's was touched"));
                    }
                }
            }
        }
    }
}

/// How often the journal is looked at.
pub(crate) const LOOK: Duration = Duration::from_micros(200);

/// Follows a journal while it is written.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    read_bytes: usize,
    pub(crate) place: Place,
    /// The kind of the last entry about an iteration.
    pub(crate) phase: String,
    /// Whether an entry was written since this was made.
    pub(crate) is_active: bool,
    /// Whether none of those written since is about an iteration.
    pub(crate) is_resuming: bool,
}

impl Watch {
    /// Begins with what is there.
    pub(crate) fn new(root: &Path) -> Self {
        let path = EvolutionPipeline::journal_path(&root.join(".evoseal"));
        let phase = "nothing".to_owned();
        let mut watch =
            Self { path, read_bytes: 0, place: (1, 0), phase, is_active: false, is_resuming: true };
        // Nothing to read yet is no error.
        let _ = watch.look();
        (watch.is_active, watch.is_resuming) = (false, true);
        watch
    }

    /// Takes in what is new.
    pub(crate) fn look(&mut self) -> Result<()> {
        let length = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if length <= self.read_bytes as u64 {
            return Ok(());
        }
        let bytes = fs::read(&self.path)?;
        let new = bytes.get(self.read_bytes..).unwrap_or_default();
        let complete = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in new[..complete].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let entry: Value = serde_json::from_slice(line.get(65..).unwrap_or_default())?;
            self.is_active = true;
            let Some(iteration) = entry["iteration"].as_u64() else { continue };
            self.is_resuming = false;
            entry["phase"].as_str().unwrap_or_default().clone_into(&mut self.phase);
            self.place = match self.phase.as_str() {
                "iteration_started" => (iteration, 1),
                "iteration_abandoned" => (iteration, 0),
                "iteration_ended" => (iteration + 1, 0),
                _ if self.place.0 == iteration => (iteration, self.place.1 + 1),
                _ => self.place,
            };
        }
        self.read_bytes += complete;
        Ok(())
    }
}

/// How many iterations are finished.
pub(crate) fn finished(root: &Path) -> Result<u64> {
    let entries = Journal::read(&EvolutionPipeline::journal_path(&root.join(".evoseal")))?;
    Ok(RunState::replay(&entries).finished.len() as u64)
}

/// Starts the program. What it says waits in a pipe, which has room for it.
pub(crate) fn start(root: &Path, iterations: u64) -> Result<Child> {
    let mut command = Command::new(program()?);
    command.args(["run", "-n", &iterations.to_string()]).current_dir(root);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// The exit code of a start that has ended or is about to, and what it said.
pub(crate) fn end_of(child: Child) -> Result<(Option<i32>, String)> {
    let output = child.wait_with_output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// What was decided and done, in order, without what is another in every run: times, and ids that depend on them.
fn decisions(root: &Path) -> Result<Vec<Value>> {
    let log = FileAuditLog::new(root.join(".evoseal/audit.jsonl"), Arc::new(SystemClock::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    // Reading checks the whole chain.
    let records = runtime.block_on(log.records())?;
    let kept = records.into_iter().filter_map(|record| match record.what {
        AuditEvent::Decided { version_id, current_version_id, decision, .. } => {
            Some(json!({ "decided": version_id, "against": current_version_id, "decision": decision }))
        }
        AuditEvent::Accepted { version_id, .. } => Some(json!({ "accepted": version_id })),
        AuditEvent::RolledBack { from, reason, .. } => Some(json!({ "rolled back": from, "reason": reason })),
        AuditEvent::Overridden { version_id, outcome, .. } => {
            Some(json!({ "overridden": version_id, "outcome": outcome }))
        }
        _ => None,
    });
    Ok(kept.collect())
}

/// Everything in the workspace but what is ours and the logs: permissions and content, or where a symlink leads.
fn files(root: &Path) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(root)?.to_owned();
            if name == Path::new(".evoseal") || LOGS.iter().any(|log| name == Path::new(log)) {
                continue;
            }
            let metadata = fs::symlink_metadata(&path)?;
            let content = if metadata.is_symlink() {
                fs::read_link(&path)?.into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                folders.push(path);
                Vec::new()
            } else {
                fs::read(&path)?
            };
            found.insert(name, (metadata.permissions().mode(), content));
        }
    }
    Ok(found)
}

/// How many lines a log has for each iteration.
fn logged(root: &Path, name: &str) -> Result<BTreeMap<u64, usize>> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(root.join(name))?.lines() {
        *counts.entry(line.parse()?).or_default() += 1;
    }
    Ok(counts)
}

/// Processes that work in the workspace, and those that a candidate left anywhere.
pub(crate) fn strays(root: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let inside = processes.filter_map(|process| {
        let number = process.file_name().to_str()?.parse().ok()?;
        fs::read_link(process.path().join("cwd")).ok()?.starts_with(root).then_some(number)
    });
    inside.chain(sleeping(NAP)).collect()
}
