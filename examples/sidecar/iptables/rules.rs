//! From settings to rules: which packet goes where, in Istio's order.
//!
//! In: [`Settings`]. Out: a [`RuleSet`] for both address families. A pure function.
//!
//! ```text
//! nat     OUTPUT     ─► EVENKEEL_OUTPUT  ─► EVENKEEL_REDIRECT     to the outbound port
//!                                       └► EVENKEEL_IN_REDIRECT   to the inbound port
//!         PREROUTING ─► EVENKEEL_INBOUND ─► EVENKEEL_IN_REDIRECT  (redirect)
//! mangle  PREROUTING ─► EVENKEEL_INBOUND ─► EVENKEEL_TPROXY       (tproxy) a new connection
//!                                       └► EVENKEEL_DIVERT        the packets behind it
//!         OUTPUT     ─► EVENKEEL_OUTPUT                           marks for the above
//! ```
//!
//! The order is that of Istio's `tools/istio-iptables/pkg/capture/run.go`, and the chains do what
//! those of the same name behind `ISTIO_` do. Where they differ, and why:
//! - The chains are entered by TCP only, as nothing else is ever captured.
//! - Packets with the sidecar's mark pass, for sidecars that mark their sockets rather than (or
//!   beside) having a user of their own.
//! - No port is special (Istio leaves 15008 alone, its tunnel).
//! - With TPROXY, the mark that routes packets to this host is not the one of the sidecar's sockets:
//!   Istio uses one number for both, so its proxy must not mark connections that leave the host.
//! - With TPROXY, the sidecar's connections to its own pod come back by TPROXY too. A transparent
//!   listener takes its socket's address for the destination, and would take a translated one for a
//!   connection to itself.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::ip_object::IpObject;
use super::rule_set::{Family, RuleSet, Table, TableRules};
use super::settings::{DIVERT_MARK, InboundMode, InboundPorts, SELF_CALL_MARK, Settings};

/// The rules that do what `settings` say.
pub(super) fn rules(settings: &Settings) -> RuleSet {
    let mut tables = BTreeMap::new();
    let mut objects = BTreeSet::from([IpObject::SourceAddress]);
    for family in [Family::V4, Family::V6] {
        tables.insert((family, Table::Nat), nat(settings, family));
        if settings.inbound_mode == InboundMode::Tproxy {
            tables.insert((family, Table::Mangle), mangle(settings, family));
            objects.extend([IpObject::LocalRoute(family), IpObject::MarkRule(family)]);
        }
    }
    RuleSet { tables, objects }
}

