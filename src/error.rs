//! What can go wrong with a proxy as a whole. What goes wrong with one connection ends that
//! connection, and is counted.

use std::{fmt, io};

use crate::{
    admin,
    ring::RingRefused,
    sys::{dial::DialError, listening::ListenError, placement::CpuNotAllowed},
};

/// Why a proxy could not start, or a reload was refused.
#[non_exhaustive]
pub enum Error {
    /// io_uring cannot be used here.
    Ring(RingRefused),
    /// A listener's socket could not be made. The text names the address, the step and the remedy.
    Listen {
        /// All of it, in words.
        message: String,
        /// What the system said.
        source: io::Error,
    },
    /// The description of the proxy contradicts itself or is not complete.
    Invalid(String),
    /// The admin server could not start.
    Admin(admin::Error),
    /// Something else that the system refused.
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A [`Result`](std::result::Result) with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn address(error: &dyn fmt::Display) -> Error {
        Error::Invalid(error.to_string())
    }

    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::System { doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Ring(refused) => refused.fmt(f),
            Error::Listen { message, .. } => f.write_str(message),
            Error::Invalid(text) => f.write_str(text),
            Error::Admin(error) => error.fmt(f),
            Error::System { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

/// The same text as [`Display`](fmt::Display): it is what a `main` that returns the error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Ring(error) => Some(error),
            Error::Listen { source, .. } | Error::System { source, .. } => Some(source),
            Error::Admin(error) => Some(error),
            Error::Invalid(_) => None,
        }
    }
}

impl From<RingRefused> for Error {
    fn from(refused: RingRefused) -> Error {
        Error::Ring(refused)
    }
}

impl From<admin::Error> for Error {
    fn from(error: admin::Error) -> Error {
        Error::Admin(error)
    }
}

impl From<ListenError> for Error {
    fn from(error: ListenError) -> Error {
        Error::Listen { message: error.to_string(), source: error.source }
    }
}

impl From<CpuNotAllowed> for Error {
    fn from(error: CpuNotAllowed) -> Error {
        Error::Invalid(error.to_string())
    }
}

impl From<DialError> for Error {
    fn from(error: DialError) -> Error {
        let source = io::Error::new(error.source.kind(), error);
        Error::System { doing: "making a socket to an upstream", source }
    }
}
