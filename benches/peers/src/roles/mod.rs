//! Peers that are this executable in another role: the library, the bare ring, and what is made of
//! crates. A role serves until standard input ends, so that none outlives the instrument.

mod bare_ring;
mod evenkeel;
#[cfg(feature = "crates")]
mod glommio;
#[cfg(feature = "crates")]
mod guests;
#[cfg(feature = "crates")]
mod monoio;
#[cfg(feature = "crates")]
mod pingora;
#[cfg(feature = "crates")]
mod tokio;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use lexopt::prelude::*;

use crate::peers::{Job, Protocol, Side, Tls};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// The yardstick of relays.
    BareRing,
    Evenkeel,
    /// Its acceptor as a task of a shard, however many there are.
    EvenkeelOnShard,
    /// Its acceptor on a thread of its own, even with one shard.
    EvenkeelOwnThread,
    /// The kernel spreads connections, in place of the acceptor.
    EvenkeelKernel,
    /// Without io_uring.
    EvenkeelEpoll,
    /// Its clients offer X25519MLKEM768 where they speak TLS, which it always takes.
    EvenkeelPostQuantum,
    Tokio,
    /// The same relay in a `LocalSet`, where guests have theirs, with an accept loop of its own.
    TokioLocalSet,
    /// The same relay on shards of the library.
    TokioGuest,
    Glommio,
    /// The same relay on shards of the library.
    GlommioGuest,
    Monoio,
    Pingora,
}

impl Role {
    pub(crate) const ALL: [Self; 14] = [
        Self::BareRing,
        Self::Evenkeel,
        Self::EvenkeelOnShard,
        Self::EvenkeelOwnThread,
        Self::EvenkeelKernel,
        Self::EvenkeelEpoll,
        Self::EvenkeelPostQuantum,
        Self::Tokio,
        Self::TokioLocalSet,
        Self::TokioGuest,
        Self::Glommio,
        Self::GlommioGuest,
        Self::Monoio,
        Self::Pingora,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BareRing => "bare-ring",
            Self::Evenkeel => "evenkeel",
            Self::EvenkeelOnShard => "evenkeel-on-shard",
            Self::EvenkeelOwnThread => "evenkeel-own-thread",
            Self::EvenkeelKernel => "evenkeel-kernel",
            Self::EvenkeelEpoll => "evenkeel-epoll",
            Self::EvenkeelPostQuantum => "evenkeel-post-quantum",
            Self::Tokio => "tokio",
            Self::TokioLocalSet => "tokio-local-set",
            Self::TokioGuest => "tokio-guest",
            Self::Glommio => "glommio",
            Self::GlommioGuest => "glommio-guest",
            Self::Monoio => "monoio",
            Self::Pingora => "pingora",
        }
    }

    pub(crate) fn is_evenkeel(self) -> bool {
        self.name().starts_with("evenkeel")
    }

    pub(crate) fn speaks(self, protocol: Protocol) -> bool {
        match self {
            Self::Pingora => protocol == Protocol::Http,
            _ => self.is_evenkeel() || protocol == Protocol::Relay,
        }
    }

    /// Whether it can have several workers. Relays on io_uring of other runtimes could, with a
    /// listener for each; they stand here for what a request costs.
    pub(crate) fn scales(self) -> bool {
        !matches!(self, Self::BareRing | Self::TokioLocalSet | Self::Glommio | Self::Monoio)
    }

    /// # Errors
    /// It was left out of this build.
    pub(crate) fn prepare(self) -> io::Result<()> {
        if self.is_of_crates() && !cfg!(feature = "crates") {
            let reason = format!("{} needs the feature `crates`, the default", self.name());
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        Ok(())
    }

    fn is_of_crates(self) -> bool {
        !matches!(self, Self::BareRing) && !self.is_evenkeel()
    }

    pub(crate) fn is_guest(self) -> bool {
        matches!(self, Self::TokioGuest | Self::GlommioGuest)
    }

    pub(crate) fn is_worker(self, thread: &str) -> bool {
        match self {
            // `evenkeel-0` is a shard, `evenkeel-acc-0` an acceptor.
            _ if self.is_evenkeel() || self.is_guest() => {
                thread.strip_prefix("evenkeel-").is_some_and(|rest| rest.parse::<usize>().is_ok())
            }
            Self::BareRing => true,
            _ => thread.starts_with("worker"),
        }
    }

    /// What makes a process play this role; [`play`] reads it.
    pub(crate) fn command(self, job: &Job) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["role", self.name()]);
        if job.protocol == Protocol::Http {
            command.arg("--http");
        }
        for address in &job.listen {
            command.arg("--listen").arg(address.to_string());
        }
        if let Some(address) = job.redirected_to {
            command.arg("--redirected-to").arg(address.to_string());
        }
        command.arg("--upstream").arg(job.upstream.to_string());
        command.arg("--workers").arg(job.workers.to_string());
        command.arg("--filter-micros").arg(job.filter_micros.to_string());
        if let Some(Tls { side, credentials }) = &job.tls {
            command.args(["--tls", side.name()]).arg("--credentials").arg(credentials);
        }
        if let Some(file) = &job.access_log {
            command.arg("--access-log").arg(file);
        }
        Ok(command)
    }
}

