//! Everything that may be asked of the reconciler.

use std::collections::BTreeMap;

use vidi_kit::ids::{
    AppId, DesktopId, GatewayId, GroupId, HostId, MachineId, OperationId, PoolId, SessionId,
    TemplateId, TenantId, UserId,
};

use super::audit::AuditEntry;
use super::batch::NewBatch;
use super::branding::Branding;
use super::display_policy::DisplayPolicy;
use super::group::GroupChange;
use super::host::{HostHello, HostReport};
use super::host_rule::{Labels, RuleTarget};
use super::machine::MachineSettings;
use super::pool::PoolSettings;
use super::quota::Quota;
pub use super::request_key::RequestKey;
use super::resources::{EnrollToken, Manifest, ReleasePolicy, SignIn, Tenant, User};
use super::rollout::RolloutChange;
use super::session::{EndCause, Notice};
use super::template::TemplateChange;

/// A wish of a caller or news from a link. Who may ask was judged before; the reconciler judges
/// whether it is possible.
#[derive(Clone, Debug)]
pub enum Change {
    /// Makes a local user. Answer: done.
    CreateUser {
        /// In this tenant.
        tenant: TenantId,
        /// Its id.
        user: UserId,
        /// What is kept of it.
        record: User,
        /// For repetition.
        request: Option<RequestKey>,
    },
    /// Makes, changes or removes a group, or who is in it. Answer: done.
    Group(TenantId, GroupId, GroupChange),
    /// Makes a tenant. Answer: done.
    CreateTenant {
        /// Its id.
        tenant: TenantId,
        /// What is kept of it.
        record: Tenant,
        /// For repetition.
        request: Option<RequestKey>,
    },
    /// Changes a tenant. Answer: done.
    UpdateTenant {
        /// Which.
        tenant: TenantId,
        /// For people; none: leave it.
        display_name: Option<String>,
        /// All of its limits; none: leave them.
        quota: Option<Quota>,
        /// As [`super::World::tenant_etag`] gave it; empty: whatever it is.
        etag: String,
        /// Only say whether it would be possible.
        validate_only: bool,
    },
    /// Chooses how the pages look to a tenant's people. Answer: done.
    SetBranding {
        /// Whose.
        tenant: TenantId,
        /// All of it; it has passed [`Branding::check`].
        branding: Box<Branding>,
    },
    /// Removes a tenant; refused while it has users, templates or desktops. Answer: done.
    DeleteTenant {
        /// Which.
        tenant: TenantId,
        /// As [`super::World::tenant_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Changes what is known of a user. Answer: done.
    UpdateUser {
        /// In this tenant.
        tenant: TenantId,
        /// Its id.
        user: UserId,
        /// For people; none: leave it.
        display_name: Option<String>,
        /// Sorted; none: leave them.
        roles: Option<Vec<String>>,
        /// As [`super::World::user_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Removes a user and its sign-ins; refused while desktops are assigned to it. Answer: done.
    DeleteUser {
        /// In this tenant.
        tenant: TenantId,
        /// Its id.
        user: UserId,
        /// As [`super::World::user_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Sets a password and ends the user's sign-ins. Answer: done.
    SetPasswordHash {
        /// In this tenant.
        tenant: TenantId,
        /// Its id.
        user: UserId,
        /// PHC string.
        password_hash: String,
    },
    /// Begins a sign-in; a user's oldest ends when there are too many. Answer: done.
    CreateSignIn {
        /// SHA-256 of the token, hex.
        token_sha256: String,
        /// Whose, from when to when.
        record: SignIn,
    },
    /// Ends a sign-in; one that is not there is no error. Answer: done.
    DeleteSignIn {
        /// SHA-256 of the token, hex.
        token_sha256: String,
    },
    /// Keeps an enrolment token. Answer: done.
    CreateEnrollToken {
        /// SHA-256 of the secret, hex.
        secret_sha256: String,
        /// What it allows.
        record: EnrollToken,
    },
    /// Uses an enrolment token up. Answer: [`Answer::EnrollId`].
    UseEnrollToken {
        /// SHA-256 of the secret, hex.
        secret_sha256: String,
        /// The role that the daemon asks for; must be the token's.
        role: String,
        /// The id that it asks for; the token's own wins.
        id: String,
    },
    /// Keeps a version of a template, which is made when it is not there, and publishes it. Answer: done.
    PutTemplate {
        /// In this tenant.
        tenant: TenantId,
        /// Its id.
        template: TemplateId,
        /// For people; empty: leave it, or the id for a new one.
        display_name: String,
        /// `sha256:<hex>` of the manifest's encoding.
        digest: String,
        /// What the version is made of; its files are there already.
        manifest: Manifest,
        /// New desktops go on to get the version that is published, if one is.
        draft: bool,
    },
    /// Publishes versions of a template, or forgets one. Answer: done.
    Template(TemplateChange),
    /// Begins a roll-out, or changes its course. Answer: [`Answer::Rollout`].
    Rollout(RolloutChange),
    /// Does the same with many desktops. Answer: [`Answer::Operation`].
    Batch(Box<NewBatch>),
    /// Begins nothing more of a batch. Answer: [`Answer::Operation`].
    CancelBatch(OperationId),
    /// Tells somebody something on the screen. Answer: [`Answer::Session`].
    Message {
        /// In this tenant.
        tenant: TenantId,
        /// To this session's user.
        session: SessionId,
        /// What.
        notice: Notice,
        /// For repetition.
        request: Option<RequestKey>,
    },
    /// Removes a template with its versions; refused while a desktop uses it. Answer: done.
    DeleteTemplate {
        /// In this tenant.
        tenant: TenantId,
        /// Its id.
        template: TemplateId,
        /// As [`super::World::template_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Makes a desktop. Answer: [`Answer::Operation`].
    CreateDesktop {
        /// In this tenant.
        tenant: TenantId,
        /// From its newest version.
        template: TemplateId,
        /// For people; empty: the template's.
        display_name: String,
        /// Kept for this user.
        assigned_user: Option<UserId>,
        /// On at once.
        start: bool,
        /// What becomes of it when its session ends.
        release_policy: ReleasePolicy,
        /// What passes between it and browsers; it has passed [`DisplayPolicy::check`].
        display_policy: DisplayPolicy,
        /// For repetition.
        request: Option<RequestKey>,
        /// Only say whether it would be possible. Answer: done.
        validate_only: bool,
    },
    /// Changes what its host need not know. Answer: done.
    UpdateDesktop {
        /// Which; it has no request.
        target: DesktopTarget,
        /// For people; none: leave it.
        display_name: Option<String>,
        /// What becomes of it when its session ends; none: leave it.
        release_policy: Option<ReleasePolicy>,
        /// What passes between it and browsers; it has passed [`DisplayPolicy::check`]. None: leave it.
        display_policy: Option<DisplayPolicy>,
    },
    /// Wants it on. Answer: [`Answer::Operation`].
    StartDesktop {
        /// Which.
        target: DesktopTarget,
    },
    /// Wants it off. Answer: [`Answer::Operation`].
    StopDesktop {
        /// Which.
        target: DesktopTarget,
        /// Pull the plug instead of asking the guest.
        force: bool,
    },
    /// Wants it off and on again; one that is off is started. Answer: [`Answer::Operation`].
    RestartDesktop {
        /// Which.
        target: DesktopTarget,
        /// Pull the plug instead of asking the guest.
        force: bool,
    },
    /// Destroys it. Answer: [`Answer::Operation`].
    DeleteDesktop {
        /// Which.
        target: DesktopTarget,
    },
    /// Keeps a desktop for a user, or for nobody: then one of a pool leaves it. Answer: done.
    AssignDesktop {
        /// Which; it has no request.
        target: DesktopTarget,
        /// For whom; none: nobody.
        user: Option<UserId>,
    },
    /// Makes a physical machine. Answer: [`Answer::Machine`].
    CreateMachine {
        /// In this tenant.
        tenant: TenantId,
        /// What is chosen of it.
        settings: Box<MachineSettings>,
        /// For repetition.
        request: Option<RequestKey>,
        /// Only say whether it would be possible. Answer: done.
        validate_only: bool,
    },
    /// Changes a physical machine. Answer: done.
    UpdateMachine {
        /// In this tenant.
        tenant: TenantId,
        /// Which.
        machine: MachineId,
        /// All of what is chosen of it.
        settings: Box<MachineSettings>,
        /// As [`super::World::machine_etag`] gave it.
        etag: String,
        /// Only say whether it would be possible.
        validate_only: bool,
    },
    /// Removes a physical machine and ends its session. Answer: done.
    DeleteMachine {
        /// In this tenant.
        tenant: TenantId,
        /// Which.
        machine: MachineId,
        /// As [`super::World::machine_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Makes a pool; its first desktops follow at once. Answer: done.
    CreatePool {
        /// In this tenant.
        tenant: TenantId,
        /// Its id.
        pool: PoolId,
        /// What is chosen of it; it has passed [`PoolSettings::check`].
        settings: Box<PoolSettings>,
        /// For repetition.
        request: Option<RequestKey>,
        /// Only say whether it would be possible.
        validate_only: bool,
    },
    /// Changes a pool; refused where its template or kind would change. Answer: done.
    UpdatePool {
        /// In this tenant.
        tenant: TenantId,
        /// Which.
        pool: PoolId,
        /// All of what is chosen of it; it has passed [`PoolSettings::check`].
        settings: Box<PoolSettings>,
        /// As [`super::World::pool_etag`] gave it.
        etag: String,
        /// Only say whether it would be possible.
        validate_only: bool,
    },
    /// Takes a pool off the menus and destroys its desktops; it goes with the last of them. Answer: done.
    DeletePool {
        /// In this tenant.
        tenant: TenantId,
        /// Which; one that is being deleted already is no error.
        pool: PoolId,
        /// As [`super::World::pool_etag`] gave it; empty: whatever it is.
        etag: String,
        /// Also those that somebody has; otherwise it is refused while anybody has one.
        force: bool,
    },
    /// Makes desktops again where that was given up; one that is not suspended is no error. Answer: done.
    ResumePool {
        /// In this tenant.
        tenant: TenantId,
        /// Which.
        pool: PoolId,
        /// As [`super::World::pool_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Claims an app for a user; wants its desktop on. Answer: [`Answer::Session`].
    OpenApp {
        /// In this tenant.
        tenant: TenantId,
        /// The app.
        app: AppId,
        /// For whom.
        user: UserId,
        /// For repetition.
        request: Option<RequestKey>,
    },
    /// Ends a session and does with its desktop what that one's policy says; one that has ended is no
    /// error. Answer: [`Answer::Session`].
    ReleaseSession {
        /// In this tenant.
        tenant: TenantId,
        /// Which.
        session: SessionId,
        /// Who wants it.
        cause: EndCause,
    },
    /// Lets a gateway reach a session's desktop, with a new epoch. Answer: [`Answer::Granted`].
    IssueGrant {
        /// By its certificate.
        gateway: GatewayId,
        /// SHA-256 of the user's sign-in token, hex.
        token_sha256: String,
        /// In this tenant.
        tenant: TenantId,
        /// Which.
        session: SessionId,
        /// Why the grant before did not lead to a picture; empty: it did, or there was none.
        problem: String,
    },
    /// Changes what operators say of a host. Answer: done.
    UpdateHost {
        /// Which.
        host: HostId,
        /// As [`super::World::host_etag`] gave it; empty: whatever it is.
        etag: String,
        /// What it fails together with; none: leave it.
        failure_domain: Option<String>,
        /// All of its labels; none: leave them.
        labels: Option<BTreeMap<String, String>>,
    },
    /// Says which labels a host must have for the desktops of a tenant, a template or a pool; none: any host
    /// will do. Answer: done.
    SetHostRule {
        /// Of this tenant.
        tenant: TenantId,
        /// Whose desktops.
        target: RuleTarget,
        /// All of them.
        labels: Labels,
    },
    /// Places nothing new on a host. Answer: done.
    CordonHost {
        /// Which.
        host: HostId,
        /// As [`super::World::host_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Takes back a cordon and a drain. Answer: done.
    UncordonHost {
        /// Which.
        host: HostId,
        /// As [`super::World::host_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Cordons a host and stops its desktops. Answer: done.
    DrainHost {
        /// Which.
        host: HostId,
        /// As [`super::World::host_etag`] gave it; empty: whatever it is.
        etag: String,
        /// End sessions instead of waiting for their end.
        stop_in_use: bool,
    },
    /// Forgets a host that is not linked and has no desktops. Answer: done.
    DeleteHost {
        /// Which.
        host: HostId,
        /// As [`super::World::host_etag`] gave it; empty: whatever it is.
        etag: String,
    },
    /// Removes a desktop that its host has and nobody here knows. Answer: done.
    RemoveUnknownDesktop {
        /// Which host.
        host: HostId,
        /// Which desktop.
        desktop: DesktopId,
    },
    /// An agent has linked; an older link of its host no longer counts. Answer: done.
    HostLinked {
        /// By its certificate.
        host: HostId,
        /// Unique in this process, not 0.
        link: u64,
        /// What it said.
        hello: HostHello,
        /// Since when its certificate is good, ms since the epoch.
        certified_ms: i64,
    },
    /// An agent's whole report. Answer: done; refused from a link that was replaced.
    HostReported {
        /// By its certificate.
        host: HostId,
        /// The link that it came by.
        link: u64,
        /// All of it.
        report: Box<HostReport>,
    },
    /// An agent's link is gone. Answer: done.
    HostUnlinked {
        /// Whose.
        host: HostId,
        /// Which link.
        link: u64,
    },
    /// All sessions that a gateway has attached. Answer: done.
    GatewayPresence {
        /// By its certificate.
        gateway: GatewayId,
        /// The link that it came by, not 0.
        link: u64,
        /// Each with its epoch.
        sessions: BTreeMap<SessionId, u64>,
        /// For so long nobody has touched anything in them, s; 0 where it names none.
        idle_secs: BTreeMap<SessionId, u32>,
        /// Where other gateways reach it, `host:port`; empty: nowhere.
        peer_address: String,
    },
    /// A gateway's link is gone. Answer: done.
    GatewayUnlinked {
        /// Whose.
        gateway: GatewayId,
        /// Which link.
        link: u64,
    },
    /// A call was refused before it changed anything; for the audit log. Answer: none.
    Refused(Box<AuditEntry>),
    /// Publishes a public grant-signing key. Answer: done.
    PutGrantKey {
        /// The controller that signs with it.
        controller: String,
        /// Ed25519, 32 bytes.
        public_key: Vec<u8>,
    },
}

/// A desktop, and the state in which the caller saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesktopTarget {
    /// In this tenant.
    pub tenant: TenantId,
    /// Which.
    pub desktop: DesktopId,
    /// As [`super::World::desktop_etag`] gave it; empty: whatever it is.
    pub etag: String,
    /// For repetition.
    pub request: Option<RequestKey>,
}
