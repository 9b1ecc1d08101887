//! Records about who looks at a session, who asks to, and whether it is recorded
//! (`docs/display-protocol.md`, "Sharing").

use super::ToldState;
use crate::session::ViewerRights;

/// Longest name of a person in a record, in bytes, as its length field takes it.
const NAME_BYTES_MAX: usize = 255;
/// Longest text with the state of a recording, in bytes: a sentence.
const TEXT_BYTES_MAX: usize = 256;

/// Types of the records.
const PEOPLE: u8 = 24;
const REQUESTS: u8 = 25;
const RECORDING: u8 = 26;

/// Who somebody is to the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// 0: its user.
    #[default]
    Owner,
    /// 1: another of the same tenant.
    Colleague,
    /// 2: one of those who help.
    HelpDesk,
}

/// One who looks at the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person<'a> {
    /// The viewer's number.
    pub viewer: u32,
    /// What it may do.
    pub rights: ViewerRights,
    /// It is the one that is told.
    pub is_you: bool,
    /// Who it is.
    pub part: Part,
    /// For people.
    pub name: &'a str,
}

/// One who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking<'a> {
    /// The request's number.
    pub request: u32,
    /// For what.
    pub what: AskedFor,
    /// Who asks.
    pub part: Part,
    /// For people.
    pub name: &'a str,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedFor {
    /// 1: to be let in.
    Entry,
    /// 2: control.
    Control,
}

/// Whether the session is being recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingState<'a> {
    /// 0.
    Off,
    /// 1.
    On,
    /// 2: it ended by a fault, for this reason.
    Failed(&'a str),
}

/// Records 79 to 82 of a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharingMessage {
    /// Type 79: the user's answer to a request; none: refused.
    Answer {
        /// Which.
        request: u32,
        /// What is allowed.
        rights: Option<ViewerRights>,
    },
    /// Type 80: the user changes what a viewer may do; none: it goes.
    Rights {
        /// Which.
        viewer: u32,
        /// What it may do from now on.
        rights: Option<ViewerRights>,
    },
    /// Type 81: control is asked for, or given back.
    Control {
        /// It is asked for.
        wanted: bool,
    },
    /// Type 82: a recording is begun, or ended.
    Record {
        /// It is begun.
        on: bool,
    },
}

impl ToldState {
    /// Record 24.
    pub fn people<'a>(people: impl IntoIterator<Item = Person<'a>>) -> Self {
        let mut body = Vec::new();
        for Person { viewer, rights, is_you, part, name } in people {
            body.extend_from_slice(&viewer.to_le_bytes());
            let bits = u8::from(is_you) | (u8::from(part == Part::Owner) << 1);
            body.extend_from_slice(&[u8::from(rights == ViewerRights::Control), bits, byte(part)]);
            put_name(&mut body, name);
        }
        Self::new(PEOPLE, &body)
    }

    /// Record 25.
    pub fn requests<'a>(requests: impl IntoIterator<Item = Asking<'a>>) -> Self {
        let mut body = Vec::new();
        for Asking { request, what, part, name } in requests {
            body.extend_from_slice(&request.to_le_bytes());
            let what = match what {
                AskedFor::Entry => 1,
                AskedFor::Control => 2,
            };
            body.extend_from_slice(&[what, byte(part), 0]);
            put_name(&mut body, name);
        }
        Self::new(REQUESTS, &body)
    }

    /// Record 26.
    pub fn recording(state: RecordingState<'_>, may_change: bool) -> Self {
        let (state, text) = match state {
            RecordingState::Off => (0, ""),
            RecordingState::On => (1, ""),
            RecordingState::Failed(text) => (2, text),
        };
        let mut body = vec![state, u8::from(may_change)];
        body.extend_from_slice(cut(text, TEXT_BYTES_MAX).as_bytes());
        Self::new(RECORDING, &body)
    }
}

/// The record of a type from 79 to 82; none where the body is malformed.
pub(super) fn decode(kind: u8, body: &[u8]) -> Option<SharingMessage> {
    match (kind, body) {
        (79, &[a, b, c, d, answer, _, _, _]) => Some(SharingMessage::Answer {
            request: u32::from_le_bytes([a, b, c, d]),
            rights: rights(answer)?,
        }),
        (80, &[a, b, c, d, allowed, _, _, _]) => Some(SharingMessage::Rights {
            viewer: u32::from_le_bytes([a, b, c, d]),
            rights: rights(allowed)?,
        }),
        (81, &[wanted @ (0 | 1)]) => Some(SharingMessage::Control { wanted: wanted == 1 }),
        (82, &[on @ (0 | 1)]) => Some(SharingMessage::Record { on: on == 1 }),
        _ => None,
    }
}

const fn rights(byte: u8) -> Option<Option<ViewerRights>> {
    match byte {
        0 => Some(None),
        1 => Some(Some(ViewerRights::Look)),
        2 => Some(Some(ViewerRights::Control)),
        _ => None,
    }
}

const fn byte(part: Part) -> u8 {
    match part {
        Part::Owner => 0,
        Part::Colleague => 1,
        Part::HelpDesk => 2,
    }
}

fn put_name(body: &mut Vec<u8>, name: &str) {
    let name = cut(name, NAME_BYTES_MAX);
    body.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    body.extend_from_slice(name.as_bytes());
}

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_documented_bytes() {
        let ana = Person {
            viewer: 258,
            rights: ViewerRights::Control,
            is_you: true,
            part: Part::Owner,
            name: "Ana",
        };
        let state = ToldState::people([ana]);
        assert_eq!(state.record, b"\x18\0\0\0\x0b\0\0\0\x02\x01\0\0\x01\x03\0\x03Ana");
        let asking = Asking {
            request: 7,
            what: AskedFor::Entry,
            part: Part::HelpDesk,
            name: &"ü".repeat(200),
        };
        let state = ToldState::requests([asking]);
        assert_eq!(state.record[..16], *b"\x19\0\0\0\x06\x01\0\0\x07\0\0\0\x01\x02\0\xfe");
        assert_eq!(ToldState::requests([]).record, b"\x19\0\0\0\0\0\0\0");
        let state = ToldState::recording(RecordingState::Failed("full"), true);
        assert_eq!(state.record, b"\x1a\0\0\0\x06\0\0\0\x02\x01full");
    }

    #[test]
    fn records_of_a_browser_are_read_and_others_are_malformed() {
        let answer = SharingMessage::Answer { request: 513, rights: Some(ViewerRights::Look) };
        assert_eq!(decode(79, &[1, 2, 0, 0, 1, 0, 0, 0]), Some(answer));
        let removed = SharingMessage::Rights { viewer: 1, rights: None };
        assert_eq!(decode(80, &[1, 0, 0, 0, 0, 0, 0, 0]), Some(removed));
        assert_eq!(decode(81, &[1]), Some(SharingMessage::Control { wanted: true }));
        assert_eq!(decode(82, &[0]), Some(SharingMessage::Record { on: false }));
        for (kind, body) in [
            (79, &[0; 7][..]),
            (79, &[0, 0, 0, 0, 3, 0, 0, 0]),
            (80, &[0; 9]),
            (81, &[2]),
            (82, &[]),
        ] {
            assert_eq!(decode(kind, body), None, "{kind} {body:?}");
        }
    }
}
