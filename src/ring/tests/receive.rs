//! The receiving half against a queue of bytes.

use std::{collections::VecDeque, rc::Rc};

use proptest::prelude::*;

use crate::ring::{
    Pool,
    driver::{Completion, Key, Kind, Operation, Token},
    reactor::{LARGE, SMALL},
    receive::{ReceiveHalf, Then},
};

#[derive(Clone, Debug)]
enum Step {
    Arm,
    /// So many bytes arrive, as far as buffer and limit allow; the receive may end with them.
    Arrive(u32, bool),
    Cancelled,
    NoBuffer,
    /// Somebody has a buffer for it again.
    Fed,
    Take,
    /// Takes, and puts back what is behind the first bytes.
    TakeSome(usize),
    UsePool(u16, u32),
    End(bool),
    Failed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Arm),
        12 => (1..40_u32, proptest::bool::weighted(0.1)).prop_map(|(n, last)| Step::Arrive(n, last)),
        1 => Just(Step::Cancelled),
        1 => Just(Step::NoBuffer),
        2 => Just(Step::Fed),
        6 => Just(Step::Take),
        2 => (0..10_usize).prop_map(Step::TakeSome),
        1 => (SMALL..=LARGE, 1..300_u32).prop_map(|(pool, credit)| Step::UsePool(pool, credit)),
    ]
}

/// A receive in flight.
#[derive(Clone, Copy)]
struct Armed {
    pool: u16,
    left: u32,
}

struct Model {
    half: ReceiveHalf,
    pools: Vec<Rc<Pool>>,
    limits: bool,
    armed: Option<Armed>,
    credit: u32,
    next_credit: Option<u32>,
    arrived: VecDeque<u8>,
    ended: Option<Option<i32>>,
    next: u8,
}

impl Model {
    fn new(limits: bool, credit: u32, buffers: u16, size: u32) -> Model {
        let pools =
            vec![Pool::new(buffers, size).unwrap(), Pool::new(2, size.saturating_mul(4)).unwrap()];
        Model {
            half: ReceiveHalf::new(credit, false),
            pools,
            limits,
            armed: None,
            credit,
            next_credit: None,
            arrived: VecDeque::new(),
            ended: None,
            next: 0,
        }
    }

    fn complete(&mut self, result: i32, buffer: Option<u16>, more: bool) -> Then {
        let token = Token::new(Key { index: 0, generation: 1 }, Kind::Receive);
        if !more {
            self.armed = None;
        }
        self.half.complete(Completion { token, result, buffer, more }, &self.pools)
    }

    fn arm(&mut self) {
        let starved = self.half.starved;
        let operation = self.half.arm(self.armed.is_some(), self.limits);
        if self.armed.is_some() || starved || self.ended.is_some() {
            assert!(operation.is_none(), "{operation:?} beside another, or in vain");
            return;
        }
        self.credit = self.next_credit.take().unwrap_or(self.credit);
        let left = self.credit.saturating_sub(self.arrived.len() as u32);
        assert_eq!(operation.is_some(), left >= self.credit.div_ceil(2), "{left} left");
        if let Some(operation) = operation {
            let Operation::Receive { pool, limit, .. } = operation else { unreachable!() };
            assert_eq!(limit, if self.limits { left } else { 0 });
            let left = if self.limits { limit } else { u32::MAX };
            self.armed = Some(Armed { pool, left });
        }
    }

