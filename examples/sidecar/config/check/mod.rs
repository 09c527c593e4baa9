//! Compares what is written with the rest of the file and with the machine.
//!
//! In: a draft whose single values are right. Out: findings, each with a remedy, and for each
//! destination the listener that it hangs on. A part that could not be read raises no further
//! findings. Errors are what cannot work; warnings are what works and is hardly meant, or what
//! depends on the machine and the user, which need not be those that the sidecar will run with.

mod clusters;
mod listeners;
mod machine;
mod protocols;
mod routes;
mod sockets;
mod tls;

pub(super) use self::tls::HTTP;
use super::{
    draft::Draft,
    host::Host,
    problem::{Findings, Position, Span},
};

/// All checks over one draft.
pub(super) struct Checks<'c, 'd> {
    draft: &'c Draft<'d>,
    host: &'c Host,
    text: &'c str,
    findings: &'c mut Findings,
}

/// Runs all checks. Out: for each listener of the draft, the index of the accepting listener that it
/// is a destination of.
pub(super) fn check(
    draft: &Draft<'_>,
    host: &Host,
    text: &str,
    findings: &mut Findings,
) -> Vec<Option<usize>> {
    let mut checks = Checks { draft, host, text, findings };
    checks.shards();
    checks.log();
    checks.names();
    checks.kinds();
    let via = checks.destinations();
    checks.patterns(&via);
    checks.targets();
    checks.protocol_keys();
    checks.listener_tls(&via);
    checks.routes();
    checks.clusters();
    checks.cluster_kinds();
    checks.cluster_tls();
    checks.sockets();
    checks.loops();
    checks.privileges();
    checks.exposure();
    checks.inbound(&via);
    via
}

impl Checks<'_, '_> {
    /// The line of a place, to point at it from another.
    fn line(&self, at: &Span) -> usize {
        Position::of(self.text, at.start).line
    }
}
