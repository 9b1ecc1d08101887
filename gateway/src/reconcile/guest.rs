//! The SPICE side of a session: its channels over one attachment.
//!
//! ```text
//! ticket ─▶ attach ─▶ main: INIT, channels ─▶ display ┐
//!                                             inputs  ├─ linked side by side
//!                                             cursor  ┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::time::Instant;
use vidi_spice::{
    Agent, AgentEvent, ChannelKind, ChannelName, Compression, CursorChannel, CursorEvent,
    DisplayChannel, DisplayEvent, GlzDictionary, ImageTransfer, InputsChannel, InputsEvent,
    LinkSetup, MainChannel, MainEvent, MouseMode, Password, PlaybackChannel, RecordChannel,
    Refusal, SpiceError, TicketSeed,
};

use crate::error::GatewayError;
use crate::model::{Turn, WorkBudget};
use crate::ports::{Attachment, ChannelPipe, Dial, Ticket, Way};
use crate::reconcile::sound::GuestSound;

/// The main channel has said all that is needed to go on within this time, or never will.
const MAIN_SECS_MAX: Duration = Duration::from_secs(20);

/// A drawing that costs so much, some hundredths of a second, is done while others have this thread's
/// turn on another one.
const LONG_WORK: u64 = 1 << 25;

/// What an agent tells before the channels are known; a server passes nothing on until it is told to.
const EARLY_EVENTS_MAX: usize = 64;

/// What a server over a network is asked for. Measured on qxl: 0.11 bytes per pixel, against 0.19 with
/// LZ4 or GLZ, 0.44 with QUIC and 4 without; it needs no dictionary, and so no memory.
const REMOTE_COMPRESSION: Compression = Compression::Lz;
/// Of servers that do not let themselves be asked and send GLZ: a picture of full HD, so that a session
/// holds 32 MiB of earlier images at most.
const GLZ_WINDOW_PIXELS: u32 = 1 << 21;

/// One SPICE channel and its bytes.
#[derive(Debug)]
pub struct Wire<C> {
    /// The protocol.
    pub channel: C,
    pipe: ChannelPipe,
    /// Taken from the channel, not yet taken by the pipe.
    unsent: Option<Bytes>,
}

/// What all channels have in common.
pub trait SpiceChannel {
    /// Takes bytes of the server.
    fn receive(&mut self, bytes: &[u8]) -> Result<(), SpiceError>;
    /// Gives bytes for the server.
    fn poll_transmit(&mut self) -> Option<Bytes>;
}

macro_rules! spice_channel {
    ($($name:ty),+) => {$(
        impl SpiceChannel for $name {
            fn receive(&mut self, bytes: &[u8]) -> Result<(), SpiceError> {
                Self::receive(self, bytes)
            }

            fn poll_transmit(&mut self) -> Option<Bytes> {
                Self::poll_transmit(self)
            }
        }
    )+};
}

spice_channel!(
    MainChannel,
    DisplayChannel,
    InputsChannel,
    CursorChannel,
    PlaybackChannel,
    RecordChannel
);

impl<C: SpiceChannel> Wire<C> {
    pub(super) fn new(channel: C, pipe: ChannelPipe) -> Self {
        Self { channel, pipe, unsent: None }
    }

    /// Waits for bytes and hands them to the channel; `false` at the end of the stream.
    /// Cancel-safe: bytes are handed over in the same step in which they are taken.
    pub async fn receive(&mut self) -> Result<bool, GatewayError> {
        match self.pipe.receive.recv().await {
            Some(bytes) => self.channel.receive(&bytes).map(|()| true).map_err(spice),
            None => Ok(false),
        }
    }

    /// Whether more bytes wait already.
    pub fn more_waits(&self) -> bool {
        !self.pipe.receive.is_empty()
    }

    /// Sends what the channel has to say; `false` when the server does not take it now.
    pub fn transmit(&mut self) -> bool {
        while let Some(bytes) = self.unsent.take().or_else(|| self.channel.poll_transmit()) {
            match self.pipe.send.try_send(bytes) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(bytes)) => {
                    self.unsent = Some(bytes);
                    return false;
                }
                // The end is seen by `receive`.
                Err(mpsc::error::TrySendError::Closed(_)) => return true,
            }
        }
        true
    }
}

