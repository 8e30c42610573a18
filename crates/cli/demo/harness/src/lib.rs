//! A mixed corpus, generated: the same bytes on every machine and at every run.

/// xorshift64*, seeded; enough for test data.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
}

/// Prose-like text: words drawn with a skewed frequency.
fn text(random: &mut Random, len: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..2000)
        .map(|_| (0..2 + random.below(9)).map(|_| b'a' + random.below(26) as u8).collect())
        .collect();
    let mut out = Vec::with_capacity(len + 16);
    while out.len() < len {
        let rank = random.below(words.len()).min(random.below(words.len())).min(random.below(words.len()));
        out.extend_from_slice(&words[rank]);
        out.push(if random.below(12) == 0 { b'\n' } else { b' ' });
    }
    out.truncate(len);
    out
}

/// Records such as a log or a table has: fixed keys, counters, a few free fields.
fn records(random: &mut Random, len: usize) -> Vec<u8> {
    let levels = ["DEBUG", "INFO", "WARN", "ERROR"];
    let mut out = Vec::with_capacity(len + 128);
    let mut time = 1_700_000_000_000_u64;
    while out.len() < len {
        time += random.below(900) as u64;
        let level = levels[random.below(4).min(random.below(4))];
        let line = format!(
            "{{\"time\":{time},\"level\":\"{level}\",\"user\":{},\"path\":\"/api/v{}/item/{}\",\"ms\":{}}}\n",
            random.below(5000),
            1 + random.below(3),
            random.below(100_000),
            random.below(3000)
        );
        out.extend_from_slice(line.as_bytes());
    }
    out.truncate(len);
    out
}

/// Little-endian numbers that drift slowly, as sensors give them.
fn series(random: &mut Random, len: usize) -> Vec<u8> {
    let mut value = 1_000_000_i32;
    let mut out = Vec::with_capacity(len + 4);
    while out.len() < len {
        value += random.below(7) as i32 - 3;
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Bytes without any pattern.
fn noise(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.next() as u8).collect()
}

/// The corpus in blocks, as a storage engine would compress it, with edge cases.
pub fn corpus() -> Vec<Vec<u8>> {
    const KIB: usize = 1024;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut blocks = vec![Vec::new(), vec![0], vec![7; 12], vec![7; 13], vec![0; 300 * KIB], b"abcd".repeat(5000)];
    for _ in 0..3 {
        // Pages and files.
        blocks.extend(text(&mut random, 640 * KIB).chunks(64 * KIB).map(<[u8]>::to_vec));
        blocks.extend(records(&mut random, 640 * KIB).chunks(64 * KIB).map(<[u8]>::to_vec));
        // Messages: each pays for a fresh hash table.
        blocks.extend(text(&mut random, 1024 * KIB).chunks(1500).map(<[u8]>::to_vec));
        blocks.extend(records(&mut random, 1024 * KIB).chunks(1500).map(<[u8]>::to_vec));
        blocks.push(series(&mut random, 64 * KIB));
        blocks.push(noise(&mut random, 64 * KIB));
    }
    // A repetition that is just too far away for a 16-bit offset.
    let mut far = noise(&mut random, 66 * KIB);
    let start = far[..KIB].to_vec();
    far.extend_from_slice(&start);
    blocks.push(far);
    blocks
}
