//! `<filter>` documents to the model: the filter's own attributes here, its parts in the modules below.
//!
//! Reference: nwfilter.md sections 1, 2 and 4. Every fault of a filter is reported; a filter with an error is never half read
//! but broken. Whether the filters that it refers to exist is for [`crate::resolve`] to say.

mod access;
mod chain;
mod difference;
mod element;
mod laxity;
mod literal;
mod reference;
mod rule;
mod words;

use std::sync::Arc;

use super::report::Report;
use super::value::{is_short_enough, parse_uuid, require};
use super::visit::Visit;
use super::xml::Element;
use super::{Broken, BrokenKind, Parsed};
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::filter::{Entry, Filter};
use crate::source::Spanned;

pub(super) use reference::read_reference;

/// Reads a `<filter>`: adds it to [`Parsed::filters`], or to [`Parsed::broken`] with what is wrong in [`Parsed::diagnostics`].
pub(super) fn parse_filter(root: &Element<'_>, quirks: Quirks, parsed: &mut Parsed) {
    let mut report = Report::new(quirks, &mut parsed.diagnostics);
    let start = report.mark();
    let filter = read_filter(root, &mut report);
    match filter {
        Some(filter) if !report.has_errors_since(start) => parsed.filters.push(filter),
        _ => recover_filter(root, parsed),
    }
}

/// Adds what a faulty `<filter>` meant to define to [`Parsed::broken`].
pub(super) fn recover_filter(root: &Element<'_>, parsed: &mut Parsed) {
    let name = root.attribute("name").map(|name| name.value.as_ref()).filter(|name| !name.is_empty());
    let what = name.map_or(BrokenKind::Unknown, |name| BrokenKind::Filter(name.into()));
    parsed.broken.push(Broken { what, span: root.span });
}

/// Reads all parts before it gives up on any, so that one run tells every fault.
fn read_filter(root: &Element<'_>, report: &mut Report<'_>) -> Option<Filter> {
    let mut visit = Visit::new(root);
    let name = read_name(&mut visit, report);
    let chain = chain::read_chain(&mut visit, report);
    let uuid = visit.child("uuid").and_then(|element| read_uuid(element, report));
    // One walk over both kinds: the order of rules and references decides the order of the rules made of them (3.3).
    let mut entries = Vec::new();
    for child in visit.children_among(&["rule", "filterref"]) {
        if report.give_up_at(child.name_span) {
            break;
        }
        entries.extend(match child.name {
            "rule" => rule::read_rule(child, report).map(|rule| Entry::Rule(Arc::new(rule))),
            _ => read_reference(child, report).map(Entry::Reference),
        });
    }
    visit.finish(report.diagnostics());
    Some(Filter { name: name?, uuid, chain: chain?, entries, span: root.span })
}

/// Reads `name`. libvirt takes any text and then fails to save one with a `/`; control characters would only blur our output.
fn read_name(visit: &mut Visit<'_>, report: &mut Report<'_>) -> Option<Spanned<Arc<str>>> {
    let attribute = require(visit.attribute("name"), "name", visit.element(), report.diagnostics())?;
    let name = attribute.value.as_ref();
    if !is_short_enough(name, attribute.value_span, report.diagnostics()) {
        return None;
    }
    let refuse = |code, message: String, expected: &str| Diagnostic::error(code, message, attribute.value_span, expected);
    if name.is_empty() {
        report.add(refuse("empty-filter-name", "the filter's name is empty".into(), "expected a name"));
    } else if name.contains('/') {
        let message = format!("the filter's name `{name}` contains a `/`");
        report.add(refuse("invalid-filter-name", message, "expected a name that can be a file's name, too"));
    } else if name.chars().any(char::is_control) {
        let message = "the filter's name contains a control character".into();
        report.add(refuse("invalid-filter-name", message, "expected a name on one line"));
    }
    Some(Spanned::new(name.into(), attribute.value_span))
}

/// Reads a `<uuid>`; an empty one is none, as libvirt has it.
pub(super) fn read_uuid(element: &Element<'_>, report: &mut Report<'_>) -> Option<Spanned<uuid::Uuid>> {
    let mut visit = Visit::new(element);
    let text = visit.text();
    visit.finish(report.diagnostics());
    if text.value.is_empty() {
        return None;
    }
    let uuid = parse_uuid(&text.value);
    if uuid.is_none() {
        let message = format!("`{}` is not a UUID", text.value.trim());
        report.add(Diagnostic::error("invalid-uuid", message, text.span, "expected 32 hexadecimal digits, dashes between them or not"));
    }
    uuid.map(|uuid| Spanned::new(uuid, text.span))
}

#[cfg(test)]
mod tests;
