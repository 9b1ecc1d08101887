//! The inputs channel: keyboard and mouse (`spice.proto`, `InputsChannel`).
//!
//! The server acknowledges every fourth motion. Motions beyond [`MOTIONS_IN_FLIGHT_MAX`] are not
//! queued: the newest position replaces the one that waits, and relative motions add up. What
//! waits is sent before a button, so that a click lands where the pointer was.

use bytes::BufMut;

use crate::channel::{Channel, CommonEvent, Message};
use crate::delegate::delegate_to_channel;
use crate::error::SpiceError;
use crate::geometry::Point;
use crate::link::{Capabilities, ChannelKind, LinkSetup};
use crate::unsupported::{Feature, Unsupported};
use crate::wire::Reader;

/// `SPICE_INPUT_MOTION_ACK_BUNCH`
const MOTIONS_PER_ACK: u32 = 4;
/// Motions without acknowledgement: two bunches, so that one is on its way while the other counts.
const MOTIONS_IN_FLIGHT_MAX: u32 = 2 * MOTIONS_PER_ACK;

/// `SPICE_INPUTS_CAP_KEY_SCANCODE`: the server's, listed in our own set too.
const CAPABILITY_KEY_SCANCODE: u32 = 0;

/// `SPICE_MSG_INPUTS_*`
mod server {
    pub(super) const INIT: u16 = 101;
    pub(super) const KEY_MODIFIERS: u16 = 102;
    pub(super) const MOUSE_MOTION_ACK: u16 = 111;
}

/// `SPICE_MSGC_INPUTS_*`
mod client {
    pub(super) const KEY_DOWN: u16 = 101;
    pub(super) const KEY_UP: u16 = 102;
    pub(super) const KEY_MODIFIERS: u16 = 103;
    pub(super) const MOUSE_MOTION: u16 = 111;
    pub(super) const MOUSE_POSITION: u16 = 112;
    pub(super) const MOUSE_PRESS: u16 = 113;
    pub(super) const MOUSE_RELEASE: u16 = 114;
}

/// An inputs channel connection.
#[derive(Debug)]
pub struct InputsChannel {
    channel: Channel,
    pressed: u16,
    motions_in_flight: u32,
    waiting: Option<Motion>,
}

/// What the inputs channel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputsEvent {
    /// Something that any channel may tell.
    Common(CommonEvent),
    /// The guest's lock keys are, or have become, these.
    Locks(Locks),
}

/// The lock keys of a keyboard (`enums.h`, `SpiceKeyboardModifierFlags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    bits: u16,
}

/// A key by its place on the keyboard: scan code set 1, as a PC keyboard sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scancode(Key);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Plain(u8),
    Extended(u8),
    Pause,
}

/// A button of the mouse (`enums.h`, `SpiceMouseButton`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MouseButton {
    /// 1
    Left,
    /// 2
    Middle,
    /// 3
    Right,
}

/// One notch of the wheel: to SPICE a press and a release of button 4 or 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WheelStep {
    /// Away from the user.
    Up,
    /// Towards the user.
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Motion {
    /// An absolute position on a display (client mouse mode).
    Position(Point, u8),
    /// A relative motion (server mouse mode).
    Relative(Point),
}

impl Locks {
    /// The locks that are on.
    pub const fn new(scroll: bool, number: bool, capitals: bool) -> Self {
        Self { bits: (scroll as u16) | ((number as u16) << 1) | ((capitals as u16) << 2) }
    }

    /// Whether Scroll Lock is on.
    pub const fn scroll(self) -> bool {
        self.bits & 1 != 0
    }

    /// Whether Num Lock is on.
    pub const fn number(self) -> bool {
        self.bits & 2 != 0
    }

    /// Whether Caps Lock is on.
    pub const fn capitals(self) -> bool {
        self.bits & 4 != 0
    }
}

impl Scancode {
    /// Pause, whose code is `E1 1D 45` and has a release of its own form.
    pub const PAUSE: Self = Self(Key::Pause);

    /// A key with a code of one byte, 0x01 to 0x7f; `None` for any other number.
    pub const fn plain(code: u8) -> Option<Self> {
        if matches!(code, 0x01..=0x7f) { Some(Self(Key::Plain(code))) } else { None }
    }

    /// A key with the prefix 0xE0 and this code, 0x01 to 0x7f; `None` for any other number.
    pub const fn extended(code: u8) -> Option<Self> {
        if matches!(code, 0x01..=0x7f) { Some(Self(Key::Extended(code))) } else { None }
    }

    /// Up to four bytes of scan codes, first in the lowest byte.
    const fn pressed(self) -> u32 {
        u32::from_le_bytes(match self.0 {
            Key::Plain(code) => [code, 0, 0, 0],
            Key::Extended(code) => [0xe0, code, 0, 0],
            Key::Pause => [0xe1, 0x1d, 0x45, 0],
        })
    }

