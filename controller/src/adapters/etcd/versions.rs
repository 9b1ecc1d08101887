//! What is known to be wrong with versions of etcd (etcd-io/etcd, CHANGELOG-3.4.md and -3.5.md).

/// In which patch release of 3.4 a fault was mended, and the fault.
const FAULTS_3_4: &[(u32, &str)] = &[
    (21, "a single member may lose what it has acknowledged"),
    (24, "watches may repeat events"),
    (25, "watches may go back in time"),
    (31, "leases may be revoked wrongly, and watches lose events after a compaction"),
    (32, "the revision may go down after a crash in a compaction"),
    (36, "watches may miss a deletion"),
    (38, "a revoked lease may seem to be renewed"),
    (42, "reads may be stale after a pause"),
];

/// The same for 3.5.
const FAULTS_3_5: &[(u32, &str)] = &[
    (3, "members may come to hold different data"),
    (5, "a single member may lose what it has acknowledged"),
    (8, "watches may repeat events and go back in time"),
    (13, "leases may be revoked wrongly, and watches lose events after a compaction"),
];

/// The faults that a server of this version is known to have; empty: none is known here.
pub(super) fn known_faults(version: &str) -> Vec<&'static str> {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    let (major, minor, patch) = (number(), number(), number());
    let faults = match (major, minor) {
        (3, 4) => FAULTS_3_4,
        (3, 5) => FAULTS_3_5,
        (..=2, _) | (3, ..=3) => return vec!["it is older than 3.4, with which Vidi is tested"],
        _ => &[],
    };
    faults.iter().filter(|(mended, _)| patch < *mended).map(|(_, fault)| *fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_the_faults_that_were_mended_after_it() {
        assert_eq!(known_faults("3.4.23").len(), 7);
        assert!(
            known_faults("3.4.20").contains(&"a single member may lose what it has acknowledged")
        );
        assert_eq!(known_faults("3.4.45"), [""; 0]);
        assert_eq!(known_faults("3.5.13"), [""; 0]);
        assert_eq!(known_faults("3.5.0-rc.1").len(), 4);
        assert_eq!(known_faults("3.6.1"), [""; 0]);
        assert_eq!(known_faults("3.3.25").len(), 1);
        assert_eq!(known_faults("").len(), 1);
    }
}
