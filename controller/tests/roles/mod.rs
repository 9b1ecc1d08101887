//! Who may do what: every method by every role of two tenants and of the installation, against all
//! services behind the layer; and nothing crosses tenants.

use std::collections::BTreeSet;

use prost::Message;
use tonic::{Code, Request, Status};
use vidi_controller::model::RolloutState;
use vidi_controller::rpc::authorization::{Allowed, TABLE};
use vidi_controller::rpc::caller::{
    ADMIN, AUDITOR, HELPDESK, INSTALLATION_AUDITOR, OPERATOR, ROLES, USER,
};
use vidi_proto::v1 as wire;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::group_service_client::GroupServiceClient;
use vidi_proto::v1::machine_service_client::MachineServiceClient;
use vidi_proto::v1::operation_service_client::OperationServiceClient;
use vidi_proto::v1::pool_service_client::PoolServiceClient;
use vidi_proto::v1::rollout_service_client::RolloutServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::tenant_service_client::TenantServiceClient;
use vidi_proto::v1::user_service_client::UserServiceClient;

use crate::rollouts;
use crate::stack::{self, Crash, Service, Stack};

/// Roles that hold in one tenant.
const TENANT_ROLES: [&str; 4] = [ADMIN, HELPDESK, AUDITOR, USER];
/// Methods for persons whose requests name nothing that belongs to a tenant.
const OBJECTLESS: [&str; 10] = [
    "/vidi.v1.SignInService/WhoAmI",
    "/vidi.v1.TenantService/CreateTenant",
    "/vidi.v1.TenantService/ListTenants",
    "/vidi.v1.SessionService/ListApps",
    "/vidi.v1.OperationService/ListOperations",
    "/vidi.v1.HostService/ListHosts",
    "/vidi.v1.HostService/CreateEnrollToken",
    "/vidi.v1.StoreService/BackUp",
    "/vidi.v1.AuditService/ListAuditBlocks",
    // Hosts belong to no tenant: the rest of their methods are taken by their prefix.
    "/vidi.v1.HostService/",
];

/// Two tenants with a person of each role, and persons with the installation's roles.
async fn stack() -> Stack {
    let stack = Stack::new(Crash::Never).await;
    stack.add_tenant("other").await;
    for tenant in ["default", "other"] {
        for role in TENANT_ROLES {
            stack.add_user(tenant, &format!("{tenant}-{role}"), &[role]).await;
        }
    }
    for role in [OPERATOR, INSTALLATION_AUDITOR] {
        stack.add_user("other", role, &[role]).await;
    }
    stack
}

fn roles(allowed: Allowed) -> Option<&'static [&'static str]> {
    match allowed {
        Allowed::Roles(roles) => Some(roles),
        _ => None,
    }
}

