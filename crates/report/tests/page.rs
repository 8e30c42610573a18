//! What the page holds.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use evoseal_regression::Interval;
use evoseal_report::{RunHistory, html_report, sample};

/// The page's elements with their attributes, without style sheet and text: nesting is checked on the way.
fn structure(page: &str) -> Vec<String> {
    const VOID: [&str; 3] = ["meta", "input", "!DOCTYPE"];
    let mut open: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for part in page.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap();
        let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap().to_owned();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "closing tag out of place");
        } else {
            lines.push(format!("{}{tag}", "  ".repeat(open.len())));
            if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
                open.push(name);
            }
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    lines
}

#[test]
fn the_structure_of_a_small_page() {
    let page = html_report(&sample::run(2));
    insta::assert_snapshot!("page_structure", structure(&page).join("\n"));
}

#[test]
fn the_text_of_a_small_page() {
    let page = html_report(&sample::run(2));
    let body = page.split_once("</style>").unwrap().1;
    let mut text = String::new();
    for part in body.split('<').skip(1) {
        let content = part.split_once('>').unwrap().1.trim();
        if !content.is_empty() {
            text.push_str(content);
            text.push('\n');
        }
    }
    insta::assert_snapshot!("page_text", text.replace('\u{a0}', " "));
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let page = html_report(&sample::history());
    for forbidden in ["<script", "http:", "https:", "url(", "@import", "<link", "<img", " src=", " on"] {
        let found = page.match_indices(forbidden).find(|(at, _)| {
            // Text may hold the letters of an attribute; only markup may not.
            let before = &page[..*at];
            forbidden != " on" || before.rfind('<') > before.rfind('>')
        });
        assert_eq!(found, None, "{forbidden}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn hostile_text_is_escaped_wherever_it_stands() {
    let mut run = sample::run(3);
    let hostile = "<script>alert(1)</script>\"'><img src=x>\u{1b}[31m\u{202e}&amp;{{ x }}";
    run.title = hostile.to_owned();
    run.stop_reason = Some(hostile.to_owned());
    run.unprotected = vec![hostile.to_owned()];
    for metric in &mut run.baseline.metrics {
        metric.spec.unit = hostile.to_owned();
    }
    for row in &mut run.iterations {
        row.change = hostile.to_owned();
        row.decided_by = hostile.to_owned();
        row.reasons = vec![hostile.to_owned()];
        for term in &mut row.score_terms {
            term.label = hostile.to_owned();
        }
        for finding in &mut row.findings {
            finding.metric.unit = hostile.to_owned();
            finding.method = hostile.to_owned();
            finding.reason = hostile.to_owned();
            finding.baseline = Some(hostile.to_owned());
        }
    }
    let page = html_report(&run);
    let honest = structure(&html_report(&sample::run(3)));
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains(['\u{1b}', '\u{202e}']));
    assert!(page.contains("&#60;script&#62;alert(1)&#60;/script&#62;"));
    let kinds = |lines: &[String]| -> BTreeSet<String> {
        lines.iter().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    let added: Vec<_> = kinds(&structure(&page)).difference(&kinds(&honest)).cloned().collect();
    assert_eq!(added, Vec::<String>::new(), "elements that an honest page lacks");
}

#[test]
fn a_page_without_iterations_says_so() {
    let page = html_report(&sample::run(0));
    structure(&page);
    assert!(page.contains("There are no iterations yet."));
    assert!(page.contains("Nothing was gained"));
    assert!(!page.contains("class=\"plot") && !page.contains("In the plots"));
}

#[test]
fn one_iteration_makes_a_page() {
    let page = html_report(&sample::run(1));
    structure(&page);
    assert_eq!(page.matches("<details").count(), 1);
}

#[test]
fn a_thousand_iterations_stay_within_four_megabytes() {
    let page = html_report(&sample::run(1_000));
    structure(&page);
    assert!(page.len() < 4_000_000, "{} bytes", page.len());
    assert_eq!(page.matches("<details").count(), 1_000);
    assert!(page.contains("Thinned: drawn are every accepted candidate"));
}

#[test]
fn a_run_without_an_objective_has_no_objective_plot() {
    let mut run = sample::history();
    run.objective = None;
    let page = html_report(&run);
    structure(&page);
    assert!(!page.contains("id=\"objective\"") && page.contains("The run has no objective"));
}

#[test]
fn an_objective_that_nothing_measured_leaves_out_its_plot() {
    let mut run = sample::history();
    run.remeasured.clear();
    run.baseline.metrics.clear();
    for row in &mut run.iterations {
        row.metrics.clear();
        row.findings.clear();
    }
    let page = html_report(&run);
    structure(&page);
    assert!(page.contains("The gain is unknown") && !page.contains("class=\"plot"));
}

#[test]
fn extreme_numbers_leave_every_coordinate_inside_the_drawing() {
    for extreme in
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 1e-310, 0.0, 1e149, -1e149]
    {
        let mut run = sample::run(8);
        for (index, row) in run.iterations.iter_mut().enumerate() {
            let metric = index % 3;
            if let Some(summary) = row.metrics.get_mut(metric) {
                summary.mean = extreme;
            }
            if let Some(finding) = row.findings.get_mut(metric) {
                finding.change = Some(extreme);
                finding.interval = Some(Interval { low: extreme, high: extreme, level: 0.95 });
            }
        }
        run.baseline.metrics[0].mean = extreme;
        let page = html_report(&run);
        structure(&page);
        assert_coordinates(&page, extreme);
    }
}

/// Every point of every plot lies within the largest view box.
fn assert_coordinates(page: &str, extreme: f64) {
    for attribute in [" x1=\"", " x2=\"", " y1=\"", " y2=\"", " cx=\"", " cy=\"", " x=\"", " y=\""] {
        for (at, _) in page.match_indices(attribute) {
            let value = page[at + attribute.len()..].split('"').next().unwrap();
            let value: f64 = value.parse().unwrap_or(f64::NAN);
            assert!((-10.0..=1_050.0).contains(&value), "{extreme}:{attribute}{value}");
        }
    }
}

#[test]
fn zero_width_and_infinite_intervals_are_drawn() {
    let mut run = sample::run(4);
    run.iterations[0].findings[0].interval = Some(Interval { low: -0.029, high: -0.029, level: 0.95 });
    run.iterations[1].findings[0].interval =
        Some(Interval { low: f64::NEG_INFINITY, high: f64::INFINITY, level: 0.95 });
    let page = html_report(&run);
    structure(&page);
    assert_coordinates(&page, f64::INFINITY);
}

#[test]
fn more_metrics_than_columns_are_named() {
    let mut run = sample::run(2);
    let template = run.baseline.metrics[0].clone();
    for index in 0..8 {
        let mut extra = template.clone();
        extra.spec.name = format!("extra{index}").parse().unwrap();
        run.baseline.metrics.push(extra);
    }
    let page = html_report(&run);
    assert!(page.contains("Without a column, only in the details: extra4, extra5, extra6, extra7, memory."));
}

#[test]
fn every_plot_has_a_name_for_people_who_hear_the_page() {
    let page = html_report(&sample::history());
    let plots = page.matches("<svg class=\"plot").count();
    assert_eq!(plots, 8, "four plots, wide and narrow");
    assert_eq!(page.matches("role=\"img\" aria-label=\"").count(), plots);
    assert_eq!(page.matches("<th scope=").count(), page.matches("<th ").count());
}

#[test]
fn the_same_history_gives_the_same_page() {
    let run: RunHistory = sample::history();
    assert_eq!(html_report(&run), html_report(&run.clone()));
}
