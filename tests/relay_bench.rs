//! The parts of the relay benchmark that a wrong number could hide in.
//!
//! The benchmark itself has no test harness, so its plain modules are tested from here.

#[path = "../benches/relay/message.rs"]
mod message;
#[path = "../benches/relay/statistics.rs"]
mod statistics;
#[path = "../benches/relay/work.rs"]
mod work;

use message::{Assembler, Order, REQUEST_LEN};
use proptest::prelude::*;
use statistics::median;
use work::{Work, largest_over_mean, thread_times};

#[test]
fn median_of_few_values_has_no_interval() {
    let median = median(&[3.0, 1.0, 2.0, 5.0, 4.0]);
    assert_eq!(median.value, 3.0);
    assert_eq!(median.interval, None);
}

/// Ranks from a table of the sign test, two-sided at 5 %.
#[test]
fn interval_lies_at_the_tabled_ranks() {
    for (n, rank) in [(6, 1), (9, 2), (10, 2), (12, 3), (20, 6), (30, 10), (100, 40)] {
        let values: Vec<f64> = (1..=n).map(f64::from).collect();
        let expected = (f64::from(rank), f64::from(n + 1 - rank));
        assert_eq!(median(&values).interval, Some(expected), "of {n} values");
    }
}

#[test]
fn what_a_relay_says_of_its_work_is_read_back() {
    let work = Work { turns: 10, completions: 25, busiest: 1.25 };
    assert_eq!(format!("{work}\n").parse(), Ok(work));
    assert_eq!(work.completions_per_turn(), 2.5);
    assert!("10 25".parse::<Work>().is_err());
}

#[test]
fn evenness_is_the_largest_over_the_mean() {
    assert_eq!(largest_over_mean(&[2.0, 2.0, 2.0]), 1.0);
    assert_eq!(largest_over_mean(&[1.0, 3.0]), 1.5);
    assert_eq!(largest_over_mean(&[]), 1.0);
}

#[test]
fn the_times_of_threads_are_those_of_the_names_selected() {
    let busy = std::thread::Builder::new().name("busy-7".to_owned()).spawn(|| {
        let started = std::time::Instant::now();
        while started.elapsed() < std::time::Duration::from_millis(20) {}
        thread_times(|name| name == "busy-7").unwrap()
    });
    let times = busy.unwrap().join().unwrap();
    assert!(times.len() == 1 && times[0] > 0.0, "{times:?}");
}

proptest! {
    #[test]
    fn interval_encloses_the_median(values in prop::collection::vec(-1e6..1e6, 1..200)) {
        let median = median(&values);
        let below = values.iter().filter(|&&value| value < median.value).count();
        let above = values.iter().filter(|&&value| value > median.value).count();
        prop_assert!(below <= values.len() / 2 && above <= values.len() / 2);
        if let Some((low, high)) = median.interval {
            prop_assert!(low <= median.value && median.value <= high);
        }
    }

    #[test]
    fn order_survives_any_segmentation(
        response_len: u64,
        last: bool,
        cuts in prop::collection::vec(0..=REQUEST_LEN, 0..8),
    ) {
        let order = Order { response_len, last };
        let request = order.encode();
        let mut bounds = cuts;
        bounds.extend([0, REQUEST_LEN]);
        bounds.sort_unstable();
        bounds.dedup();
        let mut assembler = Assembler::new();
        // Twice: an assembler serves all orders of a connection.
        for _ in 0..2 {
            let mut orders = Vec::new();
            for bound in bounds.windows(2) {
                orders.extend(assembler.feed(&request[bound[0]..bound[1]]).unwrap());
            }
            prop_assert_eq!(&orders, &[order]);
        }
    }

    #[test]
    fn more_than_one_order_is_refused(extra in 1..100_usize) {
        prop_assert!(Assembler::new().feed(&vec![0; REQUEST_LEN + extra]).is_err());
    }
}
