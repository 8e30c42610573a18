//! Directory trees of a given size with reproducible contents.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How many files of which size a tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeSize {
    /// How many files.
    pub files: usize,
    /// The size of each, in bytes.
    pub file_size_bytes: usize,
}

/// Files in a folder of a tree.
const FILES_PER_FOLDER: usize = 50;

impl TreeSize {
    /// Where the file with this number stands, relative to the root.
    pub fn path(number: usize) -> PathBuf {
        format!("src/part_{:02}/module_{number:04}.rs", number / FILES_PER_FOLDER).into()
    }

    /// Writes the tree below `root`. Equal sizes give equal trees.
    ///
    /// ```
    /// use evoseal_tests::trees::TreeSize;
    /// let folder = tempfile::tempdir()?;
    /// TreeSize { files: 3, file_size_bytes: 100 }.write(folder.path())?;
    /// assert_eq!(std::fs::read(folder.path().join(TreeSize::path(2)))?.len(), 100);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write(self, root: &Path) -> io::Result<()> {
        for number in 0..self.files {
            let file = root.join(Self::path(number));
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(file, source_text(number as u64, self.file_size_bytes))?;
        }
        Ok(())
    }
}

/// Text that looks like source code: words repeat, so that it compresses about as well, and no two seeds give the same.
pub fn source_text(seed: u64, size_bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "let", "mut", "value", "self", "match", "return", "Result", "pub fn", "impl", "index", "if", "else",
        "for", "state", "->", "();",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = Vec::with_capacity(size_bytes + 32);
    while text.len() < size_bytes {
        // Xorshift (Marsaglia 2003): any generator will do, as long as it gives the same everywhere.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = WORDS[(state % 16) as usize];
        let end = if state.is_multiple_of(11) { "\n    " } else { " " };
        let item =
            if state.is_multiple_of(5) { format!("x{:x}{end}", state >> 44) } else { format!("{word}{end}") };
        text.extend_from_slice(item.as_bytes());
    }
    text.truncate(size_bytes);
    text
}
