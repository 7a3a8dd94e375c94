//! One protocol element of a rule: its attributes, each by the one table of [`crate::model::attribute`].
//!
//! Reference: nwfilter.md 2. What the table does not know is judged here: an attribute of another protocol is ignored with a
//! warning, one of no protocol is a slip of the pen that would widen the rule.

use super::access;
use super::literal::{self, Refusal};
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::attribute::{AttributeSpec, ValueKind};
use crate::model::filter::{Attribute, AttributeName, Layer, Literal, Protocol, Value};
use crate::parse::report::Report;
use crate::parse::visit::Visit;
use crate::parse::xml::{self, Element};

/// Reads the element's attributes, in the order of the table: the order in which libvirt looks for variables (nwfilter.md 4.4).
pub(super) fn read_element(element: &Element<'_>, protocol: Protocol, report: &mut Report<'_>) -> Vec<Attribute> {
    let mut visit = Visit::new(element);
    let negated = element.attribute("match").is_some_and(|word| read_match(word, report));
    // Read in the order of the text, for the order of the diagnostics; sorted at the end.
    let mut found: Vec<(usize, Attribute)> = Vec::new();
    for written in visit.all_attributes().filter(|written| written.name != "match") {
        let Some((at, spec)) = find_spec(element, protocol, written, report) else { continue };
        let value = read_value(spec, protocol, written, report);
        found.extend(value.map(|value| (at, Attribute { name: spec.name, value, negated, span: written.value_span })));
    }
    visit.finish(report.diagnostics());
    found.sort_by_key(|&(at, _)| at);
    found.into_iter().map(|(_, attribute)| attribute).collect()
}

/// Reads `match`, where libvirt takes every word but `no` for a yes: a rule written with `No` would mean the contrary.
fn read_match(attribute: &xml::Attribute<'_>, report: &mut Report<'_>) -> bool {
    if !matches!(attribute.value.as_ref(), "yes" | "no") {
        let message = format!("`{}` is neither `yes` nor `no`", attribute.value);
        let expected = "expected `yes` or `no`, in lower case; libvirt takes this for `yes`";
        report.add_lax(Diagnostic::error("unknown-match", message, attribute.value_span, expected));
    }
    attribute.value == "no"
}

/// Finds the row of the table that an attribute is about; `None`, with a diagnostic, for one that decides nothing.
fn find_spec(
    element: &Element<'_>,
    protocol: Protocol,
    written: &xml::Attribute<'_>,
    report: &mut Report<'_>,
) -> Option<(usize, &'static AttributeSpec)> {
    let name = documented_name(protocol, written.name);
    let found = protocol.attributes().iter().enumerate().find(|(_, spec)| spec.xml == name);
    let Some((at, spec)) = found else {
        report_unknown(element, protocol, written, report);
        return None;
    };
    if !is_honoured(element, protocol, spec, written, report) {
        return None;
    }
    Some((at, spec))
}

/// libvirt's documentation calls `age` and `age-hi` of `stp` by other names than its parser (row 13 of section 8).
fn documented_name(protocol: Protocol, name: &str) -> &str {
    match name {
        "msg-age" if protocol == Protocol::Stp => "age",
        "msg-age-hi" if protocol == Protocol::Stp => "age-hi",
        _ => name,
    }
}

/// Whether an attribute that the table knows counts under these quirks, with a word about it where libvirt 9.0 differs.
fn is_honoured(
    element: &Element<'_>,
    protocol: Protocol,
    spec: &AttributeSpec,
    written: &xml::Attribute<'_>,
    report: &mut Report<'_>,
) -> bool {
    if written.name != spec.xml && element.attribute(spec.xml).is_some() {
        let message = format!("`{}` is another name of `{}` and is ignored beside it", written.name, spec.xml);
        report.add(Diagnostic::warning("ignored-attribute", message, written.name_span, "stands here a second time"));
        return false;
    }
    let ignored_by_libvirt = written.name != spec.xml || (protocol == Protocol::TcpIpv6 && spec.name == AttributeName::TcpFlags);
    if !ignored_by_libvirt {
        return true;
    }
    match report.quirks() {
        Quirks::Fixed => {
            let message = format!("libvirt 9.0 ignores `{}` of `<{}>`", written.name, element.name);
            report.add(Diagnostic::note("attribute-libvirt-ignores", message, written.name_span, "counts here"));
            true
        }
        Quirks::Libvirt => {
            let warning = ignored_attribute(element, written);
            let renamed = written.name != spec.xml;
            report.add(if renamed { warning.help(format!("write `{}`", spec.xml)) } else { warning });
            false
        }
    }
}

/// Judges a name that this protocol's part of the table lacks.
fn report_unknown(element: &Element<'_>, protocol: Protocol, written: &xml::Attribute<'_>, report: &mut Report<'_>) {
    if Protocol::any_knows(written.name) {
        report.add(ignored_attribute(element, written));
        return;
    }
    let message = format!("unknown attribute `{}` of `<{}>`", written.name, element.name);
    let label = "no protocol knows it; libvirt ignores it, which widens the rule";
    let fault = Diagnostic::error("unknown-protocol-attribute", message, written.name_span, label);
    let known = protocol.attributes().iter().map(|spec| spec.xml).chain(["match"]);
    report.add_lax(report.suggest(fault, written.name, known));
}

