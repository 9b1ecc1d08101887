//! Everything the leader knows: the stored rows, what only memory holds, and indexes of both.
//!
//! A clone is cheap (see `map.rs`), so each round of decisions publishes one.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use vidi_kit::ids::{
    AppId, DesktopId, GatewayId, GroupId, HostId, MachineId, OperationId, PoolId, RolloutId,
    SessionId, TemplateId, TenantId, UserId,
};

use super::audit::{AuditBlock, AuditHead};
use super::batch::Batch;
use super::branding::Branding;
use super::fleet::{Fleet, HostsLive, Load};
use super::forecast::Forecast;
use super::group::{Group, Members};
use super::host::GatewayLive;
use super::host_rule::{Labels, RuleTarget};
use super::indexes::{count_one_less, count_one_more, is_indexed_alike};
use super::machine::Machine;
use super::map::Map;
use super::pool::Pool;
use super::pool_index::PoolIndex;
use super::resources::{
    Allocation, Desktop, EnrollToken, Host, Installation, Operation, Request, SignIn, Template,
    TemplateVersion, Tenant, User,
};
use super::rollout::Rollout;
use super::row::{Key, Row, Step};
use super::session::{Place, Session};
use super::tenant_index::TenantIndex;
use super::usage::{UsageInterval, UsageKey, UsageKind};
use crate::mutants::{self, Mutant};

/// Changed desktops that are remembered, for watches that continue; a watch that is further behind
/// lists again.
pub const RECENT_CHANGES_MAX: usize = 8_192;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// When this controller began to lead, ms since the epoch; nobody is judged silent before one
    /// grace time has passed since.
    pub started_ms: i64,
    /// When a host that is kept was first heard since then, the last of them, ms since the epoch; 0: none
    /// was. Memory only.
    pub returned_ms: i64,
    /// When the leader last said that it knows what is going on, ms since the epoch; at most a minute
    /// old while somebody is connected.
    pub alive_ms: i64,
    /// What that was when this controller began to lead: until then the leader before it knew what went
    /// on, ms since the epoch; memory only.
    pub alive_before_ms: i64,
    /// Limits of the configuration; memory only.
    pub limits: Limits,
    /// Goes up with every change of a desktop, its session or its host's news.
    pub sequence: u64,
    /// The store's revision with the newest commit that this knows; memory only.
    pub revision: u64,
    /// The installation; none before the first start has made it.
    pub installation: Option<Installation>,
    /// Controllers' public grant-signing keys: key, when it was made.
    pub grant_keys: BTreeMap<String, (Vec<u8>, i64)>,
    /// Customers.
    pub tenants: Map<TenantId, Tenant>,
    /// How the pages look to tenants' people, where that was chosen.
    pub brandings: Map<TenantId, Branding>,
    /// Local users.
    pub users: Map<(TenantId, UserId), User>,
    /// Groups of users.
    pub groups: Map<(TenantId, GroupId), Group>,
    /// Who is in which.
    pub members: Members,
    /// Sign-ins by the hash of their token (hex).
    pub sign_ins: Map<String, SignIn>,
    /// Enrolment tokens by the hash of their secret (hex).
    pub enroll_tokens: Map<String, EnrollToken>,
    /// Templates.
    pub templates: Map<(TenantId, TemplateId), Template>,
    /// Their versions by digest (`sha256:<hex>`).
    pub versions: Map<(TenantId, TemplateId, String), TemplateVersion>,
    /// Hosts as they are kept.
    pub hosts: Map<HostId, Host>,
    /// Which labels hosts must have.
    pub host_rules: Map<(TenantId, RuleTarget), Labels>,
    /// Hosts that were removed, and when, until their certificates have expired.
    pub removed_hosts: Map<HostId, i64>,
    /// Hosts as they are linked; memory only.
    pub hosts_live: HostsLive,
    /// Gateways as they are linked; memory only.
    pub gateways: Map<GatewayId, GatewayLive>,
    /// Desktops.
    pub desktops: Map<(TenantId, DesktopId), Desktop>,
    /// Physical machines.
    pub machines: Map<(TenantId, MachineId), Machine>,
    /// Pools.
    pub pools: Map<(TenantId, PoolId), Pool>,
    /// What is learned of who comes to each pool.
    pub forecasts: Map<(TenantId, PoolId), Forecast>,
    /// What each host must have.
    pub allocations: Map<(HostId, DesktopId), Allocation>,
    /// Sessions, ended ones too until they expire.
    pub sessions: Map<(TenantId, SessionId), Session>,
    /// Operations, ended ones too until they expire.
    pub operations: Map<OperationId, Operation>,
    /// One-to-many operations, ended ones too until they expire.
    pub batches: Map<OperationId, Batch>,
    /// Roll-outs, ended ones too until they expire.
    pub rollouts: Map<(TenantId, RolloutId), Rollout>,
    /// Answered requests until they expire.
    pub requests: Map<(TenantId, String), Request>,
    /// How long desktops ran and people were connected, until that expires.
    pub usage: Map<UsageKey, UsageInterval>,
    /// Start of the newest interval of each desktop and kind.
    pub usage_newest: Map<(TenantId, DesktopId, UsageKind), i64>,
    /// What each app opens.
    pub apps: Map<(TenantId, AppId), Place>,
    /// Desktops that are being deleted: since which sequence.
    pub deleting: Map<(TenantId, DesktopId), u64>,
    /// Desktops that have no host yet.
    pub unplaced: Map<(TenantId, DesktopId), ()>,
    /// The hosts and what is on them, as a placement looks at them.
    pub fleet: Fleet,
    /// Desktops by the user they are assigned to.
    pub user_desktops: Map<(TenantId, UserId, DesktopId), ()>,
    /// Sign-ins by user: when they began.
    pub user_sign_ins: Map<(TenantId, UserId, String), i64>,
    /// Operations that go on, by desktop.
    pub open_operations: Map<(TenantId, DesktopId, OperationId), ()>,
    /// Operations that are kept, by desktop.
    pub desktop_operations: Map<(TenantId, DesktopId, OperationId), ()>,
    /// How many operations of each tenant go on.
    pub tenant_operations: Map<TenantId, usize>,
    /// What each tenant has of what quotas limit.
    pub tenant_index: TenantIndex,
    /// How many desktops each tenant has.
    pub tenant_desktops: Map<TenantId, usize>,
    /// Sessions that are kept, by desktop or machine.
    pub place_sessions: Map<(TenantId, Place, SessionId), ()>,
    /// How many answered requests of each caller are kept.
    pub caller_requests: Map<(TenantId, String), usize>,
    /// Sessions that go on.
    pub live_sessions: Map<SessionId, TenantId>,
    /// How the desktops of pools stand, and who waits for one.
    pub pool_index: PoolIndex,
    /// The audit log.
    pub audit: Map<u64, AuditBlock>,
    /// Its ends.
    pub audit_head: AuditHead,
    /// What it takes, bytes.
    pub audit_bytes: u64,
    /// The latest changes of desktops and machines, by sequence.
    pub recent: Map<u64, (TenantId, Place)>,
    /// Sequence of the last change that concerns each host's link.
    pub host_changes: Map<HostId, u64>,
}

