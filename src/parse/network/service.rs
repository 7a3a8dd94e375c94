//! The parts of a network that decide no rule: bridge settings, DNS, static routes, port groups.
//!
//! They are checked as libvirt checks them, so that a network which libvirt would refuse is not half accepted here, and
//! then dropped. Reference: networks.md 2.2 and 2.4.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::address::{Mask, read_family, read_mask, read_own_address};
use super::dhcp::read_unicast_mac;
use super::{Mode, read_flag};
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::network::NetworkAddress;
use crate::parse::value::{parse_decimal, read_decimal, read_keyword, require};
use crate::parse::visit::{Visit, give_up_at};
use crate::parse::xml::{Attribute, Element};
use crate::source::Spanned;

/// What the kernel takes as the size of an Ethernet bridge's frames, in bytes.
const MTU: std::ops::RangeInclusive<u64> = 68..=65535;

/// Reads every child of `<network>` that no rule depends on; `addresses` are `None` when one of them is faulty, and then
/// nothing is compared with them.
pub(super) fn read_services(
    visit: &mut Visit<'_>,
    mode: Option<Mode>,
    addresses: Option<&[NetworkAddress]>,
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) {
    read_bridge_mac(visit, mode, diagnostics);
    read_mtu(visit, mode, diagnostics);
    read_domain(visit, mode, diagnostics);
    read_dns(visit, mode, diagnostics);
    let subnets = addresses.map(|addresses| addresses.iter().map(|address| address.address.trunc()).collect());
    for route in visit.children("route") {
        if give_up_at(route.name_span, diagnostics) {
            break;
        }
        read_route(route, subnets.as_ref(), quirks, diagnostics);
    }
    read_port_groups(visit, diagnostics);
    judge_vlan(visit.children("vlan").next(), mode, quirks, diagnostics);
}

/// What `<bridge>` says beside its name.
pub(super) fn read_bridge_settings(bridge: &mut Visit<'_>, mode: Option<Mode>, diagnostics: &mut Vec<Diagnostic>) {
    let (stp, delay, zone) = (bridge.attribute("stp"), bridge.attribute("delay"), bridge.attribute("zone"));
    if let Some(delay) = delay {
        read_decimal(delay, u64::MAX, diagnostics);
    }
    if let Some(manager) = bridge.filled_attribute("macTableManager") {
        read_keyword(manager, &[("kernel", ()), ("libvirt", ())], diagnostics);
    }
    let Some(mode) = with_shared_bridge(mode) else { return };
    let name = bridge.filled_attribute("name").filter(|_| mode != Mode::Bridge);
    for attribute in [name, stp, delay, zone].into_iter().flatten() {
        let message = format!("bridge attribute `{}` in mode `{}`", attribute.name, mode.word());
        let expected = "the bridge of this mode is not the network's own";
        diagnostics.push(Diagnostic::error("bridge-attribute-in-mode", message, attribute.name_span, expected));
    }
}

/// The mode, if its bridge is somebody else's.
fn with_shared_bridge(mode: Option<Mode>) -> Option<Mode> {
    mode.filter(|mode| !mode.has_own_bridge())
}

/// An element that only networks with a bridge of their own have.
pub(super) fn not_in_mode(element: &Element<'_>, mode: Mode) -> Diagnostic {
    let message = format!("`<{}>` in mode `{}`", element.name, mode.word());
    let expected = "the bridge of this mode is not the network's own";
    Diagnostic::error("element-in-mode", message, element.name_span, expected)
        .help("remove it, or use mode `nat`, `route` or `open`, or no `<forward>`")
}

/// `<mac>`: the bridge's own address; without one, or with an empty one, libvirt draws it.
fn read_bridge_mac(visit: &mut Visit<'_>, mode: Option<Mode>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(element) = visit.child("mac") else { return };
    let mut mac = Visit::new(element);
    if let Some(address) = mac.filled_attribute("address") {
        read_unicast_mac(address, diagnostics);
    }
    mac.finish(diagnostics);
    if let Some(mode) = with_shared_bridge(mode) {
        diagnostics.push(not_in_mode(element, mode));
    }
}

