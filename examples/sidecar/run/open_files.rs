//! How many connections the open files of this process suffice for. Raises the soft limit to the hard
//! one, and nothing else.

use std::{io, num::NonZeroUsize};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are not connections: listening sockets, rings, logs, the admin server.
const RESERVE: u64 = 64;

/// Open files that a relayed connection needs: one to the client, one to the upstream.
const FILES_A_CONNECTION: u64 = 2;

/// Raises the soft limit of open files to the hard one, which needs no privilege, and returns it;
/// `None` is unlimited.
///
/// # Errors
/// What `setrlimit(2)` gives.
pub(super) fn raise() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}

/// The cap on connections, in all: the configured one, or what the open files suffice for; 0 is none.
/// Warns of a configured one that they do not suffice for.
pub(super) fn connection_cap(configured: Option<NonZeroUsize>, open_files: Option<u64>) -> u64 {
    let suffices =
        open_files.map(|files| (files.saturating_sub(RESERVE) / FILES_A_CONNECTION).max(1));
    let Some(configured) = configured else { return suffices.unwrap_or(0) };
    let configured = configured.get() as u64;
    if let Some(suffices) = suffices.filter(|suffices| *suffices < configured) {
        tracing::warn!(
            "limits.connections is {configured}, but the limit of open files suffices for \
             {suffices} connections: raise RLIMIT_NOFILE to {}",
            configured * FILES_A_CONNECTION + RESERVE
        );
    }
    configured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_is_what_is_configured_or_what_the_open_files_suffice_for() {
        let configured = NonZeroUsize::new(5000);
        for (configured, open_files, cap) in [
            (None, Some(1024), 480),
            (None, Some(20), 1),
            (None, None, 0),
            (configured, Some(1024), 5000),
            (configured, None, 5000),
        ] {
            assert_eq!(
                connection_cap(configured, open_files),
                cap,
                "{configured:?} {open_files:?}"
            );
        }
    }
}
