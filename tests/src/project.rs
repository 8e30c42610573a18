//! A small real project.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Program;

/// A project of shell scripts in a folder of its own: `program.sh` prints an answer, `cost.txt` holds what it costs,
/// `tests/run.sh` tests the answer and `tests/measure.sh` measures the cost. The folder goes when this is dropped.
#[derive(Debug)]
pub struct Project {
    /// Holds the folder.
    _folder: TempDir,
    root: PathBuf,
}

const TESTS: &str = r#"# Prints what `cargo test` would print.
passed=0; failed=0
check() {
    if [ "$2" = "$3" ]; then echo "test $1 ... ok"; passed=$((passed + 1))
    else echo "test $1 ... FAILED"; failed=$((failed + 1)); fi
}
echo; echo "running 2 tests"
check answers "$(sh program.sh 2>/dev/null)" 42
check is_quiet "$(sh program.sh 2>&1 >/dev/null)" ""
echo
if [ "$failed" = 0 ]; then word=ok; else word=FAILED; fi
echo "test result: $word. $passed passed; $failed failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s"
[ "$failed" = 0 ]
"#;

const SETTINGS: &str = r#"
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

impl Project {
    /// A project whose candidates are made by this shell script, which runs in the project's folder and finds the number of
    /// the iteration in `$EVOSEAL_ITERATION`.
    ///
    /// # Panics
    ///
    /// If the folder cannot be written.
    pub fn new(agent: &str) -> Self {
        let project = Self::bare();
        let settings = format!(
            "[propose]\ncommand = '''\n{agent}\n'''\n\n[edit]\nprotected = [\"tests/**\"]\n{SETTINGS}"
        );
        project.write("evoseal.toml", &settings);
        project
    }

    /// The same without an `evoseal.toml`.
    ///
    /// # Panics
    ///
    /// If the folder cannot be written.
    pub fn bare() -> Self {
        let folder =
            tempfile::Builder::new().prefix("evoseal-project-").tempdir().expect("a folder can be made");
        let root = folder.path().canonicalize().expect("it is there");
        let project = Self { _folder: folder, root };
        project.write("program.sh", "echo 42\n");
        project.write("cost.txt", "100\n");
        project.write("tests/run.sh", TESTS);
        project.write("tests/measure.sh", "echo \"METRIC cost=$(cat cost.txt) ms\"\n");
        project.write(".gitignore", "*.marker\n");
        project
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a file, and the folders above it.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file stands in a folder")).expect("folders can be made");
        fs::write(path, text).expect("the file can be written");
    }

    /// Reads a file.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the file can be read")
    }

    /// Replaces a text that stands in `evoseal.toml`.
    ///
    /// # Panics
    ///
    /// If it does not stand there.
    pub fn configure(&self, from: &str, to: &str) {
        let settings = self.read("evoseal.toml");
        assert!(settings.contains(from), "{from:?} is not in\n{settings}");
        self.write("evoseal.toml", &settings.replace(from, to));
    }

    /// Adds lines to `evoseal.toml`.
    pub fn add_settings(&self, text: &str) {
        self.write("evoseal.toml", &format!("{}\n{text}", self.read("evoseal.toml")));
    }

    /// The program in this project.
    pub fn evoseal(&self, arguments: &[&str]) -> Program {
        Program::new(&self.root, arguments)
    }

    /// Every file of the project and its content, without `.evoseal` and what `.gitignore` leaves out.
    ///
    /// # Panics
    ///
    /// If a file cannot be read.
    pub fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for item in fs::read_dir(folder).expect("the folder can be read") {
                let path = item.expect("the folder can be read").path();
                let is_left_out =
                    path.ends_with(".evoseal") || path.extension().is_some_and(|end| end == "marker");
                if path.is_dir() && !is_left_out {
                    folders.push(path);
                } else if !is_left_out {
                    let name = path.strip_prefix(&self.root).expect("it was found there");
                    let bytes = fs::read(&path).expect("the file can be read");
                    files.insert(name.display().to_string(), String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        files
    }
}
