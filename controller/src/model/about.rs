//! What a change is about, for the audit log: the name of the resource, and what else is worth knowing.

use std::collections::BTreeSet;

use vidi_kit::ids::UserId;

use super::change::{Change, DesktopTarget};
use super::group::GroupChange;
use super::pool::{PoolSettings, PoolUsers};
use super::quota::Quota;
use super::rollout::RolloutChange;
use super::template::TemplateChange;

/// What a change is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The resource's name; of one that is made under an id of ours its collection's.
    pub target: String,
    /// What is asked for, where the method does not say it.
    pub detail: String,
    /// Who asks, where that follows from the change; empty: it does not.
    pub who: String,
}

impl About {
    fn of(target: impl std::fmt::Display) -> Self {
        Self { target: target.to_string(), ..Self::default() }
    }

    fn with(self, detail: impl std::fmt::Display) -> Self {
        Self { detail: detail.to_string(), ..self }
    }
}

/// Whether a change only asks whether it would be possible: that is not written down.
pub fn only_asks(change: &Change) -> bool {
    match change {
        Change::CreateDesktop { validate_only, .. }
        | Change::CreateMachine { validate_only, .. }
        | Change::UpdateMachine { validate_only, .. }
        | Change::CreatePool { validate_only, .. }
        | Change::UpdatePool { validate_only, .. }
        | Change::UpdateTenant { validate_only, .. }
        | Change::Group(_, _, GroupChange::Create { validate_only, .. })
        | Change::Rollout(RolloutChange::Create { validate_only, .. }) => *validate_only,
        Change::Batch(batch) => batch.validate_only,
        _ => false,
    }
}

/// What a change is about; news of links are about nothing.
pub fn about(change: &Change) -> About {
    match change {
        Change::CreateTenant { .. }
        | Change::UpdateTenant { .. }
        | Change::SetBranding { .. }
        | Change::SetHostRule { .. }
        | Change::DeleteTenant { .. } => of_tenant(change),
        Change::CreateUser { .. }
        | Change::UpdateUser { .. }
        | Change::DeleteUser { .. }
        | Change::SetPasswordHash { .. }
        | Change::CreateSignIn { .. }
        | Change::DeleteSignIn { .. }
        | Change::CreateEnrollToken { .. }
        | Change::UseEnrollToken { .. } => of_user(change),
        Change::Group(tenant, group, change) => {
            About::of(format_args!("tenants/{tenant}/groups/{group}")).with(of_group(change))
        }
        Change::PutTemplate { tenant, template, digest, .. } => {
            About::of(format_args!("tenants/{tenant}/templates/{template}")).with(digest)
        }
        Change::DeleteTemplate { tenant, template, .. } => {
            About::of(format_args!("tenants/{tenant}/templates/{template}"))
        }
        Change::Template(change) => of_template(change),
        Change::Rollout(change) => of_rollout(change),
        Change::Batch(batch) => About::of(format_args!("tenants/{}/desktops", batch.tenant))
            .with(format_args!("{} {}", batch.kind.as_str(), batch.filter)),
        Change::CancelBatch(id) => About::of(format_args!("operations/{id}")),
        Change::Message { tenant, session, .. } => {
            About::of(format_args!("tenants/{tenant}/sessions/{session}"))
        }
        Change::CreateDesktop { .. }
        | Change::UpdateDesktop { .. }
        | Change::AssignDesktop { .. }
        | Change::StartDesktop { .. }
        | Change::StopDesktop { .. }
        | Change::RestartDesktop { .. }
        | Change::DeleteDesktop { .. } => of_desktop(change),
        Change::CreateMachine { .. }
        | Change::UpdateMachine { .. }
        | Change::DeleteMachine { .. } => of_machine(change),
        Change::CreatePool { .. }
        | Change::UpdatePool { .. }
        | Change::DeletePool { .. }
        | Change::ResumePool { .. } => of_pool(change),
        Change::OpenApp { tenant, app, user, .. } => {
            About::of(format_args!("tenants/{tenant}/apps/{app}"))
                .with(format_args!("for user {user}"))
        }
        Change::ReleaseSession { tenant, session, cause } => {
            About::of(format_args!("tenants/{tenant}/sessions/{session}")).with(cause)
        }
        Change::UpdateHost { .. }
        | Change::CordonHost { .. }
        | Change::UncordonHost { .. }
        | Change::DrainHost { .. }
        | Change::DeleteHost { .. }
        | Change::RemoveUnknownDesktop { .. } => of_host(change),
        // What daemons say, and what the log itself is told.
        Change::IssueGrant { .. }
        | Change::HostLinked { .. }
        | Change::HostReported { .. }
        | Change::HostUnlinked { .. }
        | Change::GatewayPresence { .. }
        | Change::GatewayUnlinked { .. }
        | Change::Refused(_)
        | Change::PutGrantKey { .. } => About::default(),
    }
}

