//! The time of a line: RFC 3339 in UTC with milliseconds, as `2020-11-25T21:26:18.409Z`.

use std::time::Duration;

/// `YYYY-MM-DDThh:mm:ss.mmmZ`
const LENGTH: usize = 24;
const MILLISECONDS: usize = 20;

/// Writes times, and remembers the text of the last second, since the next line is mostly of the
/// same one.
#[derive(Debug)]
pub(super) struct Clock {
    second: Option<u64>,
    text: [u8; LENGTH],
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { second: None, text: *b"0000-00-00T00:00:00.000Z" }
    }

    /// Appends the time that is `since_epoch` after the Unix epoch. Years have four digits: what is
    /// beyond 9999 is shown as its last second.
    pub(super) fn write(&mut self, since_epoch: Duration, out: &mut Vec<u8>) {
        const LAST: u64 = 253_402_300_799;
        let second = since_epoch.as_secs().min(LAST);
        if self.second != Some(second) {
            self.second = Some(second);
            self.set(second);
        }
        put(&mut self.text[MILLISECONDS..MILLISECONDS + 3], u64::from(since_epoch.subsec_millis()));
        out.extend_from_slice(&self.text);
    }

    fn set(&mut self, second: u64) {
        let (year, month, day) = date(second / 86_400);
        let of_day = second % 86_400;
        for (place, value) in [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, of_day / 3600),
            (14..16, of_day / 60 % 60),
            (17..19, of_day % 60),
        ] {
            put(&mut self.text[place], value);
        }
    }
}

/// Writes `value` in decimal over all of `digits`.
fn put(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day, counted from one, of a day since the Unix epoch.
///
/// Days are counted from the first of March of the year 0, so that the day of a leap year comes
/// last, in a cycle of 400 Gregorian years.
fn date(day_since_epoch: u64) -> (u64, u64, u64) {
    const CYCLE: u64 = 146_097;
    const MARCH_0_TO_EPOCH: u64 = 719_468;
    let day = day_since_epoch + MARCH_0_TO_EPOCH;
    let of_cycle = day % CYCLE;
    let year_of_cycle =
        (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / (CYCLE - 1)) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // Months from March on have 31, 30, 31, 30, 31 days, and again: 153 days in five.
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = day / CYCLE * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(clock: &mut Clock, milliseconds: u64) -> String {
        let mut out = Vec::new();
        clock.write(Duration::from_millis(milliseconds), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        let mut clock = Clock::new();
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_606_339_578_409, "2020-11-25T21:26:18.409Z"),
            (1_606_339_578_410, "2020-11-25T21:26:18.410Z"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z"),
            (253_402_300_799_007, "9999-12-31T23:59:59.007Z"),
            (u64::MAX, "9999-12-31T23:59:59.615Z"),
        ] {
            assert_eq!(text(&mut clock, milliseconds), expected);
        }
    }

    /// Against the calendar by its definition, counted day by day.
    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for count in 0..365 * 830 {
            assert_eq!(date(count), (year, month, day), "{count}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
