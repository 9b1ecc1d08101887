//! Writes down what an operator sees of the fleet, in names that people gave: what changed, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vidi_controller::model::{Desktop, HostLive, Place, Presence, Session, World};
use vidi_kit::ids::{DesktopId, SessionId};

use crate::sim::{START_MS, Sim, tenant};

/// Between two looks.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// One line: when, in ms of the run, and what.
pub(crate) type Line = (i64, String);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Scribe {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: Vec<Line>,
    /// What was last seen of each thing.
    seen: BTreeMap<String, String>,
    /// Desktops are called after their pool, in the order of their ids.
    names: BTreeMap<DesktopId, String>,
    counts: BTreeMap<String, usize>,
}

impl Scribe {
    /// Looks until the run ends.
    pub(crate) fn begin(sim: &Arc<Sim>) -> Arc<Self> {
        let scribe = Arc::new(Self::default());
        let (watching, sim) = (Arc::clone(&scribe), Arc::clone(sim));
        let tasks = sim.tasks.clone();
        let _looks = tasks.spawn("scribe", async move {
            loop {
                watching.look(&sim);
                tokio::time::sleep(LOOK_PERIOD).await;
            }
        });
        scribe
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// The desktop of this name.
    pub(crate) fn desktop(&self, name: &str) -> Option<DesktopId> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    fn look(&self, sim: &Sim) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = kept.picture(sim);
        let at_ms = sim.now_ms() - START_MS;
        let Kept { lines, seen, .. } = &mut *kept;
        for (who, what) in &now {
            if seen.get(who) != Some(what) {
                lines.push((at_ms, format!("{who} {what}")));
            }
        }
        // While nobody leads nothing is known, and nothing is gone.
        if now.len() != 1 {
            let gone = seen.keys().filter(|who| !now.contains_key(*who));
            lines.extend(gone.map(|who| (at_ms, format!("{who} is gone"))));
            seen.clear();
        }
        seen.extend(now);
    }
}

impl Kept {
    fn picture(&mut self, sim: &Sim) -> BTreeMap<String, String> {
        let who = "the installation".to_owned();
        let Some(serving) = sim.leader(&sim.dice("scribe")) else {
            return BTreeMap::from([(who, "is led by nobody".to_owned())]);
        };
        let world = serving.handle.world();
        let mut now = BTreeMap::from([(who, format!("is led by {}", serving.life.name))]);
        for (host, kept) in world.hosts.iter() {
            let live = world.hosts_live.get(host).map(|live| &**live);
            let mut what = link(live).to_owned();
            if kept.draining {
                what += " and is drained";
            } else if kept.cordoned {
                what += " and gets nothing new";
            }
            now.insert(host.to_string(), what);
        }
        for ((_, id), pool) in world.pools.iter() {
            if let Some(suspended) = &pool.suspended {
                now.insert(format!("pool {id}"), format!("is suspended: {}", suspended.reason));
            }
        }
        let desktops = world.desktops.iter();
        let desktops: Vec<_> = desktops.map(|((_, id), one)| (*id, Arc::clone(one))).collect();
        for (id, desktop) in &desktops {
            let name = self.name(*id, desktop);
            now.insert(name, state(&world, *id, desktop));
        }
        for (id, session) in newest(&world) {
            let (who, what) = self.visit(&world, id, &session);
            now.insert(who, what);
        }
        now
    }

    fn name(&mut self, id: DesktopId, desktop: &Desktop) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let kind = desktop.spec.pool.map_or_else(|| "desktop".to_owned(), |pool| pool.to_string());
        let count = self.counts.entry(kind.clone()).or_default();
        *count += 1;
        let name = format!("{kind}-{count}");
        self.names.insert(id, name.clone());
        name
    }

    fn visit(&self, world: &World, id: SessionId, session: &Session) -> (String, String) {
        let pool = session.pool.map_or_else(String::new, |pool| pool.to_string());
        let who = format!("{} at {pool}", session.user);
        let name = match session.place {
            Place::Desktop(id) => self.names.get(&id).map_or("", String::as_str),
            Place::Machine(_) | Place::Pool(_) => "",
        };
        let what = match (&session.presence, session.place) {
            (Presence::Ended(cause), _) => format!("had {name}: {cause}"),
            (_, Place::Pool(pool)) => {
                let tenant = tenant();
                let before = world.pool_waiting(&tenant, pool).take_while(|other| *other < id);
                format!("waits, {} before", before.count())
            }
            (Presence::Opening, _) => format!("opens {name}"),
            (Presence::Connected, _) => format!("sees {name}"),
            (Presence::Disconnected(_), _) => format!("is away from {name}"),
        };
        (who, what)
    }
}

const fn link(live: Option<&HostLive>) -> &'static str {
    match live {
        Some(live) if live.silent => "does not answer",
        Some(live) if live.is_linked() => "is linked",
        Some(_) => "has lost its link",
        None => "is awaited",
    }
}

fn state(world: &World, id: DesktopId, desktop: &Desktop) -> String {
    let Desktop { spec, status } = desktop;
    let at =
        status.host.as_ref().map_or_else(|| "without a host".to_owned(), |h| format!("on {h}"));
    let what = if spec.deleting {
        "is being destroyed"
    } else if world.is_ready(desktop, id) {
        "is ready"
    } else {
        status.power.word()
    };
    let whose = spec.assigned_user.as_ref().map_or_else(String::new, |user| format!(", {user}'s"));
    format!("{at}: {what}{whose}")
}

/// Of each user and pool the newest session.
fn newest(world: &World) -> Vec<(SessionId, Arc<Session>)> {
    let mut found = BTreeMap::new();
    for ((_, id), session) in world.sessions.iter() {
        let of = (session.user.clone(), session.pool);
        let newer = |(known, _): &(SessionId, Arc<Session>)| known < id;
        if found.get(&of).is_none_or(newer) {
            found.insert(of, (*id, Arc::clone(session)));
        }
    }
    found.into_values().collect()
}
