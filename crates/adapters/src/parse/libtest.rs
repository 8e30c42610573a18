//! The output of `cargo test` with the standard test harness.
//!
//! A run has any number of test binaries, the documentation tests among them. Each announces its tests, prints a line
//! for each, and ends with a result line:
//!
//! ```text
//! running 2 tests
//! test parser::empty ... ok
//! test parser::huge ... FAILED
//! …
//! test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s
//! ```
//!
//! The announced number, the lines and the counts of the result line must agree. A binary that announced tests and has no
//! result line died on the way, which is an error; a process that leaves early with code 0 does not pass for one that
//! ran its tests. Tests that print past the harness (`--nocapture`, or straight to the file descriptor) can break lines apart;
//! that is an error too, and JUnit the way out. So is the terse form of `--quiet`, which names no tests.
//!
//! Which binary a test belongs to stands in cargo's own lines (`Running … (target/…)`, `Doc-tests …`), which go to standard
//! error. Where they match the binaries one to one, names are `binary source: test`, such as
//! `evoseal_types src/lib.rs: path::tests::odd_names`, without the hash of the build. Where they do not match, names are the
//! tests' own. The line number of a documentation test is left out, since an edit above moves it. Names that are still
//! equal are numbered.

use evoseal_types::{TestCase, TestReport, TestStatus};

use super::{Error, NAME_CHARS_MAX, make_unique, message};
use crate::text;

/// How much of what a failed test said is kept while reading, in bytes.
const SAID_BYTES_MAX: usize = 64 << 10;

/// Reads what `cargo test` printed; the report gets the type `test_type`.
///
/// Without any `running … tests` line the report has no tests: what did not compile ran nothing. The caller must look at
/// the exit code.
///
/// ```
/// use evoseal_adapters::parse::libtest;
///
/// let stdout = "running 1 test\ntest adds ... ok\n\n\
///     test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
/// let stderr = "     Running unittests src/lib.rs (target/debug/deps/math-8d1ef6a9f3b0c7e2)\n";
/// let report = libtest::parse("unit_tests", stdout, stderr)?;
/// assert_eq!(report.cases[0].name, "math src/lib.rs: adds");
/// # Ok::<(), evoseal_adapters::parse::Error>(())
/// ```
pub fn parse(test_type: &str, stdout: &str, stderr: &str) -> Result<TestReport, Error> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut headers = Vec::new();
    for (index, line) in stdout.lines().enumerate() {
        let number = index + 1;
        let running = blocks.last_mut().filter(|block| !block.complete);
        match (announced(line), running) {
            (Some(_), Some(block)) => return Err(block.died(Some(number))),
            (Some(announced), None) => blocks.push(Block::new(announced, number)),
            (None, Some(block)) => block.read(line).map_err(|reason| Error::at(number, reason))?,
            (None, None) => headers.extend(header(line)),
        }
    }
    if let Some(block) = blocks.last().filter(|block| !block.complete) {
        return Err(block.died(None));
    }
    if headers.is_empty() {
        headers = stderr.lines().filter_map(header).collect();
    }
    let labels = labels(&blocks, &headers);
    let mut cases = Vec::new();
    for (index, block) in blocks.into_iter().enumerate() {
        let label = labels.as_ref().map(|labels| labels[index]);
        cases.extend(block.into_cases(label));
    }
    make_unique(&mut cases);
    Ok(TestReport::from_cases(test_type, cases))
}

/// One test binary.
#[derive(Debug)]
struct Block {
    announced: u64,
    line: usize,
    tests: Vec<Test>,
    /// Whether the part with the output of single tests has begun, in which any line may look like anything.
    outputs: bool,
    /// The test whose output is being read.
    speaker: Option<usize>,
    complete: bool,
}

#[derive(Debug)]
struct Test {
    name: String,
    ending: Ending,
    said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Passed,
    Failed,
    Ignored,
    Measured,
}

impl Block {
    fn new(announced: u64, line: usize) -> Self {
        Self { announced, line, tests: Vec::new(), outputs: false, speaker: None, complete: false }
    }

    fn died(&self, next: Option<usize>) -> Error {
        let reason = format!(
            "{} tests were announced and {} had ended when the output stopped: no result line",
            self.announced,
            self.tests.len()
        );
        Error::at(next.unwrap_or(self.line), reason)
    }

