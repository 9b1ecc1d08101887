//! Pools: make, look at, change, delete, resume.

use std::ops::Bound;

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{PoolId, TemplateId, TenantId, UserId};
use vidi_proto::v1::pool_service_server::PoolService;
use vidi_proto::v1::{
    CreatePoolRequest, DeletePoolRequest, DeletePoolResponse, GetPoolRequest, ListPoolsRequest,
    ListPoolsResponse, Pool, PoolKind, PoolStatus, PoolSuspension, ReleasePolicy,
    ResumePoolRequest, UpdatePoolRequest,
};

use super::authorization::Access;
use super::page::Query;
use super::status::{invalid_field, not_found};
use super::users::timestamp;
use super::wire::{check_display_name, child, pool_name, request_key, unexpected};
use super::{Parts, desktop_fields, names};
use crate::contract::{display_policy_to_wire, policy_to_wire};
use crate::model::pool::POOL_USERS_MAX;
use crate::model::{self, Answer, Change, PoolSettings, PoolUsers, World};
use crate::plan::pools::problem;

/// Fields that an update can name.
const FIELDS: [&str; 9] = [
    "display_name",
    "min_spare",
    "max_desktops",
    USERS,
    EVERYONE,
    "disconnect_secs",
    "max_session_secs",
    "release_policy",
    "display_policy",
];
const USERS: &str = "users";
const EVERYONE: &str = "everyone";

/// The service.
#[derive(Debug)]
pub struct PoolsRpc {
    parts: Parts,
}

impl PoolsRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    fn read(&self, tenant: &TenantId, id: PoolId) -> Result<Pool, Status> {
        let world = self.parts.handle.world();
        let one = world.pool(tenant, id).ok_or_else(|| not_found("pool", id.as_str()))?;
        Ok(on_wire(&world, tenant, id, one))
    }
}

#[tonic::async_trait]
impl PoolService for PoolsRpc {
    async fn create_pool(
        &self,
        request: Request<CreatePoolRequest>,
    ) -> Result<Response<Pool>, Status> {
        let access = Access::of(&request)?;
        let mut wanted = request.into_inner();
        let tenant = names::tenant("parent", &wanted.parent)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let request_id = std::mem::take(&mut wanted.request_id);
        let key = request_key(access.caller(), "CreatePool", &request_id, &wanted)?;
        let id: PoolId = names::id("pool_id", &wanted.pool_id)?;
        let settings = settings((&tenant, id), &wanted.pool.unwrap_or_default())?;
        let change = Change::CreatePool {
            tenant: tenant.clone(),
            pool: id,
            settings: Box::new(settings.clone()),
            request: key,
            validate_only: wanted.validate_only,
        };
        done(self.parts.handle.change(change).await?)?;
        if wanted.validate_only {
            return Ok(Response::new(settings_on_wire(&tenant, id, &settings)));
        }
        info!(%tenant, pool = %id, "Pool created");
        self.read(&tenant, id).map(Response::new)
    }

    async fn get_pool(&self, request: Request<GetPoolRequest>) -> Result<Response<Pool>, Status> {
        let (tenant, id) = parse_name("name", &request.get_ref().name)?;
        Access::of(&request)?.check_tenant(&self.parts.handle.world(), &tenant)?;
        self.read(&tenant, id).map(Response::new)
    }

