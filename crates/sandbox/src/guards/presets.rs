//! Patterns for [`ProtectedPaths`](super::ProtectedPaths), by language: what decides whether the tests pass, other than
//! the code under test.
//!
//! They are plain lists to start from; `!` takes out what a build or a test run leaves behind. What a project lets its candidates change it takes out, for instance `Cargo.toml`
//! where new dependencies are welcome; what else judges it, such as data that tests compare with, it adds.
//!
//! ```
//! use evoseal_sandbox::presets;
//! assert!(presets::PYTHON.contains(&"**/conftest.py"));
//! ```

/// What belongs to evoseal itself and to continuous integration, whatever the language. The folder of evoseal's own files is
/// taken out: the sandbox keeps candidates from it.
pub const COMMON: &[&str] = &[
    "evoseal.toml",
    ".github/**",
    ".gitlab-ci.yml",
    ".envrc",
    ".git/hooks/**",
    ".git/config",
    "!.evoseal/**",
];

/// Rust with Cargo. A manifest can switch tests off, a build script and a wrapper run as the harness's user, and the
/// tool chain file replaces the compiler.
pub const CARGO: &[&str] = &[
    "**/tests/**",
    "**/benches/**",
    "**/.cargo/**",
    "**/.config/nextest.toml",
    "**/rust-toolchain",
    "**/rust-toolchain.toml",
    "**/build.rs",
    "**/Cargo.toml",
    "**/clippy.toml",
    "**/.clippy.toml",
    // What a build leaves behind.
    "!target/**",
];

/// Python with pytest or unittest. Besides the tests it is everything that the interpreter and pytest load by its mere
/// existence.
pub const PYTHON: &[&str] = &[
    "**/tests/**",
    "**/test/**",
    "**/test_*.py",
    "**/*_test.py",
    "**/conftest.py",
    "**/sitecustomize.py",
    "**/usercustomize.py",
    "**/*.pth",
    "**/pytest.ini",
    "**/.pytest.ini",
    "**/pytest.toml",
    "**/.pytest.toml",
    "**/tox.ini",
    "**/noxfile.py",
    "**/setup.cfg",
    "**/setup.py",
    "**/pyproject.toml",
    "**/.coveragerc",
    "**/pyvenv.cfg",
    // What a test run leaves behind.
    "!**/__pycache__",
    "!**/__pycache__/**",
    "!**/.pytest_cache/**",
];

/// JavaScript and TypeScript with Node, and the usual test runners.
pub const NODE: &[&str] = &[
    "**/test/**",
    "**/tests/**",
    "**/__tests__/**",
    "**/__mocks__/**",
    "**/__snapshots__/**",
    "**/*.{test,spec}.{js,cjs,mjs,jsx,ts,cts,mts,tsx}",
    "**/package.json",
    "**/.npmrc",
    "**/.yarnrc*",
    "**/{jest,vitest,vite,karma,playwright,cypress,babel,ava}.config.*",
    "**/.mocharc*",
    "**/.babelrc*",
    "**/tsconfig*.json",
];

/// Go.
pub const GO: &[&str] = &["**/*_test.go", "**/testdata/**", "**/go.mod", "**/go.work", "**/vendor/**"];

/// C and C++ with Make or CMake.
pub const C: &[&str] = &[
    "**/tests/**",
    "**/test/**",
    "**/Makefile",
    "**/GNUmakefile",
    "**/makefile",
    "**/*.mk",
    "**/CMakeLists.txt",
    "**/*.cmake",
    "**/CMakePresets.json",
    "**/meson.build",
];

#[cfg(test)]
mod tests {
    use evoseal_types::EntryPath;

    use super::*;
    use crate::patterns::{Case, Patterns};

    fn protects(preset: &[&str], path: &str) -> bool {
        Patterns::new(preset, Case::Insensitive).unwrap().matches(&EntryPath::new(path).unwrap())
    }

    #[test]
    fn what_evoseal_a_build_or_a_test_run_leaves_behind_is_no_tampering() {
        let with_common = |preset: &[&'static str]| [preset, COMMON].concat();
        assert!(protects(&with_common(CARGO), "crates/a/Cargo.toml"));
        assert!(!protects(&with_common(CARGO), ".evoseal/incumbent/Cargo.toml"));
        assert!(!protects(&with_common(CARGO), "target/package/a/Cargo.toml"));
        assert!(protects(&with_common(PYTHON), "tests/test_a.py"));
        assert!(!protects(&with_common(PYTHON), "tests/__pycache__"));
        assert!(!protects(&with_common(PYTHON), "tests/__pycache__/test_a.pyc"));
    }

    #[test]
    fn each_preset_covers_what_is_known_to_be_attacked_and_not_the_code() {
        let attacked: [(&[&str], &[&str], &str); 6] = [
            (
                COMMON,
                &["evoseal.toml", ".git/hooks/post-checkout", ".github/workflows/ci.yml"],
                "src/main.rs",
            ),
            (
                CARGO,
                &[
                    "tests/a.rs",
                    "crates/x/tests/a.rs",
                    ".cargo/config.toml",
                    "build.rs",
                    "Cargo.toml",
                    "rust-toolchain",
                ],
                "src/lib.rs",
            ),
            (
                PYTHON,
                &[
                    "conftest.py",
                    "pkg/conftest.py",
                    "sitecustomize.py",
                    "evil.pth",
                    "pytest.ini",
                    "tox.ini",
                    "setup.cfg",
                ],
                "pkg/attest.py",
            ),
            (NODE, &["src/a.test.ts", "package.json", "jest.config.js", "__tests__/a.js"], "src/contest.ts"),
            (GO, &["pkg/a_test.go", "go.mod"], "pkg/a.go"),
            (C, &["Makefile", "sub/CMakeLists.txt", "tests/a.c"], "src/main.c"),
        ];
        for (preset, paths, code) in attacked {
            for path in paths {
                assert!(protects(preset, path), "{path}");
            }
            assert!(!protects(preset, code), "{code}");
        }
    }
}
