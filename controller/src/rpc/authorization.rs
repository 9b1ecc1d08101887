//! One table of who may call what, checked in one layer before any service; the same row then decides
//! on the object ([`Access`]). What is not in the table is denied.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower::Layer;
use vidi_kit::Clock;
use vidi_kit::ids::{TenantId, UserId};
use vidi_kit::tls::Role;
use vidi_kit::transport::PeerInfo;

use super::around::{Answering, Around, Inner, Surrounded};
use super::caller::{
    ADMIN, AUDITOR, Caller, HELPDESK, INSTALLATION_AUDITOR, INSTALLATION_ROLES, OPERATOR, ROLES,
    USER,
};
use super::status::{not_allowed, not_found, signed_out};
use crate::model::World;
use crate::reconcile::Call;

/// Who may call a method. On which objects: [`Access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Everybody, whoever they are.
    Everybody,
    /// Everybody who has proved to be somebody: a person, a daemon, root.
    Known,
    /// Persons with one of these roles; root has all. An installation's role counts everywhere, a
    /// tenant's in the tenant, and `user` for what is the person's own.
    Roles(&'static [&'static str]),
    /// Daemons with one of these roles.
    Daemons(&'static [Role]),
    /// Nobody here: another program serves it.
    ServedElsewhere,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its path on the wire.
    pub path: &'static str,
    /// Who may.
    pub allowed: Allowed,
    /// Until its response begins; none: as long as it takes.
    pub time_max: Option<Duration>,
}

/// Most methods answer from memory or after one commit.
const ANSWER_SECS_MAX: Duration = Duration::from_secs(30);
/// `WaitOperation` waits up to 600 s by its own limit.
const WAIT_SECS_MAX: Duration = Duration::from_secs(630);

const PERSONS: Allowed = Allowed::Roles(&ROLES);
const MANAGERS: Allowed = Allowed::Roles(&[OPERATOR, ADMIN]);
const MAKERS: Allowed = Allowed::Roles(&[OPERATOR, ADMIN, HELPDESK]);
const WATCHERS: Allowed = Allowed::Roles(&SEEING);
const SEEING: [&str; 5] = [OPERATOR, INSTALLATION_AUDITOR, ADMIN, HELPDESK, AUDITOR];
const AUDITING: [&str; 4] = [OPERATOR, INSTALLATION_AUDITOR, ADMIN, AUDITOR];
const POWER: Allowed = Allowed::Roles(&[OPERATOR, ADMIN, HELPDESK, USER]);
const OPERATORS: Allowed = Allowed::Roles(&[OPERATOR]);
const INSTALLATION: Allowed = Allowed::Roles(&INSTALLATION_ROLES);
/// Root alone, on the controller's machine.
const ROOT: Allowed = Allowed::Roles(&[]);
const AGENTS: Allowed = Allowed::Daemons(&[Role::Agent]);
const GATEWAYS: Allowed = Allowed::Daemons(&[Role::Gateway]);

const fn rule(path: &'static str, allowed: Allowed) -> Rule {
    Rule { path, allowed, time_max: Some(ANSWER_SECS_MAX) }
}

const fn slow(path: &'static str, allowed: Allowed, time_max: Option<Duration>) -> Rule {
    Rule { path, allowed, time_max }
}

