//! `<ip>`: the bridge's addresses, their prefixes, and whether DHCP and TFTP are served on them.
//!
//! Reference: networks.md 2.2 to 2.4.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{dhcp, read_flag};
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::network::NetworkAddress;
use crate::parse::value::{prefix_of_ipv4_mask, read_decimal, read_ip, read_keyword, require};
use crate::parse::visit::Visit;
use crate::parse::xml::{Attribute, Element};
use crate::source::{Span, Spanned};

/// Addresses of one network. Each is some ten rules, and libvirt itself gives a bridge hardly more than two.
const MAX_ADDRESSES: usize = 1_024;

/// Reads every `<ip>` of a network, in order, and compares them with each other.
pub(super) fn read_addresses(
    elements: &[&Element<'_>],
    dns: Dns,
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<NetworkAddress> {
    let (mut addresses, mut known) = (Vec::new(), BTreeMap::new());
    if let Some(beyond) = elements.get(MAX_ADDRESSES) {
        let message = format!("a network with {} addresses", elements.len());
        let expected = format!("expected at most {MAX_ADDRESSES}");
        diagnostics
            .push(Diagnostic::error("too-many-addresses", message, beyond.name_span, expected).help("give the network a larger subnet"));
    }
    for element in elements.iter().take(MAX_ADDRESSES) {
        if let Some(address) = read_address(element, dns, quirks, diagnostics) {
            diagnostics.extend(judge_repeat(&mut known, &address));
            addresses.push(address.value);
        }
    }
    judge_dhcp_places(elements, diagnostics);
    addresses
}

/// One `<ip>`, at the place of its `address`.
fn read_address(element: &Element<'_>, dns: Dns, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<NetworkAddress>> {
    let mut visit = Visit::new(element);
    let family = read_family(&mut visit, diagnostics);
    let address = read_own_address(&mut visit, "address", family, quirks, diagnostics);
    let mask = read_mask(&mut visit, address.as_ref(), quirks, diagnostics);
    let local_pointer = visit.attribute("localPtr");
    let tftp = read_tftp(&mut visit, address.as_ref(), diagnostics);
    let served = visit.child("dhcp");
    visit.finish(diagnostics);

    let net = address.zip(mask).and_then(|(address, mask)| derive_net(&address, mask, diagnostics));
    let dhcp = served.is_some_and(|element| dhcp::read_dhcp(element, family, net, quirks, diagnostics));
    let net = net?;
    if read_flag(local_pointer, diagnostics) && dns == Dns::Served {
        judge_local_pointer(net, local_pointer, diagnostics);
    }
    Some(Spanned::new(NetworkAddress { address: net, dhcp, tftp, span: element.span }, address?.span))
}

/// Whether the network answers questions for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dns {
    Served,
    /// `<dns enable='no'>`: nobody serves a zone, so none has to fit.
    Off,
}

impl Dns {
    /// What a `<network>` says; a faulty word is reported elsewhere.
    pub(super) fn of(network: &Element<'_>) -> Self {
        let enable = network.child("dns").and_then(|dns| dns.attribute("enable"));
        if enable.is_some_and(|enable| enable.value == "no") { Self::Off } else { Self::Served }
    }
}

/// An IP version, as `family` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn of_word(word: &str) -> Self {
        if word == "ipv6" { Self::V6 } else { Self::V4 }
    }

    fn word(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// `@family`; absent and empty mean IPv4, `None` that it is faulty.
pub(super) fn read_family(visit: &mut Visit<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Family> {
    match visit.filled_attribute("family") {
        None => Some(Family::V4),
        Some(attribute) => read_keyword(attribute, &[("ipv4", Family::V4), ("ipv6", Family::V6)], diagnostics),
    }
}

/// A required address of the family that its element is of.
pub(super) fn read_own_address(
    visit: &mut Visit<'_>,
    name: &'static str,
    family: Option<Family>,
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Spanned<IpAddr>> {
    let attribute = require(visit.attribute(name), name, visit.element(), diagnostics)?;
    let address = read_ip(&attribute.value, attribute.value_span, quirks, diagnostics)?;
    let family = family?;
    if Family::of(address) == family {
        return Some(Spanned::new(address, attribute.value_span));
    }
    let message = format!("`{address}` is not an {} address", family.word());
    let fault =
        Diagnostic::error("address-family-mismatch", message, attribute.value_span, format!("expected an {} address", family.word()));
    diagnostics.push(match family {
        Family::V4 => fault.help("an IPv6 address needs `family='ipv6'`"),
        Family::V6 => fault.help("an IPv4 address needs `family='ipv4'`, or none"),
    });
    None
}

/// What `prefix` and `netmask` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mask {
    /// Neither, or a prefix of 0, which means unset.
    Unset,
    /// The number of leading ones.
    Ones(u8),
}

/// `@prefix` or `@netmask`; `None` when they are faulty or the address that they belong to is.
pub(super) fn read_mask(
    visit: &mut Visit<'_>,
    address: Option<&Spanned<IpAddr>>,
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Mask> {
    let (prefix, netmask) = (visit.attribute("prefix"), visit.filled_attribute("netmask"));
    let longest = if address?.value.is_ipv4() { 32 } else { 128 };
    let ones = match prefix {
        None => 0,
        Some(prefix) => u8::try_from(read_decimal(prefix, longest, diagnostics)?).ok()?,
    };
    let Some(netmask) = netmask else { return Some(if ones == 0 { Mask::Unset } else { Mask::Ones(ones) }) };
    if let (Some(prefix), true) = (prefix, ones > 0) {
        let message = "`prefix` and `netmask` exclude each other";
        let fault = Diagnostic::error("netmask-and-prefix", message, netmask.name_span, "expected only one of the two");
        diagnostics.push(fault.also(prefix.name_span, "the other one"));
        return None;
    }
    read_netmask(netmask, address?.value, quirks, diagnostics)
}

/// `@netmask`: IPv4, ones before zeros. libvirt finds holes only at start, but nothing on the host could mend them.
fn read_netmask(attribute: &Attribute<'_>, address: IpAddr, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) -> Option<Mask> {
    let span = attribute.value_span;
    if address.is_ipv6() {
        let fault = Diagnostic::error("netmask-with-ipv6", "an IPv6 address has no netmask", attribute.name_span, "expected `prefix`");
        diagnostics.push(fault);
        return None;
    }
    let IpAddr::V4(mask) = read_ip(&attribute.value, span, quirks, diagnostics)? else {
        let message = format!("`{}` is not the mask of an IPv4 address", attribute.value);
        diagnostics.push(Diagnostic::error("netmask-not-ipv4", message, span, "expected an IPv4 mask such as `255.255.255.0`"));
        return None;
    };
    let Some(ones) = prefix_of_ipv4_mask(mask) else {
        let message = format!("the netmask `{mask}` has holes");
        diagnostics.push(Diagnostic::error("netmask-not-contiguous", message, span, "expected ones, then zeros"));
        return None;
    };
    Some(Mask::Ones(ones))
}

/// The address with its prefix: as written, or as its class has it (networks.md 2.3).
fn derive_net(address: &Spanned<IpAddr>, mask: Mask, diagnostics: &mut Vec<Diagnostic>) -> Option<IpNet> {
    let ones = match (mask, address.value) {
        (Mask::Ones(ones), _) => ones,
        (Mask::Unset, IpAddr::V6(address)) if address.is_unspecified() => 0,
        (Mask::Unset, IpAddr::V6(_)) => 64,
        (Mask::Unset, IpAddr::V4(value)) => {
            let ones = natural_prefix(value);
            if ones.is_none() {
                let message = format!("`{value}` belongs to no class with a natural prefix");
                let fault = Diagnostic::error("no-natural-prefix", message, address.span, "expected `prefix` beside this address");
                diagnostics.push(fault.help("add `prefix='..'`"));
            }
            ones?
        }
    };
    IpNet::new(address.value, ones).ok()
}

/// The prefix of classes A to C; `None` for D and E.
fn natural_prefix(address: Ipv4Addr) -> Option<u8> {
    match address.octets()[0] {
        _ if address.is_unspecified() => Some(0),
        0..128 => Some(8),
        128..192 => Some(16),
        192..224 => Some(24),
        224.. => None,
    }
}

/// `tftp/@root`: an element without it serves nothing.
fn read_tftp(visit: &mut Visit<'_>, address: Option<&Spanned<IpAddr>>, diagnostics: &mut Vec<Diagnostic>) -> bool {
    let Some(element) = visit.child("tftp") else { return false };
    let mut tftp = Visit::new(element);
    let root = tftp.filled_attribute("root");
    tftp.finish(diagnostics);
    if address.is_some_and(|address| address.value.is_ipv6()) {
        let message = "TFTP is served on IPv4 addresses only";
        diagnostics.push(Diagnostic::error("tftp-on-ipv6", message, element.name_span, "expected it in an `<ip>` of family `ipv4`"));
    }
    root.is_some()
}

/// The reverse zone of a network ends at a byte (IPv4) or a hexadecimal digit (IPv6); dnsmasq refuses others.
fn judge_local_pointer(net: IpNet, attribute: Option<&Attribute<'_>>, diagnostics: &mut Vec<Diagnostic>) {
    let step = if net.addr().is_ipv4() { 8 } else { 4 };
    let Some(attribute) = attribute.filter(|_| !net.prefix_len().is_multiple_of(step)) else { return };
    let message = format!("no reverse zone fits the prefix {}", net.prefix_len());
    let expected = format!("expected a prefix that {step} divides");
    diagnostics.push(Diagnostic::error("local-ptr-prefix", message, attribute.value_span, expected));
}

/// The kernel takes an IPv4 address again only with another prefix, an IPv6 address never (6.18).
fn judge_repeat(known: &mut BTreeMap<IpNet, Span>, again: &Spanned<NetworkAddress>) -> Option<Diagnostic> {
    let address = again.value.address;
    let key = if address.addr().is_ipv4() { address } else { IpNet::from(address.addr()) };
    let Some(&first) = known.get(&key) else {
        known.insert(key, again.span);
        return None;
    };
    let message = format!("address `{}` is given twice", address.addr());
    let fault = Diagnostic::error("repeated-address", message, again.span, "expected another address");
    Some(fault.also(first, "the first time"))
}

/// DHCP is served on one address of each family at most.
fn judge_dhcp_places(elements: &[&Element<'_>], diagnostics: &mut Vec<Diagnostic>) {
    for family in [Family::V4, Family::V6] {
        let mut places = elements.iter().filter(|element| family_of(element) == family).filter_map(|element| dhcp_place(element));
        if let (Some(first), Some(second)) = (places.next(), places.next()) {
            let message = format!("DHCP on two {} addresses", family.word());
            let fault = Diagnostic::error("repeated-dhcp", message, second, "expected none on this address");
            diagnostics.push(fault.also(first, "the first one"));
        }
    }
}

/// The family as far as counting goes; a faulty word has been reported by [`read_family`].
fn family_of(element: &Element<'_>) -> Family {
    element.attribute("family").map_or(Family::V4, |family| Family::of_word(&family.value))
}

/// The `<dhcp>` of an address that really serves DHCP.
fn dhcp_place(element: &Element<'_>) -> Option<Span> {
    element.child("dhcp").filter(|dhcp| dhcp::serves(dhcp)).map(|dhcp| dhcp.name_span)
}
