//! Questions to the world: by name, by index, and what follows from several rows.

use std::ops::Bound;
use std::sync::Arc;

use vidi_kit::ids::{
    DesktopId, HostId, MachineId, OperationId, SessionId, TemplateId, TenantId, UserId,
};

use super::change::RequestKey;
use super::host::Observed;
use super::machine::Machine;
use super::map::Map;
use super::power::Power;
use super::resources::{
    Allocation, Desktop, DesktopSpec, Host, Operation, Request, SignIn, Template, TemplateVersion,
    Tenant, User,
};
use super::session::{Place, Session};
use super::usage::{UsageInterval, UsageKey, UsageKind};
use super::world::World;

impl World {
    /// A desktop of a tenant.
    pub fn desktop(&self, tenant: &TenantId, id: DesktopId) -> Option<&Arc<Desktop>> {
        self.desktops.get(&(tenant.clone(), id))
    }

    /// Desktops of a tenant, by id.
    pub fn desktops_in<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = (DesktopId, &'a Arc<Desktop>)> {
        self.desktops
            .from(Bound::Included(&(tenant.clone(), DesktopId::new(NIL))))
            .take_while(move |((of, _), _)| of == tenant)
            .map(|((_, id), one)| (*id, one))
    }

    /// A session of a tenant.
    pub fn session(&self, tenant: &TenantId, id: SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(&(tenant.clone(), id))
    }

    /// A user of a tenant.
    pub fn user(&self, tenant: &TenantId, user: &UserId) -> Option<&Arc<User>> {
        self.users.get(&(tenant.clone(), user.clone()))
    }

    /// A user's name, for people; of one who is gone the id.
    pub fn user_display_name(&self, tenant: &TenantId, user: &UserId) -> String {
        let known = self.user(tenant, user);
        known.map_or_else(|| user.to_string(), |known| known.display_name.clone())
    }

    /// A sign-in that has not expired, and its user, who still is there.
    pub fn signed_in(&self, token_sha256: &str, now_ms: i64) -> Option<(&Arc<SignIn>, &Arc<User>)> {
        let sign_in = self.sign_ins.get(token_sha256).filter(|one| now_ms < one.expire_ms)?;
        Some((sign_in, self.user(&sign_in.tenant, &sign_in.user)?))
    }

    /// What was answered to a request that came before.
    pub fn request(&self, tenant: &TenantId, request: &RequestKey) -> Option<&Arc<Request>> {
        self.requests.get(&(tenant.clone(), request.kept_as()))
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
        let first = (host.clone(), DesktopId::new(NIL));
        let entries = self.allocations.from(Bound::Included(&first));
        let (host, _) = first;
        entries
            .take_while(move |((of, _), _)| *of == host)
            .map(|((_, id), allocation)| (*id, allocation))
    }

    /// Operations of a desktop that go on.
    pub fn operations_open(
        &self,
        tenant: &TenantId,
        desktop: DesktopId,
    ) -> Vec<(OperationId, Arc<Operation>)> {
        let first = OperationId::new(NIL);
        of_place(&self.open_operations, (tenant, desktop, first))
            .filter_map(|id| Some((id, Arc::clone(self.operations.get(&id)?))))
            .collect()
    }

    /// All operations of a desktop that are kept, oldest first.
    pub fn operations_of(&self, tenant: &TenantId, desktop: DesktopId) -> Vec<OperationId> {
        let first = OperationId::new(NIL);
        of_place(&self.desktop_operations, (tenant, desktop, first)).collect()
    }

    /// All sessions of a desktop or machine that are kept, oldest first.
    pub fn sessions_of(&self, tenant: &TenantId, place: Place) -> Vec<SessionId> {
        of_place(&self.place_sessions, (tenant, place, SessionId::new(NIL))).collect()
    }

    /// A physical machine of a tenant.
    pub fn machine(&self, tenant: &TenantId, id: MachineId) -> Option<&Arc<Machine>> {
        self.machines.get(&(tenant.clone(), id))
    }

    /// Physical machines of a tenant, by id.
    pub fn machines_of<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = (MachineId, &'a Arc<Machine>)> {
        self.machines
            .from(Bound::Included(&(tenant.clone(), MachineId::new(NIL))))
            .take_while(move |((of, _), _)| of == tenant)
            .map(|((_, id), one)| (*id, one))
    }

    /// The newest session on a machine, over or not.
    pub fn machine_session(
        &self,
        tenant: &TenantId,
        id: MachineId,
    ) -> Option<(SessionId, &Arc<Session>)> {
        let sessions = self.sessions_of(tenant, Place::Machine(id));
        let known = sessions.into_iter().filter_map(|id| Some((id, self.session(tenant, id)?)));
        // One that goes on is the one that counts; else the newest: ids are in the order of time.
        known.max_by_key(|(id, session)| (session.is_live(), *id))
    }

    /// Who has a machine now.
    pub fn machine_holder(
        &self,
        tenant: &TenantId,
        id: MachineId,
    ) -> Option<(SessionId, &Arc<Session>)> {
        self.machine_session(tenant, id).filter(|(_, session)| session.is_live())
    }

