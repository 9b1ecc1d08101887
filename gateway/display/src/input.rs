//! Keys, buttons and movements of all viewers as the one keyboard and the one mouse of the guest.
//!
//! What each viewer holds is kept, so that everything can be let go when it loses focus or goes
//! away, and so that one viewer's release does not let go what another still holds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vidi_spice::{
    InputsChannel, MouseButton, MouseMode, Point, Rect, Scancode, SpiceError, WheelStep,
};

use crate::protocol::{Buttons, ViewerMessage};
use crate::session::ViewerId;

/// Most keys that a viewer holds at once; there are ten fingers, and keyboards with 104 keys.
const KEYS_HELD_MAX: usize = 128;

/// Most steps of one wheel record; a fling of a touch pad is split into many.
const WHEEL_STEPS_MAX: u8 = 16;

/// Most input that waits for a guest which takes over a clipboard; nobody does more in that time.
const WAITING_MAX: usize = 256;

/// After this much silence of a viewer, what it holds is let go: browsers send a ping every second, so
/// its line stands still, and the guest would repeat the key until that is noticed otherwise.
const SILENCE_MAX: Duration = Duration::from_millis(2500);

/// What the guest's keyboard and mouse do, in the words of [`InputsChannel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// A key goes down, or again down when it repeats.
    KeyDown(Scancode),
    /// A key goes up.
    KeyUp(Scancode),
    /// The pointer is at a position inside the picture (client mouse mode).
    MoveTo(Point),
    /// The mouse was moved by so much (server mouse mode).
    MoveBy(Point),
    /// A button goes down.
    Press(MouseButton),
    /// A button goes up.
    Release(MouseButton),
    /// The wheel turns by one notch.
    Wheel(WheelStep),
}

impl InputEvent {
    /// Tells a guest, over the inputs channel of the session that shows display channel
    /// `display_id`.
    pub fn apply(self, inputs: &mut InputsChannel, display_id: u8) -> Result<(), SpiceError> {
        match self {
            Self::KeyDown(key) => inputs.key_down(key),
            Self::KeyUp(key) => inputs.key_up(key),
            Self::MoveTo(position) => inputs.move_to(position, display_id),
            Self::MoveBy(by) => inputs.move_by(by),
            Self::Press(button) => inputs.press(button),
            Self::Release(button) => inputs.release(button),
            Self::Wheel(step) => inputs.wheel(step),
        }
    }
}

/// The buttons that SPICE has, with their bits in [`Buttons`]. Those on the side (8 and 16) have
/// none there.
const BUTTONS: [(MouseButton, u8); 3] =
    [(MouseButton::Left, 1), (MouseButton::Middle, 2), (MouseButton::Right, 4)];

/// What the viewers hold, and what the guest is to be told.
#[derive(Debug, Default)]
pub(crate) struct Input {
    held: BTreeMap<ViewerId, Held>,
    queue: VecDeque<InputEvent>,
    /// Until when what is in the queue waits.
    waits_until: Duration,
}

#[derive(Debug, Default)]
struct Held {
    keys: Vec<Scancode>,
    buttons: Buttons,
    /// When the last record came from the viewer.
    heard_at: Duration,
    /// Let go for its silence: nothing of this is pressed again before the viewer has let go of it too.
    lapsed_keys: Vec<Scancode>,
    lapsed_buttons: u8,
}

impl Held {
    const fn is_anything(&self) -> bool {
        !self.keys.is_empty() || self.buttons.bits() != 0
    }
}

/// What the guest's pointer can do now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pointer {
    pub(crate) mode: MouseMode,
    /// Where it can be, with its top left at the origin.
    pub(crate) picture: Rect,
}

impl Input {
    /// Notes that a record came from a viewer, of whatever kind.
    pub(crate) fn heard(&mut self, viewer: ViewerId, now: Duration) {
        self.held.entry(viewer).or_default().heard_at = now;
    }

