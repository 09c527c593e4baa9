//! The relays that are compared: how each is configured, started, awaited and ended.
//!
//! Every contestant is a fresh process on the relay's CPU that listens on one loopback port and
//! relays to the origin. The bare ring, the library and its guests are this executable in another role.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use ::evenkeel::AcceptorPlacement;

use crate::bare_ring;
use crate::evenkeel;
use crate::guests;
use crate::process;
use crate::work::Work;

const START_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Files that a relay needs besides the two sockets of each connection.
const OTHER_FILES: u64 = 512;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Contestant {
    BareRing,
    Evenkeel,
    /// The library with its acceptor on the shard, rather than on a thread of its own.
    EvenkeelOnShard,
    /// One of [`guests::NAMES`].
    Guest(&'static str),
    Nginx,
    Haproxy,
    /// A program with its arguments; `{listen}` and `{upstream}` stand for the addresses.
    Command(String),
}

/// A relay that accepts connections. It is ended when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The roles of this executable end when their input does; programs want a signal.
    ends_with_input: bool,
    _files: Option<Scratch>,
}

/// Runs a role of this executable in the calling process, until standard input ends.
pub(crate) fn play(
    role: &str,
    listen: SocketAddr,
    upstream: SocketAddr,
    shards: usize,
) -> io::Result<()> {
    let work = match role {
        "bare-ring" => bare_ring::run(listen, upstream)?,
        "evenkeel" => evenkeel::run(listen, upstream, shards, AcceptorPlacement::OwnThread)?,
        "evenkeel-on-shard" => evenkeel::run(listen, upstream, shards, AcceptorPlacement::OnShard)?,
        role => guests::run(role, listen, upstream, shards)?,
    };
    println!("{work}");
    Ok(())
}

impl Contestant {
    /// `command` is what the contestant `command` runs.
    pub(crate) fn named(name: &str, command: Option<&str>) -> Result<Self, String> {
        if let Some(name) = guests::NAMES.iter().find(|known| **known == name) {
            return Ok(Self::Guest(name));
        }
        match (name, command) {
            ("bare-ring", _) => Ok(Self::BareRing),
            ("evenkeel", _) => Ok(Self::Evenkeel),
            ("evenkeel-on-shard", _) => Ok(Self::EvenkeelOnShard),
            ("nginx", _) => Ok(Self::Nginx),
            ("haproxy", _) => Ok(Self::Haproxy),
            ("command", Some(command)) => Ok(Self::Command(command.to_owned())),
            ("command", None) => Err("the contestant `command` needs --command".into()),
            _ => Err(format!(
                "there is no contestant `{name}`: bare-ring, evenkeel, evenkeel-on-shard, nginx, haproxy, command, {}",
                guests::NAMES.join(", ")
            )),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::BareRing => "bare-ring",
            Self::Evenkeel => "evenkeel",
            Self::EvenkeelOnShard => "evenkeel-on-shard",
            Self::Guest(name) => name,
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Command(command) => command.split_whitespace().next().unwrap_or("command"),
        }
    }