fn of_tenant(change: &Change) -> About {
    match change {
        Change::CreateTenant { tenant, record, .. } => {
            About::of(format_args!("tenants/{tenant}")).with(said(&record.quota))
        }
        Change::UpdateTenant { tenant, quota, .. } => {
            let detail = quota.as_ref().map(said).unwrap_or_default();
            About::of(format_args!("tenants/{tenant}")).with(detail)
        }
        Change::DeleteTenant { tenant, .. } => About::of(format_args!("tenants/{tenant}")),
        Change::SetBranding { tenant, branding } => About::of(format_args!("tenants/{tenant}"))
            .with(format_args!("branding {}", branding.product_name)),
        Change::SetHostRule { tenant, target, labels } => {
            let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
            let labels: Vec<String> = labels.collect();
            About::of(target.name(tenant)).with(format_args!("labels {}", labels.join(" ")))
        }
        _ => About::default(),
    }
}

fn said(quota: &Quota) -> String {
    let limits = quota.limits.iter().map(|(kind, limit)| format!("{}={limit}", kind.as_str()));
    format!("quota {}", limits.collect::<Vec<_>>().join(" "))
}

fn of_user(change: &Change) -> About {
    let name = |tenant, user| format!("tenants/{tenant}/users/{user}");
    match change {
        Change::CreateUser { tenant, user, record, .. } => {
            About::of(name(tenant, user)).with(format_args!("roles {}", record.roles.join(",")))
        }
        Change::UpdateUser { tenant, user, roles, .. } => {
            let roles = roles.as_ref().map(|roles| format!("roles {}", roles.join(",")));
            About::of(name(tenant, user)).with(roles.unwrap_or_default())
        }
        Change::DeleteUser { tenant, user, .. } | Change::SetPasswordHash { tenant, user, .. } => {
            About::of(name(tenant, user))
        }
        Change::CreateSignIn { record, .. } => {
            let who = name(&record.tenant, &record.user);
            About { who: who.clone(), ..About::of(who) }
        }
        Change::CreateEnrollToken { record, .. } => {
            About::of("enrollTokens").with(format_args!("{} {}", record.role, record.id))
        }
        Change::UseEnrollToken { role, id, .. } => {
            let who = "daemon".to_owned();
            About { who, ..About::of("enrollTokens").with(format_args!("{role} {id}")) }
        }
        _ => About::default(),
    }
}

fn of_group(change: &GroupChange) -> String {
    let listed =
        |users: &BTreeSet<UserId>| users.iter().map(UserId::as_str).collect::<Vec<_>>().join(" ");
    match change {
        GroupChange::Create { settings, .. } | GroupChange::Update { settings, .. } => {
            let opens = settings.opens.iter().map(ToString::to_string).collect::<Vec<_>>();
            format!("roles {} opens {}", settings.roles.join(","), opens.join(" "))
        }
        GroupChange::Delete { .. } => String::new(),
        GroupChange::Add(users) => format!("with {}", listed(users)),
        GroupChange::Remove(users) => format!("without {}", listed(users)),
    }
}

fn of_template(change: &TemplateChange) -> About {
    let name = |tenant, template| format!("tenants/{tenant}/templates/{template}");
    match change {
        TemplateChange::Publish { tenant, template, digest, .. }
        | TemplateChange::DeleteVersion { tenant, template, digest } => {
            About::of(name(tenant, template)).with(digest)
        }
        TemplateChange::RollBack { tenant, template, .. } => About::of(name(tenant, template)),
    }
}

