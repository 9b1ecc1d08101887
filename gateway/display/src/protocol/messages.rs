//! What the session's user is told by people: a record of its own.

use super::ToldState;

const MESSAGES: u8 = 31;
/// Bytes of a sender's name that are sent.
const FROM_BYTES_MAX: usize = 250;
/// Bytes of a text that are sent: what a controller takes.
const TEXT_BYTES_MAX: usize = 1_000;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserMessage {
    /// Goes up from message to message of a session.
    pub number: u32,
    /// When it was sent, ms since the epoch.
    pub at_ms: u64,
    /// Who sends it, for people; may be empty.
    pub from: String,
    /// What is said.
    pub text: String,
}

impl ToldState {
    /// Record 31: all messages that are still to be shown, oldest first.
    pub fn messages(messages: &[UserMessage]) -> Self {
        let mut body = Vec::new();
        for UserMessage { number, at_ms, from, text } in messages {
            body.extend_from_slice(&number.to_le_bytes());
            body.extend_from_slice(&at_ms.to_le_bytes());
            put_text(&mut body, from, FROM_BYTES_MAX);
            put_text(&mut body, text, TEXT_BYTES_MAX);
        }
        Self::new(MESSAGES, &body)
    }
}

fn put_text(body: &mut Vec<u8>, text: &str, bytes_max: usize) {
    let text = text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default();
    body.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_documented_bytes_and_bounds() {
        let one =
            UserMessage { number: 2, at_ms: 258, from: "Ana".to_owned(), text: "ü".repeat(600) };
        let state = ToldState::messages(std::slice::from_ref(&one));
        let head = b"\x02\0\0\0\x02\x01\0\0\0\0\0\0\x03\0Ana\xe8\x03";
        assert_eq!(state.record[..8], *b"\x1f\0\0\0\xfb\x03\0\0");
        assert_eq!(state.record[8..8 + head.len()], *head);
        assert_eq!(state.record.len(), 8 + head.len() + 1_000);
        assert_eq!(ToldState::messages(&[]).record, b"\x1f\0\0\0\0\0\0\0");
    }
}
