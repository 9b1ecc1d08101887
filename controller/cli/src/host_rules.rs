//! Which labels hosts must have.

use vidi_proto::v1::host_service_client::HostServiceClient;
use vidi_proto::v1::{HostRule, ListHostRulesRequest, ListHostRulesResponse, SetHostRuleRequest};

use crate::arguments::Global;
use crate::connect::{Api, all_pages};
use crate::output::{Table, show};

/// Sets the rule for a pool, a template or the whole tenant.
pub(crate) async fn set(
    global: &Global,
    client: &mut HostServiceClient<Api>,
    target: &str,
    labels: Vec<(String, String)>,
) -> anyhow::Result<()> {
    let target = named(&global.tenant, target);
    let rule = HostRule { target, labels: labels.into_iter().collect() };
    let request = SetHostRuleRequest { rule: Some(rule) };
    let rule = client.set_host_rule(request).await?.into_inner();
    show(global.output, "HostRule", &rule, |one| table(std::slice::from_ref(one)))
}

/// Lists all rules.
pub(crate) async fn list(
    global: &Global,
    client: &mut HostServiceClient<Api>,
) -> anyhow::Result<()> {
    let rules = all_pages(async |page_token| {
        let request = ListHostRulesRequest { page_size: 0, page_token };
        let page = client.list_host_rules(request).await?.into_inner();
        Ok((page.rules, page.next_page_token))
    })
    .await?;
    let all = ListHostRulesResponse { rules, next_page_token: String::new() };
    show(global.output, "ListHostRulesResponse", &all, |all| table(&all.rules))
}

/// The resource that is meant.
fn named(tenant: &str, target: &str) -> String {
    match target {
        "tenant" => format!("tenants/{tenant}"),
        whole if whole.starts_with("tenants/") => whole.to_owned(),
        child => format!("tenants/{tenant}/{child}"),
    }
}

fn table(rules: &[HostRule]) -> Table {
    let mut table = Table::new(["DESKTOPS OF", "LABELS OF THEIR HOSTS"]);
    for rule in rules {
        let mut labels: Vec<String> =
            rule.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        labels.sort();
        table.row([rule.target.clone(), labels.join(" ")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_named_within_its_tenant() {
        assert_eq!(named("t", "tenant"), "tenants/t");
        assert_eq!(named("t", "pools/lab"), "tenants/t/pools/lab");
        assert_eq!(named("t", "tenants/u/templates/x"), "tenants/u/templates/x");
    }
}
