//! What `apply` and `remove` leave in the kernel.

use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::namespace::Namespace;
use super::sidecar::{Tools, done, possible, sidecar, succeeded};

/// All that `sidecar iptables` could have changed, without counters, times and empty tables.
pub(crate) fn state(namespace: &Namespace, tools: &Tools) -> String {
    let mut text = String::new();
    for save in ["iptables-save", "ip6tables-save"] {
        let output = namespace.output(tools.first(&mut Command::new(save)));
        let saved = succeeded(save, output);
        let lines = saved.lines().filter(|line| !line.starts_with('#'));
        let lines: String =
            lines.map(|line| format!("{}\n", line.split(" [").next().unwrap())).collect();
        let full = |table: &&str| table.contains("\n-A") || table.contains(" -\n");
        text.extend(lines.split_inclusive("COMMIT\n").filter(full));
    }
    for show in
        ["-4 rule", "-6 rule", "-4 route show table 133", "-6 route show table 133", "-6 addr"]
    {
        // A table without routes may or may not exist.
        let output = namespace.output(Command::new("ip").args(show.split(' ')));
        text += &format!("ip {show}\n{}", String::from_utf8_lossy(&output.stdout));
    }
    text
}

/// `sidecar iptables` with these tools; must succeed.
fn done_with(tools: &Tools, namespace: &Namespace, line: &str) -> String {
    succeeded(line, namespace.output(tools.first(&mut sidecar(line))))
}

/// Rules that are not ours, before, around and after where ours go.
fn rules_of_others(namespace: &Namespace, tools: &Tools) {
    let script = "for tool in iptables ip6tables; do $tool-restore --noflush <<'END'
*nat
:ISTIO_OUTPUT - [0:0]
:EVENKEEL - [0:0]
-A PREROUTING -p tcp -m tcp --dport 1 -m comment --comment \"not -j EVENKEEL_OUTPUT\" -j ACCEPT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -p udp -j RETURN
-A EVENKEEL -j RETURN
COMMIT
*mangle
:ISTIO_DIVERT - [0:0]
-A OUTPUT -p tcp -m tcp --dport 2 -j MARK --set-xmark 0x7/0xffffffff
-A ISTIO_DIVERT -j ACCEPT
COMMIT
END
done; ip rule add fwmark 7 lookup 134";
    let output = namespace.output(tools.first(Command::new("sh").args(["-ec", script])));
    succeeded("rules of others", output);
}

const EVERY_OPTION: &str = "apply --outbound-port 1 --inbound-port 2 --uid 3 --gid 4 --mark 5 \
     --inbound-ports 80,443 --exclude-inbound-ports 22 --exclude-outbound-ports 25,53 \
     --exclude-outbound-cidrs 10.0.0.0/8,fd00::/8";

#[test]
fn apply_is_repeatable_and_remove_leaves_all_as_it_was() {
    if !possible("apply_is_repeatable_and_remove_leaves_all_as_it_was") {
        return;
    }
    for tools in Tools::backends() {
        for others in [false, true] {
            let namespace = Namespace::new();
            if others {
                rules_of_others(&namespace, &tools);
            }
            let before = state(&namespace, &tools);
            for mode in ["redirect", "tproxy"] {
                for line in ["apply", EVERY_OPTION].map(|it| format!("{it} --inbound-mode {mode}"))
                {
                    done_with(&tools, &namespace, &line);
                    let applied = state(&namespace, &tools);
                    assert_ne!(applied, before);
                    done_with(&tools, &namespace, &line);
                    assert_eq!(state(&namespace, &tools), applied, "twice: {line}");
                    done_with(&tools, &namespace, "remove");
                    assert_eq!(state(&namespace, &tools), before, "removed: {line}");
                }
            }
            assert_eq!(done_with(&tools, &namespace, "remove"), "nothing to remove\n");
        }
    }
}

#[test]
fn other_settings_replace_the_former_ones() {
    if !possible("other_settings_replace_the_former_ones") {
        return;
    }
    for tools in Tools::backends() {
        let (changed, fresh) = (Namespace::new(), Namespace::new());
        let tproxy = format!("{EVERY_OPTION} --inbound-mode tproxy");
        for line in ["apply", &tproxy, EVERY_OPTION, "apply --inbound-ports none", "apply"] {
            done_with(&tools, &changed, line);
            done_with(&tools, &fresh, "remove");
            done_with(&tools, &fresh, line);
            assert_eq!(state(&changed, &tools), state(&fresh, &tools), "{line}");
        }
    }
}

