//! What is missing or fails, what is said about it, and that it leaves nothing behind.

use std::process::Command;

use super::namespace::Namespace;
use super::sidecar::{Tools, done, failed, possible, sidecar, succeeded};
use super::state::state;

const FAILS: &str = "echo 'the stub has failed' >&2; exit 3";

#[test]
fn a_failure_of_ipv6_takes_ipv4_away_again() {
    if !possible("a_failure_of_ipv6_takes_ipv4_away_again") {
        return;
    }
    let (namespace, real) = (Namespace::new(), Tools::new());
    let broken = Tools::new().script("ip6tables-restore", FAILS);
    let before = state(&namespace, &real);
    for line in ["apply", "apply --inbound-mode tproxy"] {
        let error = failed(1, &namespace.output(broken.first(&mut sidecar(line))));
        assert!(error.contains("`ip6tables-restore --noflush --wait=60` failed"), "{error}");
        assert!(error.contains("the stub has failed"), "{error}");
        assert!(error.contains("Rolled back, all is as before:\n"), "{error}");
        assert!(error.contains("\n  iptables-restore"), "{error}");
        assert!(error.contains("\n  ip -6 addr del ::6/128 dev lo nodad"), "{error}");
        assert_eq!(state(&namespace, &real), before, "{line}");
    }
}

#[test]
fn a_failure_keeps_what_was_applied_before() {
    if !possible("a_failure_keeps_what_was_applied_before") {
        return;
    }
    let (namespace, real) = (Namespace::new(), Tools::new());
    let broken = Tools::new().script("ip6tables-restore", FAILS);
    for (former, line) in [
        ("apply --uid 7", "apply --inbound-mode tproxy"),
        ("apply --inbound-mode tproxy --mark 9", "apply --outbound-port 4001"),
    ] {
        done(&namespace, former);
        let before = state(&namespace, &real);
        failed(1, &namespace.output(broken.first(&mut sidecar(line))));
        assert_eq!(state(&namespace, &real), before, "{line} after {former}");
    }
}

#[test]
fn a_failure_of_ip_takes_away_what_ip_has_made() {
    if !possible("a_failure_of_ip_takes_away_what_ip_has_made") {
        return;
    }
    let (namespace, real) = (Namespace::new(), Tools::new());
    let before = state(&namespace, &real);
    let script = format!("case \"$*\" in '-6 rule add '*) {FAILS};; esac; exec $real \"$@\"");
    let broken = Tools::new().script("ip", &script);
    let output = namespace.output(broken.first(&mut sidecar("apply --inbound-mode tproxy")));
    let error = failed(1, &output);
    assert!(error.contains("`ip -6 rule add fwmark 133 lookup 133` failed"), "{error}");
    assert!(error.contains("\n  ip -4 rule del fwmark 133 lookup 133"), "{error}");
    assert_eq!(state(&namespace, &real), before);
}

#[test]
fn a_rollback_that_fails_says_what_to_do() {
    if !possible("a_rollback_that_fails_says_what_to_do") {
        return;
    }
    let (namespace, real) = (Namespace::new(), Tools::new());
    let before = state(&namespace, &real);
    let once = format!("if mkdir $here/done; then exec $real \"$@\"; fi; {FAILS}");
    let broken = Tools::new().script("ip6tables-restore", FAILS).script("iptables-restore", &once);
    let error = failed(1, &namespace.output(broken.first(&mut sidecar("apply"))));
    assert!(error.contains("Rolling back failed"), "{error}");
    assert!(error.contains("Run `sidecar iptables remove`"), "{error}");
    assert_ne!(state(&namespace, &real), before);

    // What can go goes, whatever stays.
    let error = failed(1, &namespace.output(broken.first(&mut sidecar("remove"))));
    assert!(error.contains("not everything is removed"), "{error}");
    done(&namespace, "remove");
    assert_eq!(state(&namespace, &real), before);
}

