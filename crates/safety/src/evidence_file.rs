//! Evidence in files, compressed. `FORMAT.md` describes them byte by byte.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use evoseal_types::Digest;
use rustix::fs::{FlockOperation, flock};

use crate::audit_file::off_thread;
use crate::{Error, Evidence, EvidenceStore, Result};

/// How every file begins.
const MAGIC: &[u8; 8] = b"EVOSEALE";
/// The layout that is written and read.
const VERSION: u32 = 1;
/// Magic, version, length of the JSON, checksum.
const HEADER_LEN: usize = 8 + 4 + 8 + 32;
/// The longest JSON that is kept or read. Evidence is some tens of KiB; what a run reports of a hundred thousand tests fits.
const JSON_LEN_MAX: u64 = 256 << 20;
/// LZ4 makes at most so many bytes out of one.
const EXPANSION_MAX: u64 = 255;
/// How the name of a file ends.
const SUFFIX: &str = ".evidence";

/// An [`EvidenceStore`] in a folder: one file for each evidence, named by its digest.
///
/// Any number of processes may use it at once. It never deletes: a decision can be made again as long as the audit log
/// names it.
#[derive(Debug, Clone)]
pub struct FileEvidenceStore {
    folder: Arc<PathBuf>,
}

impl FileEvidenceStore {
    /// The store in `folder`, which is made when the first evidence is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Arc::new(folder.into()) }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}{SUFFIX}"))
    }

    fn keep_blocking(&self, evidence: &Evidence) -> Result<Digest> {
        let (json, digest) = evidence.encode()?;
        if json.len() as u64 > JSON_LEN_MAX {
            let reason = format!("it takes {} bytes, and {JSON_LEN_MAX} are the most", json.len());
            return Err(Error::Invalid { what: "evidence".to_owned(), reason });
        }
        self.create_folder()?;
        let folder = File::open(self.folder.as_ref()).map_err(failed("open", &self.folder))?;
        // One writer at a time, so that there is one name for what is not complete, and the next writer overwrites what a
        // killed one left.
        flock(&folder, FlockOperation::LockExclusive)
            .map_err(|error| failed("lock", &self.folder)(error.into()))?;
        if self.load_blocking(digest).is_err() {
            let (aside, path) = (self.folder.join("incoming.tmp"), self.path(digest));
            let mut file = File::create(&aside).map_err(failed("create", &aside))?;
            file.write_all(&seal(&json)).map_err(failed("write", &aside))?;
            file.sync_all().map_err(failed("sync", &aside))?;
            std::fs::rename(&aside, &path).map_err(failed("name", &path))?;
        }
        // Also for what stands there already: whoever named it may have been killed before this.
        folder.sync_all().map_err(failed("sync", &self.folder))?;
        Ok(digest)
    }

    /// Makes the folder durable in the one above it.
    fn create_folder(&self) -> Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(self.folder.as_ref()).map_err(failed("create", &self.folder))?;
        match self.folder.parent().filter(|above| !above.as_os_str().is_empty()) {
            Some(above) => {
                File::open(above).and_then(|above| above.sync_all()).map_err(failed("sync", above))
            }
            None => Ok(()),
        }
    }

    fn load_blocking(&self, digest: Digest) -> Result<Evidence> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::EvidenceMissing { digest });
            }
            opened => opened.map_err(failed("open", &path))?,
        };
        let mut bytes = Vec::new();
        let room = HEADER_LEN as u64 + JSON_LEN_MAX;
        file.take(room + 1).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        let json = open(&bytes).map_err(|problem| Error::EvidenceDamaged { digest, problem })?;
        Evidence::decode(digest, &json)
    }

    fn list_blocking(&self) -> Result<Vec<Digest>> {
        let items = match std::fs::read_dir(self.folder.as_ref()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(failed("read", &self.folder))?,
        };
        let mut digests = Vec::new();
        for item in items {
            let name = item.map_err(failed("read", &self.folder))?.file_name();
            let digest: Option<Digest> =
                name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
            digests.extend(digest);
        }
        digests.sort_unstable();
        Ok(digests)
    }
}

/// Says what was tried when the operating system refused.
fn failed(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::EvidenceIo { action, path: path.clone(), source }
}

/// The bytes of a file.
fn seal(json: &[u8]) -> Vec<u8> {
    let payload = lz4_flex::block::compress(json);
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
    let checksum = checksum(&bytes, &payload);
    bytes.extend_from_slice(&checksum);
    bytes.extend_from_slice(&payload);
    bytes
}

