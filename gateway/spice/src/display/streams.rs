//! Video streams as frames that are drawn (`spice.proto`, `stream_create` and what follows it).
//!
//! Motion JPEG is decoded here; every frame is a picture of its own and drawn where the stream is.
//! The time at which a frame is to be shown is passed over: the newest is the best.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::channel::too_large;
use crate::codec::{Size, jpeg};
use crate::error::SpiceError;
use crate::geometry::{Rect, SurfaceId};
use crate::unsupported::{Feature, Unsupported};
use crate::wire::Reader;

use super::DisplayChannel;
use super::bitmap::{Bitmap, Picture};
use super::draw::{self, Base};
use super::event::DisplayEvent;
use super::numbers::server;
use super::work;

/// Streams at once; spice-server has 50.
pub const STREAMS_MAX: usize = 64;

/// `SPICE_VIDEO_CODEC_TYPE_MJPEG`
const MOTION_JPEG: u8 = 1;
/// `SPICE_STREAM_FLAGS_TOP_DOWN`
const TOP_DOWN: u8 = 1;

/// The streams that are shown, by their numbers.
pub(super) type Streams = BTreeMap<u32, Stream>;

/// Where a stream is shown and what its frames are.
#[derive(Debug)]
pub(super) struct Stream {
    surface: SurfaceId,
    place: Rect,
    clip: Option<Vec<Rect>>,
    top_down: bool,
    width: u32,
    height: u32,
}

impl DisplayChannel {
    /// Any `stream_*` message that shows something or tells what is shown.
    pub(super) fn stream(
        &mut self,
        kind: u16,
        body: &Bytes,
    ) -> Result<Option<DisplayEvent>, SpiceError> {
        let mut reader = Reader::new(body, "stream");
        match kind {
            server::STREAM_CREATE => self.stream_create(&mut reader),
            server::STREAM_DATA | server::STREAM_DATA_SIZED => self.stream_data(kind, &mut reader),
            server::STREAM_CLIP => {
                let id = reader.u32()?;
                let clip = draw::clip(&mut reader)?;
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.clip = clip;
                }
                Ok(None)
            }
            server::STREAM_DESTROY => {
                self.streams.remove(&reader.u32()?);
                Ok(None)
            }
            _ => {
                self.streams.clear();
                Ok(None)
            }
        }
    }

    /// `stream_create`: surface u32, id u32, flags u8, codec u8, stamp u64, width u32, height u32
    /// of a frame, of its source, place, clip.
    fn stream_create(
        &mut self,
        reader: &mut Reader<'_>,
    ) -> Result<Option<DisplayEvent>, SpiceError> {
        let (surface, id) = (SurfaceId(reader.u32()?), reader.u32()?);
        let (flags, codec, _stamp) = (reader.u8()?, reader.u8()?, reader.u64()?);
        let (width, height) = (reader.u32()?, reader.u32()?);
        let _source_size = reader.array::<8>()?;
        let place = reader.rect()?;
        let clip = draw::clip(reader)?;
        if codec != MOTION_JPEG {
            self.streams.remove(&id);
            let feature = Feature::Stream(codec);
            let place = Some((surface, place));
            return Ok(Some(DisplayEvent::Unsupported(Unsupported { feature, place })));
        }
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(&id) {
            let count = u64::try_from(self.streams.len()).unwrap_or(u64::MAX);
            return Err(too_large("number of streams", count.saturating_add(1), STREAMS_MAX));
        }
        let top_down = flags & TOP_DOWN != 0;
        self.streams.insert(id, Stream { surface, place, clip, top_down, width, height });
        Ok(None)
    }

    /// `stream_data`: id u32, time u32, size u32, frame; `stream_data_sized` has after the time
    /// width u32, height u32 and place of this frame.
    fn stream_data(
        &mut self,
        kind: u16,
        reader: &mut Reader<'_>,
    ) -> Result<Option<DisplayEvent>, SpiceError> {
        let (id, _time) = (reader.u32()?, reader.u32()?);
        // One that could not be shown was named when it was created.
        let Some(stream) = self.streams.get(&id) else { return Ok(None) };
        let (width, height, place) = if kind == server::STREAM_DATA_SIZED {
            (reader.u32()?, reader.u32()?, reader.rect()?)
        } else {
            (stream.width, stream.height, stream.place)
        };
        let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        let (base, top_down) =
            (Base::new(stream.surface, place, stream.clip.clone()), stream.top_down);
        let size = Size::new(width, height)?;
        self.caches.count(width, height, work::COMPUTED);
        let frame = frame(&reader.bytes(length)?, size, top_down)?;
        self.draw_frame(&base, frame)
    }
}

fn frame(packed: &Bytes, size: Size, top_down: bool) -> Result<Picture, SpiceError> {
    let unpacked = jpeg::unpack(packed, size)?;
    let (Size { width, height }, stride) = (unpacked.size, unpacked.stride);
    let (format, data) = (unpacked.format, unpacked.data);
    Bitmap { format, width, height, stride, top_down, palette: &[], data }.decode()
}

