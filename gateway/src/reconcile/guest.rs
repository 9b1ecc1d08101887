//! The SPICE side of a session: its channels over one attachment.
//!
//! ```text
//! ticket ─▶ attach ─▶ main: INIT, channels ─▶ display ┐
//!                                             inputs  ├─ linked side by side
//!                                             cursor  ┘
//! ```

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use vidi_spice::{
    Agent, AgentEvent, ChannelKind, CursorChannel, CursorEvent, DisplayChannel, DisplayEvent,
    InputsChannel, InputsEvent, LinkSetup, MainChannel, MainEvent, MouseMode, Password, SpiceError,
    TicketSeed,
};

use crate::error::GatewayError;
use crate::ports::{Attachment, ChannelPipe, Dial, Ticket};

/// The main channel has said all that is needed to go on within this time, or never will.
const MAIN_SECS_MAX: Duration = Duration::from_secs(20);

/// What an agent tells before the channels are known; a server passes nothing on until it is told to.
const EARLY_EVENTS_MAX: usize = 64;

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

spice_channel!(MainChannel, DisplayChannel, InputsChannel, CursorChannel);

impl<C: SpiceChannel> Wire<C> {
    fn new(channel: C, pipe: ChannelPipe) -> Self {
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
    attachment: Box<dyn Attachment>,
    /// Session, mouse mode.
    pub main: Wire<MainChannel>,
    /// The picture.
    pub display: Wire<DisplayChannel>,
    /// Keyboard and mouse.
    pub inputs: Wire<InputsChannel>,
    /// The pointer.
    pub cursor: Wire<CursorChannel>,
    /// Clipboard and screen size, inside the main channel.
    pub agent: Agent,
    /// What the agent has told and [`Guest::take_agent_events`] has not given.
    agent_events: Vec<AgentEvent>,
    /// Mouse mode at the start.
    pub mouse_mode: MouseMode,
    /// The attachment's epoch.
    pub epoch: u64,
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
    /// The desktop is no longer reached, for this reason.
    Lost(String),
}

impl Guest {
    /// Attaches the session and opens its channels.
    pub async fn connect(dial: &dyn Dial, ticket: &Ticket) -> Result<Self, GatewayError> {
        let attachment = dial.attach(ticket).await?;
        let mut main = Wire::new(MainChannel::new(setup(0, 0)), attachment.open().await?);
        let (mut agent, mut agent_events) = (Agent::default(), Vec::new());
        let opening = open_main(&mut main, &mut agent, &mut agent_events);
        let (session_id, mouse_mode) = tokio::time::timeout(MAIN_SECS_MAX, opening)
            .await
            .map_err(|_elapsed| GatewayError::Spice("it does not answer".to_owned()))??;
        let (display, inputs, cursor) =
            tokio::try_join!(attachment.open(), attachment.open(), attachment.open())?;
        let setup = || setup(0, session_id);
        let mut guest = Self {
            attachment,
            main,
            display: Wire::new(DisplayChannel::new(setup()), display),
            inputs: Wire::new(InputsChannel::new(setup()), inputs),
            cursor: Wire::new(CursorChannel::new(setup()), cursor),
            agent,
            agent_events,
            mouse_mode,
            epoch: ticket.epoch,
        };
        guest.transmit();
        Ok(guest)
    }

    /// Sends what all channels have to say; `false` when the server does not take it now.
    pub fn transmit(&mut self) -> bool {
        let sent = [
            self.inputs.transmit(),
            self.display.transmit(),
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

    /// Waits for bytes on any channel, input's answers before pictures.
    pub async fn wake(&mut self) -> Woken {
        // Cancel-safe: each arm takes bytes and hands them to its channel in one step.
        let (woken, received) = tokio::select! {
            biased;
            reason = self.attachment.ended() => return Woken::Lost(reason),
            received = self.main.receive() => (Woken::Main, received),
            received = self.inputs.receive() => (Woken::Inputs, received),
            received = self.cursor.receive() => (Woken::Cursor, received),
            received = self.display.receive() => (Woken::Display, received),
        };
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

    /// The next event of the display channel.
    pub fn display_event(&mut self) -> Result<Option<DisplayEvent>, GatewayError> {
        self.display.channel.next_event().map_err(spice)
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
) -> Result<(u32, MouseMode), GatewayError> {
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
                    return Ok((session, mouse_mode));
                }
                _ => {}
            }
        }
    }
}

fn setup(channel_id: u8, connection_id: u32) -> LinkSetup {
    LinkSetup {
        channel_id,
        connection_id,
        password: Password::default(),
        seed: TicketSeed::generate(&mut rand::rng()),
    }
}

fn spice(error: SpiceError) -> GatewayError {
    GatewayError::Spice(error.to_string())
}
