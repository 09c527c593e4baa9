//! What does not start says why, and exits with 1.
#![allow(unsafe_code, reason = "a seccomp filter is installed between fork and exec")]

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    process::{Command, Output},
};

use super::{
    origin::{echo, exchange},
    process::{HEAD, Sidecar, command, plain},
    seccomp,
};

/// Runs a configuration that cannot start.
fn run(config: &str, change: impl FnOnce(&mut Command) -> &mut Command) -> Output {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("sidecar.toml"), config).unwrap();
    let mut command = command();
    command.args(["run", "--config", "sidecar.toml"]).current_dir(directory.path());
    let output = change(&mut command).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"", "{output:?}");
    output
}

fn said(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn a_wrong_configuration_with_every_place() {
    let output = run("shards = -1\npinn = 'auto'\n", |command| command);
    assert!(said(&output).contains("sidecar.toml:1:10: error: `shards`: "), "{output:?}");
    assert!(said(&output).contains("sidecar.toml:2:1: error: unknown key `pinn`"), "{output:?}");
}

#[test]
fn a_file_that_is_not_there() {
    let output = command().args(["run", "--config", "/nowhere/sidecar.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let start = "/nowhere/sidecar.toml: error: cannot be read: ";
    assert!(said(&output).starts_with(start), "{output:?}");
}

#[test]
fn an_address_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = plain(echo()).replacen("bind = '127.0.0.1:0'", &format!("bind = '{address}'"), 1);
    let output = run(&config, |command| command);
    assert!(said(&output).contains(&address), "{output:?}");
    assert!(said(&output).contains("another socket listens there"), "{output:?}");
    let admin = HEAD.replace("127.0.0.1:0", &address);
    let output = run(&plain(echo()).replacen(HEAD, &admin, 1), |command| command);
    assert!(said(&output).contains(&address), "{output:?}");
}

#[test]
fn a_kernel_to_imitate_that_is_not_known() {
    let output = run(&plain(echo()), |command| command.env("EVENKEEL_KERNEL", "5.4"));
    assert!(said(&output).contains("write 6.1 or 6.12"), "{output:?}");
}

#[test]
fn older_kernels_are_imitated() {
    for kernel in ["6.1", "6.12"] {
        let config = plain(echo());
        let sidecar =
            Sidecar::start_with(&config, |command| command.env("EVENKEEL_KERNEL", kernel));
        exchange(&mut sidecar.connect("plain"), &[7; 100_000]);
        assert_eq!(sidecar.ask("GET", "/ready").status, 200);
    }
}

/// How the sidecar is run in a container whose runtime denies io_uring.
fn denied(command: &mut Command, errno: i32) -> &mut Command {
    // SAFETY: between fork and exec `refuse_io_uring` makes system calls and allocates nothing.
    unsafe { command.pre_exec(move || seccomp::refuse_io_uring(errno)) }
}

#[test]
fn io_uring_that_must_be_and_is_denied_by_seccomp() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let config = format!("driver = 'io_uring'\n{}", plain(echo()));
        let output = run(&config, |command| denied(command, errno));
        let said = said(&output);
        assert!(said.contains("sidecar: io_uring_setup is refused by a seccomp filter"), "{said}");
        assert!(said.contains("seccomp profile that allows"), "the remedy: {said}");
    }
}

#[test]
fn io_uring_denied_by_seccomp_is_replaced() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let sidecar = Sidecar::start_with(&plain(echo()), |command| denied(command, errno));
        exchange(&mut sidecar.connect("plain"), &[7; 100_000]);
        let metrics = sidecar.ask("GET", "/metrics").body;
        let info = "evenkeel_driver_info{driver=\"epoll\",reason=\"seccomp\"} 1";
        assert!(metrics.contains(info), "{metrics}");
        let shards = sidecar.ask("GET", "/shards").body;
        assert!(shards.contains("\"driver\":\"epoll\""), "{shards}");
        let log = sidecar.log();
        let warnings = log.lines().filter(|line| line.contains("runs on epoll"));
        let warnings: Vec<_> = warnings.collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].contains("seccomp profile that allows io_uring_setup"), "{log}");
    }
}

#[test]
fn epoll_by_configuration() {
    let config = format!("driver = 'epoll'\n{}", plain(echo()));
    let sidecar = Sidecar::start(&config);
    exchange(&mut sidecar.connect("plain"), &[7; 100_000]);
    let metrics = sidecar.ask("GET", "/metrics").body;
    let info = "evenkeel_driver_info{driver=\"epoll\",reason=\"configured\"} 1";
    assert!(metrics.contains(info), "{metrics}");
}
