//! Streams of changes: all that there is, then what changes, and bookmarks from which a stream goes on.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use vidi_kit::ids::TenantId;
use vidi_proto::v1::{ChangeKind, ErrorReason};

use super::authorization::Access;
use super::names;
use super::status::{invalid_field, not_found, signed_out, status};
use super::{Caller, Parts};
use crate::model::{Place, World};

/// A bookmark at least this often, so that a watcher's token stays young.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(10);
/// Events that wait for a watcher; the stream then waits, and what it sends next is newer.
const EVENTS_QUEUED_MAX: usize = 64;
/// A watcher that takes nothing for this long is cut.
const WATCHER_SECS_MAX: Duration = Duration::from_secs(30);
/// Parent of all tenants.
const ALL_TENANTS: &str = "tenants/-";

/// What a stream tells of.
pub(super) trait Watched: Send + Sync + 'static {
    /// By what one is known; a tenant's stand together.
    type Key: Ord + Clone + Send + Sync;
    /// One on the wire.
    type Thing: Message;
    /// What the stream sends.
    type Event: Send;

    /// Of which task.
    const TASK: &'static str;
    /// What is told of one changes with time, too: all are looked at with every bookmark.
    const BY_TIME: bool = false;

    /// All of a tenant, or of all; those that are not the caller's too.
    fn keys(&self, world: &World, only: Option<&TenantId>) -> Vec<Self::Key>;
    /// Those of which something is told that hangs on this place.
    fn concerned(&self, world: &World, tenant: &TenantId, place: Place) -> Vec<Self::Key>;
    /// As this caller may see it now; none: it is not there, or not for this caller.
    fn thing(&self, world: &World, access: &Access, key: &Self::Key) -> Option<Self::Thing>;
    /// What is told of one that is gone.
    fn gone(&self, world: &World, key: &Self::Key) -> Self::Thing;
    /// What of one is news when it changes.
    fn news(thing: &Self::Thing) -> Vec<u8> {
        thing.encode_to_vec()
    }
    /// As the stream sends it.
    fn event(kind: ChangeKind, thing: Option<Self::Thing>, resume_token: String) -> Self::Event;
}

/// The tenant of a parent that the caller may list; none for all.
pub(super) fn scope(
    access: &Access,
    world: &World,
    parent: &str,
) -> Result<Option<TenantId>, Status> {
    if parent == ALL_TENANTS {
        return if access.everywhere() { Ok(None) } else { Err(not_found("tenant", "-")) };
    }
    let tenant = names::tenant("parent", parent)?;
    access.check_list(world, &tenant)?;
    Ok(Some(tenant))
}

/// Begins a stream of what is under a parent, or goes on behind a token.
pub(super) fn watch<W: Watched>(
    parts: &Parts,
    access: Access,
    only: Option<TenantId>,
    (watched, resume_token): (W, &str),
) -> Result<ReceiverStream<Result<W::Event, Status>>, Status> {
    let world = parts.handle.world();
    let (events, stream) = mpsc::channel(EVENTS_QUEUED_MAX);
    let mut watcher = Watcher {
        parts: parts.clone(),
        access,
        only,
        watched,
        known: BTreeMap::new(),
        sequence: world.sequence,
        started_ms: world.started_ms,
        events,
    };
    let resumed = !resume_token.is_empty();
    if resumed {
        watcher.resume(&world, resume_token)?;
    }
    let stop = parts.tasks.stop_token();
    let _watching = parts.tasks.spawn(W::TASK, async move {
        // Cancel-safe: a watcher that is cut comes again with its token.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = watcher.run(world, resumed) => {}
        }
    });
    Ok(ReceiverStream::new(stream))
}

/// One stream of changes.
struct Watcher<W: Watched> {
    parts: Parts,
    access: Access,
    only: Option<TenantId>,
    watched: W,
    /// What the client has, and a hash of what it was told of it; none: that is not known.
    known: BTreeMap<W::Key, Option<u64>>,
    /// Up to which change of the world the client knows.
    sequence: u64,
    /// Which leader's sequence that is.
    started_ms: i64,
    events: mpsc::Sender<Result<W::Event, Status>>,
}

/// The client went away or was told why the stream ends.
struct Over;

impl<W: Watched> Watcher<W> {
    /// Continues behind a token. Only for those who see all of the tenant: for others, what was
    /// theirs then is not known any more.
    fn resume(&mut self, world: &World, token: &str) -> Result<(), Status> {
        let rule = "a token of this stream is expected";
        let (started_ms, sequence): (i64, u64) = token
            .split_once('-')
            .and_then(|(started, sequence)| Some((started.parse().ok()?, sequence.parse().ok()?)))
            .ok_or_else(|| invalid_field("resume_token", rule))?;
        let sees_all = match &self.only {
            Some(tenant) => self.access.covers(tenant),
            None => self.access.everywhere(),
        };
        let fits = sees_all && self.started_ms == started_ms && sequence <= world.sequence;
        if !fits || world.changed_behind(sequence).is_none() {
            return Err(too_old());
        }
        self.sequence = sequence;
        let keys = self.watched.keys(world, self.only.as_ref());
        self.known = keys.into_iter().map(|key| (key, None)).collect();
        Ok(())
    }

