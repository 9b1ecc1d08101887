//! The agent's messages as bytes (`spice/vd_agent.h`), both ways.

use bytes::{BufMut, Bytes};

use super::files::kind as file;
use super::screens::put_screens;
use super::{CLIPBOARD_BYTES_MAX, ClipboardKind, ClipboardPiece};
use crate::geometry::Rect;
use crate::wire::Reader;

/// `VDAgentMessage`: protocol u32, type u32, opaque u64, size u32.
pub(super) const HEADER_BYTES: usize = 20;
/// `VD_AGENT_PROTOCOL`
const PROTOCOL: u32 = 1;

/// Bytes of a message that is not a clipboard: 256 types of a grab, 8,000 capabilities.
const SMALL_BYTES_MAX: usize = 1032;
/// `selection` and `type` before a clipboard's own bytes.
const CLIPBOARD_FIELDS_BYTES: usize = 8;

/// `VD_AGENT_*`, the types of messages.
mod kind {
    pub(super) const MONITORS_CONFIG: u32 = 2;
    pub(super) const CLIPBOARD: u32 = 4;
    pub(super) const ANNOUNCE_CAPABILITIES: u32 = 6;
    pub(super) const CLIPBOARD_GRAB: u32 = 7;
    pub(super) const CLIPBOARD_REQUEST: u32 = 8;
    pub(super) const CLIPBOARD_RELEASE: u32 = 9;
    pub(super) const MAX_CLIPBOARD: u32 = 14;
}

/// `VD_AGENT_CAP_*`
mod capability {
    pub(super) const MONITORS_CONFIG: u32 = 1;
    pub(super) const REPLY: u32 = 2;
    pub(super) const CLIPBOARD_BY_DEMAND: u32 = 5;
    pub(super) const CLIPBOARD_SELECTION: u32 = 6;
    pub(super) const SPARSE_MONITORS_CONFIG: u32 = 7;
    pub(super) const GUEST_LINE_END_CRLF: u32 = 9;
    pub(super) const MAX_CLIPBOARD: u32 = 10;
    pub(super) const FILE_XFER_DISABLED: u32 = 13;
    pub(super) const FILE_XFER_DETAILED_ERRORS: u32 = 14;
    pub(super) const CLIPBOARD_NO_RELEASE_ON_REGRAB: u32 = 16;
    pub(super) const CLIPBOARD_GRAB_SERIAL: u32 = 17;
}

/// What one side can: a bit for each of the first 32 capabilities; there are 18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities(u32);

/// What the beginning of a message says of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    protocol: u32,
    kind: u32,
    /// Bytes that follow.
    pub(super) size: u32,
}

/// A message of the agent about what is carried out here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Capabilities, and whether ours are asked for.
    Announced {
        request: bool,
        capabilities: Capabilities,
    },
    Grab {
        serial: Option<u32>,
        text: bool,
        png: bool,
    },
    /// `None`: a kind that is not carried over.
    Request(Option<ClipboardKind>),
    /// `None`: a kind that is not carried over, or no clipboard at all.
    Clipboard(Option<ClipboardKind>, Bytes),
    Release,
    /// How a file gets on; `free` is the room on the guest's disk where it is told.
    FileStatus {
        id: u32,
        result: u32,
        free: Option<u64>,
    },
}

/// A message to the agent, before it is known when it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    Announce {
        request: bool,
    },
    MaxClipboard,
    /// By number; those that are off have no size.
    Monitors(Vec<Rect>),
    Grab(ClipboardKind),
    Release,
    Request(ClipboardKind),
    /// `None`: there is nothing of what was asked for.
    Clipboard(Option<ClipboardPiece>),
}

impl Capabilities {
    pub(super) const NONE: Self = Self(0);

    /// What is carried out here.
    const OWN: Self = Self(
        (1 << capability::MONITORS_CONFIG)
            | (1 << capability::REPLY)
            | (1 << capability::CLIPBOARD_BY_DEMAND)
            | (1 << capability::CLIPBOARD_SELECTION)
            | (1 << capability::FILE_XFER_DETAILED_ERRORS)
            | (1 << capability::CLIPBOARD_NO_RELEASE_ON_REGRAB)
            | (1 << capability::CLIPBOARD_GRAB_SERIAL),
    );

