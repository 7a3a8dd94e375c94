//! Guest interfaces to the model: `<interface>`, `<domain>`, `<domstatus>`, `<filterbinding>` and `<filterbindingstatus>`.
//!
//! Reference: nwfilter.md section 7; design section 3. Each interface of a domain stands for itself: a faulty one is broken,
//! its neighbours are read. Of a domain only its name, UUID and interfaces are looked at.

mod binding;

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::filter::{read_reference, read_uuid};
use super::report::Report;
use super::value::{is_short_enough, read_device, read_ip, read_mac, require};
use super::visit::Visit;
use super::xml::{Attribute, Element};
use super::{Broken, BrokenKind, Parsed};
use crate::addr::{DeviceName, Mac};
use crate::diagnostic::Diagnostic;
use crate::model::filter::Reference;
use crate::model::interface::{Document, Interface};
use crate::model::{Object, Quirks};
use crate::source::Spanned;

/// Reads every interface of a document: adds them to [`Parsed::interfaces`], or to [`Parsed::broken`] with what is wrong in
/// [`Parsed::diagnostics`].
pub(super) fn parse_interfaces(root: &Element<'_>, quirks: Quirks, parsed: &mut Parsed) {
    match root.name {
        "domain" => parse_domain(root, Document::Domain, quirks, parsed),
        "domstatus" => match inner(root, "domain", parsed) {
            Some(domain) => parse_domain(domain, Document::DomainStatus, quirks, parsed),
            None => recover_interfaces(root, parsed),
        },
        "filterbinding" => keep(root, quirks, parsed, |report| binding::read_binding(root, Document::Binding, report)),
        "filterbindingstatus" => match inner(root, "filterbinding", parsed) {
            Some(binding) => keep(binding, quirks, parsed, |report| binding::read_binding(binding, Document::BindingStatus, report)),
            None => recover_interfaces(root, parsed),
        },
        _ => keep(root, quirks, parsed, |report| Some(read_interface(root, Document::Interface, &Owner::default(), report))),
    }
}

/// Adds what a faulty document meant to define to [`Parsed::broken`].
pub(super) fn recover_interfaces(root: &Element<'_>, parsed: &mut Parsed) {
    let before = parsed.broken.len();
    match root.name {
        "domain" => parsed.broken.extend(domain_interfaces(root).map(broken)),
        "domstatus" => parsed.broken.extend(root.child("domain").into_iter().flat_map(domain_interfaces).map(broken)),
        "filterbindingstatus" => parsed.broken.extend(root.child("filterbinding").map(broken)),
        _ => parsed.broken.push(broken(root)),
    }
    if parsed.broken.len() == before {
        parsed.broken.push(Broken { what: BrokenKind::Unknown, span: root.span });
    }
}

/// What a document says about the guest that an interface belongs to.
#[derive(Debug, Clone, Default)]
struct Owner {
    name: Option<Arc<str>>,
    uuid: Option<Uuid>,
}

/// The document that a status document wraps.
fn inner<'a>(status: &'a Element<'a>, name: &str, parsed: &mut Parsed) -> Option<&'a Element<'a>> {
    let found = status.child(name);
    if found.is_none() {
        let message = format!("`<{}>` holds no `<{name}>`", status.name);
        parsed.diagnostics.push(Diagnostic::error("empty-status", message, status.name_span, format!("expected a `<{name}>` inside")));
    }
    found
}

/// Reads the interfaces of a domain, each on its own.
fn parse_domain(domain: &Element<'_>, document: Document, quirks: Quirks, parsed: &mut Parsed) {
    let mut report = Report::new(quirks, &mut parsed.diagnostics);
    let start = report.mark();
    let owner = Owner {
        name: domain.child("name").and_then(|name| name_in(name, &mut report)),
        uuid: domain.child("uuid").and_then(|uuid| read_uuid(uuid, &mut report)).map(|uuid| uuid.value),
    };
    if report.has_errors_since(start) {
        // Name and UUID pair a domain with its status document: without them nobody can say which of the two counts.
        recover_interfaces(domain, parsed);
        return;
    }
    for interface in domain_interfaces(domain) {
        keep(interface, quirks, parsed, |report| Some(read_interface(interface, document, &owner, report)));
    }
}

/// Every `<interface>` under `<devices>`.
fn domain_interfaces<'a>(domain: &'a Element<'a>) -> impl Iterator<Item = &'a Element<'a>> {
    domain.elements().filter(|element| element.name == "devices").flat_map(Element::elements).filter(|element| element.name == "interface")
}

/// Keeps what `read` makes of `element`: an interface when nothing is wrong with it, nor far too much with those before it.
fn keep(element: &Element<'_>, quirks: Quirks, parsed: &mut Parsed, read: impl FnOnce(&mut Report<'_>) -> Option<Interface>) {
    let mut report = Report::new(quirks, &mut parsed.diagnostics);
    let start = report.mark();
    let interface = if report.give_up_at(element.name_span) { None } else { read(&mut report) };
    match interface {
        Some(interface) if !report.has_errors_since(start) => parsed.interfaces.push(interface),
        _ => parsed.broken.push(broken(element)),
    }
}

