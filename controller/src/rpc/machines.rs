//! Physical machines: make, look at, change, delete.

use std::ops::Bound;

use tonic::{Request, Response, Status};
use tracing::info;
use vidi_kit::ids::{MachineId, TenantId, UserId};
use vidi_proto::v1::machine_service_server::MachineService;
use vidi_proto::v1::{
    CreateMachineRequest, DeleteMachineRequest, DeleteMachineResponse, GetMachineRequest,
    ListMachinesRequest, ListMachinesResponse, Machine, MachineStatus, UpdateMachineRequest,
};
use zeroize::Zeroizing;

use super::authorization::Access;
use super::names;
use super::page::Query;
use super::status::{invalid_field, not_found};
use super::users::timestamp;
use super::wire::{check_display_name, child, machine_name, request_key, session, unexpected};
use super::{Parts, desktop_fields};
use crate::contract::display_policy_to_wire;
use crate::model::{self, Answer, Change, MachineSettings, Sealed, World};
use crate::ports::Authority;

/// Places where a machine may be: the hosts that it moves between.
const ADDRESSES_MAX: usize = 4;
/// Longest address, in bytes: a DNS name of 253, a colon, a port.
const ADDRESS_BYTES_MAX: usize = 260;
/// Longest host name, in bytes (RFC 1035).
const HOST_NAME_BYTES_MAX: usize = 253;
/// Longest CA, in bytes: a chain of some certificates; ours have 700.
const CA_BYTES_MAX: usize = 64 << 10;
/// Longest password, in bytes, as SPICE allows (`SPICE_MAX_PASSWORD_LENGTH`).
const PASSWORD_BYTES_MAX: usize = 60;
/// Fields that an update can name.
const FIELDS: [&str; 8] = [
    "display_name",
    "address",
    "tls",
    "ca",
    "host_name",
    PASSWORD,
    "assigned_user",
    "display_policy",
];
const PASSWORD: &str = "password";

/// The service.
#[derive(Debug)]
pub struct MachinesRpc {
    parts: Parts,
}

impl MachinesRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }

    fn read(&self, tenant: &TenantId, id: MachineId) -> Result<Machine, Status> {
        let world = self.parts.handle.world();
        let one = world.machine(tenant, id);
        let one = one.ok_or_else(|| not_found("machine", &id.to_string()))?;
        Ok(on_wire(&world, tenant, id, one))
    }
}

#[tonic::async_trait]
impl MachineService for MachinesRpc {
    async fn create_machine(
        &self,
        request: Request<CreateMachineRequest>,
    ) -> Result<Response<Machine>, Status> {
        let access = Access::of(&request)?;
        let mut wanted = request.into_inner();
        let tenant = names::tenant("parent", &wanted.parent)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let request_id = std::mem::take(&mut wanted.request_id);
        let mut asked = wanted.machine.take().unwrap_or_default();
        let password = Zeroizing::new(std::mem::take(&mut asked.password));
        wanted.machine = Some(asked.clone());
        // The password was taken out: a hash of it must not be kept.
        let key = request_key(access.caller(), "CreateMachine", &request_id, &wanted)?;
        let mut settings = settings(&tenant, &asked)?;
        settings.password = seal(&*self.parts.authority, &tenant, &password)?;
        let change = Change::CreateMachine {
            tenant: tenant.clone(),
            settings: Box::new(settings.clone()),
            request: key,
            validate_only: wanted.validate_only,
        };
        match self.parts.handle.change(change).await? {
            Answer::Machine(id) => {
                info!(%tenant, machine = %id, "Machine created");
                self.read(&tenant, id).map(Response::new)
            }
            // Only judged: as it would be, without a name.
            Answer::Done => Ok(Response::new(settings_on_wire(&tenant, &settings))),
            other => Err(unexpected(&other)),
        }
    }

    async fn get_machine(
        &self,
        request: Request<GetMachineRequest>,
    ) -> Result<Response<Machine>, Status> {
        let (tenant, id) = parse_name("name", &request.get_ref().name)?;
        Access::of(&request)?.check_tenant(&self.parts.handle.world(), &tenant)?;
        self.read(&tenant, id).map(Response::new)
    }