/// What the configuration says and plans need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A session that nobody has attached for this long ends, ms.
    pub disconnect_ms: i64,
    /// Failure domains that may fail together and all desktops still fit on the rest: nothing is placed
    /// that would take this away.
    pub headroom_domains: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { disconnect_ms: 600_000, headroom_domains: 1 }
    }
}

impl World {
    /// Applies one durable write.
    pub fn apply(&mut self, step: Step) {
        match step {
            Step::Put(row) => self.put(row),
            Step::Delete(key) => self.delete(&key),
        }
    }

    /// Sets a row.
    pub fn put(&mut self, row: Row) {
        match row {
            Row::Installation(one) => self.installation = Some(one),
            Row::GrantKey(id, key, create_ms) => {
                self.grant_keys.insert(id, (key, create_ms));
            }
            Row::Tenant(tenant, one) => drop(self.tenants.insert(tenant, one)),
            Row::Branding(tenant, one) => drop(self.brandings.insert(tenant, one)),
            Row::User(tenant, user, one) => drop(self.users.insert((tenant, user), one)),
            Row::Group(tenant, id, one) => drop(self.groups.insert((tenant, id), one)),
            Row::Member(tenant, group, user, _) => self.members.add(&tenant, &group, &user),
            Row::SignIn(hash, one) => {
                let key = (one.tenant.clone(), one.user.clone(), hash.clone());
                self.user_sign_ins.insert(key, one.create_ms);
                self.sign_ins.insert(hash, one);
            }
            Row::EnrollToken(hash, one) => drop(self.enroll_tokens.insert(hash, one)),
            Row::Template(tenant, id, one) => {
                self.templates.insert((tenant.clone(), id.clone()), one);
                self.stand_all(&tenant, &id);
            }
            Row::Version(tenant, id, digest, one) => {
                self.versions.insert((tenant, id, digest), one);
            }
            Row::Host(host, one) => self.put_host(host, one),
            Row::HostRule(tenant, target, one) => {
                drop(self.host_rules.insert((tenant, target), one));
            }
            Row::RemovedHost(host, at_ms) => drop(self.removed_hosts.insert(host, at_ms)),
            Row::Spec(tenant, id, spec) => {
                let status = self.desktop(&tenant, id).map(|old| old.status.clone());
                let status = status.unwrap_or_default();
                self.set_desktop(tenant, id, Desktop { spec, status });
            }
            Row::Status(tenant, id, status) => {
                // A status without a spec is what a half-read list shows; the spec sorts first.
                if let Some(old) = self.desktop(&tenant, id) {
                    let desktop = Desktop { spec: old.spec.clone(), status };
                    self.set_desktop(tenant, id, desktop);
                }
            }
            Row::Allocation(host, id, one) => {
                let tenant = one.tenant.clone();
                let charge = one.memory_mib;
                let old = self.allocations.insert((host.clone(), id), one);
                self.fleet.charge(&host, old.map_or(0, |old| old.memory_mib), charge);
                self.touch(tenant, id);
            }
            Row::Session(tenant, id, one) => self.put_session(tenant, id, one),
            Row::Pool(tenant, id, one) => self.put_pool(tenant, id, one),
            Row::Machine(tenant, id, one) => self.put_machine(tenant, id, one),
            Row::Forecast(tenant, id, one) => drop(self.forecasts.insert((tenant, id), *one)),
            Row::Operation(id, one) => self.put_operation(id, one),
            Row::Batch(id, one) => drop(self.batches.insert(id, *one)),
            Row::Rollout(tenant, id, one) => drop(self.rollouts.insert((tenant, id), *one)),
            Row::Request(tenant, id, one) => {
                count_one_more(&mut self.caller_requests, (tenant.clone(), one.by.clone()));
                if let Some(old) = self.requests.insert((tenant.clone(), id), one) {
                    count_one_less(&mut self.caller_requests, (tenant, old.by.clone()));
                }
            }
            Row::Usage(key, one) => {
                let of = (key.tenant.clone(), key.desktop, key.kind);
                if self.usage_newest.get(&of).is_none_or(|newest| **newest <= key.start_ms) {
                    self.usage_newest.insert(of, key.start_ms);
                }
                self.usage.insert(key, one);
            }
            Row::Alive(at_ms) => self.alive_ms = at_ms,
            Row::Audit(number, one) => self.put_audit(number, one),
            Row::AuditHead(one) => self.audit_head = one,
        }
    }

