//! Decisions on templates and their versions. Versions never change; one of them is published: new desktops
//! get it.

use vidi_kit::ids::{TemplateId, TenantId};

use super::decide::{Decided, View};
use super::host_rules;
use super::users::unreachable_change;
use crate::model::host_rule::RuleTarget;
use crate::model::template::PUBLISHED_BEFORE_MAX;
use crate::model::{
    Answer, Change, Key, Refusal, Row, Step, Template, TemplateChange, TemplateVersion, World,
};

/// Versions of one template; few enough to remove all in one commit.
pub const VERSIONS_PER_TEMPLATE_MAX: usize = 64;

/// Decides the changes of its kind.
pub(super) fn decide(view: View<'_>, change: Change) -> Result<Decided, Refusal> {
    match change {
        Change::PutTemplate { tenant, template, display_name, digest, manifest, draft } => {
            let world = view.world;
            if !world.tenants.contains_key(&tenant) {
                return Err(Refusal::not_found("tenant", tenant));
            }
            let old = world.template(&tenant, &template).map(|old| &**old);
            let name = match old {
                _ if !display_name.is_empty() => display_name,
                Some(old) => old.display_name.clone(),
                None => template.to_string(),
            };
            // A template has always a version that is published: its first one is.
            let record = match old {
                Some(old) if draft => old.clone(),
                Some(old) => published(old, &digest, view.now_ms),
                None => Template {
                    display_name: String::new(),
                    latest_digest: digest.clone(),
                    create_ms: view.now_ms,
                    publish_ms: view.now_ms,
                    published_before: Vec::new(),
                },
            };
            let record = Template { display_name: name, ..record };
            let mut rows = vec![Row::Template(tenant.clone(), template.clone(), record)];
            if world.version(&tenant, &template, &digest).is_none() {
                if VERSIONS_PER_TEMPLATE_MAX <= world.versions_of(&tenant, &template).count() {
                    let what = "versions of this template (delete those that nothing uses)";
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
        Change::Template(change) => choose(view, change),
        other => unreachable_change(&other),
    }
}

/// The template with this version published. What is published already stays so, since when it was.
fn published(old: &Template, digest: &str, now_ms: i64) -> Template {
    let mut new = old.clone();
    if old.latest_digest == digest {
        return new;
    }
    new.published_before.push(old.latest_digest.clone());
    let surplus = new.published_before.len().saturating_sub(PUBLISHED_BEFORE_MAX);
    new.published_before.drain(..surplus);
    digest.clone_into(&mut new.latest_digest);
    // Later than any order before it, so that it counts more.
    new.publish_ms = now_ms.max(old.publish_ms + 1);
    new
}

fn choose(view: View<'_>, change: TemplateChange) -> Result<Decided, Refusal> {
    let world = view.world;
    let (tenant, template, new) = match change {
        TemplateChange::Publish { tenant, template, digest, etag } => {
            let old = checked(world, &tenant, &template, &etag)?;
            if world.version(&tenant, &template, &digest).is_none() {
                return Err(Refusal::not_found("version", digest));
            }
            // Named again it is a new order: it counts more than the roll-outs since.
            let mut new = published(old, &digest, view.now_ms);
            new.publish_ms = view.now_ms.max(old.publish_ms + 1);
            (tenant, template, new)
        }
        TemplateChange::RollBack { tenant, template, etag } => {
            let old = checked(world, &tenant, &template, &etag)?;
            let mut new = old.clone();
            let Some(before) = new.published_before.pop() else {
                return Err(Refusal::WrongState {
                    kind: "template",
                    id: template.to_string(),
                    state: "at its first published version".to_owned(),
                    remedy: "publish another one of its versions",
                });
            };
            new.latest_digest = before;
            new.publish_ms = view.now_ms.max(old.publish_ms + 1);
            (tenant, template, new)
        }
        TemplateChange::DeleteVersion { tenant, template, digest } => {
            return delete_version(world, tenant, template, digest);
        }
    };
    Ok(Decided::rows(Answer::Done, [Row::Template(tenant, template, new)]))
}

fn delete_version(
    world: &World,
    tenant: TenantId,
    template: TemplateId,
    digest: String,
) -> Result<Decided, Refusal> {
    let old = checked(world, &tenant, &template, "")?;
    if world.version(&tenant, &template, &digest).is_none() {
        return Err(Refusal::not_found("version", digest));
    }
    if let Some(user) = user_of(world, &tenant, (&template, old), &digest) {
        return Err(Refusal::WrongState {
            kind: "version",
            id: digest,
            state: user,
            remedy: "delete it when nothing uses it any more",
        });
    }
    let mut left = old.clone();
    left.published_before.retain(|before| *before != digest);
    let mut steps = Vec::new();
    if left != *old {
        steps.push(Step::Put(Row::Template(tenant.clone(), template.clone(), left)));
    }
    steps.push(Step::Delete(Key::Version(tenant, template, digest)));
    Ok(Decided { answer: Answer::Done, steps })
}

/// What needs a version, for people.
fn user_of(
    world: &World,
    tenant: &TenantId,
    (id, template): (&TemplateId, &Template),
    digest: &str,
) -> Option<String> {
    if template.latest_digest == digest {
        return Some("published".to_owned());
    }
    let has = |desktop: &crate::model::Desktop| {
        desktop.spec.template == *id && desktop.spec.template_digest == digest
    };
    if world.desktops_in(tenant).any(|(_, desktop)| has(desktop)) {
        return Some("used by desktops".to_owned());
    }
    let pools = world.pools_of(tenant).filter(|(_, pool)| pool.settings.template == *id);
    for (pool, one) in pools {
        let pinned = one.pin.as_ref().is_some_and(|pin| pin.digest == digest);
        let tried = one.trial.as_ref().is_some_and(|trial| trial.digest == digest);
        if pinned || tried {
            return Some(format!("the version of pool \"{pool}\", by a roll-out"));
        }
    }
    None
}

fn checked<'a>(
    world: &'a World,
    tenant: &TenantId,
    template: &TemplateId,
    etag: &str,
) -> Result<&'a Template, Refusal> {
    let old = world.template(tenant, template);
    let old = old.ok_or_else(|| Refusal::not_found("template", template))?;
    if !etag.is_empty() && etag != World::template_etag(old) {
        return Err(Refusal::EtagStale { kind: "template", id: template.to_string() });
    }
    Ok(old)
}

fn delete(
    world: &World,
    tenant: TenantId,
    template: TemplateId,
    etag: &str,
) -> Result<Decided, Refusal> {
    checked(world, &tenant, &template, etag)?;
    let refused = |state: String, remedy| {
        Err(Refusal::WrongState { kind: "template", id: template.to_string(), state, remedy })
    };
    if world.desktops_in(&tenant).any(|(_, desktop)| desktop.spec.template == template) {
        return refused("used by desktops".to_owned(), "delete those first");
    }
    if let Some((id, _)) =
        world.pools_of(&tenant).find(|(_, pool)| pool.settings.template == template)
    {
        return refused(format!("used by pool \"{id}\""), "delete the pools of it first");
    }
    let versions = world.versions_of(&tenant, &template).map(|(digest, _)| {
        Step::Delete(Key::Version(tenant.clone(), template.clone(), digest.clone()))
    });
    let mut steps: Vec<Step> = versions.collect();
    steps.extend(host_rules::without(world, &tenant, RuleTarget::Template(template.clone())));
    steps.push(Step::Delete(Key::Template(tenant, template)));
    Ok(Decided { answer: Answer::Done, steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_before_is_remembered_within_bounds() {
        let mut template = Template {
            display_name: "T".to_owned(),
            latest_digest: "0".to_owned(),
            create_ms: 0,
            publish_ms: 5,
            published_before: Vec::new(),
        };
        for number in 1..=PUBLISHED_BEFORE_MAX + 3 {
            // The clock stands still: an order is later than the one before it nevertheless.
            template = published(&template, &number.to_string(), 0);
        }
        assert_eq!(template.published_before.len(), PUBLISHED_BEFORE_MAX);
        assert_eq!(template.published_before.last().unwrap(), "18");
        assert_eq!(template.publish_ms, 5 + 19);
        assert_eq!(published(&template, "19", 99), template);
    }
}
