//! A sidecar process: started on a configuration, asked through its admin server, killed when a test is
//! done with it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::sidecar_binary::SIDECAR;

/// Begins every configuration: an admin server on a port of the kernel's choice, and two shards.
pub(crate) const HEAD: &str = "shards = 2\nadmin = '127.0.0.1:0'\n";

/// A plain listener that relays to an origin.
pub(crate) fn plain(origin: SocketAddr) -> String {
    format!(
        "{HEAD}[[listener]]\nname = 'plain'\nbind = '127.0.0.1:0'\ncluster = 'web'\n\
         [[cluster]]\nname = 'web'\nendpoints = ['{origin}']\n"
    )
}

pub(crate) fn command() -> Command {
    Command::new(&*SIDECAR)
}

/// Waits until a condition holds, for at most 10 s.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) struct Sidecar {
    child: Child,
    directory: TempDir,
    printed: Arc<Mutex<String>>,
    log: Arc<Mutex<String>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Sidecar {
    /// Runs a configuration that begins with [`HEAD`].
    pub(crate) fn start(config: &str) -> Sidecar {
        Sidecar::start_with(config, |command| command)
    }

    /// The same, with a change to the command.
    pub(crate) fn start_with(
        config: &str,
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Sidecar {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sidecar.toml");
        fs::write(&file, config).unwrap();
        let mut command = command();
        command.args(["run", "--config"]).arg(&file);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = change(command).spawn().unwrap();
        let printed = collect(child.stdout.take().unwrap());
        let log = collect(child.stderr.take().unwrap());
        let mut sidecar = Sidecar { child, directory, printed, log };
        // The last line that a start prints.
        let last = if config.contains("telemetry =") { "telemetry" } else { "admin" };
        eventually("it has started", || {
            assert!(sidecar.is_running(), "it did not start");
            sidecar.find(&[last]).is_some()
        });
        sidecar
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("sidecar.toml")
    }

    /// Where a listener really listens, from what was printed.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        self.find(&["listening", listener]).unwrap().parse().unwrap()
    }

    /// The address of the admin server's part of this name.
    pub(crate) fn admin(&self, part: &str) -> SocketAddr {
        self.find(&[part]).unwrap().parse().unwrap()
    }

    /// The last word of the line that was printed and begins with these.
    pub(crate) fn find(&self, words: &[&str]) -> Option<String> {
        let printed = self.printed.lock().unwrap();
        for line in printed.lines() {
            if let Some((before, last)) = line.rsplit_once(' ')
                && before.split(' ').eq(words.iter().copied())
            {
                return Some(last.to_owned());
            }
        }
        None
    }

    pub(crate) fn connect(&self, listener: &str) -> TcpStream {
        let stream = TcpStream::connect(self.address(listener)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Asks the admin server.
    pub(crate) fn ask(&self, method: &str, target: &str) -> Answer {
        let mut stream = TcpStream::connect(self.admin("admin")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: admin\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.ask("GET", path);
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The sum of a metric over all series that have these labels, each as `name="value"`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.ask("GET", "/metrics").body;
        let of_series = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (of, with) = series.split_once('{').unwrap_or((series, ""));
            let fits = of == name && labels.iter().all(|label| with.contains(label));
            fits.then(|| value.parse::<f64>().unwrap())
        };
        text.lines().filter_map(of_series).sum()
    }

    /// Waits until a metric has this value.
    pub(crate) fn metric_becomes(&self, name: &str, labels: &[&str], value: f64) {
        let mut last = f64::NAN;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            last = self.metric(name, labels);
            if last == value {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{name} {labels:?} is {last}, not {value}:\n{}", self.ask("GET", "/metrics").body);
    }

    /// Waits for the process to end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("it ends", || !self.is_running());
        self.child.wait().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of the sidecar ---\n{}", self.log());
        }
    }
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&text);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            *shared.lock().unwrap() += &(line + "\n");
        }
    });
    text
}
