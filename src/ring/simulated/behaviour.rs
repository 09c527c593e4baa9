//! What a seed decides: random numbers, and how the simulated kernel behaves.

use crate::ring::driver::Nanoseconds;

/// Random numbers from a seed: SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable
/// Pseudorandom Number Generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Generator of its own, so that who uses one does not disturb who uses the other.
    pub(crate) fn fork(&mut self) -> Random {
        Random(self.next())
    }

    /// Less than `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From 1 to `most`, every order of magnitude as likely as the others.
    pub(crate) fn scale(&mut self, most: u64) -> u64 {
        let bits = self.below(u64::from(most.ilog2()) + 1);
        ((1 << bits) + self.below(1 << bits)).min(most)
    }

    /// True `percent` times out of 100.
    pub(crate) fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// How the simulated kernel and network behave. Chances are in percent.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// An operation waits for up to so long before each attempt.
    pub(crate) latency: Nanoseconds,
    /// What a turn takes by itself.
    pub(crate) turn: Nanoseconds,
    /// Bytes that a socket holds for its owner to receive.
    pub(crate) window: usize,
    /// Bytes that a socket holds for its peer beyond that, not acknowledged.
    pub(crate) send_buffer: usize,
    /// A receive or a send takes less than it could.
    pub(crate) partly: u8,
    /// A send completes before all of it is sent, without a failure.
    pub(crate) short_send: u8,
    /// A multishot operation ends with a result, for no reason.
    pub(crate) ends: u8,
    /// Some of the completions that are there are kept for a later turn.
    pub(crate) holds: u8,
    /// A turn returns early, with nothing.
    pub(crate) wakes_early: u8,
    /// What was cancelled may still complete with a result first.
    pub(crate) late_result: u8,
    /// The end of a stream picks a buffer.
    pub(crate) end_with_buffer: u8,
    pub(crate) accept_fails: u8,
    /// A doorbell of another thread does not ring.
    pub(crate) ring_fails: u8,
    /// A receive, send or connect fails for no reason.
    pub(crate) fails: u8,
    pub(crate) limits_receives: bool,
    /// Buffers of each pool that are lent at a time, at most.
    pub(crate) lent: u16,
    /// Buffers and their size, of the pool of small ones and of that of large ones.
    pub(crate) small: (u16, u32),
    pub(crate) large: (u16, u32),
}

impl Behaviour {
    /// A kernel at its plainest: everything happens at once, in full and in order.
    pub(crate) fn plain() -> Behaviour {
        Behaviour {
            latency: 0,
            turn: 0,
            window: 64 << 10,
            send_buffer: 0,
            partly: 0,
            short_send: 0,
            ends: 0,
            holds: 0,
            wakes_early: 0,
            late_result: 0,
            end_with_buffer: 0,
            accept_fails: 0,
            ring_fails: 0,
            fails: 0,
            limits_receives: true,
            lent: 16,
            small: (64, 4096),
            large: (4, 64 << 10),
        }
    }

    /// Of any kind, but without failures.
    pub(crate) fn random(random: &mut Random) -> Behaviour {
        Behaviour {
            latency: random.pick(&[0, 100, 10_000, 1_000_000]),
            turn: random.pick(&[0, 0, 700, 40_000]),
            window: random.scale(64 << 10) as usize,
            send_buffer: random.pick(&[0, 0, 1, 8 << 10]),
            partly: random.pick(&[0, 20, 90]),
            short_send: random.pick(&[0, 5, 60]),
            ends: random.pick(&[0, 5, 60]),
            holds: random.pick(&[0, 20, 70]),
            wakes_early: random.pick(&[0, 0, 10]),
            late_result: random.pick(&[0, 50, 100]),
            end_with_buffer: random.pick(&[0, 50, 100]),
            accept_fails: 0,
            ring_fails: 0,
            fails: 0,
            limits_receives: random.chance(50),
            lent: random.scale(32) as u16,
            small: {
                let size = if random.chance(30) { 4096 } else { random.scale(4096) };
                (3 + random.scale(60) as u16, size as u32)
            },
            large: (random.scale(4) as u16, random.scale(64 << 10) as u32),
        }
    }
}
