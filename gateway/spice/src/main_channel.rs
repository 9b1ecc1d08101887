//! The main channel: session, mouse mode, list of channels, agent (`spice.proto`, `MainChannel`).

use bytes::Bytes;

use crate::channel::{Channel, ChannelEvent, CommonEvent, Message, too_large};
use crate::error::{Refusal, SpiceError};
use crate::link::{Capabilities, ChannelKind, LinkSetup};
use crate::unsupported::{Feature, Unsupported};
use crate::wire::Reader;

/// Channels of one session; QEMU makes some ten, and the number of a channel has 8 bits.
const CHANNELS_MAX: usize = 1024;
/// Bytes of a desktop's name.
const NAME_BYTES_MAX: usize = 4096;
/// Bytes of the name of a host: what DNS has.
const HOST_BYTES_MAX: usize = 253;

/// `SPICE_MAIN_CAP_NAME_AND_UUID`
const CAPABILITY_NAME_AND_UUID: u32 = 1;
/// `SPICE_MAIN_CAP_AGENT_CONNECTED_TOKENS`
const CAPABILITY_AGENT_CONNECTED_TOKENS: u32 = 2;

/// `SPICE_MSG_MAIN_*`
mod server {
    pub(super) const MIGRATE_BEGIN: u16 = 101;
    pub(super) const MIGRATE_CANCEL: u16 = 102;
    pub(super) const INIT: u16 = 103;
    pub(super) const CHANNELS_LIST: u16 = 104;
    pub(super) const MOUSE_MODE: u16 = 105;
    pub(super) const MULTI_MEDIA_TIME: u16 = 106;
    pub(super) const AGENT_CONNECTED: u16 = 107;
    pub(super) const AGENT_DISCONNECTED: u16 = 108;
    pub(super) const AGENT_DATA: u16 = 109;
    pub(super) const AGENT_TOKEN: u16 = 110;
    pub(super) const MIGRATE_SWITCH_HOST: u16 = 111;
    pub(super) const MIGRATE_END: u16 = 112;
    pub(super) const NAME: u16 = 113;
    pub(super) const UUID: u16 = 114;
    pub(super) const AGENT_CONNECTED_TOKENS: u16 = 115;
    pub(super) const MIGRATE_BEGIN_SEAMLESS: u16 = 116;
    pub(super) const MIGRATE_DESTINATION_SEAMLESS_ACK: u16 = 117;
    pub(super) const MIGRATE_DESTINATION_SEAMLESS_NACK: u16 = 118;
}

/// `SPICE_MSGC_MAIN_*`
mod client {
    pub(super) const MIGRATE_CONNECT_ERROR: u16 = 103;
    pub(super) const ATTACH_CHANNELS: u16 = 104;
    pub(super) const MOUSE_MODE_REQUEST: u16 = 105;
    pub(super) const AGENT_START: u16 = 106;
    pub(super) const AGENT_DATA: u16 = 107;
    pub(super) const AGENT_TOKEN: u16 = 108;
}

/// A main channel connection. It asks for the list of channels, and for absolute mouse positions
/// whenever the desktop can have them, by itself.
///
/// A desktop that moves to another host is followed by linking anew there, when it has moved
/// ([`MainEvent::Moved`]). Connecting beforehand, seamlessly or not, would have to trust the address at a
/// time when nothing has moved; it is not among our capabilities, and a server that begins with it
/// nevertheless is told that it did not work, after which it does without.
#[derive(Debug)]
pub struct MainChannel {
    channel: Channel,
}

/// What the main channel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MainEvent {
    /// Something that any channel may tell.
    Common(CommonEvent),
    /// The session has begun.
    Init(SessionInit),
    /// The mouse mode is, or has become, this.
    MouseMode(MouseModes),
    /// The channels that can be opened.
    Channels(Vec<ChannelName>),
    /// The agent in the guest is there; with the number of messages that it may be sent, where
    /// the server tells that here.
    AgentConnected(Option<u32>),
    /// The agent in the guest is gone.
    AgentDisconnected(Refusal),
    /// A part of an agent's message (at most 2048 bytes). Each is paid back by a token, as
    /// [`crate::Agent`] does.
    AgentData(Bytes),
    /// So many more messages may be sent to the agent.
    AgentTokens(u32),
    /// The clock, in milliseconds, that sound and video are stamped with.
    MultiMediaTime(u32),
    /// The desktop's name.
    Name(String),
    /// The desktop's UUID.
    Uuid([u8; 16]),
    /// The desktop is about to move; it may not come to that, so that nothing is to be done yet.
    Moving(MoveTarget),
    /// It stays: there is nothing to undo.
    Stays,
    /// It is on another host now, if that is true: whoever follows decides which hosts may be named.
    Moved(MoveTarget),
}

