//! Decisions on users, their sign-ins, enrolment tokens and grant keys.

use vidi_kit::ids::{TenantId, UserId};

use super::decide::{Decided, View, made_before, remember};
use super::groups;
use crate::model::{
    Answer, Change, Desktop, EnrollToken, Key, Pool, PoolSettings, PoolUsers, Refusal, RequestKey,
    Row, SignIn, Step, User, World,
};

/// Sign-ins that one user may have; the oldest makes room. More than a person's devices, and few
/// enough to end all of them in one commit.
pub const SIGN_INS_PER_USER_MAX: usize = 64;
/// Pools that may name a user who is removed: all of them change in that commit, beside the end of the
/// sign-ins.
const POOLS_PER_USER_MAX: usize = 32;
/// Users whom those pools may name in all, so that the commit is within the store's 1 MiB.
const USERS_WRITTEN_MAX: usize = 10_000;
/// Enrolment tokens at one time; they live for an hour or so.
pub const ENROLL_TOKENS_MAX: usize = 10_000;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    let world = view.world;
    match change {
        Change::CreateUser { tenant, user, record, request } => {
            create_user(view, tenant, user, record, request)
        }
        Change::UpdateUser { tenant, user, display_name, roles, etag } => {
            let old = known_user(world, &tenant, &user)?;
            check_etag(old, &user, &etag)?;
            let record = User {
                display_name: display_name.unwrap_or_else(|| old.display_name.clone()),
                roles: roles.unwrap_or_else(|| old.roles.clone()),
                ..old.clone()
            };
            Ok(Decided::rows(Answer::Done, [Row::User(tenant, user, record)]))
        }
        Change::DeleteUser { tenant, user, etag } => delete_user(world, &tenant, &user, &etag),
        Change::SetPasswordHash { tenant, user, password_hash } => {
            let old = known_user(world, &tenant, &user)?;
            let mut steps = end_sign_ins(world, &tenant, &user, 0);
            let record = User { password_hash, ..old.clone() };
            steps.push(Step::Put(Row::User(tenant, user, record)));
            Ok(Decided { answer: Answer::Done, steps })
        }
        Change::CreateSignIn { token_sha256, record } => {
            create_sign_in(world, token_sha256, record)
        }
        Change::DeleteSignIn { token_sha256 } => {
            let known = world.sign_ins.contains_key(&token_sha256);
            let steps = known.then_some(Step::Delete(Key::SignIn(token_sha256)));
            Ok(Decided { answer: Answer::Done, steps: steps.into_iter().collect() })
        }
        Change::CreateEnrollToken { secret_sha256, record } => {
            if ENROLL_TOKENS_MAX <= world.enroll_tokens.len() {
                let what = "enrolment tokens";
                return Err(Refusal::LimitExceeded { what, limit: ENROLL_TOKENS_MAX });
            }
            Ok(Decided::rows(Answer::Done, [Row::EnrollToken(secret_sha256, record)]))
        }
        Change::UseEnrollToken { secret_sha256, role, id } => {
            use_enroll_token(view, secret_sha256, &role, id)
        }
        Change::PutGrantKey { controller, public_key } => {
            let row = Row::GrantKey(controller, public_key, view.now_ms);
            Ok(Decided::rows(Answer::Done, [row]))
        }
        other => unreachable_change(&other),
    }
}

/// `decide.rs` sends each kind of change to its own plan.
pub(super) fn unreachable_change(change: &Change) -> Result<Decided, Refusal> {
    unreachable!("a change was sent to a plan of another kind: {change:?}")
}

fn known_user<'a>(world: &'a World, tenant: &TenantId, user: &UserId) -> Result<&'a User, Refusal> {
    world.user(tenant, user).map(|one| &**one).ok_or_else(|| Refusal::not_found("user", user))
}

fn check_etag(user: &User, id: &UserId, etag: &str) -> Result<(), Refusal> {
    if etag.is_empty() || etag == World::user_etag(user) {
        return Ok(());
    }
    Err(Refusal::EtagStale { kind: "user", id: id.to_string() })
}

fn create_user(
    view: View<'_>,
    tenant: TenantId,
    user: UserId,
    record: User,
    request: Option<RequestKey>,
) -> Result<Decided, Refusal> {
    let is_there = view.world.user(&tenant, &user).is_some();
    if made_before(view, &tenant, request.as_ref(), ("user", user.as_str(), is_there))? {
        return Ok(Decided::nothing(Answer::Done));
    }
    if !view.world.tenants.contains_key(&tenant) {
        return Err(Refusal::not_found("tenant", tenant));
    }
    if is_there {
        return Err(Refusal::AlreadyExists { kind: "user", id: user.to_string() });
    }
    let resource = format!("tenants/{tenant}/users/{user}");
    let remembered = remember(view, &tenant, request, (None, resource))?;
    let rows = [Row::User(tenant, user, record)].into_iter().chain(remembered);
    Ok(Decided::rows(Answer::Done, rows))
}

