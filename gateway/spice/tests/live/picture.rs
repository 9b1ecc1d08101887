//! What a display engine keeps: surfaces, drawn on by the display channel's events.

use std::collections::{BTreeMap, BTreeSet};

use vidi_spice::display::{Copy, CopySource, Surface, SurfaceFormat};
use vidi_spice::{CommonEvent, DisplayEvent, SurfaceId};

/// Surfaces as BGRX, as a display engine keeps them.
#[derive(Default)]
pub(crate) struct Picture {
    surfaces: BTreeMap<SurfaceId, (Surface, Vec<[u8; 4]>)>,
    primary: Option<SurfaceId>,
    pub(crate) marked: bool,
}

impl Picture {
    pub(crate) fn apply(&mut self, event: DisplayEvent) {
        match event {
            DisplayEvent::Common(CommonEvent::Unsupported(unsupported))
            | DisplayEvent::Unsupported(unsupported) => {
                panic!("unsupported: {}", unsupported.feature)
            }
            DisplayEvent::SurfaceCreated(surface) => {
                let pixels = vec![[0, 0, 0, 255]; (surface.width * surface.height) as usize];
                self.surfaces.insert(surface.id, (surface, pixels));
                if surface.primary {
                    self.primary = Some(surface.id);
                }
            }
            DisplayEvent::SurfaceDestroyed(id) => {
                self.surfaces.remove(&id);
            }
            DisplayEvent::Mark => self.marked = true,
            DisplayEvent::Copy(copy) => self.copy(&copy),
            DisplayEvent::Fill(fill) => {
                let (surface, pixels) = self.surfaces.get_mut(&fill.surface).unwrap();
                for rect in fill.rects {
                    for y in rect.top..rect.bottom {
                        for x in rect.left..rect.right {
                            pixels[y as usize * surface.width as usize + x as usize] = fill.color;
                        }
                    }
                }
            }
            DisplayEvent::CopyBits(bits) => self.copy(&Copy {
                surface: bits.surface,
                rects: bits.rects,
                source: CopySource::Surface(bits.surface),
                offset: bits.offset,
            }),
            DisplayEvent::Combine(combine) => panic!("not expected here: {combine:?}"),
            DisplayEvent::Paint(paint) => panic!("not expected here: {paint:?}"),
            DisplayEvent::Common(_) | DisplayEvent::Reset | DisplayEvent::Monitors(_) => {}
        }
    }

    fn copy(&mut self, copy: &Copy) {
        // A snapshot of the source makes overlap harmless.
        let (width, source) = match &copy.source {
            CopySource::Surface(id) => {
                let (surface, pixels) = &self.surfaces[id];
                (surface.width as usize, pixels.clone())
            }
            CopySource::Pixels(image) => {
                let rows = (0..image.height).flat_map(|y| image.row(y).unwrap().as_chunks().0);
                (image.width as usize, rows.copied().collect())
            }
        };
        let (surface, pixels) = self.surfaces.get_mut(&copy.surface).unwrap();
        for rect in &copy.rects {
            for y in rect.top..rect.bottom {
                for x in rect.left..rect.right {
                    let from = (y + copy.offset.y) as usize * width + (x + copy.offset.x) as usize;
                    let mut pixel = source[from];
                    if surface.format != SurfaceFormat::Argb32 {
                        // A source with alpha may be a surface.
                        pixel[3] = 255;
                    }
                    pixels[y as usize * surface.width as usize + x as usize] = pixel;
                }
            }
        }
    }

    pub(crate) fn colors(&self) -> usize {
        let visible = self.primary.and_then(|id| self.surfaces.get(&id));
        visible.map_or(0, |(_, pixels)| pixels.iter().collect::<BTreeSet<_>>().len())
    }

    /// The pixels of a surface.
    pub(crate) fn surface(&self, id: SurfaceId) -> Option<&[[u8; 4]]> {
        self.surfaces.get(&id).map(|(_, pixels)| pixels.as_slice())
    }

    /// Width, height, red-green-blue bytes of what the user sees.
    pub(crate) fn visible(&self) -> (u32, u32, Vec<u8>) {
        let (surface, pixels) = &self.surfaces[&self.primary.unwrap()];
        assert!(pixels.iter().all(|[_, _, _, alpha]| *alpha == 255), "alpha is 255 everywhere");
        let bytes = pixels.iter().flat_map(|[blue, green, red, _]| [*red, *green, *blue]);
        (surface.width, surface.height, bytes.collect())
    }
}