/// The JSON in the bytes of a file, or what is wrong with them.
fn open(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (header, payload) = bytes.split_at_checked(HEADER_LEN).ok_or("it is cut off")?;
    let (fields, written) = header.split_at(HEADER_LEN - 32);
    if !fields.starts_with(MAGIC) {
        return Err("it does not start with the right magic bytes".to_owned());
    }
    if checksum(fields, payload) != written {
        return Err("its checksum does not match".to_owned());
    }
    let version = u32::from_le_bytes(fields[8..12].try_into().expect("it is a slice of four"));
    if version != VERSION {
        return Err(format!("it has version {version} of the format, and this program reads {VERSION}"));
    }
    let length = u64::from_le_bytes(fields[12..20].try_into().expect("it is a slice of eight"));
    // Nothing is allocated on the word of a file alone.
    if length > JSON_LEN_MAX || length > EXPANSION_MAX * payload.len() as u64 {
        return Err(format!("{length} bytes cannot come out of it"));
    }
    let length = usize::try_from(length).map_err(|_| "it is too large for this machine".to_owned())?;
    let json = lz4_flex::block::decompress(payload, length).map_err(|error| error.to_string())?;
    if json.len() == length { Ok(json) } else { Err("it is shorter than it says".to_owned()) }
}

fn checksum(fields: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(fields).update(payload);
    *hasher.finalize().as_bytes()
}

#[async_trait]
impl EvidenceStore for FileEvidenceStore {
    async fn keep(&self, evidence: &Evidence) -> Result<Digest> {
        let (store, evidence) = (self.clone(), evidence.clone());
        off_thread("keeping evidence", move || store.keep_blocking(&evidence)).await
    }

    async fn load(&self, digest: Digest) -> Result<Evidence> {
        let store = self.clone();
        off_thread("reading evidence", move || store.load_blocking(digest)).await
    }

    async fn list(&self) -> Result<Vec<Digest>> {
        let store = self.clone();
        off_thread("listing evidence", move || store.list_blocking()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_magic_version_length_checksum_and_lz4() {
        let bytes = seal(b"{}");
        assert_eq!(&bytes[..20], b"EVOSEALE\x01\0\0\0\x02\0\0\0\0\0\0\0");
        let checksum = blake3::hash(&[&bytes[..20], &bytes[52..]].concat());
        assert_eq!(&bytes[20..52], checksum.as_bytes());
        assert_eq!(lz4_flex::block::decompress(&bytes[52..], 2).unwrap(), b"{}");
        assert_eq!(open(&bytes).unwrap(), b"{}");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_damage() {
        let bytes = seal(&b"evidence, and evidence again".repeat(20));
        for position in 0..bytes.len() {
            assert!(open(&bytes[..position]).is_err(), "cut at {position}");
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[position] ^= 1 << bit;
                assert!(open(&bad).is_err(), "bit {bit} of byte {position}");
            }
        }
        assert!(open(&[&bytes[..], b"x"].concat()).is_err());
    }

    /// A file whose checksum fits whatever its fields say.
    fn forged(version: u32, length: u64, payload: &[u8]) -> Vec<u8> {
        let fields = [&MAGIC[..], &version.to_le_bytes(), &length.to_le_bytes()].concat();
        [&fields[..], &checksum(&fields, payload), payload].concat()
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_allocated() {
        let payload = lz4_flex::block::compress(&[b'x'; 1000]);
        assert_eq!(open(&forged(1, 1000, &payload)).unwrap().len(), 1000);
        for length in [0, 999, 1001] {
            assert!(open(&forged(1, length, &payload)).is_err(), "{length}");
        }
        let refused = |length, payload: &[u8]| {
            assert!(
                open(&forged(1, length, payload)).unwrap_err().contains("cannot come out of it"),
                "{length}"
            );
        };
        for length in [1 << 20, JSON_LEN_MAX, JSON_LEN_MAX + 1, u64::MAX] {
            refused(length, &payload);
        }
        refused(1, b"");
        refused(JSON_LEN_MAX + 1, &vec![0; 2 << 20]);
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let problem = open(&forged(2, 2, &lz4_flex::block::compress(b"{}"))).unwrap_err();
        assert!(problem.contains("version 2"), "{problem}");
    }
}