/// What somebody, or a power cut, has left of our rules is completed, or taken away.
#[test]
fn remains_of_an_application_are_no_obstacle() {
    if !possible("remains_of_an_application_are_no_obstacle") {
        return;
    }
    let damages = [
        "ip -6 addr del ::6/128 dev lo",
        "ip rule del fwmark 133 table 133",
        "ip -6 route flush table 133",
        "printf '*nat\\n-F EVENKEEL_OUTPUT\\nCOMMIT\\n' | iptables-restore --noflush",
        "printf '*nat\\n-D OUTPUT -p tcp -j EVENKEEL_OUTPUT\\nCOMMIT\\n' | iptables-restore --noflush",
        "printf '*nat\\n-A OUTPUT -p tcp -j EVENKEEL_OUTPUT\\nCOMMIT\\n' | iptables-restore --noflush",
        "printf '*mangle\\n-D PREROUTING -p tcp -j EVENKEEL_INBOUND\\n-F EVENKEEL_INBOUND\\n\
         -X EVENKEEL_INBOUND\\nCOMMIT\\n' | ip6tables-restore --noflush",
        "printf '*nat\\n:EVENKEEL_OLD -\\n-A POSTROUTING -j EVENKEEL_OLD\\nCOMMIT\\n' \
         | iptables-restore --noflush",
    ];
    for tools in Tools::backends() {
        let namespace = Namespace::new();
        let before = state(&namespace, &tools);
        let apply = "apply --inbound-mode tproxy";
        done_with(&tools, &namespace, apply);
        let applied = state(&namespace, &tools);
        for damage in damages {
            let damage_it = || {
                let mut shell = Command::new("sh");
                succeeded(damage, namespace.output(tools.first(shell.args(["-c", damage]))));
                assert_ne!(state(&namespace, &tools), applied, "{damage}");
            };
            damage_it();
            done_with(&tools, &namespace, apply);
            assert_eq!(state(&namespace, &tools), applied, "completed: {damage}");
            damage_it();
            done_with(&tools, &namespace, "remove");
            assert_eq!(state(&namespace, &tools), before, "taken away: {damage}");
            done_with(&tools, &namespace, apply);
        }
    }
}

#[test]
fn the_printed_script_does_what_apply_does() {
    if !possible("the_printed_script_does_what_apply_does") {
        return;
    }
    for tools in Tools::backends() {
        for mode in ["redirect", "tproxy"] {
            let (applied, scripted) = (Namespace::new(), Namespace::new());
            let options = format!("--inbound-mode {mode} --exclude-outbound-cidrs 10.0.0.0/8");
            done_with(&tools, &applied, &format!("apply {options}"));
            let script = done(&scripted, &format!("print {options}"));
            let mut shell = Command::new("sh");
            let output = scripted.output(tools.first(shell.args(["-ec", &script])));
            succeeded(&script, output);
            assert_eq!(state(&scripted, &tools), state(&applied, &tools));
        }
    }
}

/// Any command line that `print` takes.
fn any_options() -> impl Strategy<Value = String> {
    let port = || 1..=u16::MAX;
    let ports = move || {
        proptest::collection::vec(port(), 1..20)
            .prop_map(|ports| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(","))
    };
    let network = prop_oneof![
        (any::<std::net::Ipv4Addr>(), 0..=32u8).prop_map(|(net, bits)| format!("{net}/{bits}")),
        (any::<u128>(), 0..=128u8).prop_map(|(net, bits)| {
            format!("{}/{bits}", std::net::Ipv6Addr::from_bits(net | 1 << 127))
        }),
    ];
    let networks = proptest::collection::vec(network, 1..8).prop_map(|nets| nets.join(","));
    let option = |name, value: BoxedStrategy<String>| {
        proptest::option::of(value)
            .prop_map(move |value| value.map(|value| format!("--{name} {value}")))
    };
    let id = || (0..u32::MAX).prop_map(|id| id.to_string()).boxed();
    let captured = prop_oneof![Just("*".to_owned()), Just("none".to_owned()), ports()];
    let modes = prop_oneof![Just("redirect".to_owned()), Just("tproxy".to_owned())];
    (
        (1..15000u16).prop_map(|port| format!("--outbound-port {port}")),
        (15002..=u16::MAX).prop_map(|port| format!("--inbound-port {port}")),
        option("uid", id()),
        option("gid", id()),
        option("mark", (2000..=u32::MAX).prop_map(|mark| format!("{mark:#x}")).boxed()),
        option("inbound-ports", captured.boxed()),
        option("exclude-inbound-ports", ports().boxed()),
        option("exclude-outbound-ports", ports().boxed()),
        option("exclude-outbound-cidrs", networks.boxed()),
        option("inbound-mode", modes.boxed()),
    )
        .prop_map(|(outbound, inbound, a, b, c, d, e, f, g, h)| {
            let rest = [a, b, c, d, e, f, g, h].into_iter().flatten();
            [outbound, inbound].into_iter().chain(rest).collect::<Vec<_>>().join(" ")
        })
}

#[test]
fn whatever_is_printed_iptables_accepts() {
    if !possible("whatever_is_printed_iptables_accepts") {
        return;
    }
    let (namespace, backends) = (Namespace::new(), Tools::backends());
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let accepted = |options: String| {
        let script = done(&namespace, &format!("print {options}"));
        let script = script.replace("-restore --noflush", "-restore --test --noflush");
        let rules = script.find("iptables-restore").unwrap();
        let inputs = script[..rules].rfind('\n').map_or(0, |end| end + 1);
        for tools in &backends {
            let mut shell = Command::new("sh");
            let output = namespace.output(tools.first(shell.args(["-ec", &script[inputs..]])));
            let error = String::from_utf8_lossy(&output.stderr);
            prop_assert!(output.status.success(), "{}{}", error, script);
        }
        Ok::<(), TestCaseError>(())
    };
    TestRunner::new(config).run(&any_options(), accepted).unwrap();
}
