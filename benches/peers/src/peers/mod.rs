//! The proxies that are compared: which there are, and how each is started for a [`Job`].
//!
//! A peer is a fresh process, or a few, on the proxy's CPUs, with as many workers as the job says.
//! The library, the bare ring and what is made of crates are this executable in a role; the others
//! are programs with the configurations in `config/`.

mod config;
pub(crate) mod envoy;
mod running;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::roles::Role;

pub(crate) use self::running::{Running, Scratch, connection_limit};

/// What goes through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Protocol {
    Relay,
    Http,
}

/// What a peer has to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) protocol: Protocol,
    /// Where clients connect to. Empty: a free port of the loopback address, chosen at the start.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where the connections to `listen` arrive, if firewall rules redirect them. Peers that know
    /// no original destinations listen on `listen` itself.
    pub(crate) redirected_to: Option<SocketAddr>,
    pub(crate) upstream: SocketAddr,
    pub(crate) workers: usize,
    /// CPU time in µs that a filter of the library spends on each request, as a check of a
    /// signature would. HTTP only.
    pub(crate) filter_micros: u64,
    /// Who is spoken to over TLS 1.3 rather than plain TCP. HTTP only.
    pub(crate) tls: Option<Tls>,
    /// The file that gets a line for each request. HTTP only.
    pub(crate) access_log: Option<PathBuf>,
}

