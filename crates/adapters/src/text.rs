//! Text from untrusted programs, made safe to record and to show.

/// Whether a character could steer a terminal or reorder the text around it.
fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line of at most `chars_max` characters, control characters escaped.
pub(crate) fn line(text: &str, chars_max: usize) -> String {
    let mut safe = String::new();
    // Each character of the input gives at least one of the output, so more of the input is never needed.
    for character in text.trim().chars().take(chars_max + 1) {
        if is_steering(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    cut_end(safe, chars_max)
}

/// The end of a text, at most `chars_max` characters, its lines kept and all other control characters escaped.
pub(crate) fn tail(text: &str, chars_max: usize) -> String {
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(chars_max);
    let mut safe = String::new();
    if skipped > 0 {
        safe.push('…');
    }
    for character in text.chars().skip(skipped) {
        if is_steering(character) && !matches!(character, '\n' | '\t') {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

fn cut_end(mut text: String, chars_max: usize) -> String {
    if let Some((cut, _)) = text.char_indices().nth(chars_max) {
        let last = text[..cut].char_indices().next_back().map_or(0, |(start, _)| start);
        text.truncate(last);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_length_is_bounded() {
        assert_eq!(line("  a\u{1b}[31mb\u{202e}c  ", 200), r"a\u{1b}[31mb\u{202e}c");
        assert_eq!(line("äöüß", 4), "äöüß");
        assert_eq!(line("äöüßx", 4), "äöü…");
        assert_eq!(line(&"x".repeat(500), 200).chars().count(), 200);
    }

    #[test]
    fn a_tail_keeps_the_last_lines() {
        assert_eq!(tail("one\ntwo\rthree\n", 100), "one\ntwo\\rthree");
        assert_eq!(tail("one\ntwo", 3), "…two");
    }
}
