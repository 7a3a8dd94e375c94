//! `<forward>`: how a network reaches the world, through which device, and how addresses are translated.
//!
//! Reference: networks.md section 1, and 2.2 to 2.4.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::read_flag;
use crate::addr::{DeviceName, PortRange};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::Quirks;
use crate::model::network::{Forward, Nat, NetworkAddress};
use crate::parse::value::{read_decimal, read_device, read_ip, read_keyword, require};
use crate::parse::visit::{Visit, give_up_at};
use crate::parse::xml::Element;
use crate::source::Spanned;

/// `forward/@mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// No `<forward>`, or the word `none`.
    Isolated,
    Nat,
    Route,
    Open,
    Bridge,
    Private,
    Vepa,
    Passthrough,
    Hostdev,
}

const MODES: [(&str, Mode); 9] = [
    ("nat", Mode::Nat),
    ("route", Mode::Route),
    ("open", Mode::Open),
    ("bridge", Mode::Bridge),
    ("private", Mode::Private),
    ("vepa", Mode::Vepa),
    ("passthrough", Mode::Passthrough),
    ("hostdev", Mode::Hostdev),
    ("none", Mode::Isolated),
];

impl Mode {
    /// False for modes that plug guests into something that is not the network's own.
    pub(super) fn has_own_bridge(self) -> bool {
        matches!(self, Self::Isolated | Self::Nat | Self::Route | Self::Open)
    }

    /// The mode as the XML spells it.
    pub(super) fn word(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("none", |&(word, _)| word)
    }
}

/// Reads `<forward>` of a network with these addresses; `None` when the mode itself is faulty.
pub(super) fn read_forward(
    element: Option<&Element<'_>>,
    addresses: &[NetworkAddress],
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Mode, Forward)> {
    let Some(element) = element else { return Some((Mode::Isolated, Forward::Isolated)) };
    let mut visit = Visit::new(element);
    let mode = read_mode(&mut visit, diagnostics);
    visit.ignore(&["managed"], &[]);
    read_driver(&mut visit, diagnostics);
    let device = read_device_list(&mut visit, mode, diagnostics);
    let nat = read_nat_element(&mut visit, mode, addresses, quirks, diagnostics);
    visit.finish(diagnostics);
    let mode = mode?;
    let forward = match mode {
        Mode::Isolated => Forward::Isolated,
        Mode::Nat => {
            let (span, nat) = (nat.as_ref().map_or(element.span, |nat| nat.span), nat.map(|nat| nat.value).unwrap_or_default());
            Forward::Nat(Nat { device, ipv6: nat.ipv6, addresses: nat.addresses, ports: nat.ports.unwrap_or(Nat::DEFAULT_PORTS), span })
        }
        Mode::Route => Forward::Route { device, span: element.span },
        Mode::Open => Forward::Open { span: element.span },
        Mode::Bridge | Mode::Private | Mode::Vepa | Mode::Passthrough | Mode::Hostdev => Forward::External,
    };
    Some((mode, forward))
}

