//! Several monitors: what a guest says of them reaches the browsers, and their windows the guest.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use vidi_display::protocol::{BrowserHello, MonitorWindow, ViewerMessage, records};
use vidi_display::{AgentCommand, Effect, Policy, Session, ViewerId, ViewerRights};
use vidi_spice::display::{DisplayEvent, Head, Monitors, Surface, SurfaceFormat};
use vidi_spice::{AgentAbilities, AgentEvent, Rect, SurfaceId};

const LEFT: Rect = Rect::new(0, 0, 800, 600);
const RIGHT: Rect = Rect::new(800, 0, 1440, 480);

/// Bodies of records, and whose they are.
type Told = Vec<(ViewerId, Vec<u8>)>;

struct World {
    session: Session,
    now: Duration,
}

impl World {
    fn new(policy: Policy) -> Self {
        let mut world = Self { session: Session::new(policy), now: Duration::ZERO };
        let able = AgentAbilities { clipboard: false, monitors: true, files: false };
        world.session.agent_event(&AgentEvent::Abilities(able));
        world.show(&[LEFT]);
        world
    }

    fn join(&mut self, rights: ViewerRights) -> ViewerId {
        let hello = BrowserHello { width: 800, height: 600, ..BrowserHello::default() };
        self.session.add_viewer(hello, rights).unwrap()
    }

    /// The guest shows these monitors on one surface.
    fn show(&mut self, areas: &[Rect]) {
        let around = areas.iter().fold(Rect::default(), |around, area| around.union(area));
        let surface = Surface {
            id: SurfaceId(0),
            width: around.width(),
            height: around.height(),
            format: SurfaceFormat::Xrgb32,
            primary: true,
        };
        let head = |(id, area): (u32, &Rect)| Head { id, surface: SurfaceId(0), area: *area };
        let heads = (0..).zip(areas).map(head).collect();
        let told = Monitors { allowed_max: 3, heads };
        for event in [DisplayEvent::SurfaceCreated(surface), DisplayEvent::Monitors(told)] {
            self.session.display_event(&event, self.now).unwrap();
        }
    }

    /// What happens within a second: screens that the guest is asked for, and each record 28 with its
    /// viewer.
    fn second(&mut self) -> (Vec<Vec<Rect>>, Told) {
        let (mut asked, mut told) = (Vec::new(), Vec::new());
        for _step in 0..100 {
            self.now += Duration::from_millis(10);
            while let Some(effect) = self.session.poll(self.now) {
                match effect {
                    Effect::Agent(AgentCommand::Arrange(screens)) => asked.push(screens),
                    Effect::Send { viewer, message } => {
                        let of_monitors = records(&message).filter(|(kind, _)| *kind == 28);
                        told.extend(of_monitors.map(|(_, body)| (viewer, body.to_vec())));
                    }
                    _ => {}
                }
            }
        }
        (asked, told)
    }
}

fn windows(windows: &[(u8, u16, u16)]) -> ViewerMessage {
    let window = |&(monitor, width, height)| MonitorWindow { monitor, width, height };
    ViewerMessage::Windows(windows.iter().map(window).collect())
}

#[test]
fn windows_become_monitors_and_every_viewer_is_told_where_they_are() {
    let mut world = World::new(Policy::default());
    let ana = world.join(ViewerRights::Control);
    let eye = world.join(ViewerRights::Look);
    let one = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 3, 0x58, 2].to_vec();
    let (asked, told) = world.second();
    assert_eq!(asked, Vec::<Vec<Rect>>::new(), "it is shown already");
    assert_eq!(told, [(ana, one.clone()), (eye, one)]);

    world.session.viewer_message(eye, &windows(&[(0, 9, 9), (1, 9, 9)]), world.now);
    assert_eq!(world.second().0, Vec::<Vec<Rect>>::new(), "who looks has no say");
    let wish = windows(&[(0, 800, 600), (1, 640, 480)]);
    world.session.viewer_message(ana, &wish, world.now);
    assert_eq!(world.second().0, [[LEFT, RIGHT]]);
    world.show(&[LEFT, RIGHT]);
    world.session.viewer_message(ana, &wish, world.now);
    let (asked, told) = world.second();
    assert_eq!((asked.len(), told.len()), (0, 2), "it is shown already");
    assert_eq!(told[0].1[14..], [1, 0, 0x20, 3, 0, 0, 0x80, 2, 0xe0, 1]);

    world.session.display_closed();
    assert_eq!(world.second().1, [(ana, vec![1, 0, 0, 0]), (eye, vec![1, 0, 0, 0])]);
}

#[test]
fn where_the_screen_does_not_follow_there_is_no_second_monitor() {
    let mut world = World::new(Policy { resize: false, ..Policy::default() });
    let ana = world.join(ViewerRights::Control);
    assert_eq!(world.second().1[0].1[0], 1, "one monitor at most");
    world.session.viewer_message(ana, &windows(&[(0, 800, 600), (1, 640, 480)]), world.now);
    assert_eq!(world.second().0, Vec::<Vec<Rect>>::new());
}
