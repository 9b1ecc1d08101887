//! Physical machines.

use std::path::Path;

use anyhow::{Context, bail};
use prost_types::FieldMask;
use vidi_proto::v1::machine_service_client::MachineServiceClient;
use vidi_proto::v1::{
    CreateMachineRequest, DeleteMachineRequest, DisplayPolicy, GetMachineRequest,
    ListMachinesRequest, ListMachinesResponse, Machine, UpdateMachineRequest,
};

use crate::arguments::{Deletion, Global, MachineCommand};
use crate::ask::confirm;
use crate::connect::{Api, all_pages, connect, read_password, there, whole_name};
use crate::display_policy::{policy_fields, with_flags};
use crate::failure::Failure;
use crate::output::{Table, done, plain, short, show};
use crate::sessions::session_state;
use crate::when::{moment, since};

/// Shortest beginning of an id that is taken for it.
const ID_CHARS_MIN: usize = 4;
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
        update @ MachineCommand::Update { .. } => {
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
    command: MachineCommand,
) -> anyhow::Result<UpdateMachineRequest> {
    let MachineCommand::Update {
        machine,
        name,
        address,
        trust,
        password,
        no_password,
        user,
        policy,
    } = command
    else {
        bail!("this is no update");
    };
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
    let paths: Vec<String> =
        fields.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
    if paths.is_empty() {
        bail!("nothing to change: give at least one of the options");
    }
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
    let update_mask = Some(FieldMask { paths });
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
        let request = ListMachinesRequest { parent, page_size: 0, page_token };
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
    let fits = |machine: &Machine| {
        let begins = ID_CHARS_MIN <= wanted.len() && short(&machine.name).starts_with(wanted);
        machine.name == wanted || begins || machine.display_name == wanted
    };
    let mut found = list(global, client).await?.machines;
    found.retain(fits);
    match (found.pop(), found.len()) {
        (Some(machine), 0) => Ok(machine),
        (Some(_), more) => bail!("\"{wanted}\" fits {} machines: give the whole id", more + 1),
        (None, _) => Err(Failure::NotThere(format!(
            "there is no machine \"{wanted}\": vidictl machine list shows all"
        ))
        .into()),
    }
}

fn machines(machines: &[Machine]) -> Table {
    let mut table = Table::new(["MACHINE", "NAME", "ADDRESS", "TLS", "USER", "ON IT", "PROBLEM"]);
    for machine in machines {
        table.row([
            short(&machine.name),
            machine.display_name.clone(),
            machine.address.clone(),
            yes_or_no(machine.tls),
            short(&machine.assigned_user),
            who_is_on(machine),
            machine.status.clone().unwrap_or_default().problem,
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
        ("on it", who_is_on(machine)),
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

/// `ana, connected 5 min`; empty for nobody.
fn who_is_on(machine: &Machine) -> String {
    let status = machine.status.clone().unwrap_or_default();
    if status.session_user.is_empty() {
        return String::new();
    }
    let state = session_state(status.session_state());
    let since = since(status.session_state_since.as_ref());
    format!("{}, {state} {since}", short(&status.session_user)).trim_end().to_owned()
}
