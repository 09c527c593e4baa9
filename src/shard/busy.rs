//! How busy a shard has been lately, as one number.

use crate::ring::Nanoseconds;

/// How often it is made anew.
pub(crate) const PERIOD: Nanoseconds = 50_000_000;

/// Thousandths of a period that count as idle: a shard that gets up to tell that it does nothing is
/// not kept awake by that.
const NOISE_PERMILLE: u32 = 5;

/// An average that forgets half of the past with each period, and more after a long sleep.
#[derive(Clone, Copy, Default)]
pub(crate) struct BusyShare(u32);

impl BusyShare {
    /// Thousandths.
    pub(crate) fn permille(self) -> u32 {
        self.0
    }

    /// The share after a period of which `busy` was spent at work.
    #[must_use]
    pub(crate) fn after(self, busy: Nanoseconds, period: Nanoseconds) -> BusyShare {
        let share = (busy.saturating_mul(1000) / period.max(1)).min(1000) as u32;
        let share = if share < NOISE_PERMILLE { 0 } else { share };
        let weight = (period / PERIOD).clamp(1, 16) as u32;
        BusyShare((self.0 >> weight) + share - (share >> weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_within_a_few_periods_and_comes_back_to_nothing() {
        let mut share = BusyShare::default();
        for _ in 0..5 {
            share = share.after(PERIOD, PERIOD);
        }
        assert!(share.permille() > 900, "{}", share.permille());
        assert!(share.after(0, 16 * PERIOD).permille() == 0, "a long sleep");
        for _ in 0..11 {
            share = share.after(PERIOD / 1000, PERIOD);
        }
        assert_eq!(share.permille(), 0, "noise is nothing");
        assert_eq!(share.after(3 * PERIOD, PERIOD).permille(), 500, "at most all of the time");
    }
}
