//! The hosts as the scheduler sees them: flat arrays that the world keeps up to date with every row and
//! all news, so that a decision reads a few bytes of each host and nothing else.
//!
//! ```text
//!  Fleet ─▶ [ Arc<HostPiece>, ... ]      64 hosts each: an array of room, an array of points, ...
//!        ─▶ template ─▶ [ Arc<8 x 64 counts>, none, ... ]   desktops of it on each host
//!        ─▶ pool ─▶ the same by host, and by failure domain
//!        ─▶ failure domains by weight                        (headroom.rs)
//! ```
//! A copy shares everything; a write copies what it writes to.

#![expect(clippy::indexing_slicing, reason = "`split` gives indexes below the arrays' length")]

mod follow;
mod headroom;
pub mod labels;
mod load;
pub mod merit;
mod piece;
mod sparse;

use std::collections::BTreeMap;
use std::sync::Arc;

use vidi_kit::ids::{HostId, PoolId, TemplateId, TenantId};

pub use follow::HostsLive;
pub use headroom::{Cut, Headroom};
use headroom::{Part, Sums};
use load::counted;
pub use load::{Load, PoolSpread, Spread};
pub use piece::{Facts, HostPiece, HostState};
use piece::{RANK, facts_of, short};
pub use sparse::{PIECE, Sparse, split};

use super::host::HostLive;
use super::host_rule::Labels;
use super::map::Map;
use super::resources::Host;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    slots: Map<HostId, u32>,
    names: Arc<Vec<Option<HostId>>>,
    pieces: Vec<Arc<HostPiece>>,
    domain_numbers: Arc<BTreeMap<FailureDomain, u32>>,
    /// Numbers that are free again.
    domains_free: Vec<u32>,
    /// How many hosts are in each failure domain.
    domain_hosts: Sparse<u32>,
    sums: Sums,
    /// How many desktops are charged how much, MiB.
    charges: Arc<BTreeMap<u64, usize>>,
    templates: Map<Arc<(TenantId, TemplateId)>, Spread>,
    pools: Map<Arc<(TenantId, PoolId)>, PoolSpread>,
    labels: labels::LabelIndex,
}

/// What fails together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureDomain {
    /// A host of which nothing is said.
    Own(HostId),
    /// All hosts of which this is said.
    Named(String),
}

impl Fleet {
    /// The hosts, 64 at a time; slots are counted through.
    pub fn pieces(&self) -> impl Iterator<Item = &HostPiece> {
        self.pieces.iter().map(|piece| &**piece)
    }

    /// The piece that a slot is in, and where.
    pub fn piece(&self, slot: u32) -> Option<(&HostPiece, usize)> {
        let (piece, at) = split(slot);
        Some((&**self.pieces.get(piece)?, at))
    }

    /// The host of a slot.
    pub fn host(&self, slot: u32) -> Option<&HostId> {
        self.names.get(usize::try_from(slot).ok()?)?.as_ref()
    }

    /// The slot of a host.
    pub fn slot(&self, host: &HostId) -> Option<u32> {
        self.slots.get(host).map(|slot| **slot)
    }

    /// Hosts and their slots by name.
    pub fn slots(&self) -> impl Iterator<Item = (&HostId, u32)> {
        self.slots.iter().map(|(host, slot)| (host, **slot))
    }

    /// What is known of a slot.
    pub fn facts(&self, slot: u32) -> Facts {
        self.of(slot, |piece| &piece.facts)
    }

    /// An entry of one of the arrays.
    pub fn of<T: Copy + Default>(&self, slot: u32, of: impl Fn(&HostPiece) -> &[T; PIECE]) -> T {
        let (piece, within) = split(slot);
        let found = self.pieces.get(piece).and_then(|piece| of(piece).get(within).copied());
        found.unwrap_or_default()
    }

    /// Memory charged on a host, MiB.
    pub fn charged_mib(&self, host: &HostId) -> u64 {
        self.slot(host).map_or(0, |slot| self.facts(slot).charged_mib.into())
    }