/// Every method of the descriptor set, and those of health and reflection.
pub const TABLE: &[Rule] = &[
    rule("/vidi.v1.SignInService/SignIn", Allowed::Everybody),
    rule("/vidi.v1.SignInService/SignOut", Allowed::Everybody),
    rule("/vidi.v1.SignInService/WhoAmI", PERSONS),
    rule("/vidi.v1.UserService/CreateUser", MANAGERS),
    rule("/vidi.v1.UserService/GetUser", WATCHERS),
    rule("/vidi.v1.UserService/ListUsers", WATCHERS),
    rule("/vidi.v1.UserService/UpdateUser", MANAGERS),
    rule("/vidi.v1.UserService/DeleteUser", MANAGERS),
    rule("/vidi.v1.UserService/SetPassword", MANAGERS),
    rule("/vidi.v1.GroupService/CreateGroup", MANAGERS),
    rule("/vidi.v1.GroupService/GetGroup", WATCHERS),
    rule("/vidi.v1.GroupService/ListGroups", WATCHERS),
    rule("/vidi.v1.GroupService/UpdateGroup", MANAGERS),
    rule("/vidi.v1.GroupService/DeleteGroup", MANAGERS),
    rule("/vidi.v1.GroupService/AddGroupMembers", MANAGERS),
    rule("/vidi.v1.GroupService/RemoveGroupMembers", MANAGERS),
    rule("/vidi.v1.GroupService/ListGroupMembers", WATCHERS),
    rule("/vidi.v1.EnrollService/Enroll", Allowed::Everybody),
    rule(
        "/vidi.v1.EnrollService/Renew",
        Allowed::Daemons(&[Role::Agent, Role::Relay, Role::Gateway]),
    ),
    rule("/vidi.v1.HostService/GetHost", INSTALLATION),
    rule("/vidi.v1.HostService/ListHosts", INSTALLATION),
    rule("/vidi.v1.HostService/UpdateHost", OPERATORS),
    rule("/vidi.v1.HostService/GetCapacity", INSTALLATION),
    rule("/vidi.v1.HostService/ExplainPlacement", INSTALLATION),
    rule("/vidi.v1.HostService/SimulatePool", INSTALLATION),
    rule("/vidi.v1.HostService/SetHostRule", OPERATORS),
    rule("/vidi.v1.HostService/ListHostRules", INSTALLATION),
    rule("/vidi.v1.HostService/CordonHost", OPERATORS),
    rule("/vidi.v1.HostService/UncordonHost", OPERATORS),
    rule("/vidi.v1.HostService/DrainHost", OPERATORS),
    rule("/vidi.v1.HostService/DeleteHost", OPERATORS),
    rule("/vidi.v1.HostService/RemoveUnknownDesktop", OPERATORS),
    rule("/vidi.v1.HostService/CreateEnrollToken", OPERATORS),
    rule("/vidi.v1.TenantService/CreateTenant", OPERATORS),
    rule("/vidi.v1.TenantService/GetTenant", PERSONS),
    rule("/vidi.v1.TenantService/ListTenants", PERSONS),
    rule("/vidi.v1.TenantService/UpdateTenant", MANAGERS),
    rule("/vidi.v1.TenantService/DeleteTenant", OPERATORS),
    rule("/vidi.v1.TenantService/GetBranding", PERSONS),
    rule("/vidi.v1.TenantService/UpdateBranding", MANAGERS),
    rule("/vidi.v1.UsageService/ListUsage", PERSONS),
    rule("/vidi.v1.AuditService/ListAudit", Allowed::Roles(&AUDITING)),
    rule("/vidi.v1.AuditService/ListAuditBlocks", INSTALLATION),
    slow("/vidi.v1.TemplateService/UploadTemplate", MANAGERS, None),
    rule("/vidi.v1.TemplateService/GetTemplate", WATCHERS),
    rule("/vidi.v1.TemplateService/ListTemplates", WATCHERS),
    rule("/vidi.v1.TemplateService/ListTemplateVersions", WATCHERS),
    rule("/vidi.v1.TemplateService/PublishTemplate", MANAGERS),
    rule("/vidi.v1.TemplateService/RollBackTemplate", MANAGERS),
    rule("/vidi.v1.TemplateService/DeleteTemplateVersion", MANAGERS),
    rule("/vidi.v1.TemplateService/DeleteTemplate", MANAGERS),
    rule("/vidi.v1.RolloutService/CreateRollout", MANAGERS),
    rule("/vidi.v1.RolloutService/GetRollout", WATCHERS),
    rule("/vidi.v1.RolloutService/ListRollouts", WATCHERS),
    rule("/vidi.v1.RolloutService/PauseRollout", MANAGERS),
    rule("/vidi.v1.RolloutService/ResumeRollout", MANAGERS),
    rule("/vidi.v1.RolloutService/CancelRollout", MANAGERS),
    rule("/vidi.v1.RolloutService/RollBackRollout", MANAGERS),
    rule("/vidi.v1.BatchService/BatchStartDesktops", MAKERS),
    rule("/vidi.v1.BatchService/BatchStopDesktops", MAKERS),
    rule("/vidi.v1.BatchService/BatchRestartDesktops", MAKERS),
    rule("/vidi.v1.BatchService/BatchMessageDesktops", MAKERS),
    rule("/vidi.v1.MessageService/MessageDesktop", MAKERS),
    rule("/vidi.v1.MessageService/MessageSession", MAKERS),
    rule("/vidi.v1.DesktopService/CreateDesktop", MAKERS),
    rule("/vidi.v1.DesktopService/UpdateDesktop", MANAGERS),
    rule("/vidi.v1.DesktopService/GetDesktop", PERSONS),
    rule("/vidi.v1.DesktopService/ListDesktops", PERSONS),
    rule("/vidi.v1.DesktopService/StartDesktop", POWER),
    rule("/vidi.v1.DesktopService/StopDesktop", POWER),
    rule("/vidi.v1.DesktopService/RestartDesktop", POWER),
    rule("/vidi.v1.DesktopService/DeleteDesktop", MAKERS),
    rule("/vidi.v1.DesktopService/AssignDesktop", MANAGERS),
    rule("/vidi.v1.DesktopService/UnassignDesktop", MANAGERS),
    rule("/vidi.v1.DesktopService/WatchDesktops", PERSONS),
    rule("/vidi.v1.MachineService/CreateMachine", MANAGERS),
    rule("/vidi.v1.MachineService/GetMachine", WATCHERS),
    rule("/vidi.v1.MachineService/ListMachines", WATCHERS),
    rule("/vidi.v1.MachineService/UpdateMachine", MANAGERS),
    rule("/vidi.v1.MachineService/DeleteMachine", MANAGERS),
    rule("/vidi.v1.PoolService/CreatePool", MANAGERS),
    rule("/vidi.v1.PoolService/GetPool", WATCHERS),
    rule("/vidi.v1.PoolService/ListPools", WATCHERS),
    rule("/vidi.v1.PoolService/UpdatePool", MANAGERS),
    rule("/vidi.v1.PoolService/DeletePool", MANAGERS),
    rule("/vidi.v1.PoolService/ResumePool", MANAGERS),
    rule("/vidi.v1.PoolService/ForecastPool", WATCHERS),
    rule("/vidi.v1.PoolService/WatchPools", WATCHERS),
    rule("/vidi.v1.SessionService/ListApps", PERSONS),
    rule("/vidi.v1.SessionService/OpenApp", PERSONS),
    rule("/vidi.v1.SessionService/GetSession", PERSONS),
    rule("/vidi.v1.SessionService/ListSessions", PERSONS),
    rule("/vidi.v1.SessionService/ReleaseSession", POWER),
    rule("/vidi.v1.SessionService/WatchSessions", PERSONS),
    rule("/vidi.v1.OperationService/GetOperation", PERSONS),
    rule("/vidi.v1.OperationService/ListOperations", PERSONS),
    slow("/vidi.v1.OperationService/WaitOperation", PERSONS, Some(WAIT_SECS_MAX)),
    rule("/vidi.v1.OperationService/CancelOperation", MAKERS),
    rule("/vidi.v1.StoreService/BackUp", ROOT),
    slow("/vidi.v1.AgentLink/Link", AGENTS, None),
    rule("/vidi.v1.AgentLink/FetchImage", AGENTS),
    rule("/vidi.v1.AgentLink/CertifyRelay", AGENTS),
    slow("/vidi.v1.GatewayLink/Link", GATEWAYS, None),
    rule("/vidi.v1.GatewayLink/IssueGrant", GATEWAYS),
    rule("/vidi.v1.GatewayLink/Admit", GATEWAYS),
    rule("/vidi.v1.GatewayLink/CertifyPage", GATEWAYS),
    rule("/vidi.v1.GatewayLink/ShowBranding", GATEWAYS),
    rule("/vidi.v1.GatewayPeer/View", Allowed::ServedElsewhere),
    rule("/vidi.v1.Relay/Attach", Allowed::ServedElsewhere),
    rule("/vidi.v1.Relay/Channel", Allowed::ServedElsewhere),
    rule("/grpc.health.v1.Health/Check", Allowed::Everybody),
    slow("/grpc.health.v1.Health/Watch", Allowed::Known, None),
    slow("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Allowed::Known, None),
];

/// The rule of a method.
pub fn find(path: &str) -> Option<&'static Rule> {
    TABLE.iter().find(|rule| rule.path == path)
}

