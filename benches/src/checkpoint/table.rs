//! The report as tables for people.

use std::fmt::Write as _;

use evoseal_tests::measure::{ms, table};

use super::Operation;
use super::rounds::{Figure, Report};
use super::series::drift;
use super::targets::target;

/// Ours, and beside each the floor that it is compared with.
const OURS: [(&str, &str); 2] = [("evoseal", "floor"), ("library", "floor-library")];
/// Those that ours are compared with besides.
const OTHERS: [&str; 6] = ["git", "git-tuned", "git-durable", "restic", "borg", "bupstash"];

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// All tables of a report.
pub(crate) fn render(report: &Report) -> String {
    let mut text = format!("{} rounds; {}\n", report.rounds, report.versions.join("; "));
    for about in &report.trees {
        let _ = writeln!(
            text,
            "\ntree {}: {} files, {} folders, {:.1} MB",
            about.name,
            about.files,
            about.folders,
            about.size_bytes as f64 / 1e6
        );
        let figures: Vec<&Figure> =
            report.figures.iter().filter(|figure| figure.tree == about.name).collect();
        let mut operations: Vec<Operation> = figures.iter().map(|figure| figure.operation).collect();
        operations.sort_unstable();
        operations.dedup();
        if about.name == "series" {
            text.push_str(&series(&figures));
        }
        text.push_str(&costs(&figures, &operations));
        if figures.iter().any(|figure| figure.system == OURS[0].0 || figure.system == OURS[1].0) {
            text.push_str(&ratios(&figures, &operations));
        }
    }
    text
}

/// Medians of what each system used.
fn costs(figures: &[&Figure], operations: &[Operation]) -> String {
    let mut rows = Vec::new();
    for operation in operations {
        for figure in figures.iter().filter(|figure| figure.operation == *operation) {
            let of = |value: fn(&super::process::Cost) -> f64| {
                median(&figure.costs.iter().map(value).collect::<Vec<_>>()).map_or_else(|| "-".to_owned(), ms)
            };
            let peak = figure.costs.iter().filter_map(|cost| cost.peak_memory_bytes).max();
            let stored = median(&figure.store_bytes.iter().map(|bytes| *bytes as f64).collect::<Vec<_>>());
            rows.push(vec![
                format!("{}, {}", operation.name(), figure.system),
                of(|cost| cost.wall_ms),
                of(|cost| cost.cpu_ms),
                peak.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6)),
                stored.map_or_else(|| "-".to_owned(), |bytes| format!("{:.3}", bytes / 1e6)),
                figure.syncs.map_or_else(|| "-".to_owned(), |syncs| syncs.to_string()),
            ]);
        }
    }
    format!("\n{}", table(&["medians", "wall ms", "cpu ms", "peak MB", "store MB", "syncs"], &rows))
}

/// Ratios within each round, ours over another's: the median and its range, and the target where there is one.
fn ratios(figures: &[&Figure], operations: &[Operation]) -> String {
    let mut rows = Vec::new();
    for operation in operations {
        let find = |system: &str| {
            figures.iter().find(|figure| figure.operation == *operation && figure.system == system)
        };
        for (ours, floor) in OURS {
            let Some(us) = find(ours) else { continue };
            for other in OTHERS.into_iter().chain([floor]) {
                let Some(them) = find(other) else { continue };
                let pairs = |of: fn(&super::process::Cost) -> f64| -> Vec<f64> {
                    us.costs.iter().zip(&them.costs).map(|(us, them)| of(us) / of(them)).collect()
                };
                let (wall, cpu) = (pairs(|cost| cost.wall_ms), pairs(|cost| cost.cpu_ms));
                let target = target(&us.tree, *operation, other);
                let verdict = match (target, median(&wall)) {
                    (Some(target), Some(ratio)) if ratio <= target => "reached",
                    (Some(_), Some(_)) => "missed",
                    _ => "",
                };
                rows.push(vec![
                    format!("{}, {ours} / {other}", operation.name()),
                    range(&wall),
                    range(&cpu),
                    target.map_or_else(String::new, |target| format!("{target}")),
                    verdict.to_owned(),
                ]);
            }
        }
    }
    format!("\n{}", table(&["paired ratios: median (range)", "wall", "cpu", "target", ""], &rows))
}

fn range(ratios: &[f64]) -> String {
    let (low, high) = ratios
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), ratio| (low.min(*ratio), high.max(*ratio)));
    median(ratios)
        .map_or_else(|| "-".to_owned(), |middle| format!("{} ({}..{})", ms(middle), ms(low), ms(high)))
}

/// How a series of captures goes on.
fn series(figures: &[&Figure]) -> String {
    let changed = figures.iter().filter(|figure| figure.operation == Operation::Changed);
    let rows: Vec<Vec<String>> = changed
        .filter_map(|figure| {
            let (cpu, wall, grown) = drift(figure)?;
            let count = figure.costs.len() + 1;
            Some(vec![
                figure.system.clone(),
                count.to_string(),
                ms(wall),
                ms(cpu),
                format!("{:.1}", grown / 1e3),
            ])
        })
        .collect();
    let headings = ["series", "snapshots", "last / first ten, wall", "cpu", "growth per snapshot, kB"];
    format!("\n{}", table(&headings, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_of_any_count() {
        assert_eq!(
            [median(&[]), median(&[3.0]), median(&[4.0, 1.0, 3.0, 2.0])],
            [None, Some(3.0), Some(2.5)]
        );
    }
}
