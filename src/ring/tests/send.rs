//! The sending half against a queue of bytes.

use std::collections::VecDeque;

use proptest::prelude::*;

use crate::ring::{driver::Operation, send::SendHalf};

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Start,
    /// Completes with so many of 255 parts of what was asked for.
    Sent(u8),
    /// Nothing was sent, if that was to be done at once.
    Full,
    Failed,
    Finish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..50_usize).prop_map(Step::Push),
        4 => Just(Step::Start),
        2 => any::<u8>().prop_map(Step::Sent),
        3 => Just(Step::Sent(255)),
        2 => Just(Step::Full),
        1 => Just(Step::Finish),
    ]
}

/// What an operation sends, read as the kernel reads it.
fn bytes(operation: &Operation) -> Vec<u8> {
    match operation {
        Operation::Send { pointer, length, .. } => {
            // SAFETY: the half keeps the bytes in place until the completion.
            unsafe { std::slice::from_raw_parts(*pointer, *length as usize) }.to_vec()
        }
        Operation::SendVectored { message, .. } => {
            // SAFETY: the same, for the message and its vectors.
            let vectors =
                unsafe { std::slice::from_raw_parts((**message).msg_iov, (**message).msg_iovlen) };
            let piece = |vector: &libc::iovec| {
                // SAFETY: the same, for what the vectors point to.
                unsafe { std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), vector.iov_len) }
            };
            vectors.iter().flat_map(piece).copied().collect()
        }
        operation => panic!("{operation:?} sends nothing"),
    }
}

fn is_at_once(operation: &Operation) -> bool {
    operation.at_once().is_some()
}

fn check(steps: Vec<Step>) {
    let mut half = SendHalf::new();
    let mut queue: VecDeque<u8> = VecDeque::new();
    let mut in_flight: Option<(Operation, Vec<u8>)> = None;
    let (mut failed, mut finish, mut finished, mut is_full) = (false, false, false, false);
    let mut next = 0_u8;
    for step in steps {
        match step {
            Step::Push(length) => {
                let payload: Vec<u8> = (0..length).map(|at| next.wrapping_add(at as u8)).collect();
                let pushed = half.push(payload.clone().into());
                assert_eq!(pushed.is_ok(), !failed && !finish);
                if pushed.is_ok() {
                    next = next.wrapping_add(length as u8);
                    queue.extend(payload);
                }
            }
            Step::Start => {
                let operation = half.start();
                let due = in_flight.is_none() && !queue.is_empty() && !failed;
                assert_eq!(operation.is_some(), due);
                if let Some(operation) = operation {
                    let sends = bytes(&operation);
                    assert!(!sends.is_empty());
                    assert!(!(is_full && is_at_once(&operation)), "it would turn in circles");
                    assert!(queue.iter().take(sends.len()).eq(&sends), "out of order");
                    in_flight = Some((operation, sends));
                }
            }
            Step::Sent(parts) => {
                let Some((operation, sends)) = in_flight.take() else { continue };
                assert_eq!(bytes(&operation), sends, "it changed in flight");
                let sent = sends.len() * usize::from(parts) / 255;
                half.complete(sent as i32);
                is_full = is_at_once(&operation) && sent < sends.len();
                queue.drain(..sent);
            }
            Step::Full => {
                let Some(_) = in_flight.take_if(|(operation, _)| is_at_once(operation)) else {
                    continue;
                };
                half.complete(-libc::EAGAIN);
                is_full = true;
            }
            Step::Failed => {
                let Some((operation, sends)) = in_flight.take() else { continue };
                assert_eq!(bytes(&operation), sends, "it changed in flight");
                half.complete(-libc::ECONNRESET);
                failed = true;
            }
            Step::Finish => {
                half.finish();
                finish = true;
            }
        }
        match half.queued() {
            Ok(queued) => assert_eq!((queued, failed), (queue.len(), false)),
            Err(error) => assert_eq!((error.raw_os_error(), failed), (Some(104), true)),
        }
        let due = finish && !finished && queue.is_empty() && !failed;
        assert_eq!(half.take_finish(), due, "the end of the direction");
        finished |= due;
    }
}

proptest! {
    #[test]
    fn bytes_leave_in_order_and_once(steps in proptest::collection::vec(step(), 0..200)) {
        check(steps);
    }

    #[test]
    fn nothing_is_sent_after_a_failure(
        before in proptest::collection::vec(step(), 0..40),
        after in proptest::collection::vec(step(), 0..40),
    ) {
        let failure = [Step::Push(3), Step::Start, Step::Failed];
        check(before.into_iter().chain(failure).chain(after).collect());
    }
}
