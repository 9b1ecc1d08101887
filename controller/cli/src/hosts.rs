//! Hosts: what they are, how one joins, how one is taken out of use.

use std::io::Write;
use std::time::Duration;

use tokio::time::Instant;
use vidi_proto::v1::host_service_client::HostServiceClient;
use vidi_proto::v1::{
    CordonHostRequest, CreateEnrollTokenRequest, DeleteHostRequest, DrainHostRequest,
    GetCapacityRequest, GetHostRequest, Host, ListHostsRequest, ListHostsResponse,
    RemoveUnknownDesktopRequest, UncordonHostRequest,
};

use crate::arguments::{EnrollRole, Format, Global, HostCommand};
use crate::ask::confirm;
use crate::connect::{Api, all_pages, connect};
use crate::failure::Failure;
use crate::output::{Table, done, print, short, show};
use crate::when::moment;
use crate::{desktops, host_rules, placement};

/// A host that drains is looked at this often.
const DRAIN_LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Hosts.
pub(crate) async fn host(global: &Global, command: HostCommand) -> anyhow::Result<()> {
    let mut client = HostServiceClient::new(connect(global).await?);
    let name = |host: &str| format!("hosts/{host}");
    let etag = String::new;
    let show_one = |host: &Host| show(global.output, "Host", host, one_host);
    match command {
        HostCommand::List => {
            let all = list(&mut client).await?;
            show(global.output, "ListHostsResponse", &all, |all| hosts(&all.hosts))
        }
        HostCommand::Get { host } => {
            show_one(&client.get_host(GetHostRequest { name: name(&host) }).await?.into_inner())
        }
        HostCommand::Update(update) => show_one(&placement::update(&mut client, update).await?),
        HostCommand::Capacity => {
            let capacity = client.get_capacity(GetCapacityRequest {}).await?.into_inner();
            show(global.output, "Capacity", &capacity, placement::capacity)
        }
        HostCommand::Rule { target, labels } => {
            host_rules::set(global, &mut client, &target, labels).await
        }
        HostCommand::Rules => host_rules::list(global, &mut client).await,
        HostCommand::Explain(explanation) => {
            let desktop = match &explanation.desktop {
                Some(desktop) => Some(desktops::named(global, desktop).await?),
                None => None,
            };
            let request = placement::explanation(global, explanation, desktop);
            let answer = client.explain_placement(request).await?.into_inner();
            show(global.output, "ExplainPlacementResponse", &answer, placement::explained)
        }
        HostCommand::Simulate(what_if) => {
            let request = placement::what_if(global, what_if);
            let answer = client.simulate_pool(request).await?.into_inner();
            show(global.output, "SimulatePoolResponse", &answer, placement::simulated)
        }
        HostCommand::EnrollToken { role, id } => enroll_token(global, client, role, id).await,
        HostCommand::Cordon { host } => {
            let request = CordonHostRequest { name: name(&host), etag: etag() };
            show_one(&client.cordon_host(request).await?.into_inner())
        }
        HostCommand::Uncordon { host } => {
            let request = UncordonHostRequest { name: name(&host), etag: etag() };
            show_one(&client.uncordon_host(request).await?.into_inner())
        }
        HostCommand::Drain { host, stop_in_use, wait, timeout } => {
            let request = DrainHostRequest { name: name(&host), etag: etag(), stop_in_use };
            let drained = client.drain_host(request).await?.into_inner();
            let limit = wait.then_some(Duration::from_secs(timeout.into()));
            show_one(&drain_to_the_end(client, drained, limit).await?)
        }
        HostCommand::RemoveUnknown { host, desktop, yes } => {
            confirm(yes, &format!("{desktop} on {host} is destroyed with all that is on it."))?;
            let request = RemoveUnknownDesktopRequest { name: name(&host), desktop };
            show_one(&client.remove_unknown_desktop(request).await?.into_inner())
        }
        HostCommand::Delete { host, yes } => {
            confirm(yes, &format!("{host} is forgotten; to come back it has to join again."))?;
            let request = DeleteHostRequest { name: name(&host), etag: etag() };
            client.delete_host(request).await?;
            done(global.output, &format!("host {host} deleted"))
        }
    }
}

async fn list(client: &mut HostServiceClient<Api>) -> anyhow::Result<ListHostsResponse> {
    let hosts = all_pages(async |page_token| {
        let page = client.list_hosts(ListHostsRequest { page_size: 0, page_token }).await?;
        let page = page.into_inner();
        Ok((page.hosts, page.next_page_token))
    })
    .await?;
    Ok(ListHostsResponse { hosts, next_page_token: String::new() })
}

/// The token alone on standard output, so that a script can take it as it is.
async fn enroll_token(
    global: &Global,
    mut client: HostServiceClient<Api>,
    role: EnrollRole,
    id: Option<String>,
) -> anyhow::Result<()> {
    let (role, program) = match role {
        EnrollRole::Agent => ("agent", "vidi-agent"),
        EnrollRole::Gateway => ("gateway", "vidi-gateway"),
    };
    let request = CreateEnrollTokenRequest { role: role.to_owned(), id: id.unwrap_or_default() };
    let answer = client.create_enroll_token(request).await?.into_inner();
    if global.output == Format::Json {
        return show(global.output, "CreateEnrollTokenResponse", &answer, |_| Table::default());
    }
    print(&answer.token)?;
    let until = answer.expire_time.map(|time| prost_types::Timestamp { nanos: 0, ..time });
    let until = until.map(|time| format!(", until {time}")).unwrap_or_default();
    let token = &answer.token;
    writeln!(
        std::io::stderr(),
        "\nPaste this on the new machine, as root (good once{until}):\n\n  {program} join {token}\n"
    )?;
    Ok(())
}

