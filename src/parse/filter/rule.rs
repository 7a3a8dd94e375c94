//! `<rule>`: what it does, and the protocol elements that say to which packets.
//!
//! Reference: nwfilter.md 1.3 and 1.4. The first protocol element that is known decides the protocol; further ones of the same
//! name add to it.

use super::chain::parse_priority;
use super::difference;
use super::element::read_element;
use crate::diagnostic::Diagnostic;
use crate::model::filter::{Access, Action, Attribute, AttributeName, Direction, Layer, Literal, Protocol, Rule, Value};
use crate::parse::report::Report;
use crate::parse::value::{read_keyword, require};
use crate::parse::visit::Visit;
use crate::parse::xml::{self, Element};
use crate::source::Span;

const ACTIONS: [(&str, Action); 5] = [
    ("accept", Action::Accept),
    ("drop", Action::Drop),
    ("reject", Action::Reject),
    ("return", Action::Return),
    ("continue", Action::Continue),
];

const DIRECTIONS: [(&str, Direction); 3] = [("in", Direction::In), ("out", Direction::Out), ("inout", Direction::InOut)];

/// The priority of a rule without one, and in libvirt also of one with a bad one.
const DEFAULT_PRIORITY: i16 = 500;

/// Reads a `<rule>`; `None` when its action or direction cannot be told.
pub(super) fn read_rule(element: &Element<'_>, report: &mut Report<'_>) -> Option<Rule> {
    let start = report.mark();
    let mut visit = Visit::new(element);
    let written_action = require(visit.attribute("action"), "action", element, report.diagnostics());
    let action = written_action.and_then(|action| read_keyword(action, &ACTIONS, report.diagnostics()));
    let direction = require(visit.attribute("direction"), "direction", element, report.diagnostics());
    let direction = direction.and_then(|direction| read_keyword(direction, &DIRECTIONS, report.diagnostics()));
    let priority = visit.attribute("priority").map_or(DEFAULT_PRIORITY, |priority| read_priority(priority, report));
    let state_match = visit.attribute("statematch").is_none_or(|word| read_state_match(word, report));
    let Matched { protocol, attributes, overridden } = read_protocol(&mut visit, report);
    visit.finish(report.diagnostics());
    let (action, direction) = (action?, direction?);
    let rule = Rule { action, direction, priority, state_match, protocol, attributes, overridden, span: element.span };
    if let Some(written) = written_action.filter(|_| rule.action == Action::Continue && protocol.layer() != Layer::Link) {
        report.add(continue_on_ip(written));
    }
    // An attribute that could not be read is there all the same.
    if !report.has_errors_since(start) {
        report_missing_bases(&rule, report);
    }
    // A rule that will not be made differs from nothing.
    if !report.has_errors_since(start) {
        difference::report_differences(&rule, report);
    }
    Some(rule)
}

/// Reads `priority`. libvirt takes the default for whatever it cannot read, which may well reverse two rules (row 15).
fn read_priority(attribute: &xml::Attribute<'_>, report: &mut Report<'_>) -> i16 {
    let priority = parse_priority(&attribute.value);
    if priority.is_none() {
        let message = format!("`{}` is not a priority of a rule", attribute.value);
        let expected = format!("expected a decimal number from -1000 to 1000; libvirt takes {DEFAULT_PRIORITY} instead");
        report.add_lax(Diagnostic::error("invalid-rule-priority", message, attribute.value_span, expected));
    }
    priority.unwrap_or(DEFAULT_PRIORITY)
}

/// Reads `statematch`: only `0` and `false`, in any case, switch it off.
fn read_state_match(attribute: &xml::Attribute<'_>, report: &mut Report<'_>) -> bool {
    let word = attribute.value.to_ascii_lowercase();
    if matches!(word.as_str(), "0" | "false") {
        return false;
    }
    if !matches!(word.as_str(), "1" | "true" | "yes") {
        let message = format!("`{}` does not switch `statematch` off", attribute.value);
        report.add(Diagnostic::warning("unknown-statematch", message, attribute.value_span, "expected `true` or `false`"));
    }
    true
}

/// What the protocol elements of a rule say together.
struct Matched {
    protocol: Protocol,
    attributes: Vec<Attribute>,
    overridden: Vec<(Access, Span)>,
}

/// Reads the protocol elements of a rule and merges those that count.
fn read_protocol(visit: &mut Visit<'_>, report: &mut Report<'_>) -> Matched {
    let mut matched = Matched { protocol: Protocol::None, attributes: Vec::new(), overridden: Vec::new() };
    let mut first: Option<&Element<'_>> = None;
    for element in visit.all_children() {
        if report.give_up_at(element.name_span) {
            break;
        }
        match (Protocol::named(element.name), first) {
            (None, _) => report.add_lax(unknown_protocol(element, report)),
            (Some(_), Some(first)) if first.name != element.name => report.add_lax(second_protocol(first, element)),
            (Some(known), _) => {
                matched.protocol = known;
                first = first.or(Some(element));
                matched.merge(read_element(element, known, report), report);
                // After each element, as libvirt does: a protocol that comes later comes too late.
                check_ports(element, known, &matched.attributes, report);
            }
        }
    }
    matched
}

