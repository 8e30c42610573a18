//! A proposer that varies constants.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, symlink};

use common::Folders;
use evoseal_adapters::{ParameterProposer, ParameterProposerSettings};
use evoseal_pipeline::{Brief, Error, Proposal, ProposalContext, Proposer};
use evoseal_types::ErrorClass;

const TABLE: &str =
    "// sizes\r\nconst SIZE: usize = 4 * 1024;\nconst SHIFT: usize = 4;\nconst STEP: usize =  5 ; // end";

const SETTINGS: &str = r#"
    [[parameters]]
    name = "bits"
    values = [10, 12, 14]
    sites = [
        { file = "src/table.rs", before = "const SIZE: usize = ", after = ";", format = "1 << {value}" },
        { file = "src/table.rs", before = "const SHIFT: usize = ", after = ";", format = "16 - {value}" },
    ]
    [[parameters]]
    name = "step"
    values = { min = 4, max = 6 }
    sites = [{ file = "src/table.rs", before = "const STEP: usize = ", after = ";" }]
"#;

fn folders() -> Folders {
    let folders = Folders::new(&["workspace/src", "run"]);
    folders.write("workspace/src/table.rs", TABLE);
    folders
}

fn proposer(settings: &str) -> ParameterProposer {
    ParameterProposer::new(toml::from_str::<ParameterProposerSettings>(settings).unwrap()).unwrap()
}

fn context(folders: &Folders, seed: u64, iteration: u64) -> ProposalContext {
    ProposalContext {
        workspace: folders.path("workspace"),
        run_directory: folders.path("run"),
        iteration,
        seed,
        brief: Brief {
            objective: None,
            incumbent: "v1".parse().unwrap(),
            incumbent_metrics: BTreeMap::new(),
            outcomes: Vec::new(),
        },
    }
}

async fn propose(proposer: &ParameterProposer, folders: &Folders, seed: u64, iteration: u64) -> Proposal {
    proposer.propose(&context(folders, seed, iteration)).await.unwrap()
}

/// Every proposal of a run that keeps what `accept` says, with the file that each left.
async fn run(folders: &Folders, settings: &str, seed: u64, accept: fn(u64) -> bool) -> Vec<(String, String)> {
    let proposer = proposer(settings);
    let mut incumbent = folders.read("workspace/src/table.rs");
    let mut proposals = Vec::new();
    for iteration in 1..1000 {
        match propose(&proposer, folders, seed, iteration).await {
            Proposal::Edited { summary } => {
                proposals.push((summary, folders.read("workspace/src/table.rs")));
            }
            Proposal::Exhausted { .. } => return proposals,
        }
        if accept(iteration) {
            incumbent = folders.read("workspace/src/table.rs");
        } else {
            folders.write("workspace/src/table.rs", &incumbent);
        }
    }
    panic!("a space of this size is used up");
}

#[tokio::test]
async fn every_combination_is_proposed_once_and_then_the_space_is_used_up() {
    let proposals = run(&folders(), SETTINGS, 7, |_| false).await;
    // bits as published or one of three; step one of three; the start itself is no proposal.
    assert_eq!(proposals.len(), 4 * 3 - 1);
    let files: BTreeSet<_> = proposals.iter().map(|(_, file)| file).collect();
    assert_eq!(files.len(), proposals.len());
    assert!(files.iter().all(|file| file.as_str() != TABLE));
}

#[tokio::test]
async fn accepted_changes_are_built_upon_and_nothing_repeats() {
    let proposals = run(&folders(), SETTINGS, 3, |iteration| iteration % 2 == 0).await;
    let files: BTreeSet<_> = proposals.iter().map(|(_, file)| file).collect();
    assert_eq!(files.len(), proposals.len());
    // All nine combinations of listed values are reached from wherever the run stands.
    assert_eq!(files.iter().filter(|file| file.contains("1 << ")).count(), 9);
}

#[tokio::test]
async fn the_same_seed_proposes_the_same_and_another_seed_something_else() {
    let first = run(&folders(), SETTINGS, 7, |iteration| iteration == 2).await;
    assert_eq!(run(&folders(), SETTINGS, 7, |iteration| iteration == 2).await, first);
    assert_ne!(run(&folders(), SETTINGS, 8, |iteration| iteration == 2).await, first);
}

