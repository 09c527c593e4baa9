//! Operations of an embedder's own, on a real ring.

use std::time::Duration;

use io_uring::{opcode, squeue::Entry, types::Timespec};

use super::has_io_uring;
use crate::{
    ring::{Capabilities, CustomOperation},
    runtime::{block_on, submit, timeout},
};

struct Nop;

// SAFETY: a NOP uses no memory and completes once.
unsafe impl CustomOperation for Nop {
    fn entry(&mut self) -> Entry {
        opcode::Nop::new().build()
    }
}

struct Alarm(Box<Timespec>);

// SAFETY: the time is boxed, so its address does not change; a timeout completes once.
unsafe impl CustomOperation for Alarm {
    fn entry(&mut self) -> Entry {
        opcode::Timeout::new(&raw const *self.0).build()
    }
}

#[test]
fn what_was_not_allowed_is_refused_by_the_kernel() {
    if !has_io_uring("what_was_not_allowed_is_refused_by_the_kernel") {
        return;
    }
    let (result, Nop) = block_on(async { submit(Nop).unwrap().await }).unwrap().unwrap();
    assert_eq!(result, -libc::EACCES);
}

#[test]
fn what_was_allowed_runs_and_can_be_dropped() {
    use crate::{
        ring::{Reactor, Restrictions, RingDriver},
        runtime::Executor,
    };
    if !has_io_uring("what_was_allowed_runs_and_can_be_dropped") {
        return;
    }
    let restrictions =
        Restrictions::default().allow(opcode::Nop::CODE).allow(opcode::Timeout::CODE);
    let capabilities = Capabilities::probe().unwrap().masked(Capabilities::of_this_test_run());
    let driver = RingDriver::new(capabilities, &restrictions, &[]).unwrap();
    let executor = Executor::new(Reactor::new(Box::new(driver), Vec::new()));
    let result = executor.run(async {
        let far = Alarm(Box::new(Timespec::new().sec(3600)));
        assert!(timeout(Duration::from_millis(5), submit(far).unwrap()).await.is_err());
        submit(Nop).unwrap().await.unwrap().0
    });
    assert_eq!(result.unwrap(), 0);
    assert_eq!(executor.reactor().occupied(), 0, "the dropped alarm is cancelled and gone");
}
