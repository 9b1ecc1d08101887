//! Placements on the wire: how much there is, why a desktop goes where it goes, and what if.

use std::collections::BTreeMap;

use tonic::Status;
use vidi_kit::ids::{DesktopId, HostId, PoolId, TemplateId, TenantId};
use vidi_proto::v1 as wire;

use super::names::{id, split};
use super::status::{invalid_field, not_found};
use super::wire::child;
use crate::model::World;
use crate::model::fleet::{FailureDomain, HostState};
use crate::plan::placement::charged_mib;
use crate::plan::scheduler::{
    Considered, DESKTOPS_MAX, Loss, Wanted, considered, simulate as simulate_placements, why_not,
};

/// Fields that an update can name.
const FIELDS: [&str; 2] = [FAILURE_DOMAIN, LABELS];
const FAILURE_DOMAIN: &str = "spec.failure_domain";
const LABELS: &str = "spec.labels";
/// Labels of one host: they are in its one record.
const LABELS_MAX: usize = 16;
/// Longest name of a failure domain, key or value of a label, in bytes; a label of DNS has 63.
const TEXT_BYTES_MAX: usize = 63;
/// Hosts that one explanation tells of: more would not fit one answer.
const HOSTS_MAX: usize = 5_000;

/// What an update changes: the failure domain, the labels; none stays as it is.
type Fields = (Option<String>, Option<BTreeMap<String, String>>);

/// Reads and judges what an update names.
pub(super) fn fields(spec: wire::HostSpec, paths: &[String]) -> Result<Fields, Status> {
    if let Some(wrong) = paths.iter().find(|path| !FIELDS.contains(&path.as_str())) {
        let rule = format!("\"{wrong}\" is none of {}", FIELDS.join(", "));
        return Err(invalid_field("update_mask", &rule));
    }
    let named = |field: &str| paths.is_empty() || paths.iter().any(|path| path == field);
    let domain = named(FAILURE_DOMAIN).then_some(spec.failure_domain);
    if domain.as_ref().is_some_and(|domain| !domain.is_empty() && !is_plain(domain, "-._")) {
        let rule = "1 to 63 of a-z, 0-9, dash, dot and underscore are expected";
        return Err(invalid_field(FAILURE_DOMAIN, rule));
    }
    let labels = named(LABELS).then_some(spec.labels);
    let labels = labels.map(|labels| checked_labels(LABELS, labels)).transpose()?;
    Ok((domain, labels))
}

/// Labels, judged.
pub(super) fn checked_labels(
    field: &str,
    labels: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, Status> {
    let labels: BTreeMap<String, String> = labels.into_iter().collect();
    let good = |(key, value): (&String, &String)| {
        let printable = !value.chars().any(char::is_control);
        is_plain(key, "-._/") && value.len() <= TEXT_BYTES_MAX && printable
    };
    if LABELS_MAX < labels.len() || !labels.iter().all(good) {
        let rule = "at most 16 are allowed, with keys of 1 to 63 of a-z, 0-9, dash, dot, underscore and \
                    slash, and values of at most 63 printable bytes";
        return Err(invalid_field(field, rule));
    }
    Ok(labels)
}

fn is_plain(text: &str, signs: &str) -> bool {
    let allowed = |letter: char| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || signs.contains(letter)
    };
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.chars().all(allowed)
}

/// How much there is, and which failures it would stand.
pub(super) fn capacity(world: &World) -> wire::Capacity {
    let fleet = &world.fleet;
    let headroom = fleet.headroom(world.limits.headroom_domains);
    let (lost, open) = fleet.domains_lost_and_open();
    let (mut hosts_open, mut chargeable_mib, mut charged_mib, mut spare_mib) = (0, 0, 0, 0);
    for (_, slot) in fleet.slots() {
        let facts = fleet.facts(slot);
        charged_mib += u64::from(facts.charged_mib);
        if facts.state == HostState::Open {
            hosts_open += 1;
            chargeable_mib += u64::from(facts.chargeable_mib);
            spare_mib += u64::from(fleet.of(slot, |piece| &piece.spare_mib));
        }
    }
    wire::Capacity {
        hosts: short(world.hosts.len()),
        hosts_open,
        failure_domains_open: short(open),
        failure_domains_lost: short(lost),
        headroom_domains: short(world.limits.headroom_domains),
        can_lose_domains: short(fleet.can_lose()),
        memory_chargeable_mib: chargeable_mib,
        memory_charged_mib: charged_mib,
        memory_placeable_mib: match headroom.domains {
            0 => spare_mib,
            _ => headroom.sure_mib.saturating_sub(headroom.heaviest_mib),
        },
    }
}

