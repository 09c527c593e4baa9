//! The sidecar at its caps on connections: one too many is closed, and the log says what to raise.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use super::{
    sidecar_binary::SIDECAR,
    stage::{client, echo_origin, exchange, try_exchange},
};

/// A sidecar with one plain listener.
struct Sidecar {
    process: Child,
    address: SocketAddr,
}

impl Sidecar {
    /// With as many open files as `files` says, and lines of the configuration at the top level and
    /// of the listener.
    fn start(files: u32, top_level: &str, listener: &str) -> Sidecar {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("sidecar.toml");
        let origin = echo_origin();
        let text = format!(
            "shards = 2\n{top_level}\n[[listener]]\nname = 'plain'\nbind = '127.0.0.1:0'\n\
             cluster = 'echo'\n{listener}\n[[cluster]]\nname = 'echo'\nendpoints = ['{origin}']\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut process = Command::new("sh")
            .args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh"])
            .arg(&*SIDECAR)
            .args(["run", "--config"])
            .arg(&config)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening plain ").expect("its address");
        Sidecar { address: address.parse().unwrap(), process }
    }

    /// Ends it, and gives its log.
    fn log(mut self) -> String {
        self.process.kill().unwrap();
        let mut log = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Opens connections until one is closed, and gives those that are served.
fn fill(sidecar: &Sidecar) -> Vec<TcpStream> {
    let mut served = Vec::new();
    loop {
        let mut next = client(sidecar.address);
        if try_exchange(&mut next, b"in?").is_err() {
            return served;
        }
        served.push(next);
        assert!(served.len() < 100, "there is no cap");
    }
}

#[test]
fn the_limit_to_raise_is_named_at_each_cap() {
    for (files, top_level, listener, cap, named) in [
        // (100 files - 64 in reserve) / 2
        (100, "", "", 18, ["limits.connections ", "RLIMIT_NOFILE"]),
        (256, "limits = { connections = 5 }", "", 5, ["limits.connections ", "RLIMIT_NOFILE"]),
        (
            256,
            "limits = { connections_per_shard = 3 }",
            "",
            6,
            ["limits.connections_per_shard ", "add shards"],
        ),
        (256, "", "max_connections = 4", 4, ["plain", "max_connections "]),
    ] {
        let sidecar = Sidecar::start(files, top_level, listener);
        let mut served = fill(&sidecar);
        assert_eq!(served.len(), cap, "{files} files, {top_level:?} {listener:?}");
        served.iter_mut().for_each(|client| exchange(client, b"still"));
        let log = sidecar.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("closed at once")).collect();
        assert_eq!(lines.len(), 1, "one line: {log}");
        for words in named {
            assert!(lines[0].contains(words), "no {words:?} in {:?}", lines[0]);
        }
    }
}
