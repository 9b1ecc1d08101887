//! Copying what was made before, the one step that LZ and GLZ share.

use crate::error::SpiceError;

/// Refuses `count` more units when `made` of `wanted` are there.
pub(super) fn check_room(
    what: &'static str,
    made: usize,
    count: usize,
    wanted: usize,
) -> Result<(), SpiceError> {
    if count > wanted.saturating_sub(made) {
        return Err(SpiceError::Malformed {
            what,
            problem: "it makes more pixels than it declares",
        });
    }
    Ok(())
}

/// Appends `count` units from `distance` units before the end; a distance below the count repeats
/// what this very copy appends.
pub(super) fn repeat<T: Copy>(
    what: &'static str,
    made: &mut Vec<T>,
    distance: usize,
    count: usize,
) -> Result<(), SpiceError> {
    let start = match made.len().checked_sub(distance) {
        Some(start) if distance > 0 => start,
        _ => {
            let problem = "it refers to what is before its first pixel";
            return Err(SpiceError::Malformed { what, problem });
        }
    };
    let mut left = count;
    while left > 0 {
        // What is there from `start` on doubles with each turn.
        let run = left.min(made.len() - start);
        made.extend_from_within(start..start + run);
        left -= run;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_may_overlap_what_it_makes() {
        let mut made = vec![9, 1, 2, 3];
        repeat("test", &mut made, 3, 8).unwrap();
        assert_eq!(made, [9, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2]);
        repeat("test", &mut made, 1, 3).unwrap();
        assert_eq!(made[11..], [2, 2, 2, 2]);
        repeat("test", &mut made, 15, 1).unwrap();
        assert_eq!(made.last(), Some(&9));
    }

    #[test]
    fn a_copy_from_before_the_start_is_refused() {
        for distance in [0, 2, usize::MAX] {
            assert!(repeat("test", &mut vec![1], distance, 1).is_err(), "distance {distance}");
        }
    }

    #[test]
    fn there_is_room_for_what_is_wanted_and_no_more() {
        assert!(check_room("test", 3, 2, 5).is_ok());
        assert!(check_room("test", 3, 3, 5).is_err());
        assert!(check_room("test", usize::MAX, 1, 5).is_err());
    }
}
