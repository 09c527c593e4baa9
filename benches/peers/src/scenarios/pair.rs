//! Two proxies of one kind in a row, as sidecars are: plain HTTP to the first, TLS 1.3 with
//! certificates of both sides to the second, plain HTTP to the origin; each logs every request.
//!
//! At each start three clients knock at the second one. Plain HTTP and TLS without a certificate must
//! get nothing, TLS with the first one's certificate must get an answer: so it is known that there is
//! TLS between the two, and whose certificates count. In the end the logs must have the lines.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Placement;
use crate::credentials;
use crate::exchange::Exchange;
use crate::load::held::Held;
use crate::load::tls::{Client, Handshake};
use crate::peers::{Job, Peer, Running, Scratch, Side, Tls};

const KNOCK: Handshake = Handshake { resumed: false, post_quantum: false };

pub(super) struct Pair {
    files: Scratch,
}

impl Pair {
    /// Makes the certificates.
    pub(super) fn new() -> io::Result<Self> {
        let files = Scratch::in_memory()?;
        credentials::write(files.directory())?;
        Ok(Self { files })
    }

    /// Where both write their lines.
    pub(super) fn directory(&self) -> &Path {
        self.files.directory()
    }

    /// The two, the one that clients connect to first.
    ///
    /// # Errors
    /// One of them did not start, or the second let the wrong clients in.
    pub(super) fn start(
        &self,
        peer: &Peer,
        job: &Job,
        placement: &Placement,
    ) -> io::Result<Vec<Running>> {
        let origin = job.upstream;
        let job = |upstream, side, log| Job {
            upstream,
            tls: Some(Tls { side, credentials: self.directory().to_owned() }),
            access_log: Some(log),
            ..job.clone()
        };
        let [first_log, second_log] = self.logs();
        for log in [&first_log, &second_log] {
            fs::write(log, "")?;
        }
        let second = placement.start(peer, &job(origin, Side::MutualClients, second_log))?;
        let between = second.addresses[0];
        self.knock(between)?;
        let first = placement.start(peer, &job(between, Side::Upstream, first_log))?;
        Ok(vec![first, second])
    }

    fn knock(&self, address: SocketAddr) -> io::Result<()> {
        if Held::open(address, Exchange::HTTP_LAST).is_ok() {
            return Err(io::Error::other("it answers over TCP where it must over TLS"));
        }
        if Client::new(KNOCK, None)?.exchange(address).is_ok() {
            return Err(io::Error::other("it answers a client without a certificate"));
        }
        let known = Client::new(KNOCK, Some(self.directory()))?.exchange(address);
        known.map(drop).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("it refuses a client with its certificate: {error}"),
            )
        })
    }

    /// Whether each log has a line for each of `requests`, once both have ended.
    ///
    /// # Errors
    /// Lines are missing, or a log cannot be read.
    pub(super) fn check_logs(&self, requests: u64) -> io::Result<()> {
        for log in self.logs() {
            let text = fs::read(&log)?;
            let lines = text.iter().filter(|&&byte| byte == b'\n').count() as u64;
            if lines < requests {
                let reason = format!("{lines} lines in the log of {requests} requests");
                return Err(io::Error::other(reason));
            }
        }
        Ok(())
    }

    fn logs(&self) -> [PathBuf; 2] {
        ["first.log", "second.log"].map(|name| self.directory().join(name))
    }
}