/// One message to a method, and the code of what comes back first. Encoded messages are taken as they
/// are: `Vec<u8>` of the request's encoding.
async fn call(service: Service, path: &'static str, message: Vec<u8>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(service);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let request = Request::new(tokio_stream::once(message));
    let mut answers = client.streaming(request, path, stack::RawCodec).await?.into_inner();
    answers.message().await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn each_method_lets_in_exactly_the_roles_of_its_row() {
    let stack = stack().await;
    let persons = TENANT_ROLES
        .iter()
        .flat_map(|role| [(format!("default-{role}"), *role), (format!("other-{role}"), *role)]);
    let persons: Vec<(String, &str)> = persons
        .chain([OPERATOR, INSTALLATION_AUDITOR].map(|role| (role.to_owned(), role)))
        .collect();
    assert_eq!(persons.iter().map(|(_, role)| *role).collect::<BTreeSet<_>>(), ROLES.into());
    for rule in TABLE.iter().filter(|rule| rule.path.starts_with("/vidi.")) {
        for (person, role) in &persons {
            let code = call(stack.user(person), rule.path, Vec::new()).await;
            let code = code.map_or_else(|status| status.code(), |()| Code::Ok);
            let what = format!("{} by {person}: {code:?}", rule.path);
            let refused = [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented];
            match rule.allowed {
                Allowed::Everybody if rule.path.ends_with("/SignOut") => {
                    assert_eq!(code, Code::Ok, "{what}");
                    stack.sign_in(person).await;
                }
                // Enrolling needs a token, signing in a password: not this layer's matter.
                Allowed::Everybody => {}
                Allowed::Roles(roles) if roles.contains(role) => {
                    assert!(!refused.contains(&code), "{what}");
                }
                Allowed::Known => assert!(!refused.contains(&code), "{what}"),
                Allowed::Roles(_) | Allowed::Daemons(_) => {
                    assert_eq!(code, Code::PermissionDenied, "{what}");
                }
                Allowed::ServedElsewhere => assert_eq!(code, Code::Unimplemented, "{what}"),
            }
        }
    }
}

/// What there is in the tenant `default`, by name.
struct Things {
    desktop: String,
    session: String,
    operation: String,
    app: String,
    machine: String,
    pool: String,
    rollout: String,
}

async fn things(stack: &Stack) -> Things {
    let request = wire::CreateDesktopRequest {
        parent: "tenants/default".to_owned(),
        template: "tenants/default/templates/micro".to_owned(),
        display_name: "Desk".to_owned(),
        assigned_user: "tenants/default/users/ana".to_owned(),
        start: true,
        ..Default::default()
    };
    let mut admin = DesktopServiceClient::new(stack.user("default-helpdesk"));
    let created = admin.create_desktop(request).await.unwrap().into_inner();
    let request = wire::WaitOperationRequest { name: created.name.clone(), ..Default::default() };
    let mut ana = OperationServiceClient::new(stack.user("ana"));
    assert!(ana.wait_operation(request).await.unwrap().into_inner().done);
    let app = "tenants/default/apps/desk".to_owned();
    let request = wire::OpenAppRequest { name: app.clone(), ..Default::default() };
    let opened = SessionServiceClient::new(stack.user("ana")).open_app(request).await;
    let session = opened.unwrap().into_inner().name;
    let request = wire::CreateMachineRequest {
        parent: "tenants/default".to_owned(),
        machine: Some(wire::Machine { address: "lab:5900".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let made = MachineServiceClient::new(stack.user("default-admin")).create_machine(request).await;
    let machine = made.unwrap().into_inner().name;
    let request = wire::CreatePoolRequest {
        parent: "tenants/default".to_owned(),
        pool_id: "kiosk".to_owned(),
        // For nobody, and without a desktop: what is counted elsewhere stays as it is.
        pool: Some(wire::Pool {
            template: "tenants/default/templates/micro".to_owned(),
            kind: wire::PoolKind::Floating.into(),
            max_desktops: 1,
            ..Default::default()
        }),
        ..Default::default()
    };
    let group = wire::CreateGroupRequest {
        parent: "tenants/default".to_owned(),
        group_id: "class".to_owned(),
        ..Default::default()
    };
    GroupServiceClient::new(stack.user("default-admin")).create_group(group).await.unwrap();
    let made = PoolServiceClient::new(stack.user("default-admin")).create_pool(request).await;
    let pool = made.unwrap().into_inner().name;
    let rollout = ended_rollout(stack, &pool).await;
    let (desktop, operation) = (created.target, created.name);
    Things { desktop, session, operation, app, machine, pool, rollout }
}

/// A roll-out of a draft to a pool, gone back and over: nothing of it moves any more, and it has left no
/// desktop.
async fn ended_rollout(stack: &Stack, pool: &str) -> String {
    let before = stack.world().desktops.len();
    let digest = rollouts::upload(stack, b"a second version", true).await;
    let mut client = RolloutServiceClient::new(stack.user("default-admin"));
    let request = wire::CreateRolloutRequest {
        parent: "tenants/default".to_owned(),
        rollout: Some(wire::Rollout { pool: pool.to_owned(), digest, ..Default::default() }),
        ..Default::default()
    };
    let name = client.create_rollout(request).await.unwrap().into_inner().name;
    let request = wire::RollBackRolloutRequest { name: name.clone(), ..Default::default() };
    client.roll_back_rollout(request).await.unwrap();
    let is_over = |stack: &Stack| {
        let world = stack.world();
        let states: Vec<RolloutState> =
            world.rollouts_of(&"default".parse().unwrap()).map(|(_, one)| one.state).collect();
        states == [RolloutState::RolledBack] && world.desktops.len() == before
    };
    stack.until(is_over, "the roll-out is over and has left nothing").await.unwrap();
    name
}

/// A good request of each method that names something of a tenant. Names and parents all are the first
/// field of their messages.
fn requests(things: &Things) -> Vec<(&'static str, Vec<u8>)> {
    let (tenant, user) = ("tenants/default", "tenants/default/users/ana");
    let template = "tenants/default/templates/micro";
    let Things { desktop, session, operation, app, machine, pool, .. } = things;
    let named = [
        ("/vidi.v1.UserService/GetUser", user),
        ("/vidi.v1.UserService/ListUsers", tenant),
        ("/vidi.v1.UserService/DeleteUser", user),
        ("/vidi.v1.TenantService/GetTenant", tenant),
        ("/vidi.v1.TenantService/DeleteTenant", tenant),
        ("/vidi.v1.TenantService/GetBranding", tenant),
        ("/vidi.v1.UsageService/ListUsage", tenant),
        ("/vidi.v1.AuditService/ListAudit", tenant),
        ("/vidi.v1.TemplateService/GetTemplate", template),
        ("/vidi.v1.TemplateService/ListTemplates", tenant),
        ("/vidi.v1.TemplateService/DeleteTemplate", template),
        ("/vidi.v1.DesktopService/CreateDesktop", tenant),
        ("/vidi.v1.DesktopService/GetDesktop", desktop),
        ("/vidi.v1.DesktopService/ListDesktops", tenant),
        ("/vidi.v1.DesktopService/WatchDesktops", tenant),
        ("/vidi.v1.DesktopService/StartDesktop", desktop),
        ("/vidi.v1.DesktopService/RestartDesktop", desktop),
        ("/vidi.v1.DesktopService/StopDesktop", desktop),
        ("/vidi.v1.DesktopService/DeleteDesktop", desktop),
        ("/vidi.v1.DesktopService/AssignDesktop", desktop),
        ("/vidi.v1.DesktopService/UnassignDesktop", desktop),
        ("/vidi.v1.SessionService/OpenApp", app),
        ("/vidi.v1.SessionService/GetSession", session),
        ("/vidi.v1.SessionService/ListSessions", tenant),
        ("/vidi.v1.SessionService/ReleaseSession", session),
        ("/vidi.v1.SessionService/WatchSessions", tenant),
        ("/vidi.v1.OperationService/GetOperation", operation),
        ("/vidi.v1.OperationService/WaitOperation", operation),
    ];
    let named = named.map(|(path, name)| {
        (path, wire::GetDesktopRequest { name: name.to_owned() }.encode_to_vec())
    });
    let create = wire::CreateUserRequest {
        parent: tenant.to_owned(),
        user_id: "new".to_owned(),
        password: "long enough".to_owned(),
        ..Default::default()
    };
    let asked = Some(wire::User { name: user.to_owned(), ..Default::default() });
    let update = wire::UpdateUserRequest { user: asked, update_mask: None };
    let asked = Some(wire::Desktop {
        name: desktop.clone(),
        display_name: "Other".to_owned(),
        ..Default::default()
    });
    let change = wire::UpdateDesktopRequest { desktop: asked, update_mask: None };
    let password = "long enough".to_owned();
    let set = wire::SetPasswordRequest { name: user.to_owned(), password };
    let header = wire::upload_template_request::Part::Header(wire::UploadTemplateHeader {
        parent: tenant.to_owned(),
        template_id: "micro".to_owned(),
        ..Default::default()
    });
    let upload = wire::UploadTemplateRequest { part: Some(header) };
    let others = [
        ("/vidi.v1.UserService/CreateUser", create.encode_to_vec()),
        ("/vidi.v1.UserService/UpdateUser", update.encode_to_vec()),
        ("/vidi.v1.DesktopService/UpdateDesktop", change.encode_to_vec()),
        ("/vidi.v1.UserService/SetPassword", set.encode_to_vec()),
        ("/vidi.v1.TemplateService/UploadTemplate", upload.encode_to_vec()),
    ];
    let kept = machine_requests(machine).into_iter().chain(pool_requests(pool));
    let kept = kept.chain(tenancy_requests());
    let kept = kept.chain(many_requests(things));
    named.into_iter().chain(others).chain(kept).collect()
}

/// Of versions, roll-outs, changes of many desktops and messages.
fn many_requests(things: &Things) -> Vec<(&'static str, Vec<u8>)> {
    let (tenant, template) = ("tenants/default", "tenants/default/templates/micro");
    let Things { desktop, session, operation, rollout, .. } = things;
    let named = [
        ("/vidi.v1.TemplateService/ListTemplateVersions", template),
        ("/vidi.v1.TemplateService/PublishTemplate", template),
        ("/vidi.v1.TemplateService/RollBackTemplate", template),
        ("/vidi.v1.TemplateService/DeleteTemplateVersion", template),
        ("/vidi.v1.RolloutService/CreateRollout", tenant),
        ("/vidi.v1.RolloutService/GetRollout", rollout),
        ("/vidi.v1.RolloutService/ListRollouts", tenant),
        ("/vidi.v1.RolloutService/PauseRollout", rollout),
        ("/vidi.v1.RolloutService/ResumeRollout", rollout),
        ("/vidi.v1.RolloutService/CancelRollout", rollout),
        ("/vidi.v1.RolloutService/RollBackRollout", rollout),
        ("/vidi.v1.BatchService/BatchStartDesktops", tenant),
        ("/vidi.v1.BatchService/BatchStopDesktops", tenant),
        ("/vidi.v1.BatchService/BatchRestartDesktops", tenant),
        ("/vidi.v1.BatchService/BatchMessageDesktops", tenant),
        ("/vidi.v1.MessageService/MessageDesktop", desktop),
        ("/vidi.v1.MessageService/MessageSession", session),
        ("/vidi.v1.OperationService/CancelOperation", operation),
    ];
    let named = named.map(|(path, name)| {
        (path, wire::GetDesktopRequest { name: name.to_owned() }.encode_to_vec())
    });
    named.into_iter().collect()
}

fn tenancy_requests() -> Vec<(&'static str, Vec<u8>)> {
    let (tenant, group) = ("tenants/default", "tenants/default/groups/class");
    let named = [
        ("/vidi.v1.GroupService/CreateGroup", tenant),
        ("/vidi.v1.GroupService/GetGroup", group),
        ("/vidi.v1.GroupService/ListGroups", tenant),
        ("/vidi.v1.GroupService/DeleteGroup", group),
        ("/vidi.v1.GroupService/AddGroupMembers", group),
        ("/vidi.v1.GroupService/RemoveGroupMembers", group),
        ("/vidi.v1.GroupService/ListGroupMembers", group),
    ];
    let named = named.map(|(path, name)| {
        (path, wire::GetGroupRequest { name: name.to_owned() }.encode_to_vec())
    });
    let asked = Some(wire::Tenant { name: tenant.to_owned(), ..Default::default() });
    let rename = wire::UpdateTenantRequest { tenant: asked, ..Default::default() };
    let asked = Some(wire::Branding { name: tenant.to_owned(), ..Default::default() });
    let rebrand = wire::UpdateBrandingRequest { branding: asked, update_mask: None };
    let asked = Some(wire::Group { name: group.to_owned(), ..Default::default() });
    let regroup = wire::UpdateGroupRequest { group: asked, update_mask: None };
    let others = [
        ("/vidi.v1.TenantService/UpdateTenant", rename.encode_to_vec()),
        ("/vidi.v1.TenantService/UpdateBranding", rebrand.encode_to_vec()),
        ("/vidi.v1.GroupService/UpdateGroup", regroup.encode_to_vec()),
    ];
    named.into_iter().chain(others).collect()
}

fn pool_requests(pool: &str) -> Vec<(&'static str, Vec<u8>)> {
    let tenant = "tenants/default";
    let named = [
        ("/vidi.v1.PoolService/CreatePool", tenant),
        ("/vidi.v1.PoolService/GetPool", pool),
        ("/vidi.v1.PoolService/ListPools", tenant),
        ("/vidi.v1.PoolService/DeletePool", pool),
        ("/vidi.v1.PoolService/ResumePool", pool),
        ("/vidi.v1.PoolService/ForecastPool", pool),
        ("/vidi.v1.PoolService/WatchPools", tenant),
    ];
    let named = named
        .map(|(path, name)| (path, wire::GetPoolRequest { name: name.to_owned() }.encode_to_vec()));
    let asked = Some(wire::Pool { name: pool.to_owned(), max_desktops: 9, ..Default::default() });
    let grow = wire::UpdatePoolRequest { pool: asked, update_mask: None, validate_only: false };
    let update = ("/vidi.v1.PoolService/UpdatePool", grow.encode_to_vec());
    named.into_iter().chain([update]).collect()
}

fn machine_requests(machine: &str) -> Vec<(&'static str, Vec<u8>)> {
    let tenant = "tenants/default";
    let named = [
        ("/vidi.v1.MachineService/CreateMachine", tenant),
        ("/vidi.v1.MachineService/GetMachine", machine),
        ("/vidi.v1.MachineService/ListMachines", tenant),
        ("/vidi.v1.MachineService/DeleteMachine", machine),
    ];
    let named = named.map(|(path, name)| {
        (path, wire::GetMachineRequest { name: name.to_owned() }.encode_to_vec())
    });
    let asked = Some(wire::Machine {
        name: machine.to_owned(),
        address: "else:5900".to_owned(),
        ..Default::default()
    });
    let move_it =
        wire::UpdateMachineRequest { machine: asked, update_mask: None, validate_only: false };
    let update = ("/vidi.v1.MachineService/UpdateMachine", move_it.encode_to_vec());
    named.into_iter().chain([update]).collect()
}

/// Methods that only look.
fn only_looks(path: &str) -> bool {
    let method = path.rsplit('/').next().unwrap();
    ["Get", "List", "Watch", "Wait", "Forecast"].iter().any(|prefix| method.starts_with(prefix))
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_another_tenant_is_not_there() {
    let stack = stack().await;
    let requests = requests(&things(&stack).await);
    let named: BTreeSet<&str> = requests.iter().map(|(path, _)| *path).collect();
    for rule in TABLE.iter().filter(|rule| roles(rule.allowed).is_some()) {
        let objectless = OBJECTLESS.iter().any(|prefix| rule.path.starts_with(prefix));
        assert!(named.contains(rule.path) != objectless, "{} is in one list", rule.path);
    }
    let before = stack.stored_world();
    for (path, message) in &requests {
        let rule = TABLE.iter().find(|rule| rule.path == *path).unwrap();
        for role in TENANT_ROLES {
            let refused = call(stack.user(&format!("other-{role}")), path, message.clone()).await;
            let refused = refused.map_or_else(|status| status.code(), |()| Code::Ok);
            let let_in = roles(rule.allowed).unwrap().contains(&role);
            let expected = if let_in { Code::NotFound } else { Code::PermissionDenied };
            assert_eq!(refused, expected, "{path} by {role} of another tenant");
        }
        // Somebody else's in the own tenant is not there for who only uses desktops; lists are empty.
        let list = path.contains("/List")
            || path.contains("/Watch")
            || path.contains("/GetTenant")
            || path.contains("/GetBranding");
        if roles(rule.allowed).unwrap().contains(&USER) && !list {
            let refused = call(stack.user("default-user"), path, message.clone()).await;
            assert_eq!(refused.unwrap_err().code(), Code::NotFound, "{path} by another user");
        }
        let refused = call(stack.user(INSTALLATION_AUDITOR), path, message.clone()).await;
        if only_looks(path) {
            refused.unwrap_or_else(|status| panic!("{path} by an auditor: {status:?}"));
        } else if !path.ends_with("/OpenApp") {
            assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied, "{path} by an auditor");
        }
    }
    let after = stack.stored_world();
    assert_eq!(format!("{:?}", before.desktops), format!("{:?}", after.desktops));
    assert_eq!(format!("{:?}", before.sessions), format!("{:?}", after.sessions));
    assert_eq!(format!("{:?}", before.users), format!("{:?}", after.users));
    assert_eq!(format!("{:?}", before.machines), format!("{:?}", after.machines));
    assert_eq!(format!("{:?}", before.pools), format!("{:?}", after.pools));
    assert_eq!(format!("{:?}", before.rollouts), format!("{:?}", after.rollouts));
    assert_eq!(before.operations.len(), after.operations.len());
    // The operator reaches all of it, from whatever tenant.
    for (path, message) in requests.iter().filter(|(path, _)| only_looks(path)) {
        let seen = call(stack.user(OPERATOR), path, message.clone()).await;
        seen.unwrap_or_else(|status| panic!("{path} by the operator: {status:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn lists_hold_what_the_caller_may_see_and_no_more() {
    let stack = stack().await;
    things(&stack).await;
    let request =
        wire::ListDesktopsRequest { parent: "tenants/-".to_owned(), ..Default::default() };
    for (person, expected) in
        [(OPERATOR, Some(1)), (INSTALLATION_AUDITOR, Some(1)), ("default-admin", None)]
    {
        let mut client = DesktopServiceClient::new(stack.user(person));
        let listed = client.list_desktops(request.clone()).await;
        assert_eq!(listed.ok().map(|one| one.into_inner().desktops.len()), expected, "{person}");
    }
    let own =
        wire::ListDesktopsRequest { parent: "tenants/default".to_owned(), ..Default::default() };
    for (person, expected) in [("ana", 1), ("default-user", 0), ("default-auditor", 1)] {
        let mut client = DesktopServiceClient::new(stack.user(person));
        let listed = client.list_desktops(own.clone()).await.unwrap().into_inner().desktops;
        assert_eq!(listed.len(), expected, "{person}");
        let mut client = OperationServiceClient::new(stack.user(person));
        let listed = client.list_operations(wire::ListOperationsRequest::default()).await.unwrap();
        assert_eq!(listed.into_inner().operations.len(), expected, "{person}");
    }
    for (person, expected) in [(OPERATOR, 2), (INSTALLATION_AUDITOR, 2), ("other-admin", 1)] {
        let mut client = TenantServiceClient::new(stack.user(person));
        let listed = client.list_tenants(wire::ListTenantsRequest::default()).await.unwrap();
        assert_eq!(listed.into_inner().tenants.len(), expected, "{person}");
    }
}

async fn update(
    stack: &Stack,
    by: &str,
    user: &str,
    roles: &[&str],
    mask: &[&str],
) -> Result<wire::User, Status> {
    let request = wire::UpdateUserRequest {
        user: Some(wire::User {
            name: format!("tenants/{user}"),
            display_name: "New Name".to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: mask.iter().map(|path| (*path).to_owned()).collect(),
        }),
    };
    let mut client = UserServiceClient::new(stack.user(by));
    client.update_user(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(start_paused = true)]
async fn nobody_raises_themselves_and_only_an_operator_touches_the_installations_roles() {
    let stack = stack().await;
    let code = |result: Result<wire::User, Status>| result.map(|_| ()).map_err(|one| one.code());
    let denied = Err(Code::PermissionDenied);
    let admin = "other-admin";
    for role in [OPERATOR, INSTALLATION_AUDITOR] {
        // Neither oneself, nor somebody else, nor somebody new.
        for target in ["other/users/other-admin", "other/users/other-user"] {
            assert_eq!(code(update(&stack, admin, target, &[ADMIN, role], &[]).await), denied);
        }
        let request = wire::CreateUserRequest {
            parent: "tenants/other".to_owned(),
            user_id: "new".to_owned(),
            user: Some(wire::User { roles: vec![role.to_owned()], ..Default::default() }),
            password: "long enough".to_owned(),
            ..Default::default()
        };
        let made = UserServiceClient::new(stack.user(admin)).create_user(request).await;
        assert_eq!(made.unwrap_err().code(), Code::PermissionDenied);
        // Who has such a role is not an admin's to change, not even by a new password.
        let target = format!("other/users/{role}");
        assert_eq!(code(update(&stack, admin, &target, &[USER], &[]).await), denied);
        assert_eq!(code(update(&stack, admin, &target, &[], &["display_name"]).await), denied);
        let name = format!("tenants/{target}");
        let request =
            wire::SetPasswordRequest { name: name.clone(), password: "long enough".to_owned() };
        let set = UserServiceClient::new(stack.user(admin)).set_password(request).await;
        assert_eq!(set.unwrap_err().code(), Code::PermissionDenied);
        let request = wire::DeleteUserRequest { name, etag: String::new() };
        let deleted = UserServiceClient::new(stack.user(admin)).delete_user(request).await;
        assert_eq!(deleted.unwrap_err().code(), Code::PermissionDenied);
    }
    for by in [HELPDESK, AUDITOR, USER] {
        let by = format!("other-{by}");
        assert_eq!(
            code(update(&stack, &by, "other/users/other-user", &[ADMIN], &[]).await),
            denied
        );
    }
    let target = "other/users/other-user";
    let changed = update(&stack, admin, target, &[HELPDESK, USER, USER], &["roles"]).await.unwrap();
    assert_eq!(changed.roles, [HELPDESK, USER]);
    assert_eq!(changed.display_name, "other-user", "only what the mask names");
    let changed = update(&stack, admin, target, &[], &["display_name"]).await.unwrap();
    assert_eq!((changed.display_name.as_str(), changed.roles.len()), ("New Name", 2));
    for (roles, mask) in [(vec!["emperor"], vec![]), (vec![USER], vec!["password_hash"])] {
        let refused = update(&stack, admin, target, &roles, &mask).await;
        assert_eq!(code(refused), Err(Code::InvalidArgument));
    }
    // The new role counts at once, in the sign-in that is there.
    let request =
        wire::ListUsersRequest { parent: "tenants/other".to_owned(), ..Default::default() };
    UserServiceClient::new(stack.user("other-user")).list_users(request).await.unwrap();
    assert_eq!(update(&stack, OPERATOR, target, &[OPERATOR], &[]).await.unwrap().roles, [OPERATOR]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_goes_when_it_is_empty_and_its_name_is_not_given_away_with_its_past() {
    let stack = stack().await;
    things(&stack).await;
    let mut client = TenantServiceClient::new(stack.user(OPERATOR));
    let create = |id: &str, request_id: &str| wire::CreateTenantRequest {
        tenant_id: id.to_owned(),
        request_id: request_id.to_owned(),
        tenant: Some(wire::Tenant { display_name: "Three".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let made = client.create_tenant(create("third", "r1")).await.unwrap().into_inner();
    assert_eq!((made.name.as_str(), made.display_name.as_str()), ("tenants/third", "Three"));
    client.create_tenant(create("third", "r1")).await.unwrap();
    let twice = client.create_tenant(create("third", "")).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    for wrong in ["", "3rd", "Third", "a/b", "-x", &"x".repeat(41)] {
        let refused = client.create_tenant(create(wrong, "")).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong}");
    }
    let delete = |id: &str, etag: &str| wire::DeleteTenantRequest {
        name: format!("tenants/{id}"),
        etag: etag.to_owned(),
    };
    for in_use in ["default", "other"] {
        let refused = client.delete_tenant(delete(in_use, "")).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{in_use}");
    }
    let stale = client.delete_tenant(delete("third", "h0")).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    client.delete_tenant(delete("third", &made.etag)).await.unwrap();
    let gone = client.delete_tenant(delete("third", "")).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    // Its remembered request is a trace of it.
    let again = client.create_tenant(create("third", "")).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again:?}");
    assert!(again.message().contains("take another id"), "{}", again.message());
}
