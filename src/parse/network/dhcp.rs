//! `<dhcp>`: whether addresses are handed out; everything else in it is checked and dropped, as no rule depends on it.
//!
//! Reference: networks.md 2.2 to 2.4.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address::Family;
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::parse::value::{read_decimal, read_ip, read_keyword, read_mac, require};
use crate::parse::visit::{Visit, give_up_at};
use crate::parse::xml::{Attribute, Element};
use crate::source::Spanned;

/// The shortest lease that dnsmasq gives.
const MIN_LEASE_SECONDS: u64 = 120;

/// Reads a `<dhcp>` under an address of `family` with the net `net`, either `None` where faulty; says whether DHCP is served.
pub(super) fn read_dhcp(
    element: &Element<'_>,
    family: Option<Family>,
    net: Option<IpNet>,
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) -> bool {
    let mut visit = Visit::new(element);
    visit.ignore(&[], &["bootp"]);
    for range in visit.children("range") {
        if give_up_at(range.name_span, diagnostics) {
            break;
        }
        read_range(range, net, quirks, diagnostics);
    }
    for host in visit.children("host") {
        if give_up_at(host.name_span, diagnostics) {
            break;
        }
        read_host(host, family, quirks, diagnostics);
    }
    visit.finish(diagnostics);
    if let Some(net) = net.filter(|net| serves(element) && net.addr().is_ipv6() && net.prefix_len() < 64) {
        let message = format!("DHCPv6 on a prefix of {}", net.prefix_len());
        diagnostics.push(Diagnostic::error("dhcpv6-short-prefix", message, element.name_span, "dnsmasq needs 64 or more"));
    }
    serves(element)
}

/// True with at least one `<range>` or `<host>`; an empty `<dhcp>` or one with only `<bootp>` does not count.
pub(super) fn serves(dhcp: &Element<'_>) -> bool {
    dhcp.elements().any(|child| matches!(child.name, "range" | "host"))
}

/// `<range>`: both bounds, in order, in the network (networks.md 2.4).
fn read_range(element: &Element<'_>, net: Option<IpNet>, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) {
    let mut visit = Visit::new(element);
    let start = read_bound(&mut visit, "start", quirks, diagnostics);
    let end = read_bound(&mut visit, "end", quirks, diagnostics);
    read_lease(&mut visit, diagnostics);
    visit.finish(diagnostics);
    if let (Some(start), Some(end), Some(net)) = (start, end, net) {
        diagnostics.extend(judge_range(&start, &end, net));
    }
}

/// One bound of a range; its family is judged with the network that it must lie in.
fn read_bound(visit: &mut Visit<'_>, name: &'static str, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<IpAddr>> {
    let attribute = require(visit.attribute(name), name, visit.element(), diagnostics)?;
    let address = read_ip(&attribute.value, attribute.value_span, quirks, diagnostics)?;
    Some(Spanned::new(address, attribute.value_span))
}

/// The first thing that is wrong with a range.
fn judge_range(start: &Spanned<IpAddr>, end: &Spanned<IpAddr>, net: IpNet) -> Option<Diagnostic> {
    if let Some(outside) = [start, end].into_iter().find(|bound| !net.contains(&bound.value)) {
        let message = format!("`{}` lies outside the network", outside.value);
        return Some(Diagnostic::error("dhcp-range-outside", message, outside.span, format!("expected an address in `{}`", net.trunc())));
    }
    if start.value > end.value {
        let message = format!("the range `{}` to `{}` is reversed", start.value, end.value);
        let fault = Diagnostic::error("dhcp-range-reversed", message, end.span, "expected an address not below the start");
        return Some(fault.also(start.span, "the start"));
    }
    if net.addr().is_ipv4() && start.value == net.network() {
        let message = format!("the range starts with the network address `{}`", start.value);
        return Some(Diagnostic::error("dhcp-range-network-address", message, start.span, "expected a higher address"));
    }
    if net.addr().is_ipv4() && end.value == net.broadcast() {
        let message = format!("the range ends with the broadcast address `{}`", end.value);
        return Some(Diagnostic::error("dhcp-range-broadcast-address", message, end.span, "expected a lower address"));
    }
    if high_bits(start.value) != high_bits(end.value) {
        let message = format!("the range `{}` to `{}` is too large", start.value, end.value);
        let fault = Diagnostic::error("dhcp-range-too-large", message, end.span, "only the last 16 bits may differ from the start");
        return Some(fault.also(start.span, "the start"));
    }
    None
}

/// All bits but the last 16.
fn high_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits() >> 16),
        IpAddr::V6(address) => address.to_bits() >> 16,
    }
}

