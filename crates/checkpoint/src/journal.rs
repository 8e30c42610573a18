//! The log of commits, as bytes: records that are added at the end of one cell and never changed.
//!
//! Each record stands with two copies of its head, so that one damaged byte costs nothing; it names the record before it,
//! so that none can be left out or put elsewhere unseen; and it ends with its own checksum, so that the last bytes of the
//! log say which log it is. A record that was being added when its writer died is recognised by lying beyond what was
//! acknowledged, and counts as never written.
//!
//! | bytes | field |
//! | --- | --- |
//! | head | 8 magic · 4 version · 4 length of the meta data · 8 length of the attachment · 32 digest of the attachment · 32 end of the record before · 32 checksum of all before and the meta data |
//! | … | meta data |
//! | … | attachment: a small pack |
//! | head, meta data | the same again |
//! | 32 | the checksum again |

use evoseal_types::Digest;

use crate::frame::array;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"EVOCOMIT";
const VERSION: u32 = 2;
const HEAD_LEN: usize = 8 + 4 + 4 + 8 + 32 + 32 + 32;
/// Bytes at the end of each record that tell it from every other.
pub(crate) const TAIL_LEN: usize = 32;
/// The longest meta data and the longest attachment, in bytes.
const META_LEN_MAX: usize = crate::codec::PAYLOAD_LEN_MAX;
const ATTACHMENT_LEN_MAX: u64 = 16 << 20;

/// The end of the record before: what the next one must name. All zeros before the first.
pub(crate) type Chain = [u8; TAIL_LEN];

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) meta: &'a [u8],
    pub(crate) attachment: &'a [u8],
}

/// What stands in a log from some place on.
#[derive(Debug, Default)]
pub(crate) struct Parsed<'a> {
    pub(crate) records: Vec<Record<'a>>,
    /// How many bytes of the input are accounted for: the next record goes after them.
    pub(crate) valid_len: usize,
    /// The end of the last whole record.
    pub(crate) chain: Chain,
    /// What is wrong with records that were acknowledged.
    pub(crate) problems: Vec<String>,
    /// Bytes of a record that was never acknowledged, after `valid_len`.
    pub(crate) torn_len: usize,
}

/// The bytes of a record that follows after `chain`.
pub(crate) fn encode(chain: &Chain, meta: &[u8], attachment: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_LEN + meta.len());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&u32::try_from(meta.len()).expect("the codec limits the length").to_le_bytes());
    head.extend_from_slice(&(attachment.len() as u64).to_le_bytes());
    head.extend_from_slice(Digest::of(attachment).as_bytes());
    head.extend_from_slice(chain);
    let checksum = checksum(&head, meta);
    head.extend_from_slice(&checksum);
    head.extend_from_slice(meta);
    let mut bytes = Vec::with_capacity(2 * head.len() + attachment.len() + TAIL_LEN);
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(attachment);
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// The end of a record's bytes.
pub(crate) fn chain_of(record: &[u8]) -> Chain {
    array(&record[record.len() - TAIL_LEN..])
}

/// A head that is whole.
#[derive(Debug, Clone, Copy)]
struct Head {
    meta_len: usize,
    attachment_len: usize,
    attachment: Digest,
    previous: Chain,
    checksum: Chain,
}

impl Head {
    fn record_len(&self) -> usize {
        2 * (HEAD_LEN + self.meta_len) + self.attachment_len + TAIL_LEN
    }
}

/// Reads the records of a log from a place where one begins. `acknowledged` is how much of `bytes` was acknowledged to
/// whoever wrote it, as far as is known; what lies beyond may be cut off.
pub(crate) fn parse<'a>(
    object: &str,
    bytes: &'a [u8],
    chain: Chain,
    acknowledged: Option<usize>,
) -> Result<Parsed<'a>> {
    let mut parsed = Parsed { chain, ..Parsed::default() };
    let mut is_after_damage = false;
    while parsed.valid_len < bytes.len() {
        let start = parsed.valid_len;
        let is_acknowledged = acknowledged.is_some_and(|length| start < length);
        match record_at(object, bytes, start, is_acknowledged)? {
            Some((head, record, problem)) => {
                if head.previous != parsed.chain && !is_after_damage {
                    parsed.problems.push(format!("the record at {start} does not follow the one before it"));
                }
                parsed.problems.extend(problem.map(|problem| format!("the record at {start}: {problem}")));
                is_after_damage = false;
                parsed.chain = head.checksum;
                parsed.records.push(record);
                parsed.valid_len = start + head.record_len();
            }
            // Whole records behind it prove that this one was once whole.
            None => match next_record(bytes, start + 1) {
                Some(next) => {
                    parsed.problems.push(format!("the record at {start} is damaged"));
                    is_after_damage = true;
                    parsed.valid_len = next;
                }
                // The first record of a log is not added to it but written with it, and is never torn.
                None if is_acknowledged || (start == 0 && chain == Chain::default()) => {
                    parsed.problems.push(format!("the record at {start} is damaged"));
                    // It stays where it is, for whoever may want to look at it.
                    parsed.valid_len = bytes.len();
                }
                None => {
                    parsed.torn_len = bytes.len() - start;
                    return Ok(parsed);
                }
            },
        }
    }
    Ok(parsed)
}

