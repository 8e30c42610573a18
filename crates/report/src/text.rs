//! Making text that others wrote harmless for a terminal and a page.

use std::fmt::Write as _;

/// The longest text that a table cell shows, in characters.
pub(crate) const CELL_CHARS_MAX: usize = 240;

/// The longest text that a detail view shows, in characters.
pub(crate) const DETAIL_CHARS_MAX: usize = 2_000;

/// `text` on one line, at most `chars_max` characters long, without anything that could steer a terminal or reorder
/// what a reader sees.
///
/// Line breaks and tabs become spaces. Every other control character, bidirectional control, invisible character and
/// private-use character is written as its code (`\u{1b}`). Private-use characters are therefore free to serve as
/// marks that no input can forge; see [`crate::terminal`].
pub(crate) fn one_line(text: &str, chars_max: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(chars_max * 4));
    let mut characters = text.trim().chars();
    for character in characters.by_ref().take(chars_max) {
        match character {
            '\n' | '\r' | '\t' => shown.push(' '),
            hostile if is_hostile(hostile) => {
                // Writing to a string cannot fail.
                let _ = write!(shown, "{}", hostile.escape_unicode());
            }
            plain => shown.push(plain),
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
            | '\u{e0000}'..='\u{10ffff}')
}

/// `one change`, `3 changes`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{} {noun}s", crate::number::number(count as f64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_written_as_its_code() {
        let cases = [
            ("plain – text ü 漢", "plain – text ü 漢"),
            ("two\r\nlines\tand tab", "two  lines and tab"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("forged \u{e000} mark", "forged \\u{e000} mark"),
            ("bell\u{7} and \u{7f}", "bell\\u{7} and \\u{7f}"),
        ];
        for (input, expected) in cases {
            assert_eq!(one_line(input, 100), expected);
        }
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("abc", 3), "abc");
    }

    #[test]
    fn one_thing_is_not_written_as_a_plural() {
        assert_eq!((plural(1, "change"), plural(0, "change")), ("1 change".into(), "0 changes".into()));
    }
}
