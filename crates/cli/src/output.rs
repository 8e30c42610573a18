//! The only place that prints: data on standard output, talk on standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::args::{ColorChoice, GlobalArguments};
use crate::failure::Failure;

/// Where results and messages go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Whether results are JSON.
    pub(crate) json: bool,
    /// Whether results on standard output may be coloured.
    pub(crate) color: bool,
    /// The width of the terminal in columns; `None` where standard output is none.
    pub(crate) width: Option<u16>,
    /// Whether progress bars make sense.
    pub(crate) progress: bool,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(global: &GlobalArguments) -> Self {
        let stdout_is_terminal = std::io::stdout().is_terminal();
        let stderr_is_terminal = std::io::stderr().is_terminal();
        let color = match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => stdout_is_terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        let width = stdout_is_terminal.then(terminal_size::terminal_size).flatten().map(|(width, _)| width.0);
        Self {
            json: global.json,
            color: color && !global.json,
            width,
            progress: stderr_is_terminal && !global.quiet,
            quiet: global.quiet,
        }
    }

    /// Prints a result: `value` as JSON if asked, else `text`.
    pub(crate) fn data<T: Serialize + ?Sized>(self, value: &T, text: impl FnOnce() -> String) {
        let printed = if self.json {
            serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
        } else {
            text()
        };
        let end = if printed.ends_with('\n') || printed.is_empty() { "" } else { "\n" };
        print_bytes(format!("{printed}{end}").as_bytes());
    }

    /// Prints a list of results: one line of JSON each if asked, else as `text` says.
    pub(crate) fn lines<T: Serialize>(self, values: &[T], text: impl Fn(&T) -> String) {
        let line = |value: &T| {
            if self.json {
                serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
            } else {
                text(value)
            }
        };
        let printed: String = values.iter().map(|value| line(value) + "\n").collect();
        print_bytes(printed.as_bytes());
    }

    /// Says something to a person.
    pub(crate) fn say(self, message: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{}", message.as_ref());
        }
    }

    /// Says what was done besides what was asked for: as one line of JSON where results are JSON, with the sentence in it.
    pub(crate) fn report<T: Serialize>(self, value: &T, sentence: &str) {
        if !self.json {
            return self.say(sentence);
        }
        let mut line = serde_json::to_value(value).unwrap_or_default();
        if let Some(fields) = line.as_object_mut() {
            fields.insert("message".to_owned(), sentence.into());
        }
        self.say(line.to_string());
    }

    /// Says what went wrong.
    pub(crate) fn failure(self, failure: &Failure) {
        let mut stderr = std::io::stderr().lock();
        if self.json {
            let value = serde_json::json!({
                "error": failure.message,
                "hint": failure.hint,
                "exit": failure.exit,
                "code": failure.exit as u8,
            });
            let _ = writeln!(stderr, "{value}");
            return;
        }
        let _ = writeln!(stderr, "error: {}", failure.message);
        if let Some(hint) = &failure.hint {
            let _ = writeln!(stderr, "hint: {hint}");
        }
    }
}

/// Prints bytes as they are. A reader that has gone away, such as `head`, is no error of ours.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}
