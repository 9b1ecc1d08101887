//! The stored part of the world as rows: what a decision writes, and what a load reads.

use vidi_kit::ids::{
    DesktopId, GroupId, HostId, MachineId, OperationId, PoolId, RolloutId, SessionId, TemplateId,
    TenantId, UserId,
};

use super::audit::{AuditBlock, AuditHead};
use super::batch::Batch;
use super::branding::Branding;
use super::forecast::Forecast;
use super::group::Group;
use super::host_rule::{Labels, RuleTarget};
use super::machine::Machine;
use super::pool::Pool;
use super::resources::{
    Allocation, DesktopSpec, DesktopStatus, EnrollToken, Host, Installation, Operation, Request,
    SignIn, Template, TemplateVersion, Tenant, User,
};
use super::rollout::Rollout;
use super::session::Session;
use super::usage::{UsageInterval, UsageKey};

/// One stored thing with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// meta/installation
    Installation(Installation),
    /// grantkey/{controller}
    GrantKey(String, Vec<u8>, i64),
    /// tenant/{t}
    Tenant(TenantId, Tenant),
    /// branding/{t}
    Branding(TenantId, Branding),
    /// user/{t}/{u}
    User(TenantId, UserId, User),
    /// group/{t}/{g}
    Group(TenantId, GroupId, Group),
    /// member/{t}/{g}/{u}: since when, ms since the epoch
    Member(TenantId, GroupId, UserId, i64),
    /// signin/{hash}
    SignIn(String, SignIn),
    /// enroll/{hash}
    EnrollToken(String, EnrollToken),
    /// template/{t}/{x}
    Template(TenantId, TemplateId, Template),
    /// version/{t}/{x}/{digest hex}; the digest here with its prefix
    Version(TenantId, TemplateId, String, TemplateVersion),
    /// host/{h}
    Host(HostId, Host),
    /// hostrule/{t}, hostrule/{t}/template/{x}, hostrule/{t}/pool/{p}
    HostRule(TenantId, RuleTarget, Labels),
    /// removedhost/{h}: when it was removed, ms since the epoch
    RemovedHost(HostId, i64),
    /// desktop/{t}/{d}/spec
    Spec(TenantId, DesktopId, DesktopSpec),
    /// desktop/{t}/{d}/status
    Status(TenantId, DesktopId, DesktopStatus),
    /// alloc/{h}/{d}
    Allocation(HostId, DesktopId, Allocation),
    /// session/{t}/{s}
    Session(TenantId, SessionId, Session),
    /// machine/{t}/{m}
    Machine(TenantId, MachineId, Machine),
    /// pool/{t}/{p}
    Pool(TenantId, PoolId, Pool),
    /// forecast/{t}/{p}
    Forecast(TenantId, PoolId, Box<Forecast>),
    /// operation/{o}
    Operation(OperationId, Operation),
    /// batch/{o}: an operation on many desktops
    Batch(OperationId, Box<Batch>),
    /// rollout/{t}/{r}
    Rollout(TenantId, RolloutId, Box<Rollout>),
    /// request/{t}/{id}
    Request(TenantId, String, Request),
    /// usage/{t}/{d}/{start}/{kind}
    Usage(UsageKey, UsageInterval),
    /// meta/alive: when the leader last knew what is going on, ms since the epoch
    Alive(i64),
    /// audit/{number}
    Audit(u64, AuditBlock),
    /// meta/audit
    AuditHead(AuditHead),
}