    async fn list_pools(
        &self,
        request: Request<ListPoolsRequest>,
    ) -> Result<Response<ListPoolsResponse>, Status> {
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_tenant(&world, &tenant)?;
        let query = Query::new("pools", &asked.parent, asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| parse_name("page_token", after));
        let after = after.transpose()?;
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let found: Vec<_> = world
            .pools
            .from(start)
            .skip_while(|((of, _), _)| *of < tenant)
            .take_while(|((of, _), _)| *of == tenant)
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |((tenant, id), _)| pool_name(tenant, *id));
        let pools = found
            .into_iter()
            .take(query.size)
            .map(|((tenant, id), one)| on_wire(&world, tenant, *id, one))
            .collect();
        Ok(Response::new(ListPoolsResponse { pools, next_page_token }))
    }

    async fn update_pool(
        &self,
        request: Request<UpdatePoolRequest>,
    ) -> Result<Response<Pool>, Status> {
        let access = Access::of(&request)?;
        let UpdatePoolRequest { pool, update_mask, validate_only } = request.into_inner();
        let asked = pool.ok_or_else(|| invalid_field("pool", "a pool is expected"))?;
        let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
        if let Some(wrong) = paths.iter().find(|path| !FIELDS.contains(&path.as_str())) {
            let rule = format!("\"{wrong}\" is none of {}", FIELDS.join(", "));
            return Err(invalid_field("update_mask", &rule));
        }
        let (tenant, id) = parse_name("pool.name", &asked.name)?;
        let world = self.parts.handle.world();
        access.check_tenant(&world, &tenant)?;
        let before = world.pool(&tenant, id).ok_or_else(|| not_found("pool", id.as_str()))?;
        let merged = merged(settings_on_wire(&tenant, id, &before.settings), &asked, &paths);
        let settings = settings((&tenant, id), &merged)?;
        // What was merged with is what is changed.
        let etag = if asked.etag.is_empty() { World::pool_etag(before) } else { asked.etag };
        let change = Change::UpdatePool {
            tenant: tenant.clone(),
            pool: id,
            settings: Box::new(settings.clone()),
            etag,
            validate_only,
        };
        done(self.parts.handle.change(change).await?)?;
        if validate_only {
            return Ok(Response::new(settings_on_wire(&tenant, id, &settings)));
        }
        info!(%tenant, pool = %id, "Pool changed");
        self.read(&tenant, id).map(Response::new)
    }

    async fn delete_pool(
        &self,
        request: Request<DeletePoolRequest>,
    ) -> Result<Response<DeletePoolResponse>, Status> {
        let access = Access::of(&request)?;
        let DeletePoolRequest { name, etag, force } = request.into_inner();
        let (tenant, pool) = parse_name("name", &name)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let change = Change::DeletePool { tenant: tenant.clone(), pool, etag, force };
        done(self.parts.handle.change(change).await?)?;
        info!(%tenant, %pool, force, "Pool deleted");
        Ok(Response::new(DeletePoolResponse {}))
    }

    async fn resume_pool(
        &self,
        request: Request<ResumePoolRequest>,
    ) -> Result<Response<Pool>, Status> {
        let access = Access::of(&request)?;
        let ResumePoolRequest { name, etag } = request.into_inner();
        let (tenant, id) = parse_name("name", &name)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let change = Change::ResumePool { tenant: tenant.clone(), pool: id, etag };
        done(self.parts.handle.change(change).await?)?;
        info!(%tenant, pool = %id, "Pool resumed");
        self.read(&tenant, id).map(Response::new)
    }
}

fn done(answer: Answer) -> Result<(), Status> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn parse_name(field: &str, name: &str) -> Result<(TenantId, PoolId), Status> {
    child(field, name, "pools")
}

/// What was, with what an update names. Who names `users` or `everyone` alone means it: the other follows.
fn merged(before: Pool, asked: &Pool, paths: &[String]) -> Pool {
    let mut after = before;
    let named = |field: &str| paths.is_empty() || paths.iter().any(|path| path == field);
    let numbers = [
        ("min_spare", &mut after.min_spare, asked.min_spare),
        ("max_desktops", &mut after.max_desktops, asked.max_desktops),
        ("disconnect_secs", &mut after.disconnect_secs, asked.disconnect_secs),
        ("max_session_secs", &mut after.max_session_secs, asked.max_session_secs),
    ];
    for (field, to, from) in numbers {
        if named(field) {
            *to = from;
        }
    }
    if named("display_name") {
        after.display_name.clone_from(&asked.display_name);
    }
    match (named(USERS), named(EVERYONE)) {
        (true, true) => {
            after.users.clone_from(&asked.users);
            after.everyone = asked.everyone;
        }
        (true, false) => {
            after.users.clone_from(&asked.users);
            after.everyone &= asked.users.is_empty();
        }
        (false, true) => {
            after.everyone = asked.everyone;
            if asked.everyone {
                after.users.clear();
            }
        }
        (false, false) => {}
    }
    if named("release_policy") {
        after.release_policy = asked.release_policy;
    }
    if named("display_policy") {
        after.display_policy = asked.display_policy;
    }
    after
}

