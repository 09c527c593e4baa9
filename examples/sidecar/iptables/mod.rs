//! `sidecar iptables`: the rules that hand a network namespace's TCP traffic to the sidecar.
//!
//! In: the command line. Out: the rules as text (`print`), in the kernel (`apply`), or gone
//! (`remove`). The path through the modules is the path of the data:
//!
//! ```text
//! arguments ──► settings ──► rules ──► rule_set ──► invocation ──► system
//!  (words)      (typed)      (pure)    (wanted −     (commands)    (runs them,
//!                                       found)                      reads what is there)
//! ```
//!
//! What this owns in a namespace: every chain whose name starts with `EVENKEEL_` and the jumps to
//! them, in the tables `nat` and `mangle`; the address `::6/128` on `lo`; routing table 133 and the
//! rule for mark 133 that leads to it. It never touches a chain, rule or route of anybody else.
//!
//! `apply` and `remove` are one operation: read what is there, compute the commands that lead from
//! it to what is wanted, run them. So applying twice is applying once, other settings replace the
//! former ones, leftovers are cleaned up, and a failure is undone by walking back to what was read.
//! A table that iptables itself made for us stays, empty, because iptables cannot take it away.

mod arguments;
mod error;
mod invocation;
mod ip_object;
mod rule_set;
mod rules;
mod settings;
mod system;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use arguments::{Action, Arguments};
use error::{Error, Rollback};
use rule_set::{Family, RuleSet};
use settings::{InboundMode, Settings};
use system::Ipv6;

/// Runs `sidecar iptables` with the words that stand behind it.
///
/// The result is the process's exit code: 0 done, 1 failed (nothing has changed then, or the
/// message says what could not be undone), 2 wrong usage.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = Arguments::parse(arguments).map_err(Error::Usage).and_then(|words| run(&words));
    let told =
        done.and_then(|text| io::stdout().lock().write_all(text.as_bytes()).map_err(Error::Output));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even that cannot be written, the exit code is all there is left to say.
            let _ = writeln!(io::stderr(), "sidecar iptables: error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Does it, and returns what there is to say about it.
fn run(arguments: &Arguments) -> Result<String, Error> {
    match arguments.action {
        Action::Help => Ok(arguments::HELP.to_owned()),
        Action::Print => Ok(script(&arguments.settings, &system::ipv6())),
        Action::Apply => apply(&arguments.settings, &system::ipv6()),
        Action::Remove => remove(&system::ipv6()),
    }
}

/// What this namespace is to have: everything, or only IPv4 where there is no IPv6.
fn wanted(settings: &Settings, ipv6: &Ipv6) -> RuleSet {
    let rules = rules::rules(settings);
    match ipv6 {
        Ipv6::On => rules,
        Ipv6::Off(_) | Ipv6::Absent(_) => rules.only(Family::V4),
    }
}

/// A shell script that does to a fresh namespace what `apply` does.
fn script(settings: &Settings, ipv6: &Ipv6) -> String {
    let remark = ipv6.missing().map(|reason| format!("# IPv4 only: {reason}\n"));
    let commands = RuleSet::default().commands_to(&wanted(settings, ipv6));
    remark.into_iter().chain(commands.iter().map(|command| format!("{command}\n"))).collect()
}

fn apply(settings: &Settings, ipv6: &Ipv6) -> Result<String, Error> {
    system::require_net_admin()?;
    let before = system::read(ipv6)?;
    for command in before.commands_to(&wanted(settings, ipv6)) {
        if let Err(cause) = system::execute(&command) {
            let rollback = roll_back(&before, ipv6);
            return Err(Error::NotApplied { cause: Box::new(cause), rollback });
        }
    }
    let families = match ipv6.missing() {
        Some(reason) => format!("IPv4 only: {reason}"),
        None => "IPv4 and IPv6".to_owned(),
    };
    let inbound = match settings.inbound_mode {
        InboundMode::Redirect => "is redirected",
        InboundMode::Tproxy => "goes by TPROXY",
    };
    Ok(format!(
        "applied for {families}\noutbound TCP is redirected to port {}, inbound TCP {inbound} to \
         port {}; uid {}, gid {} and mark {:#x} pass\n",
        settings.outbound_port, settings.inbound_port, settings.uid, settings.gid, settings.mark
    ))
}

/// Leads back from whatever a failed `apply` has left to what was there before it.
///
/// A command that fails here does not stop the ones behind it.
fn roll_back(before: &RuleSet, ipv6: &Ipv6) -> Rollback {
    let now = match system::read(ipv6) {
        Ok(now) => now,
        Err(error) => return Rollback::Incomplete(vec![error]),
    };
    let (mut undone, mut failures) = (Vec::new(), Vec::new());
    for command in now.commands_to(before) {
        match system::execute(&command) {
            Ok(_) => undone.push(command.summary()),
            Err(error) => failures.push(error),
        }
    }
    match (undone.is_empty(), failures.is_empty()) {
        (true, true) => Rollback::NothingToUndo,
        (false, true) => Rollback::Complete(undone),
        (_, false) => Rollback::Incomplete(failures),
    }
}

/// Takes away all there is of ours, whichever settings it was applied with; what cannot be taken
/// away does not keep the rest from going.
fn remove(ipv6: &Ipv6) -> Result<String, Error> {
    system::require_net_admin()?;
    let found = system::read(ipv6)?;
    let failures: Vec<Error> = found
        .commands_to(&RuleSet::default())
        .iter()
        .filter_map(|command| system::execute(command).err())
        .collect();
    if !failures.is_empty() {
        return Err(Error::NotRemoved(failures));
    }
    Ok(if found.is_empty() { "nothing to remove\n" } else { "removed\n" }.to_owned())
}

#[cfg(test)]
mod tests;