/// Every host, as a placement sees it.
pub(super) fn explain(
    world: &World,
    asked: &wire::ExplainPlacementRequest,
) -> Result<wire::ExplainPlacementResponse, Status> {
    if asked.desktop.is_empty() {
        let (tenant, template) = child::<TemplateId>("template", &asked.template, "templates")?;
        let pool = pool_of(world, &tenant, &asked.pool)?;
        let charge_mib = charge(world, &tenant, &template, None)?;
        let wanted =
            Wanted { tenant: &tenant, template: &template, pool, charge_mib, starts: true };
        return Ok(explained(world, &wanted, None));
    }
    let (tenant, desktop) = child::<DesktopId>("desktop", &asked.desktop, "desktops")?;
    let one = world.desktop(&tenant, desktop);
    let one = one.ok_or_else(|| not_found("desktop", &desktop.to_string()))?.clone();
    let digest = Some(one.spec.template_digest.as_str());
    let charge_mib = charge(world, &tenant, &one.spec.template, digest)?;
    let wanted = Wanted {
        tenant: &tenant,
        template: &one.spec.template,
        pool: one.spec.pool,
        charge_mib,
        starts: one.spec.host_power_on(),
    };
    let mut without = world.clone();
    without.suppose_without(&tenant, desktop);
    Ok(explained(&without, &wanted, one.status.host.as_ref()))
}

fn explained(
    world: &World,
    wanted: &Wanted<'_>,
    current: Option<&HostId>,
) -> wire::ExplainPlacementResponse {
    let all = considered(world, wanted);
    let chosen = all.iter().find(|one| one.chosen);
    wire::ExplainPlacementResponse {
        host: chosen.map(|one| format!("hosts/{}", one.host)).unwrap_or_default(),
        reason: if chosen.is_none() { why_not(world, wanted) } else { String::new() },
        memory_mib: wanted.charge_mib,
        hosts: all.iter().take(HOSTS_MAX).map(|one| on_wire(one, current)).collect(),
    }
}

fn on_wire(one: &Considered, current: Option<&HostId>) -> wire::ConsideredHost {
    let mut host = wire::ConsideredHost {
        host: format!("hosts/{}", one.host),
        current: current == Some(&one.host),
        ..wire::ConsideredHost::default()
    };
    match &one.judged {
        Ok(points) => {
            host.points = points.sum();
            host.sharing = points.sharing;
            host.image = points.image;
            host.packing = points.packing;
            host.starting = points.starting;
            host.pressure = points.pressure;
            host.spread = points.spread;
        }
        Err((_, sentence)) => host.obstacle.clone_from(sentence),
    }
    host
}

/// What would come of so many desktops.
pub(super) fn simulate(
    world: &World,
    asked: &wire::SimulatePoolRequest,
) -> Result<wire::SimulatePoolResponse, Status> {
    if !(1..=DESKTOPS_MAX).contains(&asked.desktops) {
        return Err(invalid_field("desktops", &format!("1 to {DESKTOPS_MAX} are expected")));
    }
    let (tenant, template) = child::<TemplateId>("template", &asked.template, "templates")?;
    let pool = pool_of(world, &tenant, &asked.pool)?;
    let charge_mib = charge(world, &tenant, &template, None)?;
    let domain = domain_of(world, &asked.failure_domain)?;
    let wanted = Wanted { tenant: &tenant, template: &template, pool, charge_mib, starts: false };
    let what_if = simulate_placements(world, &wanted, asked.desktops, domain.as_ref());
    let hosts = what_if.hosts.iter();
    let hosts = hosts.map(|(host, desktops)| wire::SimulatedHost {
        host: format!("hosts/{host}"),
        desktops: *desktops,
    });
    Ok(wire::SimulatePoolResponse {
        placed: what_if.placed,
        hosts: hosts.collect(),
        reason: what_if.why_not,
        can_lose_domains: short(what_if.can_lose),
        losses: what_if.losses.into_iter().map(loss_on_wire).collect(),
        memory_mib: charge_mib,
    })
}