    fn arrive(&mut self, count: u32, last: bool) {
        let Some(mut armed) = self.armed else { return };
        let pool = Rc::clone(&self.pools[usize::from(armed.pool)]);
        let Some((id, start)) = pool.lend() else { return self.no_buffer() };
        let count = count.min(pool.buffer_size()).min(armed.left);
        let bytes: Vec<u8> = (0..count).map(|at| self.next.wrapping_add(at as u8)).collect();
        self.next = self.next.wrapping_add(count as u8);
        // SAFETY: the buffer was just lent, and `count` is at most its size.
        unsafe { start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.arrived.extend(bytes);
        if self.limits {
            armed.left -= count;
            self.armed = Some(armed);
        }
        let more = !last && armed.left > 0;
        let cancelling = self.half.cancelling;
        let then = self.complete(count as i32, Some(id), more);
        let full = self.arrived.len() as u32 >= self.credit;
        assert_eq!(then == Then::Cancel, more && full && !cancelling, "{then:?}");
    }

    fn no_buffer(&mut self) {
        let Some(Armed { pool, .. }) = self.armed else { return };
        let then = self.complete(-libc::ENOBUFS, None, false);
        assert_eq!(then == Then::Starve, pool == SMALL);
        if pool == LARGE {
            self.next_credit = Some(self.credit);
        }
    }

    /// Takes; puts back what is behind the first `keep` bytes.
    fn take(&mut self, keep: Option<usize>) {
        match self.half.take() {
            None => assert!(self.arrived.is_empty() && self.ended.is_none(), "something was there"),
            Some(Ok(Some(mut chunk))) => {
                let keep = keep.unwrap_or(chunk.len()).min(chunk.len());
                let first = chunk.split_to(keep);
                self.half.put_back(chunk);
                let expected: Vec<u8> = self.arrived.drain(..keep).collect();
                assert_eq!(&*first, expected, "out of order");
            }
            Some(Ok(None)) => assert_eq!((self.arrived.len(), self.ended), (0, Some(None))),
            Some(Err(error)) => {
                let ended = Some(error.raw_os_error());
                assert_eq!((self.arrived.len(), self.ended), (0, ended));
            }
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Arm => self.arm(),
            Step::Arrive(count, last) => self.arrive(count, last),
            Step::Cancelled if self.armed.is_some() => {
                assert_eq!(self.complete(-libc::ECANCELED, None, false), Then::Nothing);
            }
            Step::NoBuffer => self.no_buffer(),
            Step::Fed => self.half.starved = false,
            Step::Take => self.take(None),
            Step::TakeSome(keep) => self.take(Some(keep)),
            Step::UsePool(pool, credit) => {
                self.half.use_pool(pool, credit);
                self.next_credit = Some(credit);
            }
            Step::End(picks) if self.armed.is_some() => {
                let Some(Armed { pool, .. }) = self.armed else { return };
                let buffer = if picks { self.pools[usize::from(pool)].lend() } else { None };
                self.complete(0, buffer.map(|(id, _)| id), false);
                self.ended = Some(None);
            }
            Step::Failed if self.armed.is_some() => {
                self.complete(-libc::ECONNRESET, None, false);
                self.ended = Some(Some(libc::ECONNRESET));
            }
            Step::Cancelled | Step::End(_) | Step::Failed => {}
        }
    }

    /// Everything can be taken, and no buffer is kept.
    fn finish(mut self) {
        while !self.arrived.is_empty() {
            self.take(None);
        }
        self.take(None);
        self.half.clear();
        for pool in &self.pools {
            assert_eq!(pool.available(), usize::from(pool.buffers()), "a buffer was kept");
            assert_eq!(pool.lent(), 0);
        }
    }
}

proptest! {
    #[test]
    fn bytes_are_taken_in_order_and_once(
        limits: bool,
        credit in 1..200_u32,
        (buffers, size) in (1..20_u16, 1..64_u32),
        steps in proptest::collection::vec(step(), 0..200),
        end in prop_oneof![Just(None), any::<bool>().prop_map(Step::End).prop_map(Some), Just(Some(Step::Failed))],
        after in proptest::collection::vec(step(), 0..20),
    ) {
        let mut model = Model::new(limits, credit, buffers, size);
        for step in steps.into_iter().chain(end).chain(after) {
            model.apply(step);
        }
        model.finish();
    }

    #[test]
    fn credit_bounds_what_waits(
        credit in 1..400_u32,
        size in 1..64_u32,
        arrivals in proptest::collection::vec(1..40_u32, 0..300),
    ) {
        let mut model = Model::new(true, credit, 2000, size);
        model.arm();
        for count in arrivals {
            model.apply(Step::Arrive(count, false));
            model.arm();
            let pool = &model.pools[0];
            let held = usize::from(pool.buffers()) - pool.available();
            prop_assert!(model.arrived.len() as u32 <= credit);
            prop_assert!(held as u32 <= 4 + 2 * credit / size + 1, "{held} buffers");
        }
        model.finish();
    }
}

/// Single bytes that arrive while buffers are short wait in few pieces, not in one each: their
/// memory is bounded by the credit.
#[test]
fn single_bytes_under_pressure_are_joined() {
    const BYTES: u32 = 16 << 10;
    let pool = Pool::new(8, 64).unwrap();
    // Others hold all that may be held.
    let held: Vec<_> = (0..6).map(|_| pool.lend().unwrap().0).collect();
    let held: Vec<_> = held.into_iter().map(|id| pool.filled(id, 1)).collect();
    let mut half = ReceiveHalf::new(BYTES, false);
    let token = Token::new(Key { index: 0, generation: 1 }, Kind::Receive);
    for _ in 0..BYTES {
        let (id, _) = pool.lend().expect("a buffer is left, whatever waits");
        let completion = Completion { token, result: 1, buffer: Some(id), more: true };
        half.complete(completion, &[Rc::clone(&pool)]);
    }
    let mut chunks = 0;
    let mut bytes = 0;
    while let Some(Ok(Some(chunk))) = half.take() {
        chunks += 1;
        bytes += chunk.len() as u32;
    }
    assert_eq!(bytes, BYTES);
    assert!(chunks <= 64, "{bytes} bytes in {chunks} pieces");
    drop(held);
    assert_eq!(pool.available(), 8);
}