/// The key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// meta/installation
    Installation,
    /// grantkey/{controller}
    GrantKey(String),
    /// tenant/{t}
    Tenant(TenantId),
    /// branding/{t}
    Branding(TenantId),
    /// user/{t}/{u}
    User(TenantId, UserId),
    /// group/{t}/{g}
    Group(TenantId, GroupId),
    /// member/{t}/{g}/{u}
    Member(TenantId, GroupId, UserId),
    /// signin/{hash}
    SignIn(String),
    /// enroll/{hash}
    EnrollToken(String),
    /// template/{t}/{x}
    Template(TenantId, TemplateId),
    /// version/{t}/{x}/{digest}
    Version(TenantId, TemplateId, String),
    /// host/{h}
    Host(HostId),
    /// hostrule/{t}, hostrule/{t}/template/{x}, hostrule/{t}/pool/{p}
    HostRule(TenantId, RuleTarget),
    /// removedhost/{h}
    RemovedHost(HostId),
    /// desktop/{t}/{d}/spec
    Spec(TenantId, DesktopId),
    /// desktop/{t}/{d}/status
    Status(TenantId, DesktopId),
    /// alloc/{h}/{d}
    Allocation(HostId, DesktopId),
    /// session/{t}/{s}
    Session(TenantId, SessionId),
    /// machine/{t}/{m}
    Machine(TenantId, MachineId),
    /// pool/{t}/{p}
    Pool(TenantId, PoolId),
    /// forecast/{t}/{p}
    Forecast(TenantId, PoolId),
    /// operation/{o}
    Operation(OperationId),
    /// batch/{o}
    Batch(OperationId),
    /// rollout/{t}/{r}
    Rollout(TenantId, RolloutId),
    /// request/{t}/{id}
    Request(TenantId, String),
    /// usage/{t}/{d}/{start}/{kind}
    Usage(UsageKey),
    /// meta/alive
    Alive,
    /// audit/{number}
    Audit(u64),
    /// meta/audit
    AuditHead,
}

/// One write of a decision.
#[expect(clippy::large_enum_variant, reason = "nearly all are puts, and they live shortly")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sets a row.
    Put(Row),
    /// Removes one.
    Delete(Key),
}

impl Row {
    /// Its key.
    pub fn key(&self) -> Key {
        match self {
            Self::Installation(_) => Key::Installation,
            Self::GrantKey(id, ..) => Key::GrantKey(id.clone()),
            Self::Tenant(tenant, _) => Key::Tenant(tenant.clone()),
            Self::Branding(tenant, _) => Key::Branding(tenant.clone()),
            Self::User(tenant, user, _) => Key::User(tenant.clone(), user.clone()),
            Self::Group(tenant, group, _) => Key::Group(tenant.clone(), group.clone()),
            Self::Member(tenant, group, user, _) => {
                Key::Member(tenant.clone(), group.clone(), user.clone())
            }
            Self::SignIn(hash, _) => Key::SignIn(hash.clone()),
            Self::EnrollToken(hash, _) => Key::EnrollToken(hash.clone()),
            Self::Template(tenant, id, _) => Key::Template(tenant.clone(), id.clone()),
            Self::Version(tenant, id, digest, _) => {
                Key::Version(tenant.clone(), id.clone(), digest.clone())
            }
            Self::Host(host, _) => Key::Host(host.clone()),
            Self::HostRule(tenant, target, _) => Key::HostRule(tenant.clone(), target.clone()),
            Self::RemovedHost(host, _) => Key::RemovedHost(host.clone()),
            Self::Spec(tenant, id, _) => Key::Spec(tenant.clone(), *id),
            Self::Status(tenant, id, _) => Key::Status(tenant.clone(), *id),
            Self::Allocation(host, id, _) => Key::Allocation(host.clone(), *id),
            Self::Session(tenant, id, _) => Key::Session(tenant.clone(), *id),
            Self::Machine(tenant, id, _) => Key::Machine(tenant.clone(), *id),
            Self::Pool(tenant, id, _) => Key::Pool(tenant.clone(), *id),
            Self::Forecast(tenant, id, _) => Key::Forecast(tenant.clone(), *id),
            Self::Operation(id, _) => Key::Operation(*id),
            Self::Batch(id, _) => Key::Batch(*id),
            Self::Rollout(tenant, id, _) => Key::Rollout(tenant.clone(), *id),
            Self::Request(tenant, id, _) => Key::Request(tenant.clone(), id.clone()),
            Self::Usage(key, _) => Key::Usage(key.clone()),
            Self::Alive(_) => Key::Alive,
            Self::Audit(number, _) => Key::Audit(*number),
            Self::AuditHead(_) => Key::AuditHead,
        }
    }
}

impl Step {
    /// The key that it writes.
    pub fn key(&self) -> Key {
        match self {
            Self::Put(row) => row.key(),
            Self::Delete(key) => key.clone(),
        }
    }
}
