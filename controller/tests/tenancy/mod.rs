//! Quotas, groups, rules for hosts and the audit log, asked for as people ask for them.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;
use vidi_controller::model::audit::AuditEntry;
use vidi_proto::v1 as wire;
use vidi_proto::v1::audit_service_client::AuditServiceClient;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;
use vidi_proto::v1::group_service_client::GroupServiceClient;
use vidi_proto::v1::host_service_client::HostServiceClient;
use vidi_proto::v1::pool_service_client::PoolServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::tenant_service_client::TenantServiceClient;
use vidi_proto::v1::user_service_client::UserServiceClient;

use crate::stack::{Crash, Service, Stack};
use crate::{assert_done, create, desktop, ended, open, release};

const TENANT: &str = "tenants/default";
const GROUP: &str = "tenants/default/groups/class";

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn limit(by: Service, quota: wire::Quota) -> Result<wire::Tenant, Status> {
    let tenant = wire::Tenant { name: TENANT.to_owned(), quota: Some(quota), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["quota".to_owned()] });
    let request =
        wire::UpdateTenantRequest { tenant: Some(tenant), update_mask, validate_only: false };
    TenantServiceClient::new(by).update_tenant(request).await.map(tonic::Response::into_inner)
}

async fn quota_and_used(by: Service) -> (Option<wire::Quota>, Option<wire::QuotaUsed>) {
    let request = wire::GetTenantRequest { name: TENANT.to_owned() };
    let tenant = TenantServiceClient::new(by).get_tenant(request).await.unwrap().into_inner();
    (tenant.quota, tenant.used)
}

