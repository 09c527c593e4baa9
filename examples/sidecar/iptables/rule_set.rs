//! What is ours in the kernel, wanted or found, and the way from one to the other.
//!
//! In: rules made from settings, or the text of `iptables-save`. Out: the commands that lead from
//! one [`RuleSet`] to another. Nothing is run here.
//!
//! A table changes in one commit, so no packet ever sees half of it. Rules in the chains of others
//! are only jumps into ours; a jump that is right already is left where it stands.

use std::collections::{BTreeMap, BTreeSet};

use super::invocation::Invocation;
use super::ip_object::IpObject;

/// Every chain of ours begins with this.
pub(super) const PREFIX: &str = "EVENKEEL_";

/// How long to wait for the lock that all iptables share, seconds.
const LOCK_WAIT_SECONDS: u32 = 60;

/// An address family; each has its own tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn save_program(self) -> &'static str {
        match self {
            Self::V4 => "iptables-save",
            Self::V6 => "ip6tables-save",
        }
    }

    pub(super) fn restore_program(self) -> &'static str {
        match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        }
    }
}

/// A table that we have rules in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Mangle,
    Nat,
}

impl Table {
    const ALL: [Self; 2] = [Self::Mangle, Self::Nat];

    fn name(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Nat => "nat",
        }
    }
}

/// Our part of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableRules {
    /// Our chains and their rules, each without `-A` and the chain's name.
    pub(super) chains: BTreeMap<String, Vec<String>>,
    /// Rules in others' chains that lead to ours, each beginning with the chain's name.
    pub(super) jumps: Vec<String>,
}

/// All that is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleSet {
    /// Tables in which nothing is ours are absent.
    pub(super) tables: BTreeMap<(Family, Table), TableRules>,
    pub(super) objects: BTreeSet<IpObject>,
}

impl RuleSet {
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.objects.is_empty()
    }

    /// The part of one address family.
    pub(super) fn only(mut self, family: Family) -> Self {
        self.tables.retain(|(of, _), _| *of == family);
        self.objects.retain(|object| object.family() == family);
        self
    }

    /// The part that is ours of what `iptables-save` or `ip6tables-save` has printed.
    pub(super) fn add_saved(&mut self, family: Family, saved: &str) {
        let mut table = None;
        for line in saved.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = Table::ALL.into_iter().find(|table| table.name() == name.trim());
            } else if let Some(table) = table {
                self.add_saved_line((family, table), line);
            }
        }
    }

    fn add_saved_line(&mut self, table: (Family, Table), line: &str) {
        if let Some(chain) = line.strip_prefix(':') {
            let chain = chain.split_ascii_whitespace().next().unwrap_or_default();
            if chain.starts_with(PREFIX) {
                self.tables.entry(table).or_default().chains.entry(chain.to_owned()).or_default();
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rest) = rule.split_once(' ').unwrap_or((rule, ""));
            if chain.starts_with(PREFIX) {
                let rules = self.tables.entry(table).or_default();
                rules.chains.entry(chain.to_owned()).or_default().push(rest.to_owned());
            } else if target(rest).is_some_and(|target| target.starts_with(PREFIX)) {
                self.tables.entry(table).or_default().jumps.push(rule.to_owned());
            }
        }
    }

    /// The commands that lead from `self`, which is there, to `wanted`.
    ///
    /// What packets need on their way is made before the rules that send them there, and taken away
    /// after them.
    pub(super) fn commands_to(&self, wanted: &Self) -> Vec<Invocation> {
        let added = wanted.objects.difference(&self.objects).map(|object| object.add());
        let restored = [Family::V4, Family::V6].into_iter().filter_map(|family| {
            let input: String =
                Table::ALL.iter().map(|&table| self.table_to(wanted, (family, table))).collect();
            (!input.is_empty()).then(|| restore(family, input))
        });
        let deleted = self.objects.iter().rev().filter(|object| !wanted.objects.contains(object));
        added.chain(restored).chain(deleted.map(|object| object.delete())).collect()
    }

    /// The input of `iptables-restore` that leads to `wanted` in one table; empty if it is so.
    fn table_to(&self, wanted: &Self, table: (Family, Table)) -> String {
        let none = TableRules::default();
        let found = self.tables.get(&table).unwrap_or(&none);
        let wanted = wanted.tables.get(&table).unwrap_or(&none);
        if found == wanted {
            return String::new();
        }
        let mut lines = vec![format!("*{}", table.1.name())];
        let jumps_differ = found.jumps != wanted.jumps;
        if jumps_differ {
            lines.extend(found.jumps.iter().map(|jump| format!("-D {jump}")));
        }
        // Makes the chain, or empties the one that is there.
        lines.extend(wanted.chains.keys().map(|chain| format!(":{chain} - [0:0]")));
        let stale: Vec<&String> =
            found.chains.keys().filter(|chain| !wanted.chains.contains_key(*chain)).collect();
        // All are emptied first, since a chain that another one leads to cannot go.
        lines.extend(stale.iter().map(|chain| format!("-F {chain}")));
        lines.extend(stale.iter().map(|chain| format!("-X {chain}")));
        for (chain, rules) in &wanted.chains {
            lines.extend(rules.iter().map(|rule| format!("-A {chain} {rule}")));
        }
        if jumps_differ {
            lines.extend(wanted.jumps.iter().map(|jump| format!("-A {jump}")));
        }
        lines.push("COMMIT\n".to_owned());
        lines.join("\n")
    }
}

/// `--noflush` leaves alone what the input does not name.
fn restore(family: Family, input: String) -> Invocation {
    let arguments = format!("--noflush --wait={LOCK_WAIT_SECONDS}");
    Invocation { input, ..Invocation::new(family.restore_program(), &arguments) }
}

/// Where a rule sends its packets; quoted text (a comment) is not looked at.
fn target(rule: &str) -> Option<&str> {
    let mut rest = rule;
    while let Some(open) = rest.find('"') {
        if let Some(found) = unquoted_target(&rest[..open]) {
            return Some(found);
        }
        let quoted = &rest[open + 1..];
        let mut escaped = false;
        let close = quoted.find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        })?;
        rest = &quoted[close + 1..];
    }
    unquoted_target(rest)
}

fn unquoted_target(rule: &str) -> Option<&str> {
    let mut words = rule.split_ascii_whitespace();
    words.find(|word| matches!(*word, "-j" | "-g"))?;
    words.next()
}
