//! Seeds for the parts of a net.

/// A seed for each part, from the seed of the whole and what tells the parts apart (SplitMix64).
pub(super) fn mix(seed: u64, parts: &[u64]) -> u64 {
    parts
        .iter()
        .fold(scramble(seed), |seed, part| scramble(seed.wrapping_mul(3).wrapping_add(scramble(*part))))
}

fn scramble(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::mix;

    #[test]
    fn every_part_counts() {
        let all = [mix(1, &[]), mix(2, &[]), mix(1, &[0]), mix(1, &[1]), mix(1, &[0, 1]), mix(1, &[1, 0])];
        for (n, seed) in all.iter().enumerate() {
            assert!(!all[..n].contains(seed), "{all:?}");
        }
    }
}
