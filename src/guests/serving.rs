//! The tasks that serve connections on an executor of somebody else's.
//!
//! *In:* the futures of services. *Out:* nothing. *Owns:* how many there are. *Never:* lets a panic
//! out: it ends its own connection, and is counted, whatever the executor would make of it.

use std::{
    cell::Cell,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use crate::shard::Shard;

/// The connections of one shard that are being served.
#[derive(Clone)]
pub(super) struct Serving {
    shard: Shard,
    tasks: Rc<Cell<usize>>,
}

/// One of them, begun or not.
struct Task(Rc<Cell<usize>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Serving {
    pub(super) fn new(shard: Shard) -> Serving {
        Serving { shard, tasks: Rc::default() }
    }

    /// The task of a connection: `serve` until it is done or panics.
    pub(super) fn task<F: Future>(&self, serve: F) -> impl Future<Output = ()> + use<F> {
        self.tasks.set(self.tasks.get() + 1);
        let (task, shard) = (Task(Rc::clone(&self.tasks)), self.shard.clone());
        async move {
            let _task = task;
            let mut serve = pin!(serve);
            poll_fn(|cx| {
                // What the future holds is not polled again, only dropped.
                match catch_unwind(AssertUnwindSafe(|| serve.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(drop),
                    Err(_) => {
                        let cells = shard.registry().shard(shard.index());
                        cells.tasks_panicked.increment();
                        tracing::error!(
                            "a task panicked; its connection is closed, the shard goes on"
                        );
                        Poll::Ready(())
                    }
                }
            })
            .await;
        }
    }

    /// As [`task`](Self::task), for an executor that forgets its tasks when it ends: `serve` ends
    /// with the shard, if not before.
    #[cfg(feature = "glommio")]
    pub(super) fn task_until_cut<F: Future>(&self, serve: F) -> impl Future<Output = ()> + use<F> {
        let shard = self.shard.clone();
        self.task(async move {
            let mut serve = pin!(serve);
            let mut cut = pin!(shard.cut_begun());
            poll_fn(|cx| match cut.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => serve.as_mut().poll(cx).map(drop),
            })
            .await;
        })
    }

    /// How many there are.
    #[cfg(feature = "glommio")]
    pub(super) fn count(&self) -> usize {
        self.tasks.get()
    }
}
