//! One session with its viewers, jobs and time, all of which move only when a step says so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vidi_display::protocol::{BrowserHello, ViewerMessage};
use vidi_display::{Effect, EncodeJob, IN_SOCKET_MESSAGES_MAX, Session, ViewerRights, encode};
use vidi_spice::display::DisplayEvent;
use vidi_spice::{AgentAbilities, AgentEvent, ClipboardKind, ClipboardPiece, Scancode};

use crate::client::Client;
use crate::guest::{ID, Step, event, surface};
use crate::picture::{Picture, long, records, short};

pub(crate) struct World {
    pub(crate) session: Session,
    pub(crate) now: Duration,
    pub(crate) jobs: Vec<EncodeJob>,
    pub(crate) clients: Vec<Client>,
    /// Every picture that the guest has shown.
    pub(crate) pictures: Vec<Picture>,
    pub(crate) copies: usize,
    pub(crate) images: usize,
    pub(crate) image_pixels: u32,
    /// Tiles drawn from memory.
    pub(crate) recalls: usize,
    /// Images that are not exact.
    pub(crate) lossy: usize,
    pub(crate) bytes: usize,
    pub(crate) videos: usize,
    /// When a viewer had everything exactly that had not.
    pub(crate) exact_at: Duration,
    /// What was copied in the guest.
    pub(crate) copied: Vec<Bytes>,
    /// How many pieces viewers got whole.
    pub(crate) pasted: usize,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            session: Session::default(),
            now: Duration::ZERO,
            jobs: Vec::new(),
            clients: Vec::new(),
            pictures: Vec::new(),
            copies: 0,
            images: 0,
            image_pixels: 0,
            recalls: 0,
            lossy: 0,
            bytes: 0,
            videos: 0,
            exact_at: Duration::ZERO,
            copied: Vec::new(),
            pasted: 0,
        };
        let abilities = AgentAbilities { clipboard: true, monitors: false, files: false };
        world.session.agent_event(&AgentEvent::Abilities(abilities));
        world.surface(450, 280);
        world
    }

    pub(crate) fn surface(&mut self, width: u32, height: u32) {
        self.draw(&DisplayEvent::SurfaceCreated(surface(width, height)));
    }

    pub(crate) fn draw(&mut self, event: &DisplayEvent) {
        let _unknown_surface = self.session.display_event(event, self.now);
        if let Some((width, height, pixels)) = self.session.picture() {
            self.pictures.push((width, height, pixels.to_vec()));
        }
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Fill { .. }
            | Step::Invert { .. }
            | Step::Mix { .. }
            | Step::Picture { .. }
            | Step::Noise { .. }
            | Step::Photo { .. }
            | Step::Movie { .. }
            | Step::CopyBits { .. } => self.draw(&event(step)),
            Step::Surface { width, height } => self.surface(width, height),
            Step::DestroySurface => {
                self.session.display_event(&DisplayEvent::SurfaceDestroyed(ID), self.now).unwrap();
            }
            Step::Drained => self.session.drained(),
            Step::Copied { length } => {
                let text = format!("{} {}", self.copied.len(), "x".repeat(length));
                let piece = ClipboardPiece { kind: ClipboardKind::Text, data: text.into() };
                self.copied.push(piece.data.clone());
                self.session.agent_event(&AgentEvent::Given(piece));
            }
            Step::Wait { millis } => self.now += Duration::from_millis(millis),
            Step::Encode { which } => {
                if !self.jobs.is_empty() {
                    let job = self.jobs.remove(which % self.jobs.len());
                    self.session.encoded(job.id, encode(&job));
                }
            }
            Step::Join { webp, h264, slots } => {
                if self.clients.len() < 3 {
                    self.join(webp, h264, slots);
                }
            }
            Step::Film { rect, count } => {
                for seed in 0..count {
                    self.now += Duration::from_millis(40);
                    self.draw(&event(Step::Movie { rect, seed }));
                    self.step(Step::Drained);
                    self.step(Step::Encode { which: 0 });
                }
            }
            Step::Write { which, .. }
            | Step::Receive { which, .. }
            | Step::Acknowledge { which }
            | Step::Leave { which }
            | Step::Key { which }
            | Step::Refresh { which } => {
                if !self.clients.is_empty() {
                    self.client_step(which % self.clients.len(), step);
                }
            }
        }
        self.poll();
    }

    pub(crate) fn join(&mut self, webp: bool, h264: bool, slots: u32) {
        let tile_cache_bytes = slots * 16_384 + 7;
        let (width, height) = (800, 600);
        let browser = BrowserHello {
            webp,
            h264,
            palette: webp,
            tile_cache_bytes,
            width,
            height,
            ..BrowserHello::default()
        };
        let id = self.session.add_viewer(browser, ViewerRights::Control).unwrap();
        self.clients.push(Client {
            id,
            socket: VecDeque::new(),
            wire: VecDeque::new(),
            unanswered: VecDeque::new(),
            picture: (0, 0, Vec::new()),
            inexact: Vec::new(),
            slots: BTreeMap::new(),
            is_partial: false,
            decoders: BTreeMap::new(),
            slots_max: slots,
            shown: self.pictures.len().saturating_sub(1),
            amid_frame: false,
            part: Vec::new(),
            pasted: Vec::new(),
            copied_before: self.copied.len(),
        });
    }

    pub(crate) fn client_step(&mut self, index: usize, step: Step) {
        let client = &mut self.clients[index];
        match step {
            Step::Write { count, .. } => {
                for message in client.socket.drain(..count.min(client.socket.len())) {
                    self.session.sent(client.id, message.len(), self.now);
                    client.wire.push_back(message);
                }
            }
            Step::Receive { count, .. } => {
                let count = count.min(client.wire.len());
                for message in client.wire.drain(..count).collect::<Vec<Bytes>>() {
                    for (kind, body) in records(&message) {
                        self.copies += usize::from(kind == 4);
                        if kind == 6 {
                            self.images += 1;
                            self.image_pixels += short(body, 4) * short(body, 6);
                        }
                        self.recalls += usize::from(kind == 17) * body.len() / 8;
                        self.lossy += usize::from(kind == 6 && body[8] == 3);
                        self.bytes += 8 + body.len();
                        self.videos += usize::from(kind == 18);
                        let was_inexact = client.inexact.contains(&true);
                        client.draw(kind, body);
                        if was_inexact && !client.inexact.contains(&true) {
                            self.exact_at = self.now;
                        }
                        client.amid_frame = (2..7).contains(&kind)
                            || [17, 18].contains(&kind)
                            || client.amid_frame && kind != 7;
                        if kind == 14 {
                            assert!(!client.amid_frame, "a clipboard stands before a frame's end");
                            assert!(body.len() <= 4 + 16 * 1024, "the part is too long");
                            self.pasted += client.paste(body, &self.copied);
                        }
                        if kind == 7 {
                            let known = &self.pictures[client.shown..];
                            let at = known.iter().position(|picture| client.shows(picture));
                            if !std::mem::take(&mut client.is_partial) {
                                client.shown +=
                                    at.expect("a frame end shows no picture of the guest");
                            }
                            client.unanswered.push_back(long(body, 0));
                        }
                    }
                }
            }
            Step::Acknowledge { .. } => {
                if let Some(sequence) = client.unanswered.pop_front() {
                    let draw_time = Duration::from_micros(300);
                    let message = ViewerMessage::Ack { sequence, draw_time };
                    self.session.viewer_message(client.id, &message, self.now);
                }
            }
            Step::Key { .. } => {
                let key = Scancode::plain(0x1e).unwrap();
                let message = ViewerMessage::Key { down: true, key };
                self.session.viewer_message(client.id, &message, self.now);
            }
            Step::Refresh { .. } => {
                self.session.viewer_message(client.id, &ViewerMessage::Refresh, self.now);
            }
            _ => {
                self.session.remove_viewer(client.id);
                self.clients.remove(index);
            }
        }
    }

    pub(crate) fn poll(&mut self) {
        while let Some(effect) = self.session.poll(self.now) {
            match effect {
                Effect::Encode(job) => self.jobs.push(job),
                Effect::Send { viewer, message } => {
                    let mut clients = self.clients.iter_mut();
                    let client = clients.find(|client| client.id == viewer).unwrap();
                    client.socket.push_back(message);
                    assert!(client.socket.len() <= IN_SOCKET_MESSAGES_MAX, "the queue overflows");
                }
                Effect::Input(_) | Effect::Agent(_) | Effect::Speak(_) => {}
            }
        }
    }

    /// Carries out all jobs, also those that come of it.
    pub(crate) fn encode_all(&mut self) {
        while !self.jobs.is_empty() {
            self.step(Step::Encode { which: 0 });
        }
    }

    /// So many messages are written, drawn and acknowledged.
    pub(crate) fn deliver(&mut self, which: usize, count: usize) {
        self.step(Step::Write { which, count });
        self.receive(which, count);
    }

    /// So many messages that were written are drawn and, with all before them, acknowledged.
    pub(crate) fn receive(&mut self, which: usize, count: usize) {
        self.step(Step::Receive { which, count });
        while !self.clients[which].unanswered.is_empty() {
            self.step(Step::Acknowledge { which });
        }
    }

    /// Lets everything move until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        self.step(Step::Drained);
        for _round in 0..1000 {
            self.encode_all();
            (0..self.clients.len()).for_each(|which| self.deliver(which, usize::MAX));
            let idle =
                self.jobs.is_empty() && self.clients.iter().all(|client| client.socket.is_empty());
            match self.session.next_deadline() {
                Some(deadline) if idle => self.now = self.now.max(deadline),
                None if idle => return,
                Some(_) | None => {}
            }
            self.poll();
        }
        panic!("the session never comes to rest");
    }

    pub(crate) fn assert_equal(&mut self) {
        let Some((width, height, pixels)) = self.session.picture() else { return };
        for client in &self.clients {
            let came = client.copied_before..self.copied.len();
            assert!(client.pasted.is_sorted(), "an older clipboard came after a newer");
            assert!(client.pasted.iter().all(|number| came.contains(number)), "it is told the old");
            assert_eq!(client.pasted.last().copied(), came.last(), "the newest did not come");
            assert_eq!((client.picture.0, client.picture.1), (width, height));
            assert!(!client.inexact.contains(&true), "something stays inexact");
            assert!(client.picture.2 == pixels, "a viewer's picture differs from the guest's");
        }
    }
}
