//! The parts that a wrong number could hide in.

use proptest::prelude::*;

use crate::exchange::Exchange;
use crate::message::{Assembler, Order, REQUEST_LEN};
use crate::process::Thread;
use crate::statistics::{largest_over_mean, median};
use crate::work::Work;

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
    let work = Work { turns: 10, completions: 25 };
    assert_eq!(format!("{work}\n").parse(), Ok(work));
    assert_eq!(work.completions_per_turn(), 2.5);
    assert!("10 25 1".parse::<Work>().is_err());
}

#[test]
fn evenness_is_the_largest_over_the_mean() {
    assert_eq!(largest_over_mean(&[2.0, 2.0, 2.0]), 1.0);
    assert_eq!(largest_over_mean(&[1.0, 3.0]), 1.5);
    assert_eq!(largest_over_mean(&[]), 1.0);
}

#[test]
fn the_time_of_a_thread_is_what_it_has_run() {
    let busy = std::thread::Builder::new().name("busy-7".to_owned()).spawn(|| {
        let started = std::time::Instant::now();
        while started.elapsed() < std::time::Duration::from_millis(20) {}
        let mut threads = Thread::all(&[std::process::id()]).unwrap();
        threads.retain(|thread| thread.name == "busy-7");
        threads.iter().map(|thread| thread.run_time().unwrap()).collect::<Vec<_>>()
    });
    let times = busy.unwrap().join().unwrap();
    assert!(times.len() == 1 && !times[0].is_zero(), "{times:?}");
}

#[test]
fn a_response_that_is_not_what_was_asked_for_is_refused() {
    let refused = |bytes: &[u8]| Exchange::HTTP.response().feed(bytes).unwrap_err();
    assert!(refused(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno").contains("503: no"));
    assert!(refused(b"HTTP/1.1 200 OK\r\n\r\n").contains("Content-Length"));
    assert!(refused(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab").contains("more bytes"));
    assert!(refused(b"SSH-2.0\r\n\r\n").contains("malformed"));
    assert!(Exchange::SMALL.response().feed(&[0; 129]).is_err());
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

    #[test]
    fn a_response_ends_where_it_does_in_any_segmentation(
        body_len in 0..64_usize,
        cuts in prop::collection::vec(0..200_usize, 0..8),
    ) {
        let mut response = format!("HTTP/1.1 200 OK\r\nA: b\r\ncontent-length: {body_len}\r\n\r\n")
            .into_bytes();
        response.extend(std::iter::repeat_n(b'\n', body_len));
        let mut bounds: Vec<usize> = cuts.into_iter().map(|cut| cut.min(response.len())).collect();
        bounds.extend([0, response.len()]);
        bounds.sort_unstable();
        bounds.dedup();
        let mut progress = Exchange::HTTP.response();
        // Twice: a connection has many.
        for _ in 0..2 {
            for bound in bounds.windows(2) {
                let complete = progress.feed(&response[bound[0]..bound[1]]).unwrap();
                prop_assert_eq!(complete, bound[1] == response.len());
                prop_assert_eq!(progress.is_partial(), !complete);
            }
        }
    }
}
