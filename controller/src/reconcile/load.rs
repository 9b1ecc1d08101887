//! Reads everything that is stored into a new world.

use std::collections::BTreeSet;

use vidi_kit::ids::{HostId, TemplateId, TenantId};

use crate::model::{Row, World};
use crate::ports::{LIST_ENTRIES_MAX, Store, StoreError};
use crate::records;

/// The world as it is stored. Only a leader's reading is whole: nobody else writes meanwhile.
pub(super) async fn load(store: &dyn Store, now_ms: i64) -> Result<World, StoreError> {
    let mut world = World { started_ms: now_ms, ..World::default() };
    let mut after = String::new();
    let mut shared = Shared::default();
    loop {
        let page = store.list("", &after, LIST_ENTRIES_MAX).await?;
        for entry in &page.entries {
            let row = records::row(&entry.key, &entry.value, now_ms)
                .map_err(|error| StoreError::Damaged(error.to_string()))?;
            if let Some(mut row) = row {
                shared.share(&mut row);
                world.put(row);
            }
        }
        match page.entries.into_iter().next_back() {
            Some(last) if page.more => after = last.key,
            Some(_) | None => break,
        }
    }
    world.alive_before_ms = world.alive_ms;
    Ok(world)
}

/// Ids that many rows name: each text is kept once, and not once by each of a hundred thousand desktops.
#[derive(Default)]
struct Shared {
    tenants: BTreeSet<TenantId>,
    templates: BTreeSet<TemplateId>,
    hosts: BTreeSet<HostId>,
}

impl Shared {
    fn share(&mut self, row: &mut Row) {
        match row {
            Row::Spec(tenant, _, spec) => {
                keep_one(&mut self.tenants, tenant);
                keep_one(&mut self.templates, &mut spec.template);
            }
            Row::Status(tenant, _, status) => {
                keep_one(&mut self.tenants, tenant);
                if let Some(host) = &mut status.host {
                    keep_one(&mut self.hosts, host);
                }
            }
            Row::Allocation(host, _, allocation) => {
                keep_one(&mut self.hosts, host);
                keep_one(&mut self.tenants, &mut allocation.tenant);
            }
            Row::Session(tenant, ..) => keep_one(&mut self.tenants, tenant),
            Row::Usage(key, _) => keep_one(&mut self.tenants, &mut key.tenant),
            _there_are_few_of_these => {}
        }
    }
}

fn keep_one<T: Ord + Clone>(known: &mut BTreeSet<T>, id: &mut T) {
    match known.get(id) {
        Some(one) => id.clone_from(one),
        None => drop(known.insert(id.clone())),
    }
}
