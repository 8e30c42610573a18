//! Keeping the start and the end of an output stream in bounded memory.

use std::collections::VecDeque;

use crate::Captured;

/// Collects what a stream brings: half of the limit from its start, half from its end.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    head_max: usize,
    tail: VecDeque<u8>,
    tail_max: usize,
    total_bytes: u64,
}

impl Capture {
    pub(super) fn new(limit_bytes: u64) -> Self {
        let limit = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        let tail_max = limit / 2;
        Self { head: Vec::new(), head_max: limit - tail_max, tail: VecDeque::new(), tail_max, total_bytes: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_max - self.head.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.tail_max)..];
        let surplus = (self.tail.len() + rest.len()).saturating_sub(self.tail_max);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    pub(super) fn finish(self) -> Captured {
        Captured { head: self.head, tail: self.tail.into(), total_bytes: self.total_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(limit: u64, chunks: &[&[u8]]) -> (Vec<u8>, Vec<u8>, u64) {
        let mut capture = Capture::new(limit);
        for chunk in chunks {
            capture.push(chunk);
        }
        let captured = capture.finish();
        (captured.head, captured.tail, captured.total_bytes)
    }

    #[test]
    fn the_start_and_the_end_are_kept_whatever_the_chunks() {
        let expected = (b"abc".to_vec(), b"xyz".to_vec(), 26);
        assert_eq!(captured(6, &[b"abcdefghijklmnopqrstuvwxyz"]), expected);
        let letters: Vec<&[u8]> = b"abcdefghijklmnopqrstuvwxyz".chunks(1).collect();
        assert_eq!(captured(6, &letters), expected);
        assert_eq!(captured(6, &[b"ab", b"cdefghijklmnopqrstuvw", b"xyz"]), expected);
    }

    #[test]
    fn nothing_is_cut_out_up_to_the_limit() {
        assert_eq!(captured(6, &[b"abcdef"]), (b"abc".to_vec(), b"def".to_vec(), 6));
        assert_eq!(captured(5, &[b"abcde"]), (b"abc".to_vec(), b"de".to_vec(), 5));
        assert_eq!(captured(0, &[b"abcde"]), (vec![], vec![], 5));
    }
}
