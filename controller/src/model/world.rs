//! Everything the leader knows: the stored rows, what only memory holds, and indexes of both.
//!
//! A clone is cheap (see `map.rs`), so each round of decisions publishes one.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use vidi_kit::ids::{
    AppId, DesktopId, GatewayId, HostId, OperationId, SessionId, TemplateId, TenantId, UserId,
};

use super::host::{GatewayLive, HostLive, Observed};
use super::map::Map;
use super::power::Power;
use super::resources::{
    Allocation, Desktop, EnrollToken, Host, Installation, Operation, Request, SignIn, Template,
    TemplateVersion, Tenant, User,
};
use super::row::{Key, Row, Step};
use super::session::Session;

/// Changed desktops that are remembered, for watches that continue; a watch that is further behind
/// lists again.
pub const RECENT_CHANGES_MAX: usize = 8_192;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// When this controller began to lead, ms since the epoch; nobody is judged silent before one
    /// grace time has passed since.
    pub started_ms: i64,
    /// Goes up with every change of a desktop, its session or its host's news.
    pub sequence: u64,
    /// The installation; none before the first start has made it.
    pub installation: Option<Installation>,
    /// Controllers' public grant-signing keys: key, when it was made.
    pub grant_keys: BTreeMap<String, (Vec<u8>, i64)>,
    /// Customers.
    pub tenants: Map<TenantId, Tenant>,
    /// Local users.
    pub users: Map<(TenantId, UserId), User>,
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
    /// Hosts as they are linked; memory only.
    pub hosts_live: Map<HostId, HostLive>,
    /// Gateways as they are linked; memory only.
    pub gateways: Map<GatewayId, GatewayLive>,
    /// Desktops.
    pub desktops: Map<(TenantId, DesktopId), Desktop>,
    /// What each host must have.
    pub allocations: Map<(HostId, DesktopId), Allocation>,
    /// Sessions, ended ones too until they expire.
    pub sessions: Map<(TenantId, SessionId), Session>,
    /// Operations, ended ones too until they expire.
    pub operations: Map<OperationId, Operation>,
    /// Answered requests until they expire.
    pub requests: Map<(TenantId, String), Request>,
    /// Which desktop each app opens.
    pub apps: Map<(TenantId, AppId), DesktopId>,
    /// Desktops that have no host yet.
    pub unplaced: Map<(TenantId, DesktopId), ()>,
    /// How many desktops of each template each host has.
    pub host_templates: Map<(HostId, TenantId, TemplateId), usize>,
    /// Memory charged on each host, MiB.
    pub host_charges: Map<HostId, u64>,
    /// Desktops by the user they are assigned to.
    pub user_desktops: Map<(TenantId, UserId, DesktopId), ()>,
    /// Sign-ins by user: when they began.
    pub user_sign_ins: Map<(TenantId, UserId, String), i64>,
    /// Operations that go on, by desktop.
    pub open_operations: Map<(TenantId, DesktopId, OperationId), ()>,
    /// Sessions that go on.
    pub live_sessions: Map<SessionId, TenantId>,
    /// The latest changes of desktops, by sequence.
    pub recent: Map<u64, (TenantId, DesktopId)>,
    /// Sequence of the last change that concerns each host's link.
    pub host_changes: Map<HostId, u64>,
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
            Row::User(tenant, user, one) => drop(self.users.insert((tenant, user), one)),
            Row::SignIn(hash, one) => {
                let key = (one.tenant.clone(), one.user.clone(), hash.clone());
                self.user_sign_ins.insert(key, one.create_ms);
                self.sign_ins.insert(hash, one);
            }
            Row::EnrollToken(hash, one) => drop(self.enroll_tokens.insert(hash, one)),
            Row::Template(tenant, id, one) => drop(self.templates.insert((tenant, id), one)),
            Row::Version(tenant, id, digest, one) => {
                self.versions.insert((tenant, id, digest), one);
            }
            Row::Host(host, one) => drop(self.hosts.insert(host, one)),
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
                self.charge(&host, charge, old.map_or(0, |old| old.memory_mib));
                self.touch(tenant, id);
            }
            Row::Session(tenant, id, one) => {
                if one.is_live() {
                    self.live_sessions.insert(id, tenant.clone());
                } else {
                    self.live_sessions.remove(&id);
                }
                let desktop = one.desktop;
                self.sessions.insert((tenant.clone(), id), one);
                self.touch(tenant, desktop);
            }
            Row::Operation(id, one) => {
                let key = (one.tenant.clone(), one.desktop, id);
                if one.end.is_none() {
                    self.open_operations.insert(key, ());
                } else {
                    self.open_operations.remove(&key);
                }
                self.operations.insert(id, one);
            }
            Row::Request(tenant, id, one) => drop(self.requests.insert((tenant, id), one)),
        }
    }

    /// Removes a row.
    pub fn delete(&mut self, key: &Key) {
        match key.clone() {
            Key::Installation => self.installation = None,
            Key::GrantKey(id) => drop(self.grant_keys.remove(&id)),
            Key::Tenant(tenant) => drop(self.tenants.remove(&tenant)),
            Key::User(tenant, user) => drop(self.users.remove(&(tenant, user))),
            Key::SignIn(hash) => {
                if let Some(old) = self.sign_ins.remove(&hash) {
                    self.user_sign_ins.remove(&(old.tenant.clone(), old.user.clone(), hash));
                }
            }
            Key::EnrollToken(hash) => drop(self.enroll_tokens.remove(&hash)),
            Key::Template(tenant, id) => drop(self.templates.remove(&(tenant, id))),
            Key::Version(tenant, id, digest) => drop(self.versions.remove(&(tenant, id, digest))),
            Key::Host(host) => drop(self.hosts.remove(&host)),
            Key::Spec(tenant, id) => self.remove_desktop(tenant, id),
            // The spec decides whether a desktop is there.
            Key::Status(..) => {}
            Key::Allocation(host, id) => {
                if let Some(old) = self.allocations.remove(&(host.clone(), id)) {
                    self.charge(&host, 0, old.memory_mib);
                    self.touch(old.tenant.clone(), id);
                    self.host_changes.insert(host, self.sequence);
                }
            }
            Key::Session(tenant, id) => {
                self.live_sessions.remove(&id);
                self.sessions.remove(&(tenant, id));
            }
            Key::Operation(id) => {
                if let Some(old) = self.operations.remove(&id) {
                    self.open_operations.remove(&(old.tenant.clone(), old.desktop, id));
                }
            }
            Key::Request(tenant, id) => drop(self.requests.remove(&(tenant, id))),
        }
    }

    fn charge(&mut self, host: &HostId, more_mib: u64, less_mib: u64) {
        let before = self.host_charges.get(host).map_or(0, |charge| **charge);
        self.host_charges.insert(host.clone(), (before + more_mib).saturating_sub(less_mib));
    }

    fn set_desktop(&mut self, tenant: TenantId, id: DesktopId, desktop: Desktop) {
        let desktop = Arc::new(desktop);
        let old = self.desktops.insert((tenant.clone(), id), Arc::clone(&desktop));
        if let Some(old) = old {
            self.unindex_desktop(&tenant, id, &old);
        }
        if let Some(user) = &desktop.spec.assigned_user {
            self.user_desktops.insert((tenant.clone(), user.clone(), id), ());
        }
        if let Some(host) = &desktop.status.host {
            let key = (host.clone(), tenant.clone(), desktop.spec.template.clone());
            let count = self.host_templates.get(&key).map_or(0, |count| **count);
            self.host_templates.insert(key, count + 1);
        } else {
            self.unplaced.insert((tenant.clone(), id), ());
        }
        self.apps.insert((tenant.clone(), desktop.spec.app_id.clone()), id);
        self.touch(tenant, id);
    }

    fn remove_desktop(&mut self, tenant: TenantId, id: DesktopId) {
        if let Some(old) = self.desktops.remove(&(tenant.clone(), id)) {
            self.unindex_desktop(&tenant, id, &old);
            if let Some(host) = &old.status.host {
                self.host_changes.insert(host.clone(), self.sequence + 1);
            }
            self.touch(tenant, id);
        }
    }

    fn unindex_desktop(&mut self, tenant: &TenantId, id: DesktopId, old: &Desktop) {
        if let Some(user) = &old.spec.assigned_user {
            self.user_desktops.remove(&(tenant.clone(), user.clone(), id));
        }
        self.unplaced.remove(&(tenant.clone(), id));
        if let Some(host) = &old.status.host {
            let key = (host.clone(), tenant.clone(), old.spec.template.clone());
            match self.host_templates.get(&key).map_or(0, |count| **count) {
                0 | 1 => drop(self.host_templates.remove(&key)),
                count => drop(self.host_templates.insert(key, count - 1)),
            }
        }
        let app = (tenant.clone(), old.spec.app_id.clone());
        if self.apps.get(&app).is_some_and(|desktop| **desktop == id) {
            self.apps.remove(&app);
        }
    }

    /// Says that something about a desktop changed: watches, links and plans look at it again.
    pub fn touch(&mut self, tenant: TenantId, desktop: DesktopId) {
        self.sequence += 1;
        let host = self.desktop(&tenant, desktop).and_then(|one| one.status.host.clone());
        if let Some(host) = host {
            self.host_changes.insert(host, self.sequence);
        }
        self.recent.insert(self.sequence, (tenant, desktop));
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

    /// Desktops that changed behind a sequence, oldest first, some more than once; none when more
    /// changed than is remembered.
    pub fn changed_behind(
        &self,
        sequence: u64,
    ) -> Option<impl Iterator<Item = (u64, TenantId, DesktopId)> + '_> {
        let oldest = self.recent.iter().next().map_or(self.sequence, |(oldest, _)| *oldest);
        let complete =
            oldest <= sequence.saturating_add(1) || self.recent.len() < RECENT_CHANGES_MAX;
        complete.then(|| {
            self.recent
                .from(Bound::Included(&0))
                .skip_while(move |(at, _)| **at <= sequence)
                .map(|(at, changed)| (*at, changed.0.clone(), changed.1))
        })
    }

    /// A desktop of a tenant.
    pub fn desktop(&self, tenant: &TenantId, id: DesktopId) -> Option<&Arc<Desktop>> {
        self.desktops.get(&(tenant.clone(), id))
    }

    /// A session of a tenant.
    pub fn session(&self, tenant: &TenantId, id: SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(&(tenant.clone(), id))
    }

    /// A user of a tenant.
    pub fn user(&self, tenant: &TenantId, user: &UserId) -> Option<&Arc<User>> {
        self.users.get(&(tenant.clone(), user.clone()))
    }

    /// A sign-in that has not expired, and its user, who still is there.
    pub fn signed_in(&self, token_sha256: &str, now_ms: i64) -> Option<(&Arc<SignIn>, &Arc<User>)> {
        let sign_in = self.sign_ins.get(token_sha256).filter(|one| now_ms < one.expire_ms)?;
        Some((sign_in, self.user(&sign_in.tenant, &sign_in.user)?))
    }

    /// A template of a tenant.
    pub fn template(&self, tenant: &TenantId, id: &TemplateId) -> Option<&Arc<Template>> {
        self.templates.get(&(tenant.clone(), id.clone()))
    }

    /// A version of a template.
    pub fn version(
        &self,
        tenant: &TenantId,
        id: &TemplateId,
        digest: &str,
    ) -> Option<&Arc<TemplateVersion>> {
        self.versions.get(&(tenant.clone(), id.clone(), digest.to_owned()))
    }

    /// Versions of a template.
    pub fn versions_of<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a TemplateId,
    ) -> impl Iterator<Item = (&'a String, &'a Arc<TemplateVersion>)> {
        self.versions
            .iter()
            .filter(move |((of, template, _), _)| of == tenant && template == id)
            .map(|((_, _, digest), version)| (digest, version))
    }

    /// What a host must have.
    pub fn allocations_of<'a>(
        &'a self,
        host: &HostId,
    ) -> impl Iterator<Item = (DesktopId, &'a Arc<Allocation>)> + use<'a> {
        let host = host.clone();
        let first = (host.clone(), DesktopId::new(NIL));
        let entries: Vec<_> = self
            .allocations
            .from(Bound::Included(&first))
            .take_while(|((of, _), _)| *of == host)
            .map(|((_, id), allocation)| (*id, allocation))
            .collect();
        entries.into_iter()
    }

    /// Operations of a desktop that go on.
    pub fn operations_open(
        &self,
        tenant: &TenantId,
        desktop: DesktopId,
    ) -> Vec<(OperationId, Arc<Operation>)> {
        let first = (tenant.clone(), desktop, OperationId::new(NIL));
        self.open_operations
            .from(Bound::Included(&first))
            .take_while(|((of, target, _), _)| of == tenant && *target == desktop)
            .filter_map(|((_, _, id), _)| Some((*id, Arc::clone(self.operations.get(id)?))))
            .collect()
    }

    /// The tokens (hashes) of a user's sign-ins, oldest first.
    pub fn sign_ins_of(&self, tenant: &TenantId, user: &UserId) -> Vec<String> {
        let first = (tenant.clone(), user.clone(), String::new());
        let mut found: Vec<_> = self
            .user_sign_ins
            .from(Bound::Included(&first))
            .take_while(|((of, who, _), _)| of == tenant && who == user)
            .map(|((_, _, hash), create_ms)| (**create_ms, hash.clone()))
            .collect();
        found.sort();
        found.into_iter().map(|(_, hash)| hash).collect()
    }

    /// Desktops that are assigned to a user.
    pub fn desktops_of(&self, tenant: &TenantId, user: &UserId) -> Vec<(DesktopId, Arc<Desktop>)> {
        let first = (tenant.clone(), user.clone(), DesktopId::new(NIL));
        self.user_desktops
            .from(Bound::Included(&first))
            .take_while(|((of, who, _), _)| of == tenant && who == user)
            .filter_map(|((_, _, id), _)| Some((*id, Arc::clone(self.desktop(tenant, *id)?))))
            .collect()
    }

    /// What its host says of a desktop now; none without a link or before the host's report.
    pub fn observed(&self, desktop: &Desktop, id: DesktopId) -> Option<&Observed> {
        let live = self.hosts_live.get(desktop.status.host.as_ref()?)?;
        live.report.as_ref().filter(|_| live.is_linked())?.desktops.get(&id)
    }

    /// This start's guest has answered and its first picture is drawn, as its host says now.
    pub fn is_ready(&self, desktop: &Desktop, id: DesktopId) -> bool {
        desktop.spec.power_on
            && desktop.status.power == Power::Running
            && self.observed(desktop, id).is_some_and(|seen| {
                seen.ready
                    && seen.power == Power::Running
                    && desktop.spec.generation <= seen.generation
            })
    }

    /// Its host has not been heard for more than the grace time.
    pub fn is_host_silent(&self, desktop: &Desktop) -> bool {
        let live = desktop.status.host.as_ref().and_then(|host| self.hosts_live.get(host));
        live.is_some_and(|live| live.silent)
    }

    /// Opaque; changes with every change of what is wanted.
    pub fn desktop_etag(desktop: &Desktop) -> String {
        format!("g{}", desktop.spec.generation)
    }

    /// Opaque; changes with every change of the record.
    pub fn user_etag(user: &User) -> String {
        etag([&user.display_name, &user.password_hash].into_iter().chain(&user.roles))
    }

    /// Opaque; changes with every change of the record.
    pub fn template_etag(template: &Template) -> String {
        etag([&template.display_name, &template.latest_digest].into_iter())
    }
}

const NIL: uuid::Uuid = uuid::Uuid::nil();

/// FNV-1a, 64 bit (RFC 9923): enough to notice a change; nobody gains by a collision.
fn etag<'a>(parts: impl Iterator<Item = &'a String>) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    format!("h{hash:016x}")
}