fn of_rollout(change: &RolloutChange) -> About {
    match change {
        RolloutChange::Create { tenant, pool, digest, .. } => {
            About::of(format_args!("tenants/{tenant}/pools/{pool}")).with(digest)
        }
        RolloutChange::Steer { tenant, rollout, course, .. } => {
            About::of(format_args!("tenants/{tenant}/rollouts/{rollout}"))
                .with(format_args!("{course:?}"))
        }
    }
}

fn of_desktop(change: &Change) -> About {
    let name =
        |target: &DesktopTarget| format!("tenants/{}/desktops/{}", target.tenant, target.desktop);
    let forced = |force: bool| if force { "by force" } else { "" };
    match change {
        Change::CreateDesktop { tenant, template, assigned_user, .. } => {
            let user = assigned_user.as_ref().map(|user| format!(" for user {user}"));
            About::of(format_args!("tenants/{tenant}/desktops"))
                .with(format_args!("of template {template}{}", user.unwrap_or_default()))
        }
        Change::UpdateDesktop { target, .. }
        | Change::StartDesktop { target }
        | Change::DeleteDesktop { target } => About::of(name(target)),
        Change::AssignDesktop { target, user, .. } => {
            let user = user.as_ref().map(|user| format!("to user {user}"));
            About::of(name(target)).with(user.unwrap_or_else(|| "to nobody".to_owned()))
        }
        Change::StopDesktop { target, force } | Change::RestartDesktop { target, force } => {
            About::of(name(target)).with(forced(*force))
        }
        _ => About::default(),
    }
}

fn of_machine(change: &Change) -> About {
    match change {
        Change::CreateMachine { tenant, settings, .. } => {
            About::of(format_args!("tenants/{tenant}/machines")).with(&settings.address)
        }
        Change::UpdateMachine { tenant, machine, settings, .. } => {
            About::of(format_args!("tenants/{tenant}/machines/{machine}")).with(&settings.address)
        }
        Change::DeleteMachine { tenant, machine, .. } => {
            About::of(format_args!("tenants/{tenant}/machines/{machine}"))
        }
        _ => About::default(),
    }
}

fn of_pool(change: &Change) -> About {
    match change {
        Change::CreatePool { tenant, pool, settings, .. }
        | Change::UpdatePool { tenant, pool, settings, .. } => {
            let PoolSettings { min_spare, max_desktops, users, .. } = &**settings;
            let users = match users {
                PoolUsers::Everyone => "everyone".to_owned(),
                PoolUsers::Listed(users) => format!("{} users", users.len()),
            };
            About::of(format_args!("tenants/{tenant}/pools/{pool}"))
                .with(format_args!("min_spare={min_spare} max_desktops={max_desktops} for {users}"))
        }
        Change::DeletePool { tenant, pool, force, .. } => {
            About::of(format_args!("tenants/{tenant}/pools/{pool}")).with(if *force {
                "by force"
            } else {
                ""
            })
        }
        Change::ResumePool { tenant, pool, .. } => {
            About::of(format_args!("tenants/{tenant}/pools/{pool}"))
        }
        _ => About::default(),
    }
}

fn of_host(change: &Change) -> About {
    match change {
        Change::UpdateHost { host, failure_domain, labels, .. } => {
            let domain = failure_domain.as_ref().map(|domain| format!("domain={domain} "));
            let labels = labels.iter().flatten().map(|(name, value)| format!("{name}={value}"));
            let labels = labels.collect::<Vec<_>>().join(" ");
            About::of(format_args!("hosts/{host}"))
                .with(format_args!("{}{labels}", domain.unwrap_or_default()))
        }
        Change::CordonHost { host, .. }
        | Change::UncordonHost { host, .. }
        | Change::DeleteHost { host, .. } => About::of(format_args!("hosts/{host}")),
        Change::DrainHost { host, stop_in_use, .. } => About::of(format_args!("hosts/{host}"))
            .with(if *stop_in_use { "sessions are ended" } else { "" }),
        Change::RemoveUnknownDesktop { host, desktop } => {
            About::of(format_args!("hosts/{host}")).with(format_args!("desktop {desktop}"))
        }
        _ => About::default(),
    }
}
