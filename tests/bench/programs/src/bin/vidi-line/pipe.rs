//! One direction of a line: how long bytes take. A pure model; times are since any one moment.

use std::time::Duration;

use vidi_bench::mix;

/// Bytes of one packet: what Ethernet leaves for TCP.
pub(crate) const PACKET_BYTES_MAX: usize = 1460;
/// One lost packet in so many is noticed only by a timer; of the others the receiver tells.
const TIMER_ONE_IN: u64 = 8;
/// Shortest timer of Linux (`TCP_RTO_MIN`).
const TIMER: Duration = Duration::from_millis(200);

/// What a line does to what goes through it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    /// To the other end, without waiting for others.
    pub(crate) delay: Duration,
    /// Bytes in a second; none: as fast as they come.
    pub(crate) rate: Option<f64>,
    /// Packets that are lost, of a million.
    pub(crate) lost_of_million: u64,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) quality: Quality,
    random: u64,
    /// When the last byte has left this end.
    free_at: Duration,
    /// When the last byte arrives: those of one stream arrive in their order.
    last_at: Duration,
}

impl Pipe {
    pub(crate) const fn new(quality: Quality, seed: u64) -> Self {
        Self { quality, random: seed, free_at: Duration::ZERO, last_at: Duration::ZERO }
    }

    /// How long what waits at this end still takes to leave.
    pub(crate) const fn backlog(&self, now: Duration) -> Duration {
        self.free_at.saturating_sub(now)
    }

    /// When a packet that is handed in now arrives. A lost one arrives when it was sent again, and
    /// what is behind it with it: it went on meanwhile.
    pub(crate) fn carry(&mut self, now: Duration, bytes: usize) -> Duration {
        let Quality { delay, rate, lost_of_million } = self.quality;
        let takes =
            rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate));
        self.free_at = self.free_at.max(now) + takes;
        let mut arrives = self.free_at + delay;
        if self.draw() % 1_000_000 < lost_of_million {
            let noticed = match self.draw().is_multiple_of(TIMER_ONE_IN) {
                true => TIMER,
                false => Duration::ZERO,
            };
            arrives += noticed + 2 * delay;
        }
        self.last_at = self.last_at.max(arrives);
        self.last_at
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(1);
        mix(self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(25);

    fn pipe(lost_of_million: u64) -> Pipe {
        Pipe::new(Quality { delay: DELAY, rate: Some(250_000.0), lost_of_million }, 5)
    }

    #[test]
    fn a_packet_takes_its_delay_and_a_full_line_its_rate() {
        let mut line = pipe(0);
        assert_eq!(line.carry(Duration::ZERO, 250), DELAY + Duration::from_millis(1));
        let second = Duration::from_secs(1);
        let last = (0..100).map(|_| line.carry(second, 1_250)).last().unwrap();
        assert_eq!(last, second + DELAY + Duration::from_millis(500));
        assert_eq!(line.backlog(second), Duration::from_millis(500));
    }

    #[test]
    fn a_lost_packet_holds_up_what_is_behind_it_and_nothing_overtakes() {
        let mut line = pipe(10_000);
        let mut before = Duration::ZERO;
        let mut stalls = 0;
        for packet in 0..10_000_u32 {
            let now = Duration::from_millis(10) * packet;
            let arrives = line.carry(now, 250);
            assert!(before <= arrives, "packet {packet}");
            let added = arrives - now - DELAY - Duration::from_millis(1);
            assert!(added <= TIMER + 2 * DELAY, "packet {packet}: {added:?}");
            stalls += u32::from(added == 2 * DELAY || added == TIMER + 2 * DELAY);
            before = arrives;
        }
        assert!((60..140).contains(&stalls), "{stalls} of 10,000 packets were lost, not 1 %");
    }

    #[test]
    fn a_seed_makes_its_line() {
        let line = |seed| {
            let mut line = Pipe::new(pipe(10_000).quality, seed);
            (0..1_000).map(|_| line.carry(Duration::ZERO, 250)).collect::<Vec<_>>()
        };
        assert_eq!(line(5), line(5));
        assert_ne!(line(5), line(6));
    }
}