impl Matched {
    /// Adds the attributes of a further element: a later value replaces an earlier one, connection states add up.
    fn merge(&mut self, further: Vec<Attribute>, report: &mut Report<'_>) {
        for mut attribute in further {
            if let Some(at) = self.attributes.iter().position(|earlier| earlier.name == attribute.name) {
                let earlier = self.attributes.remove(at);
                if contradict(&earlier, &attribute) {
                    report.add_lax(replaced(&earlier, &attribute, self.protocol));
                }
                match (earlier.value, &mut attribute.value) {
                    (Value::Literal(Literal::States(old)), Value::Literal(Literal::States(new))) => *new = new.union(old),
                    (Value::Variable(access), _) => self.overridden.push((access, earlier.span)),
                    _ => {}
                }
            }
            self.attributes.push(attribute);
        }
    }
}

/// Whether two values of one attribute cannot both be meant; states add up, and a comment decides nothing.
fn contradict(earlier: &Attribute, later: &Attribute) -> bool {
    let states = |attribute: &Attribute| matches!(attribute.value, Value::Literal(Literal::States(_)));
    let replaced = earlier.value != later.value && !(states(earlier) && states(later));
    (replaced || earlier.negated != later.negated) && later.name != AttributeName::Comment
}

/// An attribute that a later element of the rule gives again: libvirt forgets the earlier value, so the rule takes what the author excluded.
fn replaced(earlier: &Attribute, later: &Attribute, protocol: Protocol) -> Diagnostic {
    let message = format!("`{}` is given twice in one rule", xml_name(protocol, later.name));
    Diagnostic::error("repeated-attribute", message, later.span, "libvirt matches this alone")
        .also(earlier.span, "and forgets this")
        .help("a rule matches what all its elements say: write a second `<rule>`")
}

/// Masks, ends and other dependents whose base is not there; libvirt passes over them.
fn report_missing_bases(rule: &Rule, report: &mut Report<'_>) {
    for attribute in &rule.attributes {
        let Some(base) = rule.missing_base(attribute.name) else { continue };
        let [name, base] = [attribute.name, base].map(|name| xml_name(rule.protocol, name));
        let message = format!("`{name}` means nothing without `{base}`");
        let fault = Diagnostic::error("attribute-without-base", message, attribute.span, "libvirt ignores it, which widens the rule");
        report.add_lax(fault.help(format!("add `{base}`, or remove `{name}`")));
    }
}

/// How the XML calls an attribute of this protocol.
fn xml_name(protocol: Protocol, name: AttributeName) -> &'static str {
    protocol.attribute(name).map_or("?", |spec| spec.xml)
}

/// The IP protocols whose ports ebtables can match: tcp, udp, dccp, sctp.
const PROTOCOLS_WITH_PORTS: [u32; 4] = [6, 17, 33, 132];

/// Refuses ports on a layer-2 `<ip>` or `<ipv6>` that has not yet said, in so many words, for which protocol.
fn check_ports(element: &Element<'_>, protocol: Protocol, attributes: &[Attribute], report: &mut Report<'_>) {
    if !matches!(protocol, Protocol::Ip | Protocol::Ipv6) {
        return;
    }
    let named = |name: AttributeName| attributes.iter().find(|attribute| attribute.name == name);
    let port = [AttributeName::SrcPortStart, AttributeName::SrcPortEnd, AttributeName::DstPortStart, AttributeName::DstPortEnd]
        .into_iter()
        .find_map(named);
    let Some(port) = port else { return };
    let message = format!("a port on `<{}>` needs a protocol that has ports", element.name);
    let help = "write `protocol` as `tcp`, `udp`, `sctp` or 33 (DCCP), in the same or an earlier element";
    let fault = match named(AttributeName::IpProtocol) {
        Some(Attribute { value: Value::Literal(Literal::Number(number)), .. }) if PROTOCOLS_WITH_PORTS.contains(number) => return,
        Some(other) => {
            Diagnostic::error("ports-without-protocol", message, other.span, "expected `tcp`, `udp`, `sctp` or 33, not a variable")
                .also(port.span, "because of this port")
        }
        None => Diagnostic::error("ports-without-protocol", message, port.span, "expected a `protocol` before this port counts"),
    };
    report.add(fault.help(help));
}

/// Row 1 of section 8, the most dangerous slip of all: the rule would match every frame.
fn unknown_protocol(element: &Element<'_>, report: &Report<'_>) -> Diagnostic {
    let message = format!("unknown protocol element `<{}>`", element.name);
    let label = "libvirt ignores it, and a rule without a protocol matches every frame";
    let fault = Diagnostic::error("unknown-protocol", message, element.name_span, label);
    if element.name == "igmp-ipv6" {
        return fault.help("IPv6 has multicast listener discovery instead: match `<icmpv6>` types 130 to 132 and 143");
    }
    report.suggest(fault, element.name, Protocol::ELEMENTS.iter().map(|&(name, _)| name))
}

/// An element of another protocol; libvirt passes over it in silence.
fn second_protocol(first: &Element<'_>, second: &Element<'_>) -> Diagnostic {
    let message = format!("`<{}>` is ignored: this rule is about `<{}>`", second.name, first.name);
    Diagnostic::warning("second-protocol", message, second.name_span, "a rule has one protocol")
        .also(first.name_span, "this one")
        .help("write a second `<rule>`")
}

/// Row 2 of section 8: iptables refuses the target, in either quirks.
fn continue_on_ip(action: &xml::Attribute<'_>) -> Diagnostic {
    let message = "`continue` is an action of layer-2 rules only";
    Diagnostic::error("continue-on-ip-rule", message, action.value_span, "iptables knows no CONTINUE")
        .help("leave the rule out: a packet that no rule decides goes on to the next one anyway")
}
