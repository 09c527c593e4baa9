//! Two futures of one task, of which the first to end counts.

use std::{future::poll_fn, pin::Pin, task::Poll};

/// Which future has ended.
pub(super) enum First<A, B> {
    One(A),
    Other(B),
}

/// Runs both until one has ended; the other can go on. If both have, it is the first one.
pub(super) async fn race<A, B>(
    one: &mut Pin<&mut impl Future<Output = A>>,
    other: &mut Pin<&mut impl Future<Output = B>>,
) -> First<A, B> {
    poll_fn(|cx| {
        if let Poll::Ready(output) = one.as_mut().poll(cx) {
            return Poll::Ready(First::One(output));
        }
        other.as_mut().poll(cx).map(First::Other)
    })
    .await
}
