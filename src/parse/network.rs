//! `<network>` and `<networkstatus>` documents to the model.
//!
//! Takes a well-formed tree and refuses what libvirt refuses at definition, and at start where the file alone decides
//! (networks.md 2.4). Parts that no rule depends on are checked and dropped. Other files are not looked at.

mod address;
mod dhcp;
mod forward;
mod service;

use super::value::{MAX_NAME, YES_NO, is_short_enough, parse_uuid, read_device, read_keyword};
use super::visit::Visit;
use super::xml::{Attribute, Element};
use super::{Broken, BrokenKind, Parsed};
use crate::addr::DeviceName;
use crate::diagnostic::Diagnostic;
use crate::model::network::{Document, Network};
use crate::model::{Object, Quirks};
use crate::source::Spanned;
use forward::Mode;
use uuid::Uuid;

/// Reads a network: adds it to [`Parsed::networks`], or to [`Parsed::broken`] with what is wrong in [`Parsed::diagnostics`].
pub(super) fn parse_network(root: &Element<'_>, quirks: Quirks, parsed: &mut Parsed) {
    let already = parsed.diagnostics.len();
    let network = match document_of(root) {
        Document::Definition => read_network(root, Document::Definition, quirks, &mut parsed.diagnostics),
        Document::Status => read_status(root, quirks, &mut parsed.diagnostics),
    };
    let faulty = parsed.diagnostics[already..].iter().any(Diagnostic::is_error);
    match network {
        Some(network) if !faulty => parsed.networks.push(network),
        _ => recover_network(root, parsed),
    }
}

/// Adds what a network that cannot be read meant to define to [`Parsed::broken`].
pub(super) fn recover_network(root: &Element<'_>, parsed: &mut Parsed) {
    let network = match document_of(root) {
        Document::Definition => Some(root),
        Document::Status => root.child("network"),
    };
    let name = network.and_then(|network| network.child("name")).map(|name| name.text().value.into_owned());
    let what = match name.filter(|name| !name.is_empty() && name.len() <= MAX_NAME) {
        Some(name) => BrokenKind::Object(Object::Network(name)),
        None => BrokenKind::Unknown,
    };
    parsed.broken.push(Broken { what, span: root.span });
}

/// Which of libvirt's two documents about a network this is; the dispatcher lets no other root in.
fn document_of(root: &Element<'_>) -> Document {
    if root.name == "networkstatus" { Document::Status } else { Document::Definition }
}

/// `<networkstatus>`: what runs is its `<network>`. The bandwidth classes beside it (`class_id`, `floor`) are no rules.
fn read_status(root: &Element<'_>, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) -> Option<Network> {
    let mut visit = Visit::new(root);
    visit.ignore(&[], &["class_id", "floor", "flags", "taint"]);
    let network = visit.child("network");
    visit.finish(diagnostics);
    let Some(network) = network else {
        let message = "a `<networkstatus>` without its `<network>`";
        diagnostics.push(Diagnostic::error("network-missing-in-status", message, root.name_span, "expected a `<network>` in it"));
        return None;
    };
    read_network(network, Document::Status, quirks, diagnostics)
}

/// Reads everything, whatever is wrong on the way, so that all faults of the file come in one go.
///
/// The caller drops the value when an error was among them; `None` only where there is nothing to put into it.
fn read_network(element: &Element<'_>, document: Document, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) -> Option<Network> {
    let mut visit = Visit::new(element);
    visit.ignore(&["connections"], &["title", "description", "metadata", "bandwidth", "virtualport", "port"]);
    let name = read_name(&mut visit, diagnostics);
    let uuid = read_uuid(&mut visit, diagnostics);
    let ipv6 = read_flag(visit.filled_attribute("ipv6"), diagnostics);
    read_flag(visit.attribute("trustGuestRxFilters"), diagnostics);
    let elements: Vec<_> = visit.children("ip").collect();
    let addresses = address::read_addresses(&elements, address::Dns::of(element), quirks, diagnostics);
    let forward = forward::read_forward(visit.child("forward"), &addresses, quirks, diagnostics);
    // A faulty mode is reported once: what depends on it is then not judged.
    let mode = forward.as_ref().map(|(mode, _)| *mode);
    let bridge = read_bridge(&mut visit, mode, diagnostics);
    if let Some(mode) = mode {
        judge_presence_of_addresses(&elements, mode, element, quirks, diagnostics);
    }
    let whole = (addresses.len() == elements.len()).then_some(&addresses[..]);
    service::read_services(&mut visit, mode, whole, quirks, diagnostics);
    visit.finish(diagnostics);
    Some(Network { name: name?, uuid, document, bridge, forward: forward?.1, ipv6, addresses, span: element.span })
}

