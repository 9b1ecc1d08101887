//! What makes one host better than another before anything is known of the desktop, in points; and what
//! the desktop adds. The points are chosen by what must win over what; each says so.

/// Most that the memory charged on a host adds: the fullest host is filled first, so that whole hosts stay
/// free for what is large. Less than an image that is there.
pub const PACKING_MAX: u32 = 300;
/// For each desktop that is starting there: fifteen outweigh a full host, twenty an image.
pub const STARTING_EACH: u32 = 20;
/// Most that memory which is really short takes away: more than everything that draws desktops there.
pub const PRESSURE_MAX: u32 = 900;
/// Of a host's memory, in hundredths, that should be available; below it is short.
pub const AVAILABLE_PERCENT: u64 = 10;
/// For an image that is there already: to fetch it takes longer than any other difference.
pub const IMAGE: u32 = 300;
/// For each desktop of the same template, up to [`SHARING_MAX`]: their pages are merged.
pub const SHARING_EACH: u32 = 10;
/// Desktops of one template on a host beyond which more of them share nothing further.
pub const SHARING_MAX: u32 = 32;
/// What a failure domain loses that has all of a pool: a difference of a third of the pool outweighs
/// image and sharing together.
pub const SPREAD_MAX: u32 = 2_000;

/// Added to every host's points, so that they never are below nothing.
pub const BASE: u32 = 1 << 16;

/// For memory that is charged, of what may be, MiB.
pub fn packing(charged_mib: u32, chargeable_mib: u32) -> u32 {
    let most = u64::from(chargeable_mib.max(1));
    let points = u64::from(charged_mib) * u64::from(PACKING_MAX) / most;
    u32::try_from(points).map_or(PACKING_MAX, |points| points.min(PACKING_MAX))
}

/// Against desktops that are starting.
pub fn starting(count: u16) -> u32 {
    u32::from(count) * STARTING_EACH
}

/// Against memory that is really short, MiB.
pub fn pressure(available_mib: u32, total_mib: u32) -> u32 {
    let wanted = u64::from(total_mib) * AVAILABLE_PERCENT / 100;
    let short = wanted.saturating_sub(u64::from(available_mib));
    let points = short * u64::from(PRESSURE_MAX) / wanted.max(1);
    u32::try_from(points).unwrap_or(PRESSURE_MAX)
}

/// For desktops of the same template that are there.
#[inline]
pub const fn sharing(count: u16) -> u32 {
    let count = count as u32;
    let shared = if SHARING_MAX < count { SHARING_MAX } else { count };
    (0 < count) as u32 * IMAGE + shared * SHARING_EACH
}

/// What a pool's desktops in one failure domain count, of all it will have: `count * factor >> 16`.
#[inline]
pub fn spread_factor(desktops: u32) -> u64 {
    (u64::from(SPREAD_MAX) << 16) / u64::from(desktops.max(1))
}

/// Against a failure domain that has `count` desktops of the pool.
#[inline]
pub fn spread(count: u32, factor: u64) -> u32 {
    // Below 2^32: count is at most the pool's desktops, by which the factor is divided.
    u32::try_from((u64::from(count) * factor) >> 16).unwrap_or(SPREAD_MAX).min(SPREAD_MAX)
}