/// Plays the role that the arguments behind `role` describe, until standard input ends.
///
/// # Errors
/// The arguments are not those of [`Role::command`], or the proxy could not start.
pub(crate) fn play(mut arguments: lexopt::Parser) -> Result<(), lexopt::Error> {
    let name = arguments.value()?.string()?;
    let role = Role::ALL.into_iter().find(|role| role.name() == name).ok_or("no such role")?;
    let mut job = Job {
        protocol: Protocol::Relay,
        listen: Vec::new(),
        redirected_to: None,
        upstream: SocketAddr::from(([127, 0, 0, 1], 0)),
        workers: 1,
        filter_micros: 0,
        tls: None,
        access_log: None,
    };
    let (mut side, mut credentials) = (None, PathBuf::new());
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("http") => job.protocol = Protocol::Http,
            Long("listen") => job.listen.push(arguments.value()?.parse()?),
            Long("redirected-to") => job.redirected_to = Some(arguments.value()?.parse()?),
            Long("upstream") => job.upstream = arguments.value()?.parse()?,
            Long("workers") => job.workers = arguments.value()?.parse()?,
            Long("filter-micros") => job.filter_micros = arguments.value()?.parse()?,
            Long("tls") => side = Some(arguments.value()?.parse_with(Side::named)?),
            Long("credentials") => credentials = arguments.value()?.into(),
            Long("access-log") => job.access_log = Some(arguments.value()?.into()),
            _ => return Err(argument.unexpected()),
        }
    }
    job.tls = side.map(|side| Tls { side, credentials });
    run(role, job).map_err(|error| lexopt::Error::Custom(error.into()))
}

fn run(role: Role, job: Job) -> io::Result<()> {
    match role {
        Role::BareRing => println!("{}", bare_ring::run(job.listen[0], job.upstream)?),
        #[cfg(feature = "crates")]
        Role::Tokio => until_input_ends(move || tokio::run(&job))?,
        #[cfg(feature = "crates")]
        Role::TokioLocalSet => until_input_ends(move || tokio::run_in_local_set(&job))?,
        #[cfg(feature = "crates")]
        Role::Glommio => until_input_ends(move || glommio::run(&job))?,
        #[cfg(feature = "crates")]
        Role::Monoio => until_input_ends(move || monoio::run(&job))?,
        #[cfg(feature = "crates")]
        Role::Pingora => until_input_ends(move || pingora::run(&job))?,
        #[cfg(feature = "crates")]
        _ if role.is_guest() => guests::run(role, &job)?,
        #[cfg(not(feature = "crates"))]
        _ if role.is_of_crates() => role.prepare()?,
        _ => println!("{}", evenkeel::run(role, &job)?),
    }
    Ok(())
}

/// Runs what never ends by itself on a thread of its own, and comes back when standard input ends.
#[cfg(feature = "crates")]
fn until_input_ends(serve: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("worker".into()).spawn(|| {
        if let Err(error) = serve() {
            eprintln!("peers: {error}");
            std::process::exit(1);
        }
    })?;
    io::Read::read_to_end(&mut io::stdin(), &mut Vec::new())?;
    Ok(())
}
