//! Waits until a start's guest has answered with its own identity and has drawn.

use std::io::Cursor;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};
use vidi_hypervisor::guest_port::GuestPort;
use vidi_hypervisor::{Hypervisor, Screenshot};
use vidi_kit::Backoff;
use vidi_kit::ids::DesktopId;

use crate::model::wanted::Readiness;

/// A guest without a helper is asked this often.
const ASK_PERIOD: Duration = Duration::from_secs(1);
const REOPEN_FIRST: Duration = Duration::from_millis(200);
const REOPEN_SECS_MAX: Duration = Duration::from_secs(2);
/// A picture larger than this is not looked at: 8K with 24 bits is 100 MB.
const PIXELS_BYTES_MAX: usize = 128 << 20;

/// Resolves when the guest is ready; a guest that never answers is waited for until this is dropped.
pub async fn until_ready(hypervisor: &dyn Hypervisor, id: DesktopId, readiness: Readiness) {
    let began = Instant::now();
    match readiness {
        Readiness::Helper => until_helper_ready(hypervisor, id).await,
        Readiness::Agent => until_agent_ready(hypervisor, id).await,
    }
    metrics::histogram!("vidi_agent_ready_seconds").record(began.elapsed());
}

async fn until_helper_ready(hypervisor: &dyn Hypervisor, id: DesktopId) {
    let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_SECS_MAX);
    loop {
        match hypervisor.open_guest_port(id).await {
            Ok(stream) => {
                let mut port = GuestPort::new(stream);
                if hear_ready(&mut port, id).await {
                    // The guest says it again to the next one that opens the port.
                    if let Err(error) = port.send_ok().await {
                        debug!(desktop = %id, %error, "The guest did not hear that it was heard");
                    }
                    return;
                }
            }
            Err(error) => debug!(desktop = %id, %error, "The guest's port cannot be opened yet"),
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// False when the port ends first.
async fn hear_ready(port: &mut GuestPort, id: DesktopId) -> bool {
    let mut told = false;
    let heard = port.hear_ready(|said| {
        let ours = said == id.uuid();
        if !ours && !told {
            warn!(desktop = %id, %said, "The guest answers with another identity");
            told = true;
        }
        ours
    });
    heard.await.unwrap_or(false)
}

async fn until_agent_ready(hypervisor: &dyn Hypervisor, id: DesktopId) {
    loop {
        if hypervisor.guest_agent_ping(id).await.is_ok()
            && let Ok(screenshot) = hypervisor.screenshot(id).await
            && has_colours(&screenshot)
        {
            return;
        }
        tokio::time::sleep(ASK_PERIOD).await;
    }
}

/// Whether the picture has more than one colour; what cannot be read has none.
fn has_colours(screenshot: &Screenshot) -> bool {
    match screenshot.mime_type.as_str() {
        "image/png" => has_colours_png(&screenshot.bytes).unwrap_or(false),
        _ => has_colours_ppm(&screenshot.bytes).unwrap_or(false),
    }
}

fn has_colours_png(bytes: &[u8]) -> Option<bool> {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().ok()?;
    let size = reader.output_buffer_size().filter(|size| *size <= PIXELS_BYTES_MAX)?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).ok()?;
    let pixel_bytes = frame.color_type.samples() * usize::from(frame.bit_depth as u8).div_ceil(8);
    Some(differ(pixels.get(..frame.buffer_size())?, pixel_bytes))
}

/// Binary PPM, 8 bits (ppm(5)).
fn has_colours_ppm(bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes.strip_prefix(b"P6")?;
    for _width_height_maximum in 0..3 {
        rest = rest.trim_ascii_start();
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).filter(|end| 0 < *end)?;
        rest = rest.get(digits..)?;
    }
    Some(differ(rest.get(1..)?, 3))
}

fn differ(pixels: &[u8], pixel_bytes: usize) -> bool {
    let mut pixels = pixels.chunks_exact(pixel_bytes.max(1));
    pixels.next().is_some_and(|first| pixels.any(|pixel| pixel != first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ppm(pixels: &'static [u8]) -> Screenshot {
        let bytes = [b"P6 2 1\n255\n", pixels].concat().into();
        Screenshot { mime_type: "image/x-portable-pixmap".to_owned(), bytes }
    }

    #[test]
    fn a_picture_of_one_colour_is_not_a_drawn_one() {
        assert!(!has_colours(&ppm(&[1, 2, 3, 1, 2, 3])));
        assert!(has_colours(&ppm(&[1, 2, 3, 1, 2, 4])));
        assert!(!has_colours(&ppm(&[])));
        for wrong in [&b"P6"[..], b"P6 2 1", b"P5 2 1 255 ", b"", b"P6 x"] {
            assert_eq!(has_colours_ppm(wrong), None, "{wrong:?}");
        }
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().unwrap().write_image_data(&[0, 0, 0, 9, 9, 9]).unwrap();
        assert_eq!(has_colours_png(&file), Some(true));
        assert_eq!(has_colours_png(&file[..20]), None);
    }
}
