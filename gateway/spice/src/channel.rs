//! One channel connection: link, mini headers, acknowledgements, pings (`spice.proto`,
//! `BaseChannel`; `protocol.h`, `SpiceMiniDataHeader`).

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{Refusal, SpiceError};
use crate::link::{Capabilities, ChannelKind, Link, LinkSetup, Linked};
use crate::unsupported::{Feature, Unsupported};
use crate::wire::Reader;

/// Largest message: one picture of 4096 x 4096 at 4 bytes with its description.
pub const MESSAGE_BYTES_MAX: usize = (64 << 20) + (64 << 10);
/// Bytes that may wait to be sent: thousands of inputs or pongs, so a server that does not read.
pub const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// Bytes that may wait to be decoded: the largest message and one generous read.
const INBOX_BYTES_MAX: usize = MESSAGE_BYTES_MAX + (4 << 20);
/// Largest message of the other channels: a pointer of 512 x 512 at 4 bytes, with its mask; the
/// agent's chunks and the sound are far smaller.
const SMALL_MESSAGE_BYTES_MAX: usize = 2 << 20;
/// Bytes from which an emptied inbox gives its memory back, so that one picture does not cost each idle
/// desktop its size for ever: a caret and a clock keep below.
const INBOX_KEPT_BYTES: usize = 4 << 10;
/// Messages inside one MSG_LIST; spice-server sends 2.
const SUB_MESSAGES_MAX: u16 = 64;
/// `SpiceMiniDataHeader`: type u16, size u32.
pub(crate) const HEADER_BYTES: usize = 6;
/// Of our own: a display message that a relay put between the server's (type u16, body). The server
/// does not know of it, so that it is not counted.
pub(crate) const BESIDE: u16 = 60_000;
/// The first of the messages that belong to a channel's kind.
pub(crate) const FIRST_OF_KIND: u16 = 101;

/// `SPICE_MSG_*` of `BaseChannel`.
pub(crate) mod server {
    pub(super) const MIGRATE: u16 = 1;
    pub(super) const MIGRATE_DATA: u16 = 2;
    pub(super) const SET_ACK: u16 = 3;
    pub(super) const PING: u16 = 4;
    pub(super) const WAIT_FOR_CHANNELS: u16 = 5;
    pub(super) const DISCONNECTING: u16 = 6;
    pub(super) const NOTIFY: u16 = 7;
    pub(crate) const LIST: u16 = 8;
}

/// `SPICE_MSGC_*` of `BaseChannel`.
mod client {
    pub(super) const ACK_SYNC: u16 = 1;
    pub(super) const ACK: u16 = 2;
    pub(super) const PONG: u16 = 3;
}

/// A channel connection of any kind, giving the messages of its kind undecoded.
///
/// ```text
/// bytes ──▶ inbox ──▶ Link ──▶ mini headers ──▶ common messages answered here
///                                     └────────▶ the kind's own messages: ChannelEvent::Message
/// ```
#[derive(Debug)]
pub struct Channel {
    kind: ChannelKind,
    phase: Phase,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Messages that were asked for before the link was made.
    held: BytesMut,
    /// What is left of a MSG_LIST.
    sub_messages: VecDeque<Message>,
    acknowledge: Acknowledge,
    serial: u64,
}

#[derive(Debug)]
enum Phase {
    Linking(Box<Link>),
    Open,
}

/// SET_ACK's window and how much of it is used.
#[derive(Debug, Default)]
struct Acknowledge {
    window: u32,
    received: u32,
}

/// What a channel tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// Something that any channel may tell.
    Common(CommonEvent),
    /// A message of the channel's own kind.
    Message(Message),
}

/// An undecoded message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type, by the channel's kind.
    pub kind: u16,
    /// Its body.
    pub body: Bytes,
}

