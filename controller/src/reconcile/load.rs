//! Reads everything that is stored into a new world.

use crate::model::World;
use crate::ports::{LIST_ENTRIES_MAX, Store, StoreError};
use crate::records;

/// The world as it is stored. Only a leader's reading is whole: nobody else writes meanwhile.
pub(super) async fn load(store: &dyn Store, now_ms: i64) -> Result<World, StoreError> {
    let mut world = World { started_ms: now_ms, ..World::default() };
    let mut after = String::new();
    loop {
        let page = store.list("", &after, LIST_ENTRIES_MAX).await?;
        for entry in &page.entries {
            let row = records::row(&entry.key, &entry.value, now_ms)
                .map_err(|error| StoreError::Damaged(error.to_string()))?;
            if let Some(row) = row {
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