    const fn has(self, capability: u32) -> bool {
        self.0 & (1 << capability) != 0
    }

    /// A list of monitors may have some that are off.
    const fn has_sparse_monitors(self) -> bool {
        self.has(capability::SPARSE_MONITORS_CONFIG)
    }

    pub(super) const fn has_monitors(self) -> bool {
        self.has(capability::MONITORS_CONFIG)
    }

    /// Grabs and requests, as every agent since 2010 has them.
    pub(super) const fn has_clipboard(self) -> bool {
        self.has(capability::CLIPBOARD_BY_DEMAND)
    }

    /// Every agent takes files unless it says otherwise; none that has said nothing does.
    pub(super) const fn has_files(self) -> bool {
        self.0 != 0 && !self.has(capability::FILE_XFER_DISABLED)
    }

    pub(super) const fn has_limit(self) -> bool {
        self.has(capability::MAX_CLIPBOARD)
    }

    /// Lines of its texts end as on Windows.
    pub(super) const fn has_long_line_ends(self) -> bool {
        self.has(capability::GUEST_LINE_END_CRLF)
    }

    /// A grab after a grab needs no release in between.
    pub(super) const fn has_regrab(self) -> bool {
        self.has(capability::CLIPBOARD_NO_RELEASE_ON_REGRAB)
    }

    // What both sides can changes the layout. Ours are announced before anything else is said.
    const fn has_selection(self) -> bool {
        self.has(capability::CLIPBOARD_SELECTION)
    }

    const fn has_serial(self) -> bool {
        self.has(capability::CLIPBOARD_GRAB_SERIAL)
    }
}

impl ClipboardKind {
    /// `VD_AGENT_CLIPBOARD_*`
    const fn number(self) -> u32 {
        match self {
            Self::Text => 1,
            Self::Png => 2,
        }
    }

    const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Text),
            2 => Some(Self::Png),
            _ => None,
        }
    }
}

impl Header {
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [p0, p1, p2, p3, k0, k1, k2, k3, _, _, _, _, _, _, _, _, s0, s1, s2, s3] = *bytes;
        Self {
            protocol: u32::from_le_bytes([p0, p1, p2, p3]),
            kind: u32::from_le_bytes([k0, k1, k2, k3]),
            size: u32::from_le_bytes([s0, s1, s2, s3]),
        }
    }

    /// Whether the agent's bytes can be understood at all.
    pub(super) const fn is_known_protocol(self) -> bool {
        self.protocol == PROTOCOL
    }

    /// The size of a body that is worth keeping; `None` where the message is skipped. `asked` is
    /// what the agent is to give of its clipboard.
    pub(super) fn kept_size(self, asked: Option<ClipboardKind>) -> Option<usize> {
        let limit = match self.kind {
            kind::ANNOUNCE_CAPABILITIES
            | kind::CLIPBOARD_GRAB
            | kind::CLIPBOARD_REQUEST
            | kind::CLIPBOARD_RELEASE
            | file::STATUS => SMALL_BYTES_MAX,
            kind::CLIPBOARD => asked?.bytes_max() + CLIPBOARD_FIELDS_BYTES,
            _ => return None,
        };
        usize::try_from(self.size).ok().filter(|size| *size <= limit)
    }

    /// Decodes a body; `None` for another selection than the clipboard, and for what is cut short.
    pub(super) fn decode(self, body: &Bytes, agent: Capabilities) -> Option<Incoming> {
        let mut reader = Reader::new(body, "agent's message");
        if self.kind == kind::ANNOUNCE_CAPABILITIES {
            let request = reader.u32().ok()? != 0;
            let capabilities = Capabilities(reader.u32().unwrap_or(0));
            return Some(Incoming::Announced { request, capabilities });
        }
        if self.kind == file::STATUS {
            let (id, result) = (reader.u32().ok()?, reader.u32().ok()?);
            return Some(Incoming::FileStatus { id, result, free: reader.u64().ok() });
        }
        if agent.has_selection() {
            const CLIPBOARD: u8 = 0;
            let [selection, _, _, _] = reader.array().ok()?;
            if selection != CLIPBOARD {
                return None;
            }
        }
        Some(match self.kind {
            kind::CLIPBOARD_GRAB => {
                let serial = if agent.has_serial() { Some(reader.u32().ok()?) } else { None };
                let (mut text, mut png) = (false, false);
                while let Ok(number) = reader.u32() {
                    let offered = ClipboardKind::from_number(number);
                    text |= offered == Some(ClipboardKind::Text);
                    png |= offered == Some(ClipboardKind::Png);
                }
                Incoming::Grab { serial, text, png }
            }
            kind::CLIPBOARD_REQUEST => {
                Incoming::Request(ClipboardKind::from_number(reader.u32().ok()?))
            }
            kind::CLIPBOARD => {
                let offered = ClipboardKind::from_number(reader.u32().ok()?);
                Incoming::Clipboard(offered, reader.rest())
            }
            kind::CLIPBOARD_RELEASE => Incoming::Release,
            _ => return None,
        })
    }
}

