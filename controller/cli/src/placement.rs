//! Where desktops go: what operators say of hosts, how much there is, why here and not there, and what if.

use std::collections::HashMap;

use anyhow::Context;
use vidi_proto::v1::host_service_client::HostServiceClient;
use vidi_proto::v1::{
    Capacity, ConsideredHost, ExplainPlacementRequest, ExplainPlacementResponse, GetHostRequest,
    Host, HostSpec, SimulatePoolRequest, SimulatePoolResponse, UpdateHostRequest,
};

use crate::arguments::{Explanation, Global, HostUpdate, WhatIf};
use crate::connect::Api;
use crate::named::mask;
use crate::output::{Table, short};

/// Changes what was given, nothing else.
pub(crate) async fn update(
    client: &mut HostServiceClient<Api>,
    update: HostUpdate,
) -> anyhow::Result<Host> {
    let HostUpdate { host, failure_domain, label, remove_label } = update;
    let request = GetHostRequest { name: format!("hosts/{host}") };
    let before = client.get_host(request).await?.into_inner();
    let relabelled = !label.is_empty() || !remove_label.is_empty();
    let fields = [("spec.failure_domain", failure_domain.is_some()), ("spec.labels", relabelled)];
    let update_mask = Some(mask(fields, "--failure-domain, --label or --remove-label")?);
    let mut labels: HashMap<String, String> = before.spec.unwrap_or_default().labels;
    labels.retain(|key, _| !remove_label.contains(key));
    for label in label {
        let (key, value) =
            label.split_once('=').with_context(|| format!("\"{label}\" is not KEY=VALUE"))?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let failure_domain = failure_domain.unwrap_or_default();
    let spec = Some(HostSpec { failure_domain, labels, ..HostSpec::default() });
    // What was merged with is what is changed.
    let host = Some(Host { name: before.name, etag: before.etag, spec, ..Host::default() });
    Ok(client.update_host(UpdateHostRequest { host, update_mask }).await?.into_inner())
}

/// The request for an explanation; `desktop` is the name of the desktop, if one is meant.
pub(crate) fn explanation(
    global: &Global,
    explanation: Explanation,
    desktop: Option<String>,
) -> ExplainPlacementRequest {
    let Explanation { desktop: _, template, pool } = explanation;
    ExplainPlacementRequest {
        desktop: desktop.unwrap_or_default(),
        template: template.map(|id| name(global, "templates", &id)).unwrap_or_default(),
        pool: pool.map(|id| name(global, "pools", &id)).unwrap_or_default(),
    }
}

/// The request for a simulation.
pub(crate) fn what_if(global: &Global, what_if: WhatIf) -> SimulatePoolRequest {
    let WhatIf { template, desktops, pool, failure_domain } = what_if;
    SimulatePoolRequest {
        template: name(global, "templates", &template),
        desktops,
        failure_domain: failure_domain.unwrap_or_default(),
        pool: pool.map(|id| name(global, "pools", &id)).unwrap_or_default(),
    }
}

fn name(global: &Global, collection: &str, id: &str) -> String {
    if id.starts_with("tenants/") {
        return id.to_owned();
    }
    format!("tenants/{}/{collection}/{id}", global.tenant)
}

/// `key=value`, by key.
pub(crate) fn labels(spec: &HostSpec) -> String {
    let mut labels: Vec<String> =
        spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    labels.join(", ")
}

/// How much there is.
pub(crate) fn capacity(capacity: &Capacity) -> Table {
    let Capacity { hosts, hosts_open, failure_domains_open, failure_domains_lost, .. } = *capacity;
    let lost = match failure_domains_lost {
        0 => String::new(),
        lost => format!(", {lost} lost"),
    };
    Table::of_fields([
        ("hosts", format!("{hosts}, {hosts_open} take desktops")),
        ("failure domains", format!("{failure_domains_open}{lost}")),
        ("can lose", domains(capacity.can_lose_domains)),
        ("has to be able to lose", domains(capacity.headroom_domains)),
        ("memory to give", format!("{} MiB", capacity.memory_chargeable_mib)),
        ("memory charged", format!("{} MiB", capacity.memory_charged_mib)),
        ("can still be placed", format!("{} MiB", capacity.memory_placeable_mib)),
    ])
}

fn domains(count: u32) -> String {
    format!("{count} {}", if count == 1 { "failure domain" } else { "failure domains" })
}

/// Every host: what keeps it from taking the desktop, or its points.
pub(crate) fn explained(answer: &ExplainPlacementResponse) -> Table {
    let mut table = Table::new(["HOST", "", "POINTS", "MADE OF", "OBSTACLE"]);
    let mut hosts: Vec<&ConsideredHost> = answer.hosts.iter().collect();
    hosts.sort_by_key(|one| (!one.obstacle.is_empty(), std::cmp::Reverse(one.points)));
    for one in hosts {
        let mark = match (one.host == answer.host, one.current) {
            (true, true) => "chosen, is there",
            (true, false) => "chosen",
            (false, true) => "is there",
            (false, false) => "",
        };
        let takes = one.obstacle.is_empty();
        table.row([
            short(&one.host),
            mark.to_owned(),
            if takes { one.points.to_string() } else { String::new() },
            if takes { made_of(one) } else { String::new() },
            one.obstacle.clone(),
        ]);
    }
    table
}

fn made_of(one: &ConsideredHost) -> String {
    let parts = [
        ("+", one.image, "image there"),
        ("+", one.sharing, "shared pages"),
        ("+", one.packing, "packing"),
        ("-", one.starting, "starting"),
        ("-", one.pressure, "short of memory"),
        ("-", one.spread, "pool in its domain"),
    ];
    let parts = parts.iter().filter(|(_, points, _)| *points != 0);
    let parts: Vec<String> =
        parts.map(|(sign, points, what)| format!("{sign}{points} {what}")).collect();
    parts.join(", ")
}

/// What would come of it.
pub(crate) fn simulated(answer: &SimulatePoolResponse) -> Table {
    let mut table = Table::of_fields([
        ("fit", answer.placed.to_string()),
        ("no more, since", answer.reason.clone()),
        ("charged each", format!("{} MiB", answer.memory_mib)),
        ("could lose then", domains(answer.can_lose_domains)),
    ]);
    for one in &answer.hosts {
        table.row([format!("on {}:", short(&one.host)), one.desktops.to_string()]);
    }
    for loss in &answer.losses {
        let domain = loss.failure_domain.trim_start_matches("hosts/");
        let what = format!(
            "{} of them, {} desktops in all, {} without room elsewhere",
            loss.placed, loss.desktops, loss.homeless
        );
        table.row([format!("lost with {domain}:"), what]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_host_comes_first_with_what_its_points_are_made_of() {
        let refused = ConsideredHost {
            host: "hosts/a".to_owned(),
            obstacle: "is cordoned".to_owned(),
            current: true,
            ..ConsideredHost::default()
        };
        let chosen = ConsideredHost {
            host: "hosts/b".to_owned(),
            points: 330,
            image: 300,
            sharing: 50,
            starting: 20,
            ..ConsideredHost::default()
        };
        let answer = ExplainPlacementResponse {
            host: "hosts/b".to_owned(),
            hosts: vec![refused, chosen],
            ..ExplainPlacementResponse::default()
        };
        let text = explained(&answer).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with('b'), "{text}");
        assert!(lines[1].contains("+300 image there, +50 shared pages, -20 starting"), "{text}");
        assert!(lines[2].contains("is there") && lines[2].contains("is cordoned"), "{text}");
    }
}
