//! Which entries get a line. Decided before anything is formatted.

use std::time::Duration;

use super::super::outcome::Outcome;

/// Which entries get a line. Default: all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "give it to an access log"]
pub struct Filter {
    errors: bool,
    slower_than: Option<Duration>,
    /// Of 2^64; `None` keeps all.
    sample: Option<u64>,
}

impl Filter {
    /// All entries.
    pub const fn all() -> Filter {
        Filter { errors: false, slower_than: None, sample: None }
    }

    /// Only errors: a status of 500 or more, or any flag. With [`slower_than`](Self::slower_than),
    /// either is enough.
    pub const fn errors(mut self) -> Filter {
        self.errors = true;
        self
    }

    /// Only what took longer than this.
    pub const fn slower_than(mut self, duration: Duration) -> Filter {
        self.slower_than = Some(duration);
        self
    }

    /// Only this fraction, 0 to 1, of what would get a line otherwise, chosen at random.
    pub fn sample(mut self, fraction: f64) -> Filter {
        // A float is cut to what the integer can hold.
        self.sample = (fraction < 1.0).then_some((fraction * 2f64.powi(64)) as u64);
        self
    }

    /// Whether an entry gets a line. `random` is asked only where it matters.
    pub(super) fn passes(&self, outcome: &Outcome<'_>, random: impl FnOnce() -> u64) -> bool {
        let chosen = match (self.errors, self.slower_than) {
            (false, None) => true,
            (errors, slower_than) => {
                errors && outcome.is_error()
                    || slower_than.is_some_and(|limit| outcome.duration > limit)
            }
        };
        chosen && self.sample.is_none_or(|of_all| random() < of_all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::outcome::ResponseFlag;
    use super::*;
    use std::time::UNIX_EPOCH;

    fn outcome(status: u16, flag: ResponseFlag, milliseconds: u64) -> Outcome<'static> {
        let mut outcome = Outcome::new(UNIX_EPOCH);
        (outcome.status, outcome.flag) = (status, flag);
        outcome.duration = Duration::from_millis(milliseconds);
        outcome
    }

    fn passes(filter: Filter, outcome: &Outcome<'_>) -> bool {
        filter.passes(outcome, || unreachable!("nothing is sampled"))
    }

    #[test]
    fn errors_and_slow_ones_are_told_from_the_rest() {
        let ordinary = outcome(200, ResponseFlag::None, 5);
        let refused = outcome(404, ResponseFlag::NoRoute, 1);
        let failed = outcome(500, ResponseFlag::None, 1);
        let slow = outcome(200, ResponseFlag::None, 101);
        let all = [ordinary, refused, failed, slow];
        let limit = Duration::from_millis(100);
        for (filter, expected) in [
            (Filter::all(), [true; 4]),
            (Filter::all().errors(), [false, true, true, false]),
            (Filter::all().slower_than(limit), [false, false, false, true]),
            (Filter::all().errors().slower_than(limit), [false, true, true, true]),
        ] {
            assert_eq!(all.map(|outcome| passes(filter, &outcome)), expected, "{filter:?}");
        }
        assert!(!passes(Filter::all().slower_than(limit), &outcome(200, ResponseFlag::None, 100)));
    }

    #[test]
    fn a_sample_is_a_fraction_of_what_passes() {
        let ordinary = outcome(200, ResponseFlag::None, 5);
        let kept = |fraction: f64| {
            let draws = (0..1000_u64).map(|draw| (2 * draw + 1) * (u64::MAX / 2000));
            draws.filter(|draw| Filter::all().sample(fraction).passes(&ordinary, || *draw)).count()
        };
        assert_eq!([0.0, 0.25, 0.5, 1.0, 7.0].map(kept), [0, 250, 500, 1000, 1000]);
        assert_eq!(kept(-1.0), 0);
        assert_eq!(kept(f64::NAN), 1000, "what is no number does not restrict");
        let errors = Filter::all().errors().sample(1.0);
        assert!(!passes(errors, &ordinary));
    }
}