/// What any channel may tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommonEvent {
    /// The link is made; from now on the channel's own messages come.
    Linked(Linked),
    /// NOTIFY: a sentence for the user.
    Notify(Notice),
    /// DISCONNECTING: the server closes the connection now.
    Disconnecting(Refusal),
    /// WAIT_FOR_CHANNELS: what follows on this channel needs these others to have got so far.
    /// Compare with [`Channel::serial`]; do not take further events before.
    WaitForChannels(Vec<ChannelWait>),
    /// Something that is not carried out.
    Unsupported(Unsupported),
}

/// `spice.proto`, `ChannelWait`: a message that must have been handled on another channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelWait {
    /// Kind of the other channel.
    pub kind: ChannelKind,
    /// Its number among those of its kind.
    pub id: u8,
    /// Serial of the message, counted from 1.
    pub serial: u64,
}

/// NOTIFY: what the server wants the user to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How bad it is.
    pub severity: NoticeSeverity,
    /// SpiceError, warning or information number, by severity.
    pub code: u32,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// `enums.h`, `SpiceNotifySeverity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeSeverity {
    /// 0
    Information,
    /// 1
    Warning,
    /// 2, and any number beyond
    Error,
}

impl Channel {
    /// A channel that begins to link; `capabilities` are what the client can on this kind.
    pub fn new(kind: ChannelKind, capabilities: Capabilities, setup: LinkSetup) -> Self {
        let mut outbox = BytesMut::new();
        let link = Link::start(kind, capabilities, setup, &mut outbox);
        Self {
            kind,
            phase: Phase::Linking(Box::new(link)),
            inbox: BytesMut::new(),
            outbox,
            held: BytesMut::new(),
            sub_messages: VecDeque::new(),
            acknowledge: Acknowledge::default(),
            serial: 0,
        }
    }

    /// A channel whose link was made elsewhere.
    #[cfg(test)]
    pub(crate) fn opened(kind: ChannelKind) -> Self {
        let setup = crate::test_support::setup();
        let mut channel = Self::new(kind, Capabilities::default(), setup);
        channel.phase = Phase::Open;
        channel.outbox.clear();
        channel
    }

