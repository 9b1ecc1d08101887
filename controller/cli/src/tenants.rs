//! Tenants, and the hours that their people used.

use anyhow::Context;
use prost_types::Timestamp;
use vidi_proto::v1::tenant_service_client::TenantServiceClient;
use vidi_proto::v1::usage_service_client::UsageServiceClient;
use vidi_proto::v1::{
    Branding, CreateTenantRequest, DeleteTenantRequest, GetTenantRequest, ListTenantsRequest,
    ListTenantsResponse, ListUsageRequest, ListUsageResponse, Quota, QuotaUsed, Tenant,
    UpdateBrandingRequest, UpdateTenantRequest, Usage,
};

use crate::arguments::{
    Deletion, Global, Most, TenantBrand, TenantCommand, TenantUpdate, UsageArguments,
};
use crate::ask::confirm;
use crate::connect::{all_pages, connect};
use crate::named::mask;
use crate::output::{Table, done, plain, print, short, show};
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
        TenantCommand::Get { name } => {
            let request = GetTenantRequest { name: format!("tenants/{name}") };
            let tenant = client.get_tenant(request).await?.into_inner();
            show(global.output, "Tenant", &tenant, tenant_table)
        }
        TenantCommand::Update(update) => {
            let request = GetTenantRequest { name: format!("tenants/{}", update.name) };
            let before = client.get_tenant(request).await?.into_inner();
            let tenant = client.update_tenant(changed(before, update)?).await?.into_inner();
            show(global.output, "Tenant", &tenant, tenant_table)
        }
        TenantCommand::Brand(brand) => {
            let request = branded(brand)?;
            let branding = client.update_branding(request).await?.into_inner();
            show(global.output, "Branding", &branding, branding_table)
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

/// The tenant as it was read, with what was given.
fn changed(before: Tenant, update: TenantUpdate) -> anyhow::Result<UpdateTenantRequest> {
    let mut quota = before.quota.unwrap_or_default();
    let limits = [
        (&mut quota.desktops, update.desktops),
        (&mut quota.running_desktops, update.running_desktops),
        (&mut quota.vcpus, update.vcpus),
        (&mut quota.memory_mib, update.memory_mib),
        (&mut quota.sessions, update.sessions),
    ];
    let mut limited = false;
    for (limit, given) in limits {
        if let Some(Most(given)) = given {
            *limit = given;
            limited = true;
        }
    }
    let fields = [("display_name", update.display_name.is_some()), ("quota", limited)];
    let update_mask = Some(mask(fields, "--display-name or a limit")?);
    let display_name = update.display_name.unwrap_or_default();
    let tenant = Tenant { display_name, quota: Some(quota), used: None, ..before };
    Ok(UpdateTenantRequest { tenant: Some(tenant), update_mask, validate_only: false })
}

/// What was given of a branding.
fn branded(brand: TenantBrand) -> anyhow::Result<UpdateBrandingRequest> {
    let TenantBrand { name, product_name, accent, accent_dark, logo } = brand;
    let fields = [
        ("product_name", product_name.is_some()),
        ("accent", accent.is_some()),
        ("accent_dark", accent_dark.is_some()),
        ("logo", logo.is_some()),
    ];
    let update_mask = Some(mask(fields, "--product-name, --accent, --accent-dark or --logo")?);
    let logo = match logo {
        Some(file) if !file.as_os_str().is_empty() => {
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
        }
        Some(_) | None => Vec::new(),
    };
    let branding = Branding {
        name: format!("tenants/{name}"),
        product_name: product_name.unwrap_or_default(),
        accent: accent.unwrap_or_default(),
        accent_dark: accent_dark.unwrap_or_default(),
        logo,
    };
    Ok(UpdateBrandingRequest { branding: Some(branding), update_mask })
}

fn branding_table(branding: &Branding) -> Table {
    let logo = match branding.logo.len() {
        0 => String::new(),
        bytes => format!("{bytes} bytes"),
    };
    Table::of_fields([
        ("tenant", short(&branding.name)),
        ("product name", branding.product_name.clone()),
        ("accent", branding.accent.clone()),
        ("accent on dark", branding.accent_dark.clone()),
        ("logo", logo),
    ])
}

fn tenant_table(tenant: &Tenant) -> Table {
    let Quota { desktops, running_desktops, vcpus, memory_mib, sessions } =
        tenant.quota.unwrap_or_default();
    let used: QuotaUsed = tenant.used.unwrap_or_default();
    let of = |used: u64, limit: Option<u32>| match limit {
        Some(limit) => format!("{used} of {limit}"),
        None => used.to_string(),
    };
    Table::of_fields([
        ("tenant", short(&tenant.name)),
        ("name", tenant.display_name.clone()),
        ("made", moment(tenant.create_time.as_ref())),
        ("desktops", of(used.desktops.into(), desktops)),
        ("running desktops", of(used.running_desktops.into(), running_desktops)),
        ("virtual processors", of(used.vcpus.into(), vcpus)),
        ("MiB of memory", of(used.memory_mib, memory_mib)),
        ("sessions", of(used.sessions.into(), sessions)),
    ])
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
    if arguments.csv {
        return print(csv(&usage).trim_end());
    }
    let all = ListUsageResponse { usage, next_page_token: String::new() };
    show(global.output, "ListUsageResponse", &all, |all| usage_table(&all.usage))
}

/// A line for each desktop or machine and user, with a heading.
fn csv(usage: &[Usage]) -> String {
    let mut text = "desktop,name,user,running_secs,connected_secs\r\n".to_owned();
    for line in usage {
        let of = if line.machine.is_empty() { &line.desktop } else { &line.machine };
        let fields = [short(of), line.desktop_display_name.clone(), short(&line.user)];
        let fields = fields.map(|field| quoted(&field)).join(",");
        let (running_secs, connected_secs) = (line.running_secs, line.connected_secs);
        text.push_str(&format!("{fields},{running_secs},{connected_secs}\r\n"));
    }
    text
}

/// A field that somebody typed: in quotes where it needs them, and never a formula to a spreadsheet.
fn quoted(field: &str) -> String {
    let field = plain(field);
    let formula = field.starts_with(['=', '+', '-', '@']);
    let field = if formula { format!("'{field}") } else { field };
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
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
    fn only_the_limits_that_were_given_are_changed() {
        let before = || Tenant {
            quota: Some(Quota { desktops: Some(5), sessions: Some(2), ..Quota::default() }),
            ..Tenant::default()
        };
        let update = |sessions, vcpus| TenantUpdate {
            name: "t".to_owned(),
            display_name: None,
            desktops: None,
            running_desktops: None,
            vcpus,
            memory_mib: None,
            sessions,
        };
        assert!(changed(before(), update(None, None)).is_err());
        let request = changed(before(), update(Some(Most(None)), Some(Most(Some(8))))).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["quota"]);
        let quota = Quota { desktops: Some(5), vcpus: Some(8), ..Quota::default() };
        assert_eq!(request.tenant.unwrap().quota, Some(quota));
    }

    #[test]
    fn values_with_commas_and_quotes_stay_one_field_and_are_no_formulas() {
        let line = Usage {
            desktop: "tenants/t/desktops/0190".to_owned(),
            desktop_display_name: "Ana's, \"big\"".to_owned(),
            user: "tenants/t/users/ana".to_owned(),
            running_secs: 60,
            ..Usage::default()
        };
        let formula = Usage { desktop_display_name: "=1+1".to_owned(), ..line.clone() };
        let text = csv(&[line, formula]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "0190,\"Ana's, \"\"big\"\"\",ana,60,0");
        assert_eq!(lines[2], "0190,'=1+1,ana,60,0");
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
