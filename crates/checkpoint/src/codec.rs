//! The one place that knows how metadata records become bytes: bincode 2 in its fixed-width legacy layout.
//!
//! Integers are little-endian at full width, lengths are 64-bit counts, options have a tag byte, structs are their
//! fields in order. Decoding is bounded by [`PAYLOAD_LEN_MAX`] and must use up all bytes.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::damaged;
use crate::{Error, Result};

/// The longest payload of a metadata record, in bytes.
pub(crate) const PAYLOAD_LEN_MAX: usize = 64 << 20;

fn configuration() -> Configuration<LittleEndian, Fixint, Limit<PAYLOAD_LEN_MAX>> {
    bincode::config::legacy().with_limit()
}

/// The bytes of a record, or [`Error::TooLarge`].
pub(crate) fn encode<T: Serialize>(what: &str, value: &T) -> Result<Vec<u8>> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::legacy())
        .map_err(|error| Error::Invalid { argument: "record", reason: format!("{what}: {error}") })?;
    if bytes.len() > PAYLOAD_LEN_MAX {
        return Err(Error::TooLarge {
            what: what.to_owned(),
            actual: bytes.len() as u64,
            limit: PAYLOAD_LEN_MAX as u64,
        });
    }
    Ok(bytes)
}

/// Reads a record back. `object` names it in errors.
pub(crate) fn decode<T: DeserializeOwned>(object: &str, bytes: &[u8]) -> Result<T> {
    if bytes.len() > PAYLOAD_LEN_MAX {
        return Err(damaged(object, "it is longer than any record may be"));
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, configuration())
        .map_err(|error| damaged(object, format!("it cannot be decoded: {error}")))?;
    if used != bytes.len() {
        return Err(damaged(object, "bytes follow after its end"));
    }
    Ok(value)
}