    const fn released(self) -> u32 {
        u32::from_le_bytes(match self.0 {
            Key::Plain(code) => [code | 0x80, 0, 0, 0],
            Key::Extended(code) => [0xe0, code | 0x80, 0, 0],
            Key::Pause => [0xe1, 0x9d, 0xc5, 0],
        })
    }
}

impl MouseButton {
    const fn number(self) -> u8 {
        match self {
            Self::Left => 1,
            Self::Middle => 2,
            Self::Right => 3,
        }
    }

    /// `enums.h`, `SpiceMouseButtonMask`.
    const fn mask(self) -> u16 {
        match self {
            Self::Left => 1,
            Self::Middle => 2,
            Self::Right => 4,
        }
    }
}

delegate_to_channel!(InputsChannel, InputsEvent);

impl InputsChannel {
    /// An inputs channel that begins to link. What is done before the link is made is sent after.
    pub fn new(setup: LinkSetup) -> Self {
        let capabilities = Capabilities::of(&[CAPABILITY_KEY_SCANCODE]);
        Self::over(Channel::new(ChannelKind::Inputs, capabilities, setup))
    }

    pub(crate) const fn over(channel: Channel) -> Self {
        Self { channel, pressed: 0, motions_in_flight: 0, waiting: None }
    }

    /// Presses a key; again while it is down is a repetition. `key_down`: code u32.
    pub fn key_down(&mut self, key: Scancode) -> Result<(), SpiceError> {
        self.channel.send(client::KEY_DOWN, &key.pressed().to_le_bytes())
    }

    /// Releases a key. `key_up`: code u32.
    pub fn key_up(&mut self, key: Scancode) -> Result<(), SpiceError> {
        self.channel.send(client::KEY_UP, &key.released().to_le_bytes())
    }

    /// Asks the guest to have these locks on. `key_modifiers`: flags u16.
    pub fn set_locks(&mut self, locks: Locks) -> Result<(), SpiceError> {
        self.channel.send(client::KEY_MODIFIERS, &locks.bits.to_le_bytes())
    }

    /// Moves the pointer to a position of display channel `display_id` (client mouse mode);
    /// negative coordinates count as 0.
    pub fn move_to(&mut self, position: Point, display_id: u8) -> Result<(), SpiceError> {
        self.waiting = Some(Motion::Position(position, display_id));
        self.send_motion_within_window()
    }

    /// Moves the pointer by so many pixels (server mouse mode).
    pub fn move_by(&mut self, by: Point) -> Result<(), SpiceError> {
        let waiting = match self.waiting {
            Some(Motion::Relative(before)) => before,
            Some(Motion::Position(..)) | None => Point::default(),
        };
        let x = waiting.x.saturating_add(by.x);
        let y = waiting.y.saturating_add(by.y);
        self.waiting = Some(Motion::Relative(Point { x, y }));
        self.send_motion_within_window()
    }

    /// Presses a button, where the pointer is. `mouse_press`: button u8, buttons u16.
    pub fn press(&mut self, button: MouseButton) -> Result<(), SpiceError> {
        self.send_motion()?;
        self.pressed |= button.mask();
        self.send_button(client::MOUSE_PRESS, button.number())
    }

    /// Releases a button, where the pointer is. `mouse_release`: button u8, buttons u16.
    pub fn release(&mut self, button: MouseButton) -> Result<(), SpiceError> {
        self.send_motion()?;
        self.pressed &= !button.mask();
        self.send_button(client::MOUSE_RELEASE, button.number())
    }

    /// Turns the wheel by one notch, where the pointer is.
    pub fn wheel(&mut self, step: WheelStep) -> Result<(), SpiceError> {
        let button = match step {
            WheelStep::Up => 4,
            WheelStep::Down => 5,
        };
        self.send_motion()?;
        self.send_button(client::MOUSE_PRESS, button)?;
        self.send_button(client::MOUSE_RELEASE, button)
    }

    fn send_button(&mut self, kind: u16, number: u8) -> Result<(), SpiceError> {
        let [low, high] = self.pressed.to_le_bytes();
        self.channel.send(kind, &[number, low, high])
    }

    fn send_motion_within_window(&mut self) -> Result<(), SpiceError> {
        if self.motions_in_flight < MOTIONS_IN_FLIGHT_MAX { self.send_motion() } else { Ok(()) }
    }

    /// `mouse_motion`: dx i32, dy i32, buttons u16; `mouse_position`: x u32, y u32, buttons u16,
    /// display u8.
    fn send_motion(&mut self) -> Result<(), SpiceError> {
        let Some(motion) = self.waiting.take() else { return Ok(()) };
        self.motions_in_flight = self.motions_in_flight.saturating_add(1);
        let mut body = Vec::with_capacity(11);
        match motion {
            Motion::Relative(by) => {
                body.put_i32_le(by.x);
                body.put_i32_le(by.y);
                body.put_u16_le(self.pressed);
                self.channel.send(client::MOUSE_MOTION, &body)
            }
            Motion::Position(position, display_id) => {
                body.put_u32_le(u32::try_from(position.x).unwrap_or(0));
                body.put_u32_le(u32::try_from(position.y).unwrap_or(0));
                body.put_u16_le(self.pressed);
                body.put_u8(display_id);
                self.channel.send(client::MOUSE_POSITION, &body)
            }
        }
    }