/// Whether this caller may; the refusal tells somebody unknown to sign in.
pub fn check(allowed: Allowed, caller: &Caller) -> Result<(), Status> {
    let granted = match (allowed, caller) {
        (Allowed::Everybody, _) => true,
        (Allowed::ServedElsewhere, _) => return Err(no_method()),
        (_, Caller::Anonymous | Caller::SignedOut) => return Err(signed_out()),
        (_, Caller::Local { .. }) => false,
        (Allowed::Known, Caller::Root | Caller::Daemon { .. } | Caller::User(_)) => true,
        (Allowed::Roles(roles), Caller::User(who)) => roles.iter().any(|role| who.has(role)),
        (Allowed::Roles(_), Caller::Root) => true,
        (Allowed::Daemons(roles), Caller::Daemon { role, .. }) => roles.contains(role),
        (Allowed::Roles(_), Caller::Daemon { .. })
        | (Allowed::Daemons(_), Caller::Root | Caller::User(_)) => false,
    };
    if granted { Ok(()) } else { Err(not_allowed()) }
}

/// A caller that was let in, and on what it may use the method: the row of the table, applied to
/// tenants and objects. What is somebody else's looks as if it were not there.
#[derive(Clone, Debug)]
pub struct Access {
    caller: Caller,
    roles: &'static [&'static str],
}

