//! What the installation consists of, one type each; how they are stored is the matter of `records`.

use std::collections::{BTreeMap, BTreeSet};

use vidi_kit::ids::{
    AppId, DesktopId, HostId, InstallationId, PoolId, SessionId, TemplateId, TenantId, TraceId,
    UserId,
};

use super::assignment::Assignment;
use super::display_policy::DisplayPolicy;
use super::power::Power;
use super::quota::Quota;

/// The installation itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Its id, in every certificate and domain.
    pub id: InstallationId,
    /// When it was made, ms since the epoch.
    pub create_ms: i64,
}

/// A customer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenant {
    /// For people.
    pub display_name: String,
    /// When it was made, ms since the epoch.
    pub create_ms: i64,
    /// What it may have at most.
    pub quota: Quota,
}

/// A local user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// For people.
    pub display_name: String,
    /// Role names, sorted.
    pub roles: Vec<String>,
    /// PHC string.
    pub password_hash: String,
    /// When it was made, ms since the epoch.
    pub create_ms: i64,
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("User").field("roles", &self.roles).finish_non_exhaustive()
    }
}

/// A person's authenticated stay; its key is the hash of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// The user's tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: UserId,
    /// When it began, ms since the epoch.
    pub create_ms: i64,
    /// When it ends by itself, ms since the epoch.
    pub expire_ms: i64,
}

/// A one-use permission to enrol; its key is the hash of the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollToken {
    /// agent, relay or gateway.
    pub role: String,
    /// The id that the daemon gets; empty: the one it asks for.
    pub id: String,
    /// When it is no longer good, ms since the epoch.
    pub expire_ms: i64,
    /// It has been used.
    pub used: bool,
}

/// A golden image's name and published version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// For people.
    pub display_name: String,
    /// The version that new desktops get, `sha256:<hex>`: the one that is published.
    pub latest_digest: String,
    /// When it was made, ms since the epoch.
    pub create_ms: i64,
    /// When that version was published, ms since the epoch.
    pub publish_ms: i64,
    /// The versions that were published before, the last one last; at most
    /// [`super::template::PUBLISHED_BEFORE_MAX`].
    pub published_before: Vec<String>,
}

/// An immutable version of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateVersion {
    /// What it is made of.
    pub manifest: Manifest,
    /// When it was made, ms since the epoch.
    pub create_ms: i64,
}

/// What a template version is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The system disk.
    pub disk: ImageFile,
    /// For direct kernel boot, with `initrd`.
    pub kernel: Option<ImageFile>,
    /// For direct kernel boot, with `kernel`.
    pub initrd: Option<ImageFile>,
    /// Kernel command line.
    pub cmdline: String,
    /// The machine.
    pub guest: Guest,
}

impl Manifest {
    /// Its files in the order in which they are uploaded: disk, kernel, initrd.
    pub fn files(&self) -> impl Iterator<Item = &ImageFile> {
        std::iter::once(&self.disk).chain(&self.kernel).chain(&self.initrd)
    }
}

/// One file of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Plain file name.
    pub file: String,
    /// Lower-case hex, 64 letters.
    pub sha256: String,
    /// Its length.
    pub size_bytes: u64,
}

/// The machine that a template wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Memory at most, MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub vcpus: u32,
    /// Graphics card.
    pub video: Video,
    /// How it is known that the guest is up.
    pub readiness: Readiness,
    /// It has a sound card.
    pub sound: bool,
}

/// A guest's graphics card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Video {
    /// qxl.
    Qxl,
    /// Standard VGA.
    Vga,
    /// virtio-gpu.
    Virtio,
}

/// How it is known that a guest is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Vidi's helper in the guest says so.
    Helper,
    /// The guest agent answers and a screenshot has more than one colour.
    Agent,
}

/// A KVM machine with an agent, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// When it first linked, ms since the epoch.
    pub create_ms: i64,
    /// Nothing new is placed on it.
    pub cordoned: bool,
    /// Its desktops are being stopped, or are off.
    ///
    /// INVARIANT: only a cordoned host is draining.
    pub draining: bool,
    /// While it is draining: sessions are ended instead of waited for.
    pub stop_in_use: bool,
    /// Desktops that nobody here knows and that are to be removed from it.
    pub removing: BTreeSet<DesktopId>,
    /// What it fails together with: a rack, a power supply. Empty: it fails alone.
    pub failure_domain: String,
    /// What operators say of it.
    pub labels: BTreeMap<String, String>,
}

