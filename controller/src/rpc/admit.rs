//! Who somebody is to a live session of the own tenant, for the gateway that they came to.

use tonic::Status;
use vidi_kit::ids::{SessionId, TenantId};
use vidi_kit::tls::{Role, dns_name};
use vidi_proto::v1::{AdmitRequest, AdmitResponse, Part};

use super::caller::{ADMIN, HELPDESK, sign_in_hash};
use super::names::id;
use super::wire;
use crate::contract::display_policy_to_wire;
use crate::model::{DisplayPolicy, Permission, Place, Presence, Refusal, Session, World};

/// Answers from what is known now. A session of another tenant looks as if it was not there.
pub(super) fn admit(
    world: &World,
    now_ms: i64,
    request: &AdmitRequest,
) -> Result<AdmitResponse, Status> {
    let AdmitRequest { token, session } = request;
    let (sign_in, caller) =
        world.signed_in(&sign_in_hash(token)?, now_ms).ok_or(Refusal::SignedOut)?;
    let tenant = &sign_in.tenant;
    let missing = || Refusal::not_found("session", session);
    let session_id: SessionId = id("session", session)?;
    let known = world.session(tenant, session_id).ok_or_else(missing)?;
    let owns = known.user == sign_in.user;
    let policy = policy_of(world, tenant, known);
    // What its policy lets nobody share is to others as none; so is one that has ended.
    if !owns && (policy.sharing == Permission::Denied || !known.is_live()) {
        return Err(missing().into());
    }
    let part = match () {
        () if owns => Part::Owner,
        () if helps(&world.roles_of(tenant, &sign_in.user, caller)) => Part::HelpDesk,
        () => Part::Colleague,
    };
    let (peer_address, peer_name) = attached_at(world, known).unwrap_or_default();
    Ok(AdmitResponse {
        session: Some(wire::session(world, tenant, session_id, known)),
        user_display_name: world.user_display_name(tenant, &known.user),
        caller: format!("tenants/{tenant}/users/{}", sign_in.user),
        caller_display_name: caller.display_name.clone(),
        part: part.into(),
        peer_address,
        peer_name,
        display_policy: Some(display_policy_to_wire(policy)),
    })
}

fn helps(roles: &[String]) -> bool {
    roles.iter().any(|role| [HELPDESK, ADMIN].contains(&role.as_str()))
}

fn policy_of(world: &World, tenant: &TenantId, session: &Session) -> DisplayPolicy {
    match session.place {
        Place::Desktop(id) => {
            world.desktop(tenant, id).map(|one| world.display_policy(tenant, &one.spec))
        }
        Place::Machine(id) => world.machine(tenant, id).map(|one| one.settings.display_policy),
        Place::Pool(id) => world.pool(tenant, id).map(|one| one.settings.display_policy),
    }
    .unwrap_or_default()
}

/// Address and name of the gateway that has it attached, for other gateways.
fn attached_at(world: &World, session: &Session) -> Option<(String, String)> {
    let gateway = session.gateway.as_ref().filter(|_| session.presence == Presence::Connected)?;
    let address = world.gateways.get(gateway)?.peer_address.clone();
    (!address.is_empty()).then(|| (address, dns_name(Role::Gateway, gateway.as_str())))
}
