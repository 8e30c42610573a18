//! Small deterministic random numbers, so that a seed is a case.

/// The generator xorshift64* (Vigna 2016, "An experimental exploration of Marsaglia's xorshift generators, scrambled"),
/// seeded through the finaliser of SplitMix64.
///
/// ```
/// use evoseal_tests::random::Random;
/// let draw = |seed| { let mut random = Random::new(seed); [random.below(1000), random.below(1000)] };
/// assert_eq!(draw(7), draw(7));
/// assert_ne!(draw(7), draw(8));
/// ```
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
    is_certain: bool,
}

impl Random {
    /// A generator whose numbers depend on the seed alone.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds would begin alike.
        let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self { state: (mixed ^ (mixed >> 31)) | 1, is_certain: false }
    }

    /// Leaves nothing to chance: whatever may happen does, and of many the last is chosen.
    pub fn certain() -> Self {
        Self { state: 1, is_certain: true }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From 0 to `bound`, without it; 0 if there is nothing to choose from.
    pub fn below(&mut self, bound: usize) -> usize {
        let chosen = if self.is_certain { u32::MAX.into() } else { self.number() >> 32 };
        usize::try_from((chosen * bound.max(1) as u64) >> 32).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, chance: usize) -> bool {
        (self.is_certain && chance > 0) || self.below(100) < chance
    }
}