    /// Takes a record of a viewer that may type and point; those about other things are ignored.
    pub(crate) fn handle(&mut self, viewer: ViewerId, message: &ViewerMessage, pointer: Pointer) {
        match *message {
            ViewerMessage::Key { down: true, key } => self.press(viewer, key),
            ViewerMessage::Key { down: false, key } => self.release(viewer, key),
            ViewerMessage::Pointer { x, y, buttons } => {
                let inside = pointer.picture.width() > 0 && pointer.picture.height() > 0;
                if pointer.mode == MouseMode::Client && inside {
                    let x = i32::from(x).min(pointer.picture.right - 1);
                    let y = i32::from(y).min(pointer.picture.bottom - 1);
                    self.queue_movement(InputEvent::MoveTo(Point::new(x, y)));
                }
                self.hold_buttons(viewer, buttons);
            }
            ViewerMessage::PointerDelta { dx, dy, buttons } => {
                if pointer.mode == MouseMode::Server && (dx, dy) != (0, 0) {
                    let by = Point::new(dx.into(), dy.into());
                    self.queue_movement(InputEvent::MoveBy(by));
                }
                self.hold_buttons(viewer, buttons);
            }
            ViewerMessage::Wheel { clicks, buttons } => {
                self.hold_buttons(viewer, buttons);
                let step = if clicks > 0 { WheelStep::Up } else { WheelStep::Down };
                for _notch in 0..clicks.unsigned_abs().min(WHEEL_STEPS_MAX) {
                    self.queue.push_back(InputEvent::Wheel(step));
                }
            }
            ViewerMessage::ReleaseAll => self.release_all(viewer),
            ViewerMessage::Hello(_)
            | ViewerMessage::Ack { .. }
            | ViewerMessage::Ping(_)
            | ViewerMessage::Refresh
            | ViewerMessage::Clipboard(_)
            | ViewerMessage::Sharing(_)
            | ViewerMessage::File(_)
            | ViewerMessage::Speech(_)
            | ViewerMessage::CannotDecode { .. }
            | ViewerMessage::Window { .. }
            | ViewerMessage::Windows(_) => {}
        }
    }

    /// Lets go of everything that the viewer holds.
    pub(crate) fn release_all(&mut self, viewer: ViewerId) {
        let keys = self.held.get(&viewer).map(|held| held.keys.clone()).unwrap_or_default();
        for key in keys.into_iter().rev() {
            self.release(viewer, key);
        }
        self.hold_buttons(viewer, Buttons::default());
        self.held.remove(&viewer);
    }

    /// Lets go of what viewers hold of whom nothing was heard for too long.
    fn release_silent(&mut self, now: Duration) {
        let is_silent = |held: &Held| held.is_anything() && held.heard_at + SILENCE_MAX <= now;
        let silent: Vec<ViewerId> =
            self.held.iter().filter_map(|(id, held)| is_silent(held).then_some(*id)).collect();
        for viewer in silent {
            let Some(held) = self.held.get(&viewer) else { continue };
            let mut keys = held.lapsed_keys.clone();
            keys.extend(&held.keys);
            let buttons = held.lapsed_buttons | held.buttons.bits();
            self.release_all(viewer);
            let lapsed = Held { lapsed_keys: keys, lapsed_buttons: buttons, ..Held::default() };
            self.held.insert(viewer, lapsed);
        }
    }

    /// Nothing goes to the guest before this, unless too much waits.
    pub(crate) const fn wait_until(&mut self, until: Duration) {
        self.waits_until = until;
    }

    /// The next thing for the guest.
    pub(crate) fn next(&mut self, now: Duration) -> Option<InputEvent> {
        self.release_silent(now);
        let may_go = self.waits_until <= now || WAITING_MAX < self.queue.len();
        self.queue.pop_front_if(|_| may_go)
    }

    /// When [`Self::next`] may have something.
    pub(crate) fn due_at(&self) -> Option<Duration> {
        let queued = (!self.queue.is_empty()).then_some(self.waits_until);
        let holding = self.held.values().filter(|held| held.is_anything());
        holding.map(|held| held.heard_at + SILENCE_MAX).chain(queued).min()
    }

    fn press(&mut self, viewer: ViewerId, key: Scancode) {
        if key == Scancode::PAUSE {
            // The one key that keyboards let go of by themselves.
            self.queue.extend([InputEvent::KeyDown(key), InputEvent::KeyUp(key)]);
            return;
        }
        let held = self.held.entry(viewer).or_default();
        if held.lapsed_keys.contains(&key) {
            return;
        }
        if !held.keys.contains(&key) {
            if held.keys.len() >= KEYS_HELD_MAX {
                return;
            }
            held.keys.push(key);
        }
        self.queue.push_back(InputEvent::KeyDown(key));
    }

    /// A release of what was not pressed here is passed over: another may hold it.
    fn release(&mut self, viewer: ViewerId, key: Scancode) {
        let Some(held) = self.held.get_mut(&viewer) else { return };
        held.lapsed_keys.retain(|lapsed| *lapsed != key);
        let Some(position) = held.keys.iter().position(|held| *held == key) else { return };
        held.keys.remove(position);
        if !self.held.values().any(|held| held.keys.contains(&key)) {
            self.queue.push_back(InputEvent::KeyUp(key));
        }
    }

