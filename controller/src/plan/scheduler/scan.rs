//! The look at every host: a loop over arrays that allocates nothing.
#![expect(
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "all arrays have as many entries as the loop has turns, and are read together"
)]

use super::{STARTING_MAX, Wanted};
use crate::model::fleet::labels::Allowed;
use crate::model::fleet::{Cut, Fleet, Headroom, HostPiece, PIECE, PoolSpread, Spread, merit};

/// One host has at most every fourth desktop of a pool, where as many hosts as this can take it.
const TAKERS_MIN: u32 = 4;

static NOWHERE: [u16; PIECE] = [0; PIECE];

/// One decision.
pub(super) struct Scan<'a> {
    fleet: &'a Fleet,
    headroom: Headroom,
    cut: Cut,
    charge_mib: u32,
    starting_max: u16,
    template: Option<&'a Spread>,
    pool: Option<Pool<'a>>,
    allowed: Allowed<'a>,
}

/// What counts for a desktop of a pool.
struct Pool<'a> {
    spread: &'a PoolSpread,
    factor: u64,
    /// A host that has as many has its share.
    share: u32,
}

/// The best so far.
#[derive(Clone, Copy, Default)]
struct Best {
    points: u64,
    slot: u32,
}

impl Best {
    #[inline]
    const fn take(&mut self, points: u64, number: usize, at: usize) {
        if self.points < points {
            self.points = points;
            #[expect(clippy::cast_possible_truncation, reason = "slots are counted in u32")]
            let slot = (number * PIECE + at) as u32;
            self.slot = slot;
        }
    }

    const fn found(self) -> Option<u32> {
        if self.points == 0 { None } else { Some(self.slot) }
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        fleet: &'a Fleet,
        headroom: Headroom,
        wanted: &Wanted<'_>,
        required: &[(String, String)],
    ) -> Self {
        let pool = wanted.pool.and_then(|pool| fleet.pool(wanted.tenant, pool));
        let pool = pool.map(|spread| {
            let all = spread.hosts.all() + 1;
            Pool { spread, factor: merit::spread_factor(all), share: all.div_ceil(TAKERS_MIN) }
        });
        Self {
            fleet,
            headroom,
            cut: fleet.cut(),
            charge_mib: u32::try_from(wanted.charge_mib).unwrap_or(u32::MAX),
            starting_max: if wanted.starts { STARTING_MAX } else { u16::MAX },
            template: fleet.template(wanted.tenant, wanted.template),
            pool,
            allowed: fleet.labels().having(required),
        }
    }

    /// The slot of the best host that can take it.
    pub(super) fn best(&self) -> Option<u32> {
        let wide = self.headroom.is_wide(self.charge_mib.into());
        match (&self.pool, wide) {
            (None, true) => self.plain::<false>(),
            (None, false) => self.plain::<true>(),
            (Some(pool), true) => self.pooled::<false>(pool),
            (Some(pool), false) => self.pooled::<true>(pool),
        }
    }

    fn plain<const TIGHT: bool>(&self) -> Option<u32> {
        let mut best = Best::default();
        for (number, piece) in self.fleet.pieces().enumerate() {
            let allowed = self.allowed.piece(number);
            if allowed == 0 {
                continue;
            }
            let sharing = self.sharing(number);
            for at in 0..PIECE {
                if self.fits::<TIGHT>(piece, at) && allowed >> at & 1 == 1 {
                    best.take(points(piece, sharing, at), number, at);
                }
            }
        }
        best.found()
    }

    fn pooled<const TIGHT: bool>(&self, pool: &Pool<'_>) -> Option<u32> {
        let (mut best, mut within_share) = (Best::default(), Best::default());
        let mut takers = 0;
        for (number, piece) in self.fleet.pieces().enumerate() {
            let allowed = self.allowed.piece(number);
            if allowed == 0 {
                continue;
            }
            let sharing = self.sharing(number);
            let there = pool.spread.hosts.piece(number).unwrap_or(&NOWHERE);
            for at in 0..PIECE {
                if !self.fits::<TIGHT>(piece, at) || allowed >> at & 1 == 0 {
                    continue;
                }
                takers += 1;
                let most = points(piece, sharing, at);
                if most < within_share.points {
                    continue;
                }
                let in_domain = pool.spread.domains.get(piece.domain[at]);
                let against = u64::from(merit::spread(in_domain, pool.factor)) << 32;
                let points = most - against;
                best.take(points, number, at);
                if u32::from(there[at]) < pool.share {
                    within_share.take(points, number, at);
                }
            }
        }
        // Of four hosts or more one always is within its share: not all have a quarter of what there is
        // and one more.
        if TAKERS_MIN <= takers { within_share.found() } else { best.found() }
    }

    #[inline]
    fn sharing(&self, number: usize) -> &[u16; PIECE] {
        self.template.and_then(|template| template.piece(number)).unwrap_or(&NOWHERE)
    }

    #[inline]
    fn fits<const TIGHT: bool>(&self, piece: &HostPiece, at: usize) -> bool {
        self.charge_mib <= piece.room_mib[at]
            && piece.starting[at] < self.starting_max
            // A host that nothing may be placed on has no room; but nothing fits into that.
            && piece.spare_mib[at] != 0
            && (!TIGHT || keeps((self.fleet, &self.headroom, self.cut), piece, at, self.charge_mib))
    }
}

#[inline]
fn points(piece: &HostPiece, sharing: &[u16; PIECE], at: usize) -> u64 {
    piece.points[at] + (u64::from(merit::sharing(sharing[at])) << 32)
}

/// Whether the headroom is kept when a host is charged with so much more.
#[inline]
pub(super) fn keeps(
    (fleet, headroom, cut): (&Fleet, &Headroom, Cut),
    piece: &HostPiece,
    at: usize,
    charge_mib: u32,
) -> bool {
    let spare_mib = piece.spare_mib[at];
    let left_mib = spare_mib.saturating_sub(charge_mib);
    let sure_mib = cut.sure_mib(spare_mib.into()) - cut.sure_mib(left_mib.into());
    headroom.is_kept(fleet.weight_mib(piece.domain[at]), charge_mib.into(), sure_mib)
}
