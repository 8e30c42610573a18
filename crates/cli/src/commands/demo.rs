//! `evoseal demo`: the published source of a compressor, evolved in a fresh folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use evoseal_checkpoint::CheckpointStore;
use evoseal_pipeline::RunOptions;
use evoseal_report::RunHistory;

use crate::args::DemoArguments;
use crate::commands::run::execute;
use crate::commands::{history, report};
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::ownership::Ownership;
use crate::project::Project;
use crate::settings::{FILE_NAME, LoadedSettings};

/// The crate that evolves.
const SUBJECT: &str = "lz4_flex";
/// Files of the demo's workspace besides the subject's source, with their contents.
const FILES: [(&str, &str); 6] = [
    (FILE_NAME, include_str!("../../demo/evoseal.toml")),
    (".gitignore", "target/\n"),
    ("harness/Cargo.toml", include_str!("../../demo/harness/Cargo.toml.txt")),
    ("harness/src/lib.rs", include_str!("../../demo/harness/src/lib.rs")),
    ("harness/src/main.rs", include_str!("../../demo/harness/src/main.rs")),
    ("harness/tests/round_trip.rs", include_str!("../../demo/harness/tests/round_trip.rs")),
];

pub(crate) async fn run(arguments: &DemoArguments, output: Output) -> Result<Exit> {
    let workdir = prepare_folder(arguments.workdir.as_deref())?;
    let source = subject_source()?;
    output.say(format!("evolving {} in {}", source.display(), workdir.display()));
    copy_tree(&source.join("src"), &workdir.join(SUBJECT).join("src"))?;
    copy_file(&source.join("Cargo.toml"), &workdir.join(SUBJECT).join("Cargo.toml"))?;
    for license in ["LICENSE", "README.md"] {
        let from = source.join(license);
        if from.is_file() {
            copy_file(&from, &workdir.join(SUBJECT).join(license))?;
        }
    }
    for (name, content) in FILES {
        write_file(&workdir.join(name), content.as_bytes())?;
    }
    lock_harness(&workdir)?;
    let path = workdir.join(FILE_NAME);
    let project = Project::open(LoadedSettings::parse(&path, FILES[0].1)?)?;
    let stores = project.stores().await?;
    let options =
        RunOptions { iterations: arguments.iterations, seed: arguments.seed, ..RunOptions::default() };
    let outcome = execute(&project, &stores, &Ownership::take(&project, output)?, options, output).await?;
    drop(stores);
    let page = workdir.join("evoseal-report.html");
    let rows = finish(&project, &page).await?;
    output.data(&rows, || {
        let options = history::table_options(output);
        let table = evoseal_report::iteration_table(&rows, options);
        let gain = evoseal_report::gain_summary(&rows, options);
        format!(
            "{table}\n{gain}\nThe run ended: {}. The workspace holds {}, checked by digest.\nReport: {}",
            outcome.stop_reason,
            rows.final_version,
            page.display()
        )
    });
    Ok(match outcome.stop_reason {
        evoseal_pipeline::StopReason::Interrupted => Exit::Interrupted,
        _ => Exit::Done,
    })
}

/// Writes the report outside the captured tree and checks what the run promises: the workspace is the accepted version.
async fn finish(project: &Project, page: &Path) -> Result<RunHistory> {
    let rows = report::write(project, page).await?;
    // The page itself lies in the workspace's folder; it is moved out of the way of the comparison.
    let stores = project.stores().await?;
    let aside = project.state_directory().join("report.html");
    let io = |error: std::io::Error| Failure::io("move", page, &error);
    std::fs::rename(page, &aside).map_err(io)?;
    let found = stores.checkpoints.tree_digest(&project.root).await;
    std::fs::rename(&aside, page).map_err(io)?;
    if Some(found?) != rows.final_tree {
        return Err(Failure {
            exit: Exit::Internal,
            message: "the workspace differs from the accepted version".to_owned(),
            hint: Some("`evoseal diff` shows how".to_owned()),
        });
    }
    Ok(rows)
}

/// A folder that is empty: the one that was asked for, or a new one.
fn prepare_folder(wanted: Option<&Path>) -> Result<PathBuf> {
    let folder = match wanted {
        Some(folder) => folder.to_owned(),
        None => fresh_folder()?,
    };
    std::fs::create_dir_all(&folder).map_err(|error| Failure::io("create", &folder, &error))?;
    let mut entries = std::fs::read_dir(&folder).map_err(|error| Failure::io("read", &folder, &error))?;
    if entries.next().is_some() {
        return Err(Failure::usage(format!("{} is not empty", folder.display()))
            .hint("name a folder that does not exist yet with --workdir"));
    }
    folder.canonicalize().map_err(|error| Failure::io("open", &folder, &error))
}

/// The first of `evoseal-demo`, `evoseal-demo-2` and so on in the temporary folder that can be created.
fn fresh_folder() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    for number in 1..1000 {
        let name = if number == 1 { "evoseal-demo".to_owned() } else { format!("evoseal-demo-{number}") };
        let folder = base.join(name);
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::io("create", &folder, &error)),
        }
    }
    Err(Failure::usage(format!("{} is full of earlier demos", base.display()))
        .hint("name a folder with --workdir"))
}

/// Where cargo keeps the source of the subject. It is a dependency of this program, so cargo has brought it.
fn subject_source() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let metadata = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(&manifest)
        .output()
        .map_err(|error| {
            Failure::environment(format!("cannot start cargo: {error}"))
                .hint("the demo builds Rust code; install Rust with rustup")
        })?;
    if !metadata.status.success() {
        let text = String::from_utf8_lossy(&metadata.stderr);
        return Err(Failure::environment(format!("cargo metadata failed: {}", text.trim()))
            .hint("run the demo from a checkout of the repository: `cargo run --release -- demo`"));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)
        .map_err(|error| Failure::environment(format!("cargo metadata printed no JSON: {error}")))?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    packages
        .iter()
        .find(|package| package["name"] == SUBJECT)
        .and_then(|package| package["manifest_path"].as_str())
        .and_then(|path| Path::new(path).parent())
        .map(Path::to_owned)
        .ok_or_else(|| Failure::environment(format!("cargo does not know the source of {SUBJECT}")))
}

/// Lets cargo write the harness's lock file, so that it is there before anything is captured.
fn lock_harness(workdir: &Path) -> Result<()> {
    let done = Command::new("cargo")
        .args(["generate-lockfile", "--offline", "--quiet"])
        .current_dir(workdir.join("harness"))
        .output()
        .map_err(|error| Failure::environment(format!("cannot start cargo: {error}")))?;
    if done.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&done.stderr);
    Err(Failure::environment(format!("cargo cannot prepare the demo: {}", text.trim())))
}

fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
    }
    std::fs::write(path, content).map_err(|error| Failure::io("write", path, &error))
}

/// Copies content only: cargo's source folder is read-only on some machines, and the copy is to be edited.
fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let content = std::fs::read(from).map_err(|error| Failure::io("read", from, &error))?;
    write_file(to, &content)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let entries = std::fs::read_dir(from).map_err(|error| Failure::io("read", from, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Failure::io("read", from, &error))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            copy_file(&source, &target)?;
        }
    }
    Ok(())
}
