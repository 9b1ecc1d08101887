//! Which gateway may be attached to which session: the relay's rules.

use std::collections::{BTreeMap, BTreeSet};

use vidi_kit::ids::{DesktopId, GatewayId, HostId, InstallationId, SessionId, TraceId};

/// Sessions attached at one time; a host with this many desktops would be the largest there is.
pub const ATTACHMENTS_MAX: usize = 1_024;
/// Epochs remembered of sessions that are not attached, while the controller has not said which
/// sessions live. A grant is dead after 35 s, so what is forgotten cannot be shown again.
const EPOCHS_MAX: usize = 65_536;

/// What the relay judges grants by; comes from the controller through the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Public keys that controllers sign grants with.
    pub grant_keys: Vec<Vec<u8>>,
    /// This installation.
    pub installation: InstallationId,
    /// This host.
    pub host: HostId,
    /// Controller time minus `CLOCK_BOOTTIME` of this machine, in milliseconds.
    pub clock_offset_ms: i64,
    /// The sessions that may be attached; none until the controller has told them.
    pub live: Option<BTreeMap<SessionId, LiveSession>>,
}

/// A session that may be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSession {
    /// Its desktop.
    pub desktop: DesktopId,
    /// Grants below this epoch are refused.
    pub epoch: u64,
}

/// What a grant with a good signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The installation it is for.
    pub installation: InstallationId,
    /// The host it is for.
    pub host: HostId,
    /// The gateway that may show it.
    pub gateway: GatewayId,
    /// The session to attach.
    pub session: SessionId,
    /// The desktop of the session.
    pub desktop: DesktopId,
    /// Higher than any attached before.
    pub epoch: u64,
    /// Of the click that opened the session; only for logs.
    pub trace: Option<TraceId>,
}

/// Why a gateway is not attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Made by another installation.
    #[error("the grant is for another installation")]
    OtherInstallation,
    /// For a desktop elsewhere.
    #[error("the grant is for another host; ask the controller where the desktop runs")]
    OtherHost,
    /// Shown by somebody else.
    #[error("the grant was given to another gateway")]
    OtherGateway,
    /// Ended, or not yet known here.
    #[error("the session has ended, or this host was not told of it")]
    NotLive,
    /// The session is on another desktop.
    #[error("the grant names another desktop than the session's")]
    OtherDesktop,
    /// Shown twice, or overtaken by a newer one.
    #[error("the grant was used already or a newer one was given; ask for a new one")]
    OldEpoch,
    /// A connection attaches once.
    #[error("this connection is attached already; open a new one")]
    AttachedAlready,
    /// Limit.
    #[error("this host serves {ATTACHMENTS_MAX} sessions, which is its limit")]
    TooMany,
}

impl Refusal {
    /// A newer policy may change the answer: the grant can arrive before the news of its session.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NotLive)
    }
}

/// One session's gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The gateway's connection.
    pub connection: u64,
    /// What its channels lead to.
    pub desktop: DesktopId,
    /// The grant's epoch.
    pub epoch: u64,
}

/// Who is attached.
///
/// INVARIANT: a session and a connection each appear at most once.
/// INVARIANT: the epochs accepted for one session are strictly rising.
#[derive(Debug, Default)]
pub struct Attachments {
    attached: BTreeMap<SessionId, Attached>,
    epochs: BTreeMap<SessionId, u64>,
}

impl Attachments {
    /// Attaches `connection`, whose certificate names `gateway`; answers the connection that it takes
    /// the session from.
    pub fn attach(
        &mut self,
        connection: u64,
        gateway: &GatewayId,
        claims: &Claims,
        policy: &Policy,
    ) -> Result<Option<u64>, Refusal> {
        judge(gateway, claims, policy)?;
        if self.epochs.get(&claims.session).is_some_and(|seen| claims.epoch <= *seen) {
            return Err(Refusal::OldEpoch);
        }
        if self.attached.values().any(|one| one.connection == connection) {
            return Err(Refusal::AttachedAlready);
        }
        let replaced = self.attached.get(&claims.session).map(|old| old.connection);
        if replaced.is_none() && ATTACHMENTS_MAX <= self.attached.len() {
            return Err(Refusal::TooMany);
        }
        self.remember(claims.session, claims.epoch);
        let new = Attached { connection, desktop: claims.desktop, epoch: claims.epoch };
        self.attached.insert(claims.session, new);
        Ok(replaced)
    }

    /// The connection is gone, or was taken off. Harmless when it is not attached.
    pub fn detach(&mut self, connection: u64) {
        self.attached.retain(|_, one| one.connection != connection);
    }

    /// Takes off every session that no longer lives; answers their connections.
    pub fn revoke(&mut self, policy: &Policy) -> Vec<u64> {
        let Some(live) = &policy.live else { return Vec::new() };
        let alive = |session: &SessionId, desktop| {
            live.get(session).is_some_and(|one| one.desktop == desktop)
        };
        let ended: BTreeSet<u64> = self
            .attached
            .iter()
            .filter(|(session, one)| !alive(session, one.desktop))
            .map(|(_, one)| one.connection)
            .collect();
        self.attached.retain(|_, one| !ended.contains(&one.connection));
        // A session that does not live is refused for that: its epoch need not be kept.
        self.epochs.retain(|session, _| live.contains_key(session));
        ended.into_iter().collect()
    }

    /// How many sessions are attached.
    pub fn count(&self) -> usize {
        self.attached.len()
    }

