//! Tenants, people and the audit log as the store keeps them.

use std::collections::BTreeSet;

use bytes::Bytes;
use vidi_kit::ids::IdError;
use vidi_proto::store::v1 as stored;

use super::RecordError;
use super::reading::Reader;
use super::writing::encode;
use crate::model::audit::{AuditBlock, AuditHead};
use crate::model::branding::Branding;
use crate::model::group::{Group, GroupSettings};
use crate::model::host_rule::RuleTarget;
use crate::model::{Place, Quota, QuotaKind, Row, Tenant};

/// The value of a row of these kinds.
pub(super) fn value(row: &Row) -> Bytes {
    match row {
        Row::Tenant(_, one) => encode(&tenant_to_stored(one)),
        Row::Branding(_, one) => encode(&stored::Branding {
            product_name: one.product_name.clone(),
            accent: one.accent.clone(),
            accent_dark: one.accent_dark.clone(),
            logo: one.logo.clone(),
        }),
        Row::User(_, _, one) => encode(&stored::User {
            display_name: one.display_name.clone(),
            roles: one.roles.clone(),
            password_hash: one.password_hash.clone(),
            create_ms: one.create_ms,
        }),
        Row::Group(_, _, one) => encode(&group_to_stored(one)),
        Row::Member(_, _, _, create_ms) => encode(&stored::Member { create_ms: *create_ms }),
        Row::SignIn(_, one) => encode(&stored::SignIn {
            tenant: one.tenant.to_string(),
            user: one.user.to_string(),
            create_ms: one.create_ms,
            expire_ms: one.expire_ms,
        }),
        Row::EnrollToken(_, one) => encode(&stored::EnrollToken {
            role: one.role.clone(),
            id: one.id.clone(),
            expire_ms: one.expire_ms,
            used: one.used,
        }),
        Row::HostRule(_, _, labels) => {
            encode(&stored::HostRule { labels: labels.clone().into_iter().collect() })
        }
        Row::Audit(_, one) => encode(&audit_block_to_stored(one)),
        Row::AuditHead(one) => encode(&audit_head_to_stored(one)),
        other => unreachable!("a row of another kind was sent here: {:?}", other.key()),
    }
}

impl Reader<'_> {
    /// The row of an entry of these kinds; none of any other.
    pub(super) fn of_tenancy(&self, parts: &[&str]) -> Result<Option<Row>, RecordError> {
        Ok(Some(match parts {
            ["tenant", tenant] => {
                Row::Tenant(self.id(tenant)?, tenant_from_stored(self.message()?))
            }
            ["branding", tenant] => {
                let stored::Branding { product_name, accent, accent_dark, logo } =
                    self.message()?;
                let one = Branding { product_name, accent, accent_dark, logo };
                Row::Branding(self.id(tenant)?, one)
            }
            ["user", tenant, user] => Row::User(self.id(tenant)?, self.id(user)?, self.user()?),
            ["group", tenant, group] => {
                let one = group_from_stored(self.message()?).map_err(|error| self.error(error))?;
                Row::Group(self.id(tenant)?, self.id(group)?, one)
            }
            ["member", tenant, group, user] => {
                let create_ms = self.message::<stored::Member>()?.create_ms;
                Row::Member(self.id(tenant)?, self.id(group)?, self.id(user)?, create_ms)
            }
            ["signin", hash] => Row::SignIn((*hash).to_owned(), self.sign_in()?),
            ["enroll", hash] => Row::EnrollToken((*hash).to_owned(), self.enroll_token()?),
            ["hostrule", tenant, target @ ..] => {
                let target = match target {
                    [] => RuleTarget::Tenant,
                    ["template", id] => RuleTarget::Template(self.id(id)?),
                    ["pool", id] => RuleTarget::Pool(self.id(id)?),
                    _ => return Ok(None),
                };
                let labels = self.message::<stored::HostRule>()?.labels.into_iter().collect();
                Row::HostRule(self.id(tenant)?, target, labels)
            }
            ["audit", number] => {
                let number = u64::from_str_radix(number, 16).map_err(|error| self.error(error))?;
                let block = audit_block_from_stored(self.message()?);
                Row::Audit(number, block.ok_or_else(|| self.error("hash"))?)
            }
            ["meta", "audit"] => {
                let head = audit_head_from_stored(self.message()?);
                Row::AuditHead(head.ok_or_else(|| self.error("hash"))?)
            }
            _ => return Ok(None),
        }))
    }
}

/// A tenant with its quota.
fn tenant_to_stored(one: &Tenant) -> stored::Tenant {
    let limit = |kind| one.quota.limits.get(&kind).copied();
    stored::Tenant {
        display_name: one.display_name.clone(),
        create_ms: one.create_ms,
        desktops_max: limit(QuotaKind::Desktops),
        running_desktops_max: limit(QuotaKind::RunningDesktops),
        vcpus_max: limit(QuotaKind::Vcpus),
        memory_mib_max: limit(QuotaKind::MemoryMib),
        sessions_max: limit(QuotaKind::Sessions),
    }
}

