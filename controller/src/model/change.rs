//! Everything that may be asked of the reconciler, what it answers, and why it refuses.

use std::collections::BTreeMap;

use vidi_kit::ids::{
    AppId, DesktopId, GatewayId, HostId, OperationId, SessionId, TemplateId, TenantId, TraceId,
    UserId,
};

use super::host::{HostHello, HostReport};
use super::resources::{EnrollToken, Manifest, ReleasePolicy, SignIn, Tenant, User};
use super::session::EndCause;

/// Makes a repeated request give the first one's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The caller's `request_id`, 1 to 128 printable ASCII letters without '/'.
    pub id: String,
    /// SHA-256 of what is asked, the id left out.
    pub body_sha256: [u8; 32],
    /// Who asks: `tenants/{t}/users/{u}`, or empty for root.
    pub by: String,
}

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
    /// Makes a tenant. Answer: done.
    CreateTenant {
        /// Its id.
        tenant: TenantId,
        /// What is kept of it.
        record: Tenant,
        /// For repetition.
        request: Option<RequestKey>,
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
    /// Makes a version the newest of a template, which is made when it is not there. Answer: done.
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
        /// For repetition.
        request: Option<RequestKey>,
        /// Only say whether it would be possible. Answer: done.
        validate_only: bool,
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
    },
    /// A gateway's link is gone. Answer: done.
    GatewayUnlinked {
        /// Whose.
        gateway: GatewayId,
        /// Which link.
        link: u64,
    },
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

/// What became of a change; the snapshot that holds its effect is published before this is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// It goes on under this operation.
    Operation(OperationId),
    /// This session has it.
    Session(TenantId, SessionId),
    /// The daemon's id.
    EnrollId(String),
    /// A grant may be signed.
    Granted(Granted),
}

/// What a grant is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whose session it is.
    pub user: UserId,
    /// Its desktop.
    pub desktop: DesktopId,
    /// Where that is.
    pub host: HostId,
    /// Higher than any before.
    pub epoch: u64,
    /// `host:port` of the host's relay.
    pub relay_address: String,
    /// Of the click that opened the session.
    pub trace: Option<TraceId>,
}

/// Where a desktop could be put, or a sentence why nowhere.
pub type Placed = Result<HostId, String>;

/// Why a change was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing (or it is somebody else's).
    #[error("{kind} \"{id}\" was not found")]
    NotFound {
        /// user, template, desktop...
        kind: &'static str,
        /// As it was asked for.
        id: String,
    },
    /// There is one already.
    #[error("{kind} \"{id}\" exists already")]
    AlreadyExists {
        /// user, template...
        kind: &'static str,
        /// As it was asked for.
        id: String,
    },
    /// It changed since the caller read it.
    #[error("{kind} \"{id}\" changed since it was read: read it again, then retry")]
    EtagStale {
        /// user, template, desktop...
        kind: &'static str,
        /// As it was asked for.
        id: String,
    },
    /// The request id came before with another body.
    #[error("request_id \"{0}\" was used before for something else: take a new one")]
    RequestIdReused(String),
    /// The state does not allow it.
    #[error("{kind} \"{id}\" is {state}: {remedy}")]
    WrongState {
        /// user, template, desktop...
        kind: &'static str,
        /// Which.
        id: String,
        /// The state it is in.
        state: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Somebody else is on it.
    #[error("desktop \"{0}\" is in use by somebody else: end that session first")]
    DesktopInUse(DesktopId),
    /// The desktop has no host that could be reached.
    #[error("host \"{0}\" does not answer: wait until it is back")]
    HostUnreachable(HostId),
    /// The host was deleted, and its certificate is older than that.
    #[error(
        "host \"{0}\" was removed from this installation: enrol it again, with a token from `vidictl \
         host enroll-token`"
    )]
    HostRemoved(HostId),
    /// The enrolment token is no good.
    #[error("the enrolment token is unknown, used or expired: ask for a new one")]
    BadEnrollToken,
    /// The sign-in is over.
    #[error("the sign-in has ended: sign in again")]
    SignedOut,
    /// Over a limit.
    #[error("there are too many {what}: at most {limit} are allowed, wait or remove some")]
    LimitExceeded {
        /// What.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The link that it came by was replaced by a newer one.
    #[error("a newer link has taken over")]
    LinkReplaced,
    /// The store refused; a later try may succeed.
    #[error("the store did not take the change, nothing was changed: {0}")]
    StoreUnavailable(String),
    /// Another controller leads, or none does.
    #[error("this controller does not lead: ask another, or again in a moment")]
    NotLeader,
    /// More is asked than can be decided.
    #[error("the controller is too busy: try again in a moment")]
    Busy,
}

impl Refusal {
    /// [`Refusal::NotFound`] of anything that has a name.
    pub fn not_found(kind: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }
}