/// The record that begins at `start`, from whichever of its heads is whole, and what is wrong with the other.
fn record_at<'a>(
    object: &str,
    bytes: &'a [u8],
    start: usize,
    is_acknowledged: bool,
) -> Result<Option<(Head, Record<'a>, Option<String>)>> {
    let first = head_at(object, bytes, start)?;
    let head = match first {
        Some(head) => head,
        None => match second_head(object, bytes, start)? {
            Some(head) => head,
            None => return Ok(None),
        },
    };
    let Some(all) = bytes.get(start..start + head.record_len()) else { return Ok(None) };
    let once = HEAD_LEN + head.meta_len;
    let attachment = &all[once..once + head.attachment_len];
    let copy = &all[once + head.attachment_len..2 * once + head.attachment_len];
    let is_whole = || copy == &all[..once] && all[all.len() - TAIL_LEN..] == head.checksum;
    // The attachment of an acknowledged record checks itself when it is used.
    if !is_acknowledged && (first.is_none() || !is_whole() || Digest::of(attachment) != head.attachment) {
        return Ok(None);
    }
    let problem = if first.is_none() {
        Some("its first head is damaged".to_owned())
    } else if is_whole() {
        None
    } else {
        Some("its second head or its end is damaged".to_owned())
    };
    let meta = if first.is_some() { &all[HEAD_LEN..once] } else { &copy[HEAD_LEN..] };
    Ok(Some((head, Record { meta, attachment }, problem)))
}

/// The head that stands at `place`, if it is whole.
fn head_at(object: &str, bytes: &[u8], place: usize) -> Result<Option<Head>> {
    let Some(head) = bytes.get(place..place + HEAD_LEN).filter(|head| &head[..8] == MAGIC) else {
        return Ok(None);
    };
    let meta_len = u32::from_le_bytes(array(&head[12..16])) as usize;
    let attachment_len = u64::from_le_bytes(array(&head[16..24]));
    if meta_len > META_LEN_MAX || attachment_len > ATTACHMENT_LEN_MAX {
        return Ok(None);
    }
    let Some(meta) = bytes.get(place + HEAD_LEN..place + HEAD_LEN + meta_len) else { return Ok(None) };
    let found: Chain = array(&head[88..]);
    if checksum(&head[..88], meta) != found {
        return Ok(None);
    }
    let version = u32::from_le_bytes(array(&head[8..12]));
    if version != VERSION {
        return Err(Error::Format {
            store: object.to_owned(),
            found: version.to_string(),
            supported: VERSION.to_string(),
        });
    }
    Ok(Some(Head {
        meta_len,
        attachment_len: usize::try_from(attachment_len).unwrap_or(usize::MAX),
        attachment: Digest::from_bytes(array(&head[24..56])),
        previous: array(&head[56..88]),
        checksum: found,
    }))
}

/// The second head of the record at `start` whose first head is damaged.
fn second_head(object: &str, bytes: &[u8], start: usize) -> Result<Option<Head>> {
    let Some((place, head)) = heads(bytes, start + 1).next() else { return Ok(None) };
    let is_second = place.checked_sub(HEAD_LEN + head.meta_len + head.attachment_len) == Some(start);
    // Read again for the version's sake.
    if is_second { head_at(object, bytes, place) } else { Ok(None) }
}

/// Where the next whole record begins, from `from` on.
fn next_record(bytes: &[u8], from: usize) -> Option<usize> {
    let mut found = heads(bytes, from).filter(|(place, head)| {
        bytes.get(*place..place + head.record_len()).is_some_and(|all| {
            let copy = HEAD_LEN + head.meta_len + head.attachment_len;
            all[copy..copy + HEAD_LEN] == all[..HEAD_LEN]
        })
    });
    found.next().map(|(place, _)| place)
}

/// The whole heads from `from` on. Crafted bytes could hold a magic at every turn, each with a long meta data to be
/// hashed: the search ends when it has hashed a few times what there is.
fn heads(bytes: &[u8], from: usize) -> impl Iterator<Item = (usize, Head)> {
    let rest = bytes.get(from..).unwrap_or_default();
    let mut budget = 4 * bytes.len() + (1 << 20);
    let places = rest.windows(MAGIC.len()).enumerate().filter(|(_, window)| window == MAGIC);
    places
        .map(move |(at, _)| from + at)
        .take_while(move |place| {
            let stated =
                bytes.get(place + 12..place + 16).map_or(0, |len| u32::from_le_bytes(array(len)) as usize);
            let cost = HEAD_LEN + stated.min(bytes.len());
            let is_within = cost <= budget;
            budget = budget.saturating_sub(cost);
            is_within
        })
        .filter_map(|place| head_at("", bytes, place).ok().flatten().map(|head| (place, head)))
}