    /// Removes a row.
    pub fn delete(&mut self, key: &Key) {
        match key.clone() {
            Key::Installation => self.installation = None,
            Key::GrantKey(id) => drop(self.grant_keys.remove(&id)),
            Key::Tenant(tenant) => drop(self.tenants.remove(&tenant)),
            Key::Branding(tenant) => drop(self.brandings.remove(&tenant)),
            Key::User(tenant, user) => drop(self.users.remove(&(tenant, user))),
            Key::Group(tenant, id) => drop(self.groups.remove(&(tenant, id))),
            Key::Member(tenant, group, user) => self.members.remove(&tenant, &group, &user),
            Key::SignIn(hash) => {
                if let Some(old) = self.sign_ins.remove(&hash) {
                    self.user_sign_ins.remove(&(old.tenant.clone(), old.user.clone(), hash));
                }
            }
            Key::EnrollToken(hash) => drop(self.enroll_tokens.remove(&hash)),
            Key::Template(tenant, id) => drop(self.templates.remove(&(tenant, id))),
            Key::Version(tenant, id, digest) => drop(self.versions.remove(&(tenant, id, digest))),
            Key::Host(host) => self.forget_host(&host),
            Key::HostRule(tenant, target) => drop(self.host_rules.remove(&(tenant, target))),
            Key::RemovedHost(host) => drop(self.removed_hosts.remove(&host)),
            Key::Spec(tenant, id) => self.remove_desktop(tenant, id),
            // The spec decides whether a desktop is there.
            Key::Status(..) => {}
            Key::Allocation(host, id) => {
                if let Some(old) = self.allocations.remove(&(host.clone(), id)) {
                    self.fleet.charge(&host, old.memory_mib, 0);
                    self.touch(old.tenant.clone(), id);
                    self.host_changes.insert(host, self.sequence);
                }
            }
            Key::Session(tenant, id) => self.delete_session(tenant, id),
            Key::Machine(tenant, id) => {
                if let Some(old) = self.machines.remove(&(tenant.clone(), id)) {
                    self.apps.remove(&(tenant.clone(), old.app_id.clone()));
                    self.touch_place(tenant, Place::Machine(id));
                }
            }
            Key::Pool(tenant, id) => {
                if let Some(old) = self.pools.remove(&(tenant.clone(), id)) {
                    self.apps.remove(&(tenant.clone(), old.app_id.clone()));
                    self.pool_index.forget(&tenant, id);
                    self.touch_place(tenant, Place::Pool(id));
                }
            }
            Key::Forecast(tenant, id) => drop(self.forecasts.remove(&(tenant, id))),
            Key::Operation(id) => self.delete_operation(id),
            Key::Batch(id) => drop(self.batches.remove(&id)),
            Key::Rollout(tenant, id) => drop(self.rollouts.remove(&(tenant, id))),
            Key::Request(tenant, id) => {
                if let Some(old) = self.requests.remove(&(tenant.clone(), id)) {
                    count_one_less(&mut self.caller_requests, (tenant, old.by.clone()));
                }
            }
            Key::Usage(key) => self.delete_usage(&key),
            Key::Alive => self.alive_ms = 0,
            Key::Audit(number) => self.delete_audit(number),
            Key::AuditHead => self.audit_head = AuditHead::default(),
        }
    }