    async fn list_machines(
        &self,
        request: Request<ListMachinesRequest>,
    ) -> Result<Response<ListMachinesResponse>, Status> {
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        let world = self.parts.handle.world();
        Access::of(&request)?.check_tenant(&world, &tenant)?;
        let query = Query::new("machines", &asked.parent, asked.page_size, &asked.page_token)?;
        let after = query.after.as_deref().map(|after| parse_name("page_token", after));
        let after = after.transpose()?;
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let found: Vec<_> = world
            .machines
            .from(start)
            .skip_while(|((of, _), _)| *of < tenant)
            .take_while(|((of, _), _)| *of == tenant)
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |((tenant, id), _)| machine_name(tenant, *id));
        let machines = found
            .into_iter()
            .take(query.size)
            .map(|((tenant, id), one)| on_wire(&world, tenant, *id, one))
            .collect();
        Ok(Response::new(ListMachinesResponse { machines, next_page_token }))
    }

    async fn update_machine(
        &self,
        request: Request<UpdateMachineRequest>,
    ) -> Result<Response<Machine>, Status> {
        let access = Access::of(&request)?;
        let UpdateMachineRequest { machine, update_mask, validate_only } = request.into_inner();
        let asked = machine.ok_or_else(|| invalid_field("machine", "a machine is expected"))?;
        let paths = update_mask.map(|mask| mask.paths).unwrap_or_default();
        if let Some(wrong) = paths.iter().find(|path| !FIELDS.contains(&path.as_str())) {
            let rule = format!("\"{wrong}\" is none of {}", FIELDS.join(", "));
            return Err(invalid_field("update_mask", &rule));
        }
        let (tenant, id) = parse_name("machine.name", &asked.name)?;
        let world = self.parts.handle.world();
        access.check_tenant(&world, &tenant)?;
        let before = world.machine(&tenant, id);
        let before = before.ok_or_else(|| not_found("machine", &id.to_string()))?;
        let merged = merged(on_wire(&world, &tenant, id, before), &asked, &paths);
        let mut settings = settings(&tenant, &merged)?;
        settings.password = if paths.iter().any(|path| path == PASSWORD) {
            seal(&*self.parts.authority, &tenant, &Zeroizing::new(asked.password))?
        } else {
            // Only who knows it may have it told to another server, or by another way.
            if before.settings.password.is_some() && is_moved(&before.settings, &settings) {
                let rule = "give it again: the machine is to be reached in another way";
                return Err(invalid_field(PASSWORD, rule));
            }
            before.settings.password.clone()
        };
        // What was merged with is what is changed.
        let etag = if asked.etag.is_empty() { World::machine_etag(before) } else { asked.etag };
        let change = Change::UpdateMachine {
            tenant: tenant.clone(),
            machine: id,
            settings: Box::new(settings),
            etag,
            validate_only,
        };
        self.parts.handle.change(change).await?;
        if !validate_only {
            info!(%tenant, machine = %id, "Machine changed");
        }
        self.read(&tenant, id).map(Response::new)
    }

    async fn delete_machine(
        &self,
        request: Request<DeleteMachineRequest>,
    ) -> Result<Response<DeleteMachineResponse>, Status> {
        let access = Access::of(&request)?;
        let DeleteMachineRequest { name, etag } = request.into_inner();
        let (tenant, machine) = parse_name("name", &name)?;
        access.check_tenant(&self.parts.handle.world(), &tenant)?;
        let change = Change::DeleteMachine { tenant: tenant.clone(), machine, etag };
        self.parts.handle.change(change).await?;
        info!(%tenant, %machine, "Machine deleted");
        Ok(Response::new(DeleteMachineResponse {}))
    }
}

/// What the secrets of a tenant's machines are bound to: those of another do not open.
fn purpose(tenant: &TenantId) -> String {
    format!("machine password of {tenant}")
}