impl Access {
    /// Of a request that passed the layer; refused to callers that are no persons.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(signed_out)
    }

    /// Who it is.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// All tenants: by a role of the installation.
    pub fn everywhere(&self) -> bool {
        match &self.caller {
            Caller::Root => true,
            Caller::User(who) => {
                let mut roles = self.roles.iter().filter(|role| INSTALLATION_ROLES.contains(role));
                roles.any(|role| who.has(role))
            }
            Caller::Anonymous
            | Caller::SignedOut
            | Caller::Local { .. }
            | Caller::Daemon { .. } => false,
        }
    }

    /// Everything of a tenant: by a role there, or of the installation.
    pub fn covers(&self, tenant: &TenantId) -> bool {
        self.everywhere() || self.in_tenant(tenant, self.roles)
    }

    /// A thing of this user's own, where the method is for users.
    pub fn owns(&self, tenant: &TenantId, owner: Option<&UserId>) -> bool {
        self.roles.contains(&USER) && owner.is_some_and(|user| self.caller.is_user(tenant, user))
    }

    /// A thing of this tenant that belongs to `owner`, if to anybody.
    pub fn reaches(&self, tenant: &TenantId, owner: Option<&UserId>) -> bool {
        self.covers(tenant) || self.owns(tenant, owner)
    }

    /// As [`Access::reaches`], or why not: who may see the thing is told that this is not allowed, to
    /// others it is not there.
    pub fn check(
        &self,
        (kind, id): (&'static str, &str),
        tenant: &TenantId,
        owner: Option<&UserId>,
    ) -> Result<(), Status> {
        if self.reaches(tenant, owner) {
            return Ok(());
        }
        Call::refused_about(|| match kind {
            "tenant" => format!("tenants/{tenant}"),
            _ => format!("tenants/{tenant}/{kind}s/{id}"),
        });
        let own = owner.is_some_and(|user| self.caller.is_user(tenant, user));
        let sees = Self { caller: self.caller.clone(), roles: &SEEING }.covers(tenant);
        if own || sees { Err(not_allowed()) } else { Err(not_found(kind, id)) }
    }

    /// Lists of a tenant, of which the caller gets what it reaches: of its own, or of any.
    pub fn check_list(&self, world: &World, tenant: &TenantId) -> Result<(), Status> {
        let own = matches!(&self.caller, Caller::User(who) if who.tenant == *tenant);
        let known = world.tenants.contains_key(tenant);
        if known && (own || self.everywhere()) {
            Ok(())
        } else {
            Err(not_found("tenant", tenant.as_str()))
        }
    }

    /// Everything of a tenant that is there.
    pub fn check_tenant(&self, world: &World, tenant: &TenantId) -> Result<(), Status> {
        if !world.tenants.contains_key(tenant) {
            return Err(not_found("tenant", tenant.as_str()));
        }
        self.check(("tenant", tenant.as_str()), tenant, None).map_err(|refused| {
            let own = matches!(&self.caller, Caller::User(who) if who.tenant == *tenant);
            if own { not_allowed() } else { refused }
        })
    }

    fn in_tenant(&self, tenant: &TenantId, roles: &[&str]) -> bool {
        let Caller::User(who) = &self.caller else { return false };
        let mut held = roles.iter().filter(|role| **role != USER && who.has(role));
        who.tenant == *tenant && held.next().is_some()
    }
}

fn no_method() -> Status {
    Status::unimplemented("there is no such method here")
}

