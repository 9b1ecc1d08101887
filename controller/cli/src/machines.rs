//! Physical machines.

use std::path::Path;

use anyhow::{Context, bail};
use vidi_proto::v1::machine_service_client::MachineServiceClient;
use vidi_proto::v1::{
    CreateMachineRequest, DeleteMachineRequest, DisplayPolicy, GetMachineRequest,
    ListMachinesRequest, ListMachinesResponse, Machine, MachineStatus, UpdateMachineRequest,
};

use crate::arguments::{Deletion, Global, MachineCommand, MachineUpdate};
use crate::ask::confirm;
use crate::connect::{Api, PAGE_SIZE_MAX, all_pages, connect, read_password};
use crate::display_policy::{policy_fields, with_flags};
use crate::named::{mask, pick, there, whole_name};
use crate::output::{Table, done, plain, short, show};
use crate::sessions::on_it;
use crate::when::moment;

/// Longest file with certificates, in bytes; the controller takes 64 KiB.
const CA_BYTES_MAX: u64 = 64 << 10;

/// Physical machines.
pub(crate) async fn machine(global: &Global, command: MachineCommand) -> anyhow::Result<()> {
    let mut client = MachineServiceClient::new(connect(global).await?);
    match command {
        MachineCommand::Create { name, address, trust, password, user, policy } => {
            let ca = trust.tls_ca.as_deref().map(read_ca).transpose()?;
            let machine = Machine {
                display_name: name.unwrap_or_default(),
                address,
                tls: ca.is_some(),
                ca: ca.unwrap_or_default(),
                host_name: trust.host_name.unwrap_or_default(),
                password: if password { read_password("SPICE password")? } else { String::new() },
                assigned_user: user.map(|user| user_name(global, &user)).unwrap_or_default(),
                display_policy: Some(with_flags(DisplayPolicy::default(), &policy)),
                ..Machine::default()
            };
            let request = CreateMachineRequest {
                parent: format!("tenants/{}", global.tenant),
                machine: Some(machine),
                request_id: uuid::Uuid::new_v4().to_string(),
                validate_only: false,
            };
            let machine = client.create_machine(request).await?.into_inner();
            show(global.output, "Machine", &machine, one_machine)
        }
        MachineCommand::List => {
            let all = list(global, &mut client).await?;
            show(global.output, "ListMachinesResponse", &all, |all| machines(&all.machines))
        }
        MachineCommand::Show { machine } => {
            let machine = find(global, &mut client, &machine).await?;
            show(global.output, "Machine", &machine, one_machine)
        }
        MachineCommand::Update(update) => {
            let request = update_request(global, &mut client, update).await?;
            let machine = client.update_machine(request).await?.into_inner();
            show(global.output, "Machine", &machine, one_machine)
        }
        MachineCommand::Delete(Deletion { name, yes }) => {
            let machine = find(global, &mut client, &name).await?;
            let shown = plain(&machine.display_name);
            confirm(yes, &format!("\"{shown}\" is taken off the menus; a session on it ends."))?;
            let request = DeleteMachineRequest { name: machine.name, etag: String::new() };
            client.delete_machine(request).await?;
            done(global.output, &format!("machine {shown} deleted"))
        }
    }
}