    async fn run(mut self, world: Arc<World>, resumed: bool) {
        let mut worlds = self.parts.handle.watch();
        let mut beat = tokio::time::interval(BOOKMARK_PERIOD);
        let first = if resumed {
            self.tell_changes(&world, true).await
        } else {
            self.tell_all(&world).await
        };
        if first.is_err() {
            return;
        }
        loop {
            // Cancel-safe: all arms only wait.
            let told = tokio::select! {
                biased;
                () = self.events.closed() => return,
                _ = beat.tick() => self.beat().await,
                changed = worlds.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let world = Arc::clone(&worlds.borrow_and_update());
                    self.tell_changes(&world, false).await
                }
            };
            if told.is_err() {
                return;
            }
        }
    }

    async fn beat(&mut self) -> Result<(), Over> {
        let world = self.parts.handle.world();
        if let Caller::User(who) = self.access.caller() {
            match world.signed_in(&who.token_sha256, self.parts.clock.now_ms()) {
                None => return self.end(signed_out()).await,
                // Another role sees something else.
                Some((_, user)) if world.roles_of(&who.tenant, &who.user, user) != who.roles => {
                    return self.end(too_old()).await;
                }
                Some(_) => {}
            }
        }
        // Of what another leader knows nothing is told before the stream has ended.
        if W::BY_TIME && world.started_ms == self.started_ms {
            let known: Vec<W::Key> = self.known.keys().cloned().collect();
            for key in known {
                self.tell(&world, key, false).await?;
            }
        }
        self.send(ChangeKind::Bookmark, None).await
    }

    async fn tell_all(&mut self, world: &World) -> Result<(), Over> {
        for key in self.watched.keys(world, self.only.as_ref()) {
            self.tell(world, key, false).await?;
        }
        self.send(ChangeKind::Bookmark, None).await
    }

    async fn tell_changes(&mut self, world: &World, resumed: bool) -> Result<(), Over> {
        if world.started_ms != self.started_ms {
            return self.end(too_old()).await;
        }
        if world.sequence <= self.sequence {
            return Ok(());
        }
        let Some(changed) = world.changed_behind(self.sequence) else {
            return self.end(too_old()).await;
        };
        let only = self.only.as_ref();
        let mut changed: Vec<(TenantId, Place)> = changed
            .map(|(_, tenant, place)| (tenant, place))
            .filter(|(tenant, _)| only.is_none_or(|only| only == tenant))
            .collect();
        changed.sort_unstable();
        changed.dedup();
        self.sequence = world.sequence;
        let watched = &self.watched;
        let keys =
            changed.iter().flat_map(|(tenant, place)| watched.concerned(world, tenant, *place));
        let mut keys: Vec<W::Key> = keys.collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            self.tell(world, key, resumed).await?;
        }
        Ok(())
    }

    /// Tells how one is now, where that is news.
    async fn tell(&mut self, world: &World, key: W::Key, resumed: bool) -> Result<(), Over> {
        let Some(thing) = self.watched.thing(world, &self.access, &key) else {
            // Who goes on may have one that nobody here remembers.
            if self.known.remove(&key).is_none() && !resumed {
                return Ok(());
            }
            let gone = self.watched.gone(world, &key);
            return self.send(ChangeKind::Deleted, Some(gone)).await;
        };
        let mut hasher = DefaultHasher::new();
        W::news(&thing).hash(&mut hasher);
        let news = Some(hasher.finish());
        match self.known.insert(key, news) {
            None => self.send(ChangeKind::Added, Some(thing)).await,
            Some(told) if told == news => Ok(()),
            Some(_) => self.send(ChangeKind::Modified, Some(thing)).await,
        }
    }

    async fn send(&self, kind: ChangeKind, thing: Option<W::Thing>) -> Result<(), Over> {
        let token = format!("{}-{}", self.started_ms, self.sequence);
        let event = W::event(kind, thing, token);
        match tokio::time::timeout(WATCHER_SECS_MAX, self.events.send(Ok(event))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over),
        }
    }

    async fn end(&self, why: Status) -> Result<(), Over> {
        drop(tokio::time::timeout(WATCHER_SECS_MAX, self.events.send(Err(why))).await);
        Err(Over)
    }
}

fn too_old() -> Status {
    let message = "the resume token is too old: list again, then watch without one";
    status(Code::OutOfRange, ErrorReason::PageTokenInvalid, message)
}
