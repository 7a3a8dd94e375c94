//! `<filterbinding>`: a filter bound to one tap, as libvirt writes it down.
//!
//! Reference: nwfilter.md 7.2. Every part but `<linkdev>` is needed; that one says only where libvirt listens for addresses.

use std::sync::Arc;

use uuid::Uuid;

use super::{name_in, read_mac_element};
use crate::addr::DeviceName;
use crate::diagnostic::Diagnostic;
use crate::model::interface::{Document, Interface};
use crate::parse::filter::{read_reference, read_uuid};
use crate::parse::report::Report;
use crate::parse::value::{read_device, require};
use crate::parse::visit::Visit;
use crate::parse::xml::Element;
use crate::source::Spanned;

/// Reads a binding; `None` when a part of it is missing or faulty.
pub(super) fn read_binding(element: &Element<'_>, document: Document, report: &mut Report<'_>) -> Option<Interface> {
    let mut visit = Visit::new(element);
    visit.ignore(&[], &["linkdev"]);
    let owner = needed(&mut visit, "owner", report).and_then(|owner| read_owner(owner, report));
    let device = needed(&mut visit, "portdev", report).and_then(|port| read_port(port, report));
    let mac = needed(&mut visit, "mac", report).and_then(|mac| read_mac_element(mac, report));
    let filter = needed(&mut visit, "filterref", report).and_then(|reference| read_reference(reference, report));
    visit.finish(report.diagnostics());
    let (name, uuid) = owner?;
    Some(Interface {
        document,
        owner: Some(name),
        owner_uuid: Some(uuid),
        device: Some(device?),
        mac: Some(mac?),
        network: None,
        filter: Some(filter?),
        addresses: Vec::new(),
        span: element.span,
    })
}

/// Reads `<owner>`: no rule depends on it, but it tells a guest's binding from a stranger's.
fn read_owner(element: &Element<'_>, report: &mut Report<'_>) -> Option<(Arc<str>, Uuid)> {
    let mut visit = Visit::new(element);
    let name = needed(&mut visit, "name", report).and_then(|name| filled(name, report)).and_then(|name| name_in(name, report));
    let uuid = needed(&mut visit, "uuid", report).and_then(|uuid| filled(uuid, report)).and_then(|uuid| read_uuid(uuid, report));
    visit.finish(report.diagnostics());
    Some((name?, uuid?.value))
}

/// Reads `<portdev>`.
fn read_port(element: &Element<'_>, report: &mut Report<'_>) -> Option<Spanned<DeviceName>> {
    let mut visit = Visit::new(element);
    let name = require(visit.attribute("name"), "name", element, report.diagnostics());
    visit.finish(report.diagnostics());
    read_device(name?, report.diagnostics())
}

/// A child that must be there.
fn needed<'a>(visit: &mut Visit<'a>, name: &'static str, report: &mut Report<'_>) -> Option<&'a Element<'a>> {
    let child = visit.child(name);
    if child.is_none() {
        let parent = visit.element();
        let message = format!("`<{}>` has no `<{name}>`, which a binding needs", parent.name);
        let fault = Diagnostic::error("incomplete-binding", message, parent.name_span, format!("expected a `<{name}>` inside"));
        // The one part that says nothing about the rules, so that people who write bindings by hand forget it.
        let owner = "add `<owner><name>GUEST</name><uuid>...</uuid></owner>`; `uuidgen` makes a UUID";
        report.add(if name == "owner" { fault.help(owner) } else { fault });
    }
    child
}

/// An element with a text; an empty one is as bad as none.
fn filled<'a>(element: &'a Element<'a>, report: &mut Report<'_>) -> Option<&'a Element<'a>> {
    let is_filled = !element.text().value.is_empty();
    if !is_filled {
        let message = format!("`<{}>` of a binding's owner is empty", element.name);
        report.add(Diagnostic::error("incomplete-binding", message, element.name_span, "expected text inside"));
    }
    is_filled.then_some(element)
}
