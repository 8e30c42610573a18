//! How a call stands in the log of strace.

/// A call as it stands in the log.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) result: i64,
}

impl Logged {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.split_once('(')?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        let end = rest.rfind(") ").or_else(|| rest.rfind(")="))?;
        let result = rest[end..].split_once('=')?.1.trim_start();
        let digits: String = result.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
        Some(Self { name: name.to_owned(), arguments: split(&rest[..end]), result: digits.parse().ok()? })
    }

    /// All strings among the arguments.
    pub(super) fn strings(&self) -> Vec<Vec<u8>> {
        self.arguments
            .iter()
            .filter(|argument| argument.starts_with('"'))
            .map(|argument| unescape(argument))
            .collect()
    }
}

/// Splits arguments at the commas that stand outside of strings, braces and brackets.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut is_string) = (0_i32, false);
    for c in text.chars() {
        match c {
            '"' => is_string = !is_string,
            '{' | '[' | '<' if !is_string => depth += 1,
            '}' | ']' | '>' if !is_string => depth -= 1,
            ',' if !is_string && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut()
            && !(part.is_empty() && c == ' ')
        {
            part.push(c);
        }
    }
    parts
}

/// The bytes of a string that strace wrote in hexadecimal.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let text = text.trim_start_matches('"').trim_end_matches("...").trim_end_matches('"');
    text.split("\\x").skip(1).filter_map(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok()).collect()
}

/// The number of a descriptor: `3</path>`.
pub(super) fn descriptor(argument: &str) -> i64 {
    argument.split('<').next().and_then(|number| number.parse().ok()).unwrap_or(-1)
}

/// The path of a descriptor, which strace writes in hexadecimal as well.
pub(super) fn descriptor_path(argument: &str) -> Option<Vec<u8>> {
    let (_, path) = argument.split_once('<')?;
    Some(unescape(path.trim_end_matches("(deleted)").trim_end_matches('>')))
}

/// A mode as the log shows it.
pub(super) fn octal(text: &str) -> u32 {
    u32::from_str_radix(text.trim_start_matches('0'), 8).unwrap_or(0)
}