    /// Takes bytes from the server, in any portions; decode them with [`Self::next_event`].
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), SpiceError> {
        if self.inbox.len().saturating_add(bytes.len()) > INBOX_BYTES_MAX {
            return Err(SpiceError::InboxFull { limit: INBOX_BYTES_MAX });
        }
        self.inbox.extend_from_slice(bytes);
        Ok(())
    }

    /// Decodes until there is something to tell; `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<ChannelEvent>, SpiceError> {
        if let Phase::Linking(link) = &mut self.phase {
            let Some(linked) = link.advance(&mut self.inbox, &mut self.outbox)? else {
                return Ok(None);
            };
            self.phase = Phase::Open;
            self.outbox.unsplit(self.held.split());
            return Ok(Some(ChannelEvent::Common(CommonEvent::Linked(linked))));
        }
        loop {
            let message = match self.sub_messages.pop_front() {
                Some(message) => message,
                None => match self.split_message()? {
                    Some(message) => message,
                    None => return Ok(None),
                },
            };
            if let Some(event) = self.handle(message)? {
                return Ok(Some(event));
            }
        }
    }

    /// All bytes that are to be sent to the server now, if any.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.outbox.is_empty() { None } else { Some(self.outbox.split().freeze()) }
    }

    /// Bytes that wait for [`Self::poll_transmit`], or for the link.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.len() + self.held.len()
    }

    /// Sends a message of the channel's kind, after the link if that is not made yet.
    pub fn send(&mut self, kind: u16, body: &[u8]) -> Result<(), SpiceError> {
        let target = match self.phase {
            Phase::Linking(_) => &mut self.held,
            Phase::Open => &mut self.outbox,
        };
        let after = target.len().saturating_add(HEADER_BYTES).saturating_add(body.len());
        if after > OUTBOX_BYTES_MAX {
            return Err(SpiceError::OutboxFull { limit: OUTBOX_BYTES_MAX });
        }
        put_mini_header(kind, body.len(), target);
        target.put_slice(body);
        Ok(())
    }

    /// Number of messages whose handling has begun, which is the serial of the last one (mini
    /// headers carry none; both sides count from 1).
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// The channel's kind.
    pub const fn kind(&self) -> ChannelKind {
        self.kind
    }

    const fn message_limit(&self) -> usize {
        match self.kind {
            ChannelKind::Display => MESSAGE_BYTES_MAX,
            _ => SMALL_MESSAGE_BYTES_MAX,
        }
    }

    /// Takes one whole message from the inbox and counts it.
    fn split_message(&mut self) -> Result<Option<Message>, SpiceError> {
        let Some([low, high, size @ ..]) = self.inbox.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let kind = u16::from_le_bytes([*low, *high]);
        let value = u32::from_le_bytes(*size);
        let limit = self.message_limit();
        let size = usize::try_from(value).ok().filter(|size| *size <= limit);
        let Some(size) = size else {
            return Err(too_large("message size", value.into(), limit));
        };
        let there = self.inbox.len();
        if there < HEADER_BYTES + size {
            self.inbox.reserve(HEADER_BYTES + size - there);
            return Ok(None);
        }
        self.inbox.advance(HEADER_BYTES);
        let body = self.inbox.split_to(size).freeze();
        if self.inbox.is_empty() && self.inbox.capacity().max(size) > INBOX_KEPT_BYTES {
            self.inbox = BytesMut::new();
        }
        if kind == BESIDE && self.kind == ChannelKind::Display {
            return beside(&body).map(Some);
        }
        self.serial = self.serial.wrapping_add(1);
        if self.acknowledge.window > 0 {
            self.acknowledge.received += 1;
            if self.acknowledge.received >= self.acknowledge.window {
                self.acknowledge.received = 0;
                self.send(client::ACK, &[])?;
            }
        }
        Ok(Some(Message { kind, body }))
    }

    /// Answers a common message, or passes on one of the channel's kind.
    fn handle(&mut self, message: Message) -> Result<Option<ChannelEvent>, SpiceError> {
        let body = &message.body;
        let event = match message.kind {
            server::MIGRATE | server::MIGRATE_DATA => {
                CommonEvent::Unsupported(Unsupported::nowhere(Feature::Migration))
            }
            server::SET_ACK => {
                self.set_acknowledge(body)?;
                return Ok(None);
            }
            server::PING => {
                // id u32, timestamp u64, then padding that is not sent back
                let answer = Reader::new(body, "ping").array::<12>()?;
                self.send(client::PONG, &answer)?;
                return Ok(None);
            }
            server::WAIT_FOR_CHANNELS => CommonEvent::WaitForChannels(channel_waits(
                &mut Reader::new(body, "wait for channels"),
            )?),
            server::DISCONNECTING => {
                let mut reader = Reader::new(body, "disconnecting");
                let _time_stamp = reader.u64()?;
                CommonEvent::Disconnecting(Refusal::from_wire(reader.u32()?))
            }
            server::NOTIFY => CommonEvent::Notify(notice(body)?),
            server::LIST => {
                self.sub_messages = sub_messages(body)?;
                return Ok(None);
            }
            _ => return Ok(Some(ChannelEvent::Message(message))),
        };
        Ok(Some(ChannelEvent::Common(event)))
    }

    /// SET_ACK: generation u32, window u32.
    fn set_acknowledge(&mut self, body: &Bytes) -> Result<(), SpiceError> {
        let mut reader = Reader::new(body, "set ack");
        let generation = reader.u32()?;
        self.acknowledge = Acknowledge { window: reader.u32()?, received: 0 };
        self.send(client::ACK_SYNC, &generation.to_le_bytes())
    }
}

/// `SpiceMiniDataHeader` before a body of this size.
pub(crate) fn put_mini_header(kind: u16, size: usize, out: &mut BytesMut) {
    out.put_u16_le(kind);
    out.put_u32_le(u32::try_from(size).unwrap_or(u32::MAX));
}

