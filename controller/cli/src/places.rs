//! Templates and hosts.

use vidi_proto::v1::host_service_client::HostServiceClient;
use vidi_proto::v1::template_service_client::TemplateServiceClient;
use vidi_proto::v1::{
    CreateEnrollTokenRequest, DeleteTemplateRequest, GetHostRequest, Host, ListHostsRequest,
    ListHostsResponse, ListTemplatesRequest, ListTemplatesResponse, Template,
};

use crate::arguments::{Global, HostCommand, TemplateCommand};
use crate::connect::{Api, connect};
use crate::output::{Table, short, show};
use crate::people::done;
use crate::template::TemplateFolder;

/// Letters of a digest that are shown.
const DIGEST_CHARS: usize = 19;

/// Templates.
pub(crate) async fn template(global: &Global, command: TemplateCommand) -> anyhow::Result<()> {
    let parent = format!("tenants/{}", global.tenant);
    match command {
        TemplateCommand::Create { name, from, display_name } => {
            let folder = TemplateFolder::open(&from)?;
            let display_name = display_name.unwrap_or_else(|| folder.name.clone());
            let api = connect(global).await?;
            let template = folder.upload(api, parent, name, display_name).await?;
            show(global.output, "Template", &template, |one| templates(std::slice::from_ref(one)))
        }
        TemplateCommand::List => {
            let all = list_templates(global).await?;
            show(global.output, "ListTemplatesResponse", &all, |all| templates(&all.templates))
        }
        TemplateCommand::Delete { name } => {
            let mut client = TemplateServiceClient::new(connect(global).await?);
            let full = format!("{parent}/templates/{name}");
            let request = DeleteTemplateRequest { name: full, etag: String::new() };
            client.delete_template(request).await?;
            done(global, &format!("template {name} deleted"))
        }
    }
}

async fn list_templates(global: &Global) -> anyhow::Result<ListTemplatesResponse> {
    let mut client = TemplateServiceClient::new(connect(global).await?);
    let mut all = ListTemplatesResponse::default();
    loop {
        let request = ListTemplatesRequest {
            parent: format!("tenants/{}", global.tenant),
            page_size: 0,
            page_token: all.next_page_token.clone(),
        };
        let page = client.list_templates(request).await?.into_inner();
        all.templates.extend(page.templates);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn templates(templates: &[Template]) -> Table {
    let mut table = Table::new(["TEMPLATE", "NAME", "VERSION", "MEMORY", "CPUS"]);
    for template in templates {
        let version = template.latest.clone().unwrap_or_default();
        let guest = version.manifest.unwrap_or_default().guest.unwrap_or_default();
        table.row([
            short(&template.name),
            template.display_name.clone(),
            version.digest.chars().take(DIGEST_CHARS).collect(),
            format!("{} MiB", guest.memory_mib),
            guest.vcpus.to_string(),
        ]);
    }
    table
}

/// Hosts.
pub(crate) async fn host(global: &Global, command: HostCommand) -> anyhow::Result<()> {
    let mut client = HostServiceClient::new(connect(global).await?);
    match command {
        HostCommand::List => {
            let all = list_hosts(&mut client).await?;
            show(global.output, "ListHostsResponse", &all, |all| hosts(&all.hosts))
        }
        HostCommand::Get { host } => {
            let request = GetHostRequest { name: format!("hosts/{host}") };
            let host = client.get_host(request).await?.into_inner();
            show(global.output, "Host", &host, one_host)
        }
        HostCommand::EnrollToken { role, id } => {
            let request = CreateEnrollTokenRequest { role, id: id.unwrap_or_default() };
            let answer = client.create_enroll_token(request).await?.into_inner();
            show(global.output, "CreateEnrollTokenResponse", &answer, |answer| {
                // Alone on its line, so that it can be copied or redirected as it is.
                let mut table = Table::default();
                table.row([answer.token.clone()]);
                table
            })
        }
    }
}

async fn list_hosts(client: &mut HostServiceClient<Api>) -> anyhow::Result<ListHostsResponse> {
    let mut all = ListHostsResponse::default();
    loop {
        let request = ListHostsRequest { page_size: 0, page_token: all.next_page_token.clone() };
        let page = client.list_hosts(request).await?.into_inner();
        all.hosts.extend(page.hosts);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn hosts(hosts: &[Host]) -> Table {
    let mut table =
        Table::new(["HOST", "STATE", "CPUS", "MEMORY", "CHARGED", "RUNS AS", "PROBLEMS"]);
    for host in hosts {
        let status = host.status.clone().unwrap_or_default();
        table.row([
            short(&host.name),
            if status.connected { "connected" } else { "away" }.to_owned(),
            status.cpus.to_string(),
            format!("{} MiB", status.memory_total_mib),
            format!("{} MiB", status.memory_charged_mib),
            status.acceleration,
            status.problems.join("; "),
        ]);
    }
    table
}

fn one_host(host: &Host) -> Table {
    let status = host.status.clone().unwrap_or_default();
    Table::of_fields([
        ("host", short(&host.name)),
        ("connected", if status.connected { "yes" } else { "no" }.to_owned()),
        ("host name", status.hostname),
        ("agent", status.agent_version),
        ("libvirt", status.libvirt_version),
        ("QEMU", status.qemu_version),
        ("runs guests as", status.acceleration),
        ("CPUs", status.cpus.to_string()),
        ("memory", format!("{} MiB", status.memory_total_mib)),
        ("memory available", format!("{} MiB", status.memory_available_mib)),
        ("memory charged", format!("{} MiB", status.memory_charged_mib)),
        ("room for images", format!("{} MiB", status.images_free_mib)),
        ("relay", status.relay_address),
        ("problems", status.problems.join("; ")),
        ("foreign desktops", status.foreign_desktops.join(", ")),
    ])
}
