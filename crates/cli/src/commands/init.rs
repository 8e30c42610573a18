//! `evoseal init`.

use std::path::Path;

use crate::args::{GlobalArguments, InitArguments};
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::project::start_directory;
use crate::settings::FILE_NAME;

/// A kind of project, recognised by a file.
struct Kind {
    name: &'static str,
    /// Files, one of which gives the kind away.
    signs: &'static [&'static str],
    test: &'static str,
    format: &'static str,
    protected: &'static [&'static str],
    build: Option<&'static str>,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "Cargo",
        signs: &["Cargo.toml"],
        test: r#"["cargo", "test", "--workspace"]"#,
        format: r#""libtest""#,
        protected: evoseal_sandbox::presets::CARGO,
        build: Some(r#"["cargo", "build", "--release"]"#),
    },
    Kind {
        name: "Python",
        signs: &["pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "pytest.ini", "tox.ini"],
        test: r#"["python3", "-m", "pytest", "-q", "--junitxml=.evoseal-junit.xml"]"#,
        format: r#"{ junit = { report = ".evoseal-junit.xml" } }"#,
        protected: evoseal_sandbox::presets::PYTHON,
        build: None,
    },
    Kind {
        name: "Node",
        signs: &["package.json"],
        test: r#"["npm", "test"]"#,
        format: r#""exit_code""#,
        protected: evoseal_sandbox::presets::NODE,
        build: None,
    },
];

pub(crate) fn run(arguments: &InitArguments, global: &GlobalArguments, output: Output) -> Result<Exit> {
    let folder = start_directory(global)?;
    let path = folder.join(FILE_NAME);
    if path.exists() && !arguments.force {
        return Err(Failure::usage(format!("{} exists already", path.display()))
            .hint("edit it, or overwrite it with --force"));
    }
    let kind = KINDS.iter().find(|kind| kind.signs.iter().any(|sign| folder.join(sign).exists()));
    let text = template(kind);
    write(&path, &text)?;
    let value = serde_json::json!({ "path": path, "kind": kind.map(|kind| kind.name) });
    output.data(&value, || {
        let found = kind.map_or("no Cargo, Python or Node project was recognised: set the test command".to_owned(), |kind| {
            format!("recognised a {} project", kind.name)
        });
        format!(
            "wrote {}\n{found}\nnext: set `propose.command` to the program that changes the code, then `evoseal doctor` and `evoseal run`",
            path.display()
        )
    });
    Ok(Exit::Done)
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| Failure::io("write", path, &error))
}

/// A settings file that says what each setting does. It is valid but for the proposer, which only its owner can name.
fn template(kind: Option<&Kind>) -> String {
    let test = kind.map_or(r#"["make", "test"]"#, |kind| kind.test);
    let format = kind.map_or(r#""exit_code""#, |kind| kind.format);
    let protected: Vec<String> = kind
        .map_or(["tests/**"].as_slice(), |kind| kind.protected)
        .iter()
        .map(|glob| format!("{glob:?}"))
        .collect();
    let build = kind.and_then(|kind| kind.build).map_or_else(
        || "# [evaluate.build]\n# command = [\"make\"]".to_owned(),
        |build| format!("# [evaluate.build]\n# command = {build}"),
    );
    let name = kind.map_or("unknown kind of", |kind| kind.name);
    include_str!("init.toml.txt")
        .replace("@KIND@", name)
        .replace("@TEST@", test)
        .replace("@FORMAT@", format)
        .replace("@PROTECTED@", &protected.join(", "))
        .replace("@BUILD@", &build)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::LoadedSettings;

    #[test]
    fn what_init_writes_is_valid_once_the_proposer_is_set() {
        for kind in KINDS.iter().map(Some).chain([None]) {
            let text = template(kind);
            let loaded = LoadedSettings::parse(Path::new(FILE_NAME), &text).unwrap();
            assert!(loaded.settings.propose.kind().is_err());
            let text = text.replace("# command = [\"my-agent\"", "command = [\"my-agent\"");
            let loaded = LoadedSettings::parse(Path::new(FILE_NAME), &text).unwrap();
            loaded.settings.propose.kind().unwrap();
        }
    }

    #[test]
    fn the_commented_settings_are_valid_too() {
        for kind in KINDS.iter().map(Some).chain([None]) {
            let uncommented: String = template(kind)
                .lines()
                .map(|line| match line.strip_prefix("# ") {
                    // A comment that is a setting starts with a table or a lower-case key.
                    Some(setting) if setting.starts_with('[') || setting.split(" = ").count() > 1 => {
                        format!("{setting}\n")
                    }
                    _ => format!("{line}\n"),
                })
                .collect();
            LoadedSettings::parse(Path::new(FILE_NAME), &uncommented)
                .map_err(|failure| failure.message)
                .unwrap();
        }
    }
}