/// A faulty `<interface>` or `<filterbinding>`, by its device if that much is readable.
fn broken(element: &Element<'_>) -> Broken {
    let name = match element.name {
        "filterbinding" => element.child("portdev").and_then(|port| port.attribute("name")),
        _ => element.child("target").and_then(|target| target.attribute("dev")),
    };
    let device = name.and_then(|name| DeviceName::new(&name.value));
    let what = device.map_or(BrokenKind::Unknown, |device| BrokenKind::Object(Object::Interface(device)));
    Broken { what, span: element.span }
}

/// Whether libvirt applies filters to interfaces of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filtering {
    Applied,
    Ignored,
}

/// Every type of interface that libvirt knows (nwfilter.md 7.1).
const TYPES: [(&str, Filtering); 16] = [
    ("bridge", Filtering::Applied),
    ("network", Filtering::Applied),
    ("ethernet", Filtering::Applied),
    ("user", Filtering::Ignored),
    ("direct", Filtering::Ignored),
    ("vhostuser", Filtering::Ignored),
    ("hostdev", Filtering::Ignored),
    ("vdpa", Filtering::Ignored),
    ("internal", Filtering::Ignored),
    ("client", Filtering::Ignored),
    ("server", Filtering::Ignored),
    ("mcast", Filtering::Ignored),
    ("udp", Filtering::Ignored),
    ("null", Filtering::Ignored),
    ("vds", Filtering::Ignored),
    ("dummy", Filtering::Ignored),
];

/// Children of `<interface>` that no rule depends on.
const UNRELATED: [&str; 25] = [
    "source",
    "actual",
    "acpi",
    "address",
    "alias",
    "backend",
    "backenddomain",
    "bandwidth",
    "boot",
    "coalesce",
    "downscript",
    "driver",
    "guest",
    "link",
    "model",
    "mtu",
    "port",
    "portForward",
    "rom",
    "route",
    "script",
    "teaming",
    "tune",
    "virtualport",
    "vlan",
];

/// Reads an `<interface>` of any of the documents.
fn read_interface(element: &Element<'_>, document: Document, owner: &Owner, report: &mut Report<'_>) -> Interface {
    let mut visit = Visit::new(element);
    visit.ignore(&["type", "managed", "trustGuestRxFilters"], &UNRELATED);
    let mac = visit.child("mac").and_then(|mac| read_unicast_mac(mac, report));
    let device = visit.child("target").and_then(|target| read_target(target, report));
    let reference = visit.child("filterref");
    let filter = reference.and_then(|reference| read_filter(element, reference, report));
    let mut addresses = Vec::new();
    for address in visit.children("ip") {
        if report.give_up_at(address.name_span) {
            break;
        }
        addresses.extend(read_address(address, report));
    }
    visit.finish(report.diagnostics());
    // Only a filter needs the address; a present but faulty `<mac>` has been told of already.
    if filter.is_some() && element.child("mac").is_none() {
        report.add(missing_mac(element));
    }
    Interface {
        document,
        owner: owner.name.clone(),
        owner_uuid: owner.uuid,
        device,
        mac,
        network: read_network(element, report),
        filter,
        addresses,
        span: element.span,
    }
}

/// Reads `<filterref>`; `None` where libvirt would not apply it.
fn read_filter(interface: &Element<'_>, reference: &Element<'_>, report: &mut Report<'_>) -> Option<Reference> {
    let filter = read_reference(reference, report);
    match filtering(interface, reference, report) {
        Filtering::Applied => filter,
        Filtering::Ignored => None,
    }
}

/// Tells by the interface's type, or by the one it really got, whether a filter is applied to it.
fn filtering(interface: &Element<'_>, reference: &Element<'_>, report: &mut Report<'_>) -> Filtering {
    let actual = interface.child("actual").and_then(|actual| actual.attribute("type"));
    let Some(kind) = actual.or_else(|| interface.attribute("type")) else {
        return untyped(interface, report);
    };
    let known = TYPES.iter().find(|(name, _)| *name == kind.value).map(|&(_, filtering)| filtering);
    match known {
        None => report.add(unknown_type(kind, report)),
        Some(Filtering::Applied) => {}
        Some(Filtering::Ignored) => {
            let message = format!("a filter has no effect on an interface of type `{}`", kind.value);
            report.add(
                Diagnostic::warning("filter-without-effect", message, reference.name_span, "libvirt ignores it, and so do we")
                    .also(kind.value_span, "this type has no tap device on a bridge"),
            );
        }
    }
    known.unwrap_or(Filtering::Applied)
}

