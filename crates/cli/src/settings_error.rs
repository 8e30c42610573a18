//! Explaining what is wrong in a settings file: where, what, and the nearest right thing.

use std::path::Path;

use crate::failure::Failure;

/// How different two keys may be for one to be suggested for the other: 0 is different, 1 equal.
const SIMILARITY_MIN: f64 = 0.6;

/// Turns a parser's error into a sentence with file, line, the line itself, and a suggestion.
pub(crate) fn explain(path: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let (line_number, line) = error.span().map_or((1, ""), |span| line_at(text, span.start));
    explain_message(&format!("{name}:{line_number}"), line, error.message())
}

/// The same for what stands elsewhere: a place, what is written there, and the parser's sentence about it.
pub(crate) fn explain_message(place: &str, line: &str, message: &str) -> Failure {
    let Some((unknown, expected)) = unknown_key(message) else {
        return Failure::usage(format!("{place}: {message}\n    {}", line.trim()));
    };
    let failure = Failure::usage(format!("{place}: unknown key `{unknown}`\n    {}", line.trim()));
    let nearest = expected
        .iter()
        .map(|known| (strsim::jaro_winkler(unknown, known), *known))
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((similarity, known)) if similarity >= SIMILARITY_MIN => {
            failure.hint(format!("did you mean `{known}`?"))
        }
        _ if expected.is_empty() => failure,
        _ => failure.hint(format!("known keys here: {}", expected.join(", "))),
    }
}

/// The line that holds the byte at `offset`, and its number from 1.
fn line_at(text: &str, offset: usize) -> (usize, &str) {
    let offset = offset.min(text.len());
    let before = text.get(..offset).unwrap_or(text);
    let number = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (number, text.lines().nth(number - 1).unwrap_or(""))
}

/// The unknown key and the known ones, out of serde's sentence: ``unknown field `a`, expected one of `b`, `c` ``.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "))?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    Some((unknown, quoted.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_names_the_unknown_key_and_the_known_ones() {
        assert_eq!(unknown_key("unknown field `a`, expected one of `b`, `c`"), Some(("a", vec!["b", "c"])));
        assert_eq!(unknown_key("unknown field `a`, there are no fields"), Some(("a", vec![])));
        assert_eq!(unknown_key("invalid type"), None);
    }

    #[test]
    fn the_line_is_found_at_any_offset() {
        assert_eq!(line_at("a\nb\nc", 2), (2, "b"));
        assert_eq!(line_at("a\nb\nc", 99), (3, "c"));
        assert_eq!(line_at("", 0), (1, ""));
    }
}