/// Looks until nothing blocks the drain; without a limit the host is returned as it is.
async fn drain_to_the_end(
    mut client: HostServiceClient<Api>,
    mut host: Host,
    limit: Option<Duration>,
) -> anyhow::Result<Host> {
    let Some(limit) = limit else { return Ok(host) };
    let end = Instant::now() + limit;
    loop {
        let blockers = host.status.clone().unwrap_or_default().drain_blockers;
        let Some(first) = blockers.first() else { return Ok(host) };
        if end <= Instant::now() {
            let more = match blockers.len() {
                1 => String::new(),
                all => format!(" and {} more", all - 1),
            };
            let waits = format!(
                "it still drains after {} s and waits for: {first}{more}; \
                 --stop-in-use does not wait for sessions",
                limit.as_secs()
            );
            return Err(Failure::TimeOver(waits).into());
        }
        tokio::time::sleep(DRAIN_LOOK_PERIOD).await;
        let request = GetHostRequest { name: host.name.clone() };
        host = client.get_host(request).await?.into_inner();
    }
}

fn hosts(hosts: &[Host]) -> Table {
    let mut table = Table::new([
        "HOST",
        "STATE",
        "FAILS WITH",
        "CPUS",
        "MEMORY FREE",
        "CHARGED",
        "DESKTOPS",
        "RUNS AS",
        "PROBLEMS",
    ]);
    for host in hosts {
        let status = host.status.clone().unwrap_or_default();
        table.row([
            short(&host.name),
            state_of(host),
            host.spec.clone().unwrap_or_default().failure_domain,
            status.cpus.to_string(),
            format!("{} of {} MiB", status.memory_available_mib, status.memory_total_mib),
            format!("{} MiB", status.memory_charged_mib),
            format!("{}, {} on", status.desktops, status.desktops_running),
            status.acceleration,
            status.problems.join("; "),
        ]);
    }
    table
}

fn state_of(host: &Host) -> String {
    let status = host.status.clone().unwrap_or_default();
    let spec = host.spec.clone().unwrap_or_default();
    let link = if status.connected { "connected" } else { "away" };
    let use_ = match (spec.draining, spec.cordoned) {
        (true, _) if status.drain_blockers.is_empty() => ", drained",
        (true, _) => ", draining",
        (false, true) => ", cordoned",
        (false, false) => "",
    };
    format!("{link}{use_}")
}

fn one_host(host: &Host) -> Table {
    let status = host.status.clone().unwrap_or_default();
    Table::of_fields([
        ("host", short(&host.name)),
        ("state", state_of(host)),
        ("fails with", host.spec.clone().unwrap_or_default().failure_domain),
        ("labels", placement::labels(&host.spec.clone().unwrap_or_default())),
        ("drain waits for", status.drain_blockers.join("; ")),
        ("last seen", moment(status.last_seen_time.as_ref())),
        ("host name", status.hostname),
        ("agent", status.agent_version),
        ("libvirt", status.libvirt_version),
        ("QEMU", status.qemu_version),
        ("runs guests as", status.acceleration),
        ("CPUs", status.cpus.to_string()),
        ("memory", format!("{} MiB", status.memory_total_mib)),
        ("memory available", format!("{} MiB", status.memory_available_mib)),
        ("memory charged", format!("{} MiB", status.memory_charged_mib)),
        ("desktops", format!("{}, {} of them on", status.desktops, status.desktops_running)),
        ("room for images", format!("{} MiB", status.images_free_mib)),
        ("relay", status.relay_address),
        ("problems", status.problems.join("; ")),
        ("foreign desktops", status.foreign_desktops.join(", ")),
        ("joined", moment(host.create_time.as_ref())),
    ])
}

#[cfg(test)]
mod tests {
    use vidi_proto::v1::{HostSpec, HostStatus};

    use super::*;

    #[test]
    fn a_host_is_drained_when_nothing_blocks_it_any_more() {
        let state = |cordoned, draining, blockers: &[&str]| {
            state_of(&Host {
                spec: Some(HostSpec { cordoned, draining, ..HostSpec::default() }),
                status: Some(HostStatus {
                    connected: true,
                    drain_blockers: blockers.iter().map(|&text| text.to_owned()).collect(),
                    ..HostStatus::default()
                }),
                ..Host::default()
            })
        };
        assert_eq!(state(false, false, &[]), "connected");
        assert_eq!(state(true, false, &[]), "connected, cordoned");
        assert_eq!(state(true, true, &["ana is on it"]), "connected, draining");
        assert_eq!(state(true, true, &[]), "connected, drained");
        assert_eq!(state_of(&Host::default()), "away");
    }
}
