//! A command as it stands in settings.

use std::fmt;

use evoseal_pipeline::{Error, Result};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// A command: a list of program and arguments, or one text for `sh -c`.
///
/// The list is passed on as it is: nothing in it is split, expanded or quoted. The text is a shell's business.
///
/// ```
/// use evoseal_adapters::CommandLine;
///
/// let list = CommandLine::program(["cargo", "test", "--workspace"])?;
/// assert_eq!(list.words(), ["cargo", "test", "--workspace"]);
/// let text = CommandLine::shell("make && make check")?;
/// assert_eq!(text.words(), ["sh", "-c", "make && make check"]);
/// # Ok::<(), evoseal_pipeline::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Program(Vec<String>),
    Shell(String),
}

impl CommandLine {
    /// A program and its arguments. The program must be named, and no word may hold a NUL byte.
    pub fn program<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Result<Self> {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        if words.first().is_none_or(String::is_empty) {
            return Err(refuse("it names no program"));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(refuse("it has a NUL byte"));
        }
        Ok(Self(Form::Program(words)))
    }

    /// A text that `sh -c` runs. It must not be blank or hold a NUL byte.
    pub fn shell(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.trim().is_empty() {
            return Err(refuse("it is empty"));
        }
        if text.contains('\0') {
            return Err(refuse("it has a NUL byte"));
        }
        Ok(Self(Form::Shell(text)))
    }

    /// The program and its arguments as they are started; never empty.
    pub fn words(&self) -> Vec<&str> {
        match &self.0 {
            Form::Program(words) => words.iter().map(String::as_str).collect(),
            Form::Shell(text) => vec!["sh", "-c", text],
        }
    }
}

fn refuse(reason: &str) -> Error {
    Error::Invalid { what: "command".to_owned(), reason: reason.to_owned() }
}

/// The words joined by blanks, for messages; not quoted for a shell.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Program(words) => f.write_str(&words.join(" ")),
            Form::Shell(text) => f.write_str(text),
        }
    }
}

impl Serialize for CommandLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Form::Program(words) => words.serialize(serializer),
            Form::Shell(text) => text.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = CommandLine;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of program and arguments, or one text for the shell")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CommandLine, E> {
                CommandLine::shell(text).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<CommandLine, A::Error> {
                let mut words: Vec<String> = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                CommandLine::program(words).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_survive_json() {
        for json in [r#"["cargo","test","a b"]"#, r#""make && ./run""#] {
            let command: CommandLine = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&command).unwrap(), json);
        }
    }

    #[test]
    fn commands_that_name_no_program_are_refused() {
        for json in ["[]", r#"[""]"#, r#""  ""#, "7", "[1]", r#"["a\u0000"]"#] {
            assert!(serde_json::from_str::<CommandLine>(json).is_err(), "{json}");
        }
    }
}
