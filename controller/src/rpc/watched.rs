//! What streams of changes tell: desktops, pools, sessions.

use prost::Message;
use vidi_kit::Clock;
use vidi_kit::ids::{DesktopId, PoolId, SessionId, TenantId};
use vidi_proto::v1::{
    ChangeKind, Desktop, Pool, Session, WatchDesktopsResponse, WatchPoolsResponse,
    WatchSessionsResponse,
};

use super::authorization::Access;
use super::desktops::reaches;
use super::pool_fields;
use super::watching::Watched;
use super::wire::{self, desktop_name, pool_name, session_name};
use crate::model::{Place, World};

/// Desktops that a caller reaches.
#[derive(Debug)]
pub(super) struct Desktops;

impl Watched for Desktops {
    type Key = (TenantId, DesktopId);
    type Thing = Desktop;
    type Event = WatchDesktopsResponse;

    const TASK: &'static str = "watch-desktops";

    fn keys(&self, world: &World, only: Option<&TenantId>) -> Vec<Self::Key> {
        let all = world.desktops.iter().map(|(key, _)| key);
        all.filter(|(tenant, _)| only.is_none_or(|only| only == tenant)).cloned().collect()
    }

    fn concerned(&self, _: &World, tenant: &TenantId, place: Place) -> Vec<Self::Key> {
        match place {
            Place::Desktop(id) => vec![(tenant.clone(), id)],
            Place::Machine(_) | Place::Pool(_) => Vec::new(),
        }
    }

    fn thing(&self, world: &World, access: &Access, (tenant, id): &Self::Key) -> Option<Desktop> {
        let one = world.desktop(tenant, *id).filter(|one| reaches(access, tenant, one))?;
        Some(wire::desktop(world, tenant, *id, one))
    }

    fn gone(&self, _: &World, (tenant, id): &Self::Key) -> Desktop {
        Desktop { name: desktop_name(tenant, *id), ..Desktop::default() }
    }

    fn event(
        kind: ChangeKind,
        desktop: Option<Desktop>,
        resume_token: String,
    ) -> WatchDesktopsResponse {
        WatchDesktopsResponse { kind: kind.into(), desktop, resume_token }
    }
}

/// Pools of a tenant that a caller sees.
#[derive(Debug)]
pub(super) struct Pools {
    /// By it their schedules go.
    pub(super) clock: Clock,
}

impl Watched for Pools {
    type Key = (TenantId, PoolId);
    type Thing = Pool;
    type Event = WatchPoolsResponse;

    const TASK: &'static str = "watch-pools";
    const BY_TIME: bool = true;

    fn keys(&self, world: &World, only: Option<&TenantId>) -> Vec<Self::Key> {
        let all = world.pools.iter().map(|(key, _)| key);
        all.filter(|(tenant, _)| only.is_none_or(|only| only == tenant)).cloned().collect()
    }

    fn concerned(&self, _: &World, tenant: &TenantId, place: Place) -> Vec<Self::Key> {
        match place {
            Place::Pool(id) => vec![(tenant.clone(), id)],
            Place::Desktop(_) | Place::Machine(_) => Vec::new(),
        }
    }

    fn thing(&self, world: &World, access: &Access, (tenant, id): &Self::Key) -> Option<Pool> {
        let one = world.pool(tenant, *id).filter(|_| access.covers(tenant))?;
        Some(pool_fields::on_wire(world, (tenant, *id), one, self.clock.now_ms()))
    }

    fn gone(&self, _: &World, (tenant, id): &Self::Key) -> Pool {
        Pool { name: pool_name(tenant, *id), ..Pool::default() }
    }

    fn event(kind: ChangeKind, pool: Option<Pool>, resume_token: String) -> WatchPoolsResponse {
        WatchPoolsResponse { kind: kind.into(), pool, resume_token }
    }
}

/// Sessions that go on and that a caller reaches.
#[derive(Debug)]
pub(super) struct Sessions {
    /// By it their estimates go.
    pub(super) clock: Clock,
}

impl Watched for Sessions {
    type Key = (TenantId, SessionId);
    type Thing = Session;
    type Event = WatchSessionsResponse;

    const TASK: &'static str = "watch-sessions";

    fn keys(&self, world: &World, only: Option<&TenantId>) -> Vec<Self::Key> {
        let all = world.live_sessions.iter().map(|(id, tenant)| (TenantId::clone(tenant), *id));
        let mut keys: Vec<_> =
            all.filter(|(tenant, _)| only.is_none_or(|only| only == tenant)).collect();
        keys.sort_unstable();
        keys
    }

    fn concerned(&self, world: &World, tenant: &TenantId, place: Place) -> Vec<Self::Key> {
        let mut ids = world.sessions_of(tenant, place);
        if let Place::Pool(pool) = place {
            ids.extend(world.pool_waiting(tenant, pool));
        }
        ids.into_iter().map(|id| (tenant.clone(), id)).collect()
    }

    fn thing(&self, world: &World, access: &Access, (tenant, id): &Self::Key) -> Option<Session> {
        let one = world.session(tenant, *id).filter(|one| one.is_live())?;
        let session = || super::sessions::on_wire(world, (tenant, *id), one, self.clock.now_ms());
        access.reaches(tenant, Some(&one.user)).then(session)
    }

    fn gone(&self, world: &World, (tenant, id): &Self::Key) -> Session {
        match world.session(tenant, *id).filter(|one| !one.is_live()) {
            Some(one) => wire::session(world, tenant, *id, one),
            None => Session { name: session_name(tenant, *id), ..Session::default() },
        }
    }

    /// How one moves up in a queue is no news: everybody behind would be told with every claim.
    fn news(session: &Session) -> Vec<u8> {
        Session { queue: None, ..session.clone() }.encode_to_vec()
    }

    fn event(
        kind: ChangeKind,
        session: Option<Session>,
        resume_token: String,
    ) -> WatchSessionsResponse {
        WatchSessionsResponse { kind: kind.into(), session, resume_token }
    }
}
