//! A network namespace for the destinations: one address, 64 ports, and a rule that redirects them.

use std::io;
use std::net::SocketAddr;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

const DESTINATION: [u8; 4] = [10, 77, 0, 1];
const FIRST_PORT: u16 = 20_001;
pub(super) const REDIRECTED_TO: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 15_001));

pub(super) fn destinations(count: usize) -> Vec<SocketAddr> {
    (FIRST_PORT..).take(count).map(|port| SocketAddr::from((DESTINATION, port))).collect()
}

/// Moves the calling thread into a namespace of its own that has the destinations' address. It goes
/// with the last thread and process in it.
///
/// # Errors
/// Not root, or no `ip`.
pub(super) fn enter(destinations: usize) -> io::Result<()> {
    let last = FIRST_PORT.checked_add(u16::try_from(destinations).unwrap_or(u16::MAX));
    last.ok_or_else(|| io::Error::other("more destinations than ports"))?;
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| io::Error::other(format!("a network namespace (as root?): {error}")))?;
    command("ip link set lo up")?;
    command("ip address add 10.77.0.1/32 dev lo")?;
    // Ports of destinations are not lent to clients.
    command("sysctl -q -w net.ipv4.ip_local_port_range=32768\t60999")
}

/// Redirects the destinations until dropped.
///
/// # Errors
/// No iptables, or the kernel has no NAT.
pub(super) fn redirect() -> io::Result<Redirection> {
    rule("-A").map(|()| Redirection)
}

pub(super) struct Redirection;

impl Drop for Redirection {
    fn drop(&mut self) {
        if let Err(error) = rule("-D") {
            eprintln!("peers: the redirection stays: {error}");
        }
    }
}

fn rule(action: &str) -> io::Result<()> {
    let port = REDIRECTED_TO.port();
    let matching = "OUTPUT -p tcp -d 10.77.0.1 -j REDIRECT --to-ports";
    command(&format!("iptables -w -t nat {action} {matching} {port}"))
}

fn command(line: &str) -> io::Result<()> {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{line}: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(io::Error::other(format!("{line}: {reason}")))
        }
    }
}