fn delete_user(
    world: &World,
    tenant: &TenantId,
    user: &UserId,
    etag: &str,
) -> Result<Decided, Refusal> {
    let old = known_user(world, tenant, user)?;
    check_etag(old, user, etag)?;
    // One of a floating pool that is being destroyed is nobody's any more.
    let is_kept = |one: &Desktop| !(one.spec.is_single_use() && one.spec.deleting);
    if world.desktops_of(tenant, user).iter().any(|(_, one)| is_kept(one)) {
        return Err(Refusal::WrongState {
            kind: "user",
            id: user.to_string(),
            state: "assigned desktops".to_owned(),
            remedy: "delete those first",
        });
    }
    let mut machines = world.machines_of(tenant);
    if machines.any(|(_, machine)| machine.settings.assigned_user.as_ref() == Some(user)) {
        return Err(Refusal::WrongState {
            kind: "user",
            id: user.to_string(),
            state: "assigned physical machines".to_owned(),
            remedy: "delete those first, or assign them to somebody else",
        });
    }
    let mut steps = end_sign_ins(world, tenant, user, 0);
    // Who gets the name next must not find what this one was let into.
    let pools = without_user(world, tenant, user);
    let named: usize = pools.iter().map(users_of).sum();
    if POOLS_PER_USER_MAX < pools.len() || USERS_WRITTEN_MAX < named {
        return Err(Refusal::WrongState {
            kind: "user",
            id: user.to_string(),
            state: "named by very many pools".to_owned(),
            remedy: "take it off the users of some pools first",
        });
    }
    steps.extend(pools.into_iter().map(Step::Put));
    steps.extend(groups::without_user(world, tenant, user));
    steps.push(Step::Delete(Key::User(tenant.clone(), user.clone())));
    Ok(Decided { answer: Answer::Done, steps })
}

/// The pools that name a user, without it.
fn without_user(world: &World, tenant: &TenantId, user: &UserId) -> Vec<Row> {
    let pools = world.pools_of(tenant).filter_map(|(id, pool)| {
        let PoolUsers::Listed(users) = &pool.settings.users else { return None };
        let mut users = users.clone();
        users.remove(user).then(|| {
            let settings =
                PoolSettings { users: PoolUsers::Listed(users), ..pool.settings.clone() };
            let generation = pool.generation + 1;
            Row::Pool(tenant.clone(), id, Pool { settings, generation, ..Pool::clone(pool) })
        })
    });
    pools.collect()
}

/// How many users the row of a pool names.
fn users_of(row: &Row) -> usize {
    let Row::Pool(_, _, Pool { settings, .. }) = row else { return 0 };
    match &settings.users {
        PoolUsers::Listed(users) => users.len(),
        PoolUsers::Everyone => 0,
    }
}

/// Ends a user's sign-ins, oldest first, but for the newest `kept`.
fn end_sign_ins(world: &World, tenant: &TenantId, user: &UserId, kept: usize) -> Vec<Step> {
    let mut hashes = world.sign_ins_of(tenant, user);
    hashes.truncate(hashes.len().saturating_sub(kept));
    hashes.into_iter().map(|hash| Step::Delete(Key::SignIn(hash))).collect()
}

fn create_sign_in(world: &World, hash: String, record: SignIn) -> Result<Decided, Refusal> {
    known_user(world, &record.tenant, &record.user)?;
    let room = SIGN_INS_PER_USER_MAX - 1;
    let mut steps = end_sign_ins(world, &record.tenant, &record.user, room);
    steps.push(Step::Put(Row::SignIn(hash, record)));
    Ok(Decided { answer: Answer::Done, steps })
}

fn use_enroll_token(
    view: View<'_>,
    hash: String,
    role: &str,
    id: String,
) -> Result<Decided, Refusal> {
    let token = view.world.enroll_tokens.get(&hash);
    let token = token.filter(|one| !one.used && view.now_ms < one.expire_ms && one.role == role);
    let token = token.ok_or(Refusal::BadEnrollToken)?;
    let id = if token.id.is_empty() { id } else { token.id.clone() };
    let used = EnrollToken { used: true, ..(**token).clone() };
    Ok(Decided::rows(Answer::EnrollId(id), [Row::EnrollToken(hash, used)]))
}
