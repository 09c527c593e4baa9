//! What an operator sees of a configuration: what is refused where and why, what every default is, and
//! that what is printed reads back.

use std::path::Path;

use super::{Config, Host, Loaded, parse};

mod damaged;
mod meant;
mod refused;
mod reload;
mod written;

/// Every key of this build, none at its default.
const EVERY_KEY: &str = include_str!("tests/every_key.toml");

/// Four CPUs, loopback and 10.0.0.1, all privileges.
fn host() -> Host {
    Host {
        own_address: |ip| ip.to_string() == "10.0.0.1",
        network_admin: true,
        cpus: vec![0, 1, 2, 3],
        certificates: false,
    }
}

fn unprivileged() -> Host {
    Host { network_admin: false, ..host() }
}

/// Reads `text`; `Err` has the lines that `check` prints, less the name of the file.
fn read(text: &str, host: &Host) -> Result<Loaded, Vec<String>> {
    parse(text, Path::new("f"), Path::new("/etc/evenkeel"), host)
        .map_err(|problems| lines(&problems.to_string()))
}

fn lines(problems: &str) -> Vec<String> {
    problems.lines().map(|line| line.strip_prefix("f:").unwrap().to_owned()).collect()
}

fn config(text: &str) -> Config {
    let loaded = read(text, &host()).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    assert_eq!(loaded.warnings.to_string(), "", "{text}");
    loaded.config
}
