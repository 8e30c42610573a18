//! Something outside of a tree that nobody may read or change.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::machine::output;

/// What the file in there says.
const SECRET: &str = "never read\n";

/// A folder and a file outside the tree, with times by which a reader gives itself away.
#[derive(Debug)]
pub(super) struct Canary {
    folder: PathBuf,
    times: Vec<(i64, i64)>,
}

impl Canary {
    /// Makes the folder, which belongs to `user`, or watches the one that is there. The time of the last access is set so far
    /// back that every mount option but `noatime` moves it at the next one.
    pub(super) fn set(folder: &Path, user: Option<u32>) -> Result<Self> {
        let secret = folder.join("secret");
        if !secret.exists() {
            fs::create_dir_all(folder)?;
            fs::write(&secret, SECRET)?;
            for made in [secret.as_path(), folder] {
                chown(made, user, user)?;
            }
        }
        output(Command::new("touch").args(["-a", "-d", "3 days ago"]).arg(secret).arg(folder))?;
        Ok(Self { folder: folder.to_owned(), times: Self::times(folder)? })
    }

    fn times(folder: &Path) -> Result<Vec<(i64, i64)>> {
        let of = |path: PathBuf| -> Result<(i64, i64)> {
            let metadata = fs::symlink_metadata(path)?;
            Ok((metadata.atime(), metadata.mtime()))
        };
        Ok(vec![of(folder.to_owned())?, of(folder.join("secret"))?])
    }

    /// What has been done to it since.
    pub(super) fn touched(&self) -> Result<Option<&'static str>> {
        // The times first: looking at the content moves them.
        let times = Self::times(&self.folder)?;
        let read = times.iter().zip(&self.times).any(|(now, then)| now.0 != then.0);
        let written = times.iter().zip(&self.times).any(|(now, then)| now.1 != then.1);
        if written
            || fs::read_to_string(self.folder.join("secret"))? != SECRET
            || fs::read_dir(&self.folder)?.count() != 1
        {
            return Ok(Some("was changed"));
        }
        Ok(read.then_some("was read"))
    }
}