#[test]
fn without_ipv6_the_rules_are_for_ipv4_and_it_is_said() {
    if !possible("without_ipv6_the_rules_are_for_ipv4_and_it_is_said") {
        return;
    }
    let (namespace, real) = (Namespace::new(), Tools::new());
    let disable_ipv6 = |namespace: &Namespace| {
        let script = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6";
        succeeded(script, namespace.output(Command::new("sh").args(["-ec", script])));
    };
    let clean = Namespace::new();
    disable_ipv6(&clean);

    // IPv6 goes after the rules have come: applying again takes away those that mean nothing now.
    let apply = "apply --inbound-mode tproxy";
    done(&namespace, apply);
    disable_ipv6(&namespace);
    let said = done(&namespace, apply);
    assert!(said.contains("IPv4 only: IPv6 is disabled on every interface"), "{said}");
    let applied = state(&namespace, &real);
    assert!(applied.contains("127.0.0.6/32") && !applied.contains("::6/128"), "{applied}");
    assert!(done(&namespace, "print").starts_with("# IPv4 only: IPv6 is disabled"));
    done(&namespace, "remove");
    assert_eq!(state(&namespace, &real), state(&clean, &real));
}

#[test]
fn a_missing_tool_is_named() {
    if !possible("a_missing_tool_is_named") {
        return;
    }
    let (namespace, real) = (Namespace::new(), Tools::new());
    let before = state(&namespace, &real);
    let v4 = Tools::new().with("ip").with("iptables-save").with("iptables-restore");
    let said = succeeded("apply", namespace.output(v4.only(&mut sidecar("apply"))));
    assert!(said.contains("IPv4 only: ip6tables-restore is not in PATH"), "{said}");
    assert!(said.contains("NOT captured"), "{said}");
    succeeded("remove", namespace.output(v4.only(&mut sidecar("remove"))));
    assert_eq!(state(&namespace, &real), before);

    let no_iptables = Tools::new().with("ip");
    let error = failed(1, &namespace.output(no_iptables.only(&mut sidecar("apply"))));
    assert!(error.contains("`iptables-save` is not in PATH: install the package iptables"));
    let no_ip = Tools::new().with("iptables-save").with("iptables-restore");
    let error = failed(1, &namespace.output(no_ip.only(&mut sidecar("apply"))));
    assert!(error.contains("`ip` is not in PATH: install the package iproute2"), "{error}");
    assert_eq!(state(&namespace, &real), before);
}

#[test]
fn without_the_capability_only_print_works() {
    if !possible("without_the_capability_only_print_works") {
        return;
    }
    let (namespace, real) = (Namespace::new(), Tools::new());
    let before = state(&namespace, &real);
    let without = |line: &str| {
        let program = sidecar(line);
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
        namespace.output(command.arg(program.get_program()).args(program.get_args()))
    };
    for line in ["apply", "remove"] {
        let error = failed(1, &without(line));
        assert!(error.contains("needs CAP_NET_ADMIN: run as root"), "{error}");
    }
    assert_eq!(succeeded("print", without("print")), done(&namespace, "print"));
    assert_eq!(state(&namespace, &real), before);
}

/// Needs neither root nor rules.
#[test]
fn wrong_usage_exits_with_2() {
    for (line, text) in [
        ("", "one of print, apply, remove is needed"),
        ("apply --inbound-port 70000", "--inbound-port: \"70000\" is not a port (1 to 65535)"),
        ("remove --force", "invalid option '--force'"),
    ] {
        let output = sidecar(line).output().unwrap();
        let error = failed(2, &output);
        assert!(error.starts_with("sidecar iptables: error: ") && error.contains(text), "{error}");
        assert!(output.stdout.is_empty());
    }
    let help = succeeded("--help", sidecar("--help").output().unwrap());
    assert!(help.contains("print|apply|remove") && help.contains("--exclude-outbound-cidrs"));
}
