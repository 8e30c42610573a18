//! Reading and writing the sites of parameters in a workspace.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use evoseal_pipeline::{Error, Result};
use evoseal_types::{EntryPath, ErrorClass};

use super::settings::{Parameter, Site};
use super::{Combination, Value};
use crate::files;

/// The largest file that may hold a site.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The files that hold sites, as they are in a workspace.
#[derive(Debug)]
pub(super) struct Sources {
    files: BTreeMap<EntryPath, Source>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    content: Vec<u8>,
}

impl Sources {
    /// Reads every file that a site names.
    pub(super) fn read(workspace: &Path, parameters: &[Parameter]) -> Result<Self> {
        let mut files = BTreeMap::new();
        for Site { file, .. } in parameters.iter().flat_map(|parameter| &parameter.sites) {
            if files.contains_key(file) {
                continue;
            }
            let path = files::inside(workspace, file).map_err(wrong_site)?;
            let content = files::read_bounded(&path, FILE_BYTES_MAX).map_err(|error| Error::Proposer {
                reason: format!("cannot read {file}, which holds a parameter"),
                class: ErrorClass::of_io(&error),
                source: Some(Box::new(error)),
            })?;
            files.insert(file.clone(), Source { path, content });
        }
        Ok(Self { files })
    }

    /// The value that each parameter has now.
    pub(super) fn current(&self, parameters: &[Parameter]) -> Result<Combination> {
        parameters.iter().map(|parameter| Ok((parameter.name.clone(), self.value_of(parameter)?))).collect()
    }

    /// The one value whose text stands at all sites of a parameter, else what the settings call the published one.
    fn value_of(&self, parameter: &Parameter) -> Result<Value> {
        let mut texts = Vec::new();
        for site in &parameter.sites {
            texts.push((site, self.content(site)[self.locate(site)?].trim_ascii()));
        }
        let stands =
            |value: &&String| texts.iter().all(|(site, text)| site.text_of(value).trim().as_bytes() == *text);
        Ok(parameter.values.texts().iter().find(stands).or(parameter.published.as_ref()).cloned())
    }

    /// Writes the values in which `wanted` differs from `current`.
    pub(super) fn write(
        &self,
        parameters: &[Parameter],
        current: &Combination,
        wanted: &Combination,
    ) -> Result<()> {
        let mut edits: BTreeMap<&EntryPath, Vec<(Range<usize>, String)>> = BTreeMap::new();
        for parameter in parameters {
            let value = wanted.get(&parameter.name).cloned().flatten();
            let Some(value) = value.filter(|_| wanted.get(&parameter.name) != current.get(&parameter.name))
            else {
                continue;
            };
            for site in &parameter.sites {
                edits.entry(&site.file).or_default().push((self.locate(site)?, site.text_of(&value)));
            }
        }
        for (file, edits) in edits {
            let Source { path, content } = &self.files[file];
            let content =
                apply(content, edits).ok_or_else(|| wrong_site(format!("sites in {file} overlap")))?;
            files::replace(path, &content).map_err(|source| Error::Io {
                action: "write",
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    fn content(&self, site: &Site) -> &[u8] {
        &self.files[&site.file].content
    }

    /// Where a site lies in its file.
    fn locate(&self, site: &Site) -> Result<Range<usize>> {
        let content = self.content(site);
        let Site { file, before, after, .. } = site;
        let places = find(content, before.as_bytes());
        let [place] = places.as_slice() else {
            let count = if places.len() > COUNTED_MAX {
                "more than 1000".to_owned()
            } else {
                places.len().to_string()
            };
            return Err(wrong_site(format!("{before:?} stands {count} times in {file}, not once")));
        };
        let start = place + before.len();
        let length = content[start..].windows(after.len()).position(|window| window == after.as_bytes());
        match length {
            Some(length) => Ok(start..start + length),
            None => Err(wrong_site(format!("{after:?} does not stand behind {before:?} in {file}"))),
        }
    }
}

/// How many places of a text are counted before an error says "more".
const COUNTED_MAX: usize = 1000;

fn find(content: &[u8], text: &[u8]) -> Vec<usize> {
    let places = content.windows(text.len()).enumerate().filter(|(_, window)| *window == text);
    places.map(|(place, _)| place).take(COUNTED_MAX + 1).collect()
}

/// The content with each range replaced; nothing if two ranges overlap or touch, as no reading could tell them apart.
fn apply(content: &[u8], mut edits: Vec<(Range<usize>, String)>) -> Option<Vec<u8>> {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    if edits.windows(2).any(|pair| pair[1].0.start <= pair[0].0.end) {
        return None;
    }
    let mut edited = Vec::with_capacity(content.len());
    let mut done = 0;
    for (range, text) in edits {
        edited.extend_from_slice(&content[done..range.start]);
        edited.extend_from_slice(text.as_bytes());
        done = range.end;
    }
    edited.extend_from_slice(&content[done..]);
    Some(edited)
}

fn wrong_site(reason: String) -> Error {
    Error::Proposer { reason, class: ErrorClass::Invalid, source: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_replace_their_ranges_and_nothing_else() {
        let edits = vec![(4..5, "22".to_owned()), (1..2, String::new())];
        assert_eq!(apply(b"a1b_2c\xff", edits).unwrap(), b"ab_22c\xff");
        assert_eq!(apply(b"abcdef", vec![(1..4, "x".to_owned()), (3..5, "y".to_owned())]), None);
        assert_eq!(apply(b"abcdef", vec![(1..4, "x".to_owned()), (1..4, "y".to_owned())]), None);
    }
}
