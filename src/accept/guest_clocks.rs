//! How busy guest shards are: the CPU time of their threads, read on the first acceptor.
//!
//! *In:* the threads' clocks, every 50 ms while there are connections or a share goes down, every
//! 500 ms where there is one shard. *Out:* the busy shares in the loads, and the seconds in the
//! metrics. *Never:* asks anything of the guest, so a shard that is stuck is seen to be busy; and
//! never wakes an acceptor of a proxy that does nothing.

use std::{
    cell::Cell,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use crate::{
    runtime::sleep,
    shard::{BusyShare, PERIOD, Remote, Shared},
    sys::thread_clock::ThreadClock,
};

/// Where there is one shard, nobody chooses by how busy it is, and metrics are read now and then.
const FOR_METRICS: u64 = 10 * PERIOD;

/// Tells that connections were placed.
#[derive(Clone, Default)]
pub(super) struct Placed(Rc<Cell<Option<Waker>>>);

impl Placed {
    pub(super) fn tell(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }

    /// Waits until a connection is placed after this was first polled.
    async fn wait(&self) {
        let mut waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.0.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

struct Guest {
    shard: usize,
    clock: ThreadClock,
    used: Duration,
    share: BusyShare,
}

/// Reads the clocks of those shards that have one, until it is dropped.
pub(super) async fn watch(shards: Arc<[Arc<Remote>]>, shared: Arc<Shared>, placed: Placed) {
    let guest = |remote: &Arc<Remote>| {
        let clock = *remote.clock.get()?;
        let used = clock.read().unwrap_or_default();
        Some(Guest { shard: remote.index, clock, used, share: BusyShare::default() })
    };
    let mut guests: Vec<Guest> = shards.iter().filter_map(guest).collect();
    if guests.is_empty() {
        return;
    }
    let every = Duration::from_nanos(if shards.len() > 1 { PERIOD } else { FOR_METRICS });
    let mut began = Instant::now();
    loop {
        let idle = guests.iter().all(|guest| guest.share.permille() == 0);
        if idle && shared.loads.total() == 0 {
            placed.wait().await;
        }
        sleep(every).await;
        let period = began.elapsed();
        began += period;
        for guest in &mut guests {
            // Of a thread that has ended nothing is left to tell but that it does nothing.
            let used = guest.clock.read().unwrap_or(guest.used);
            let busy = used.saturating_sub(guest.used);
            guest.used = used;
            guest.share = guest.share.after(busy.as_nanos() as u64, period.as_nanos() as u64);
            shared.loads.report_busy(guest.shard, guest.share.permille());
            shared.registry.shard(guest.shard).busy_nanos.raise_to(used.as_nanos() as u64);
        }
    }
}