/// Changes what was given, nothing else.
async fn update_request(
    global: &Global,
    client: &mut MachineServiceClient<Api>,
    update: MachineUpdate,
) -> anyhow::Result<UpdateMachineRequest> {
    let MachineUpdate { machine, name, address, trust, password, no_password, user, policy } =
        update;
    let before = find(global, client, &machine).await?;
    let old = before.display_policy.unwrap_or_default();
    let policy = with_flags(old, &policy);
    let ca = trust.tls_ca.as_deref().map(read_ca).transpose()?;
    let switched = ca.is_some() || trust.no_tls;
    let fields = [
        ("display_name", name.is_some()),
        ("address", address.is_some()),
        ("tls", switched),
        ("ca", switched),
        ("host_name", trust.host_name.is_some() || trust.no_tls),
        ("password", password || no_password),
        ("assigned_user", user.is_some()),
        ("display_policy", policy != old),
    ];
    let update_mask = Some(mask(fields, "at least one of the options")?);
    let machine = Machine {
        name: before.name,
        etag: before.etag,
        display_name: name.unwrap_or_default(),
        address: address.unwrap_or_default(),
        tls: ca.is_some(),
        ca: ca.unwrap_or_default(),
        host_name: trust.host_name.unwrap_or_default(),
        password: if password { read_password("SPICE password")? } else { String::new() },
        assigned_user: user
            .filter(|user| !user.is_empty())
            .map(|user| user_name(global, &user))
            .unwrap_or_default(),
        display_policy: Some(policy),
        ..Machine::default()
    };
    Ok(UpdateMachineRequest { machine: Some(machine), update_mask, validate_only: false })
}

fn user_name(global: &Global, user: &str) -> String {
    format!("tenants/{}/users/{user}", global.tenant)
}

fn read_ca(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    if CA_BYTES_MAX < std::fs::metadata(path).with_context(cannot)?.len() {
        bail!("{} is larger than 64 KiB: it is no file of certificates", path.display());
    }
    std::fs::read_to_string(path).with_context(cannot)
}

async fn list(
    global: &Global,
    client: &mut MachineServiceClient<Api>,
) -> anyhow::Result<ListMachinesResponse> {
    let machines = all_pages(async |page_token| {
        let parent = format!("tenants/{}", global.tenant);
        let request = ListMachinesRequest { parent, page_size: PAGE_SIZE_MAX, page_token };
        let page = client.list_machines(request).await?.into_inner();
        Ok((page.machines, page.next_page_token))
    })
    .await?;
    Ok(ListMachinesResponse { machines, next_page_token: String::new() })
}

/// By id, by the beginning of one, or by display name, where only one fits.
async fn find(
    global: &Global,
    client: &mut MachineServiceClient<Api>,
    wanted: &str,
) -> anyhow::Result<Machine> {
    if let Some(name) = whole_name(&global.tenant, "machines", wanted)
        && let Some(found) = there(client.get_machine(GetMachineRequest { name }).await)?
    {
        return Ok(found);
    }
    let all = list(global, client).await?.machines;
    pick("machine", all, wanted, |one| (&one.name, &one.display_name))
}

fn machines(machines: &[Machine]) -> Table {
    let mut table = Table::new(["MACHINE", "NAME", "ADDRESS", "TLS", "USER", "ON IT", "PROBLEM"]);
    for machine in machines {
        let status = machine.status.clone().unwrap_or_default();
        table.row([
            short(&machine.name),
            machine.display_name.clone(),
            machine.address.clone(),
            yes_or_no(machine.tls),
            short(&machine.assigned_user),
            who_is_on(&status),
            status.problem,
        ]);
    }
    table
}

fn one_machine(machine: &Machine) -> Table {
    let status = machine.status.clone().unwrap_or_default();
    let fields = [
        ("machine", short(&machine.name)),
        ("name", machine.display_name.clone()),
        ("address", machine.address.clone()),
        ("tls", yes_or_no(machine.tls)),
        ("host name", machine.host_name.clone()),
        ("password", yes_or_no(machine.has_password)),
        ("user", short(&machine.assigned_user)),
        ("app", short(&machine.app)),
        ("on it", who_is_on(&status)),
        ("session", short(&status.session)),
        ("problem", status.problem),
        ("made", moment(machine.create_time.as_ref())),
    ];
    let policy = policy_fields(&machine.display_policy.unwrap_or_default());
    Table::of_fields(fields.into_iter().chain(policy))
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn who_is_on(status: &MachineStatus) -> String {
    on_it(&status.session_user, status.session_state(), status.session_state_since.as_ref())
}