    /// Where the desktops of a template are.
    pub fn template(&self, tenant: &TenantId, template: &TemplateId) -> Option<&Spread> {
        self.templates.get(&(tenant.clone(), template.clone())).map(|spread| &**spread)
    }

    /// Where the desktops of a pool are.
    pub fn pool(&self, tenant: &TenantId, pool: PoolId) -> Option<&PoolSpread> {
        self.pools.get(&(tenant.clone(), pool)).map(|spread| &**spread)
    }

    /// Which hosts have which labels.
    pub const fn labels(&self) -> &labels::LabelIndex {
        &self.labels
    }

    /// The labels of a host change.
    pub(super) fn label(&mut self, host: &HostId, old: &Labels, new: &Labels) {
        if old == new {
            return;
        }
        let slot = self.slot_of(host);
        old.iter().for_each(|label| self.labels.set(slot, label, false));
        new.iter().for_each(|label| self.labels.set(slot, label, true));
    }

    /// Whether nothing is anywhere; hosts may be there.
    pub fn is_idle(&self) -> bool {
        let charged = self.slots().any(|(_, slot)| {
            let facts = self.facts(slot);
            (facts.charged_mib, facts.desktops) != (0, 0)
        });
        !charged && self.templates.is_empty() && self.pools.is_empty() && self.charges.is_empty()
    }

    /// The smallest and the largest charge of a desktop.
    pub fn cut(&self) -> Cut {
        let smallest_mib = self.charges.keys().next().copied().unwrap_or(0);
        Cut { smallest_mib, largest_mib: self.charges.keys().next_back().copied().unwrap_or(0) }
    }

    /// What must be kept free so that this many failure domains may fail.
    pub fn headroom(&self, domains: usize) -> Headroom {
        self.sums.headroom(domains)
    }

    /// Failure domains that may fail together now, and all desktops still fit.
    pub fn can_lose(&self) -> usize {
        self.sums.can_lose()
    }

    /// Failure domains of which a host is lost, and those where something can be placed.
    pub const fn domains_lost_and_open(&self) -> (usize, usize) {
        (self.sums.lost(), self.sums.open())
    }

    /// The weight of a failure domain in what is kept free, MiB.
    #[inline]
    pub fn weight_mib(&self, domain: u32) -> u64 {
        self.sums.weight_mib(domain)
    }

    /// Failure domains whose loss weighs most, first.
    pub fn heaviest_domains(&self) -> impl Iterator<Item = u32> {
        self.sums.heaviest()
    }

    /// The number of a failure domain that some host is in.
    pub fn domain_number(&self, domain: &FailureDomain) -> Option<u32> {
        self.domain_numbers.get(domain).copied()
    }

    /// Which failure domain a number is.
    pub fn domain(&self, number: u32) -> Option<&FailureDomain> {
        let mut numbers = self.domain_numbers.iter();
        numbers.find(|(_, known)| **known == number).map(|(domain, _)| domain)
    }

    /// The same hosts, judged as if a desktop of such a charge were among theirs, MiB.
    pub fn with_charge(&self, charge_mib: u64) -> Self {
        let mut next = self.clone();
        *Arc::make_mut(&mut next.charges).entry(charge_mib).or_default() += 1;
        next.sum_anew();
        next
    }

    /// A host's record or news of it: what it is from now on; none: it is not kept any more.
    pub(super) fn follow(&mut self, host: &HostId, kept: Option<&Host>, live: Option<&HostLive>) {
        if kept.is_none() && self.slot(host).is_none() {
            return;
        }
        let slot = self.slot_of(host);
        let domain = self.domain_of(host, kept);
        self.move_pools(slot, domain);
        self.revise(slot, |piece, at| {
            piece.domain[at] = domain;
            let before = piece.facts[at];
            piece.facts[at] = Facts {
                charged_mib: before.charged_mib,
                desktops: before.desktops,
                ..facts_of(kept, live)
            };
        });
        self.forget_unknown(host);
    }

