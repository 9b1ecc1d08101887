//! Tenants, and the hours that their people used.

use prost_types::Timestamp;
use vidi_proto::v1::tenant_service_client::TenantServiceClient;
use vidi_proto::v1::usage_service_client::UsageServiceClient;
use vidi_proto::v1::{
    CreateTenantRequest, DeleteTenantRequest, ListTenantsRequest, ListTenantsResponse,
    ListUsageRequest, ListUsageResponse, Tenant, Usage,
};

use crate::arguments::{Deletion, Global, TenantCommand, UsageArguments};
use crate::ask::confirm;
use crate::connect::{all_pages, connect};
use crate::output::{Table, done, short, show};
use crate::when::{hours, moment, month};

/// Tenants.
pub(crate) async fn tenant(global: &Global, command: TenantCommand) -> anyhow::Result<()> {
    let mut client = TenantServiceClient::new(connect(global).await?);
    match command {
        TenantCommand::Create { name, display_name } => {
            let display_name = display_name.unwrap_or_default();
            let request = CreateTenantRequest {
                tenant_id: name,
                tenant: Some(Tenant { display_name, ..Tenant::default() }),
                request_id: uuid::Uuid::new_v4().to_string(),
                validate_only: false,
            };
            let tenant = client.create_tenant(request).await?.into_inner();
            show(global.output, "Tenant", &tenant, |one| tenants_table(std::slice::from_ref(one)))
        }
        TenantCommand::List => {
            let tenants = all_pages(async |page_token| {
                let request = ListTenantsRequest { page_size: 0, page_token };
                let page = client.list_tenants(request).await?.into_inner();
                Ok((page.tenants, page.next_page_token))
            })
            .await?;
            let all = ListTenantsResponse { tenants, next_page_token: String::new() };
            show(global.output, "ListTenantsResponse", &all, |all| tenants_table(&all.tenants))
        }
        TenantCommand::Delete(Deletion { name, yes }) => {
            confirm(yes, &format!("The tenant {name} is deleted."))?;
            let full = format!("tenants/{name}");
            client.delete_tenant(DeleteTenantRequest { name: full, etag: String::new() }).await?;
            done(global.output, &format!("tenant {name} deleted"))
        }
    }
}

fn tenants_table(tenants: &[Tenant]) -> Table {
    let mut table = Table::new(["TENANT", "NAME", "MADE"]);
    for tenant in tenants {
        let made = moment(tenant.create_time.as_ref());
        table.row([short(&tenant.name), tenant.display_name.clone(), made]);
    }
    table
}

/// Hours used in a month.
pub(crate) async fn usage(global: &Global, arguments: UsageArguments) -> anyhow::Result<()> {
    let parent = format!("tenants/{}", global.tenant);
    let (start_time, end_time) = span(arguments.month.as_deref())?;
    let user = arguments.user.map(|user| format!("{parent}/users/{user}")).unwrap_or_default();
    let mut client = UsageServiceClient::new(connect(global).await?);
    let usage = all_pages(async |page_token| {
        let (parent, user) = (parent.clone(), user.clone());
        let request =
            ListUsageRequest { parent, start_time, end_time, user, page_size: 0, page_token };
        let page = client.list_usage(request).await?.into_inner();
        Ok((page.usage, page.next_page_token))
    })
    .await?;
    let all = ListUsageResponse { usage, next_page_token: String::new() };
    show(global.output, "ListUsageResponse", &all, |all| usage_table(&all.usage))
}

/// The span to ask for; the one of this month is the controller's to know.
fn span(month_text: Option<&str>) -> anyhow::Result<(Option<Timestamp>, Option<Timestamp>)> {
    let Some(text) = month_text else { return Ok((None, None)) };
    let (from, to) = month(text)?;
    let now_secs = vidi_kit::Clock::system().now_ms() / 1_000;
    Ok((Some(from), Some(to).filter(|to| to.seconds <= now_secs)))
}

fn usage_table(usage: &[Usage]) -> Table {
    let mut table = Table::new(["DESKTOP", "NAME", "USER", "RUNNING", "CONNECTED", "NOW"]);
    let (mut running_secs, mut connected_secs) = (0_u64, 0_u64);
    for line in usage {
        running_secs = running_secs.saturating_add(line.running_secs);
        connected_secs = connected_secs.saturating_add(line.connected_secs);
        let now = match (line.running_now, line.connected_now) {
            (_, true) => "connected",
            (true, false) => "running",
            (false, false) => "",
        };
        table.row([
            short(if line.machine.is_empty() { &line.desktop } else { &line.machine }),
            line.desktop_display_name.clone(),
            short(&line.user),
            hours(line.running_secs),
            hours(line.connected_secs),
            now.to_owned(),
        ]);
    }
    if 1 < usage.len() {
        let none = String::new;
        let [running, connected] = [running_secs, connected_secs].map(hours);
        table.row(["all".to_owned(), none(), none(), running, connected, none()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_listed_and_added_up() {
        let line = |running_secs, connected_secs, connected_now| Usage {
            desktop: "tenants/t/desktops/0190".to_owned(),
            user: "tenants/t/users/ana".to_owned(),
            running_secs,
            connected_secs,
            connected_now,
            ..Usage::default()
        };
        let text = usage_table(&[line(3_600, 60, false), line(7_260, 0, true)]).to_string();
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["0190", "ana", "1:00", "0:01"]);
        assert_eq!(rows[2], ["0190", "ana", "2:01", "0:00", "connected"]);
        assert_eq!(rows[3], ["all", "3:01", "0:01"]);
    }

    #[test]
    fn a_month_that_is_not_over_ends_now() {
        assert_eq!(span(None).unwrap(), (None, None));
        let (from, to) = span(Some("2020-02")).unwrap();
        assert!(from.is_some() && to.is_some());
        let (from, to) = span(Some("9000-02")).unwrap();
        assert!(from.is_some() && to.is_none());
    }
}