/// `<name>`: not trimmed, as libvirt does not trim it. It names files, which a `/` or a newline would break.
fn read_name(visit: &mut Visit<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<String>> {
    let element = visit.child("name");
    let text = element.map(Element::text).filter(|text| !text.value.is_empty());
    let Some(text) = text else {
        let span = element.unwrap_or(visit.element()).name_span;
        diagnostics.push(Diagnostic::error(
            "network-name-missing",
            "a network without a name",
            span,
            "expected `<name>` with a text in it",
        ));
        return None;
    };
    if !is_short_enough(&text.value, text.span, diagnostics) {
        return None;
    }
    let (code, message) = match text.value.chars().find(|c| matches!(c, '/' | '\n')) {
        None => return Some(Spanned::new(text.value.into_owned(), text.span)),
        Some('/') => ("network-name-slash", "a network's name holds a `/`"),
        Some(_) => ("network-name-newline", "a network's name goes over several lines"),
    };
    diagnostics.push(Diagnostic::error(code, message, text.span, "expected a name that can be a file's name"));
    None
}

/// `<uuid>`: an empty one is an absent one.
fn read_uuid(visit: &mut Visit<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<Uuid>> {
    let text = visit.child("uuid").map(Element::text).filter(|text| !text.value.is_empty())?;
    let uuid = parse_uuid(&text.value);
    if uuid.is_none() {
        let message = format!("`{}` is not a UUID", text.value.trim());
        diagnostics.push(Diagnostic::error("invalid-uuid", message, text.span, "expected 32 hexadecimal digits, dashes between them"));
    }
    uuid.map(|uuid| Spanned::new(uuid, text.span))
}

/// A yes-or-no attribute; absent and faulty ones are no.
fn read_flag(attribute: Option<&Attribute<'_>>, diagnostics: &mut Vec<Diagnostic>) -> bool {
    attribute.and_then(|attribute| read_keyword(attribute, &YES_NO, diagnostics)).unwrap_or(false)
}

/// `<bridge>`: its name in modes with a bridge of their own, `None` in all others, which share somebody else's.
fn read_bridge(visit: &mut Visit<'_>, mode: Option<Mode>, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<DeviceName>> {
    let mut bridge = visit.child("bridge").map(Visit::new);
    let name = bridge.as_mut().and_then(|bridge| bridge.filled_attribute("name"));
    let device = name.and_then(|name| read_device(name, diagnostics));
    let own = mode.is_some_and(Mode::has_own_bridge);
    if own && name.is_none() {
        let span = bridge.as_ref().map_or(visit.element(), Visit::element).name_span;
        diagnostics.push(
            Diagnostic::error("bridge-name-missing", "a network without the name of its bridge", span, "expected `<bridge name='..'/>`")
                .help("write the name that the bridge has on this host, such as `virbr0`"),
        );
    }
    if let (Some(name), Some(Mode::Bridge), Some(forward)) = (name, mode, visit.element().child("forward")) {
        diagnostics.extend(judge_bridge_and_device(name, forward));
    }
    if let Some(mut bridge) = bridge {
        service::read_bridge_settings(&mut bridge, mode, diagnostics);
        bridge.finish(diagnostics);
    }
    device.filter(|_| own)
}

/// In mode `bridge` guests are plugged into a bridge or onto a device, not both.
fn judge_bridge_and_device(name: &Attribute<'_>, forward: &Element<'_>) -> Option<Diagnostic> {
    let dev = forward.attribute("dev").filter(|dev| !dev.value.is_empty()).map(|dev| dev.name_span);
    let device = dev.or(forward.child("interface").map(|interface| interface.name_span))?;
    let message = "mode `bridge` knows a bridge or a forward device, not both";
    let fault = Diagnostic::error("bridge-name-and-device", message, name.name_span, "expected only one of the two");
    Some(fault.also(device, "the other one"))
}

/// Whether there are `<ip>` elements where the mode wants them, and none where it forbids them.
fn judge_presence_of_addresses(
    addresses: &[&Element<'_>],
    mode: Mode,
    network: &Element<'_>,
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if let (true, Some(first)) = (!mode.has_own_bridge(), addresses.first()) {
        diagnostics.push(service::not_in_mode(first, mode));
    }
    if !addresses.is_empty() || !matches!(mode, Mode::Nat | Mode::Route | Mode::Open) {
        return;
    }
    let message = format!("a network of mode `{}` without an address", mode.word());
    let (code, expected) = ("network-without-address", "expected an `<ip>` in it");
    // No rule follows from an open network, and libvirt accepts this one since 10.8.
    diagnostics.push(if mode == Mode::Open && quirks == Quirks::Fixed {
        Diagnostic::warning(code, message, network.name_span, "libvirt before 10.8 refuses it")
    } else {
        Diagnostic::error(code, message, network.name_span, expected)
    });
}

#[cfg(test)]
mod tests;
