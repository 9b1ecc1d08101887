//! Messages of the server in bytes (`spice.proto`), each with its mini header.

use bytes::Bytes;

use crate::desk::Op;
use crate::lz;
use crate::picture::Area;

/// `SPICE_MSG_*`
pub(crate) const SET_ACK: u16 = 3;
/// `SPICE_MSG_MAIN_*`
pub(crate) const MAIN_INIT: u16 = 103;
pub(crate) const MAIN_CHANNELS_LIST: u16 = 104;
/// `SPICE_MSG_DISPLAY_*`
const MARK: u16 = 102;
const COPY_BITS: u16 = 104;
const DRAW_FILL: u16 = 302;
const DRAW_COPY: u16 = 304;
const SURFACE_CREATE: u16 = 314;
const SURFACE_DESTROY: u16 = 315;
/// `SPICE_MSG_CURSOR_INIT` and `SPICE_MSG_INPUTS_INIT`
pub(crate) const CHANNEL_INIT: u16 = 101;
/// `SPICE_MSG_INPUTS_MOUSE_MOTION_ACK`
pub(crate) const MOTION_ACK: u16 = 111;

/// `SPICE_ROPD_OP_PUT`
const OP_PUT: u16 = 8;
/// `SPICE_BITMAP_FMT_32BIT`
const FORMAT_32BIT: u8 = 8;
/// `SPICE_BITMAP_FLAGS_TOP_DOWN`
const TOP_DOWN: u8 = 4;
/// `SPICE_IMAGE_TYPE_BITMAP` and `SPICE_IMAGE_TYPE_LZ_RGB`
const IMAGE_BITMAP: u8 = 0;
const IMAGE_LZ_RGB: u8 = 101;
/// `SPICE_SURFACE_FMT_32_xRGB`
const SURFACE_XRGB32: u32 = 32;

/// How a client gets its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Images {
    /// As spice-server sends them over a UNIX socket: as they are.
    Plain,
    /// As it sends them over TCP to a client without GLZ.
    Lz,
}

/// Fields one after another.
#[derive(Debug, Default)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl Body {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    /// `DisplayBase`: surface, rectangle (top, left, bottom, right), no clip.
    fn base(self, area: Area) -> Self {
        self.u32(0).rect(area).u8(0)
    }
    fn rect(self, area: Area) -> Self {
        let (x, y) = (u32::from(area.x), u32::from(area.y));
        self.u32(y).u32(x).u32(y + u32::from(area.height)).u32(x + u32::from(area.width))
    }
    /// `QMask` without a mask: flags, position, pointer.
    fn no_mask(self) -> Self {
        self.u8(0).u32(0).u32(0).u32(0)
    }
}

/// A message with its mini header.
pub(crate) fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 6);
    out.extend(kind.to_le_bytes());
    out.extend((body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// What a client is sent for one change.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) messages: u32,
    pub(crate) chunks: Vec<Bytes>,
}

impl Encoded {
    fn new(messages: Vec<Vec<u8>>) -> Self {
        Self {
            messages: messages.len() as u32,
            chunks: messages.into_iter().map(Bytes::from).collect(),
        }
    }
}

pub(crate) fn encode(op: &Op, images: Images) -> Encoded {
    match op {
        Op::Surface { width, height, again } => {
            let size = Body::default().u32(0).u32((*width).into()).u32((*height).into());
            let create = message(SURFACE_CREATE, &size.u32(SURFACE_XRGB32).u32(1).0);
            let destroy = again.then(|| message(SURFACE_DESTROY, &0_u32.to_le_bytes()));
            Encoded::new(destroy.into_iter().chain([create, message(MARK, &[])]).collect())
        }
        Op::Fill { area, color: [red, green, blue] } => {
            let color = u32::from_le_bytes([*blue, *green, *red, 0]);
            let body = Body::default().base(*area).u8(1).u32(color).u16(OP_PUT).no_mask();
            Encoded::new(vec![message(DRAW_FILL, &body.0)])
        }
        Op::Copy { area, from: (x, y) } => {
            let body = Body::default().base(*area).u32((*x).into()).u32((*y).into());
            Encoded::new(vec![message(COPY_BITS, &body.0)])
        }
        Op::Image { area, pixels } => draw_copy(*area, pixels, images),
    }
}

/// The pixels follow what describes them, without being copied.
fn draw_copy(area: Area, pixels: &Bytes, images: Images) -> Encoded {
    let source = Area { x: 0, y: 0, ..area };
    let (width, height) = (u32::from(area.width), u32::from(area.height));
    let packed = match images {
        Images::Lz => Some(lz::pack(pixels, width, height)).filter(|it| it.len() < pixels.len()),
        Images::Plain => None,
    };
    let head = Body::default().base(area);
    let place = head.0.len() + 4 + 16 + 2 + 1 + 13;
    let head = head.u32(place as u32).rect(source).u16(OP_PUT).u8(0).no_mask();
    let kind = if packed.is_some() { IMAGE_LZ_RGB } else { IMAGE_BITMAP };
    let head = head.u32(0).u32(0).u8(kind).u8(0).u32(width).u32(height);
    let (head, data) = match packed {
        Some(packed) => (head.u32(packed.len() as u32), Bytes::from(packed)),
        None => {
            let form = head.u8(FORMAT_32BIT).u8(TOP_DOWN).u32(width).u32(height);
            (form.u32(width * 4).u32(0), pixels.clone())
        }
    };
    let size = (head.0.len() + data.len()) as u32;
    let begin = Body::default().u16(DRAW_COPY).u32(size).bytes(&head.0);
    Encoded { messages: 1, chunks: vec![Bytes::from(begin.0), data] }
}