    /// The newest interval of a desktop and kind; the only one that may be open.
    pub fn newest_usage(
        &self,
        tenant: &TenantId,
        desktop: DesktopId,
        kind: UsageKind,
    ) -> Option<(UsageKey, &Arc<UsageInterval>)> {
        let start_ms = **self.usage_newest.get(&(tenant.clone(), desktop, kind))?;
        let key = UsageKey { tenant: tenant.clone(), desktop, start_ms, kind };
        let interval = self.usage.get(&key)?;
        Some((key, interval))
    }

    /// The intervals of a tenant, by desktop.
    pub fn usage_of(&self, tenant: &TenantId) -> Vec<(&UsageKey, &Arc<UsageInterval>)> {
        let first = UsageKey {
            tenant: tenant.clone(),
            desktop: DesktopId::new(NIL),
            start_ms: 0,
            kind: UsageKind::Running,
        };
        let entries = self.usage.from(Bound::Included(&first));
        entries.take_while(|(key, _)| key.tenant == *tenant).collect()
    }

    /// Whether somebody could use what is left of a tenant that was removed.
    pub fn has_traces(&self, tenant: &TenantId) -> bool {
        self.usage.iter().any(|(key, _)| key.tenant == *tenant)
            || self.sessions.iter().any(|((of, _), _)| of == tenant)
            || self.requests.iter().any(|((of, _), _)| of == tenant)
            || self.operations.values().any(|one| one.tenant == *tenant)
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
        desktop.spec.host_power_on()
            && desktop.status.power == Power::Running
            && self.observed(desktop, id).is_some_and(|seen| {
                seen.ready
                    && seen.power == Power::Running
                    && desktop.spec.generation <= seen.generation
            })
    }

    /// Its host is linked and has said what it has: before, nobody knows how a desktop on it is.
    pub fn is_host_heard(&self, desktop: &Desktop) -> bool {
        let live = desktop.status.host.as_ref().and_then(|host| self.hosts_live.get(host));
        live.is_some_and(|live| live.is_linked() && live.report.is_some())
    }

    /// Its host has not been heard for more than the grace time.
    pub fn is_host_silent(&self, desktop: &Desktop) -> bool {
        let live = desktop.status.host.as_ref().and_then(|host| self.hosts_live.get(host));
        live.is_some_and(|live| live.silent)
    }

    /// Whether a host was removed after it got a certificate that is good since `certified_ms`.
    pub fn is_host_removed(&self, host: &HostId, certified_ms: i64) -> bool {
        self.removed_hosts
            .get(host)
            .is_some_and(|removed_ms| certified_ms.saturating_add(BACKDATED_MS) <= **removed_ms)
    }

    /// Opaque; changes with every change of what is wanted.
    pub fn host_etag(host: &Host) -> String {
        let flags = [host.cordoned, host.draining, host.stop_in_use].map(u8::from);
        let removing = host.removing.iter().map(ToString::to_string);
        let said = format!("{} {:?}", host.failure_domain, host.labels);
        let parts: Vec<String> =
            [format!("{}-{flags:?}", host.create_ms), said].into_iter().chain(removing).collect();
        etag(parts.iter())
    }

    /// Opaque; changes with every change of what is wanted.
    pub fn desktop_etag(desktop: &Desktop) -> String {
        let DesktopSpec { generation, display_name, release_policy, display_policy, .. } =
            &desktop.spec;
        let policies = format!("{release_policy:?} {display_policy:?}");
        let whose = format!("{:?} {:?}", desktop.spec.assigned_user, desktop.spec.pool);
        format!("g{generation}-{}", etag([display_name, &policies, &whose].into_iter()))
    }

    /// Opaque; changes with every change of the record.
    pub fn machine_etag(machine: &Machine) -> String {
        format!("g{}", machine.generation)
    }

    /// Opaque; changes with every change of the record.
    pub fn user_etag(user: &User) -> String {
        etag([&user.display_name, &user.password_hash].into_iter().chain(&user.roles))
    }

    /// Opaque; changes with every change of the record.
    pub fn tenant_etag(tenant: &Tenant) -> String {
        let quota = tenant.quota.limits.iter().map(|(kind, limit)| format!("{kind:?}{limit}"));
        let parts: Vec<String> =
            std::iter::once(tenant.display_name.clone()).chain(quota).collect();
        etag(parts.iter())
    }

    /// Opaque; changes with every change of the record.
    pub fn template_etag(template: &Template) -> String {
        let published = format!("{} {}", template.latest_digest, template.publish_ms);
        etag([&template.display_name, &published].into_iter())
    }
}

/// What an index has of a desktop or machine, from an id on.
fn of_place<P: Ord + Copy, I: Ord + Copy>(
    index: &Map<(TenantId, P, I), ()>,
    (tenant, place, first): (&TenantId, P, I),
) -> impl Iterator<Item = I> {
    index
        .from(Bound::Included(&(tenant.clone(), place, first)))
        .take_while(move |((of, target, _), _)| of == tenant && *target == place)
        .map(|((_, _, id), _)| *id)
}

/// A certificate is good since some minutes before it was made, in whole seconds: clocks differ.
const BACKDATED_MS: i64 = 301_000;
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