impl Outgoing {
    /// The message without, and then with only, a clipboard's own bytes.
    pub(super) fn encode(self, agent: Capabilities, serial: u32) -> (Bytes, Bytes) {
        let mut fields = Vec::new();
        let mut data = Bytes::new();
        if agent.has_selection() && self.is_about_clipboard() {
            fields.put_slice(&[0; 4]);
        }
        let kind = match self {
            Self::Announce { request } => {
                fields.put_u32_le(request.into());
                fields.put_u32_le(Capabilities::OWN.0);
                kind::ANNOUNCE_CAPABILITIES
            }
            Self::MaxClipboard => {
                fields.put_i32_le(i32::try_from(CLIPBOARD_BYTES_MAX).unwrap_or(i32::MAX));
                kind::MAX_CLIPBOARD
            }
            Self::Monitors(mut screens) => {
                if !agent.has_sparse_monitors() {
                    screens.retain(|screen| !screen.is_empty());
                }
                put_screens(&mut fields, &screens);
                kind::MONITORS_CONFIG
            }
            Self::Grab(offered) => {
                if agent.has_serial() {
                    fields.put_u32_le(serial);
                }
                fields.put_u32_le(offered.number());
                kind::CLIPBOARD_GRAB
            }
            Self::Release => kind::CLIPBOARD_RELEASE,
            Self::Request(asked) => {
                fields.put_u32_le(asked.number());
                kind::CLIPBOARD_REQUEST
            }
            Self::Clipboard(piece) => {
                fields.put_u32_le(piece.as_ref().map_or(0, |piece| piece.kind.number()));
                data = piece.map(|piece| piece.data).unwrap_or_default();
                kind::CLIPBOARD
            }
        };
        (with_header(kind, &fields, data.len()), data)
    }

    const fn is_about_clipboard(&self) -> bool {
        match self {
            Self::Grab(_) | Self::Release | Self::Request(_) | Self::Clipboard(_) => true,
            Self::Announce { .. } | Self::MaxClipboard | Self::Monitors(_) => false,
        }
    }
}

/// A message's header and fields, with so many bytes to follow.
pub(super) fn with_header(kind: u32, fields: &[u8], follow: usize) -> Bytes {
    let mut message = Vec::with_capacity(HEADER_BYTES + fields.len());
    message.put_u32_le(PROTOCOL);
    message.put_u32_le(kind);
    message.put_u64_le(0);
    // A piece has at most 8 MiB, twice that with long line ends.
    message.put_u32_le(u32::try_from(fields.len() + follow).unwrap_or(u32::MAX));
    message.put_slice(fields);
    message.into()
}

/// The text with lines that end with CRLF, or LF, whichever of them they ended with.
pub(super) fn with_line_ends(text: &[u8], long: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'\r' if rest.peek() == Some(&b'\n') => {}
            b'\n' if long => out.extend_from_slice(b"\r\n"),
            other => out.push(other),
        }
    }
    out
}