/// Where a server says that its desktop goes (`spice.proto`, `DstInfo`). Nothing of it is trustworthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTarget {
    /// A name or an address; letters, digits and `.-:[]%_` only.
    pub host: String,
    /// Where it is reached without TLS.
    pub port: Option<u16>,
    /// Where it is reached by TLS.
    pub tls_port: Option<u16>,
}

/// `spice.proto`, `init` of `MainChannel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionInit {
    /// The `connection_id` of the other channels.
    pub session_id: u32,
    /// How many displays are worth opening.
    pub display_channels_hint: u32,
    /// The mouse mode now.
    pub mouse: MouseModes,
    /// Whether the agent in the guest is there.
    pub agent_connected: bool,
    /// Messages that the agent may be sent.
    pub agent_tokens: u32,
    /// The clock, in milliseconds, that sound and video are stamped with.
    pub multi_media_time: u32,
}

/// How the mouse is told: which ways there are, and which is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MouseModes {
    /// Whether positions are possible (the guest has a tablet or an agent).
    pub client_possible: bool,
    /// The mode now.
    pub current: MouseMode,
}

/// `enums.h`, `SpiceMouseMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MouseMode {
    /// 1: the guest moves its pointer by the motion that it is sent.
    Server,
    /// 2: the guest is told positions.
    Client,
}

/// A channel that the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelName {
    /// Its kind.
    pub kind: ChannelKind,
    /// Its number among those of its kind.
    pub id: u8,
}

impl MouseModes {
    fn new(supported: u32, current: u32) -> Self {
        const CLIENT: u32 = 2;
        let current = if current == CLIENT { MouseMode::Client } else { MouseMode::Server };
        Self { client_possible: supported & CLIENT != 0, current }
    }
}

impl MainChannel {
    /// A main channel that begins to link.
    pub fn new(setup: LinkSetup) -> Self {
        let capabilities =
            Capabilities::of(&[CAPABILITY_NAME_AND_UUID, CAPABILITY_AGENT_CONNECTED_TOKENS]);
        Self { channel: Channel::new(ChannelKind::Main, capabilities, setup) }
    }

    #[cfg(test)]
    pub(crate) const fn over(channel: Channel) -> Self {
        Self { channel }
    }

    /// Takes bytes from the server, in any portions.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), SpiceError> {
        self.channel.receive(bytes)
    }

    /// The next event; `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<MainEvent>, SpiceError> {
        Ok(match self.channel.next_event()? {
            None => None,
            Some(ChannelEvent::Common(common)) => Some(MainEvent::Common(common)),
            Some(ChannelEvent::Message(message)) => Some(self.handle(&message)?),
        })
    }

    /// All bytes that are to be sent to the server now, if any.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.channel.poll_transmit()
    }

    /// Serial of the last message, for [`CommonEvent::WaitForChannels`].
    pub const fn serial(&self) -> u64 {
        self.channel.serial()
    }

    /// Begins to use the agent, and lets the server send so many of its messages. `agent_start`:
    /// tokens u32.
    pub(crate) fn agent_start(&mut self, tokens: u32) -> Result<(), SpiceError> {
        self.channel.send(client::AGENT_START, &tokens.to_le_bytes())
    }

    /// Sends a part of a message to the agent. `agent_data`: bytes.
    pub(crate) fn agent_data(&mut self, chunk: &[u8]) -> Result<(), SpiceError> {
        self.channel.send(client::AGENT_DATA, chunk)
    }

    /// Lets the server send so many more of the agent's messages. `agent_token`: tokens u32.
    pub(crate) fn agent_tokens(&mut self, tokens: u32) -> Result<(), SpiceError> {
        self.channel.send(client::AGENT_TOKEN, &tokens.to_le_bytes())
    }

    /// Bytes that wait for [`Self::poll_transmit`].
    pub(crate) fn unsent(&self) -> usize {
        self.channel.unsent()
    }

    fn handle(&mut self, message: &Message) -> Result<MainEvent, SpiceError> {
        let mut reader = Reader::new(&message.body, "main channel message");
        Ok(match message.kind {
            server::INIT => self.init(&mut reader)?,
            server::CHANNELS_LIST => MainEvent::Channels(channels(&mut reader)?),
            server::MOUSE_MODE => {
                let (supported, current) = (reader.u16()?, reader.u16()?);
                let mouse = MouseModes::new(supported.into(), current.into());
                self.request_positions(mouse)?;
                MainEvent::MouseMode(mouse)
            }
            server::MULTI_MEDIA_TIME => MainEvent::MultiMediaTime(reader.u32()?),
            server::AGENT_CONNECTED => MainEvent::AgentConnected(None),
            server::AGENT_CONNECTED_TOKENS => MainEvent::AgentConnected(Some(reader.u32()?)),
            server::AGENT_DISCONNECTED => {
                MainEvent::AgentDisconnected(Refusal::from_wire(reader.u32()?))
            }
            server::AGENT_DATA => MainEvent::AgentData(reader.rest()),
            server::AGENT_TOKEN => MainEvent::AgentTokens(reader.u32()?),
            server::NAME => MainEvent::Name(name(&mut reader)?),
            server::UUID => MainEvent::Uuid(reader.array()?),
            server::MIGRATE_BEGIN | server::MIGRATE_BEGIN_SEAMLESS => {
                let target = move_target(&mut reader)?;
                self.channel.send(client::MIGRATE_CONNECT_ERROR, &[])?;
                MainEvent::Moving(target)
            }
            server::MIGRATE_CANCEL => MainEvent::Stays,
            server::MIGRATE_SWITCH_HOST => MainEvent::Moved(move_target(&mut reader)?),
            // Of who connected beforehand.
            server::MIGRATE_END
            | server::MIGRATE_DESTINATION_SEAMLESS_ACK
            | server::MIGRATE_DESTINATION_SEAMLESS_NACK => unsupported(Feature::Migration),
            other => unsupported(Feature::Message(other)),
        })
    }

    /// `init`: session, hint, supported and current mouse mode, agent, tokens, clock, memory
    /// hint, u32 each.
    fn init(&mut self, reader: &mut Reader<'_>) -> Result<MainEvent, SpiceError> {
        let (session_id, display_channels_hint) = (reader.u32()?, reader.u32()?);
        let mouse = MouseModes::new(reader.u32()?, reader.u32()?);
        let init = SessionInit {
            session_id,
            display_channels_hint,
            mouse,
            agent_connected: reader.u32()? != 0,
            agent_tokens: reader.u32()?,
            multi_media_time: reader.u32()?,
        };
        let _memory_hint = reader.u32()?;
        self.channel.send(client::ATTACH_CHANNELS, &[])?;
        self.request_positions(mouse)?;
        Ok(MainEvent::Init(init))
    }

    /// `mouse_mode_request`: mode u16.
    fn request_positions(&mut self, mouse: MouseModes) -> Result<(), SpiceError> {
        const CLIENT: u16 = 2;
        match mouse {
            MouseModes { client_possible: true, current: MouseMode::Server } => {
                self.channel.send(client::MOUSE_MODE_REQUEST, &CLIENT.to_le_bytes())
            }
            _ => Ok(()),
        }
    }
}