/// One side of a proxy speaks TLS, with what is in a folder of [`crate::credentials`].
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) side: Side,
    pub(crate) credentials: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Side {
    /// To clients, who are asked for no certificate.
    Clients,
    /// To clients, who must show a certificate.
    MutualClients,
    /// To the upstream, which is shown a certificate and must show its own.
    Upstream,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::MutualClients => "mutual-clients",
            Self::Upstream => "upstream",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self, &'static str> {
        [Self::Clients, Self::MutualClients, Self::Upstream]
            .into_iter()
            .find(|side| side.name() == name)
            .ok_or("no such side")
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Peer {
    Role(Role),
    Nginx {
        /// A listening socket for each worker, rather than one for all.
        reuseport: bool,
    },
    Haproxy,
    Envoy {
        exact_balance: bool,
    },
    /// A program with its arguments; `{listen}` and `{upstream}` stand for the addresses.
    Command(String),
}

impl Peer {
    /// All that have names, in the order of reports.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let programs = [
            Self::Nginx { reuseport: false },
            Self::Nginx { reuseport: true },
            Self::Haproxy,
            Self::Envoy { exact_balance: false },
            Self::Envoy { exact_balance: true },
        ];
        Role::ALL.into_iter().map(Self::Role).chain(programs)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::all().find(|peer| peer.name() == name)
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Role(role) => role.name(),
            Self::Nginx { reuseport: false } => "nginx",
            Self::Nginx { reuseport: true } => "nginx-reuseport",
            Self::Haproxy => "haproxy",
            Self::Envoy { exact_balance: false } => "envoy",
            Self::Envoy { exact_balance: true } => "envoy-exact",
            Self::Command(command) => command.split_whitespace().next().unwrap_or("command"),
        }
    }

    /// Whether it is the library, in whatever setting.
    pub(crate) fn is_evenkeel(&self) -> bool {
        matches!(self, Self::Role(role) if role.is_evenkeel())
    }

    /// Whether one listening port of it can stand for many destinations.
    pub(crate) fn finds_original_destinations(&self) -> bool {
        self.is_evenkeel() || matches!(self, Self::Envoy { .. })
    }

    pub(crate) fn speaks(&self, protocol: Protocol) -> bool {
        match self {
            Self::Role(role) => role.speaks(protocol),
            _ => true,
        }
    }

    /// Whether it can have TLS on either side, and an access log.
    pub(crate) fn speaks_tls(&self) -> bool {
        self.is_evenkeel() || !matches!(self, Self::Role(_) | Self::Command(_))
    }

    /// Whether it can have several workers.
    pub(crate) fn scales(&self) -> bool {
        match self {
            Self::Role(role) => role.scales(),
            _ => true,
        }
    }

    /// Gets it ready to be started: Envoy's program is downloaded once.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Role(role) => role.prepare(),
            Self::Nginx { .. } => nginx().map(drop),
            Self::Haproxy => haproxy().map(drop),
            Self::Envoy { .. } => envoy::program().map(drop),
            Self::Command(_) => Ok(()),
        }
    }

    /// Starts it on the CPUs of the calling thread and waits until it accepts.
    ///
    /// # Errors
    /// The program is missing, ended at once, or did not accept within 10 seconds.
    pub(crate) fn start(&self, job: &Job) -> io::Result<Running> {
        let mut job = job.clone();
        if job.listen.is_empty() {
            job.listen.push(running::free_address()?);
        }
        let (mut command, files) = self.command(&job)?;
        // Roles say there what they did, and HAProxy writes its log there.
        command.stdout(match (self, &job.access_log) {
            (Self::Role(_), _) => Stdio::piped(),
            (Self::Haproxy, Some(log)) => File::create(log)?.into(),
            _ => Stdio::null(),
        });
        Running::start(self, command, files, &job)
    }

    fn command(&self, job: &Job) -> io::Result<(Command, Option<Scratch>)> {
        match self {
            Self::Role(role) => Ok((role.command(job)?, None)),
            Self::Nginx { reuseport } => {
                let files = Scratch::new()?;
                let config = config::nginx(job, *reuseport, files.directory());
                let config = files.write("nginx.conf", &config)?;
                let mut command = Command::new(nginx()?);
                command.args(["-e", "stderr", "-p"]).arg(files.directory()).arg("-c").arg(config);
                Ok((command, Some(files)))
            }
            Self::Haproxy => {
                let files = Scratch::new()?;
                let config = files.write("haproxy.cfg", &config::haproxy(job))?;
                let mut command = Command::new(haproxy()?);
                command.arg("-db").arg("-f").arg(config);
                Ok((command, Some(files)))
            }
            Self::Envoy { exact_balance } => {
                let files = Scratch::new()?;
                let config = files.write("envoy.yaml", &config::envoy(job, *exact_balance))?;
                let mut command = Command::new(envoy::program()?);
                // Without hot restart several of them do not meet in shared memory.
                command.args(["--disable-hot-restart", "--log-level", "error", "--concurrency"]);
                command.arg(job.workers.to_string()).arg("-c").arg(config);
                Ok((command, Some(files)))
            }
            Self::Command(line) => {
                let listen = job.listen[0].to_string();
                let mut words = line.split_whitespace().map(|word| {
                    word.replace("{listen}", &listen)
                        .replace("{upstream}", &job.upstream.to_string())
                });
                let program = words.next().ok_or_else(|| io::Error::other("--command is empty"))?;
                let mut command = Command::new(program);
                command.args(words);
                Ok((command, None))
            }
        }
    }

    /// Whether a thread of it serves connections. `root`: it belongs to the process that was
    /// started, not to a child of that.
    fn is_worker(&self, thread: &str, root: bool) -> bool {
        match self {
            Self::Role(role) => role.is_worker(thread),
            Self::Nginx { .. } => !root,
            Self::Envoy { .. } => thread.starts_with("wrk:worker_"),
            Self::Haproxy | Self::Command(_) => true,
        }
    }
}

fn nginx() -> io::Result<&'static Path> {
    installed("/usr/sbin/nginx", "nginx libnginx-mod-stream")
}

fn haproxy() -> io::Result<&'static Path> {
    installed("/usr/sbin/haproxy", "haproxy")
}

fn installed(path: &'static str, packages: &str) -> io::Result<&'static Path> {
    let path = Path::new(path);
    if path.exists() {
        return Ok(path);
    }
    let reason = format!("{} is missing: apt-get install {packages}", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, reason))
}