#[tokio::test]
async fn coupled_sites_change_together_and_every_other_byte_stays() {
    let folders = folders();
    let only_bits = r#"
        [[parameters]]
        name = "bits"
        values = [13]
        sites = [
            { file = "src/table.rs", before = "const SIZE: usize = ", after = ";", format = "1 << {value}" },
            { file = "src/table.rs", before = "const SHIFT: usize = ", after = ";", format = "16 - {value}" },
        ]
    "#;
    let path = folders.path("workspace/src/table.rs");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut original = TABLE.as_bytes().to_vec();
    original.extend_from_slice(b"\xff\0");
    std::fs::write(&path, &original).unwrap();

    let proposal = propose(&proposer(only_bits), &folders, 1, 1).await;
    assert_eq!(proposal, Proposal::Edited { summary: "bits as published → 13".to_owned() });
    let expected = TABLE.replace("4 * 1024", "1 << 13").replace("SHIFT: usize = 4", "SHIFT: usize = 16 - 13");
    assert_eq!(std::fs::read(&path).unwrap(), [expected.as_bytes(), b"\xff\0"].concat());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(std::fs::read_dir(folders.path("workspace/src")).unwrap().count(), 1);

    // The only value is there now, so nothing is left.
    let proposal = propose(&proposer(only_bits), &folders, 1, 2).await;
    assert!(matches!(proposal, Proposal::Exhausted { .. }), "{proposal:?}");
}

#[tokio::test]
async fn a_published_text_that_stands_for_a_value_is_not_proposed_again() {
    let settings = SETTINGS.replace("values = [10, 12, 14]", "values = [10, 12, 14]\npublished = 12");
    let proposals = run(&folders(), &settings, 7, |_| false).await;
    assert_eq!(proposals.len(), 3 * 3 - 1);
    assert!(proposals.iter().all(|(_, file)| !file.contains("1 << 12")));
    assert!(proposals.iter().any(|(summary, _)| summary == "bits 12 → 14"), "{proposals:?}");
}

#[tokio::test]
async fn the_current_value_is_recognised_whatever_blanks_surround_it() {
    let settings = r#"
        [[parameters]]
        name = "step"
        values = [5, 6]
        sites = [{ file = "src/table.rs", before = "const STEP: usize = ", after = ";" }]
    "#;
    let proposal = propose(&proposer(settings), &folders(), 1, 1).await;
    assert_eq!(proposal, Proposal::Edited { summary: "step 5 → 6".to_owned() });
}

#[tokio::test]
async fn an_iteration_that_is_repeated_after_a_crash_gets_the_same_proposal() {
    let folders = folders();
    let proposer = proposer(SETTINGS);
    let first = propose(&proposer, &folders, 7, 1).await;
    let left = folders.read("workspace/src/table.rs");
    folders.write("workspace/src/table.rs", TABLE);
    assert_eq!(propose(&proposer, &folders, 7, 1).await, first);
    assert_eq!(folders.read("workspace/src/table.rs"), left);
}

#[tokio::test]
async fn a_large_space_is_searched_without_being_listed() {
    use std::fmt::Write;
    let folders = Folders::new(&["workspace", "run"]);
    let (mut settings, mut file) = (String::new(), String::new());
    for index in 0..40 {
        writeln!(file, "p{index} = 0;").unwrap();
        writeln!(
            settings,
            "[[parameters]]\nname = 'p{index}'\nvalues = {{ min = 0, max = 9000 }}\n\
             sites = [{{ file = 'f', before = 'p{index} = ', after = ';' }}]"
        )
        .unwrap();
    }
    let proposer = proposer(&settings);
    let mut seen = BTreeSet::new();
    for iteration in 1..=50 {
        folders.write("workspace/f", &file);
        propose(&proposer, &folders, 1, iteration).await;
        let proposed = folders.read("workspace/f");
        let changed = proposed.lines().zip(file.lines()).filter(|(new, old)| new != old).count();
        assert!((1..=2).contains(&changed), "{changed} parameters changed");
        assert!(seen.insert(proposed), "iteration {iteration} repeats an earlier one");
    }
}

