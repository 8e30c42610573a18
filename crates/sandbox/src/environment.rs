//! Which of the caller's environment variables a command may see.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::{Error, Result};

/// The names that pass by default: where programs, libraries of the tool chain and the user's home are, and how to talk.
pub const ENVIRONMENT_DEFAULT: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TERM",
    "TMPDIR",
    "NO_COLOR",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "VIRTUAL_ENV",
    "PYENV_ROOT",
    "NVM_DIR",
    "GOPATH",
    "GOROOT",
    "JAVA_HOME",
];

/// Parts of names that stand for secrets. A pattern with a wildcard does not let these through, only the exact name does:
/// `CARGO_*` is no permission for `CARGO_REGISTRY_TOKEN`.
const SECRET: &[&str] =
    &["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "APIKEY", "PRIVATE", "_KEY", "AUTH"];

/// Builds the environment of a command from that of its caller: what a list of names allows, and explicit additions.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::ffi::OsString;
/// use evoseal_sandbox::EnvironmentPolicy;
///
/// let caller = BTreeMap::from(
///     [("PATH", "/bin"), ("LC_ALL", "C"), ("API_TOKEN", "s3cret"), ("EDITOR", "vi")]
///         .map(|(name, value)| (OsString::from(name), OsString::from(value))),
/// );
/// let policy = EnvironmentPolicy::default().with("SEED", "7");
/// let names: Vec<_> = policy.build(&caller).into_keys().collect();
/// assert_eq!(names, ["LC_ALL", "PATH", "SEED"]);
/// ```
#[derive(Debug, Clone)]
pub struct EnvironmentPolicy {
    exact: Vec<OsString>,
    wildcards: GlobSet,
    additions: BTreeMap<OsString, OsString>,
}

impl EnvironmentPolicy {
    /// Lets the variables through whose names match; `*` stands for any characters.
    pub fn new<P: AsRef<str>>(allowed: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut exact = Vec::new();
        let mut wildcards = GlobSetBuilder::new();
        for pattern in allowed {
            let pattern = pattern.as_ref();
            let refuse = |reason| Error::Pattern { pattern: pattern.to_owned(), reason };
            if pattern.is_empty() {
                return Err(refuse("it is empty".to_owned()));
            }
            if pattern.contains(['*', '?', '[', '{']) {
                wildcards.add(Glob::new(pattern).map_err(|error| refuse(error.kind().to_string()))?);
            } else {
                exact.push(pattern.into());
            }
        }
        let wildcards = wildcards.build().map_err(|error| Error::Pattern {
            pattern: "all together".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { exact, wildcards, additions: BTreeMap::new() })
    }

    /// Sets a variable, whatever the caller's value is.
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.additions.insert(name.into(), value.into());
        self
    }

    /// The environment of a command whose caller has the environment `caller`.
    pub fn build(&self, caller: &BTreeMap<OsString, OsString>) -> BTreeMap<OsString, OsString> {
        let passed = caller.iter().filter(|(name, _)| self.allows(name));
        let mut environment: BTreeMap<_, _> =
            passed.map(|(name, value)| (name.clone(), value.clone())).collect();
        environment.extend(self.additions.clone());
        environment
    }

    fn allows(&self, name: &OsString) -> bool {
        self.exact.contains(name) || (self.wildcards.is_match(Path::new(name)) && !is_secret(name))
    }
}

impl Default for EnvironmentPolicy {
    /// Lets [`ENVIRONMENT_DEFAULT`] through.
    fn default() -> Self {
        Self::new(ENVIRONMENT_DEFAULT).expect("the default list is valid")
    }
}

fn is_secret(name: &OsString) -> bool {
    let name = name.to_string_lossy().to_uppercase();
    SECRET.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(policy: &EnvironmentPolicy, names: &[&str]) -> Vec<OsString> {
        policy.build(&names.iter().map(|name| (name.into(), "x".into())).collect()).into_keys().collect()
    }

    #[test]
    fn secrets_do_not_pass_by_default() {
        let names = [
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "OPENAI_API_KEY",
            "SSH_AUTH_SOCK",
            "LD_PRELOAD",
            "PATH",
        ];
        assert_eq!(passed(&EnvironmentPolicy::default(), &names), ["PATH"]);
    }

    #[test]
    fn a_wildcard_does_not_let_a_secret_through_and_its_exact_name_does() {
        let names = ["CARGO_HOME", "CARGO_REGISTRY_TOKEN"];
        assert_eq!(passed(&EnvironmentPolicy::new(["*"]).unwrap(), &names), ["CARGO_HOME"]);
        let named = EnvironmentPolicy::new(["CARGO_REGISTRY_TOKEN"]).unwrap();
        assert_eq!(passed(&named, &names), ["CARGO_REGISTRY_TOKEN"]);
    }

    #[test]
    fn an_addition_replaces_the_caller_s_value() {
        let policy = EnvironmentPolicy::default().with("PATH", "/only");
        let environment = policy.build(&BTreeMap::from([("PATH".into(), "/caller".into())]));
        assert_eq!(environment, BTreeMap::from([("PATH".into(), "/only".into())]));
    }

    #[test]
    fn wrong_patterns_are_named() {
        for bad in ["", "A[", "{A"] {
            let error = EnvironmentPolicy::new([bad]).unwrap_err();
            assert!(matches!(&error, Error::Pattern { pattern, .. } if pattern == bad), "{error:?}");
        }
    }
}
