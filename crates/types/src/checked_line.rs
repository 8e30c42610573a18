//! Lines that carry their own check, as all logs of the workspace have them: the pure part, without any file.
//!
//! A log is a sequence of lines `<digest> <body>\n`. `<digest>` is the BLAKE3 digest, 64 lower-case hexadecimal digits, of the
//! bytes of `<body>`, which is UTF-8 without line breaks. A line is appended with one write and then synced, so that an
//! append that was cut off shows in the last line only: it has no end, or some of its blocks never reached storage, and a
//! file system shows such blocks as zeros, which no body holds. Either was never acknowledged and is no damage.
//!
//! ```
//! use evoseal_types::checked_line;
//!
//! let (first, digest) = checked_line::encode("one");
//! let file = format!("{first}{}", &checked_line::encode("two").0[..10]);
//! let (mut lines, whole_len) = checked_line::whole_lines(file.as_bytes());
//! assert_eq!(checked_line::decode(lines.next().unwrap_or_default())?, (digest, "one"));
//! assert_eq!((lines.next(), whole_len), (None, first.len()));
//! # Ok::<(), checked_line::Problem>(())
//! ```

use crate::Digest;

/// Hexadecimal digits of the digest at the start of a line.
const DIGEST_LEN: usize = 64;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is shorter than a digest and a space.
    #[error("it is too short")]
    TooShort,
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It does not begin with 64 lower-case hexadecimal digits and a space.
    #[error("it does not begin with a digest")]
    NoDigest,
    /// The digest is not that of what follows it.
    #[error("its digest does not match")]
    Mismatch,
}

/// The line of a body, its end included, and the digest of the body.
///
/// # Panics
///
/// If the body holds a line break or a NUL byte: it could not be read back.
pub fn encode(body: &str) -> (String, Digest) {
    assert!(!body.contains(['\n', '\0']), "a body stands on one line and holds no NUL byte");
    let digest = Digest::of(body.as_bytes());
    (format!("{digest} {body}\n"), digest)
}

/// The digest and the body of a line without its end.
pub fn decode(line: &[u8]) -> Result<(Digest, &str), Problem> {
    let text = std::str::from_utf8(line).map_err(|_| Problem::NotUtf8)?;
    let (written, body) = text.split_at_checked(DIGEST_LEN + 1).ok_or(Problem::TooShort)?;
    let written = written.strip_suffix(' ').ok_or(Problem::NoDigest)?;
    let digest: Digest = written.parse().map_err(|_| Problem::NoDigest)?;
    if digest.to_string() != written {
        return Err(Problem::NoDigest);
    }
    if Digest::of(body.as_bytes()) != digest {
        return Err(Problem::Mismatch);
    }
    Ok((digest, body))
}

/// Whether a line is one whose blocks did not all reach storage. Only the last line of a file may be; any other line that
/// cannot be decoded was changed after it was written.
pub fn is_torn(line: &[u8]) -> bool {
    line.contains(&0) && decode(line).is_err()
}

/// The lines of a file without their ends, and where what follows them begins: the tail that was never acknowledged.
pub fn whole_lines(bytes: &[u8]) -> (impl Iterator<Item = &[u8]> + Clone, usize) {
    let end_of_line = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n');
    let mut whole_len = end_of_line(bytes).map_or(0, |end| end + 1);
    if let Some(end) = whole_len.checked_sub(1) {
        let start = end_of_line(&bytes[..end]).map_or(0, |end| end + 1);
        if is_torn(&bytes[start..end]) {
            whole_len = start;
        }
    }
    let lines = bytes[..whole_len].split_inclusive(|byte| *byte == b'\n').map(|line| &line[..line.len() - 1]);
    (lines, whole_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two lines, and where the second begins.
    fn two() -> (Vec<u8>, usize) {
        let (first, second) = (encode("{\"a\":1}").0, encode("zwölf").0);
        (format!("{first}{second}").into_bytes(), first.len())
    }

    #[test]
    fn the_layout_is_digest_space_body_line_feed() {
        let digest = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(encode(""), (format!("{digest} \n"), Digest::of(b"")));
        assert_eq!(decode(format!("{digest} ").as_bytes()), Ok((Digest::of(b""), "")));
    }

    #[test]
    fn a_file_that_is_cut_anywhere_has_the_lines_before_the_cut() {
        let (bytes, second) = two();
        for cut in 0..=bytes.len() {
            let (lines, whole_len) = whole_lines(&bytes[..cut]);
            let expected = if cut == bytes.len() {
                cut
            } else if cut >= second {
                second
            } else {
                0
            };
            assert_eq!(whole_len, expected, "cut at {cut}");
            assert!(lines.map(decode).all(|line| line.is_ok()), "cut at {cut}");
        }
    }

    #[test]
    fn every_bit_of_a_line_counts() {
        let line = &two().0[..two().1 - 1];
        for position in 0..line.len() {
            for bit in 0..8 {
                let mut bad = line.to_vec();
                bad[position] ^= 1 << bit;
                assert!(decode(&bad).is_err(), "bit {bit} of byte {position}");
            }
        }
    }

    #[test]
    fn blocks_of_zeros_are_a_tail_at_the_end_and_damage_before_it() {
        let (mut bytes, second) = two();
        bytes[second + 3] = 0;
        assert_eq!(whole_lines(&bytes).1, second);
        let (mut bytes, _) = two();
        bytes[3] = 0;
        let (mut lines, whole_len) = whole_lines(&bytes);
        assert_eq!(whole_len, bytes.len());
        assert_eq!(decode(lines.next().unwrap()), Err(Problem::NoDigest));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let digest = Digest::of(b"x").to_string();
        let cases: [(Vec<u8>, Problem); 6] = [
            (Vec::new(), Problem::TooShort),
            (digest.clone().into_bytes(), Problem::TooShort),
            (format!("{digest}-x").into_bytes(), Problem::NoDigest),
            (format!("{} x", digest.to_uppercase()).into_bytes(), Problem::NoDigest),
            (format!("{digest} y").into_bytes(), Problem::Mismatch),
            ([digest.as_bytes(), b" \xff"].concat(), Problem::NotUtf8),
        ];
        for (line, problem) in cases {
            assert_eq!(decode(&line), Err(problem), "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    #[should_panic(expected = "stands on one line")]
    fn a_body_with_a_line_break_is_a_bug() {
        encode("a\nb");
    }
}