async fn failure(folders: &Folders, before: &str, after: &str) -> Error {
    let settings = format!(
        "[[parameters]]\nname = 'p'\nvalues = [1, 2]\n\
         sites = [{{ file = 'src/table.rs', before = '{before}', after = '{after}' }}]"
    );
    proposer(&settings).propose(&context(folders, 1, 1)).await.unwrap_err()
}

#[tokio::test]
async fn a_site_that_is_not_there_exactly_once_is_named_with_its_count() {
    let folders = folders();
    for (before, after, expected) in [
        ("usize = ", ";", "\"usize = \" stands 3 times in src/table.rs, not once"),
        ("WIDTH = ", ";", "\"WIDTH = \" stands 0 times in src/table.rs, not once"),
        ("const STEP: usize = ", "}", "\"}\" does not stand behind \"const STEP: usize = \" in src/table.rs"),
    ] {
        let error = failure(&folders, before, after).await;
        assert_eq!(error.class(), ErrorClass::Invalid);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(folders.read("workspace/src/table.rs"), TABLE);
}

#[tokio::test]
async fn files_that_are_missing_or_reached_through_a_link_are_refused() {
    let folders = Folders::new(&["workspace", "elsewhere", "run"]);
    folders.write("elsewhere/table.rs", TABLE);
    symlink(folders.path("elsewhere"), folders.path("workspace/src")).unwrap();
    let error = failure(&folders, "const STEP: usize = ", ";").await;
    assert!(error.to_string().contains("leads through a symlink"), "{error}");
    assert_eq!(folders.read("elsewhere/table.rs"), TABLE);

    let folders = Folders::new(&["workspace/src", "run"]);
    let error = failure(&folders, "const STEP: usize = ", ";").await;
    assert_eq!(error.class(), ErrorClass::Environment);
    assert!(error.to_string().contains("src/table.rs"), "{error}");
}

#[tokio::test]
async fn a_damaged_record_is_named_and_nothing_is_edited() {
    for record in ["", "{", r#"{"version":2,"tried":[]}"#, r#"{"version":1,"tried":[],"more":1}"#] {
        let folders = folders();
        folders.write("run/parameters-7.json", record);
        let error = proposer(SETTINGS).propose(&context(&folders, 7, 1)).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Corrupt, "{record}");
        assert!(error.to_string().contains("parameters-7.json"), "{error}");
        assert_eq!(folders.read("workspace/src/table.rs"), TABLE);
    }
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let parameter = |name: &str, sites: &str| {
        format!("[[parameters]]\nname = '{name}'\nvalues = [1]\nsites = [{sites}]\n")
    };
    let site = "{ file = 'f', before = 'a', after = 'b' }";
    for settings in [
        "parameters = []".to_owned(),
        parameter("p", ""),
        format!("{}published = 2\n", parameter("p", site)),
        parameter("", site),
        parameter(" p", site),
        format!("{}{}", parameter("p", site), parameter("p", site)),
        parameter("p", "{ file = 'f', before = '', after = 'b' }"),
        parameter("p", "{ file = 'f', before = 'a', after = '' }"),
        parameter("p", "{ file = 'f', before = 'a', after = 'b', format = 'x' }"),
    ] {
        let parsed = toml::from_str::<ParameterProposerSettings>(&settings).unwrap();
        let error = ParameterProposer::new(parsed).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Invalid, "{settings}");
    }
    for settings in [
        parameter("p", "{ file = '../f', before = 'a', after = 'b' }"),
        parameter("p", "{ file = 'f', before = 'a', after = 'b', fromat = '{value}' }"),
    ] {
        assert!(toml::from_str::<ParameterProposerSettings>(&settings).is_err(), "{settings}");
    }
}

#[tokio::test]
async fn the_incumbent_counts_as_tried_when_it_comes_back() {
    // Two values: from 5 to 6, accepted; going back to 5 would repeat the start.
    let settings = r#"
        [[parameters]]
        name = "step"
        values = [5, 6]
        sites = [{ file = "src/table.rs", before = "const STEP: usize = ", after = ";" }]
    "#;
    assert_eq!(run(&folders(), settings, 1, |_| true).await.len(), 1);
}
