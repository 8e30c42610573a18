//! The envelope of every small record: magic, version, length and checksum, outside the encoded payload.
//!
//! This layout is frozen for all versions, so that a newer record can be told from a damaged one: the checksum is
//! checked first, the version second.

use crate::{Error, Result};

/// Eight bytes of magic, a version, the payload's length, a BLAKE3 checksum over all of these and the payload.
pub(crate) const HEADER_LEN: usize = 8 + 4 + 8 + 32;

/// What a record is and which version of it this program writes and reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) magic: &'static [u8; 8],
    pub(crate) version: u32,
}

/// What the two copies of a doubled record are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Copies {
    Both,
    /// One is damaged; the other one was used.
    One {
        problem: String,
    },
}

impl Format {
    /// Wraps a payload.
    pub(crate) fn seal(self, payload: &[u8]) -> Vec<u8> {
        self.seal_parts(&[payload])
    }

    /// Wraps a payload that lies in several places.
    pub(crate) fn seal_parts(self, parts: &[&[u8]]) -> Vec<u8> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(HEADER_LEN + length);
        bytes.extend_from_slice(self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&(length as u64).to_le_bytes());
        bytes.extend_from_slice(&[0; 32]);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        let checksum = checksum(&bytes[..HEADER_LEN - 32], &bytes[HEADER_LEN..]);
        bytes[HEADER_LEN - 32..HEADER_LEN].copy_from_slice(&checksum);
        bytes
    }

    /// Unwraps a record that stands alone in `bytes`.
    pub(crate) fn open<'a>(self, object: &str, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let (payload, rest) = self.open_first(object, bytes)?;
        if !rest.is_empty() {
            return Err(damaged(object, "bytes follow after its end"));
        }
        Ok(payload)
    }

    /// Wraps a payload twice, one copy after the other: a record without which nothing else could be found.
    pub(crate) fn seal_twice(self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.seal(payload);
        bytes.extend_from_within(..);
        bytes
    }

    /// Unwraps whichever copy is whole.
    pub(crate) fn open_twice<'a>(self, object: &str, bytes: &'a [u8]) -> Result<(&'a [u8], Copies)> {
        let first = self.open_first(object, bytes);
        let second = self.open(object, &bytes[bytes.len() / 2..]);
        match (first, second) {
            (Ok((payload, _)), Ok(copy)) if payload == copy => Ok((payload, Copies::Both)),
            (Ok((payload, _)), _) => Ok((payload, one("its second copy is damaged"))),
            (Err(Error::Damaged { .. }), Ok(payload)) => Ok((payload, one("its first copy is damaged"))),
            (Err(error), _) => Err(error),
        }
    }

    fn open_first<'a>(self, object: &str, bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8])> {
        let header = bytes.get(..HEADER_LEN).ok_or_else(|| damaged(object, "it is cut off"))?;
        if &header[..8] != self.magic {
            return Err(damaged(object, "it does not start with the right magic bytes"));
        }
        let length = u64::from_le_bytes(array(&header[12..20]));
        let body = &bytes[HEADER_LEN..];
        let (payload, rest) = usize::try_from(length)
            .ok()
            .filter(|length| *length <= body.len())
            .map(|length| body.split_at(length))
            .ok_or_else(|| damaged(object, "it is shorter than it says"))?;
        if checksum(&header[..20], payload) != header[20..] {
            return Err(damaged(object, "its checksum does not match"));
        }
        let version = u32::from_le_bytes(array(&header[8..12]));
        if version != self.version {
            return Err(Error::Format {
                store: object.to_owned(),
                found: version.to_string(),
                supported: self.version.to_string(),
            });
        }
        Ok((payload, rest))
    }
}

pub(crate) fn damaged(object: &str, problem: impl Into<String>) -> Error {
    Error::Damaged { object: object.to_owned(), problem: problem.into() }
}

/// A slice of known length as an array.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller cut the slice to this length")
}

fn one(problem: &str) -> Copies {
    Copies::One { problem: problem.to_owned() }
}

fn checksum(header: &[u8], payload: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(header).update(payload).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { magic: b"EVOTEST\0", version: 2 };

    #[test]
    fn any_flipped_byte_of_a_single_record_is_damage() {
        let sealed = FORMAT.seal(b"payload");
        for place in 0..sealed.len() {
            let mut bytes = sealed.clone();
            bytes[place] ^= 0x20;
            assert!(matches!(FORMAT.open("x", &bytes), Err(Error::Damaged { .. })), "byte {place}");
        }
    }

    #[test]
    fn one_damaged_copy_of_a_doubled_record_is_survived_and_named() {
        let sealed = FORMAT.seal_twice(b"payload");
        assert_eq!(FORMAT.open_twice("x", &sealed).unwrap(), (b"payload".as_slice(), Copies::Both));
        for place in 0..sealed.len() {
            let mut bytes = sealed.clone();
            bytes[place] ^= 1;
            let (payload, copies) = FORMAT.open_twice("x", &bytes).unwrap();
            assert_eq!(payload, b"payload");
            assert!(matches!(copies, Copies::One { .. }), "byte {place}");
        }
    }

    #[test]
    fn a_record_of_a_newer_version_is_refused_by_number_and_not_called_damaged() {
        let newer = Format { version: 3, ..FORMAT }.seal_twice(b"unknown");
        let error = FORMAT.open_twice("x", &newer).unwrap_err();
        assert_eq!(error.to_string(), "x has format 3; this program reads 2");
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_allocated() {
        let mut sealed = FORMAT.seal(b"payload");
        sealed[12..20].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(FORMAT.open("x", &sealed), Err(Error::Damaged { .. })));
    }
}