/// `<mtu size>`: libvirt takes any number and fails at start; the range is the kernel's, the same on every host.
fn read_mtu(visit: &mut Visit<'_>, mode: Option<Mode>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(element) = visit.child("mtu") else { return };
    let mut mtu = Visit::new(element);
    if let Some(size) = mtu.attribute("size")
        && parse_decimal(&size.value).is_none_or(|number| number != 0 && !MTU.contains(&number))
    {
        let message = format!("`{}` is not an MTU of a bridge", size.value);
        let expected = format!("expected a number from {} to {}, or 0 for unset", MTU.start(), MTU.end());
        diagnostics.push(Diagnostic::error("invalid-mtu", message, size.value_span, expected));
    }
    mtu.finish(diagnostics);
    if let Some(mode) = with_shared_bridge(mode) {
        diagnostics.push(not_in_mode(element, mode));
    }
}

/// `<domain>`: dnsmasq's local domain.
fn read_domain(visit: &mut Visit<'_>, mode: Option<Mode>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(element) = visit.child("domain") else { return };
    let mut domain = Visit::new(element);
    domain.ignore(&["name"], &[]);
    read_flag(domain.attribute("localOnly"), diagnostics);
    read_flag(domain.attribute("register"), diagnostics);
    domain.finish(diagnostics);
    if let Some(mode) = with_shared_bridge(mode) {
        diagnostics.push(not_in_mode(element, mode));
    }
}

/// `<dns>`: ports 53 are opened whatever it says (networks.md 2.2), so only contradictions count here.
fn read_dns(visit: &mut Visit<'_>, mode: Option<Mode>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(element) = visit.child("dns") else { return };
    let mut dns = Visit::new(element);
    let enable = dns.attribute("enable");
    let disabled = enable.and_then(|enable| read_keyword(enable, &super::YES_NO, diagnostics)) == Some(false);
    read_flag(dns.attribute("forwardPlainNames"), diagnostics);
    for forwarder in dns.children("forwarder") {
        if give_up_at(forwarder.name_span, diagnostics) {
            break;
        }
        read_forwarder(forwarder, diagnostics);
    }
    let entry = dns.children_among(&["forwarder", "host", "srv", "txt"]).next();
    let record = dns.children_among(&["host", "srv", "txt"]).next();
    dns.finish(diagnostics);
    if let (Some(enable), Some(entry), true) = (enable, entry, disabled) {
        let message = format!("`<{}>` though DNS is off", entry.name);
        let fault = Diagnostic::error("dns-disabled-with-entries", message, entry.name_span, "expected no entries");
        diagnostics.push(fault.also(enable.value_span, "DNS is off"));
    }
    if let (Some(record), Some(mode)) = (record, with_shared_bridge(mode)) {
        diagnostics.push(not_in_mode(record, mode));
    }
}

/// `<forwarder>`: at least where to, or for which domain.
fn read_forwarder(element: &Element<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut visit = Visit::new(element);
    visit.ignore(&["port"], &[]);
    let (address, domain) = (visit.attribute("addr"), visit.attribute("domain"));
    if address.is_none() && domain.is_none() {
        let message = "a forwarder to nowhere";
        diagnostics.push(Diagnostic::error("dns-forwarder-empty", message, element.name_span, "expected `addr` or `domain`"));
    }
    visit.finish(diagnostics);
}

/// `<route>`: a kernel route through a guest. No rule follows from it, but libvirt refuses the whole network for a faulty one.
fn read_route(element: &Element<'_>, subnets: Option<&BTreeSet<IpNet>>, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) {
    let mut visit = Visit::new(element);
    let family = read_family(&mut visit, diagnostics);
    let target = read_own_address(&mut visit, "address", family, quirks, diagnostics);
    let mask = read_mask(&mut visit, target.as_ref(), quirks, diagnostics);
    let gateway = read_own_address(&mut visit, "gateway", family, quirks, diagnostics);
    if let Some(metric) = visit.attribute("metric") {
        judge_metric(metric, diagnostics);
    }
    visit.finish(diagnostics);
    if let (Some(target), Some(mask)) = (target, mask) {
        judge_route_target(&target, mask, diagnostics);
    }
    if let (Some(gateway), Some(subnets)) = (gateway, subnets) {
        judge_gateway(&gateway, subnets, diagnostics);
    }
}