/// A desktop that is being shown.
#[derive(Debug)]
pub struct Guest {
    attachment: Arc<dyn Attachment>,
    /// Session, mouse mode.
    pub main: Wire<MainChannel>,
    /// The picture.
    pub display: Wire<DisplayChannel>,
    /// Keyboard and mouse.
    pub inputs: Wire<InputsChannel>,
    /// The pointer.
    pub cursor: Wire<CursorChannel>,
    /// What is played and recorded.
    pub sound: GuestSound,
    /// Clipboard, screen size and files, inside the main channel.
    pub agent: Agent,
    /// What the agent has told and [`Guest::take_agent_events`] has not given.
    agent_events: Vec<AgentEvent>,
    /// Mouse mode at the start.
    pub mouse_mode: MouseMode,
    /// What it was reached by.
    pub ticket: Ticket,
    budget: WorkBudget,
    /// Whether more may be drawn.
    turn: Turn,
    /// What the event that was given last costs.
    work: u64,
}

/// Which channel woke the session.
#[derive(Debug)]
pub enum Woken {
    /// These have new bytes.
    Main,
    /// The picture's.
    Display,
    /// Keyboard and mouse.
    Inputs,
    /// The pointer's.
    Cursor,
    /// Those of sound, or one of them is open now.
    Sound,
    /// The desktop is no longer reached, for this reason.
    Lost(String),
}

impl Guest {
    /// Attaches the session and opens its channels.
    pub async fn connect(dial: &dyn Dial, ticket: Ticket) -> Result<Self, GatewayError> {
        let attachment: Arc<dyn Attachment> = Arc::from(dial.attach(&ticket).await?);
        let manner = Manner::of(&ticket.way);
        let main = MainChannel::new(link_setup(&manner.password, 0));
        let mut main = Wire::new(main, attachment.open().await?);
        let (mut agent, mut agent_events) = (Agent::default(), Vec::new());
        let opening = open_main(&mut main, &mut agent, &mut agent_events);
        let (session_id, mouse_mode, channels) = tokio::time::timeout(MAIN_SECS_MAX, opening)
            .await
            .map_err(|_elapsed| GatewayError::Spice("it does not answer".to_owned()))??;
        let (display, inputs, cursor) =
            tokio::try_join!(attachment.open(), attachment.open(), attachment.open())?;
        let Manner { password, images } = manner;
        let setup = move || link_setup(&password, session_id);
        let picture = DisplayChannel::with_images(setup(), images);
        let mut guest = Self {
            main,
            display: Wire::new(picture, display),
            inputs: Wire::new(InputsChannel::new(setup()), inputs),
            cursor: Wire::new(CursorChannel::new(setup()), cursor),
            sound: GuestSound::new(Arc::clone(&attachment), &channels, Box::new(setup)),
            attachment,
            agent,
            agent_events,
            mouse_mode,
            ticket,
            budget: WorkBudget::default(),
            turn: Turn::GoOn,
            work: 0,
        };
        guest.transmit();
        Ok(guest)
    }

    /// Sends what all channels have to say; `false` when the server does not take it now.
    pub fn transmit(&mut self) -> bool {
        let sent = [
            self.inputs.transmit(),
            self.display.transmit(),
            self.sound.transmit(),
            self.cursor.transmit(),
            self.transmit_main(),
        ];
        sent.into_iter().all(|sent| sent)
    }

    /// The agent has much to say, so its part of it waits until the wire has taken what is before.
    fn transmit_main(&mut self) -> bool {
        loop {
            // The agent keeps far below the only limit that there is.
            let said = self.agent.transmit(&mut self.main.channel).unwrap_or(false);
            if !self.main.transmit() {
                return false;
            }
            if !said {
                return true;
            }
        }
    }

    /// Waits for bytes on any channel, input's answers before pictures; `origin` is when time begins.
    pub async fn wake(&mut self, origin: Instant) -> Woken {
        let turn = self.turn;
        let its_turn = async {
            match turn {
                Turn::GoOn => std::future::pending().await,
                Turn::GiveWay => tokio::task::yield_now().await,
                Turn::Wait(until) => tokio::time::sleep_until(origin + until).await,
            }
        };
        // Cancel-safe: each arm takes bytes and hands them to its channel in one step.
        let (woken, received) = tokio::select! {
            biased;
            reason = self.attachment.ended() => return Woken::Lost(reason),
            received = self.main.receive() => (Woken::Main, received),
            received = self.inputs.receive() => (Woken::Inputs, received),
            () = self.sound.wake() => (Woken::Sound, Ok(true)),
            received = self.cursor.receive() => (Woken::Cursor, received),
            () = its_turn => (Woken::Display, Ok(true)),
            received = self.display.receive(), if turn == Turn::GoOn => (Woken::Display, received),
        };
        if matches!(woken, Woken::Display) {
            self.turn = Turn::GoOn;
        }
        match received {
            Ok(true) => woken,
            Ok(false) => Woken::Lost("the desktop closed its display".to_owned()),
            Err(error) => Woken::Lost(error.to_string()),
        }
    }