impl Family {
    /// The address of `localhost`.
    fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.1/32",
            Self::V6 => "::1/128",
        }
    }

    /// From where the sidecar connects to the application behind inbound passthrough.
    fn passthrough_source(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.6/32",
            Self::V6 => "::6/128",
        }
    }

    fn has(self, network: &IpNet) -> bool {
        matches!((self, network), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}

/// The table that translates destinations: outbound always, inbound in redirect mode.
fn nat(settings: &Settings, family: Family) -> TableRules {
    let mut table = TableRules::default();
    let to_port = |port| vec![format!("-p tcp -j REDIRECT --to-ports {port}")];
    table.chain("EVENKEEL_REDIRECT", to_port(settings.outbound_port));
    table.chain("EVENKEEL_OUTPUT", outbound(settings, family));
    if settings.inbound_mode == InboundMode::Redirect {
        table.chain("EVENKEEL_IN_REDIRECT", to_port(settings.inbound_port));
        table.chain(
            "EVENKEEL_INBOUND",
            inbound(settings, |ports| vec![format!("-p tcp{ports} -j EVENKEEL_IN_REDIRECT")]),
        );
        table.jumps.push("PREROUTING -p tcp -j EVENKEEL_INBOUND".to_owned());
    }
    table.jumps.push("OUTPUT -p tcp -j EVENKEEL_OUTPUT".to_owned());
    table
}

/// What becomes of connections that are made in this namespace.
fn outbound(settings: &Settings, family: Family) -> Vec<String> {
    let loopback = family.loopback();
    let mut rules: Vec<String> = settings
        .exclude_outbound_ports
        .iter()
        .map(|port| format!("-p tcp --dport {port} -j RETURN"))
        .collect();

    // The sidecar, to the application that a connection was for: rather by these two than by its
    // user, because the next rule would send it back to the sidecar, for ever.
    rules.push(format!("-s {} -o lo -j RETURN", family.passthrough_source()));
    rules.push(format!("-m mark --mark {:#x} -j RETURN", settings.mark));

    // Of the group's three rules only the last can match, as the user's have decided all of `lo`;
    // they stand here so that the list compares with Istio's line by line.
    for owner in [format!("--uid-owner {}", settings.uid), format!("--gid-owner {}", settings.gid)]
    {
        // The application called itself by a service address, and the sidecar has chosen this very
        // pod: inbound rules count here as they would in another pod.
        if settings.inbound_mode == InboundMode::Redirect {
            rules.push(format!(
                "! -d {loopback} -o lo -p tcp -m owner {owner} -j EVENKEEL_IN_REDIRECT"
            ));
        }
        // The application talks to itself.
        rules.push(format!("-o lo -m owner ! {owner} -j RETURN"));
        // The sidecar's own connections: what stops the loop.
        rules.push(format!("-m owner {owner} -j RETURN"));
    }

    rules.push(format!("-d {loopback} -j RETURN"));
    let networks = settings.exclude_outbound_cidrs.iter().filter(|network| family.has(network));
    rules.extend(networks.map(|network| format!("-d {network} -j RETURN")));
    rules.push("-j EVENKEEL_REDIRECT".to_owned());
    rules
}

/// What becomes of connections that come to this namespace: `capture` makes the rules that capture
/// the ports it is given, as a match to stand behind `-p tcp`.
fn inbound(settings: &Settings, capture: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let mut rules: Vec<String> = settings
        .exclude_inbound_ports
        .iter()
        .map(|port| format!("-p tcp --dport {port} -j RETURN"))
        .collect();
    match &settings.inbound_ports {
        InboundPorts::All => rules.extend(capture("")),
        InboundPorts::Only(ports) => {
            rules.extend(ports.iter().flat_map(|port| capture(&format!(" --dport {port}"))));
        }
    }
    rules
}

/// The table that captures inbound connections in TPROXY mode.
fn mangle(settings: &Settings, family: Family) -> TableRules {
    let loopback = family.loopback();
    let mark = settings.mark;
    let mut table = TableRules::default();
    table.chain(
        "EVENKEEL_DIVERT",
        vec![format!("-j MARK --set-xmark {DIVERT_MARK:#x}/0xffffffff"), "-j ACCEPT".to_owned()],
    );
    table.chain("EVENKEEL_TPROXY", vec![format!(
        "! -d {loopback} -p tcp -j TPROXY --on-port {} --tproxy-mark {DIVERT_MARK:#x}/0xffffffff",
        settings.inbound_port
    )]);

    let mut arriving = vec![
        // The sidecar has connected to the application, perhaps with its client's address. The
        // answers must come back here, not go to that client; OUTPUT below sees to it.
        format!(
            "-i lo -m mark --mark {mark:#x} -j CONNMARK --set-xmark {DIVERT_MARK:#x}/0xffffffff"
        ),
        // Such an answer, on its way in.
        format!("-m mark --mark {DIVERT_MARK:#x} -j RETURN"),
        format!("-s {} -i lo -j RETURN", family.passthrough_source()),
        // The application talks to itself.
        format!("-i lo -m mark ! --mark {SELF_CALL_MARK:#x} -j RETURN"),
    ];
    arriving.extend(inbound(settings, |ports| {
        vec![
            format!("-p tcp{ports} -m conntrack --ctstate RELATED,ESTABLISHED -j EVENKEEL_DIVERT"),
            format!("-p tcp{ports} -j EVENKEEL_TPROXY"),
        ]
    }));
    table.chain("EVENKEEL_INBOUND", arriving);

    let self_call = |owner: String| {
        format!(
            "! -d {loopback} -o lo -p tcp -m owner {owner} -j MARK --set-xmark \
             {SELF_CALL_MARK:#x}/0xffffffff"
        )
    };
    table.chain(
        "EVENKEEL_OUTPUT",
        vec![
            format!("-m mark --mark {mark:#x} -j RETURN"),
            self_call(format!("--uid-owner {}", settings.uid)),
            self_call(format!("--gid-owner {}", settings.gid)),
            // The application's answer to the sidecar, whatever address the sidecar came from.
            format!("-m connmark --mark {DIVERT_MARK:#x} -j CONNMARK --restore-mark"),
        ],
    );
    table.jumps.push("PREROUTING -p tcp -j EVENKEEL_INBOUND".to_owned());
    table.jumps.push("OUTPUT -p tcp -j EVENKEEL_OUTPUT".to_owned());
    table
}

impl TableRules {
    fn chain(&mut self, name: &str, rules: Vec<String>) {
        self.chains.insert(name.to_owned(), rules);
    }
}
