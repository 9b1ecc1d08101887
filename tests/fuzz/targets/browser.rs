//! Fuzzes what a browser sends: any records, decoded and handed to a session with a picture.
//!
//! A record's kind: the low byte is its type, bit 15 makes it the last of its message, bits 8 to 14 are
//! sixteenths of a second that pass after it. Its body is the record's.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use vidi_display::protocol::decode;
use vidi_display::{AgentCommand, Effect, Policy, Session, ViewerRights, encode};
use vidi_fuzz::{hello, mutate, records};
use vidi_spice::display::{DisplayEvent, Fill, Surface, SurfaceFormat};
use vidi_spice::{AgentAbilities, AgentEvent, FileStatus, RecordEvent, Rect, SoundForm, SurfaceId};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed)
});

fuzz_target!(|input: &[u8]| {
    let mut session = Session::new(Policy::default());
    let surface = Surface {
        id: SurfaceId(0),
        width: 100,
        height: 80,
        format: SurfaceFormat::Xrgb32,
        primary: true,
    };
    let mut now = Duration::ZERO;
    let _refused = session.display_event(&DisplayEvent::SurfaceCreated(surface), now);
    session.sound_linked(true, true);
    let form = SoundForm { channels: 2, rate: 48_000 };
    session.record_event(&RecordEvent::Started(form));
    let able = AgentAbilities { clipboard: true, monitors: true, files: true };
    session.agent_event(&AgentEvent::Abilities(able));
    let Ok(viewer) = session.add_viewer(hello(), ViewerRights::Control) else { return };
    let mut message = Vec::new();
    for (number, record) in records(input).enumerate() {
        let [kind, rest] = record.kind.to_le_bytes();
        let length = u32::try_from(record.body.len()).unwrap_or(u32::MAX);
        message.extend([kind, 0, 0, 0]);
        message.extend(length.to_le_bytes());
        message.extend(&record.body);
        if rest & 0x80 == 0 {
            continue;
        }
        let Ok(decoded) = decode(&std::mem::take(&mut message)) else { return };
        for one in &decoded {
            session.viewer_message(viewer, one, now);
        }
        let shade = u32::try_from(number).unwrap_or_default();
        let rects = vec![Rect::of_size(20 + shade % 60, 30)];
        let fill = Fill {
            surface: SurfaceId(0),
            rects,
            color: shade.wrapping_mul(0x0001_0203).to_le_bytes(),
        };
        let _refused = session.display_event(&DisplayEvent::Fill(fill), now);
        now += Duration::from_millis(u64::from(rest & 0x7f) * 1000 / 16);
        session.drained();
        while let Some(effect) = session.poll(now) {
            match effect {
                Effect::Encode(job) => session.encoded(job.id, encode(&job)),
                Effect::Send { viewer, message } => session.sent(viewer, message.len(), now),
                // The agent takes every file and all of it.
                Effect::Agent(AgentCommand::SendFile(offer)) => {
                    session.agent_event(&AgentEvent::File(offer.id, FileStatus::Ready));
                }
                _ => {}
            }
        }
    }
});
