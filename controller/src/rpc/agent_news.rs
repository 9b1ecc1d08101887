//! Wakes an agent's link when something about its host changed, and no other one: thousands of links need
//! not look at every snapshot.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use vidi_kit::Tasks;
use vidi_kit::ids::HostId;

use crate::model::World;

/// The links that are open. Each hears of its host until the snapshots end.
#[derive(Debug, Default)]
pub(super) struct HostNews {
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    /// By host, and by the link's number: an old link may end after the new one began.
    open: BTreeMap<(HostId, u64), watch::Sender<()>>,
    /// There are no more snapshots: nobody leads here any more.
    ended: bool,
}

impl HostNews {
    /// Follows the snapshots from now on.
    pub(super) fn start(tasks: &Tasks, worlds: watch::Receiver<Arc<World>>) -> Arc<Self> {
        let news = Arc::new(Self::default());
        let (following, stop) = (Arc::clone(&news), tasks.stop_token());
        let _following = tasks.spawn("agent-news", async move {
            // Cancel-safe: links end by the same token.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = following.follow(worlds) => {}
            }
        });
        news
    }

    /// What a link waits on; to be had before it first looks at a snapshot. It fails when there are no
    /// more.
    pub(super) fn subscribe(&self, host: &HostId, link: u64) -> watch::Receiver<()> {
        let (sender, receiver) = watch::channel(());
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if !links.ended {
            links.open.insert((host.clone(), link), sender);
        }
        receiver
    }

    /// The link is over.
    pub(super) fn unsubscribe(&self, host: &HostId, link: u64) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.open.remove(&(host.clone(), link));
    }

    async fn follow(&self, mut worlds: watch::Receiver<Arc<World>>) {
        let mut before = Arc::clone(&worlds.borrow_and_update());
        self.tell(None);
        while worlds.changed().await.is_ok() {
            let now = Arc::clone(&worlds.borrow_and_update());
            let same_keys = now.grant_keys.iter().eq(before.grant_keys.iter());
            self.tell(now.host_changes.changed_from(&before.host_changes).filter(|_| same_keys));
            before = now;
        }
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.ended = true;
        links.open.clear();
    }

    /// Wakes the links of these hosts; without a list all of them.
    fn tell(&self, hosts: Option<Vec<&HostId>>) {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(hosts) = hosts else {
            links.open.values().for_each(|link| link.send_replace(()));
            return;
        };
        for host in hosts {
            let of_host = links.open.range((host.clone(), 0)..=(host.clone(), u64::MAX));
            of_host.for_each(|(_, link)| link.send_replace(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostId {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn a_link_is_woken_by_its_own_host_alone_and_hears_the_end() {
        let tasks = Tasks::new();
        let mut world = World::default();
        ["a", "b"].iter().for_each(|name| world.touch_host(&host(name)));
        let (published, worlds) = watch::channel(Arc::new(world.clone()));
        let news = HostNews::start(&tasks, worlds);
        let [mut of_a, mut of_b] = ["a", "b"].map(|name| news.subscribe(&host(name), 1));
        let mut old_of_a = news.subscribe(&host("a"), 0);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        [&mut of_a, &mut of_b, &mut old_of_a].into_iter().for_each(watch::Receiver::mark_unchanged);
        world.touch_host(&host("a"));
        published.send_replace(Arc::new(world.clone()));
        of_a.changed().await.unwrap();
        old_of_a.changed().await.unwrap();
        assert_eq!(of_b.has_changed().ok(), Some(false));
        // A host that is new: who looks once too often is wrong about nothing.
        world.touch_host(&host("c"));
        published.send_replace(Arc::new(world));
        of_b.changed().await.unwrap();
        news.unsubscribe(&host("a"), 0);
        assert!(old_of_a.has_changed().is_err());
        drop(published);
        assert!(of_b.changed().await.is_err());
        assert!(news.subscribe(&host("b"), 2).changed().await.is_err());
    }
}
