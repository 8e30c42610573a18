//! Tables and lines for a terminal.

mod detail;
mod iterations;
mod metrics;
mod summary;

pub use detail::iteration_detail;
pub use iterations::iteration_table;
pub use metrics::metric_table;
pub use summary::{gain_summary, status_lines};

pub(crate) use detail::{finding_facts, row_facts};
pub(crate) use metrics::{change as change_from_baseline, verdicts};
pub(crate) use summary::{elapsed, outcome_counts, state, values as gain_values};

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use evoseal_regression::Verdict;

use crate::history::RowOutcome;
use crate::number::NBSP;

/// How a table is laid out.
///
/// ```
/// use evoseal_report::TableOptions;
/// assert_eq!(TableOptions::default(), TableOptions { width: None, color: false });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableOptions {
    /// The columns of the terminal; `None` for lines as long as they need to be, as for a file. Widths below 40 are
    /// treated as 40.
    pub width: Option<u16>,
    /// Whether outcome and verdict words are coloured besides their symbol.
    pub color: bool,
}

impl TableOptions {
    fn width(self) -> Option<u16> {
        self.width.map(|width| width.max(40))
    }
}

/// A word with a symbol and a colour. While a table is laid out the symbol is a private-use character, which
/// [`crate::text::one_line`] removes from every input: so colour, whose codes would count as width, is put in
/// afterwards, and no text of a candidate can pass for a verdict.
struct Mark {
    placeholder: char,
    symbol: char,
    word: &'static str,
    /// The parameters of the terminal's "select graphic rendition" sequence.
    style: &'static str,
}

const MARKS: [Mark; 11] = [
    Mark { placeholder: '\u{e000}', symbol: '✓', word: "accepted", style: "32" },
    Mark { placeholder: '\u{e001}', symbol: '✗', word: "rejected", style: "31" },
    Mark { placeholder: '\u{e002}', symbol: '↩', word: "rolled\u{a0}back", style: "35" },
    Mark { placeholder: '\u{e003}', symbol: '?', word: "inconclusive", style: "33" },
    Mark { placeholder: '\u{e004}', symbol: '!', word: "error", style: "1;31" },
    Mark { placeholder: '\u{e005}', symbol: '✓', word: "improved", style: "32" },
    Mark { placeholder: '\u{e006}', symbol: '=', word: "equivalent", style: "2" },
    Mark { placeholder: '\u{e007}', symbol: '✗', word: "regressed", style: "31" },
    Mark { placeholder: '\u{e008}', symbol: '-', word: "insufficient\u{a0}data", style: "33" },
    Mark { placeholder: '\u{e009}', symbol: '!', word: "NOT\u{a0}PROTECTED", style: "1;33" },
    Mark { placeholder: '\u{e00a}', symbol: '‼', word: "tampered", style: "1;31" },
];

const UNPROTECTED: usize = 9;

fn mark(index: usize) -> String {
    format!("{}{NBSP}{}", MARKS[index].placeholder, MARKS[index].word)
}

fn outcome_mark(outcome: RowOutcome) -> String {
    mark(match outcome {
        RowOutcome::Accepted => 0,
        RowOutcome::Rejected => 1,
        RowOutcome::RolledBack => 2,
        RowOutcome::Inconclusive => 3,
        RowOutcome::Error => 4,
        RowOutcome::Tampered => 10,
    })
}

fn verdict_mark(verdict: Verdict) -> String {
    mark(match verdict {
        Verdict::Improved => 5,
        Verdict::Equivalent => 6,
        Verdict::Regressed => 7,
        Verdict::Inconclusive => 3,
        Verdict::InsufficientData => 8,
    })
}

/// Turns placeholders into symbols and colours, and spaces that hold a number together into plain ones.
fn finish(text: &str, color: bool) -> String {
    let mut text = text.to_owned();
    for (index, Mark { symbol, word, style, .. }) in MARKS.iter().enumerate() {
        let plain = format!("{symbol}{NBSP}{word}");
        let shown = if color { format!("\u{1b}[{style}m{plain}\u{1b}[0m") } else { plain };
        text = text.replace(&mark(index), &shown);
    }
    let mut text = text.replace(NBSP, " ");
    while text.ends_with('\n') {
        text.pop();
    }
    text.push('\n');
    text
}

/// An empty table in the house style: a line under the header, two blanks between columns.
fn table(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
    table.set_truncation_indicator("…");
    match width {
        Some(width) => {
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    table
}

/// The table's text, columns two blanks apart. Call it last: it sets the padding of all columns.
fn layout(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Two columns without a header: what, and its value.
fn pairs(width: Option<u16>, rows: &[(String, String)]) -> String {
    let mut table = table(width);
    for (label, value) in rows {
        table.add_row([label.replace(' ', "\u{a0}"), value.clone()]);
    }
    layout(&mut table)
}

/// Text broken into lines of the width.
fn wrap(text: &str, width: Option<u16>) -> String {
    let mut table = table(width);
    table.add_row([text]);
    layout(&mut table)
}
