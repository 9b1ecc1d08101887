//! What viewers are told beside the picture, written from the newest state.

use vidi_spice::{Locks, MouseMode, Point};

use crate::monitors::Monitors;
use crate::protocol::{CursorPicture, PointerMode, Record, SessionState};
use crate::session::{Cursor, ViewerRights};
use crate::viewer::Due;

/// What somebody is told who waits to be let in.
const ASKING: &str = "ASKING: the session's user is asked";

/// The newest state of everything that is told beside the picture.
#[derive(Debug)]
pub(crate) struct Notices<'a> {
    pub(crate) rights: ViewerRights,
    pub(crate) cursor: &'a Cursor,
    pub(crate) mouse_mode: MouseMode,
    pub(crate) locks: Locks,
    pub(crate) state: SessionState,
    pub(crate) state_text: &'a str,
    pub(crate) abilities: Abilities,
    pub(crate) monitors: &'a Monitors,
}

/// What a viewer with control can do beside typing and pointing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub(crate) takes_clipboard: bool,
    pub(crate) gives_clipboard: bool,
    pub(crate) follows_window: bool,
    pub(crate) takes_files: bool,
    pub(crate) has_sound: bool,
    pub(crate) takes_microphone: bool,
}

impl Notices<'_> {
    /// Appends the records that are due.
    pub(crate) fn write(&self, due: Due, out: &mut Vec<u8>) {
        if due.hello {
            Record::Hello { may_control: self.rights == ViewerRights::Control }.write(out);
        }
        if self.rights == ViewerRights::Wait {
            // The rest is said when it is let in.
            if due.hello {
                Record::Status { state: SessionState::Connecting, text: ASKING }.write(out);
            }
            return;
        }
        if due.forgotten && self.abilities() != 0 {
            // It would not be seen otherwise that what was offered is gone.
            Record::Abilities(0).write(out);
        }
        if due.abilities {
            Record::Abilities(self.abilities()).write(out);
        }
        if due.fetched && self.rights == ViewerRights::Control {
            Record::Fetched.write(out);
        }
        if due.monitors {
            let most = if self.abilities.follows_window { self.monitors.most() } else { 1 };
            Record::Monitors { most, monitors: self.monitors.on() }.write(out);
        }
        if due.status {
            Record::Status { state: self.state, text: self.state_text }.write(out);
        }
        if due.pointer_mode {
            Record::PointerMode(match self.mouse_mode {
                MouseMode::Client => PointerMode::Absolute,
                MouseMode::Server => PointerMode::Relative,
            })
            .write(out);
        }
        if due.lock_keys {
            let bits = u8::from(self.locks.scroll())
                | (u8::from(self.locks.number()) << 1)
                | (u8::from(self.locks.capitals()) << 2);
            Record::LockKeys(bits).write(out);
        }
        if due.cursor {
            self.write_cursor(out);
        }
        if due.cursor_position && self.mouse_mode == MouseMode::Server {
            let edge = |value: i32| u16::try_from(value.max(0)).unwrap_or(u16::MAX);
            let Point { x, y } = self.cursor.position;
            Record::CursorPosition { x: edge(x), y: edge(y) }.write(out);
        }
    }

    const fn abilities(&self) -> u8 {
        let able = &self.abilities;
        let heard = (able.has_sound as u8) << 4;
        match self.rights {
            ViewerRights::Control => {
                (able.takes_clipboard as u8)
                    | ((able.gives_clipboard as u8) << 1)
                    | ((able.follows_window as u8) << 2)
                    | ((able.takes_files as u8) << 3)
                    | heard
                    | ((able.takes_microphone as u8) << 5)
            }
            // Who only looks hears.
            ViewerRights::Look => heard,
            ViewerRights::Wait => 0,
        }
    }

    fn write_cursor(&self, out: &mut Vec<u8>) {
        let Cursor { visible, shape, .. } = self.cursor;
        let picture = match shape {
            Some(shape) => CursorPicture {
                visible: *visible,
                hotspot_x: shape.hot_x,
                hotspot_y: shape.hot_y,
                width: shape.width,
                height: shape.height,
                rgba: &shape.rgba,
            },
            None => CursorPicture {
                visible: *visible,
                hotspot_x: 0,
                hotspot_y: 0,
                width: 0,
                height: 0,
                rgba: &[],
            },
        };
        Record::Cursor(picture).write(out);
    }
}
