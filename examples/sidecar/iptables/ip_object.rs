//! What `ip` makes for us beside the rules: an address, and for TPROXY a routing rule and a route.
//!
//! Each object knows how it is shown, made and taken away; nothing is run here.

use super::invocation::Invocation;
use super::rule_set::Family;
use super::settings::{DIVERT_MARK, ROUTE_TABLE};

/// An object of ours, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum IpObject {
    /// `::6` on `lo`, the source address of inbound passthrough. IPv4 needs none: all of
    /// 127.0.0.0/8 is local, while IPv6 has a single loopback address.
    SourceAddress,
    /// Table [`ROUTE_TABLE`] takes every address for a local one, so that diverted packets are
    /// delivered here.
    LocalRoute(Family),
    /// Packets with [`DIVERT_MARK`] go by that table.
    MarkRule(Family),
}

impl IpObject {
    /// All there are.
    pub(super) const ALL: [Self; 5] = [
        Self::SourceAddress,
        Self::LocalRoute(Family::V4),
        Self::LocalRoute(Family::V6),
        Self::MarkRule(Family::V4),
        Self::MarkRule(Family::V6),
    ];

    pub(super) fn family(self) -> Family {
        match self {
            Self::SourceAddress => Family::V6,
            Self::LocalRoute(family) | Self::MarkRule(family) => family,
        }
    }

    /// Prints something if the object is there. May fail where it is not (a table without routes).
    pub(super) fn show(self) -> Invocation {
        match self {
            Self::SourceAddress => ip(Family::V6, "addr show dev lo to ::6/128"),
            Self::LocalRoute(family) => {
                ip(family, &format!("route show type local default dev lo table {ROUTE_TABLE}"))
            }
            Self::MarkRule(family) => {
                ip(family, &format!("rule show fwmark {DIVERT_MARK} table {ROUTE_TABLE}"))
            }
        }
    }

    pub(super) fn add(self) -> Invocation {
        self.change("add")
    }

    pub(super) fn delete(self) -> Invocation {
        self.change("del")
    }

    fn change(self, verb: &str) -> Invocation {
        match self {
            // Without duplicate address detection, or it could not be bound to for a moment.
            Self::SourceAddress => ip(Family::V6, &format!("addr {verb} ::6/128 dev lo nodad")),
            Self::LocalRoute(family) => {
                ip(family, &format!("route {verb} local default dev lo table {ROUTE_TABLE}"))
            }
            Self::MarkRule(family) => {
                ip(family, &format!("rule {verb} fwmark {DIVERT_MARK} lookup {ROUTE_TABLE}"))
            }
        }
    }
}

fn ip(family: Family, arguments: &str) -> Invocation {
    let family = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    Invocation::new("ip", &format!("{family} {arguments}"))
}
