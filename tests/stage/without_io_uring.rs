//! Runs a command, and all that it starts, with io_uring refused:
//! `without_io_uring EPERM cargo test`. What runs in there cannot reach for a ring by accident.

use std::{env, os::unix::process::CommandExt, process::Command};

mod seccomp;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (errno, command) = match arguments.split_first() {
        Some((errno, command)) if errno == "EPERM" => (libc::EPERM, command),
        Some((errno, command)) if errno == "ENOSYS" => (libc::ENOSYS, command),
        _ => fail("usage: without_io_uring EPERM|ENOSYS COMMAND [ARGUMENT]..."),
    };
    let Some((program, arguments)) = command.split_first() else { fail("there is no command") };
    if let Err(error) = seccomp::refuse_io_uring(errno) {
        fail(&format!("cannot install the seccomp filter: {error}"));
    }
    // It returns only where it could not become the command.
    let error = Command::new(program).args(arguments).exec();
    fail(&format!("cannot run {program}: {error}"));
}

fn fail(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(2)
}