/// The warning for a name that other protocols know, and so hardly a slip of the pen.
fn ignored_attribute(element: &Element<'_>, written: &xml::Attribute<'_>) -> Diagnostic {
    let message = format!("`<{}>` has no `{}`: it is ignored", element.name, written.name);
    Diagnostic::warning("ignored-attribute", message, written.name_span, "an attribute of other protocols")
}

/// Reads a value: a variable when it begins with `$`, whatever the kind, as libvirt has it.
fn read_value(spec: &AttributeSpec, protocol: Protocol, written: &xml::Attribute<'_>, report: &mut Report<'_>) -> Option<Value> {
    match written.value.strip_prefix('$') {
        Some(reference) => read_variable(spec, protocol, reference, written, report),
        None => read_literal(spec, protocol, written, report).map(Value::Literal),
    }
}

/// Reads a variable and says what becomes of it where libvirt binds none.
fn read_variable(
    spec: &AttributeSpec,
    protocol: Protocol,
    reference: &str,
    written: &xml::Attribute<'_>,
    report: &mut Report<'_>,
) -> Option<Value> {
    let reading = match access::read(reference) {
        Ok(reading) => reading,
        Err(refusal) => {
            report.add(refused(refusal, written, report));
            return None;
        }
    };
    if let Some(laxity) = reading.laxity {
        laxity.report(spec.xml, &written.value, written.value_span, report);
    }
    match variable_effect(spec.kind, protocol.layer()) {
        VariableEffect::Bound => Some(Value::Variable(reading.value)),
        VariableEffect::Refused => {
            report.add(useless_variable(written, "expected a text; a variable makes libvirt write a broken command"));
            None
        }
        VariableEffect::Useless(label) => {
            report.add_lax(useless_variable(written, label));
            Some(Value::Variable(reading.value))
        }
    }
}

/// What libvirt makes of a variable.
enum VariableEffect {
    /// Its value counts.
    Bound,
    /// The rule cannot be installed.
    Refused,
    /// Its value means nothing, but it has to have one, and the rule is repeated for each; with words for what libvirt puts in its place.
    Useless(&'static str),
}

/// The kinds of values that libvirt keeps a variable for and then forgets its text (nwfilter.md 4.2).
fn variable_effect(kind: ValueKind, layer: Layer) -> VariableEffect {
    match kind {
        ValueKind::States => VariableEffect::Useless("expected a list of states; libvirt takes a variable for no state at all"),
        ValueKind::TcpFlags => VariableEffect::Useless("expected `MASK/FLAGS`; libvirt takes a variable for `NONE/NONE`"),
        ValueKind::Flag => VariableEffect::Useless("expected `yes` or `no`; libvirt takes a variable for `no`"),
        ValueKind::Comment if layer == Layer::Link => {
            VariableEffect::Useless("expected a text; ebtables rules carry no comment, so libvirt ignores the variable")
        }
        ValueKind::Comment => VariableEffect::Refused,
        _ => VariableEffect::Bound,
    }
}

/// The diagnostic for a variable that cannot be bound; the label says what libvirt makes of it.
fn useless_variable(written: &xml::Attribute<'_>, label: &'static str) -> Diagnostic {
    let message = format!("`{}` cannot be a variable", written.name);
    Diagnostic::error("variable-not-allowed", message, written.value_span, label)
}

/// Reads a literal by the grammar of its kind.
fn read_literal(spec: &AttributeSpec, protocol: Protocol, written: &xml::Attribute<'_>, report: &mut Report<'_>) -> Option<Literal> {
    if is_refused_range_end(spec, protocol, report.quirks()) {
        let message = format!("libvirt reads no IPv6 address in `{}`", spec.xml);
        let expected = "expected a variable: an IPv6 address is refused when defined, an IPv4 address when applied";
        report.add(Diagnostic::error("ipv6-range-end", message, written.value_span, expected));
        return None;
    }
    match literal::read(spec.kind, &written.value) {
        Ok(reading) => {
            if let Some(laxity) = reading.laxity {
                laxity.report(spec.xml, &written.value, written.value_span, report);
            }
            Some(reading.value)
        }
        Err(refusal) => {
            report.add(refused(refusal, written, report));
            None
        }
    }
}

/// libvirt takes only IPv4 text for `dstipto`, on the IPv6 elements too, where ip6tables then refuses it (row 11 of section 8).
fn is_refused_range_end(spec: &AttributeSpec, protocol: Protocol, quirks: Quirks) -> bool {
    quirks == Quirks::Libvirt && spec.name == AttributeName::DstIpTo && protocol.layer() == Layer::Ipv6
}

/// The diagnostic for a value that its grammar refuses.
fn refused(refusal: Refusal, written: &xml::Attribute<'_>, report: &Report<'_>) -> Diagnostic {
    let message = format!("`{}` is not a value of `{}`", written.value, written.name);
    let fault = Diagnostic::error(refusal.code, message, written.value_span, refusal.expected);
    match refusal.help {
        Some(help) => fault.help(help),
        None => report.suggest(fault, &written.value, refusal.words.iter().map(|&(word, _)| word)),
    }
}
