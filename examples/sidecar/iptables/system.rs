//! The machine: what it has, what is there of ours, and running commands on it.
//!
//! In: [`Invocation`]s. Out: what they print, or an [`Error`] that says which one failed and what it
//! said. It decides nothing.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::CapabilitySet;

use super::error::Error;
use super::invocation::Invocation;
use super::ip_object::IpObject;
use super::rule_set::{Family, RuleSet};

/// Whether IPv6 traffic can be, and can be captured, with the reason where not.
pub(super) enum Ipv6 {
    On,
    /// Every interface has it switched off; rules of an earlier time may be there.
    Off(&'static str),
    /// The kernel does not know it, or there is no tool.
    Absent(&'static str),
}

impl Ipv6 {
    /// Why there are only rules for IPv4, if so.
    pub(super) fn missing(&self) -> Option<&'static str> {
        match self {
            Self::On => None,
            Self::Off(reason) | Self::Absent(reason) => Some(reason),
        }
    }
}

/// How it stands with IPv6 in this network namespace.
pub(super) fn ipv6() -> Ipv6 {
    // One folder an interface, beside `all` and `default`, which stand for none
    // (Documentation/networking/ip-sysctl.rst).
    let Ok(interfaces) = fs::read_dir("/proc/sys/net/ipv6/conf") else {
        return Ipv6::Absent("this kernel has no IPv6");
    };
    if !in_path(Family::V6.restore_program()) {
        return Ipv6::Absent(
            "ip6tables-restore is not in PATH; IPv6 connections are NOT captured, install the \
             package iptables if there are any",
        );
    }
    let on = interfaces.filter_map(Result::ok).any(|interface| {
        let of_none = interface.file_name() == "all" || interface.file_name() == "default";
        let disabled = fs::read_to_string(interface.path().join("disable_ipv6"));
        !of_none && disabled.is_ok_and(|disabled| disabled.trim() == "0")
    });
    if on { Ipv6::On } else { Ipv6::Off("IPv6 is disabled on every interface (disable_ipv6)") }
}

fn in_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Fails early, and in words, where every command would fail.
pub(super) fn require_net_admin() -> Result<(), Error> {
    match rustix::thread::capabilities(None) {
        Ok(sets) if !sets.effective.contains(CapabilitySet::NET_ADMIN) => Err(Error::NoNetAdmin),
        // Where it cannot be asked, the commands will say.
        _ => Ok(()),
    }
}

/// What there is of ours.
pub(super) fn read(ipv6: &Ipv6) -> Result<RuleSet, Error> {
    let families: &[Family] = match ipv6 {
        Ipv6::On | Ipv6::Off(_) => &[Family::V4, Family::V6],
        Ipv6::Absent(_) => &[Family::V4],
    };
    let mut found = RuleSet::default();
    for &family in families {
        let saved = execute(&Invocation::new(family.save_program(), ""))?;
        found.add_saved(family, &saved);
    }
    for object in IpObject::ALL.into_iter().filter(|object| families.contains(&object.family())) {
        let there = match execute(&object.show()) {
            Ok(shown) => !shown.trim().is_empty(),
            // Asking for the routes of a table that has none fails.
            Err(Error::Command { .. }) => false,
            Err(error) => return Err(error),
        };
        if there {
            found.objects.insert(object);
        }
    }
    Ok(found)
}

/// Runs a command to its end and returns what it has printed.
pub(super) fn execute(invocation: &Invocation) -> Result<String, Error> {
    let program = invocation.program;
    let start = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::NoProgram { program },
        _ => Error::Start { program, source },
    };
    let mut child = Command::new(Path::new(program))
        .args(&invocation.arguments)
        // Messages are shown, not understood; but the same everywhere.
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // Beside reading its output, so that neither waits for the other. A command that ends
        // without reading says why itself, so a broken pipe is nothing.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(invocation.input.as_bytes())));
        child.wait_with_output()
    })
    .map_err(start)?;
    if !output.status.success() {
        return Err(Error::Command {
            command: invocation.summary(),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