    /// What a host must do with its desktops hangs on what is wanted of it.
    fn put_host(&mut self, host: HostId, one: Host) {
        self.keep_host(host.clone(), one);
        let desktops: Vec<_> =
            self.allocations_of(&host).map(|(id, one)| (one.tenant.clone(), id)).collect();
        for (tenant, id) in desktops {
            self.touch(tenant, id);
        }
        self.touch_host(&host);
    }

    fn set_desktop(&mut self, tenant: TenantId, id: DesktopId, desktop: Desktop) {
        let desktop = Arc::new(desktop);
        let old = self.desktops.insert((tenant.clone(), id), Arc::clone(&desktop));
        self.tenant_index.desktop(&tenant, old.as_deref(), Some(&desktop));
        let before = old.as_deref().and_then(|old| Load::of(&tenant, old));
        self.fleet.load(before, Load::of(&tenant, &desktop));
        match old {
            Some(old) if is_indexed_alike(&old, &desktop) => {}
            Some(old) => {
                self.unindex_desktop(&tenant, id, &old);
                self.index_desktop(&tenant, id, &desktop);
            }
            None => {
                count_one_more(&mut self.tenant_desktops, tenant.clone());
                self.index_desktop(&tenant, id, &desktop);
            }
        }
        self.touch(tenant.clone(), id);
        let key = (tenant, id);
        if !desktop.spec.deleting {
            self.deleting.remove(&key);
        } else if !self.deleting.contains_key(&key) {
            self.deleting.insert(key, self.sequence);
        }
    }

    fn remove_desktop(&mut self, tenant: TenantId, id: DesktopId) {
        if let Some(old) = self.desktops.remove(&(tenant.clone(), id)) {
            self.fleet.load(Load::of(&tenant, &old), None);
            self.tenant_index.desktop(&tenant, Some(&old), None);
            self.unindex_desktop(&tenant, id, &old);
            self.deleting.remove(&(tenant.clone(), id));
            count_one_less(&mut self.tenant_desktops, tenant.clone());
            if let Some(host) = &old.status.host {
                self.host_changes.insert(host.clone(), self.sequence + 1);
            }
            if !mutants::on(Mutant::EndUnseen) {
                self.touch(tenant, id);
            }
        }
    }

    /// Says that something about a desktop changed: watches, links and plans look at it again.
    pub fn touch(&mut self, tenant: TenantId, desktop: DesktopId) {
        self.touch_place(tenant, Place::Desktop(desktop));
    }

    /// As [`Self::touch`], of whatever a session may be on.
    pub(super) fn touch_place(&mut self, tenant: TenantId, place: Place) {
        // Before it takes its own number: it may touch the desktop's pool.
        if let Place::Desktop(id) = place {
            self.stand(&tenant, id);
        }
        self.sequence += 1;
        let host = match place {
            Place::Desktop(id) => self.desktop(&tenant, id).and_then(|one| one.status.host.clone()),
            Place::Machine(_) | Place::Pool(_) => None,
        };
        if let Some(host) = host {
            self.host_changes.insert(host, self.sequence);
        }
        self.recent.insert(self.sequence, (tenant, place));
        while RECENT_CHANGES_MAX < self.recent.len() {
            let Some(oldest) = self.recent.iter().next().map(|(sequence, _)| *sequence) else {
                break;
            };
            self.recent.remove(&oldest);
        }
    }

    /// Says that something about a host as a whole changed.
    pub fn touch_host(&mut self, host: &HostId) {
        self.sequence += 1;
        self.host_changes.insert(host.clone(), self.sequence);
    }

    /// Desktops and machines that changed behind a sequence, oldest first, some more than once; none when more
    /// changed than is remembered.
    pub fn changed_behind(
        &self,
        sequence: u64,
    ) -> Option<impl Iterator<Item = (u64, TenantId, Place)> + '_> {
        let oldest = self.recent.iter().next().map_or(self.sequence, |(oldest, _)| *oldest);
        let complete =
            oldest <= sequence.saturating_add(1) || self.recent.len() < RECENT_CHANGES_MAX;
        complete.then(|| {
            self.recent
                .from(Bound::Excluded(&sequence))
                .map(|(at, changed)| (*at, changed.0.clone(), changed.1))
        })
    }
}