const fn unsupported(feature: Feature) -> MainEvent {
    MainEvent::Common(CommonEvent::Unsupported(Unsupported::nowhere(feature)))
}

/// `channels_list`: count u32, then type u8, id u8 each.
fn channels(reader: &mut Reader<'_>) -> Result<Vec<ChannelName>, SpiceError> {
    let value = reader.u32()?;
    let count = usize::try_from(value).unwrap_or(usize::MAX);
    if count > CHANNELS_MAX {
        return Err(too_large("number of channels", value.into(), CHANNELS_MAX));
    }
    (0..count)
        .map(|_| Ok(ChannelName { kind: ChannelKind::from_wire(reader.u8()?), id: reader.u8()? }))
        .collect()
}

/// `name`: length u32, bytes with a NUL at their end.
fn name(reader: &mut Reader<'_>) -> Result<String, SpiceError> {
    let value = reader.u32()?;
    let length = usize::try_from(value).unwrap_or(usize::MAX);
    if length > NAME_BYTES_MAX {
        return Err(too_large("desktop's name in bytes", value.into(), NAME_BYTES_MAX));
    }
    let bytes = reader.bytes(length)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
}

/// `DstInfo`: port u16, TLS port u16, length u32 and pointer of the host, of the certificate's subject,
/// with a NUL at their ends. The subject is passed over: what a certificate must be is not for a server
/// to say.
fn move_target(reader: &mut Reader<'_>) -> Result<MoveTarget, SpiceError> {
    let (port, tls_port) = (reader.u16()?, reader.u16()?);
    let (length, host) = (reader.u32()?, reader.pointer()?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let Some(host) = host.filter(|_| length <= HOST_BYTES_MAX + 1) else {
        return Err(reader.malformed("it names no host, or one with too long a name"));
    };
    let host = reader.at(host, "host to move to")?.bytes(length)?;
    let host = host.strip_suffix(b"\0").unwrap_or(&host);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-:[]%_".contains(byte);
    if host.is_empty() || !host.iter().all(is_plain) {
        return Err(reader.malformed("the host to move to has no name that a host can have"));
    }
    // QEMU says -1 where it was told of none.
    let given = |port: u16| (1..u16::MAX).contains(&port).then_some(port);
    Ok(MoveTarget {
        host: String::from_utf8_lossy(host).into_owned(),
        port: given(port),
        tls_port: given(tls_port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Body, message};
    use expect_test::{Expect, expect};

    /// What one message tells, and what the client sends then.
    fn check(kind: u16, body: &Body, expected: Expect) {
        let mut main = MainChannel::over(Channel::opened(ChannelKind::Main));
        main.receive(&message(kind, &body.0)).unwrap();
        let event = main.next_event();
        let sent = main.poll_transmit().unwrap_or_default();
        expected.assert_eq(&format!("{event:?}\nsent {sent:02x?}"));
    }

    #[test]
    fn init_asks_for_the_channels_and_for_positions() {
        let words = [0x11_2233, 1, 3, 1, 1, 10, 123, 0];
        let body = words.into_iter().fold(Body::default(), Body::u32);
        check(
            103,
            &body,
            expect![[r#"
            Ok(Some(Init(SessionInit { session_id: 1122867, display_channels_hint: 1, mouse: MouseModes { client_possible: true, current: Server }, agent_connected: true, agent_tokens: 10, multi_media_time: 123 })))
            sent b"h\0\0\0\0\0i\0\x02\0\0\0\x02\0""#]],
        );
    }

    #[test]
    fn positions_are_not_asked_for_where_there_are_none_or_already() {
        check(
            105,
            &Body::default().u16(1).u16(1),
            expect![[r#"
            Ok(Some(MouseMode(MouseModes { client_possible: false, current: Server })))
            sent b"""#]],
        );
        check(
            105,
            &Body::default().u16(3).u16(2),
            expect![[r#"
            Ok(Some(MouseMode(MouseModes { client_possible: true, current: Client })))
            sent b"""#]],
        );
    }

    #[test]
    fn every_other_message_is_told() {
        let list = Body::default().u32(2).bytes(&[2, 0, 3, 0]);
        check(
            104,
            &list,
            expect![[r#"
            Ok(Some(Channels([ChannelName { kind: Display, id: 0 }, ChannelName { kind: Inputs, id: 0 }])))
            sent b"""#]],
        );
        check(
            104,
            &Body::default().u32(u32::MAX),
            expect![[r#"
            Err(TooLarge { what: "number of channels", value: 4294967295, limit: 1024 })
            sent b"""#]],
        );
        check(
            113,
            &Body::default().u32(3).bytes(b"pc\0"),
            expect![[r#"
            Ok(Some(Name("pc")))
            sent b"""#]],
        );
        check(
            115,
            &Body::default().u32(10),
            expect![[r#"
            Ok(Some(AgentConnected(Some(10))))
            sent b"""#]],
        );
        check(
            109,
            &Body::default().bytes(b"chunk"),
            expect![[r#"
            Ok(Some(AgentData(b"chunk")))
            sent b"""#]],
        );
        check(
            112,
            &Body::default(),
            expect![[r#"
            Ok(Some(Common(Unsupported(Unsupported { feature: Migration, place: None }))))
            sent b"""#]],
        );
        check(
            106,
            &Body::default().u16(1),
            expect![[r#"
            Err(Truncated { what: "main channel message" })
            sent b"""#]],
        );
    }

    fn target(host: &[u8]) -> Body {
        let length = u32::try_from(host.len()).unwrap();
        let body = Body::default().u16(5900).u16(u16::MAX).u32(length).u32(20).u32(0).u32(0);
        body.bytes(host)
    }

    #[test]
    fn a_move_is_told_and_nobody_connects_beforehand() {
        check(
            101,
            &target(b"host-b\0"),
            expect![[r#"
            Ok(Some(Moving(MoveTarget { host: "host-b", port: Some(5900), tls_port: None })))
            sent b"g\0\0\0\0\0""#]],
        );
        check(
            102,
            &Body::default(),
            expect![[r#"
            Ok(Some(Stays))
            sent b"""#]],
        );
        check(
            111,
            &target(b"10.0.0.9"),
            expect![[r#"
            Ok(Some(Moved(MoveTarget { host: "10.0.0.9", port: Some(5900), tls_port: None })))
            sent b"""#]],
        );
    }

    #[test]
    fn a_move_to_no_host_ends_the_channel() {
        let long = [b'a'; 255];
        for host in [&b""[..], b"\0", b"a b", b"a\0b", b"a/b", b"a\nb", b"\xff", &long] {
            let mut main = MainChannel::over(Channel::opened(ChannelKind::Main));
            main.receive(&message(111, &target(host).0)).unwrap();
            assert!(matches!(main.next_event(), Err(SpiceError::Malformed { .. })), "{host:?}");
        }
        let mut main = MainChannel::over(Channel::opened(ChannelKind::Main));
        let nowhere = Body::default().u16(1).u16(2).u32(3).u32(0).u32(0).u32(0);
        main.receive(&message(111, &nowhere.0)).unwrap();
        assert!(main.next_event().is_err());
    }
}