    /// A desktop's charge on a host changes, MiB; 0: there is none.
    pub(super) fn charge(&mut self, host: &HostId, old_mib: u64, new_mib: u64) {
        let cut = self.cut();
        let charges = Arc::make_mut(&mut self.charges);
        if 0 < new_mib {
            *charges.entry(new_mib).or_default() += 1;
        }
        if 0 < old_mib
            && let Some(count) = charges.get_mut(&old_mib)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                charges.remove(&old_mib);
            }
        }
        let slot = self.slot_of(host);
        self.revise(slot, |piece, at| {
            let charged_mib =
                (u64::from(piece.facts[at].charged_mib) + new_mib).saturating_sub(old_mib);
            piece.facts[at].charged_mib = short(charged_mib);
        });
        if cut != self.cut() {
            self.sum_anew();
        }
        if new_mib == 0 {
            self.forget_unknown(host);
        }
    }

    /// A desktop comes to a host, goes, or changes there.
    pub fn load(&mut self, old: Option<Load<'_>>, new: Option<Load<'_>>) {
        if old == new {
            return;
        }
        let same_place = |one: &Load<'_>, other: &Load<'_>| {
            Load { starting: false, ..*one } == Load { starting: false, ..*other }
        };
        if let (Some(old), Some(new)) = (&old, &new)
            && same_place(old, new)
        {
            let slot = self.slot_of(new.host);
            return self.revise(slot, |piece, at| counted(&mut piece.starting[at], new.starting));
        }
        for (load, more) in [(old, false), (new, true)] {
            if let Some(load) = load {
                self.count(load, more);
            }
        }
    }

    fn count(&mut self, load: Load<'_>, more: bool) {
        let slot = self.slot_of(load.host);
        self.revise(slot, |piece, at| {
            if load.starting {
                counted(&mut piece.starting[at], more);
            }
            let desktops = &mut piece.facts[at].desktops;
            *desktops = if more { *desktops + 1 } else { desktops.saturating_sub(1) };
        });
        let template = Arc::new((load.tenant.clone(), load.template.clone()));
        let left = self.templates.change(&template, |spread| {
            spread.count(slot, more);
            spread.all()
        });
        if left == 0 {
            self.templates.remove(&template);
        }
        if let Some(pool) = load.pool {
            let pool = Arc::new((load.tenant.clone(), pool));
            let domain = self.of(slot, |piece| &piece.domain);
            let left = self.pools.change(&pool, |spread| {
                spread.hosts.count(slot, more);
                spread.domains.change(domain, |count| {
                    *count = if more { *count + 1 } else { count.saturating_sub(1) };
                });
                spread.hosts.all()
            });
            if left == 0 {
                self.pools.remove(&pool);
            }
        }
        if !more {
            self.forget_unknown(load.host);
        }
    }

    /// Changes what is known of a slot, and what follows from it.
    fn revise(&mut self, slot: u32, change: impl FnOnce(&mut HostPiece, usize)) {
        let (number, at) = split(slot);
        let cut = self.cut();
        let Some(piece) = self.pieces.get_mut(number) else { return };
        let piece = Arc::make_mut(piece);
        let old = piece.part(at, cut);
        change(piece, at);
        piece.conclude(at);
        self.sums.replace(old, piece.part(at, cut));
    }

    /// The sums after the smallest or the largest charge has become another.
    fn sum_anew(&mut self) {
        let cut = self.cut();
        self.sums = Sums::default();
        for piece in &self.pieces {
            for at in 0..PIECE {
                let part = piece.part(at, cut);
                if part != (Part { domain: part.domain, ..Part::default() }) {
                    self.sums.add(part);
                }
            }
        }
    }

    fn slot_of(&mut self, host: &HostId) -> u32 {
        if let Some(slot) = self.slot(host) {
            return slot;
        }
        let names = Arc::make_mut(&mut self.names);
        let free = names.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            names.push(None);
            names.len() - 1
        });
        if let Some(name) = names.get_mut(at) {
            *name = Some(host.clone());
        }
        if self.pieces.len() * PIECE <= at {
            self.pieces.push(Arc::new(HostPiece::default()));
        }
        let slot = u32::try_from(at).unwrap_or(u32::MAX);
        let last = self.slots.last().map(|(last, slot)| (last < host, **slot));
        self.slots.insert(host.clone(), slot);
        let domain = self.domain_of(host, None);
        self.domain_hosts.change(domain, |count| *count += 1);
        self.revise(slot, |piece, at| piece.domain[at] = domain);
        match last {
            Some((true, last)) => self.rank(slot, self.rank_of(last).saturating_sub(1)),
            _ => self.rank_all(),
        }
        slot
    }

    /// Equals are decided by name, so that the same world gives the same answer however it came about.
    fn rank_all(&mut self) {
        let slots: Vec<u32> = self.slots.iter().map(|(_, slot)| **slot).collect();
        for (rank, slot) in (0..u32::MAX).rev().zip(slots) {
            self.rank(slot, rank);
        }
    }

    fn rank_of(&self, slot: u32) -> u32 {
        let low = self.of(slot, |piece| &piece.points) & RANK;
        u32::try_from(low).unwrap_or(u32::MAX)
    }

    fn rank(&mut self, slot: u32, rank: u32) {
        let (piece, at) = split(slot);
        if let Some(piece) = self.pieces.get_mut(piece) {
            let points = &mut Arc::make_mut(piece).points[at];
            *points = *points & !RANK | u64::from(rank);
        }
    }

    /// Forgets a host that is not kept and has nothing.
    fn forget_unknown(&mut self, host: &HostId) {
        let Some(slot) = self.slot(host) else { return };
        let facts = self.facts(slot);
        let used = (facts.charged_mib, facts.desktops) != (0, 0);
        if facts.state != HostState::Unknown || used {
            return;
        }
        let domain = self.of(slot, |piece| &piece.domain);
        self.revise(slot, |piece, at| {
            piece.starting[at] = 0;
            piece.facts[at] = Facts::default();
        });
        self.slots.remove(host);
        let at = usize::try_from(slot).unwrap_or(usize::MAX);
        if let Some(name) = Arc::make_mut(&mut self.names).get_mut(at) {
            *name = None;
        }
        self.leave_domain(domain);
    }

    fn domain_of(&mut self, host: &HostId, kept: Option<&Host>) -> u32 {
        let named = kept.map(|kept| &kept.failure_domain).filter(|named| !named.is_empty());
        let domain = named.map_or_else(
            || FailureDomain::Own(host.clone()),
            |named| FailureDomain::Named(named.clone()),
        );
        if let Some(number) = self.domain_numbers.get(&domain) {
            return *number;
        }
        let numbers = Arc::make_mut(&mut self.domain_numbers);
        // Numbers stay small: they are indexes.
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let number = self.domains_free.pop().unwrap_or(next);
        numbers.insert(domain, number);
        number
    }

    /// A host leaves a failure domain, which is forgotten with its last one.
    fn leave_domain(&mut self, domain: u32) {
        let left = self.domain_hosts.change(domain, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == 0 {
            Arc::make_mut(&mut self.domain_numbers).retain(|_, number| *number != domain);
            self.domains_free.push(domain);
        }
    }

    /// Desktops of pools move with their host into another failure domain.
    fn move_pools(&mut self, slot: u32, domain: u32) {
        let old = self.of(slot, |piece| &piece.domain);
        if old == domain {
            return;
        }
        let pools: Vec<_> = self.pools.iter().map(|(pool, _)| pool.clone()).collect();
        for pool in pools {
            self.pools.change(&pool, |spread| {
                let count = u32::from(spread.hosts.on(slot));
                spread.domains.change(old, |all| *all = all.saturating_sub(count));
                spread.domains.change(domain, |all| *all += count);
            });
        }
        self.revise(slot, |piece, at| piece.domain[at] = domain);
        self.domain_hosts.change(domain, |count| *count += 1);
        self.leave_domain(old);
    }
}