fn checksum(head: &[u8], meta: &[u8]) -> Chain {
    *blake3::Hasher::new().update(head).update(meta).finalize().as_bytes()
}

/// What is wrong with a log that is shorter than what was acknowledged.
pub(crate) fn cut_off(len: u64, acknowledged: u64) -> String {
    format!("it has {len} bytes, and {acknowledged} were acknowledged: it was cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut chain = Chain::default();
        for (meta, attachment) in [("one", ""), ("two", "attached"), ("three", "")] {
            let record = encode(&chain, meta.as_bytes(), attachment.as_bytes());
            chain = chain_of(&record);
            bytes.extend(record);
        }
        bytes
    }

    fn metas(parsed: &Parsed<'_>) -> Vec<String> {
        parsed.records.iter().map(|record| String::from_utf8_lossy(record.meta).into_owned()).collect()
    }

    #[test]
    fn records_read_back_in_order() {
        let bytes = log();
        for acknowledged in [None, Some(0), Some(bytes.len())] {
            let parsed = parse("log", &bytes, Chain::default(), acknowledged).unwrap();
            assert_eq!(metas(&parsed), ["one", "two", "three"]);
            assert_eq!(parsed.records[1].attachment, b"attached");
            assert_eq!((parsed.valid_len, parsed.torn_len, parsed.problems.len()), (bytes.len(), 0, 0));
        }
    }

    #[test]
    fn a_record_that_was_cut_off_before_it_was_acknowledged_was_never_written() {
        let bytes = log();
        let third = parse("log", &bytes, Chain::default(), None).unwrap().valid_len
            - encode(&Chain::default(), b"three", b"").len();
        for length in third + 1..bytes.len() {
            for acknowledged in [None, Some(third)] {
                let parsed = parse("log", &bytes[..length], Chain::default(), acknowledged).unwrap();
                assert_eq!(metas(&parsed), ["one", "two"], "{length}");
                assert_eq!((parsed.valid_len, parsed.problems.len()), (third, 0));
                assert_eq!(parsed.torn_len, length - third);
            }
        }
    }

    #[test]
    fn any_flipped_byte_of_a_head_is_survived_and_named() {
        let bytes = log();
        let attachment = bytes.windows(8).position(|window| window == b"attached").unwrap();
        for place in (0..bytes.len()).filter(|place| !(attachment..attachment + 8).contains(place)) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            let parsed = parse("log", &damaged, Chain::default(), Some(bytes.len())).unwrap();
            assert_eq!(metas(&parsed), ["one", "two", "three"], "byte {place}");
            assert_eq!(parsed.problems.len(), 1, "byte {place}: {:?}", parsed.problems);
        }
    }

    #[test]
    fn a_record_that_is_lost_is_named_and_costs_no_other() {
        let bytes = log();
        let first = encode(&Chain::default(), b"one", b"").len();
        let second = encode(&Chain::default(), b"two", b"attached").len();
        let mut damaged = bytes.clone();
        damaged[first..first + second].fill(0);
        for acknowledged in [None, Some(bytes.len())] {
            let parsed = parse("log", &damaged, Chain::default(), acknowledged).unwrap();
            assert_eq!(metas(&parsed), ["one", "three"]);
            assert_eq!(parsed.problems.len(), 1);
        }
    }

    #[test]
    fn records_that_were_left_out_or_swapped_are_named() {
        let bytes = log();
        let first = encode(&Chain::default(), b"one", b"").len();
        let second = encode(&Chain::default(), b"two", b"attached").len();
        let left_out = [&bytes[..first], &bytes[first + second..]].concat();
        let swapped = [&bytes[first..first + second], &bytes[..first], &bytes[first + second..]].concat();
        for wrong in [left_out, swapped] {
            assert!(!parse("log", &wrong, Chain::default(), None).unwrap().problems.is_empty());
        }
    }

    #[test]
    fn a_newer_record_is_refused_by_number() {
        let mut bytes = encode(&Chain::default(), b"one", b"");
        bytes[8..12].copy_from_slice(&3_u32.to_le_bytes());
        let sum = checksum(&bytes[..88], b"one");
        bytes[88..120].copy_from_slice(&sum);
        let error = parse("log", &bytes, Chain::default(), None).unwrap_err();
        assert_eq!(error.to_string(), "log has format 3; this program reads 2");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600),
            place in 0_usize..700,
            acknowledged in proptest::option::of(0_usize..1000),
        ) {
            let mut log = log();
            let place = place.min(log.len());
            log.splice(place..place, bytes);
            let _ = parse("log", &log, Chain::default(), acknowledged);
        }
    }
}