/// What is chosen of a pool, judged.
fn settings((tenant, id): (&TenantId, PoolId), asked: &Pool) -> Result<PoolSettings, Status> {
    check_display_name(&asked.display_name)?;
    let (of, template) = child::<TemplateId>("template", &asked.template, "templates")?;
    if of != *tenant {
        return Err(not_found("template", &asked.template));
    }
    let kind = match asked.kind() {
        PoolKind::Floating => model::PoolKind::Floating,
        PoolKind::Dedicated => model::PoolKind::Dedicated,
        PoolKind::Unspecified => {
            return Err(invalid_field("kind", "floating or dedicated is expected"));
        }
    };
    // What says nothing is what the kind is for.
    let unsaid = asked.release_policy == i32::from(ReleasePolicy::Unspecified);
    let release_policy = match kind {
        model::PoolKind::Floating if unsaid => model::ReleasePolicy::Delete,
        model::PoolKind::Floating | model::PoolKind::Dedicated => {
            desktop_fields::release_policy(asked.release_policy)?
        }
    };
    let named = !asked.display_name.is_empty();
    let some = |secs: u32| (secs != 0).then_some(secs);
    let settings = PoolSettings {
        display_name: if named { asked.display_name.clone() } else { id.to_string() },
        template,
        kind,
        min_spare: asked.min_spare,
        max_desktops: asked.max_desktops,
        users: users(tenant, asked)?,
        disconnect_secs: some(asked.disconnect_secs),
        max_session_secs: some(asked.max_session_secs),
        release_policy,
        display_policy: desktop_fields::display_policy(asked.display_policy.as_ref())?,
    };
    settings.check().map_err(|(field, rule)| invalid_field(field, rule))?;
    Ok(settings)
}

/// Whose menus it is on.
fn users(tenant: &TenantId, asked: &Pool) -> Result<PoolUsers, Status> {
    if asked.everyone {
        let nobody = asked.users.is_empty();
        let twice = || invalid_field(USERS, "none is expected where the pool is for everyone");
        return nobody.then_some(PoolUsers::Everyone).ok_or_else(twice);
    }
    if POOL_USERS_MAX < asked.users.len() {
        return Err(invalid_field(USERS, "at most 5,000 are allowed: more are everyone"));
    }
    let users = asked.users.iter().map(|name| {
        let (of, user) = child::<UserId>(USERS, name, "users")?;
        if of == *tenant { Ok(user) } else { Err(not_found("user", name)) }
    });
    users.collect::<Result<_, _>>().map(PoolUsers::Listed)
}

fn on_wire(world: &World, tenant: &TenantId, id: PoolId, one: &model::Pool) -> Pool {
    let seen = world.pool_status(tenant, id);
    let suspended = one.suspended.as_ref().map(|suspended| PoolSuspension {
        since: Some(timestamp(suspended.since_ms)),
        reason: suspended.reason.clone(),
    });
    let status = PoolStatus {
        desktops: seen.desktops,
        ready: seen.ready,
        preparing: seen.preparing,
        claimed: seen.claimed,
        waiting: seen.waiting,
        spare_wanted: seen.spare_wanted,
        suspended,
        deleting: one.deleting,
        ready_secs: seen.ready_secs.unwrap_or_default(),
        problem: problem(world, tenant, id).unwrap_or_default(),
    };
    Pool {
        create_time: Some(timestamp(one.create_ms)),
        etag: World::pool_etag(one),
        app: format!("tenants/{tenant}/apps/{}", one.app_id),
        status: Some(status),
        ..settings_on_wire(tenant, id, &one.settings)
    }
}

