//! Network namespaces for tests: real firewall rules and routes, without a trace on the machine.
//!
//! [`isolated`] runs a test's body where it may make namespaces. A [`Namespace`] is nothing but an open file: no name
//! in `/run/netns`, gone with its last user. [`Namespace::run`] runs a closure in it on a thread of its own (a network
//! namespace belongs to a thread), and sockets made there stay in it; a ring must be made there as well.
//!
//! As root the namespaces are made directly. Otherwise the test starts itself again, alone, as root of a user
//! namespace (`unshare -Ur`): a process that has threads already, as a test has, cannot enter one.
//!
//! [`as_an_ordinary_user`] runs tests that way although this process is root.
//!
//! Where the machine lacks what a test needs, the test is skipped with a line on stderr; with `CI=true` it fails.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::{
    env,
    fs::{self, File, Permissions},
    io::{self, Write},
    net::IpAddr,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::PermissionsExt,
    },
    panic::resume_unwind,
    process::{self, Command, Output},
    thread,
};

use nix::sched::{CloneFlags, unshare};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const IN_USER_NAMESPACE: &str = "EVENKEEL_TEST_IN_USER_NAMESPACE";

/// Commands that show whether the machine has what a test needs. Each group is tried in a namespace of its own.
pub(crate) const IP: &[&str] = &["ip link set lo up"];
pub(crate) const IPTABLES: &[&str] = &[
    "iptables -w -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 1",
    "ip6tables -w -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 1",
];
/// The matches of `sidecar iptables`, and users that differ.
pub(crate) const OWNERS: &[&str] = &[
    "iptables -w -t nat -A OUTPUT -m owner --uid-owner 1 -m mark --mark 1 -j RETURN",
    "ip6tables -w -t nat -A OUTPUT -m owner --gid-owner 1 -m mark --mark 1 -j RETURN",
    "setpriv --reuid 1000 --regid 1000 --clear-groups true",
];
pub(crate) const NFT: &[&str] = &["nft add table inet probe"];
pub(crate) const TPROXY: &[&str] = &[
    "iptables -w -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 1 --tproxy-mark 1",
    "ip6tables -w -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 1 --tproxy-mark 1",
];
/// To bring back the answers to connections from a client's own address.
pub(crate) const DIVERT: &[&str] = &[
    "iptables -w -t mangle -A PREROUTING -p tcp -m socket --transparent -j MARK --set-mark 1",
    "ip6tables -w -t mangle -A PREROUTING -p tcp -m connmark --mark 1 -j CONNMARK --restore-mark",
];

/// Runs `body` if this machine can do what `needs` tries, as root of a user namespace where necessary. `test` is the
/// name of the test function, with the modules around it.
pub(crate) fn isolated(test: &str, needs: &[&[&str]], body: impl FnOnce()) {
    if rustix::process::geteuid().is_root() {
        match needs.iter().try_for_each(|need| try_need(need)) {
            Ok(()) => body(),
            Err(reason) => skip(test, &reason),
        }
        return;
    }
    match Command::new("unshare").args(["-Ur", "true"]).output() {
        Ok(output) if output.status.success() => again_in_user_namespace(test),
        Ok(output) => skip(test, &format!("no user namespaces: {}", text(&output.stderr))),
        Err(error) => skip(test, &format!("cannot run unshare: {error}")),
    }
}

fn try_need(need: &[&str]) -> Result<(), String> {
    let scratch =
        Namespace::try_new().map_err(|error| format!("no network namespaces: {error}"))?;
    need.iter().try_for_each(|command| scratch.try_command(command))
}

fn again_in_user_namespace(test: &str) {
    assert!(env::var_os(IN_USER_NAMESPACE).is_none(), "not root in the user namespace");
    let output = Command::new("unshare")
        .arg("-Ur")
        .arg(env::current_exe().expect("the test's own path"))
        .args([test, "--exact", "--nocapture"])
        .env(IN_USER_NAMESPACE, "1")
        .output()
        .expect("unshare");
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    // Exactly one test, or the name is wrong.
    let passed = output.status.success() && out.contains("test result: ok. 1 passed");
    assert!(passed, "{test} in its user namespace:\n{out}{err}");
    for skipped in err.lines().filter(|line| line.starts_with("SKIPPED")) {
        say(skipped);
    }
}