    /// Starts the relay on the CPUs of the calling thread and waits until it accepts. `shards` is
    /// for the library; the others have one thread.
    ///
    /// # Errors
    /// The program is missing, ended at once, or did not accept within 10 seconds.
    pub(crate) fn start(&self, upstream: SocketAddr, shards: usize) -> io::Result<Running> {
        let address = free_address()?;
        let (mut command, files) = self.command(address, upstream, shards)?;
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| {
                let program = command.get_program().display();
                io::Error::new(error.kind(), format!("{program} could not be started: {error}"))
            })?;
        let ends_with_input = matches!(
            self,
            Self::BareRing | Self::Evenkeel | Self::EvenkeelOnShard | Self::Guest(_)
        );
        let mut running = Running { child, address, ends_with_input, _files: files };
        running.await_listener(self.name())?;
        Ok(running)
    }

    fn command(
        &self,
        listen: SocketAddr,
        upstream: SocketAddr,
        shards: usize,
    ) -> io::Result<(Command, Option<Scratch>)> {
        match self {
            Self::BareRing | Self::Evenkeel | Self::EvenkeelOnShard | Self::Guest(_) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["--role", self.name()]);
                command.args(["--shards", &shards.to_string()]);
                command.args(["--listen", &listen.to_string()]);
                command.args(["--upstream", &upstream.to_string()]);
                Ok((command, None))
            }
            Self::Nginx => {
                let files = Scratch::new()?;
                let config = files.write("nginx.conf", &nginx_config(&files, listen, upstream))?;
                let mut command = Command::new(installed(&["/usr/sbin/nginx"], "nginx")?);
                command.args([OsStr::new("-e"), OsStr::new("stderr"), OsStr::new("-p")]);
                command.arg(&files.directory).arg("-c").arg(config);
                Ok((command, Some(files)))
            }
            Self::Haproxy => {
                let files = Scratch::new()?;
                let config = files.write("haproxy.cfg", &haproxy_config(listen, upstream))?;
                let mut command = Command::new(installed(&["/usr/sbin/haproxy"], "haproxy")?);
                command.arg("-db").arg("-f").arg(config);
                Ok((command, Some(files)))
            }
            Self::Command(line) => {
                let mut words = line.split_whitespace().map(|word| {
                    word.replace("{listen}", &listen.to_string())
                        .replace("{upstream}", &upstream.to_string())
                });
                let program = words.next().ok_or_else(|| io::Error::other("--command is empty"))?;
                let mut command = Command::new(program);
                command.args(words);
                Ok((command, None))
            }
        }
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn await_listener(&mut self, name: &str) -> io::Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{name} ended as it started: {status}")));
            }
            match TcpStream::connect(self.address) {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > START_LIMIT => {
                    let reason = format!("{name} does not accept on {}: {error}", self.address);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Ends the relay. Roles of this executable report what they did.
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
        if !self.ends_with_input
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

/// The connections that a relay with our limit of open files can carry.
pub(crate) fn connection_limit() -> usize {
    usize::try_from(process::open_files().saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX)
}

/// A loopback port that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn installed(paths: &[&'static str], package: &str) -> io::Result<&'static str> {
    paths.iter().copied().find(|path| Path::new(path).exists()).ok_or_else(|| {
        let reason = format!("{package} is not installed: apt-get install {package}");
        io::Error::new(io::ErrorKind::NotFound, reason)
    })
}

/// One worker, no access log, no limit in the way.
fn nginx_config(files: &Scratch, listen: SocketAddr, upstream: SocketAddr) -> String {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = match Path::new(module).exists() {
        true => format!("load_module {module};\n"),
        // Built in, or nginx itself will say that it knows no `stream`.
        false => String::new(),
    };
    let directory = files.directory.display();
    let open_files = process::open_files();
    format!(
        "{load}\
         daemon off;\n\
         master_process off;\n\
         worker_processes 1;\n\
         pid {directory}/nginx.pid;\n\
         error_log stderr crit;\n\
         events {{ use epoll; worker_connections {open_files}; multi_accept on; }}\n\
         stream {{\n\
             access_log off;\n\
             tcp_nodelay on;\n\
             proxy_timeout 1h;\n\
             server {{ listen {listen} backlog=4096; proxy_pass {upstream}; }}\n\
         }}\n"
    )
}

/// One thread, splicing where haproxy finds it worthwhile.
fn haproxy_config(listen: SocketAddr, upstream: SocketAddr) -> String {
    let connections = connection_limit();
    format!(
        "global\n  nbthread 1\n  maxpipes 64\n  maxconn {connections}\n\
         defaults\n  mode tcp\n  option splice-auto\n  backlog 4096\n  \
         maxconn {connections}\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen relay\n  bind {listen}\n  server origin {upstream}\n"
    )
}

/// A directory for a contestant's files, removed when dropped.
struct Scratch {
    directory: PathBuf,
}

impl Scratch {
    fn new() -> io::Result<Self> {
        let unique = format!("evenkeel-relay-{}", std::process::id());
        let directory = std::env::temp_dir().join(unique);
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
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