    fn handle(&mut self, message: &Message) -> Result<Option<InputsEvent>, SpiceError> {
        match message.kind {
            server::INIT | server::KEY_MODIFIERS => {
                let bits = Reader::new(&message.body, "key modifiers").u16()? & 7;
                Ok(Some(InputsEvent::Locks(Locks { bits })))
            }
            server::MOUSE_MOTION_ACK => {
                self.motions_in_flight = self.motions_in_flight.saturating_sub(MOTIONS_PER_ACK);
                self.send_motion_within_window()?;
                Ok(None)
            }
            other => {
                let unsupported = Unsupported::nowhere(Feature::Message(other));
                Ok(Some(InputsEvent::Common(CommonEvent::Unsupported(unsupported))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::message;

    fn inputs() -> InputsChannel {
        InputsChannel::over(Channel::opened(ChannelKind::Inputs))
    }

    fn sent(inputs: &mut InputsChannel) -> Vec<u8> {
        inputs.poll_transmit().map(Vec::from).unwrap_or_default()
    }

    fn position(x: u8, buttons: u8) -> Vec<u8> {
        message(112, &[x, 0, 0, 0, 0, 0, 0, 0, buttons, 0, 0])
    }

    #[test]
    fn keys_are_scan_codes_with_their_prefix_first() {
        let mut inputs = inputs();
        let keys = [Scancode::plain(0x1e).unwrap(), Scancode::extended(0x48).unwrap()];
        for key in [keys[0], keys[1], Scancode::PAUSE] {
            inputs.key_down(key).unwrap();
            inputs.key_up(key).unwrap();
        }
        let expected = [
            message(101, &[0x1e, 0, 0, 0]),
            message(102, &[0x9e, 0, 0, 0]),
            message(101, &[0xe0, 0x48, 0, 0]),
            message(102, &[0xe0, 0xc8, 0, 0]),
            message(101, &[0xe1, 0x1d, 0x45, 0]),
            message(102, &[0xe1, 0x9d, 0xc5, 0]),
        ];
        assert_eq!(sent(&mut inputs), expected.concat());
        assert_eq!((Scancode::plain(0), Scancode::extended(0x80)), (None, None));
    }

    #[test]
    fn at_most_eight_positions_are_in_flight_and_the_newest_follows() {
        let mut inputs = inputs();
        for x in 0..20 {
            inputs.move_to(Point::new(x, 0), 0).unwrap();
        }
        let eight: Vec<u8> = (0..8).flat_map(|x| position(x, 0)).collect();
        assert_eq!(sent(&mut inputs), eight);
        inputs.receive(&message(111, &[])).unwrap();
        assert_eq!(inputs.next_event(), Ok(None));
        assert_eq!(sent(&mut inputs), position(19, 0));
    }

    #[test]
    fn a_click_lands_where_the_pointer_is_even_when_the_window_is_full() {
        let mut inputs = inputs();
        (0..9).for_each(|x| inputs.move_to(Point::new(x, 0), 0).unwrap());
        sent(&mut inputs);
        inputs.press(MouseButton::Right).unwrap();
        inputs.release(MouseButton::Right).unwrap();
        let expected = [position(8, 0), message(113, &[3, 4, 0]), message(114, &[3, 0, 0])];
        assert_eq!(sent(&mut inputs), expected.concat());
    }

    #[test]
    fn relative_motions_that_wait_add_up() {
        let mut inputs = inputs();
        (0..11).for_each(|_| inputs.move_by(Point::new(1, -2)).unwrap());
        sent(&mut inputs);
        inputs.wheel(WheelStep::Down).unwrap();
        let motion = [3_i32.to_le_bytes(), (-6_i32).to_le_bytes()].concat();
        let motion = message(111, &[&motion[..], &[0, 0]].concat());
        let expected = [motion, message(113, &[5, 0, 0]), message(114, &[5, 0, 0])];
        assert_eq!(sent(&mut inputs), expected.concat());
    }

    #[test]
    fn locks_go_both_ways() {
        let mut inputs = inputs();
        inputs.receive(&[message(101, &[2, 0]), message(102, &[5, 0])].concat()).unwrap();
        let on = Locks::new(false, true, false);
        assert_eq!(inputs.next_event(), Ok(Some(InputsEvent::Locks(on))));
        let on = Locks::new(true, false, true);
        assert_eq!(inputs.next_event(), Ok(Some(InputsEvent::Locks(on))));
        inputs.set_locks(on).unwrap();
        assert_eq!(sent(&mut inputs), message(103, &[5, 0]));
    }
}