/// `<host>`: a reservation, or a name, told by different marks in DHCPv4 and DHCPv6.
fn read_host(element: &Element<'_>, family: Option<Family>, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) {
    let mut visit = Visit::new(element);
    let (mac, name, id) = (visit.attribute("mac"), visit.attribute("name"), visit.attribute("id"));
    if let Some(name) = name.filter(|name| !name.value.starts_with(|c: char| c.is_ascii_alphanumeric())) {
        let message = format!("`{}` cannot be a host's name", name.value);
        diagnostics.push(Diagnostic::error("dhcp-host-name", message, name.value_span, "expected a letter or digit first"));
    }
    match family {
        Some(Family::V4) => judge_host4(element, mac, name, diagnostics),
        Some(Family::V6) => judge_host6(element, mac, name, id, diagnostics),
        None => {}
    }
    if let Some(ip) = require(visit.attribute("ip"), "ip", element, diagnostics) {
        // Outside the network is fine: dnsmasq serves other networks through relays.
        read_ip(&ip.value, ip.value_span, quirks, diagnostics);
    }
    read_lease(&mut visit, diagnostics);
    visit.finish(diagnostics);
}

/// DHCPv4 tells hosts by their Ethernet address or name.
fn judge_host4(element: &Element<'_>, mac: Option<&Attribute<'_>>, name: Option<&Attribute<'_>>, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(mac) = mac {
        read_unicast_mac(mac, diagnostics);
    }
    if mac.is_none() && name.is_none() {
        let message = "nothing says which host this is";
        diagnostics.push(Diagnostic::error("dhcp-host-unidentified", message, element.name_span, "expected `mac` or `name`"));
    }
}

/// DHCPv6 tells hosts by their DUID or name; libvirt refuses an Ethernet address instead of ignoring it.
fn judge_host6(
    element: &Element<'_>,
    mac: Option<&Attribute<'_>>,
    name: Option<&Attribute<'_>>,
    id: Option<&Attribute<'_>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if let Some(mac) = mac {
        let message = "a DHCPv6 host has no Ethernet address";
        let fault = Diagnostic::error("dhcp-host-mac-on-ipv6", message, mac.name_span, "expected `id` or `name`");
        diagnostics.push(fault.help("DHCPv6 tells hosts by their DUID: write it in `id`"));
    }
    if let Some(id) = id.filter(|id| !id.value.chars().all(|c| c.is_ascii_hexdigit() || c == ':')) {
        let message = format!("`{}` is not a DUID", id.value);
        diagnostics.push(Diagnostic::error("dhcp-host-id", message, id.value_span, "expected hexadecimal digits and colons"));
    }
    if id.is_none() && name.is_none() {
        let message = "nothing says which host this is";
        diagnostics.push(Diagnostic::error("dhcp-host-unidentified", message, element.name_span, "expected `id` or `name`"));
    }
}

/// An Ethernet address of one device, not of a group.
pub(super) fn read_unicast_mac(attribute: &Attribute<'_>, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(mac) = read_mac(attribute, diagnostics).filter(|mac| mac.value.is_multicast()) {
        let message = format!("`{}` is a group address", mac.value);
        let fault = Diagnostic::error("multicast-mac-address", message, mac.span, "expected the address of one device");
        diagnostics.push(fault.help("the second digit of such an address is even"));
    }
}

/// `<lease expiry='..' unit='..'/>`; 0 is for ever.
fn read_lease(visit: &mut Visit<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(element) = visit.child("lease") else { return };
    let mut lease = Visit::new(element);
    let expiry = lease.attribute("expiry");
    let unit = match lease.attribute("unit") {
        None => Some(60),
        Some(unit) => read_keyword(unit, &[("seconds", 1), ("minutes", 60), ("hours", 3600)], diagnostics),
    };
    lease.finish(diagnostics);
    let Some(expiry) = expiry else { return };
    let (Some(number), Some(unit)) = (read_decimal(expiry, u64::from(u32::MAX), diagnostics), unit) else { return };
    let seconds = number * unit;
    if seconds != 0 && seconds < MIN_LEASE_SECONDS {
        let message = format!("a lease of {seconds} seconds is too short");
        let fault = Diagnostic::error("dhcp-lease-too-short", message, expiry.value_span, "expected two minutes or more");
        diagnostics.push(fault.help("0 is for ever"));
    }
}
