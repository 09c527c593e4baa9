//! A peer that runs: awaited, asked for its processes and threads, ended.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Job, Peer};
use crate::process::{self, Thread};
use crate::work::Work;

const START_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Files that a proxy needs besides the two sockets of each connection.
const OTHER_FILES: u64 = 512;

/// A proxy that accepts connections. It is ended when dropped.
pub(crate) struct Running {
    child: Child,
    peer: Peer,
    /// The process that was started, then its children.
    pub(crate) pids: Vec<u32>,
    /// Where clients connect to.
    pub(crate) addresses: Vec<SocketAddr>,
    _files: Option<Scratch>,
}

impl Running {
    pub(super) fn start(
        peer: &Peer,
        mut command: Command,
        files: Option<Scratch>,
        job: &Job,
    ) -> io::Result<Self> {
        let child = command.stdin(Stdio::piped()).spawn().map_err(|error| {
            let program = command.get_program().display();
            io::Error::new(error.kind(), format!("{program} could not be started: {error}"))
        })?;
        let pids = vec![child.id()];
        let addresses = job.listen.clone();
        let mut running = Self { child, peer: peer.clone(), pids, addresses, _files: files };
        running.await_listener()?;
        running.pids = process::with_children(running.child.id())?;
        running.await_workers(job.workers)?;
        Ok(running)
    }

    fn await_listener(&mut self) -> io::Result<()> {
        let (started, address) = (Instant::now(), self.addresses[0]);
        loop {
            if let Some(status) = self.child.try_wait()? {
                let name = self.peer.name();
                return Err(io::Error::other(format!("{name} ended as it started: {status}")));
            }
            match TcpStream::connect(address) {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > START_LIMIT => {
                    let name = self.peer.name();
                    let reason = format!("{name} does not accept on {address}: {error}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// A process listens before its children have started.
    fn await_workers(&mut self, workers: usize) -> io::Result<()> {
        let started = Instant::now();
        loop {
            let found = self.workers()?.len();
            if found >= workers {
                return Ok(());
            }
            if started.elapsed() > START_LIMIT {
                let name = self.peer.name();
                let reason = format!("{name} has {found} workers in place of {workers}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            thread::sleep(Duration::from_millis(5));
            self.pids = process::with_children(self.child.id())?;
        }
    }

    /// The threads that serve connections.
    ///
    /// # Errors
    /// A process of it has gone.
    pub(crate) fn workers(&self) -> io::Result<Vec<Thread>> {
        let root = self.child.id();
        let mut threads = Thread::all(&self.pids)?;
        threads.retain(|thread| self.peer.is_worker(&thread.name, thread.pid == root));
        if matches!(self.peer, Peer::Role(role) if role.is_guest()) {
            // An executor of glommio starts a helper later, which inherits its name.
            let mut seen = HashSet::new();
            threads.retain(|thread| seen.insert(thread.name.clone()));
        }
        Ok(threads)
    }

    /// Ends the proxy. Roles on a ring report what they did.
    pub(crate) fn stop(mut self) -> Option<Work> {
        self.end();
        let mut report = String::new();
        self.child.stdout.take()?.read_to_string(&mut report).ok()?;
        report.parse().ok()
    }

    /// End of input for the roles, SIGTERM for programs, SIGKILL for the deaf.
    fn end(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        drop(self.child.stdin.take());
        if !matches!(self.peer, Peer::Role(_))
            && let Some(pid) = Pid::from_raw(self.child.id() as i32)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The connections that a proxy with our limit of open files can carry.
pub(crate) fn connection_limit() -> usize {
    usize::try_from(process::open_files().saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX)
}

/// A loopback port that was free a moment ago.
pub(super) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A directory for a peer's files, removed when dropped.
pub(crate) struct Scratch {
    directory: PathBuf,
}

impl Scratch {
    pub(super) fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// In memory where there is a file system for it (shm_overview(7)), so that no disk is measured.
    pub(crate) fn in_memory() -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::within(memory) } else { Self::new() }
    }

    fn within(parent: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("evenkeel-peers-{}-{number}", std::process::id());
        let directory = parent.join(unique);
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