/// The password of a machine, for its gateway.
pub(super) fn password(
    authority: &dyn Authority,
    tenant: &TenantId,
    settings: &MachineSettings,
) -> Result<Zeroizing<String>, Status> {
    let Some(sealed) = &settings.password else { return Ok(Zeroizing::default()) };
    let damaged = || Status::internal("the machine's password cannot be opened: set it anew");
    let bytes = authority.unseal(&purpose(tenant), sealed).ok_or_else(damaged)?;
    let text = str::from_utf8(&bytes).map_err(|_not_text| damaged())?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn seal(
    authority: &dyn Authority,
    tenant: &TenantId,
    password: &str,
) -> Result<Option<Sealed>, Status> {
    if PASSWORD_BYTES_MAX < password.len() {
        return Err(invalid_field(PASSWORD, "at most 60 bytes are allowed, as SPICE says"));
    }
    if password.is_empty() {
        return Ok(None);
    }
    let sealed = authority.seal(&purpose(tenant), password.as_bytes());
    sealed.map(Some).ok_or_else(|| Status::internal("the password cannot be wrapped"))
}

/// Whether another server could be the one that is asked for the password.
fn is_moved(before: &MachineSettings, after: &MachineSettings) -> bool {
    let way = |one: &MachineSettings| {
        (one.address.clone(), one.tls, one.ca.clone(), one.host_name.clone())
    };
    way(before) != way(after)
}

fn parse_name(field: &str, name: &str) -> Result<(TenantId, MachineId), Status> {
    child(field, name, "machines")
}

/// What was, with what an update names.
fn merged(before: Machine, asked: &Machine, paths: &[String]) -> Machine {
    let mut after = before;
    let named = |field: &str| paths.is_empty() || paths.iter().any(|path| path == field);
    let texts = [
        ("display_name", &mut after.display_name, &asked.display_name),
        ("address", &mut after.address, &asked.address),
        ("ca", &mut after.ca, &asked.ca),
        ("host_name", &mut after.host_name, &asked.host_name),
        ("assigned_user", &mut after.assigned_user, &asked.assigned_user),
    ];
    for (field, to, from) in texts {
        if named(field) {
            to.clone_from(from);
        }
    }
    if named("tls") {
        after.tls = asked.tls;
    }
    if named("display_policy") {
        after.display_policy = asked.display_policy;
    }
    after
}

/// What is chosen of a machine, judged; without the password.
fn settings(tenant: &TenantId, asked: &Machine) -> Result<MachineSettings, Status> {
    check_display_name(&asked.display_name)?;
    check_addresses(&asked.address)?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if HOST_NAME_BYTES_MAX < asked.host_name.len() || !plain(&asked.host_name) {
        return Err(invalid_field("host_name", "a DNS name or an IP address is expected"));
    }
    let pem = asked.ca.len() <= CA_BYTES_MAX && asked.ca.contains("-----BEGIN CERTIFICATE-----");
    match (asked.tls, asked.ca.is_empty()) {
        (true, false) if !pem => {
            let rule = "certificates in PEM are expected, at most 64 KiB of them";
            return Err(invalid_field("ca", rule));
        }
        (true, true) => {
            let rule = "with TLS a CA is expected, or the machine's own certificate";
            return Err(invalid_field("ca", rule));
        }
        (false, false) => return Err(invalid_field("ca", "without TLS there is none")),
        (true, false) | (false, true) => {}
    }
    let assigned_user = match asked.assigned_user.as_str() {
        "" => None,
        name => {
            let (of, user) = child::<UserId>("assigned_user", name, "users")?;
            if of != *tenant {
                return Err(not_found("user", name));
            }
            Some(user)
        }
    };
    let first = asked.address.split(',').next().unwrap_or_default();
    let host = first.rsplit_once(':').map_or("", |(host, _)| host);
    let named = !asked.display_name.is_empty();
    Ok(MachineSettings {
        display_name: if named { asked.display_name.clone() } else { host.to_owned() },
        address: asked.address.clone(),
        tls: asked.tls,
        ca: asked.ca.clone(),
        host_name: asked.host_name.clone(),
        password: None,
        assigned_user,
        display_policy: desktop_fields::display_policy(asked.display_policy.as_ref())?,
    })
}

/// `host:port`, and behind commas where else it may be.
fn check_addresses(addresses: &str) -> Result<(), Status> {
    if ADDRESSES_MAX < addresses.split(',').count() {
        return Err(invalid_field("address", "a machine has at most 4 addresses"));
    }
    addresses.split(',').try_for_each(check_address)
}

/// `host:port`, an IPv6 address in brackets.
fn check_address(address: &str) -> Result<(), Status> {
    let rule = "host:port is expected, as \"lab-7.example.org:5901\" or \"[2001:db8::7]:5901\"";
    let wrong = || invalid_field("address", rule);
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let good = match six {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(letters),
    };
    let port_good = port.parse::<u16>().is_ok_and(|port| port != 0);
    if good && port_good && address.len() <= ADDRESS_BYTES_MAX { Ok(()) } else { Err(wrong()) }
}

fn on_wire(world: &World, tenant: &TenantId, id: MachineId, one: &model::Machine) -> Machine {
    let newest = world.machine_session(tenant, id);
    let problem = newest.map(|(_, session)| session.problem.clone()).unwrap_or_default();
    let holder = newest.filter(|(_, one)| one.is_live());
    let holder = holder.map(|(id, one)| session(world, tenant, id, one));
    let status = MachineStatus {
        session: holder.as_ref().map(|one| one.name.clone()).unwrap_or_default(),
        session_user: holder.as_ref().map(|one| one.user.clone()).unwrap_or_default(),
        session_state: holder.as_ref().map_or(0, |one| one.state),
        session_state_since: holder.and_then(|one| one.state_since),
        problem,
    };
    Machine {
        name: machine_name(tenant, id),
        create_time: Some(timestamp(one.create_ms)),
        etag: World::machine_etag(one),
        app: format!("tenants/{tenant}/apps/{}", one.app_id),
        status: Some(status),
        ..settings_on_wire(tenant, &one.settings)
    }
}

/// The password stays here.
fn settings_on_wire(tenant: &TenantId, one: &MachineSettings) -> Machine {
    let user = one.assigned_user.as_ref();
    Machine {
        display_name: one.display_name.clone(),
        address: one.address.clone(),
        tls: one.tls,
        ca: one.ca.clone(),
        host_name: one.host_name.clone(),
        has_password: one.password.is_some(),
        assigned_user: user
            .map(|user| format!("tenants/{tenant}/users/{user}"))
            .unwrap_or_default(),
        display_policy: Some(display_policy_to_wire(one.display_policy)),
        ..Machine::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_may_be_in_a_few_places() {
        for good in ["a:1", "a:1,b:2", "a:1,[2001:db8::7]:2,c:3,d:4"] {
            assert!(check_addresses(good).is_ok(), "{good}");
        }
        for wrong in ["", "a:1,", ",a:1", "a:1, b:2", "a:1,b", "a:1,b:2,c:3,d:4,e:5"] {
            assert!(check_addresses(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["a:1", "lab-7.example.org:65535", "10.0.0.7:5900", "[2001:db8::7]:5901"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        let long = format!("{}:1", "a".repeat(ADDRESS_BYTES_MAX));
        for wrong in [
            "",
            "a",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a b:1",
            "2001:db8::7:1",
            "[x]:1",
            "a/b:1",
            &long,
        ] {
            assert!(check_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_update_changes_what_it_names_and_tls_wants_something_to_trust() {
        let before = Machine {
            display_name: "Lab".to_owned(),
            address: "lab:1".to_owned(),
            ..Machine::default()
        };
        let asked = Machine { address: "lab:2".to_owned(), tls: true, ..Machine::default() };
        let tenant: TenantId = "t".parse().unwrap();
        let one = merged(before.clone(), &asked, &["address".to_owned()]);
        assert_eq!(
            (one.display_name.as_str(), one.address.as_str(), one.tls),
            ("Lab", "lab:2", false)
        );
        assert!(settings(&tenant, &one).is_ok());
        let all = merged(before, &asked, &[]);
        assert_eq!((all.display_name.as_str(), all.tls), ("", true));
        let refused = settings(&tenant, &all).unwrap_err();
        assert!(refused.message().contains("ca"), "{}", refused.message());
    }
}