fn loss_on_wire(Loss { domain, placed, desktops, homeless }: Loss) -> wire::SimulatedLoss {
    let failure_domain = match domain {
        FailureDomain::Own(host) => format!("hosts/{host}"),
        FailureDomain::Named(name) => name,
    };
    wire::SimulatedLoss { failure_domain, placed, desktops, homeless }
}

/// The failure domain that is asked for: by its name, or by a host of it.
fn domain_of(world: &World, asked: &str) -> Result<Option<FailureDomain>, Status> {
    if asked.is_empty() {
        return Ok(None);
    }
    let domain = if asked.starts_with("hosts/") {
        let [host] = split("failure_domain", asked, ["hosts"])?;
        let host: HostId = id("failure_domain", host)?;
        let one = world.hosts.get(&host).ok_or_else(|| not_found("host", host.as_str()))?;
        if one.failure_domain.is_empty() {
            FailureDomain::Own(host)
        } else {
            FailureDomain::Named(one.failure_domain.clone())
        }
    } else {
        FailureDomain::Named(asked.to_owned())
    };
    let known = world.fleet.domain_number(&domain).is_some();
    if known { Ok(Some(domain)) } else { Err(not_found("failure domain", asked)) }
}

fn pool_of(world: &World, tenant: &TenantId, asked: &str) -> Result<Option<PoolId>, Status> {
    if asked.is_empty() {
        return Ok(None);
    }
    let (of, pool) = child::<PoolId>("pool", asked, "pools")?;
    let known = of == *tenant && world.pools.contains_key(&(of, pool));
    if known { Ok(Some(pool)) } else { Err(not_found("pool", pool.as_str())) }
}

/// What a desktop of a template is charged, MiB; of its newest version where none is named.
fn charge(
    world: &World,
    tenant: &TenantId,
    id: &TemplateId,
    digest: Option<&str>,
) -> Result<u64, Status> {
    let missing = || not_found("template", id.as_str());
    let template = world.template(tenant, id).ok_or_else(missing)?;
    let digest = digest.unwrap_or(&template.latest_digest);
    let version = world.version(tenant, id, digest).ok_or_else(missing)?;
    Ok(charged_mib(version.manifest.guest.memory_mib))
}

fn short(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_say_of_a_host_is_checked() {
        let spec = |domain: &str, key: &str, value: &str| wire::HostSpec {
            failure_domain: domain.to_owned(),
            labels: [(key.to_owned(), value.to_owned())].into(),
            ..wire::HostSpec::default()
        };
        let all: Vec<String> = FIELDS.map(str::to_owned).to_vec();
        let (domain, labels) = fields(spec("rack-1", "vidi.io/gpu", "A 40"), &all).unwrap();
        assert_eq!(domain.as_deref(), Some("rack-1"));
        assert_eq!(labels.unwrap().get("vidi.io/gpu").map(String::as_str), Some("A 40"));
        let (domain, labels) = fields(spec("r", "K", ""), &all[..1]).unwrap();
        assert_eq!((domain.as_deref(), labels), (Some("r"), None), "only what is named");
        assert!(fields(spec("Rack", "", ""), &[]).is_err(), "all is named");
        let (domain, _) = fields(spec("", "k", ""), &all).unwrap();
        assert_eq!(domain.as_deref(), Some(""), "it fails alone");
        for (domain, key, value) in [
            ("Rack 1", "k", "v"),
            ("rack", "", "v"),
            ("rack", "K", "v"),
            ("rack", "k", "a\nb"),
            ("rack", &"k".repeat(64), "v"),
            ("rack", "k", &"v".repeat(64)),
        ] {
            assert!(fields(spec(domain, key, value), &all).is_err(), "{domain} {key} {value}");
        }
        let wrong = fields(wire::HostSpec::default(), &["spec.cordoned".to_owned()]).unwrap_err();
        assert!(wrong.message().contains("spec.cordoned"), "{wrong}");
    }
}