/// Runs the tests of this program whose names contain one of `names`, as a user without privileges. `test` is the name
/// of the test function that asks for it. Without root there is nothing to do: all tests run that way already.
pub(crate) fn as_an_ordinary_user(test: &str, names: &[&str]) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let ordinary_user = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
        command
    };
    match ordinary_user().args(["unshare", "-Ur", "true"]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return skip(test, &format!("no user namespaces: {}", text(&output.stderr))),
        Err(error) => return skip(test, &format!("cannot run setpriv: {error}")),
    }
    // A copy, as that user may have no way to where this program lies. By another process: what this one has open for
    // writing, a process that another test is just starting may have as well, and then it cannot be run.
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("an open folder");
    let program = folder.path().join("tests");
    let own = env::current_exe().expect("the test's own path");
    let copied = Command::new("cp").args([&own, &program]).status().expect("cp");
    assert!(copied.success(), "cannot copy {}", own.display());
    let output = ordinary_user().arg(&program).args(names).output().expect("setpriv");
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let passed = output.status.success() && !out.contains("test result: ok. 0 passed");
    assert!(passed, "{names:?} as an ordinary user:\n{out}{err}");
    for skipped in err.lines().filter(|line| line.starts_with("SKIPPED")) {
        say(&format!("{skipped} (as an ordinary user)"));
    }
}

/// Writes a line to stderr. Not eprintln: that is swallowed unless the test fails.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Skips the test, or fails it where the machine was made for it.
fn skip(test: &str, reason: &str) {
    assert!(!env::var("CI").is_ok_and(|ci| ci == "true"), "{test} cannot run: {reason}");
    say(&format!("SKIPPED {test}: {reason}"));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().replace('\n', "; ")
}

/// A network namespace, with loopback up and reverse-path filtering off.
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    pub(crate) fn new() -> Namespace {
        let namespace = Namespace::try_new().expect("a new network namespace");
        namespace.command("ip link set lo up");
        namespace
    }

    fn try_new() -> io::Result<Namespace> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            for interface in ["all", "default"] {
                let filter = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
                fs::write(filter, "0")?;
            }
            File::open("/proc/thread-self/ns/net")
        });
        Ok(Namespace { file: made.join().expect("making a namespace does not panic")? })
    }

    /// Runs `body` in this namespace, on a thread of its own, and gives what it returns. A panic goes on in the caller.
    pub(crate) fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.file.as_fd(), network).expect("enter the namespace");
                body()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs a command in this namespace; its words are separated by spaces.
    ///
    /// # Panics
    /// With what the command wrote to stderr, where it fails.
    pub(crate) fn command(&self, command: &str) {
        self.try_command(command).unwrap_or_else(|error| panic!("{error}"));
    }

    /// [`command`](Self::command) for several.
    pub(crate) fn commands(&self, commands: &[&str]) {
        commands.iter().for_each(|command| self.command(command));
    }

    /// What a command writes to stdout, for looking at rules and sockets.
    pub(crate) fn output_of(&self, command: &str) -> String {
        let output = self.execute(command).unwrap_or_else(|error| panic!("{error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn try_command(&self, command: &str) -> Result<(), String> {
        self.execute(command).map(drop)
    }

    fn execute(&self, command: &str) -> Result<Output, String> {
        let mut words = command.split_whitespace();
        let mut process = Command::new(words.next().expect("a command"));
        process
            .args(words)
            .env("PATH", format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default()))
            // iptables-legacy wants a lock, and the system's may belong to another user. Nobody else is in here.
            .env("XTABLES_LOCKFILE", "/dev/null");
        // A child process begins in the namespaces of the thread that starts it.
        match self.run(|| process.output()) {
            Ok(output) if output.status.success() => Ok(output),
            Ok(output) => Err(format!("`{command}`: {}", text(&output.stderr))),
            Err(error) => Err(format!("`{command}`: {error}")),
        }
    }
}

/// One end of a cable between two namespaces: where it is plugged in, the interface's name, and its addresses, as
/// `10.0.0.1/24`.
pub(crate) struct End<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) interface: &'a str,
    pub(crate) addresses: &'a [&'a str],
}

/// Lays a cable (a veth pair) between two namespaces. It is gone when one of them is.
pub(crate) fn connect(a: &End<'_>, b: &End<'_>) {
    let other = format!("/proc/{}/fd/{}", process::id(), b.namespace.file.as_raw_fd());
    let (name_a, name_b) = (a.interface, b.interface);
    a.namespace
        .command(&format!("ip link add name {name_a} type veth peer name {name_b} netns {other}"));
    for End { namespace, interface, addresses } in [a, b] {
        for address in *addresses {
            // Without duplicate address detection an IPv6 address can be used at once.
            let v6 = if is_v6(address) { " nodad" } else { "" };
            namespace.command(&format!("ip address add {address} dev {interface}{v6}"));
        }
        namespace.command(&format!("ip link set {interface} up"));
    }
}

fn is_v6(address: &str) -> bool {
    let ip = address.split('/').next().unwrap_or(address);
    ip.parse::<IpAddr>().expect("an address").is_ipv6()
}