#[tokio::test(start_paused = true)]
async fn a_quota_refuses_what_is_beyond_it_and_says_which_it_is() {
    let mut stack = Stack::new(Crash::Never).await;
    stack.add_user("default", "boss", &["admin"]).await;
    let first = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &first).await);
    let quota = wire::Quota { desktops: Some(2), running_desktops: Some(1), ..Default::default() };
    let refused = limit(stack.user("boss"), quota).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_ALLOWED", "a customer does not give itself more");
    let used = limit(stack.root(), quota).await.unwrap().used.unwrap();
    assert_eq!((used.desktops, used.running_desktops, used.sessions), (1, 1, 0));
    assert!(0 < used.vcpus && 0 < used.memory_mib);
    assert_eq!(quota_and_used(stack.user("boss")).await.0, Some(quota));
    assert_eq!(quota_and_used(stack.user("ana")).await, (None, None), "no matter of hers");

    let refused = create(&stack, "r2").await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED")
    );
    let details = refused.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    let told = ["quota", "limit", "used"].map(|key| metadata[key].as_str());
    assert_eq!(told, ["running_desktops", "1", "1"]);
    // One that is off is within it; then there are as many as there may be.
    let off = wire::CreateDesktopRequest {
        parent: TENANT.to_owned(),
        template: format!("{TENANT}/templates/micro"),
        ..Default::default()
    };
    let mut desktops = DesktopServiceClient::new(stack.root());
    let second = desktops.create_desktop(off.clone()).await.unwrap().into_inner();
    for validate_only in [true, false] {
        let refused = desktops
            .create_desktop(wire::CreateDesktopRequest { validate_only, ..off.clone() })
            .await;
        assert_eq!(reason(&refused.unwrap_err()), "QUOTA_EXCEEDED");
    }
    let start = wire::StartDesktopRequest { name: second.target.clone(), ..Default::default() };
    assert_eq!(reason(&desktops.start_desktop(start.clone()).await.unwrap_err()), "QUOTA_EXCEEDED");
    // What stops makes room at once.
    let stop = wire::StopDesktopRequest { name: first.target.clone(), ..Default::default() };
    desktops.stop_desktop(stop).await.unwrap();
    desktops.start_desktop(start).await.unwrap();

    let sessions = wire::Quota { sessions: Some(0), ..Default::default() };
    limit(stack.root(), sessions).await.unwrap();
    assert_eq!(reason(&open(&stack).await.unwrap_err()), "QUOTA_EXCEEDED");
    limit(stack.root(), wire::Quota::default()).await.unwrap();
    let session = open(&stack).await.unwrap();
    assert_eq!(quota_and_used(stack.root()).await.1.unwrap().sessions, 1);
    release(&stack, &session).await.unwrap();
    assert_eq!(quota_and_used(stack.root()).await.1.unwrap().sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_makes_no_more_than_the_quota_leaves_and_says_why() {
    let stack = Stack::new(Crash::Never).await;
    let quota = wire::Quota { desktops: Some(2), ..Default::default() };
    limit(stack.root(), quota).await.unwrap();
    let mut pools = PoolServiceClient::new(stack.root());
    let pool = wire::Pool {
        template: format!("{TENANT}/templates/micro"),
        kind: wire::PoolKind::Floating.into(),
        min_spare: 4,
        max_desktops: 6,
        everyone: true,
        ..Default::default()
    };
    let request = wire::CreatePoolRequest {
        parent: TENANT.to_owned(),
        pool_id: "lab".to_owned(),
        pool: Some(pool),
        ..Default::default()
    };
    pools.create_pool(request).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let look = wire::GetPoolRequest { name: format!("{TENANT}/pools/lab") };
    let status = pools.get_pool(look.clone()).await.unwrap().into_inner().status.unwrap();
    assert_eq!((status.desktops, status.ready), (2, 2));
    assert_eq!(status.problem, "the quota of 2 desktops is used up");
    limit(stack.root(), wire::Quota::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let status = pools.get_pool(look).await.unwrap().into_inner().status.unwrap();
    assert_eq!((status.ready, status.problem.as_str()), (4, ""));
}

/// The names of what is on somebody's menu.
async fn menu(stack: &Stack, user: &str) -> Vec<String> {
    let mut sessions = SessionServiceClient::new(stack.user(user));
    let apps = sessions.list_apps(wire::ListAppsRequest::default()).await.unwrap().into_inner();
    apps.apps.into_iter().map(|app| app.display_name).collect()
}

async fn opens(stack: &Stack, user: &str, app: &str) -> Result<wire::Session, Status> {
    let request =
        wire::OpenAppRequest { name: format!("{TENANT}/apps/{app}"), ..Default::default() };
    let opened = SessionServiceClient::new(stack.user(user)).open_app(request).await;
    opened.map(tonic::Response::into_inner)
}

/// A desktop that is nobody's and a pool that is for nobody; the desktop's name.
async fn furnished(stack: &mut Stack) -> String {
    let shared = wire::CreateDesktopRequest {
        parent: TENANT.to_owned(),
        template: format!("{TENANT}/templates/micro"),
        display_name: "Shared".to_owned(),
        start: true,
        ..Default::default()
    };
    let made = DesktopServiceClient::new(stack.root()).create_desktop(shared).await;
    let made = made.unwrap().into_inner();
    assert_done(&ended(stack, &made).await);
    let pool = wire::Pool {
        template: format!("{TENANT}/templates/micro"),
        kind: wire::PoolKind::Floating.into(),
        max_desktops: 2,
        ..Default::default()
    };
    let pool = wire::CreatePoolRequest {
        parent: TENANT.to_owned(),
        pool_id: "lab".to_owned(),
        pool: Some(pool),
        ..Default::default()
    };
    PoolServiceClient::new(stack.user("boss")).create_pool(pool).await.unwrap();
    made.target
}

fn adding(user: &str) -> wire::AddGroupMembersRequest {
    let members = vec![format!("{TENANT}/users/{user}")];
    wire::AddGroupMembersRequest { name: GROUP.to_owned(), members }
}

fn class(group: wire::Group) -> wire::CreateGroupRequest {
    wire::CreateGroupRequest {
        parent: TENANT.to_owned(),
        group_id: "class".to_owned(),
        group: Some(group),
        request_id: "g1".to_owned(),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_opens_desktops_and_pools_and_lends_roles_to_its_members() {
    let mut stack = Stack::new(Crash::Never).await;
    stack.add_user("default", "boss", &["admin"]).await;
    let shared = furnished(&mut stack).await;
    assert_eq!(menu(&stack, "ana").await, Vec::<String>::new());
    assert_eq!(opens(&stack, "ana", "shared").await.unwrap_err().code(), Code::NotFound);

    let mut groups = GroupServiceClient::new(stack.user("boss"));
    let group = wire::Group {
        opens: vec![shared.clone(), format!("{TENANT}/pools/lab")],
        roles: vec!["helpdesk".to_owned()],
        ..Default::default()
    };
    let above = wire::Group { roles: vec!["operator".to_owned()], ..Default::default() };
    let refused = groups.create_group(class(above)).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_ALLOWED", "an admin gives no roles of the installation");
    let nothing = wire::Group { opens: vec![format!("{TENANT}/pools/none")], ..Default::default() };
    assert_eq!(groups.create_group(class(nothing)).await.unwrap_err().code(), Code::NotFound);
    groups.create_group(class(group.clone())).await.unwrap();
    let again = groups.create_group(class(group)).await.unwrap().into_inner();
    assert_eq!((again.name.as_str(), again.member_count), (GROUP, 0));
    let users = UserServiceClient::new(stack.user("ana"));
    let list = wire::ListUsersRequest { parent: TENANT.to_owned(), ..Default::default() };
    assert_eq!(
        users.clone().list_users(list.clone()).await.unwrap_err().code(),
        Code::PermissionDenied
    );

    assert_eq!(
        groups.add_group_members(adding("nobody")).await.unwrap_err().code(),
        Code::NotFound
    );
    for _ in 0..2 {
        let group = groups.add_group_members(adding("ana")).await.unwrap().into_inner();
        assert_eq!(group.member_count, 1);
    }
    assert_eq!(menu(&stack, "ana").await, ["lab", "Shared"]);
    assert_eq!(menu(&stack, "ben").await, Vec::<String>::new());
    users.clone().list_users(list.clone()).await.expect("the group's role counts at once");
    let session = opens(&stack, "ana", "shared").await.unwrap();
    assert_eq!(session.desktop, shared);
    groups.add_group_members(adding("ben")).await.unwrap();
    let refused = opens(&stack, "ben", "shared").await.unwrap_err();
    assert_eq!(reason(&refused), "DESKTOP_IN_USE");
    release(&stack, &session).await.unwrap();
    opens(&stack, "ben", "shared").await.unwrap();
    opens(&stack, "ana", "lab").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn members_are_listed_page_by_page_and_leave_with_their_names() {
    let stack = Stack::new(Crash::Never).await;
    stack.add_user("default", "boss", &["admin"]).await;
    let mut groups = GroupServiceClient::new(stack.user("boss"));
    let roles = vec!["helpdesk".to_owned()];
    groups.create_group(class(wire::Group { roles, ..Default::default() })).await.unwrap();
    for user in ["ana", "ben"] {
        groups.add_group_members(adding(user)).await.unwrap();
    }
    let users = UserServiceClient::new(stack.user("ana"));
    let list = wire::ListUsersRequest { parent: TENANT.to_owned(), ..Default::default() };
    let members = |user: &str| vec![format!("{TENANT}/users/{user}")];
    let request = wire::ListGroupMembersRequest {
        name: GROUP.to_owned(),
        page_size: 1,
        ..Default::default()
    };
    let page = groups.list_group_members(request.clone()).await.unwrap().into_inner();
    assert_eq!(page.members, members("ana"));
    let next = wire::ListGroupMembersRequest { page_token: page.next_page_token, ..request };
    let page = groups.list_group_members(next).await.unwrap().into_inner();
    assert_eq!((page.members, page.next_page_token), (members("ben"), String::new()));

    // Who goes is in no group, nor is the next of that name.
    let delete =
        wire::DeleteUserRequest { name: format!("{TENANT}/users/ben"), ..Default::default() };
    UserServiceClient::new(stack.user("boss")).delete_user(delete).await.unwrap();
    let group = groups.get_group(wire::GetGroupRequest { name: GROUP.to_owned() }).await.unwrap();
    assert_eq!(group.into_inner().member_count, 1);
    let delete = wire::DeleteGroupRequest { name: GROUP.to_owned(), etag: String::new() };
    groups.delete_group(delete).await.unwrap();
    assert_eq!(users.clone().list_users(list).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(
        stack
            .stored_world()
            .members_of(&"default".parse().unwrap(), &"class".parse().unwrap(), "")
            .next()
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn a_rule_keeps_desktops_on_hosts_with_its_labels() {
    let mut stack = Stack::new(Crash::Never).await;
    let mut hosts = HostServiceClient::new(stack.root());
    let rule = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let target = format!("{TENANT}/templates/micro");
        let rule = wire::HostRule { target, labels: labels.collect() };
        wire::SetHostRuleRequest { rule: Some(rule) }
    };
    hosts.set_host_rule(rule(&[("gpu", "yes")])).await.unwrap();
    let list = hosts.list_host_rules(wire::ListHostRulesRequest::default()).await.unwrap();
    assert_eq!(list.into_inner().rules.len(), 1);
    let waits = create(&stack, "r1").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let seen = desktop(&stack, &waits.target).await.unwrap().status.unwrap();
    assert_eq!(
        (seen.host.as_str(), seen.reason.as_str()),
        ("", "no host can take it: host-1 has not the label gpu=yes")
    );
    let request =
        wire::ExplainPlacementRequest { desktop: waits.target.clone(), ..Default::default() };
    let explained = hosts.explain_placement(request).await.unwrap().into_inner();
    assert_eq!(explained.hosts[0].obstacle, "has not the label gpu=yes");
    let what_if = wire::SimulatePoolRequest {
        template: format!("{TENANT}/templates/micro"),
        desktops: 3,
        ..Default::default()
    };
    assert_eq!(hosts.simulate_pool(what_if).await.unwrap().into_inner().placed, 0);
    let labels = [("gpu".to_owned(), "yes".to_owned())].into();
    let host = wire::Host {
        name: "hosts/host-1".to_owned(),
        spec: Some(wire::HostSpec { labels, ..Default::default() }),
        ..Default::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["spec.labels".to_owned()] });
    hosts.update_host(wire::UpdateHostRequest { host: Some(host), update_mask }).await.unwrap();
    assert_done(&ended(&mut stack, &waits).await);
    // It stays when the rule becomes another, and the next one waits.
    hosts.set_host_rule(rule(&[("gpu", "large")])).await.unwrap();
    let next = create(&stack, "r2").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(stack.host_runs(&waits.target));
    assert_eq!(desktop(&stack, &next.target).await.unwrap().status.unwrap().host, "");
    hosts.set_host_rule(rule(&[])).await.unwrap();
    assert_done(&ended(&mut stack, &next).await);
}

/// What the log says, newest first: who, method, target, outcome.
async fn listed(by: Service, parent: &str) -> Result<Vec<[String; 4]>, Status> {
    let request = wire::ListAuditRequest { parent: parent.to_owned(), ..Default::default() };
    let entries = AuditServiceClient::new(by).list_audit(request).await?.into_inner().entries;
    let told = |one: wire::AuditEntry| [one.who, one.method, one.target, one.outcome];
    Ok(entries.into_iter().map(told).collect())
}

#[tokio::test(start_paused = true)]
async fn every_call_that_changes_something_is_in_the_log_and_the_log_is_whole_after_a_restart() {
    let mut stack = Stack::new(Crash::Never).await;
    stack.add_user("default", "boss", &["admin"]).await;
    stack.add_tenant("other").await;
    stack.add_user("other", "eve", &["admin"]).await;
    let made = create(&stack, "r1").await.unwrap();
    assert_done(&ended(&mut stack, &made).await);
    let session = open(&stack).await.unwrap();
    // Refused by the table, by the object's tenant, and by the state.
    let delete = wire::DeleteDesktopRequest { name: made.target.clone(), ..Default::default() };
    for user in ["ana", "eve"] {
        let mut desktops = DesktopServiceClient::new(stack.user(user));
        for _ in 0..3 {
            desktops.delete_desktop(delete.clone()).await.unwrap_err();
        }
    }
    // What only looks is not written down.
    quota_and_used(stack.user("boss")).await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    let log = listed(stack.user("boss"), TENANT).await.unwrap();
    let ana = "tenants/default/users/ana";
    let entry = |who: &str, method: &str, target: &str, outcome: &str| {
        [who, method, target, outcome].map(str::to_owned)
    };
    let opened = entry(ana, "SessionService/OpenApp", &format!("{TENANT}/apps/my-desk"), "OK");
    assert!(log.contains(&opened), "{log:#?}");
    let denied = entry(ana, "DesktopService/DeleteDesktop", "", "NOT_ALLOWED");
    let method = "DesktopService/CreateDesktop";
    let created = log.iter().find(|one| one[1] == method).unwrap();
    assert_eq!((created[2].as_str(), created[3].as_str()), (made.target.as_str(), "OK"));
    assert_eq!(log.iter().filter(|one| **one == denied).count(), 1, "alike ones are one entry");
    let foreign =
        entry("tenants/other/users/eve", "DesktopService/DeleteDesktop", &made.target, "NOT_FOUND");
    assert!(log.contains(&foreign), "{log:#?}");
    assert!(!log.iter().any(|one| one[1].contains("GetTenant")));
    assert!(log.iter().all(|one| one.iter().any(|part| part.starts_with(TENANT))));
    let all = listed(stack.root(), "").await.unwrap();
    assert!(log.len() <= all.len());
    assert_eq!(listed(stack.user("boss"), "").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(
        listed(stack.user("boss"), "tenants/other").await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(listed(stack.user("ana"), TENANT).await.unwrap_err().code(), Code::PermissionDenied);

    stack.restart().await;
    release(&stack, &session).await.unwrap();
    let world = stack.stored_world();
    let mut previous = [0; 32];
    let mut entries: Vec<AuditEntry> = Vec::new();
    for (number, block) in world.audit.iter() {
        assert!(block.is_whole(*number) && block.previous == previous, "block {number}");
        previous = block.sha256;
        entries.extend(block.entries());
    }
    assert_eq!(world.audit_head.sha256, previous);
    let refused = entries.iter().find(|one| one.outcome == "NOT_ALLOWED").unwrap();
    assert_eq!(refused.count, 3);
    assert_eq!(entries.last().unwrap().method, "SessionService/ReleaseSession");
    let blocks = AuditServiceClient::new(stack.root());
    let request = wire::ListAuditBlocksRequest { page_size: 2, ..Default::default() };
    let page = blocks.clone().list_audit_blocks(request).await.unwrap().into_inner();
    assert_eq!((page.blocks.len(), page.head_sha256.as_slice()), (2, previous.as_slice()));
    assert!(!page.next_page_token.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_branding_is_judged_shown_before_the_sign_in_and_gone_when_nothing_is_chosen() {
    let stack = Stack::new(Crash::Never).await;
    stack.add_user("default", "boss", &["admin"]).await;
    let update = |branding: wire::Branding, paths: &[&str]| {
        let name = TENANT.to_owned();
        let paths = paths.iter().map(|&path| path.to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        let branding = Some(wire::Branding { name, ..branding });
        wire::UpdateBrandingRequest { branding, update_mask }
    };
    let mut tenants = TenantServiceClient::new(stack.user("boss"));
    let pale = wire::Branding { accent: "#eeeeee".to_owned(), ..Default::default() };
    let refused = tenants.update_branding(update(pale, &["accent"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let named = wire::Branding {
        product_name: "School".to_owned(),
        accent: "#1f5fbf".to_owned(),
        ..Default::default()
    };
    tenants.update_branding(update(named, &["product_name", "accent"])).await.unwrap();
    let other = wire::Branding { product_name: "Other".to_owned(), ..Default::default() };
    tenants.update_branding(update(other, &["product_name"])).await.unwrap();
    let mut gateway = GatewayLinkClient::new(stack.gateway());
    let ask = |name: &str| wire::GetBrandingRequest { name: name.to_owned() };
    let shown = gateway.show_branding(ask(TENANT)).await.unwrap().into_inner();
    assert_eq!((shown.product_name.as_str(), shown.accent.as_str()), ("Other", "#1f5fbf"));
    let nobody = gateway.show_branding(ask("tenants/nobody")).await.unwrap().into_inner();
    assert_eq!(nobody.product_name, "");
    let ana = TenantServiceClient::new(stack.user("ana")).get_branding(ask(TENANT)).await;
    assert_eq!(ana.unwrap().into_inner(), shown);
    let refused = TenantServiceClient::new(stack.user("ana"))
        .update_branding(update(wire::Branding::default(), &[]))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    tenants.update_branding(update(wire::Branding::default(), &[])).await.unwrap();
    assert!(stack.stored_world().brandings.is_empty());
}
