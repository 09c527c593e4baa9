//! Tasks: futures that an executor runs by themselves.

use std::{
    cell::RefCell,
    fmt,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use async_task::FallibleTask;
use pin_project_lite::pin_project;

use super::executor::Executor;

/// Starts a task on this thread's executor. Its future need not be `Send`.
///
/// # Panics
///
/// Outside of a shard, where there is no executor.
#[track_caller]
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    spawn_on(&Executor::current(), future)
}

pub(super) fn spawn_on<T: 'static>(
    executor: &Rc<Executor>,
    future: impl Future<Output = T> + 'static,
) -> JoinHandle<T> {
    let key = executor.tasks.borrow_mut().insert(Waker::noop().clone());
    let place = Place { executor: Rc::clone(executor), key };
    let future = Listed { future, _place: place };
    let remote = Arc::clone(executor.remote());
    let (runnable, task) =
        async_task::spawn_local(future, move |runnable| remote.schedule(runnable));
    executor.tasks.borrow_mut()[key] = runnable.waker();
    runnable.schedule();
    JoinHandle { task: task.fallible() }
}

pin_project! {
    /// A task's future, with its place in the list of its executor. An `async` block around it would
    /// hold the future twice: where it was captured, and where it is awaited.
    struct Listed<F> {
        #[pin]
        future: F,
        _place: Place,
    }
}

impl<F: Future> Future for Listed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

struct Place {
    executor: Rc<Executor>,
    key: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let waker = RefCell::borrow_mut(&self.executor.tasks).try_remove(self.key);
        drop(waker);
    }
}

/// Waits for a task. Dropping it cancels the task: its future is dropped at the executor's next
/// turn.
#[must_use = "dropping a JoinHandle cancels its task; use `detach` to let it run"]
pub struct JoinHandle<T> {
    task: FallibleTask<T>,
}

impl<T> JoinHandle<T> {
    /// Lets the task run by itself.
    pub fn detach(self) {
        self.task.detach();
    }

    /// Whether the task is done, cancelled or has panicked.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Cancels the task and waits until its future is dropped. `Some` if it was done before.
    pub async fn cancel(self) -> Option<T> {
        self.task.cancel().await
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, TaskEnded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx).map(|output| output.ok_or(TaskEnded))
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("is_finished", &self.is_finished()).finish()
    }
}

/// A task ended without a result: it panicked, or its executor ended first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskEnded;

impl fmt::Display for TaskEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task panicked, or its executor ended")
    }
}

impl std::error::Error for TaskEnded {}