/// Puts the caller into the request, or answers for the service.
#[derive(Clone)]
pub struct AuthorizationLayer {
    world: watch::Receiver<Arc<World>>,
    clock: Clock,
}

impl AuthorizationLayer {
    /// Sign-ins are looked up in the newest world.
    pub fn new(world: watch::Receiver<Arc<World>>, clock: Clock) -> Self {
        Self { world, clock }
    }

    fn judge(&self, request: &http::Request<Body>) -> Result<(Caller, &'static Rule), Status> {
        let rule = find(request.uri().path()).ok_or_else(no_method)?;
        let peer = request.extensions().get::<PeerInfo>();
        let world = Arc::clone(&self.world.borrow());
        let caller = Caller::find(peer, request.headers(), &world, self.clock.now_ms());
        check(rule.allowed, &caller)?;
        Ok((caller, rule))
    }
}

impl fmt::Debug for AuthorizationLayer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuthorizationLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AuthorizationLayer {
    type Service = Surrounded<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded { around: self.clone(), inner }
    }
}

impl Around for AuthorizationLayer {
    fn answer<S: Inner>(
        &self,
        inner: &mut S,
        mut request: http::Request<Body>,
    ) -> Answering<S::Error> {
        let (caller, rule) = match self.judge(&request) {
            Ok(judged) => judged,
            Err(refused) => {
                let path = request.uri().path();
                tracing::debug!(path, code = ?refused.code(), "Request refused");
                return Box::pin(std::future::ready(Ok(refused.into_http())));
            }
        };
        if let Caller::User(who) = &caller {
            let span = tracing::Span::current();
            span.record("user", tracing::field::display(&who.user));
            span.record("tenant", tracing::field::display(&who.tenant));
        }
        if let Allowed::Roles(roles) = rule.allowed {
            request.extensions_mut().insert(Access { caller: caller.clone(), roles });
        }
        request.extensions_mut().insert(caller);
        let answering = inner.call(request);
        Box::pin(limited(answering, rule.time_max))
    }
}

