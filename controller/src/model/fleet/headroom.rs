//! What is kept free so that the desktops of failed hosts fit on the others, kept up to date with each change
//! of a host.
//!
//! A host's *sure* room is what desktops surely find there, in whatever order they come and however small the
//! pieces ([`Cut`]): what fits into the sure rooms together fits into the hosts. With `C(d)` charged in a failure
//! domain and `F(d)` sure there, the desktops of the domains `S` fit on the rest when
//! `sum over all of F - sum over S of F >= sum over S of C`: that is `sum of F >= sum over S of (C + F)`,
//! so the `k` domains with the largest weight `C + F` decide for every choice of `k`.

use std::cmp::Reverse;

use super::sparse::Sparse;
use crate::model::map::Map;

/// Between which sizes memory is cut up: the smallest and the largest charge of a desktop, MiB; both 0 without
/// any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The smallest.
    pub smallest_mib: u64,
    /// The largest.
    pub largest_mib: u64,
}

impl Cut {
    /// What of spare memory desktops surely find, MiB. When one fits nowhere any more, less than its charge is
    /// left of each host, or as many are there as would fit of the largest, each with the smallest charge at
    /// least.
    #[inline]
    pub fn sure_mib(self, spare_mib: u64) -> u64 {
        if self.largest_mib == 0 {
            return spare_mib;
        }
        let whole = spare_mib.saturating_sub(self.largest_mib - 1);
        whole.max(spare_mib / self.largest_mib * self.smallest_mib)
    }

    /// Whether it is the same with a charge of so much, MiB.
    pub const fn covers(self, charge_mib: u64) -> bool {
        self.smallest_mib <= charge_mib && charge_mib <= self.largest_mib
    }
}

/// One host's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Its failure domain.
    pub domain: u32,
    /// Charged there, MiB; nothing of a host that is lost.
    pub charged_mib: u64,
    /// Sure room, MiB.
    pub sure_mib: u64,
    /// It is lost.
    pub lost: bool,
    /// Desktops may be placed there.
    pub open: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Domain {
    charged_mib: u64,
    sure_mib: u64,
    lost: u32,
    open: u32,
}

impl Domain {
    const fn weight(&self) -> u64 {
        self.charged_mib + self.sure_mib
    }
}

/// Sums over all hosts and over each failure domain.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    domains: Sparse<Domain>,
    /// Domains by weight, the heaviest first; those without any are left out.
    order: Map<(Reverse<u64>, u32), ()>,
    sure_mib: u64,
    lost: usize,
    open: usize,
}

/// How much may be placed so that the desktops of failed domains still fit on the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headroom {
    /// Failure domains that must be able to fail now, beside those that have.
    pub domains: usize,
    /// Sure room of all hosts, MiB.
    pub sure_mib: u64,
    /// Weight of the heaviest `domains`, MiB.
    pub heaviest_mib: u64,
    /// Weight of the lightest of those, MiB.
    pub lightest_mib: u64,
}

impl Headroom {
    /// Whether a charge of so much keeps it on whatever host, MiB.
    pub const fn is_wide(&self, charge_mib: u64) -> bool {
        self.domains == 0 || self.heaviest_mib + charge_mib <= self.sure_mib
    }

    /// Whether it is kept when sure room shrinks by `sure_mib` in a domain of this weight and
    /// `charge_mib` more is charged there.
    #[inline]
    pub fn is_kept(&self, weight_mib: u64, charge_mib: u64, sure_mib: u64) -> bool {
        if self.domains == 0 {
            return true;
        }
        let grown = weight_mib + charge_mib - sure_mib;
        let heavier = grown.saturating_sub(weight_mib.max(self.lightest_mib));
        self.heaviest_mib + heavier + sure_mib <= self.sure_mib
    }

    /// Whether it is kept now.
    pub const fn holds(&self) -> bool {
        self.is_wide(0)
    }
}

impl Sums {
    pub(super) fn add(&mut self, part: Part) {
        self.change(part.domain, |one| {
            one.charged_mib += part.charged_mib;
            one.sure_mib += part.sure_mib;
            one.lost += u32::from(part.lost);
            one.open += u32::from(part.open);
        });
    }

    pub(super) fn remove(&mut self, part: Part) {
        self.change(part.domain, |one| {
            one.charged_mib -= part.charged_mib;
            one.sure_mib -= part.sure_mib;
            one.lost -= u32::from(part.lost);
            one.open -= u32::from(part.open);
        });
    }

    /// A host's part becomes another, in the same domain or not.
    pub(super) fn replace(&mut self, old: Part, new: Part) {
        if old == new {
            return;
        }
        if old.domain != new.domain {
            self.remove(old);
            self.add(new);
            return;
        }
        self.change(new.domain, |one| {
            one.charged_mib = one.charged_mib + new.charged_mib - old.charged_mib;
            one.sure_mib = one.sure_mib + new.sure_mib - old.sure_mib;
            one.lost = one.lost + u32::from(new.lost) - u32::from(old.lost);
            one.open = one.open + u32::from(new.open) - u32::from(old.open);
        });
    }

    fn change(&mut self, domain: u32, change: impl FnOnce(&mut Domain)) {
        let (old, new) = self.domains.change(domain, |one| {
            let old = *one;
            change(one);
            (old, *one)
        });
        self.sure_mib = self.sure_mib + new.sure_mib - old.sure_mib;
        self.lost = self.lost + usize::from(0 < new.lost) - usize::from(0 < old.lost);
        self.open = self.open + usize::from(0 < new.open) - usize::from(0 < old.open);
        if old.weight() == new.weight() {
            return;
        }
        if old.weight() != 0 {
            self.order.remove(&(Reverse(old.weight()), domain));
        }
        if new.weight() != 0 {
            self.order.insert((Reverse(new.weight()), domain), ());
        }
    }

    /// The weight of a domain, MiB.
    #[inline]
    pub(super) fn weight_mib(&self, domain: u32) -> u64 {
        self.domains.get(domain).weight()
    }

    /// Domains of which a host is lost.
    pub(super) const fn lost(&self) -> usize {
        self.lost
    }

    /// Domains in which something can be placed.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// What must be kept for `wanted` domains. Those that are lost have used theirs up: it is there to be
    /// used then. And one domain alone has nowhere to go.
    pub(super) fn headroom(&self, wanted: usize) -> Headroom {
        let domains = wanted.saturating_sub(self.lost).min(self.open.saturating_sub(1));
        let mut kept = Headroom { domains, sure_mib: self.sure_mib, ..Headroom::default() };
        let mut count = 0;
        for ((Reverse(weight_mib), _), _) in self.order.iter().take(domains) {
            kept.heaviest_mib += weight_mib;
            kept.lightest_mib = *weight_mib;
            count += 1;
        }
        if count < domains {
            kept.lightest_mib = 0;
        }
        kept
    }

    /// Domains that may fail together and their desktops fit on the rest, whichever they are.
    pub(super) fn can_lose(&self) -> usize {
        let all = self.open.saturating_sub(1);
        let mut heaviest_mib = 0;
        let too_many = self.order.iter().take(all).position(|((Reverse(weight_mib), _), _)| {
            heaviest_mib += weight_mib;
            self.sure_mib < heaviest_mib
        });
        too_many.unwrap_or(all)
    }

    /// The domains by weight, the heaviest first.
    pub(super) fn heaviest(&self) -> impl Iterator<Item = u32> {
        self.order.iter().map(|((_, domain), _)| *domain)
    }
}
