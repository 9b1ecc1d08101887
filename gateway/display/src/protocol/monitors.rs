//! Records of monitors and of the windows that show them (`docs/display-protocol.md`, "Monitors").

use vidi_spice::{Rect, SCREENS_MAX};

/// `u8 monitor`, 3 bytes reserved, `u16 width, height` of one window.
const WINDOW_BYTES: usize = 8;

/// A window through which one monitor is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorWindow {
    /// The monitor's number.
    pub monitor: u8,
    /// Columns in device pixels.
    pub width: u16,
    /// Rows in device pixels.
    pub height: u16,
}

/// A monitor of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Its number.
    pub id: u8,
    /// The part of the picture that it shows, which may reach beyond the picture's edges.
    pub area: Rect,
}

/// The body of record 83; none where it is malformed. Windows of monitors that cannot be are left out.
pub(super) fn decode_windows(body: &[u8]) -> Option<Vec<MonitorWindow>> {
    let (windows, rest) = body.as_chunks::<WINDOW_BYTES>();
    if windows.is_empty() || windows.len() > SCREENS_MAX || !rest.is_empty() {
        return None;
    }
    let windows = windows.iter().map(|&[monitor, _, _, _, w0, w1, h0, h1]| MonitorWindow {
        monitor,
        width: u16::from_le_bytes([w0, w1]),
        height: u16::from_le_bytes([h0, h1]),
    });
    Some(windows.filter(|window| usize::from(window.monitor) < SCREENS_MAX).collect())
}

/// Appends the body of record 28: `u8 most`, 3 bytes reserved, of each monitor `u8 id`, `u8`
/// reserved, `u16 x, y, width, height`.
pub(super) fn put_monitors(out: &mut Vec<u8>, most: u8, monitors: &[Monitor]) {
    out.extend_from_slice(&[most, 0, 0, 0]);
    for Monitor { id, area } in monitors {
        out.extend_from_slice(&[*id, 0]);
        super::outgoing::put_rect(out, *area);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_the_documented_bytes_and_there_are_one_to_four() {
        let one = |monitor| [monitor, 0, 0, 0, 0, 5, 1, 2];
        let window = |monitor| MonitorWindow { monitor, width: 1280, height: 513 };
        assert_eq!(decode_windows(&one(2)), Some(vec![window(2)]));
        let two = [one(4), one(1)].concat();
        assert_eq!(decode_windows(&two), Some(vec![window(1)]), "there is no monitor 4");
        for malformed in [&[][..], &two[1..], &one(0).repeat(5)] {
            assert_eq!(decode_windows(malformed), None, "{malformed:?}");
        }
    }

    #[test]
    fn monitors_have_the_documented_bytes() {
        let mut out = Vec::new();
        let monitors = [
            Monitor { id: 0, area: Rect::new(0, 0, 1280, 800) },
            Monitor { id: 2, area: Rect::new(1280, 1, 1920, 481) },
        ];
        put_monitors(&mut out, 4, &monitors);
        let expected = b"\x04\0\0\0\0\0\0\0\0\0\0\x05\x20\x03\x02\0\0\x05\x01\0\x80\x02\xe0\x01";
        assert_eq!(out, expected);
    }
}
