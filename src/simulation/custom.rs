//! Operations of an embedder's own: each completes once, keeps what it uses until then, and can be
//! dropped at any time.

use std::rc::Rc;

use io_uring::squeue::Flags;

use super::{MILLISECOND, milliseconds, simulate};
use crate::{
    ring::simulated::{Alarm, Nop, World},
    runtime::{sleep, spawn, submit, timeout},
};

/// Submits an alarm and waits for it, for so long as the seed says.
async fn alarm(world: World, kept: Rc<()>) {
    let mut random = world.random();
    let after = random.below(20 * MILLISECOND);
    let due = world.now() + after;
    let submitted = submit(Alarm::new(after, kept)).unwrap();
    sleep(milliseconds(random.below(4) * random.below(8))).await;
    let waited = timeout(milliseconds(random.below(20)), submitted).await;
    let Ok(ended) = waited else { return };
    let (result, operation) = ended.unwrap();
    assert_eq!(result, -libc::ETIME);
    assert!(world.now() >= due, "early");
    sleep(milliseconds(random.below(2))).await;
    drop(operation);
}

#[test]
fn an_operation_keeps_what_it_uses_until_it_completes() {
    simulate(|world| async move {
        let kept = Rc::new(());
        let start = |_| spawn(alarm(world.clone(), Rc::clone(&kept)));
        let alarms: Vec<_> = (0..20).map(start).collect();
        let mut random = world.random();
        for alarm in alarms {
            match random.chance(20) {
                true => drop(alarm.cancel().await),
                false => alarm.await.unwrap(),
            }
        }
        // Cancelled ones end soon.
        while world.in_flight() > 0 {
            sleep(milliseconds(1)).await;
        }
        sleep(milliseconds(5)).await;
        while world.untaken() > 0 {
            sleep(milliseconds(1)).await;
        }
        assert_eq!(Rc::strong_count(&kept), 1, "it was not dropped");
    });
}

#[test]
fn an_executor_ends_with_operations_in_flight() {
    simulate(|world| async move {
        for _ in 0..world.random().below(10) {
            spawn(alarm(world.clone(), Rc::new(()))).detach();
        }
        sleep(milliseconds(world.random().below(10))).await;
    });
}

#[test]
fn flags_that_touch_other_operations_are_refused() {
    simulate(|_| async {
        for flag in [
            Flags::IO_LINK,
            Flags::IO_HARDLINK,
            Flags::IO_DRAIN,
            Flags::BUFFER_SELECT,
            Flags::SKIP_SUCCESS,
        ] {
            let refused = submit(Nop(flag | Flags::ASYNC)).err().expect("it is forbidden");
            assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
            assert!(refused.to_string().contains("IOSQE_"), "{refused}");
        }
        let (result, _) = submit(Nop(Flags::ASYNC)).unwrap().await.unwrap();
        assert_eq!(result, 0);
    });
}
