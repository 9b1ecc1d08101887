//! Decisions on templates.

use vidi_kit::ids::{TemplateId, TenantId};

use super::decide::{Decided, View};
use super::users::unreachable_change;
use crate::model::{Answer, Change, Key, Refusal, Row, Step, Template, TemplateVersion, World};

/// Versions of one template; few enough to remove all in one commit.
pub const VERSIONS_PER_TEMPLATE_MAX: usize = 64;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::PutTemplate { tenant, template, display_name, digest, manifest } => {
            let world = view.world;
            if !world.tenants.contains_key(&tenant) {
                return Err(Refusal::not_found("tenant", tenant));
            }
            let old = world.template(&tenant, &template);
            let display_name = match old {
                _ if !display_name.is_empty() => display_name,
                Some(old) => old.display_name.clone(),
                None => template.to_string(),
            };
            let create_ms = old.map_or(view.now_ms, |old| old.create_ms);
            let record = Template { display_name, latest_digest: digest.clone(), create_ms };
            let mut rows = vec![Row::Template(tenant.clone(), template.clone(), record)];
            if world.version(&tenant, &template, &digest).is_none() {
                if VERSIONS_PER_TEMPLATE_MAX <= world.versions_of(&tenant, &template).count() {
                    let what = "versions of this template";
                    let limit = VERSIONS_PER_TEMPLATE_MAX;
                    return Err(Refusal::LimitExceeded { what, limit });
                }
                let version = TemplateVersion { manifest, create_ms: view.now_ms };
                rows.push(Row::Version(tenant, template, digest, version));
            }
            Ok(Decided::rows(Answer::Done, rows))
        }
        Change::DeleteTemplate { tenant, template, etag } => {
            delete(view.world, tenant, template, &etag)
        }
        other => unreachable_change(&other),
    }
}

fn delete(
    world: &World,
    tenant: TenantId,
    template: TemplateId,
    etag: &str,
) -> Result<Decided, Refusal> {
    let old = world.template(&tenant, &template);
    let old = old.ok_or_else(|| Refusal::not_found("template", &template))?;
    if !etag.is_empty() && etag != World::template_etag(old) {
        return Err(Refusal::EtagStale { kind: "template", id: template.to_string() });
    }
    let mut desktops = world.desktops.iter();
    if desktops.any(|((of, _), desktop)| *of == tenant && desktop.spec.template == template) {
        return Err(Refusal::WrongState {
            kind: "template",
            id: template.to_string(),
            state: "used by desktops".to_owned(),
            remedy: "delete those first",
        });
    }
    if let Some((id, _)) =
        world.pools_of(&tenant).find(|(_, pool)| pool.settings.template == template)
    {
        return Err(Refusal::WrongState {
            kind: "template",
            id: template.to_string(),
            state: format!("used by pool \"{id}\""),
            remedy: "delete the pools of it first",
        });
    }
    let versions = world.versions_of(&tenant, &template).map(|(digest, _)| {
        Step::Delete(Key::Version(tenant.clone(), template.clone(), digest.clone()))
    });
    let mut steps: Vec<Step> = versions.collect();
    steps.push(Step::Delete(Key::Template(tenant, template)));
    Ok(Decided { answer: Answer::Done, steps })
}