    /// The next event of the main channel.
    pub fn main_event(&mut self) -> Result<Option<MainEvent>, GatewayError> {
        let event = self.main.channel.next_event().map_err(spice)?;
        if let Some(event) = &event {
            self.agent_events.extend(self.agent.handle(event));
        }
        Ok(event)
    }

    /// What the agent has told since the last time.
    pub fn take_agent_events(&mut self) -> Vec<AgentEvent> {
        std::mem::take(&mut self.agent_events)
    }

    /// The next event of the display channel; none also where it is the turn of others.
    pub fn display_event(&mut self, now: Duration) -> Result<Option<DisplayEvent>, GatewayError> {
        if self.turn != Turn::GoOn {
            return Ok(None);
        }
        let event = self.display.channel.next_event().map_err(spice)?;
        self.work = self.display.channel.take_work();
        self.turn = self.budget.spend(self.work, now);
        if let Turn::Wait(_) = self.turn {
            metrics::counter!("vidi_gateway_display_waits_total").increment(1);
        }
        Ok(event)
    }

    /// Does what the event that was given last asks for.
    pub fn carry_out<T>(&self, act: impl FnOnce() -> T) -> T {
        let has_others = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        if LONG_WORK <= self.work && has_others() {
            tokio::task::block_in_place(act)
        } else {
            act()
        }
    }

    /// Whether nothing more is to be drawn before something else happens.
    pub fn is_quiet(&self) -> bool {
        match self.turn {
            Turn::GoOn => !self.display.more_waits(),
            Turn::GiveWay => false,
            // What there is may be shown meanwhile.
            Turn::Wait(_) => true,
        }
    }

    /// The next event of the inputs channel.
    pub fn inputs_event(&mut self) -> Result<Option<InputsEvent>, GatewayError> {
        self.inputs.channel.next_event().map_err(spice)
    }

    /// The next event of the cursor channel.
    pub fn cursor_event(&mut self) -> Result<Option<CursorEvent>, GatewayError> {
        self.cursor.channel.next_event().map_err(spice)
    }
}

/// Drives the main channel until the session's id and its channels are known.
async fn open_main(
    main: &mut Wire<MainChannel>,
    agent: &mut Agent,
    agent_events: &mut Vec<AgentEvent>,
) -> Result<(u32, MouseMode, Vec<ChannelName>), GatewayError> {
    let mut session = None;
    let mut mouse_mode = MouseMode::Server;
    loop {
        main.transmit();
        if !main.receive().await? {
            return Err(GatewayError::Spice("it closed the connection".to_owned()));
        }
        while let Some(event) = main.channel.next_event().map_err(spice)? {
            agent_events.extend(agent.handle(&event));
            if EARLY_EVENTS_MAX < agent_events.len() {
                let reason = "its agent speaks before it is asked; restart the desktop";
                return Err(GatewayError::Spice(reason.to_owned()));
            }
            match event {
                MainEvent::Init(init) => {
                    mouse_mode = init.mouse.current;
                    session = Some(init.session_id);
                }
                MainEvent::MouseMode(modes) => mouse_mode = modes.current,
                MainEvent::Channels(channels) => {
                    let has_display =
                        channels.iter().any(|channel| channel.kind == ChannelKind::Display);
                    let Some(session) = session.filter(|_| has_display) else {
                        return Err(GatewayError::Spice("it has no display".to_owned()));
                    };
                    main.transmit();
                    return Ok((session, mouse_mode, channels));
                }
                _ => {}
            }
        }
    }
}

/// How the channels of one attachment are opened.
#[derive(Debug)]
struct Manner {
    password: Password,
    images: ImageTransfer,
}

impl Manner {
    fn of(way: &Way) -> Self {
        match way {
            Way::Relay(_) => {
                Self { password: Password::default(), images: ImageTransfer::uncompressed() }
            }
            Way::Direct(ticket) => Self {
                password: ticket.password.clone(),
                images: ImageTransfer {
                    compression: Some(REMOTE_COMPRESSION),
                    dictionary: GlzDictionary::new(GLZ_WINDOW_PIXELS),
                },
            },
        }
    }
}

/// How a channel's link is begun; the main channel's connection has no id yet.
fn link_setup(password: &Password, connection_id: u32) -> LinkSetup {
    LinkSetup {
        channel_id: 0,
        connection_id,
        password: password.clone(),
        seed: TicketSeed::generate(&mut rand::rng()),
    }
}

fn spice(error: SpiceError) -> GatewayError {
    match error {
        SpiceError::Refused(Refusal::PermissionDenied) => GatewayError::PasswordRefused,
        error => GatewayError::Spice(error.to_string()),
    }
}
