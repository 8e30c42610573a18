//! What the child processes tell the harness, as bytes in a pipe. Nothing here allocates.

/// What *init* says at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The command's wait status.
    pub(super) status: i32,
    /// Processes that were killed at the end, those of the command's own group excepted when the group was killed.
    pub(super) stragglers: u32,
    /// CPU time in user mode of all processes that were waited for, in microseconds.
    pub(super) user_us: u64,
    /// The same in the kernel.
    pub(super) system_us: u64,
    /// The largest resident memory of one of them, in KiB.
    pub(super) memory_peak_kib: u64,
    /// The memory of the command's process just before it executed the program. The kernel counts a process's memory
    /// from its fork, not from its exec, so a `memory_peak_kib` that is not above this says nothing about the program.
    pub(super) memory_fork_kib: u64,
}

impl Report {
    /// The length of the encoded form: eight bytes, `memory_fork_kib`, that the command's process writes, and the rest,
    /// which *init* writes. Both are small enough for one atomic write to a pipe.
    pub(super) const LEN: usize = 48;

    /// The part of *init*.
    pub(super) fn encode(self) -> [u8; Self::LEN - 8] {
        let words = [
            u64::from(self.status.cast_unsigned()),
            u64::from(self.stragglers),
            self.user_us,
            self.system_us,
            self.memory_peak_kib,
        ];
        let mut bytes = [0; Self::LEN - 8];
        for (slot, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *slot = word.to_ne_bytes();
        }
        bytes
    }

    /// Reads what *init* wrote; `None` if it is not whole.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        let word = |index: usize| bytes.as_chunks::<8>().0.get(index).map(|word| u64::from_ne_bytes(*word));
        Some(Self {
            memory_fork_kib: word(0)?,
            status: u32::try_from(word(1)?).ok()?.cast_signed(),
            stragglers: u32::try_from(word(2)?).ok()?,
            user_us: word(3)?,
            system_us: word(4)?,
            memory_peak_kib: word(5)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_writers_say_is_read_back_together() {
        let report = Report {
            status: 0x0b00,
            stragglers: 3,
            user_us: 1_234_567,
            system_us: 89,
            memory_peak_kib: 4096,
            memory_fork_kib: 1024,
        };
        let bytes = [&1024_u64.to_ne_bytes()[..], &report.encode()].concat();
        assert_eq!(Report::decode(&bytes), Some(report));
        assert_eq!(Report::decode(&bytes[8..]), None, "the command's part is missing");
        assert_eq!(Report::decode(&[]), None);
    }
}
