//! A call of an operation, told by the file that it is about.
//!
//! Where a program has threads, which thread does what changes from run to run, and so does how often they wake each other.
//! strace counts all of that. But it can pass over all calls that are not about one file (`-P`), and then only the few others
//! are counted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use evoseal_types::Digest;

use crate::Result;
use crate::operate::{BEGIN, END};
use crate::strace::{call_in, is_change, strace};

/// A change that is told by its file, in any place and in any process that does the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) name: String,
    /// What the call says: a path, or a name in a folder that is open. With [`PLACE`], [`WORKSPACE`] and [`PROCESS`] for
    /// what differs from one place or process to another.
    file: String,
    /// Which change of that name and that file it is, counted from 1 in all threads.
    number: usize,
    /// Which call of that name and that file it was in its thread, changes or not: what strace counts.
    ordinal: usize,
    /// How many such calls there are in all threads.
    total: usize,
}

/// For the folder that the operation works in.
const PLACE: &str = "{place}";
/// For the digest of the workspace's path, after which the cache of what was seen in it is named.
const WORKSPACE: &str = "{workspace}";
/// For the id of the process, which is in the names of temporary files.
const PROCESS: &str = "{process}";

/// Starts what follows with strace, of the calls that are about one file alone. `-D` lets the command have the process that
/// the shell began in, so that the shell knows its id.
const WITH_PROCESS: &str = r#"before=$1; after=$2; cpu=$3; shift 3
exec taskset --cpu-list "$cpu" strace -D -P "$before$$$after" "$@""#;

impl Spot {
    /// What strace tells calls by: of two that are equal in this, the first one is struck.
    pub(crate) fn aim(&self) -> (&str, &str, usize) {
        (&self.name, &self.file, self.ordinal)
    }

    /// The ordinal to strike in one of several attempts: that which it had, and then, in case that another thread does it
    /// now, any that it could have.
    pub(crate) fn ordinal(&self, attempt: usize) -> usize {
        if attempt < 2 { self.ordinal } else { attempt % self.total + 1 }
    }

    /// `strace` in front of a command, with all calls passed over that are not about the file.
    pub(crate) fn strace(&self, cpu: usize, place: &Path, log: &Path) -> Result<Command> {
        let here = place.to_str().ok_or("the place's path is not UTF-8")?;
        let file = self.file.replace(PLACE, here).replace(WORKSPACE, &workspace_digest(place));
        let Some((before, after)) = file.split_once(PROCESS) else {
            let mut command = strace(cpu, log);
            command.arg("-P").arg(file);
            return Ok(command);
        };
        let mut command = Command::new("sh");
        let words = ["-c", WITH_PROCESS, "sh", before, after, &cpu.to_string(), "-f", "-qq", "-y", "-o"];
        command.args(words).arg(log);
        Ok(command)
    }

    /// Whether it is this call that was struck, by the log of such a command: by a kill, which only the last one can be, or
    /// by an error.
    pub(crate) fn is_struck(&self, log: &Path, is_kill: bool) -> Result<bool> {
        let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        let mut lines: Vec<&str> = text.lines().collect();
        let mut thread = None;
        if !is_kill {
            let Some(line) = lines.iter().position(|line| line.contains("INJECTED")) else {
                return Ok(false);
            };
            // A call that another thread interrupts in the log ends in a line without its name.
            thread = lines[line].split(' ').next();
            lines.truncate(line + 1);
        }
        let mut calls: Vec<_> = lines.into_iter().filter_map(call_in).collect();
        let struck = calls.iter().rposition(|call| thread.is_none_or(|thread| thread == call.0));
        calls.truncate(struck.map_or(0, |struck| struck + 1));
        let is_change = |call: &&(&str, &str, &str)| is_change(call.1, call.2);
        Ok(calls.last().is_some_and(|call| is_change(&call))
            && calls.iter().filter(is_change).count() == self.number)
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {:?}", self.name, self.number, self.file)
    }
}