    fn read(&mut self, line: &str) -> Result<(), String> {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.check(result)?;
            self.complete = true;
        } else if line == "failures:" || line == "successes:" {
            self.outputs = true;
            self.speaker = None;
        } else if !self.outputs {
            self.tests.extend(test(line));
        } else if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.speaker = self.tests.iter().position(|test| test.own_name() == name);
        } else if let Some(speaker) = self.speaker {
            let said = &mut self.tests[speaker].said;
            if said.len() + line.len() < SAID_BYTES_MAX {
                said.push_str(line);
                said.push('\n');
            }
        }
        Ok(())
    }

    /// Compares the lines with the result line, whose part behind `test result: ` is given.
    fn check(&self, result: &str) -> Result<(), String> {
        let unreadable = || format!("the result line {:?} cannot be read", text::line(result, 120));
        let (word, counts) = result.split_once(". ").ok_or_else(unreadable)?;
        let claimed = |what: &str| {
            let mut parts = counts.split("; ").filter_map(|part| part.split_once(' '));
            parts
                .find(|(_, name)| *name == what)
                .and_then(|(count, _)| count.parse::<u64>().ok())
                .ok_or_else(unreadable)
        };
        let endings = [
            ("passed", Ending::Passed),
            ("failed", Ending::Failed),
            ("ignored", Ending::Ignored),
            ("measured", Ending::Measured),
        ];
        let count = |ending| self.tests.iter().filter(|test| test.ending == ending).count() as u64;
        for (what, ending) in endings {
            let (claimed, counted) = (claimed(what)?, count(ending));
            if claimed != counted {
                return Err(format!(
                    "the result line says {claimed} {what}, the lines before it say {counted}"
                ));
            }
        }
        if self.tests.len() as u64 != self.announced {
            return Err(format!("{} tests were announced and {} ended", self.announced, self.tests.len()));
        }
        match (word, count(Ending::Failed)) {
            ("ok", 0) | ("FAILED", 1..) => Ok(()),
            _ => Err(format!(
                "the result is {:?} with {} failed tests",
                text::line(word, 40),
                count(Ending::Failed)
            )),
        }
    }

    /// Whether these are documentation tests: named after a place in a file.
    fn is_documentation(&self) -> bool {
        !self.tests.is_empty() && self.tests.iter().all(|test| line_number(&test.name).is_some())
    }

    fn into_cases(mut self, label: Option<&str>) -> impl Iterator<Item = TestCase> {
        // In the order of their lines, so that numbers of equal names do not depend on which thread was first.
        self.tests.sort_by_cached_key(|test| match line_number(&test.name) {
            Some((number, name)) => (name, number),
            None => (test.name.clone(), 0),
        });
        let label = label.map_or_else(String::new, |label| format!("{label}: "));
        self.tests.into_iter().map(move |test| {
            let name = line_number(&test.name).map_or(test.name, |(_, name)| name);
            let status = match test.ending {
                Ending::Passed | Ending::Measured => TestStatus::Pass,
                Ending::Failed => TestStatus::Fail,
                Ending::Ignored => TestStatus::Skip,
            };
            let name = text::line(&format!("{label}{name}"), NAME_CHARS_MAX);
            TestCase { name, status, message: message(&test.said) }
        })
    }
}

impl Test {
    /// The name as it stands over the test's output.
    fn own_name(&self) -> &str {
        self.name.strip_suffix(" - should panic").unwrap_or(&self.name)
    }
}

/// `running 3 tests`.
fn announced(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("running ")?;
    rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"))?.parse().ok()
}

/// `test name ... ok`.
fn test(line: &str) -> Option<Test> {
    let (name, ending) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let ending = match ending.split([' ', ',']).next()? {
        "ok" => Ending::Passed,
        "FAILED" => Ending::Failed,
        "ignored" => Ending::Ignored,
        "bench:" => Ending::Measured,
        _ => return None,
    };
    Some(Test { name: name.trim().to_owned(), ending, said: String::new() })
}

/// The line in `src/lib.rs - item (line 12) - compile`, and the name without it.
fn line_number(name: &str) -> Option<(u64, String)> {
    let (before, rest) = name.split_once(" (line ")?;
    let (number, after) = rest.split_once(')')?;
    Some((number.parse().ok()?, format!("{before}{after}")))
}

/// What cargo says before it starts a binary.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    label: String,
    documentation: bool,
}

fn header(line: &str) -> Option<Header> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(Header { label: format!("{name} doc"), documentation: true });
    }
    let (source, path) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let source = source.strip_prefix("unittests ").unwrap_or(source);
    let file = path.rsplit('/').next()?;
    let binary = match file.rsplit_once('-') {
        Some((binary, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            binary
        }
        _ => file,
    };
    Some(Header { label: format!("{binary} {source}"), documentation: false })
}

