//! What a desktop is charged on its host.

/// Memory charged for a desktop until it is measured, in tenths of its maximum.
const CHARGED_TENTHS: u64 = 7;

/// Memory charged for a desktop of this maximum, MiB.
pub fn charged_mib(memory_mib: u32) -> u64 {
    (u64::from(memory_mib) * CHARGED_TENTHS).div_ceil(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_tenths_are_charged_rounded_up() {
        assert_eq!(charged_mib(1_024), 717);
        assert_eq!(charged_mib(64), 45);
    }
}
