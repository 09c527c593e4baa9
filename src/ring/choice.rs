//! Which driver it is to be: what is asked for, and what comes of it on this machine.
//!
//! In: the wish of an embedder, and what trying a ring shows. Out: a value that says which driver is
//! used and why. It makes no driver, and decides for one thread as for all.

use std::fmt;

use super::uring::{Capabilities, RingRefused};

/// Which driver carries out a proxy's operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where this process may use it, epoll elsewhere. Which of the two, and why, is said in
    /// the log, by [`Proxy::driver`](crate::Proxy::driver), at `/shards` and by the metric
    /// `evenkeel_driver_info`.
    #[default]
    Auto,
    /// io_uring, or the proxy does not start.
    IoUring,
    /// epoll, which needs no permission and no locked memory, and some more CPU time a request.
    Epoll,
}

impl Driver {
    /// What comes of this wish here. `mask` is what rings are to use at most.
    ///
    /// # Errors
    /// io_uring is asked for, and refused.
    pub(crate) fn select(self, mask: Capabilities) -> Result<Selected, RingRefused> {
        if self == Driver::Epoll {
            return Ok(Selected::Epoll);
        }
        Ok(Selected::IoUring(Capabilities::probe()?.masked(mask)))
    }
}

/// The driver that a thread is to make.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Selected {
    IoUring(Capabilities),
    Epoll,
}

/// The driver of a running proxy, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverInUse {
    asked: Driver,
    refused: Option<RingRefused>,
}

impl DriverInUse {
    /// The driver that was `asked` for, or epoll, since a ring was refused.
    pub(crate) fn new(asked: Driver, refused: Option<RingRefused>) -> DriverInUse {
        DriverInUse { asked, refused }
    }

    /// `io_uring` or `epoll`.
    pub fn name(&self) -> &'static str {
        match (self.asked, &self.refused) {
            (Driver::Epoll, _) | (_, Some(_)) => "epoll",
            _ => "io_uring",
        }
    }

    /// Why, in a word: `configured`; `available`, of an io_uring that nobody insisted on; or what
    /// refused it: `sysctl`, `seccomp`, `memlock`, `kernel`, `other`.
    pub fn reason(&self) -> &'static str {
        match (self.asked, &self.refused) {
            (_, Some(refused)) => refused.cause(),
            (Driver::Auto, None) => "available",
            _ => "configured",
        }
    }

    /// What refused io_uring, with the remedy, where epoll is used for that.
    pub fn refused(&self) -> Option<&RingRefused> {
        self.refused.as_ref()
    }
}

impl fmt::Display for DriverInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match &self.refused {
            Some(refused) => write!(f, ", since {refused}"),
            None => Ok(()),
        }
    }
}