/// u8 count, then per channel: type u8, id u8, serial u64.
pub(crate) fn channel_waits(reader: &mut Reader<'_>) -> Result<Vec<ChannelWait>, SpiceError> {
    let count = reader.u8()?;
    let mut waits = Vec::with_capacity(count.into());
    for _ in 0..count {
        let kind = ChannelKind::from_wire(reader.u8()?);
        waits.push(ChannelWait { kind, id: reader.u8()?, serial: reader.u64()? });
    }
    Ok(waits)
}

/// time stamp u64, severity u32, visibility u32, what u32, length u32, text.
fn notice(body: &Bytes) -> Result<Notice, SpiceError> {
    let mut reader = Reader::new(body, "notify");
    let (_time_stamp, severity, _visibility) = (reader.u64()?, reader.u32()?, reader.u32()?);
    let severity = match severity {
        0 => NoticeSeverity::Information,
        1 => NoticeSeverity::Warning,
        _ => NoticeSeverity::Error,
    };
    let code = reader.u32()?;
    let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    let text = reader.bytes(length)?;
    let text = String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned();
    Ok(Notice { severity, code, text })
}

/// `protocol.h`, `SpiceSubMessageList`: count u16, offsets u32; at each: type u16, size u32, body.
pub(crate) fn sub_messages(body: &Bytes) -> Result<VecDeque<Message>, SpiceError> {
    let mut reader = Reader::new(body, "message list");
    let count = reader.u16()?;
    if count > SUB_MESSAGES_MAX {
        return Err(too_large("message list", count.into(), SUB_MESSAGES_MAX.into()));
    }
    let mut messages = VecDeque::with_capacity(count.into());
    for _ in 0..count {
        let offset = reader.u32()?;
        let mut sub = reader.at(offset, "message in a list")?;
        let kind = sub.u16()?;
        if kind == server::LIST {
            return Err(sub.malformed("it is a list itself"));
        }
        let size = usize::try_from(sub.u32()?).unwrap_or(usize::MAX);
        messages.push_back(Message { kind, body: sub.bytes(size)? });
    }
    Ok(messages)
}

/// What is inside of [`BESIDE`].
fn beside(body: &Bytes) -> Result<Message, SpiceError> {
    let mut reader = Reader::new(body, "message of a relay");
    match reader.u16()? {
        kind @ FIRST_OF_KIND.. => Ok(Message { kind, body: reader.rest() }),
        _ => Err(reader.malformed("it is not of the display")),
    }
}