    fn remember(&mut self, session: SessionId, epoch: u64) {
        if EPOCHS_MAX <= self.epochs.len() && !self.epochs.contains_key(&session) {
            let attached = &self.attached;
            // Ids are in order of time (UUID version 7): the first is the oldest.
            let oldest = self.epochs.keys().find(|one| !attached.contains_key(one)).copied();
            if let Some(oldest) = oldest {
                self.epochs.remove(&oldest);
            }
        }
        self.epochs.insert(session, epoch);
    }
}

fn judge(gateway: &GatewayId, claims: &Claims, policy: &Policy) -> Result<(), Refusal> {
    if claims.installation != policy.installation {
        return Err(Refusal::OtherInstallation);
    }
    if claims.host != policy.host {
        return Err(Refusal::OtherHost);
    }
    if claims.gateway != *gateway {
        return Err(Refusal::OtherGateway);
    }
    let Some(live) = &policy.live else { return Ok(()) };
    let session = live.get(&claims.session).ok_or(Refusal::NotLive)?;
    if session.desktop != claims.desktop {
        return Err(Refusal::OtherDesktop);
    }
    if claims.epoch < session.epoch {
        return Err(Refusal::OldEpoch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Scene {
        policy: Policy,
        claims: Claims,
        gateway: GatewayId,
    }

    fn scene() -> Scene {
        let (session, desktop) = (SessionId::generate(), DesktopId::generate());
        let installation = InstallationId::generate();
        let gateway: GatewayId = "edge-1".parse().unwrap();
        let host: HostId = "host-1".parse().unwrap();
        let live = BTreeMap::from([(session, LiveSession { desktop, epoch: 2 })]);
        Scene {
            policy: Policy {
                grant_keys: Vec::new(),
                installation,
                host: host.clone(),
                clock_offset_ms: 0,
                live: Some(live),
            },
            claims: Claims {
                trace: None,
                installation,
                host,
                gateway: gateway.clone(),
                session,
                desktop,
                epoch: 2,
            },
            gateway,
        }
    }

    type Bend = fn(&mut Scene);

    #[test]
    fn only_what_the_grant_and_the_policy_name_is_attached() {
        let table: [(Bend, Refusal); 6] = [
            (|it| it.claims.installation = InstallationId::generate(), Refusal::OtherInstallation),
            (|it| it.claims.host = "host-2".parse().unwrap(), Refusal::OtherHost),
            (|it| it.gateway = "edge-2".parse().unwrap(), Refusal::OtherGateway),
            (|it| it.claims.session = SessionId::generate(), Refusal::NotLive),
            (|it| it.claims.desktop = DesktopId::generate(), Refusal::OtherDesktop),
            (|it| it.claims.epoch = 1, Refusal::OldEpoch),
        ];
        for (bend, refusal) in table {
            let mut it = scene();
            bend(&mut it);
            let done = Attachments::default().attach(1, &it.gateway, &it.claims, &it.policy);
            assert_eq!(done, Err(refusal));
        }
        let it = scene();
        let mut attachments = Attachments::default();
        assert_eq!(attachments.attach(1, &it.gateway, &it.claims, &it.policy), Ok(None));
    }

    #[test]
    fn a_higher_epoch_takes_the_session_over_and_the_same_one_never_attaches_twice() {
        let mut it = scene();
        let mut attachments = Attachments::default();
        attachments.attach(1, &it.gateway, &it.claims, &it.policy).unwrap();
        let again = attachments.attach(2, &it.gateway, &it.claims, &it.policy);
        assert_eq!(again, Err(Refusal::OldEpoch));
        attachments.detach(1);
        let replayed = attachments.attach(2, &it.gateway, &it.claims, &it.policy);
        assert_eq!(replayed, Err(Refusal::OldEpoch));
        it.claims.epoch = 3;
        assert_eq!(attachments.attach(2, &it.gateway, &it.claims, &it.policy), Ok(None));
        it.claims.epoch = 4;
        assert_eq!(attachments.attach(3, &it.gateway, &it.claims, &it.policy), Ok(Some(2)));
        it.claims.epoch = 5;
        let once = attachments.attach(3, &it.gateway, &it.claims, &it.policy);
        assert_eq!(once, Err(Refusal::AttachedAlready));
    }

    #[test]
    fn a_session_that_no_longer_lives_is_taken_off() {
        let mut it = scene();
        let mut attachments = Attachments::default();
        attachments.attach(7, &it.gateway, &it.claims, &it.policy).unwrap();
        assert_eq!(attachments.revoke(&it.policy), Vec::<u64>::new());
        let live = it.policy.live.replace(BTreeMap::new());
        assert_eq!(attachments.revoke(&it.policy), vec![7]);
        assert_eq!(attachments.count(), 0);
        it.policy.live = live;
    }

    proptest! {
        #[test]
        fn accepted_epochs_rise_and_a_session_has_one_gateway(
            steps in prop::collection::vec((0_u64..6, 0_u64..8, any::<bool>()), 1..60),
        ) {
            let mut it = scene();
            let mut attachments = Attachments::default();
            let mut last = 0;
            for (connection, epoch, leaves) in steps {
                if leaves {
                    attachments.detach(connection);
                    continue;
                }
                it.claims.epoch = epoch;
                if attachments.attach(connection, &it.gateway, &it.claims, &it.policy).is_ok() {
                    prop_assert!(last < epoch);
                    last = epoch;
                }
                prop_assert!(attachments.count() <= 1);
            }
        }
    }
}
