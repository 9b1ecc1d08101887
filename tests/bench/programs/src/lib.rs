//! What the programs for measurements share: numbers that look random and are the same everywhere.

/// splitmix64: one step from `seed`.
pub const fn mix(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::mix;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // The first of its reference for the seed 0.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }
}