    /// The buttons that any viewer holds.
    fn buttons(&self) -> u8 {
        self.held.values().fold(0, |bits, held| bits | held.buttons.bits())
    }

    fn hold_buttons(&mut self, viewer: ViewerId, buttons: Buttons) {
        let before = self.buttons();
        let held = self.held.entry(viewer).or_default();
        held.lapsed_buttons &= buttons.bits();
        held.buttons = Buttons::new(buttons.bits() & !held.lapsed_buttons);
        let after = self.buttons();
        for (button, bit) in BUTTONS {
            if before & bit == 0 && after & bit != 0 {
                self.queue.push_back(InputEvent::Press(button));
            } else if before & bit != 0 && after & bit == 0 {
                self.queue.push_back(InputEvent::Release(button));
            }
        }
    }

    /// The newest position wins, and movements add up, until something else comes between.
    fn queue_movement(&mut self, movement: InputEvent) {
        match (self.queue.back_mut(), movement) {
            (Some(last @ InputEvent::MoveTo(_)), InputEvent::MoveTo(_)) => *last = movement,
            (Some(InputEvent::MoveBy(before)), InputEvent::MoveBy(by)) => {
                before.x = before.x.saturating_add(by.x);
                before.y = before.y.saturating_add(by.y);
            }
            _ => self.queue.push_back(movement),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    const POINTER: Pointer =
        Pointer { mode: MouseMode::Client, picture: Rect::new(0, 0, 640, 480) };
    const ONE: ViewerId = ViewerId(1);
    const TWO: ViewerId = ViewerId(2);

    fn key(down: bool, code: u8) -> ViewerMessage {
        ViewerMessage::Key { down, key: Scancode::plain(code).unwrap() }
    }

    fn pointer(x: u16, bits: u8) -> ViewerMessage {
        ViewerMessage::Pointer { x, y: 7, buttons: Buttons::new(bits) }
    }

    fn shown(input: &mut Input) -> String {
        shown_at(input, Duration::ZERO)
    }

    fn shown_at(input: &mut Input, now: Duration) -> String {
        let mut lines = String::new();
        while let Some(event) = input.next(now) {
            lines += &format!("{event:?}\n");
        }
        lines
    }

    fn check(messages: &[(ViewerId, ViewerMessage)], expected: Expect) {
        let mut input = Input::default();
        for (viewer, message) in messages {
            input.handle(*viewer, message, POINTER);
        }
        expected.assert_eq(&shown(&mut input));
    }

    #[test]
    fn the_newest_position_wins_but_no_button_change_is_lost() {
        check(
            &[
                (ONE, pointer(1, 0)),
                (ONE, pointer(2, 0)),
                (ONE, pointer(3, 5)),
                (ONE, pointer(9999, 4)),
                (ONE, pointer(5, 4)),
            ],
            expect![[r#"
                MoveTo(Point { x: 3, y: 7 })
                Press(Left)
                Press(Right)
                MoveTo(Point { x: 639, y: 7 })
                Release(Left)
                MoveTo(Point { x: 5, y: 7 })
            "#]],
        );
    }

    #[test]
    fn losing_focus_lets_go_of_everything_in_reverse_order() {
        check(
            &[
                (ONE, key(true, 0x1d)),
                (ONE, key(true, 0x38)),
                (ONE, key(true, 0x38)),
                (ONE, pointer(3, 1)),
                (ONE, ViewerMessage::ReleaseAll),
                (ONE, ViewerMessage::ReleaseAll),
                (ONE, key(false, 0x1d)),
            ],
            expect![[r#"
                KeyDown(Scancode(Plain(29)))
                KeyDown(Scancode(Plain(56)))
                KeyDown(Scancode(Plain(56)))
                MoveTo(Point { x: 3, y: 7 })
                Press(Left)
                KeyUp(Scancode(Plain(56)))
                KeyUp(Scancode(Plain(29)))
                Release(Left)
            "#]],
        );
    }

    #[test]
    fn a_key_that_two_hold_goes_up_with_the_last() {
        check(
            &[
                (ONE, key(true, 0x2a)),
                (TWO, key(true, 0x2a)),
                (ONE, key(false, 0x2a)),
                (TWO, ViewerMessage::ReleaseAll),
            ],
            expect![[r#"
                KeyDown(Scancode(Plain(42)))
                KeyDown(Scancode(Plain(42)))
                KeyUp(Scancode(Plain(42)))
            "#]],
        );
    }

    #[test]
    fn pause_is_never_held() {
        let pause = |down| (ONE, ViewerMessage::Key { down, key: Scancode::PAUSE });
        check(
            &[pause(true), pause(false), (ONE, ViewerMessage::ReleaseAll)],
            expect![[r#"
                KeyDown(Scancode(Pause))
                KeyUp(Scancode(Pause))
            "#]],
        );
    }

    #[test]
    fn what_a_silent_viewer_holds_is_let_go_and_not_pressed_again() {
        let mut input = Input::default();
        let mut now = Duration::ZERO;
        let mut tell = |input: &mut Input, after: Duration, viewer, message: ViewerMessage| {
            now += after;
            let before = shown_at(input, now);
            input.heard(viewer, now);
            input.handle(viewer, &message, POINTER);
            before + &shown_at(input, now)
        };
        let second = Duration::from_secs(1);
        let ping = || ViewerMessage::Ping([0; 8]);
        let mut lines = tell(&mut input, second, ONE, key(true, 0x1e));
        lines += &tell(&mut input, second, TWO, pointer(3, 1));
        lines += &tell(&mut input, second, ONE, ping());
        lines += "both are heard\n";
        lines += &tell(&mut input, second, TWO, ping());
        assert_eq!(input.due_at(), Some(second * 3 + SILENCE_MAX), "the first was heard at 3 s");
        lines += &tell(&mut input, SILENCE_MAX - second, TWO, ping());
        lines += "the first was silent; the key repeats, and is pressed anew after it was let go\n";
        for down in [true, false, true] {
            lines += &tell(&mut input, Duration::ZERO, ONE, key(down, 0x1e));
        }
        lines += "all are silent\n";
        lines += &tell(&mut input, SILENCE_MAX, TWO, pointer(4, 1));
        lines += &tell(&mut input, second, TWO, pointer(4, 3));
        lines += &tell(&mut input, second, TWO, pointer(4, 2));
        lines += &tell(&mut input, second, TWO, pointer(4, 3));
        expect![[r#"
            KeyDown(Scancode(Plain(30)))
            MoveTo(Point { x: 3, y: 7 })
            Press(Left)
            both are heard
            KeyUp(Scancode(Plain(30)))
            the first was silent; the key repeats, and is pressed anew after it was let go
            KeyDown(Scancode(Plain(30)))
            all are silent
            KeyUp(Scancode(Plain(30)))
            Release(Left)
            MoveTo(Point { x: 4, y: 7 })
            MoveTo(Point { x: 4, y: 7 })
            Press(Middle)
            MoveTo(Point { x: 4, y: 7 })
            MoveTo(Point { x: 4, y: 7 })
            Press(Left)
        "#]]
        .assert_eq(&lines);
    }

    #[test]
    fn the_wheel_is_bounded() {
        let wheel = |clicks| ViewerMessage::Wheel { clicks, buttons: Buttons::default() };
        let mut input = Input::default();
        input.handle(ONE, &wheel(i8::MIN), POINTER);
        assert_eq!(shown(&mut input).lines().count(), usize::from(WHEEL_STEPS_MAX));
        check(
            &[(ONE, wheel(1)), (ONE, wheel(-1))],
            expect![[r#"
            Wheel(Up)
            Wheel(Down)
        "#]],
        );
    }

    proptest! {
        #[test]
        fn nothing_stays_pressed_in_the_guest(
            steps in proptest::collection::vec((1..3_u64, 0..5_u8, any::<u8>()), 0..60),
        ) {
            let mut input = Input::default();
            for (viewer, kind, byte) in steps {
                let message = match kind {
                    0 | 1 => key(true, 1 + (byte & 3)),
                    2 => key(false, 1 + (byte & 3)),
                    3 => pointer(u16::from(byte), byte),
                    _ => ViewerMessage::ReleaseAll,
                };
                input.handle(ViewerId(viewer), &message, POINTER);
            }
            input.release_all(ONE);
            input.release_all(TWO);
            let (mut keys, mut buttons) = (Vec::new(), Vec::new());
            while let Some(event) = input.next(Duration::ZERO) {
                match event {
                    InputEvent::KeyDown(key) if !keys.contains(&key) => keys.push(key),
                    InputEvent::KeyUp(key) => {
                        prop_assert!(keys.contains(&key));
                        keys.retain(|held| *held != key);
                    }
                    InputEvent::Press(button) => {
                        prop_assert!(!buttons.contains(&button));
                        buttons.push(button);
                    }
                    InputEvent::Release(button) => {
                        prop_assert!(buttons.contains(&button));
                        buttons.retain(|held| *held != button);
                    }
                    _ => {}
                }
            }
            prop_assert_eq!((keys.len(), buttons.len()), (0, 0));
        }
    }
}