#[cfg(test)]
mod tests {
    use crate::codec::samples;
    use crate::display::event::{Copy, CopySource};
    use crate::display::tests::display;
    use crate::test_support::{Body, message};

    use super::*;

    fn tell(channel: &mut DisplayChannel, kind: u16, body: &Body) -> Option<DisplayEvent> {
        channel.receive(&message(kind, &body.0)).unwrap();
        channel.next_event().unwrap()
    }

    fn rect(body: Body, [left, top, right, bottom]: [i32; 4]) -> Body {
        body.i32s(&[top, left, bottom, right])
    }

    /// A stream of 8 x 8 on surface 0.
    fn create(id: u32, flags: u8, place: [i32; 4]) -> Body {
        let body = Body::default().u32(0).u32(id).u8(flags).u8(MOTION_JPEG).u64(0);
        rect(body.u32(8).u32(8).u32(8).u32(8), place).u8(0)
    }

    /// A frame that is dark in its upper and light in its lower half.
    fn data(id: u32) -> Body {
        let frame = samples::jpeg(Size { width: 8, height: 16 }, &[0, 255]);
        let length = u32::try_from(frame.len()).unwrap();
        let body = Body::default().u32(id).u32(0).u32(8).u32(16);
        rect(body, [0, 0, 8, 16]).u32(length).bytes(&frame)
    }

    fn shown(event: Option<DisplayEvent>) -> (Vec<Rect>, [u8; 2]) {
        let Some(DisplayEvent::Copy(Copy { rects, source, .. })) = event else {
            panic!("{event:?}")
        };
        let CopySource::Pixels(pixels) = source else { panic!("no pixels") };
        let row = |y| pixels.row(y).unwrap()[0];
        (rects, [row(0), row(15)])
    }

    #[test]
    fn frames_are_shown_in_their_place_and_clip() {
        let mut channel = display();
        assert_eq!(tell(&mut channel, server::STREAM_CREATE, &create(7, 1, [0, 0, 8, 8])), None);
        let frame = tell(&mut channel, server::STREAM_DATA_SIZED, &data(7));
        assert_eq!(shown(frame), (vec![Rect::new(0, 0, 8, 4)], [0, 255]));
        let clip = Body::default().u32(7).u8(1).u32(1);
        let clip = rect(clip, [2, 1, 4, 99]);
        assert_eq!(tell(&mut channel, server::STREAM_CLIP, &clip), None);
        let frame = tell(&mut channel, server::STREAM_DATA_SIZED, &data(7));
        assert_eq!(shown(frame).0, [Rect::new(2, 1, 4, 4)]);
        // Without the flag the first row is the lowest.
        assert_eq!(tell(&mut channel, server::STREAM_CREATE, &create(7, 0, [0, 0, 8, 8])), None);
        let frame = tell(&mut channel, server::STREAM_DATA_SIZED, &data(7));
        assert_eq!(shown(frame).1, [255, 0]);
        for end in [server::STREAM_DESTROY, server::STREAM_DESTROY_ALL] {
            tell(&mut channel, server::STREAM_CREATE, &create(7, 0, [0, 0, 8, 8]));
            assert_eq!(tell(&mut channel, end, &Body::default().u32(7)), None);
            assert_eq!(tell(&mut channel, server::STREAM_DATA_SIZED, &data(7)), None);
        }
    }

    #[test]
    fn a_frame_is_scaled_to_its_place() {
        let mut channel = display();
        tell(&mut channel, server::STREAM_CREATE, &create(1, 1, [0, 0, 4, 4]));
        let frame = samples::jpeg(Size { width: 8, height: 8 }, &[200]);
        let length = u32::try_from(frame.len()).unwrap();
        let body = Body::default().u32(1).u32(0).u32(length).bytes(&frame);
        let event = tell(&mut channel, server::STREAM_DATA, &body);
        let Some(DisplayEvent::Paint(paint)) = event else { panic!("{event:?}") };
        assert_eq!(paint.rects(), [Rect::new(0, 0, 4, 4)]);
        let mut row = [0; 4];
        paint.begin(&|_| None).unwrap().row(0, 3, &mut row);
        assert_eq!(row, [0xffc8_c8c8; 4]);
    }

    #[test]
    fn streams_are_limited_and_may_be_damaged() {
        let mut channel = display();
        for id in 0..64 {
            tell(&mut channel, server::STREAM_CREATE, &create(id, 0, [0, 0, 8, 8]));
        }
        tell(&mut channel, server::STREAM_CREATE, &create(3, 0, [0, 0, 8, 8]));
        let more = create(64, 0, [0, 0, 8, 8]);
        channel.receive(&message(server::STREAM_CREATE, &more.0)).unwrap();
        assert!(matches!(channel.next_event(), Err(SpiceError::TooLarge { .. })));
        let mut channel = display();
        tell(&mut channel, server::STREAM_CREATE, &create(0, 0, [0, 0, 8, 8]));
        let body = Body::default().u32(0).u32(0).u32(3).bytes(&[1, 2, 3]);
        channel.receive(&message(server::STREAM_DATA, &body.0)).unwrap();
        assert!(channel.next_event().is_err());
    }
}