/// `@mode`: absent and empty mean `nat`; `None` that it is faulty.
fn read_mode(visit: &mut Visit<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Mode> {
    match visit.filled_attribute("mode") {
        None => Some(Mode::Nat),
        Some(attribute) => read_keyword(attribute, &MODES, diagnostics),
    }
}

/// `<driver name>`: libvirt refuses an unknown word in every mode, though only `hostdev` uses it.
fn read_driver(visit: &mut Visit<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(element) = visit.child("driver") else { return };
    let mut driver = Visit::new(element);
    driver.ignore(&["model"], &[]);
    if let Some(name) = driver.filled_attribute("name") {
        read_keyword(name, &[("kvm", ()), ("vfio", ())], diagnostics);
    }
    driver.finish(diagnostics);
}

/// DEV of networks.md 2.3, from `forward/@dev` and the `<interface>`, `<pf>` and `<address>` children.
fn read_device_list(visit: &mut Visit<'_>, mode: Option<Mode>, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<DeviceName>> {
    let own = visit.filled_attribute("dev").and_then(|dev| read_device(dev, diagnostics));
    let mut listed = Vec::new();
    for element in visit.children("interface") {
        if give_up_at(element.name_span, diagnostics) {
            break;
        }
        listed.extend(read_interface(element, diagnostics));
    }
    judge_repeats(&listed, diagnostics);
    judge_others(visit, own.as_ref(), mode, diagnostics);
    if let (Some(own), Some(first)) = (&own, listed.first())
        && own.value != first.value
    {
        let message = format!("`dev` is `{}` but the first `<interface>` is `{}`", own.value, first.value);
        let fault = Diagnostic::error("forward-device-mismatch", message, own.span, format!("expected `{}`", first.value));
        diagnostics.push(fault.also(first.span, "the first interface"));
    }
    judge_number_of_devices(own.as_ref(), &listed, mode, diagnostics);
    own.or_else(|| listed.into_iter().next())
}

/// One `<interface>`; an empty `dev` is no device, a missing one a fault.
fn read_interface(element: &Element<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<DeviceName>> {
    let mut visit = Visit::new(element);
    visit.ignore(&["connections"], &[]);
    let dev = visit.attribute("dev");
    visit.finish(diagnostics);
    let dev = require(dev, "dev", element, diagnostics)?;
    if dev.value.is_empty() { None } else { read_device(dev, diagnostics) }
}

/// A device may be listed once; a pool that repeats one would hand it out twice.
fn judge_repeats(listed: &[Spanned<DeviceName>], diagnostics: &mut Vec<Diagnostic>) {
    let mut known = BTreeMap::new();
    for device in listed {
        if give_up_at(device.span, diagnostics) {
            break;
        }
        if let Some(first) = known.get(&device.value) {
            let message = format!("device `{}` is listed twice", device.value);
            let fault = Diagnostic::error("repeated-forward-device", message, device.span, "expected another device");
            diagnostics.push(fault.also(*first, "the first time"));
        } else {
            known.insert(&device.value, device.span);
        }
    }
}

/// Rules of `nat` and `route` name one device or none; `open` has no rules that could name one.
fn judge_number_of_devices(
    own: Option<&Spanned<DeviceName>>,
    listed: &[Spanned<DeviceName>],
    mode: Option<Mode>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    match (mode, own.or(listed.first()), listed.get(1)) {
        (Some(mode @ (Mode::Nat | Mode::Route)), _, Some(second)) => {
            let message = format!("mode `{}` knows only one forward device", mode.word());
            let fault = Diagnostic::error("too-many-forward-devices", message, second.span, "a second device");
            diagnostics.push(fault.help("without a device every way out is allowed"));
        }
        (Some(Mode::Open), Some(device), _) => {
            let message = "mode `open` knows no forward device";
            diagnostics.push(Diagnostic::error("forward-device-in-open-mode", message, device.span, "expected no device"));
        }
        _ => {}
    }
}

/// `<pf>` and PCI `<address>`, which stand for devices of `hostdev` pools.
fn judge_others(visit: &mut Visit<'_>, own: Option<&Spanned<DeviceName>>, mode: Option<Mode>, diagnostics: &mut Vec<Diagnostic>) {
    let function = only_child(visit, "pf", diagnostics);
    if let Some(element) = function {
        let mut pf = Visit::new(element);
        let dev = pf.filled_attribute("dev");
        if let Some(dev) = require(dev, "dev", element, diagnostics) {
            read_device(dev, diagnostics);
        }
        pf.finish(diagnostics);
    }
    let address = visit.children("address").next();
    if let (Some(own), Some(other)) = (own, function.or(address)) {
        let message = format!("`dev` and `<{}>` exclude each other", other.name);
        let fault = Diagnostic::error("forward-device-with-pool", message, own.span, "expected only one of the two");
        diagnostics.push(fault.also(other.name_span, "the other one"));
    }
    if let (Some(address), Some(mode)) = (address, mode.filter(|mode| *mode != Mode::Hostdev)) {
        let message = format!("PCI addresses mean nothing in mode `{}`", mode.word());
        diagnostics.push(Diagnostic::error("pci-address-outside-hostdev", message, address.name_span, "only mode `hostdev` has them"));
    }
}

/// The child of a name that libvirt refuses to see twice.
fn only_child<'a>(visit: &mut Visit<'a>, name: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<&'a Element<'a>> {
    let mut children = visit.children(name);
    let first = children.next()?;
    if let Some(second) = children.next() {
        let message = format!("a second `<{name}>` in `<{}>`", visit.element().name);
        let fault = Diagnostic::error("duplicate-element", message, second.name_span, "expected only one");
        diagnostics.push(fault.also(first.name_span, "the first one"));
    }
    Some(first)
}

/// What `<nat>` says.
#[derive(Default)]
struct Translation {
    ipv6: bool,
    addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    ports: Option<PortRange>,
}

/// `<nat>`, at its own place; libvirt refuses it in other modes instead of ignoring it.
fn read_nat_element(
    visit: &mut Visit<'_>,
    mode: Option<Mode>,
    own: &[NetworkAddress],
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Spanned<Translation>> {
    let element = only_child(visit, "nat", diagnostics)?;
    if let Some(mode) = mode.filter(|mode| *mode != Mode::Nat) {
        let message = format!("`<nat>` in mode `{}`", mode.word());
        diagnostics.push(Diagnostic::error("nat-outside-nat-mode", message, element.name_span, "only mode `nat` has it"));
    }
    let mut nat = Visit::new(element);
    let ipv6 = read_flag(nat.attribute("ipv6"), diagnostics);
    let addresses = only_child(&mut nat, "address", diagnostics).and_then(|element| read_nat_addresses(element, quirks, diagnostics));
    let translated = own.iter().any(|own| ipv6 || matches!(own.address, IpNet::V4(_)));
    // libvirt starts a network whose range of ports no rule uses, whatever the range is.
    let one_port = if translated || quirks == Quirks::Fixed { Severity::Error } else { Severity::Warning };
    let ports = only_child(&mut nat, "port", diagnostics).and_then(|element| read_nat_ports(element, one_port, diagnostics));
    nat.finish(diagnostics);
    Some(Spanned::new(Translation { ipv6, addresses, ports }, element.span))
}

/// `nat/address`: A1-A2 of networks.md. libvirt bounds the range to the last 16 bits.
fn read_nat_addresses(element: &Element<'_>, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let mut visit = Visit::new(element);
    let start = read_nat_address(&mut visit, "start", quirks, diagnostics);
    let end = read_nat_address(&mut visit, "end", quirks, diagnostics);
    visit.finish(diagnostics);
    let (start, end) = (start?, end?);
    if start.value > end.value {
        let message = format!("the range `{}` to `{}` is reversed", start.value, end.value);
        let fault = Diagnostic::error("nat-address-reversed", message, end.span, "expected an address not below the start");
        diagnostics.push(fault.also(start.span, "the start"));
        return None;
    }
    if start.value.octets()[..2] != end.value.octets()[..2] {
        let message = format!("the range `{}` to `{}` is too large", start.value, end.value);
        let fault = Diagnostic::error("nat-address-too-many", message, end.span, "expected the same first two numbers as in the start");
        diagnostics.push(fault.also(start.span, "the start"));
        return None;
    }
    Some((start.value, end.value))
}

/// One bound of the range. SNAT rules are made for IPv4 only.
fn read_nat_address(
    visit: &mut Visit<'_>,
    name: &'static str,
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Spanned<Ipv4Addr>> {
    let attribute = require(visit.attribute(name), name, visit.element(), diagnostics)?;
    match read_ip(&attribute.value, attribute.value_span, quirks, diagnostics)? {
        IpAddr::V4(address) => Some(Spanned::new(address, attribute.value_span)),
        IpAddr::V6(address) => {
            let message = format!("`{address}` cannot be a NAT address");
            let fault = Diagnostic::error("nat-address-not-ipv4", message, attribute.value_span, "expected an IPv4 address");
            diagnostics.push(fault.help("IPv6 is masqueraded with `<nat ipv6='yes'>`, without addresses"));
            None
        }
    }
}

/// `nat/port`: `None` when it is 0 to 0, which means the default. `one_port` is what to make of a range of one port, which libvirt's rules cannot have.
fn read_nat_ports(element: &Element<'_>, one_port: Severity, diagnostics: &mut Vec<Diagnostic>) -> Option<PortRange> {
    let mut visit = Visit::new(element);
    let start = read_port(&mut visit, "start", diagnostics);
    let end = read_port(&mut visit, "end", diagnostics);
    visit.finish(diagnostics);
    let (start, end) = (start?, end?);
    match (start.value, end.value) {
        (0, 0) => None,
        (first, last) if first < last => Some(PortRange { first, last }),
        (first, last) if first > last => {
            let message = format!("the range `{first}` to `{last}` is reversed");
            let fault = Diagnostic::error("nat-port-reversed", message, end.span, "expected a port above the start");
            diagnostics.push(fault.also(start.span, "the start"));
            None
        }
        (port, _) => {
            let message = format!("the range has the one port `{port}`");
            let fault = Diagnostic::error("nat-port-single", message, end.span, "expected a port above the start");
            let help = match one_port {
                Severity::Error => "libvirt defines such a network but cannot start it",
                _ => "no rule uses it: nothing of this network is translated",
            };
            diagnostics.push(Diagnostic { severity: one_port, ..fault.also(start.span, "the start").help(help) });
            None
        }
    }
}

/// One bound of `nat/port`, 0 to 65535.
fn read_port(visit: &mut Visit<'_>, name: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<u16>> {
    let attribute = require(visit.attribute(name), name, visit.element(), diagnostics)?;
    let port = read_decimal(attribute, u64::from(u16::MAX), diagnostics)?;
    Some(Spanned::new(u16::try_from(port).ok()?, attribute.value_span))
}
