//! The display channel: from drawing messages to pixels (`spice.proto`, `DisplayChannel`).

pub(crate) mod bitmap;
mod cache;
mod composite;
mod condense;
mod draw;
mod event;
mod form;
mod image;
mod numbers;
mod operations;
mod paint;
mod raster;
mod streams;
mod transfer;
mod vector;
mod work;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use condense::{Condensed, Condenser, Packing, Step};
pub use event::{
    Combine, Copy, CopyBits, CopySource, DisplayEvent, Fill, Head, Monitors, Pixels, Surface,
    SurfaceFormat,
};

pub use paint::{Paint, Painting, View};
pub use streams::STREAMS_MAX;
pub use transfer::{Compression, ImageTransfer};
pub use work::WORK_PER_MESSAGE_MAX;

pub(crate) use bitmap::rgb555;
pub(crate) use numbers::client::PREFERRED_COMPRESSION;

use crate::channel::{Channel, ChannelEvent, CommonEvent, Message, channel_waits, too_large};
use crate::error::SpiceError;
use crate::geometry::{Point, Rect, SurfaceId};
use crate::link::{ChannelKind, LinkSetup, Linked};
use crate::unsupported::{Feature, Operation, Unsupported};
use crate::wire::Reader;

use image::Caches;
use numbers::{client, server};

/// Longest side of a surface, in pixels: twice an 8K monitor.
pub const SURFACE_SIDE_MAX: u32 = 16_384;
/// Pixels of one surface: an 8K monitor or four of 4K.
pub const SURFACE_PIXELS_MAX: u64 = 7680 * 4352;
/// Surfaces at once; QXL's default.
pub const SURFACES_MAX: usize = 1024;
/// Monitors of one channel; SPICE's own limit is 256, QXL's is 16.
pub const HEADS_MAX: u16 = 64;

/// A display channel connection.
#[derive(Debug)]
pub struct DisplayChannel {
    channel: Channel,
    /// Our number for the caches at the server; one of our own, so that no other display channel
    /// puts images into, or evicts them from, this channel's caches.
    cache_id: u8,
    transfer: ImageTransfer,
    caches: Caches,
    /// The message that is to be handled again, and the image that it needs.
    waiting: Option<(Message, u64)>,
    /// The second event of the last message.
    second: Option<DisplayEvent>,
    streams: streams::Streams,
    surfaces: BTreeMap<SurfaceId, Surface>,
    work: work::Work,
}

impl DisplayChannel {
    /// A display channel that begins to link, to a server that need not compress images.
    pub fn new(setup: LinkSetup) -> Self {
        Self::with_images(setup, ImageTransfer::uncompressed())
    }

    /// A display channel that begins to link, whose images come as `transfer` says.
    pub fn with_images(setup: LinkSetup, transfer: ImageTransfer) -> Self {
        let cache_id = setup.channel_id;
        let capabilities = ImageTransfer::capabilities();
        Self::over(Channel::new(ChannelKind::Display, capabilities, setup), cache_id, transfer)
    }

    fn over(channel: Channel, cache_id: u8, transfer: ImageTransfer) -> Self {
        let caches = Caches::new(transfer.dictionary.clone());
        Self {
            channel,
            cache_id,
            transfer,
            caches,
            waiting: None,
            second: None,
            streams: BTreeMap::new(),
            surfaces: BTreeMap::new(),
            work: work::Work::default(),
        }
    }