/// What is wanted of a desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesktopSpec {
    /// For people.
    pub display_name: String,
    /// Its template.
    pub template: TemplateId,
    /// The template's version, fixed at creation.
    pub template_digest: String,
    /// Kept for this user.
    pub assigned_user: Option<UserId>,
    /// On rather than off.
    pub power_on: bool,
    /// When it has to go off: pull the plug.
    pub force_off: bool,
    /// On its way out.
    pub deleting: bool,
    /// Goes up by one with every change that its host is told of.
    pub generation: u64,
    /// When it was made, ms since the epoch.
    pub create_ms: i64,
    /// Its id on the user's menu.
    pub app_id: AppId,
    /// On its way off in order to be started again.
    ///
    /// INVARIANT: only a desktop that is wanted on and not deleted is restarting.
    pub restarting: bool,
    /// What becomes of it when its session ends.
    pub release_policy: ReleasePolicy,
    /// What passes between it and browsers.
    pub display_policy: DisplayPolicy,
    /// Of the request that last changed it.
    pub trace: Option<TraceId>,
    /// The pool that made it. Never changes.
    pub pool: Option<PoolId>,
    /// This is of a backup that was restored, and what has become of the desktop since is not known: it is
    /// not handed out, nor switched off or destroyed by itself, until somebody decides anew.
    pub restored: bool,
}

impl DesktopSpec {
    /// It is of a floating pool: it is destroyed after its user, whatever ended the session.
    ///
    /// INVARIANT: `assigned_user` of such a desktop is set once, in the commit of its claim.
    pub const fn is_single_use(&self) -> bool {
        self.pool.is_some() && matches!(self.release_policy, ReleasePolicy::Delete)
    }

    /// What its host is told: a desktop that restarts has to go off first.
    pub const fn host_power_on(&self) -> bool {
        self.power_on && !self.restarting
    }
}

/// What becomes of a desktop when its session ends by release or absence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReleasePolicy {
    /// It goes on running.
    Keep,
    /// It is shut down.
    #[default]
    Stop,
    /// It is destroyed.
    Delete,
}

/// A desktop: what is wanted and what was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desktop {
    /// What is wanted.
    pub spec: DesktopSpec,
    /// What was observed and decided.
    pub status: DesktopStatus,
}

/// What was observed of a desktop, and decided for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesktopStatus {
    /// Where its VM was last seen.
    pub power: Power,
    /// What it waits for, for people; a failure's reason is in `power`.
    pub reason: String,
    /// When `power` last changed, ms since the epoch.
    pub power_since_ms: i64,
    /// Where it is placed.
    ///
    /// INVARIANT: there is an allocation of it exactly where this says, and nowhere else.
    pub host: Option<HostId>,
    /// The session that has claimed it.
    pub session: Option<SessionId>,
    /// The newest spec generation that its host has answered for.
    pub observed_generation: u64,
    /// "kvm" or "tcg", as last seen.
    pub acceleration: String,
}

impl Desktop {
    /// Whose it is.
    pub fn assignment(&self) -> Assignment {
        match (&self.status.session, &self.spec.assigned_user) {
            (Some(session), _) => Assignment::Claimed(*session),
            (None, Some(user)) => Assignment::Assigned(user.clone()),
            (None, None) => Assignment::Free,
        }
    }
}

/// What a host must have; written in the commit that places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The desktop's tenant.
    pub tenant: TenantId,
    /// Memory charged for it, MiB.
    pub memory_mib: u64,
}

/// What a long-running change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Makes a desktop.
    Create,
    /// Starts it.
    Start,
    /// Stops it.
    Stop,
    /// Stops it and starts it again.
    Restart,
    /// Destroys it.
    Delete,
}

impl OperationKind {
    /// As in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Delete => "delete",
        }
    }

    /// From [`OperationKind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Create, Self::Start, Self::Stop, Self::Restart, Self::Delete]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// A long-running change of one desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub kind: OperationKind,
    /// The desktop's tenant.
    pub tenant: TenantId,
    /// The desktop.
    pub desktop: DesktopId,
    /// Whose that is, who may see the operation when the desktop is gone, too.
    pub user: Option<UserId>,
    /// Spec generation whose observation ends it.
    pub generation: u64,
    /// Where it is, for people.
    pub stage: String,
    /// When it began, ms since the epoch.
    pub create_ms: i64,
    /// When it ended and how; none while it goes on.
    pub end: Option<(i64, Result<(), OperationError>)>,
}

/// How an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationError {
    /// The name of an error reason.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// The error reasons of the API that operations end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No host can take it.
    NoHost,
    /// It failed, or a later change overtook it.
    WrongState,
    /// Its host did not answer in time.
    HostUnreachable,
    /// The desktop is gone.
    NotFound,
}

impl Reason {
    /// As in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoHost => "NO_HOST",
            Self::WrongState => "WRONG_STATE",
            Self::HostUnreachable => "HOST_UNREACHABLE",
            Self::NotFound => "NOT_FOUND",
        }
    }

    /// From [`Reason::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::NoHost, Self::WrongState, Self::HostUnreachable, Self::NotFound]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

/// What a request with an id was answered, so that asking again gives the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Hash of what was asked.
    pub body_sha256: [u8; 32],
    /// The operation that it began, if any: `operations/{uuid}`'s uuid.
    pub operation: Option<vidi_kit::ids::OperationId>,
    /// The resource that it made or changed, in full.
    pub resource: String,
    /// Who asked: `tenants/{t}/users/{u}`, or empty for root.
    pub by: String,
    /// When it was answered, ms since the epoch.
    pub create_ms: i64,
}
