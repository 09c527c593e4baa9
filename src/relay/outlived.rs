//! The end of a relay one of whose connections is to end, as what it was made with was replaced.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    net::{Outlived, Stream},
    runtime::{Sleep, sleep},
};

/// Nothing moves for so long, and both ends are likely to be between two exchanges.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// What a relay is to do about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing yet.
    Serves,
    /// It ends with the next [`PAUSE`].
    WaitsForPause,
    /// There was none in time.
    IsOver,
}

pub(super) struct End {
    outlived: [Option<Outlived>; 2],
    patience: Option<Sleep>,
}

impl End {
    /// `None` where neither has an end of this kind. Boxed, as most have not.
    pub(super) fn of(streams: [&Stream; 2]) -> Option<Box<End>> {
        let outlived = streams.map(Stream::outlived);
        let is_any = outlived.iter().any(Option::is_some);
        is_any.then(|| Box::new(End { outlived, patience: None }))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Stage {
        if self.patience.is_none() {
            for outlived in self.outlived.iter_mut().flatten() {
                if let Poll::Ready(patience) = outlived.as_mut().poll(cx) {
                    self.patience = Some(sleep(patience.max(2 * PAUSE)));
                    break;
                }
            }
        }
        match &mut self.patience {
            None => Stage::Serves,
            Some(patience) => match Pin::new(patience).poll(cx) {
                Poll::Pending => Stage::WaitsForPause,
                Poll::Ready(()) => Stage::IsOver,
            },
        }
    }
}
