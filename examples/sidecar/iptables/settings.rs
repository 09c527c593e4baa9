//! What is to be captured, and what is not.
//!
//! In: single words of the command line. Out: [`Settings`], every field of which can be made into
//! rules as it stands. No rule is known here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use ipnet::IpNet;

/// The mark that TPROXY puts on inbound packets; the routing rule leads it to [`ROUTE_TABLE`].
///
/// Never the mark of the sidecar's own sockets: a socket with this mark would have its packets
/// delivered to this host, wherever they are meant to go.
pub(super) const DIVERT_MARK: u32 = 133;

/// The mark of the sidecar's own connections to this pod's addresses (TPROXY only). Same as Istio's.
pub(super) const SELF_CALL_MARK: u32 = 1338;

/// The routing table in which every address is local. Same as Istio's.
pub(super) const ROUTE_TABLE: u32 = 133;

/// Everything that decides the rules. The defaults are Istio's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where outbound connections land (15001).
    pub(super) outbound_port: NonZeroU16,
    /// Where inbound connections land (15006).
    pub(super) inbound_port: NonZeroU16,
    /// The user whose connections pass: the sidecar's (1337).
    pub(super) uid: u32,
    /// The group whose connections pass: the sidecar's (1337).
    pub(super) gid: u32,
    /// The SO_MARK whose packets pass (1337).
    pub(super) mark: NonZeroU32,
    /// Which inbound ports are captured (all).
    pub(super) inbound_ports: InboundPorts,
    /// Inbound ports that are never captured (none).
    pub(super) exclude_inbound_ports: BTreeSet<NonZeroU16>,
    /// Ports to which connections are never captured (none).
    pub(super) exclude_outbound_ports: BTreeSet<NonZeroU16>,
    /// Networks to which connections are never captured (none); host bits are zero.
    pub(super) exclude_outbound_cidrs: BTreeSet<IpNet>,
    /// How inbound connections are captured (redirect).
    pub(super) inbound_mode: InboundMode,
}

impl Default for Settings {
    fn default() -> Self {
        const fn port(number: u16) -> NonZeroU16 {
            NonZeroU16::new(number).expect("not zero")
        }
        Self {
            outbound_port: const { port(15001) },
            inbound_port: const { port(15006) },
            uid: 1337,
            gid: 1337,
            mark: const { NonZeroU32::new(1337).expect("not zero") },
            inbound_ports: InboundPorts::All,
            exclude_inbound_ports: BTreeSet::new(),
            exclude_outbound_ports: BTreeSet::new(),
            exclude_outbound_cidrs: BTreeSet::new(),
            inbound_mode: InboundMode::Redirect,
        }
    }
}

/// The inbound ports that are captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InboundPorts {
    /// Every port.
    All,
    /// These ports; with none, inbound traffic is left alone.
    Only(BTreeSet<NonZeroU16>),
}

/// How inbound connections reach the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InboundMode {
    /// Destination NAT; the sidecar asks SO_ORIGINAL_DST. The client's address stays visible to the
    /// sidecar.
    Redirect,
    /// Delivered untranslated to a transparent socket; the sidecar can also show the client's
    /// address to the application.
    Tproxy,
}

/// A port, 1 to 65535.
pub(super) fn port(word: &str) -> Result<NonZeroU16, &'static str> {
    word.parse().map_err(|_| "is not a port (1 to 65535)")
}

/// A user or group. Only by number: the image that makes the rules and the one that runs the
/// sidecar need not agree on names.
pub(super) fn id(word: &str) -> Result<u32, &'static str> {
    match word.parse() {
        // The kernel's "no such id" (user_namespaces(7)).
        Ok(u32::MAX) => Err("is not an id (0 to 4294967294)"),
        Ok(id) => Ok(id),
        Err(_) => Err("is not an id (0 to 4294967294; a number, not a name)"),
    }
}

/// A socket mark, decimal or `0x` hexadecimal. Zero is what every unmarked packet has.
pub(super) fn mark(word: &str) -> Result<NonZeroU32, &'static str> {
    let number = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    number
        .and_then(NonZeroU32::new)
        .ok_or("is not a mark (1 to 4294967295, or 0x1 to 0xffffffff; 0 would let everything pass)")
}

/// `*`, `none`, or ports.
pub(super) fn inbound_ports(word: &str) -> Result<InboundPorts, &'static str> {
    match word {
        "*" => Ok(InboundPorts::All),
        "none" => Ok(InboundPorts::Only(BTreeSet::new())),
        _ => port(word)
            .map(|port| InboundPorts::Only(BTreeSet::from([port])))
            .map_err(|_| "is not a port (1 to 65535), nor `*` for all or `none`"),
    }
}

/// A network such as `10.0.0.0/8` or `fd00::/8`, or a single address. Host bits are cleared.
pub(super) fn network(word: &str) -> Result<IpNet, &'static str> {
    let network = IpNet::from_str(word)
        .or_else(|_| word.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "is not a network such as 10.0.0.0/8 or fd00::/8")?
        .trunc();
    match network {
        IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => {
            Err("is IPv4-mapped, which no packet carries; write the IPv4 network")
        }
        _ => Ok(network),
    }
}

/// `redirect` or `tproxy`.
pub(super) fn inbound_mode(word: &str) -> Result<InboundMode, &'static str> {
    match word {
        "redirect" => Ok(InboundMode::Redirect),
        "tproxy" => Ok(InboundMode::Tproxy),
        _ => Err("is neither `redirect` nor `tproxy`"),
    }
}