fn settings_on_wire(tenant: &TenantId, id: PoolId, one: &PoolSettings) -> Pool {
    let kind = match one.kind {
        model::PoolKind::Floating => PoolKind::Floating,
        model::PoolKind::Dedicated => PoolKind::Dedicated,
    };
    let (users, everyone) = match &one.users {
        PoolUsers::Everyone => (Vec::new(), true),
        PoolUsers::Listed(users) => {
            (users.iter().map(|user| format!("tenants/{tenant}/users/{user}")).collect(), false)
        }
    };
    Pool {
        name: pool_name(tenant, id),
        display_name: one.display_name.clone(),
        template: format!("tenants/{tenant}/templates/{}", one.template),
        kind: kind.into(),
        min_spare: one.min_spare,
        max_desktops: one.max_desktops,
        users,
        everyone,
        disconnect_secs: one.disconnect_secs.unwrap_or_default(),
        max_session_secs: one.max_session_secs.unwrap_or_default(),
        release_policy: policy_to_wire(one.release_policy).into(),
        display_policy: Some(display_policy_to_wire(one.display_policy)),
        ..Pool::default()
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn pool() -> Pool {
        Pool {
            template: "tenants/t/templates/debian".to_owned(),
            kind: PoolKind::Floating.into(),
            min_spare: 2,
            max_desktops: 5,
            everyone: true,
            ..Pool::default()
        }
    }

    fn judged(asked: &Pool) -> Result<PoolSettings, Status> {
        let (tenant, id) = ("t".parse().unwrap(), "kiosk".parse().unwrap());
        settings((&tenant, id), asked)
    }

    #[test]
    fn what_says_nothing_is_what_the_kind_is_for_and_what_was_sent_comes_back() {
        let floating = judged(&pool()).unwrap();
        assert_eq!(floating.release_policy, model::ReleasePolicy::Delete);
        assert_eq!(floating.display_name, "kiosk");
        let (tenant, id) = ("t".parse().unwrap(), "kiosk".parse().unwrap());
        let back = settings_on_wire(&tenant, id, &floating);
        assert_eq!(judged(&back).unwrap(), floating);
        let dedicated = Pool {
            kind: PoolKind::Dedicated.into(),
            everyone: false,
            users: vec!["tenants/t/users/ana".to_owned()],
            max_session_secs: 3_600,
            ..pool()
        };
        let dedicated = judged(&dedicated).unwrap();
        assert_eq!(dedicated.release_policy, model::ReleasePolicy::Stop);
        let back = settings_on_wire(&tenant, id, &dedicated);
        assert_eq!(back.users, ["tenants/t/users/ana"]);
        assert_eq!(judged(&back).unwrap(), dedicated);
    }

    #[test]
    fn each_field_that_cannot_be_is_named() {
        let keep = ReleasePolicy::Keep.into();
        let (dedicated, delete) = (PoolKind::Dedicated.into(), ReleasePolicy::Delete.into());
        let ana = || vec!["tenants/t/users/ana".to_owned()];
        let many = vec!["tenants/t/users/ana".to_owned(); POOL_USERS_MAX + 1];
        let odd = vec!["ana".to_owned()];
        for (field, wrong) in [
            ("display_name", Pool { display_name: "x".repeat(201), ..pool() }),
            ("template", Pool { template: "debian".to_owned(), ..pool() }),
            ("kind", Pool { kind: 0, ..pool() }),
            ("kind", Pool { kind: 77, ..pool() }),
            ("max_desktops", Pool { max_desktops: 0, ..pool() }),
            ("max_desktops", Pool { max_desktops: 10_001, ..pool() }),
            ("min_spare", Pool { min_spare: 6, ..pool() }),
            ("users", Pool { users: ana(), ..pool() }),
            ("users", Pool { users: odd, everyone: false, ..pool() }),
            ("users", Pool { users: many, everyone: false, ..pool() }),
            ("disconnect_secs", Pool { disconnect_secs: 9, ..pool() }),
            ("max_session_secs", Pool { max_session_secs: 1, ..pool() }),
            ("release_policy", Pool { release_policy: keep, ..pool() }),
            ("release_policy", Pool { kind: dedicated, release_policy: delete, ..pool() }),
            ("release_policy", Pool { release_policy: 77, ..pool() }),
        ] {
            let refused = judged(&wrong).unwrap_err();
            let details = refused.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, "INVALID_FIELD", "{wrong:?}");
            assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
        }
        let foreign = Pool { template: "tenants/other/templates/debian".to_owned(), ..pool() };
        assert_eq!(judged(&foreign).unwrap_err().code(), tonic::Code::NotFound);
        let users = vec!["tenants/other/users/ana".to_owned()];
        let foreign = Pool { users, everyone: false, ..pool() };
        assert_eq!(judged(&foreign).unwrap_err().code(), tonic::Code::NotFound);
    }

    #[test]
    fn an_update_changes_what_it_names_and_everyone_and_some_exclude_each_other() {
        let ana = vec!["tenants/t/users/ana".to_owned()];
        let asked = Pool { min_spare: 1, users: ana.clone(), ..Pool::default() };
        let paths =
            |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let one = merged(pool(), &asked, &paths(&["min_spare"]));
        assert_eq!((one.min_spare, one.max_desktops, one.everyone), (1, 5, true));
        let some = merged(pool(), &asked, &paths(&["users"]));
        assert_eq!((some.everyone, &some.users), (false, &ana));
        let everyone = Pool { everyone: true, ..Pool::default() };
        let all = merged(some, &everyone, &paths(&["everyone"]));
        assert_eq!((all.everyone, all.users.len()), (true, 0));
        let whole = merged(pool(), &asked, &[]);
        assert_eq!((whole.max_desktops, whole.everyone, whole.users), (0, false, ana));
        assert_eq!((whole.kind, whole.template), (pool().kind, pool().template));
    }
}