/// `@metric`: the kernel takes 0 for unset, so libvirt refuses it.
fn judge_metric(metric: &Attribute<'_>, diagnostics: &mut Vec<Diagnostic>) {
    if read_decimal(metric, u64::from(u32::MAX), diagnostics) == Some(0) {
        let message = "a route's metric cannot be 0";
        diagnostics.push(Diagnostic::error("route-metric-zero", message, metric.value_span, "expected a number from 1"));
    }
}

/// A route's target has no natural prefix: without one its mask has no ones.
fn judge_route_target(target: &Spanned<IpAddr>, mask: Mask, diagnostics: &mut Vec<Diagnostic>) {
    let ones = if let Mask::Ones(ones) = mask { ones } else { 0 };
    let Ok(net) = IpNet::new(target.value, ones) else { return };
    if net.network() != target.value {
        let message = format!("`{}/{ones}` is not the address of a network", target.value);
        let expected = format!("expected `{}` for this prefix", net.network());
        let fault = Diagnostic::error("route-not-a-network", message, target.span, expected);
        diagnostics.push(if ones == 0 { fault.help("add the `prefix` of the network") } else { fault });
    }
}

/// The kernel takes only gateways that are on a link.
fn judge_gateway(gateway: &Spanned<IpAddr>, subnets: &BTreeSet<IpNet>, diagnostics: &mut Vec<Diagnostic>) {
    // Asking for each prefix keeps a file with very many routes and addresses cheap.
    let own = IpNet::from(gateway.value);
    let on_link = (0..=own.max_prefix_len()).any(|ones| IpNet::new(gateway.value, ones).is_ok_and(|net| subnets.contains(&net.trunc())));
    if !on_link {
        let message = format!("gateway `{}` is on no subnet of this network", gateway.value);
        diagnostics.push(Diagnostic::error("route-gateway-unreachable", message, gateway.span, "expected an address in one of its `<ip>`"));
    }
}

/// `<portgroup>`: defaults of guest interfaces, chosen by name.
fn read_port_groups(visit: &mut Visit<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut named: Vec<&Attribute<'_>> = Vec::new();
    let mut defaults: Vec<&Attribute<'_>> = Vec::new();
    for element in visit.children("portgroup") {
        if give_up_at(element.name_span, diagnostics) {
            break;
        }
        let mut group = Visit::new(element);
        group.ignore(&[], &["bandwidth", "vlan", "virtualport", "port"]);
        named.extend(require(group.attribute("name"), "name", element, diagnostics));
        // Any other word is no, as libvirt has it.
        defaults.extend(group.attribute("default").filter(|default| default.value == "yes"));
        read_flag(group.attribute("trustGuestRxFilters"), diagnostics);
        group.finish(diagnostics);
    }
    let mut known = BTreeMap::new();
    for name in named {
        if give_up_at(name.name_span, diagnostics) {
            break;
        }
        if let Some(first) = known.get(&name.value) {
            let message = format!("port group `{}` is defined twice", name.value);
            let fault = Diagnostic::error("repeated-port-group", message, name.value_span, "expected another name");
            diagnostics.push(fault.also(*first, "the first one"));
        } else {
            known.insert(&name.value, name.value_span);
        }
    }
    if let [first, second, ..] = defaults[..] {
        let message = "two port groups are the default";
        let fault = Diagnostic::error("second-default-port-group", message, second.name_span, "expected only one");
        diagnostics.push(fault.also(first.name_span, "the first one"));
    }
}

/// Bridges that libvirt makes know VLANs since 11.0.
fn judge_vlan(vlan: Option<&Element<'_>>, mode: Option<Mode>, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) {
    let Some(vlan) = vlan.filter(|_| mode.is_some_and(Mode::has_own_bridge)) else { return };
    let message = "`<vlan>` on a network with a bridge of its own";
    let label = "libvirt before 11.0 refuses it";
    diagnostics.push(match quirks {
        Quirks::Fixed => Diagnostic::warning("vlan-on-own-bridge", message, vlan.name_span, label),
        Quirks::Libvirt => Diagnostic::error("vlan-on-own-bridge", message, vlan.name_span, label),
    });
}
