//! A `<network>` document: the parts that decide rules, plus what is needed to compare documents with each other.
//!
//! Reference: networks.md section 2. Everything is already validated except what needs other files (names and bridges
//! that clash), which [`crate::resolve`] checks.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use uuid::Uuid;

use crate::addr::{DeviceName, PortRange};
use crate::source::{Span, Spanned};

/// One virtual network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// `<name>`: free text, not trimmed, no `/`, no newline.
    pub name: Spanned<String>,
    /// `<uuid>`.
    pub uuid: Option<Spanned<Uuid>>,
    /// Whether the document says how a network is defined or how it runs.
    pub document: Document,
    /// `bridge/@name`; `None` only in modes that have no bridge of their own.
    pub bridge: Option<Spanned<DeviceName>>,
    /// `<forward>`.
    pub forward: Forward,
    /// `network/@ipv6='yes'`: guests may speak IPv6 among themselves though the network has no IPv6 address.
    pub ipv6: bool,
    /// Every `<ip>`, in document order.
    pub addresses: Vec<NetworkAddress>,
    /// The `<network>` start tag.
    pub span: Span,
}

/// The two documents that libvirt keeps about one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// `<network>`.
    Definition,
    /// `<networkstatus>`: a running network; supersedes the definition with its UUID.
    Status,
}

/// How a network reaches the world (networks.md section 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// No `<forward>`, or `mode='none'`.
    Isolated,
    /// `mode='nat'`, absent or empty.
    Nat(Nat),
    /// `mode='route'`, through one device or any.
    Route {
        /// DEV of networks.md 2.3.
        device: Option<Spanned<DeviceName>>,
        /// The `<forward>` element.
        span: Span,
    },
    /// `mode='open'`: no rules at all.
    Open {
        /// The `<forward>` element.
        span: Span,
    },
    /// `bridge`, `private`, `vepa`, `passthrough`, `hostdev`: somebody else's bridge, no rules.
    External,
}

/// `<forward mode='nat'>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// DEV of networks.md 2.3.
    pub device: Option<Spanned<DeviceName>>,
    /// `nat/@ipv6='yes'`: masquerade IPv6 too.
    pub ipv6: bool,
    /// `nat/address`, inclusive, first not above last.
    pub addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    /// `nat/port`; absent or 0/0 is 1024-65535.
    pub ports: PortRange,
    /// The `<nat>` element, or `<forward>` where there is none.
    pub span: Span,
}

impl Nat {
    /// The ports that translated connections get when the network does not say.
    pub const DEFAULT_PORTS: PortRange = PortRange { first: 1024, last: 65535 };
}

/// One `<ip>` of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAddress {
    /// The bridge's own address with its derived prefix (networks.md 2.3); `.trunc()` is NET.
    pub address: IpNet,
    /// At least one `dhcp/range` or `dhcp/host`.
    pub dhcp: bool,
    /// A `tftp/@root`, IPv4 only.
    pub tftp: bool,
    /// The `<ip>` start tag.
    pub span: Span,
}
