//! `<filterref>` with its parameters, in filters, interfaces and bindings.
//!
//! Reference: nwfilter.md 1.5 and 4.2.

use std::sync::Arc;

use super::access::is_name_byte;
use crate::diagnostic::Diagnostic;
use crate::model::filter::{Parameter, Reference};
use crate::parse::report::Report;
use crate::parse::value::{is_short_enough, require};
use crate::parse::visit::Visit;
use crate::parse::xml::{Attribute, Element};
use crate::source::Spanned;

/// Reads a `<filterref>`; `None` when it names no filter.
pub(in crate::parse) fn read_reference(element: &Element<'_>, report: &mut Report<'_>) -> Option<Reference> {
    let mut visit = Visit::new(element);
    let filter = require(visit.attribute("filter"), "filter", element, report.diagnostics());
    let mut parameters = Vec::new();
    for parameter in visit.children("parameter") {
        if report.give_up_at(parameter.name_span) {
            break;
        }
        parameters.extend(read_parameter(parameter, report));
    }
    visit.finish(report.diagnostics());
    let filter = filter.filter(|name| is_short_enough(&name.value, name.value_span, report.diagnostics()))?;
    // libvirt stores the empty name and fails on it when it applies the filter.
    if filter.value.is_empty() {
        report.add(Diagnostic::error(
            "empty-filter-reference",
            "`<filterref>` names no filter",
            filter.value_span,
            "expected the name of a filter",
        ));
    }
    Some(Reference { filter: spanned(filter), parameters, span: element.span })
}

/// Reads a `<parameter>`; `None` for one that libvirt drops, as it does every faulty one.
fn read_parameter(element: &Element<'_>, report: &mut Report<'_>) -> Option<Parameter> {
    let mut visit = Visit::new(element);
    let name = visit.attribute("name");
    let value = visit.attribute("value");
    visit.finish(report.diagnostics());
    let (Some(name), Some(value)) = (name, value) else {
        let message = "`<parameter>` without both a `name` and a `value`";
        let expected = "expected `name` and `value`; libvirt drops this parameter";
        report.add_lax(Diagnostic::error("incomplete-parameter", message, element.name_span, expected));
        return None;
    };
    if [name, value].into_iter().any(|text| !is_short_enough(&text.value, text.value_span, report.diagnostics())) {
        return None;
    }
    if name.value.is_empty() || !name.value.bytes().all(is_name_byte) {
        let message = format!("`{}` is not a name of a parameter", name.value);
        let expected = "expected letters, digits and `_`; libvirt drops this parameter";
        report.add_lax(Diagnostic::error("invalid-parameter-name", message, name.value_span, expected));
        return None;
    }
    if value.value.is_empty() || !value.value.bytes().all(is_value_byte) {
        report.add_lax(invalid_value(name, value));
        return None;
    }
    Some(Parameter { name: spanned(name), value: spanned(value) })
}

/// The characters of values: enough for addresses of all kinds, numbers, names and ranges of ports.
fn is_value_byte(byte: u8) -> bool {
    is_name_byte(byte) || byte == b'.' || byte == b':'
}

/// Row 16 of section 8: an `IP` with a prefix length is dropped, and libvirt goes on to learn any address.
fn invalid_value(name: &Attribute<'_>, value: &Attribute<'_>) -> Diagnostic {
    let message = format!("`{}` is not a value that parameter `{}` can have", value.value, name.value);
    let expected = "expected letters, digits, `_`, `.` and `:`; libvirt drops this parameter";
    let fault = Diagnostic::error("invalid-parameter-value", message, value.value_span, expected);
    match value.value.chars().find(|&c| !u8::try_from(c).is_ok_and(is_value_byte)) {
        Some('/') => fault.help("write the address alone; a mask is an attribute of the rule"),
        Some(',' | ' ') => fault.help("write one `<parameter>` of this name for each element of a list"),
        _ => fault,
    }
}

fn spanned(attribute: &Attribute<'_>) -> Spanned<Arc<str>> {
    Spanned::new(attribute.value.as_ref().into(), attribute.value_span)
}