/// See [`tenant_to_stored`].
fn tenant_from_stored(one: stored::Tenant) -> Tenant {
    let limits = [
        (QuotaKind::Desktops, one.desktops_max),
        (QuotaKind::RunningDesktops, one.running_desktops_max),
        (QuotaKind::Vcpus, one.vcpus_max),
        (QuotaKind::MemoryMib, one.memory_mib_max),
        (QuotaKind::Sessions, one.sessions_max),
    ];
    let limits = limits.into_iter().filter_map(|(kind, limit)| Some((kind, limit?)));
    Tenant {
        display_name: one.display_name,
        create_ms: one.create_ms,
        quota: Quota { limits: limits.collect() },
    }
}

/// A group, without its members.
fn group_to_stored(one: &Group) -> stored::Group {
    let (mut pools, mut desktops) = (Vec::new(), Vec::new());
    for place in &one.settings.opens {
        match place {
            Place::Pool(id) => pools.push(id.to_string()),
            Place::Desktop(id) => desktops.push(id.to_string()),
            Place::Machine(_) => {}
        }
    }
    stored::Group {
        display_name: one.settings.display_name.clone(),
        roles: one.settings.roles.clone(),
        pools,
        desktops,
        create_ms: one.create_ms,
        generation: one.generation,
    }
}

/// See [`group_to_stored`].
fn group_from_stored(one: stored::Group) -> Result<Group, IdError> {
    let mut opens = BTreeSet::new();
    for id in &one.pools {
        opens.insert(Place::Pool(id.parse()?));
    }
    for id in &one.desktops {
        opens.insert(Place::Desktop(id.parse()?));
    }
    let settings = GroupSettings { display_name: one.display_name, roles: one.roles, opens };
    Ok(Group { settings, create_ms: one.create_ms, generation: one.generation })
}

/// A block of the audit log.
fn audit_block_to_stored(one: &AuditBlock) -> stored::AuditBlock {
    stored::AuditBlock {
        previous_sha256: one.previous.to_vec(),
        sha256: one.sha256.to_vec(),
        text: one.text.clone(),
    }
}

/// See [`audit_block_to_stored`]; none: what is there is no hash.
fn audit_block_from_stored(one: stored::AuditBlock) -> Option<AuditBlock> {
    Some(AuditBlock {
        previous: hash(&one.previous_sha256)?,
        sha256: hash(&one.sha256)?,
        text: one.text,
    })
}

/// Both ends of the audit log.
fn audit_head_to_stored(one: &AuditHead) -> stored::AuditHead {
    stored::AuditHead {
        number: one.number,
        sha256: one.sha256.to_vec(),
        base_number: one.base_number,
        base_sha256: one.base_sha256.to_vec(),
    }
}

/// See [`audit_head_to_stored`].
fn audit_head_from_stored(one: stored::AuditHead) -> Option<AuditHead> {
    Some(AuditHead {
        number: one.number,
        sha256: hash(&one.sha256)?,
        base_number: one.base_number,
        base_sha256: hash(&one.base_sha256)?,
    })
}

fn hash(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::audit::AuditEntry;
    use crate::records::{key, row, value};

    #[test]
    fn tenants_groups_and_the_audit_log_survive_their_stored_form() {
        let limits = [(QuotaKind::Desktops, 0), (QuotaKind::MemoryMib, 9)];
        let quota = Quota { limits: limits.into() };
        let tenant = Tenant { display_name: "T".to_owned(), create_ms: 5, quota };
        let (number, block) = AuditBlock::behind(&AuditHead::default(), &[AuditEntry::default()]);
        let head = AuditHead { number, sha256: block.sha256, base_number: 3, base_sha256: [7; 32] };
        let opens = [
            Place::Pool("lab".parse().unwrap()),
            Place::Desktop(vidi_kit::ids::DesktopId::generate()),
        ];
        let roles = vec!["admin".to_owned()];
        let settings = GroupSettings { display_name: "G".to_owned(), roles, opens: opens.into() };
        let group = Group { settings, create_ms: 5, generation: 2 };
        let branding =
            Branding { product_name: "School".to_owned(), logo: vec![1; 9], ..Branding::default() };
        let of = || ("t".parse().unwrap(), "g".parse().unwrap());
        let labels = || [("gpu".to_owned(), "yes".to_owned())].into();
        for one in [
            Row::Group(of().0, of().1, group),
            Row::Branding(of().0, branding),
            Row::HostRule(of().0, RuleTarget::Tenant, labels()),
            Row::HostRule(of().0, RuleTarget::Template("x".parse().unwrap()), labels()),
            Row::HostRule(of().0, RuleTarget::Pool("p".parse().unwrap()), labels()),
            Row::Member(of().0, of().1, "ana".parse().unwrap(), 8),
            Row::Tenant("t".parse().unwrap(), tenant),
            Row::Audit(number, block),
            Row::AuditHead(head),
        ] {
            assert_eq!(row(&key(&one.key()), &value(&one), 7).unwrap(), Some(one));
        }
        assert!(row("audit/1", b"", 0).is_err());
    }
}