    /// Takes bytes from the server, in any portions.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), SpiceError> {
        self.channel.receive(bytes)
    }

    /// The next effect; `None` when more bytes are needed, or [`Self::awaited_image`].
    pub fn next_event(&mut self) -> Result<Option<DisplayEvent>, SpiceError> {
        if let Some(second) = self.second.take() {
            return Ok(Some(second));
        }
        if let Some((message, awaited)) = self.waiting.take() {
            if !self.transfer.dictionary.has_seen(awaited) {
                self.waiting = Some((message, awaited));
                return Ok(None);
            }
            if let Some(event) = self.handle_or_wait(message)? {
                return Ok(Some(event));
            }
        }
        while self.waiting.is_none()
            && let Some(event) = self.channel.next_event()?
        {
            match event {
                ChannelEvent::Common(CommonEvent::Linked(linked)) => {
                    self.initialise(linked)?;
                    return Ok(Some(DisplayEvent::Common(CommonEvent::Linked(linked))));
                }
                ChannelEvent::Common(CommonEvent::Unsupported(unsupported)) => {
                    return Ok(Some(DisplayEvent::Unsupported(unsupported)));
                }
                ChannelEvent::Common(common) => return Ok(Some(DisplayEvent::Common(common))),
                ChannelEvent::Message(message) => {
                    if let Some(event) = self.handle_or_wait(message)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
        Ok(None)
    }

    /// All bytes that are to be sent to the server now, if any.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.channel.poll_transmit()
    }

    /// The image that another display channel is to bring before this one can go on, by its
    /// number in the [`crate::GlzDictionary`] that both share. Once that channel's events were
    /// taken, this one's are to be asked for again.
    pub fn awaited_image(&self) -> Option<u64> {
        self.waiting.as_ref().map(|(_, awaited)| *awaited)
    }

    /// What the events since the last time cost, with what their owner has to do for them: in units of
    /// about one written pixel. No message costs more than [`WORK_PER_MESSAGE_MAX`].
    pub fn take_work(&mut self) -> u64 {
        self.work.take()
    }

    /// Serial of the last message, for [`CommonEvent::WaitForChannels`].
    pub fn serial(&self) -> u64 {
        self.channel.serial().saturating_sub(u64::from(self.waiting.is_some()))
    }

    /// Before `init`, since the server sends the first picture as soon as it has that: the
    /// compression.
    fn initialise(&mut self, linked: Linked) -> Result<(), SpiceError> {
        if let Some(compression) = self.transfer.compression
            && linked.channel.has(transfer::CAPABILITY_PREFERRED_COMPRESSION)
        {
            self.channel.send(PREFERRED_COMPRESSION, &[compression.number()])?;
        }
        self.channel.send(client::INIT, &self.transfer.init(self.cache_id))
    }

    /// Handles a message, or keeps it when an image in it refers to one that has not come.
    fn handle_or_wait(&mut self, message: Message) -> Result<Option<DisplayEvent>, SpiceError> {
        self.work.begin();
        let event = self.handle(&message)?;
        self.work.add(self.caches.take_work())?;
        for event in [&event, &self.second].into_iter().flatten() {
            self.work.add(work::of_event(event))?;
        }
        match self.caches.settle() {
            None => Ok(event),
            Some(awaited) => {
                self.second = None;
                self.waiting = Some((message, awaited));
                Ok(None)
            }
        }
    }

    fn handle(&mut self, message: &Message) -> Result<Option<DisplayEvent>, SpiceError> {
        let body = &message.body;
        match message.kind {
            server::COPY_BITS
            | server::DRAW_FILL..=server::DRAW_ALPHA_BLEND
            | server::DRAW_COMPOSITE => self.draw(message.kind, body),
            server::SURFACE_CREATE => self.surface_create(body).map(Some),
            server::SURFACE_DESTROY => self.surface_destroy(body),
            server::MODE => self.mode(body).map(Some),
            server::MONITORS_CONFIG => monitors(body).map(Some),
            server::MARK => Ok(Some(DisplayEvent::Mark)),
            server::RESET => {
                self.caches.palettes.clear();
                Ok(Some(DisplayEvent::Reset))
            }
            server::INVAL_LIST
            | server::INVAL_ALL_PIXMAPS
            | server::INVAL_PALETTE
            | server::INVAL_ALL_PALETTES => self.invalidate(message),
            server::STREAM_CREATE..=server::STREAM_DESTROY_ALL | server::STREAM_DATA_SIZED => {
                self.stream(message.kind, body)
            }
            server::STREAM_ACTIVATE_REPORT => Ok(None),
            server::GL_SCANOUT_UNIX | server::GL_DRAW => {
                let feature = Feature::Operation(Operation::Gl);
                Ok(Some(DisplayEvent::Unsupported(Unsupported::nowhere(feature))))
            }
            other => {
                let feature = Feature::Message(other);
                Ok(Some(DisplayEvent::Unsupported(Unsupported::nowhere(feature))))
            }
        }
    }

    /// `surface_create`: id u32, width u32, height u32, format u32, flags u32.
    fn surface_create(&mut self, body: &Bytes) -> Result<DisplayEvent, SpiceError> {
        let mut reader = Reader::new(body, "surface");
        let id = SurfaceId(reader.u32()?);
        let (width, height) = (reader.u32()?, reader.u32()?);
        let format = match reader.u32()? {
            1 => SurfaceFormat::Alpha1,
            8 => SurfaceFormat::Alpha8,
            16 => SurfaceFormat::Rgb555,
            80 => SurfaceFormat::Rgb565,
            32 => SurfaceFormat::Xrgb32,
            96 => SurfaceFormat::Argb32,
            _ => return Err(reader.malformed("its format is unknown")),
        };
        let primary = reader.u32()? & 1 != 0;
        self.add_surface(Surface { id, width, height, format, primary })
    }

    /// `mode`, of servers without surfaces: width u32, height u32, bits u32.
    fn mode(&mut self, body: &Bytes) -> Result<DisplayEvent, SpiceError> {
        let mut reader = Reader::new(body, "mode");
        let (width, height, bits) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let format = if bits == 16 { SurfaceFormat::Rgb555 } else { SurfaceFormat::Xrgb32 };
        self.add_surface(Surface { id: SurfaceId(0), width, height, format, primary: true })
    }

    fn add_surface(&mut self, surface: Surface) -> Result<DisplayEvent, SpiceError> {
        let Surface { id, width, height, .. } = surface;
        let side = width.max(height);
        if width == 0 || height == 0 {
            return Err(SpiceError::Malformed { what: "surface", problem: "it has no pixels" });
        }
        if side > SURFACE_SIDE_MAX {
            let (what, limit) = ("surface's longest side", SURFACE_SIDE_MAX.into());
            return Err(SpiceError::TooLarge { what, value: side.into(), limit });
        }
        let area = u64::from(width) * u64::from(height);
        if area > SURFACE_PIXELS_MAX {
            let (what, limit) = ("surface's number of pixels", SURFACE_PIXELS_MAX);
            return Err(SpiceError::TooLarge { what, value: area, limit });
        }
        if self.surfaces.len() >= SURFACES_MAX && !self.surfaces.contains_key(&id) {
            let count = u64::try_from(self.surfaces.len()).unwrap_or(u64::MAX);
            return Err(too_large("number of surfaces", count.saturating_add(1), SURFACES_MAX));
        }
        self.surfaces.insert(id, surface);
        Ok(DisplayEvent::SurfaceCreated(surface))
    }

    fn surface_destroy(&mut self, body: &Bytes) -> Result<Option<DisplayEvent>, SpiceError> {
        let id = SurfaceId(Reader::new(body, "surface destruction").u32()?);
        Ok(Some(match self.surfaces.remove(&id) {
            Some(_surface) => DisplayEvent::SurfaceDestroyed(id),
            None => DisplayEvent::Unsupported(Unsupported::nowhere(Feature::UnknownSurface(id))),
        }))
    }

    /// `inval_list`; `inval_all_pixmaps`: channels to wait for; `inval_palette`: id u64.
    fn invalidate(&mut self, message: &Message) -> Result<Option<DisplayEvent>, SpiceError> {
        let mut reader = Reader::new(&message.body, "invalidation");
        match message.kind {
            server::INVAL_LIST => {
                for id in forgotten_pixmaps(&message.body)? {
                    self.caches.pixmaps.remove(id);
                }
            }
            server::INVAL_ALL_PIXMAPS => {
                let waits = channel_waits(&mut reader)?;
                self.caches.pixmaps.clear();
                if !waits.is_empty() {
                    let event = CommonEvent::WaitForChannels(waits);
                    return Ok(Some(DisplayEvent::Common(event)));
                }
            }
            server::INVAL_PALETTE => self.caches.palettes.remove(reader.u64()?),
            _ => self.caches.palettes.clear(),
        }
        Ok(None)
    }
}

/// `inval_list`: count u16, then type u8, id u64 each.
fn forgotten_pixmaps(body: &Bytes) -> Result<Vec<u64>, SpiceError> {
    /// `SPICE_RES_TYPE_PIXMAP`
    const PIXMAP: u8 = 1;
    let mut reader = Reader::new(body, "invalidation");
    let mut images = Vec::new();
    for _ in 0..reader.u16()? {
        let (kind, id) = (reader.u8()?, reader.u64()?);
        if kind == PIXMAP {
            images.push(id);
        }
    }
    Ok(images)
}

/// `monitors_config`: count u16, most allowed u16, then per head: id, surface, width, height, x,
/// y, flags, u32 each.
fn monitors(body: &Bytes) -> Result<DisplayEvent, SpiceError> {
    let mut reader = Reader::new(body, "monitors");
    let (count, allowed_max) = (reader.u16()?, reader.u16()?);
    if count > HEADS_MAX {
        return Err(too_large("number of monitors", count.into(), HEADS_MAX.into()));
    }
    let mut heads = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (id, surface) = (reader.u32()?, SurfaceId(reader.u32()?));
        let size = Rect::of_size(reader.u32()?, reader.u32()?);
        let corner = [reader.u32()?, reader.u32()?];
        let [x, y] = corner.map(|edge| i32::try_from(edge).unwrap_or(i32::MAX));
        let _flags = reader.u32()?;
        heads.push(Head { id, surface, area: size.moved(Point::new(x, y)) });
    }
    Ok(DisplayEvent::Monitors(Monitors { allowed_max, heads }))
}

#[cfg(test)]
pub(crate) mod tests;