/// A label for each block, if the headers fit. The documentation tests of one crate may run as several binaries.
fn labels<'a>(blocks: &[Block], headers: &'a [Header]) -> Option<Vec<&'a str>> {
    let mut extra = blocks.len().checked_sub(headers.len())?;
    let mut labels = Vec::with_capacity(blocks.len());
    for header in headers {
        labels.push(header.label.as_str());
        while extra > 0
            && header.documentation
            && blocks.get(labels.len()).is_some_and(Block::is_documentation)
        {
            labels.push(header.label.as_str());
            extra -= 1;
        }
    }
    (labels.len() == blocks.len()).then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\nrunning 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\
        \nthread 'b' panicked at src/lib.rs:1:1:\nassertion failed\ntest c ... ok\ntest fake ... FAILED\n\n\nfailures:\n    b\n\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n";

    fn ok(names: &[&str]) -> String {
        let lines = names.iter().map(|name| format!("test {name} ... ok")).collect::<Vec<_>>().join("\n");
        let count = names.len();
        format!(
            "\nrunning {count} test{}\n{lines}\n\ntest result: ok. {count} passed; 0 failed; 0 ignored; 0 measured; \
             0 filtered out; finished in 0.00s\n\n",
            if count == 1 { "" } else { "s" }
        )
    }

    fn names(report: &TestReport) -> Vec<&str> {
        report.cases.iter().map(|case| case.name.as_str()).collect()
    }

    #[test]
    fn failures_carry_what_the_test_said_and_its_output_counts_for_nothing() {
        let report = parse("t", TWO, "").unwrap();
        assert_eq!(names(&report), ["a", "b"]);
        assert_eq!((report.tests_passed, report.tests_failed), (1, 1));
        let said = report.cases[1].message.as_deref().unwrap();
        assert!(said.starts_with("thread 'b' panicked") && said.contains("assertion failed"), "{said}");
    }

    #[test]
    fn every_ending_is_counted() {
        let text = "running 4 tests\ntest a ... ignored, too slow ... really\ntest b - should panic ... ok\n\
            test c ... ok <0.001s>\ntest d has been running for over 60 seconds\n\
            test d ... bench:         123 ns/iter (+/- 3)\n\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 1 measured; 9 filtered out; finished in 1.00s\n";
        let report = parse("t", text, "").unwrap();
        assert_eq!((report.tests_passed, report.tests_skipped, report.status), (3, 1, TestStatus::Pass));
    }

    #[test]
    fn binaries_are_told_apart_by_what_cargo_says_on_standard_error() {
        let stdout = format!("{}{}{}", ok(&["tests::x", "tests::y"]), ok(&["tests::x"]), ok(&[]));
        let stderr = "   Compiling a v0.1.0\n    Finished `test` profile\n     Running unittests src/lib.rs \
            (target/debug/deps/a_b-0123456789abcdef)\n     Running tests/round.rs (target/debug/deps/round-0123456789abcdee)\n   Doc-tests a_b\n";
        let report = parse("t", &stdout, stderr).unwrap();
        let expected =
            ["a_b src/lib.rs: tests::x", "a_b src/lib.rs: tests::y", "round tests/round.rs: tests::x"];
        assert_eq!(names(&report), expected);
        // Without that, equal names are numbered.
        assert_eq!(names(&parse("t", &stdout, "").unwrap()), ["tests::x", "tests::x #2", "tests::y"]);
    }

    #[test]
    fn headers_in_the_same_stream_are_understood_too() {
        let text = format!(
            "     Running unittests src/lib.rs (target/debug/deps/a-0123456789abcdef)\n{}",
            ok(&["x"])
        );
        assert_eq!(names(&parse("t", &text, "").unwrap()), ["a src/lib.rs: x"]);
    }

    #[test]
    fn documentation_tests_keep_their_names_when_lines_move() {
        let of = |first: u32, second: u32| {
            let merged =
                ok(&[&format!("src/lib.rs - f (line {second})"), &format!("src/lib.rs - f (line {first})")]);
            let alone = ok(&["src/lib.rs - g (line 99) - compile fail"]);
            parse("t", &format!("{}{merged}{alone}", ok(&["x"])), "Running a.rs (a)\nDoc-tests a\n").unwrap()
        };
        let expected = [
            "a a.rs: x",
            "a doc: src/lib.rs - f",
            "a doc: src/lib.rs - f #2",
            "a doc: src/lib.rs - g - compile fail",
        ];
        assert_eq!(names(&of(3, 12)), expected);
        assert_eq!(of(3, 12), of(9, 10));
    }

    #[test]
    fn a_binary_that_ended_before_its_result_line_is_an_error() {
        for text in [
            "running 3 tests\n",
            "running 3 tests\ntest a ... ok\n",
            &format!("running 3 tests\ntest a ... ok\n{}", ok(&["b"])),
        ] {
            let error = parse("t", text, "").unwrap_err();
            assert!(error.reason.contains("no result line"), "{error}");
        }
    }

    #[test]
    fn results_that_contradict_the_lines_are_an_error() {
        let result = |word: &str, passed: u64, failed: u64| {
            format!(
                "test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n"
            )
        };
        for text in [
            format!("running 1 test\n{}", result("ok", 1, 0)),
            format!("running 2 tests\ntest a ... ok\n{}", result("ok", 1, 0)),
            format!("running 1 test\ntest a ... ok\n{}", result("ok", 2, 0)),
            format!("running 1 test\ntest a ... FAILED\n{}", result("ok", 0, 1)),
            format!("running 1 test\ntest a ... ok\n{}", result("FAILED", 1, 0)),
            format!("running 1 test\ntest a ... ok\ntest a ... ok\n{}", result("ok", 1, 0)),
            "running 0 tests\ntest result: ok. many passed\n".to_owned(),
            format!("running 3 tests\n...\n{}", result("ok", 3, 0)),
        ] {
            assert!(parse("t", &text, "").is_err(), "{text}");
        }
    }

    #[test]
    fn what_did_not_compile_ran_no_tests() {
        let report = parse("t", "", "error: could not compile `a` (lib) due to 1 previous error\n").unwrap();
        assert_eq!(report.tests_run, 0);
    }
}