/// An interface without a type has its filter: leaving it out would open the guest. libvirt takes the type for `user`.
fn untyped(interface: &Element<'_>, report: &mut Report<'_>) -> Filtering {
    let warn = |message| {
        Diagnostic::warning("untyped-interface", message, interface.name_span, "libvirt takes it for type `user`")
            .help("write `type='bridge'`, `type='network'` or `type='ethernet'`")
    };
    match report.quirks() {
        Quirks::Fixed => {
            report.add(warn("this interface has no type; its filter counts all the same"));
            Filtering::Applied
        }
        Quirks::Libvirt => {
            report.add(warn("this interface has no type, and so its filter has no effect"));
            Filtering::Ignored
        }
    }
}

/// A type that no libvirt has: whether a filter would apply cannot be told, so nothing is done.
fn unknown_type(kind: &Attribute<'_>, report: &Report<'_>) -> Diagnostic {
    let message = format!("unknown interface type `{}`", kind.value);
    let fault = Diagnostic::error("unknown-interface-type", message, kind.value_span, "expected `bridge`, `network` or `ethernet`");
    report.suggest(fault, &kind.value, TYPES.iter().map(|&(name, _)| name))
}

/// Reads `<target>`; an empty `dev` is none, and the interface is then found by its MAC.
fn read_target(target: &Element<'_>, report: &mut Report<'_>) -> Option<Spanned<DeviceName>> {
    let mut visit = Visit::new(target);
    visit.ignore(&["managed"], &[]);
    let device = visit.filled_attribute("dev").and_then(|device| read_device(device, report.diagnostics()));
    visit.finish(report.diagnostics());
    device
}

/// Reads `<mac>` of a guest's interface, where libvirt refuses group addresses; a binding may have one.
fn read_unicast_mac(element: &Element<'_>, report: &mut Report<'_>) -> Option<Spanned<Mac>> {
    let mac = read_mac_element(element, report)?;
    if mac.value.is_multicast() {
        let message = format!("`{}` is a group address", mac.value);
        report.add(
            Diagnostic::error("multicast-mac-address", message, mac.span, "expected the address of one interface")
                .help("the second digit of the first group must be even"),
        );
    }
    Some(mac)
}

/// Reads `<mac>`, group addresses included.
fn read_mac_element(element: &Element<'_>, report: &mut Report<'_>) -> Option<Spanned<Mac>> {
    let mut visit = Visit::new(element);
    visit.ignore(&["type", "check", "currentAddress"], &[]);
    let address = require(visit.attribute("address"), "address", element, report.diagnostics());
    visit.finish(report.diagnostics());
    read_mac(address?, report.diagnostics())
}

/// Rules that name `$MAC` cannot be made without it, and the interface cannot be found.
fn missing_mac(element: &Element<'_>) -> Diagnostic {
    let message = "an interface with a filter has no MAC address";
    Diagnostic::error("interface-without-mac", message, element.name_span, "expected a `<mac address='..'/>` inside")
        .help("write the guest's MAC address: libvirt makes one up, which nobody else can know")
}

/// `source/@network`; the other attributes of `<source>` are as many as there are types, and no rule depends on them.
fn read_network(interface: &Element<'_>, report: &mut Report<'_>) -> Option<Spanned<Arc<str>>> {
    let network = interface.child("source")?.attribute("network").filter(|network| !network.value.is_empty())?;
    is_short_enough(&network.value, network.value_span, report.diagnostics())
        .then(|| Spanned::new(network.value.as_ref().into(), network.value_span))
}

/// Reads `<ip>`; what the address is good for, the quirks decide later.
fn read_address(element: &Element<'_>, report: &mut Report<'_>) -> Option<Spanned<IpAddr>> {
    let mut visit = Visit::new(element);
    visit.ignore(&["prefix", "peer"], &[]);
    let text = require(visit.attribute("address"), "address", element, report.diagnostics());
    let family = visit.filled_attribute("family");
    visit.finish(report.diagnostics());
    let text = text?;
    let quirks = report.quirks();
    let address = read_ip(&text.value, text.value_span, quirks, report.diagnostics())?;
    let name = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    if let Some(family) = family.filter(|family| family.value != name) {
        let message = format!("`{}` is not an address of family `{}`", text.value, family.value);
        report.add(
            Diagnostic::error("address-of-other-family", message, text.value_span, format!("an {name} address"))
                .also(family.value_span, format!("expected `{name}` here, or the other kind of address there")),
        );
    }
    Some(Spanned::new(address, text.value_span))
}

/// The text of a `<name>`; `None` when it is empty or too long, which is reported.
fn name_in(element: &Element<'_>, report: &mut Report<'_>) -> Option<Arc<str>> {
    let name = element.text();
    let is_usable = !name.value.is_empty() && is_short_enough(&name.value, name.span, report.diagnostics());
    is_usable.then(|| name.value.as_ref().into())
}

#[cfg(test)]
mod tests;