/// A size or count above its limit.
pub(crate) fn too_large(what: &'static str, value: u64, limit: usize) -> SpiceError {
    SpiceError::TooLarge { what, value, limit: u64::try_from(limit).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Body, message};

    fn events(channel: &mut Channel) -> Vec<ChannelEvent> {
        std::iter::from_fn(|| channel.next_event().unwrap()).collect()
    }

    fn sent(channel: &mut Channel) -> Vec<u8> {
        channel.poll_transmit().map(Vec::from).unwrap_or_default()
    }

    #[test]
    fn a_window_of_two_is_acknowledged_after_every_second_message() {
        let mut channel = Channel::opened(ChannelKind::Main);
        channel.receive(&message(3, &Body::default().u32(9).u32(2).0)).unwrap();
        assert_eq!(events(&mut channel), []);
        assert_eq!(sent(&mut channel), message(1, &[9, 0, 0, 0]), "ACK_SYNC with the generation");
        let mut acknowledged = Vec::new();
        for _ in 0..5 {
            channel.receive(&message(200, b"x")).unwrap();
            assert_eq!(events(&mut channel).len(), 1);
            acknowledged.push(sent(&mut channel) == message(2, &[]));
        }
        assert_eq!(acknowledged, [false, true, false, true, false]);
        assert_eq!(channel.serial(), 6);
    }

    #[test]
    fn a_ping_is_answered_without_its_padding() {
        let mut channel = Channel::opened(ChannelKind::Main);
        let ping = Body::default().u32(5).u64(77);
        let padded = [&ping.0[..], &[0; 1000]].concat();
        channel.receive(&message(4, &padded)).unwrap();
        assert_eq!(events(&mut channel), []);
        assert_eq!(sent(&mut channel), message(3, &ping.0));
    }

    #[test]
    fn messages_of_a_list_come_in_order_and_count_as_one() {
        let mut channel = Channel::opened(ChannelKind::Display);
        let wait = Body::default().u8(1).u8(2).u8(0).u64(40);
        let first = message(5, &wait.0);
        let second = message(105, b"yz");
        let at = 2 + 2 * 4;
        let after = at + u32::try_from(first.len()).unwrap();
        let list = Body::default().u16(2).u32(at).u32(after).bytes(&first).bytes(&second);
        channel.receive(&message(8, &list.0)).unwrap();
        let wait = ChannelWait { kind: ChannelKind::Display, id: 0, serial: 40 };
        let expected = [
            ChannelEvent::Common(CommonEvent::WaitForChannels(vec![wait])),
            ChannelEvent::Message(Message { kind: 105, body: Bytes::from_static(b"yz") }),
        ];
        assert_eq!(events(&mut channel), expected);
        assert_eq!(channel.serial(), 1);
    }

    #[test]
    fn a_list_inside_a_list_is_refused() {
        let mut channel = Channel::opened(ChannelKind::Main);
        let list = Body::default().u16(1).u32(6).u16(8).u32(0);
        channel.receive(&message(8, &list.0)).unwrap();
        assert!(matches!(channel.next_event(), Err(SpiceError::Malformed { .. })));
    }

    #[test]
    fn a_message_above_the_limit_is_refused_at_its_header() {
        let header = Body::default().u16(304).u32(u32::MAX);
        for kind in [ChannelKind::Main, ChannelKind::Display] {
            let mut channel = Channel::opened(kind);
            channel.receive(&header.0).unwrap();
            assert!(matches!(channel.next_event(), Err(SpiceError::TooLarge { .. })));
        }
    }

    #[test]
    fn bytes_that_come_singly_give_the_same_messages() {
        let mut channel = Channel::opened(ChannelKind::Main);
        let stream = [message(101, b"abc"), message(102, b""), message(103, b"d")].concat();
        let mut kinds = Vec::new();
        for byte in stream {
            channel.receive(&[byte]).unwrap();
            for event in events(&mut channel) {
                let ChannelEvent::Message(message) = event else { panic!("{event:?}") };
                kinds.push((message.kind, message.body.len()));
            }
        }
        assert_eq!(kinds, [(101, 3), (102, 0), (103, 1)]);
    }

    #[test]
    fn an_owner_that_never_takes_events_or_output_is_stopped() {
        let mut channel = Channel::opened(ChannelKind::Main);
        let chunk = vec![0; 8 << 20];
        let refused = (0..20).find_map(|_| channel.receive(&chunk).err());
        assert_eq!(refused, Some(SpiceError::InboxFull { limit: INBOX_BYTES_MAX }));
        let mut channel = Channel::opened(ChannelKind::Main);
        let refused = (0..OUTBOX_BYTES_MAX).find_map(|_| channel.send(101, &[0; 100]).err());
        assert_eq!(refused, Some(SpiceError::OutboxFull { limit: OUTBOX_BYTES_MAX }));
    }

    #[test]
    fn notify_and_disconnecting_are_told_in_words() {
        let mut channel = Channel::opened(ChannelKind::Main);
        let text = b"keyboard channel is insecure\0";
        let length = u32::try_from(text.len()).unwrap();
        let notify = Body::default().u64(1).u32(1).u32(2).u32(7).u32(length).bytes(text);
        channel.receive(&message(7, &notify.0)).unwrap();
        channel.receive(&message(6, &Body::default().u64(1).u32(7).0)).unwrap();
        let severity = NoticeSeverity::Warning;
        let notice = Notice { severity, code: 7, text: "keyboard channel is insecure".into() };
        let expected = [
            ChannelEvent::Common(CommonEvent::Notify(notice)),
            ChannelEvent::Common(CommonEvent::Disconnecting(Refusal::PermissionDenied)),
        ];
        assert_eq!(events(&mut channel), expected);
    }
}