async fn limited<E>(
    answering: impl Future<Output = Result<http::Response<Body>, E>>,
    time_max: Option<Duration>,
) -> Result<http::Response<Body>, E> {
    let Some(time_max) = time_max else { return answering.await };
    tokio::time::timeout(time_max, answering).await.unwrap_or_else(|_elapsed| {
        Ok(Status::deadline_exceeded("the controller took too long").into_http())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use prost::Message;
    use tonic::Code;
    use tower::ServiceExt;
    use vidi_kit::transport::Peer;

    use crate::model::{Row, SignIn, User};
    use crate::rpc::caller::token_sha256;

    const NOW_MS: i64 = 1_000_000;

    #[test]
    fn every_method_of_the_contract_is_in_the_table_and_nothing_else() {
        let set = prost_types::FileDescriptorSet::decode(vidi_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut contract = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    contract.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        let table: BTreeSet<_> = TABLE
            .iter()
            .map(|rule| rule.path.to_owned())
            .filter(|path| path.starts_with("/vidi."))
            .collect();
        assert_eq!(contract, table);
        let all: BTreeSet<_> = TABLE.iter().map(|rule| rule.path).collect();
        assert_eq!(all.len(), TABLE.len(), "a path is in the table twice");
    }

    /// Everybody who can call, by name.
    const CALLERS: [&str; 14] = [
        "anonymous",
        "expired",
        "unknown-token",
        "root",
        "local",
        "agent",
        "relay",
        "gateway",
        "operator",
        "installation-auditor",
        "admin",
        "helpdesk",
        "auditor",
        "user",
    ];

    fn world() -> World {
        let mut world = World::default();
        let mut add = |user: &str, role: &str, expire_ms: i64| {
            let (tenant, id) = ("default".parse().unwrap(), user.parse().unwrap());
            let record = User {
                display_name: String::new(),
                roles: vec![role.to_owned()],
                password_hash: String::new(),
                create_ms: 0,
            };
            let sign_in = SignIn {
                tenant: "default".parse().unwrap(),
                user: user.parse().unwrap(),
                create_ms: 0,
                expire_ms,
            };
            world.put(Row::User(tenant, id, record));
            world.put(Row::SignIn(token_sha256(&format!("token-of-{user}")), sign_in));
        };
        for role in ROLES {
            add(role, role, NOW_MS + 1);
        }
        add("expired", OPERATOR, NOW_MS);
        world
    }

    fn request(path: &str, caller: &str) -> http::Request<Body> {
        let daemon = |role| Peer::Daemon { role, id: "d1".to_owned() };
        let peer = match caller {
            "root" => Peer::Local { uid: 0 },
            "local" => Peer::Local { uid: 1_000 },
            "agent" => daemon(Role::Agent),
            "relay" => daemon(Role::Relay),
            "gateway" => daemon(Role::Gateway),
            // A person's token comes through a gateway as often as not.
            "user" | "expired" => daemon(Role::Gateway),
            _ => Peer::Anonymous,
        };
        let mut builder = http::Request::builder().uri(format!("https://c{path}"));
        if ROLES.contains(&caller) || ["expired", "unknown-token"].contains(&caller) {
            builder = builder.header("authorization", format!("Bearer token-of-{caller}"));
        }
        let mut request = builder.body(Body::empty()).unwrap();
        request.extensions_mut().insert(PeerInfo {
            peer,
            address: None,
            connection: 1,
            certified_ms: 0,
        });
        request
    }

    async fn call(path: &str, caller: &str) -> Code {
        let (_sender, world) = watch::channel(Arc::new(world()));
        let layer = AuthorizationLayer::new(world, Clock::manual(NOW_MS));
        let reached = tower::service_fn(async |request: http::Request<Body>| {
            assert!(request.extensions().get::<Caller>().is_some());
            Ok::<_, Infallible>(http::Response::new(Body::empty()))
        });
        let response = layer.layer(reached).oneshot(request(path, caller)).await.unwrap();
        response
            .headers()
            .get("grpc-status")
            .map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
    }

    #[tokio::test]
    async fn each_method_lets_in_exactly_those_of_its_rule() {
        for rule in TABLE {
            for caller in CALLERS {
                let unknown = ["anonymous", "expired", "unknown-token"].contains(&caller);
                let expected = match rule.allowed {
                    Allowed::Everybody => Code::Ok,
                    Allowed::ServedElsewhere => Code::Unimplemented,
                    _ if unknown => Code::Unauthenticated,
                    _ if caller == "local" => Code::PermissionDenied,
                    Allowed::Known => Code::Ok,
                    Allowed::Roles(roles) if caller == "root" || roles.contains(&caller) => {
                        Code::Ok
                    }
                    Allowed::Daemons(roles) if roles.iter().any(|one| one.as_str() == caller) => {
                        Code::Ok
                    }
                    Allowed::Roles(_) | Allowed::Daemons(_) => Code::PermissionDenied,
                };
                assert_eq!(call(rule.path, caller).await, expected, "{} by {caller}", rule.path);
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_in_the_table_is_denied_to_root_too() {
        for path in ["/vidi.v1.UserService/Nothing", "/", "/vidi.v1.UserService/CreateUser/"] {
            assert_eq!(call(path, "root").await, Code::Unimplemented, "{path}");
        }
    }

    /// The rows that matter most, spelled out so that a slip in the table is seen.
    #[tokio::test]
    async fn only_managers_change_users_and_only_agents_link_as_agents() {
        assert_eq!(call("/vidi.v1.UserService/CreateUser", "user").await, Code::PermissionDenied);
        assert_eq!(
            call("/vidi.v1.UserService/SetPassword", "helpdesk").await,
            Code::PermissionDenied
        );
        assert_eq!(
            call("/vidi.v1.HostService/CreateEnrollToken", "admin").await,
            Code::PermissionDenied
        );
        assert_eq!(call("/vidi.v1.AgentLink/Link", "gateway").await, Code::PermissionDenied);
        assert_eq!(call("/vidi.v1.AgentLink/Link", "root").await, Code::PermissionDenied);
        assert_eq!(call("/vidi.v1.GatewayLink/IssueGrant", "agent").await, Code::PermissionDenied);
        assert_eq!(
            call("/vidi.v1.DesktopService/CreateDesktop", "gateway").await,
            Code::PermissionDenied
        );
    }

    #[tokio::test]
    async fn an_answer_that_takes_too_long_is_cut() {
        let stuck = std::future::pending::<Result<http::Response<Body>, Infallible>>();
        let response = limited(stuck, Some(Duration::from_millis(5))).await.unwrap();
        let code = (Code::DeadlineExceeded as i32).to_string();
        assert_eq!(response.headers()["grpc-status"], code.as_str());
    }
}