/// The changes of an operation on the place, in order, from a log of all its calls; of those between the marks, if it sets
/// any.
pub(crate) fn spots(log: &Path, place: &Path, has_marks: bool) -> Result<Vec<Spot>> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let here = place.to_str().ok_or("the place's path is not UTF-8")?;
    let process = text.split(' ').next().unwrap_or_default();
    let digest = workspace_digest(place);
    let calls: Vec<_> = text.lines().filter_map(call_in).collect();
    let mut totals: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (_, name, arguments) in &calls {
        for file in files_of(name, arguments, here) {
            *totals.entry((name, file)).or_default() += 1;
        }
    }
    let mut ordinals: BTreeMap<(&str, &str, String), usize> = BTreeMap::new();
    let mut numbers: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut found = Vec::new();
    let mut is_inside = !has_marks;
    for (thread, name, arguments) in calls {
        let is_change = is_change(name, arguments);
        let files = files_of(name, arguments, here);
        for file in &files {
            *ordinals.entry((thread, name, file.clone())).or_default() += 1;
            *numbers.entry((name, file.clone())).or_default() += usize::from(is_change);
        }
        if arguments.contains(BEGIN) {
            is_inside = true;
        } else if arguments.contains(END) {
            break;
        } else if is_inside && is_change && arguments.contains(here) {
            // The file that the fewest calls are about tells best.
            let file = files.into_iter().min_by_key(|file| totals[&(name, file.clone())]);
            let file = file.ok_or_else(|| format!("{name}({arguments} tells no file"))?;
            found.push(Spot {
                name: name.to_owned(),
                number: numbers[&(name, file.clone())],
                ordinal: ordinals[&(thread, name, file.clone())],
                total: totals[&(name, file.clone())],
                file: without_process(&file, process).replace(&digest, WORKSPACE),
            });
        }
    }
    if found.is_empty() {
        return Err("strace logged no change by the operation".into());
    }
    Ok(found)
}

fn workspace_digest(place: &Path) -> String {
    Digest::of(place.join("workspace").as_os_str().as_encoded_bytes()).to_string()
}

/// The files that strace would select a call by, each once. They are written `"path"`, and those of file descriptors `<path>`;
/// what the call returned is none of its arguments. Names that are not written as they are cannot be selected.
fn files_of(name: &str, arguments: &str, place: &str) -> Vec<String> {
    let mut rest = arguments.rsplit_once(") = ").map_or(arguments, |(arguments, _)| arguments);
    // What a symlink says is the first string of its call.
    let mut has_names = name.trim_end_matches('2').ends_with("at") && name != "symlinkat";
    let mut files: Vec<String> = Vec::new();
    while let Some(start) = rest.find(['<', '"']) {
        let is_quoted = rest[start..].starts_with('"');
        let text = &rest[start + 1..];
        let end = if is_quoted { end_of_string(text) } else { text.find('>') };
        let Some(end) = end else { break };
        let below =
            text[..end].strip_prefix(place).filter(|below| below.is_empty() || below.starts_with('/'));
        let file = match below {
            Some(below) if !is_quoted || !name.contains("write") => Some(format!("{PLACE}{below}")),
            None if is_quoted && has_names && !text.starts_with(['/', '"']) => Some(text[..end].to_owned()),
            _ => None,
        };
        files.extend(file.filter(|file| !file.contains('\\') && !files.contains(file)));
        has_names |= is_quoted && name == "symlinkat";
        rest = &text[end + 1..];
    }
    files
}

/// Where a string in C's notation ends.
fn end_of_string(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

/// A path with [`PROCESS`] for the id of the process.
fn without_process(path: &str, process: &str) -> String {
    let is_end = |character: char| !character.is_ascii_alphanumeric();
    let fill = |part: &str| match part.strip_prefix(process) {
        Some(end) if end.chars().all(is_end) => format!("{PROCESS}{end}"),
        _ => part.to_owned(),
    };
    path.split_inclusive(is_end).map(fill).collect()
}
