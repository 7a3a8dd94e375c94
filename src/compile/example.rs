//! For tests: guests written in one line per rule, and their rules compared with captured `*-save` text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::{Compiled, Layout, ObjectRules, compile};
use crate::addr::{DeviceName, Mac};
use crate::model::attribute::ValueKind;
use crate::model::filter::{Action, Chain, Direction, Literal, Protocol, SetDirection, States};
use crate::model::{Object, Quirks};
use crate::resolve::{Condition, GuestPolicy, PolicyRule, Resolved, Treatment};
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, ChainName, Family, LiveRule, Table, save, words};
use crate::source::{FileId, Span};

/// `52:54:00:56:44:32`, the Ethernet address of every guest here.
pub(super) const MAC: Mac = Mac([0x52, 0x54, 0, 0x56, 0x44, 0x32]);

pub(super) fn device(name: &str) -> DeviceName {
    DeviceName::new(name).expect("a device name")
}

pub(super) fn span(start: u32) -> Span {
    Span { file: FileId(0), start, end: start + 1 }
}

/// One rule a line: `[CHAIN PRIORITY:] ACTION DIRECTION PRIORITY [statematch=false] [PROTOCOL [[!][$]ATTRIBUTE=VALUE]..]`.
///
/// `!` is `match='no'`, `$` a value from a variable, `_` a blank. A rule's place is its line number times 100, its conditions' places
/// follow.
pub(super) fn rules(text: &str) -> Vec<Arc<PolicyRule>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    (1..).zip(lines).map(|(number, line)| Arc::new(rule(number * 100, line))).collect()
}

fn rule(start: u32, line: &str) -> PolicyRule {
    let (chain, rest) = match line.split_once(": ").filter(|(chain, _)| chain.split_whitespace().count() == 2) {
        Some((chain, rest)) => {
            let (name, priority) = chain.split_once(' ').expect("a chain has a priority");
            (Chain { name: name.into(), priority: priority.parse().expect("a number") }, rest)
        }
        None => (Chain { name: "root".into(), priority: 0 }, line),
    };
    let mut words = rest.split_whitespace();
    let mut next = || words.next().expect("action, direction and priority");
    let action = match next() {
        "accept" => Action::Accept,
        "drop" => Action::Drop,
        "reject" => Action::Reject,
        "return" => Action::Return,
        "continue" => Action::Continue,
        other => panic!("no action: {other}"),
    };
    let direction = match next() {
        "in" => Direction::In,
        "out" => Direction::Out,
        "inout" => Direction::InOut,
        other => panic!("no direction: {other}"),
    };
    let priority = next().parse().expect("a priority");
    let rest: Vec<_> = words.collect();
    let state_match = !rest.contains(&"statematch=false");
    let mut rest = rest.into_iter().filter(|word| *word != "statematch=false");
    let protocol = rest.next().map_or(Protocol::None, |name| {
        Protocol::ELEMENTS.into_iter().find(|(element, _)| *element == name).unwrap_or_else(|| panic!("no protocol: {name}")).1
    });
    let conditions = (start + 1..).zip(rest).map(|(at, word)| condition(protocol, at, word)).collect();
    PolicyRule { chain, priority, action, direction, state_match, protocol, conditions, place: span(start) }
}

fn condition(protocol: Protocol, at: u32, word: &str) -> Condition {
    let negated = word.starts_with('!');
    let word = word.trim_start_matches('!');
    let from_variable = word.starts_with('$');
    let (name, value) = word.trim_start_matches('$').split_once('=').expect("an attribute has a value");
    let spec = protocol.attributes().iter().find(|spec| spec.xml == name).unwrap_or_else(|| panic!("no attribute: {name}"));
    Condition { name: spec.name, value: literal(spec.kind, value), negated, from_variable, span: span(at) }
}

fn literal(kind: ValueKind, value: &str) -> Literal {
    match kind {
        ValueKind::Number { .. } if value.contains(':') => {
            let (first, last) = value.split_once(':').expect("looked for");
            Literal::Range(first.parse().expect("a port"), last.parse().expect("a port"))
        }
        ValueKind::Number { .. } | ValueKind::Decimal | ValueKind::EtherType { .. } | ValueKind::ArpOpcode | ValueKind::IpProtocol => {
            let number = value.strip_prefix("0x").map_or_else(|| value.parse(), |hex| u32::from_str_radix(hex, 16));
            Literal::Number(number.expect("a number"))
        }
        ValueKind::Mac | ValueKind::MacMask => Literal::Mac(Mac::parse(value).expect("an Ethernet address")),
        ValueKind::Ipv4 => Literal::Ipv4(value.parse().expect("an IPv4 address")),
        ValueKind::Ipv6 => Literal::Ipv6(value.parse().expect("an IPv6 address")),
        ValueKind::Ipv4Mask | ValueKind::Ipv6Mask => Literal::Prefix(value.parse().expect("a prefix length")),
        ValueKind::Flag => Literal::Flag(value == "yes"),
        ValueKind::TcpFlags => {
            let (mask, set) = value.split_once('/').expect("two numbers");
            Literal::TcpFlags(mask.parse().expect("flags"), set.parse().expect("flags"))
        }
        ValueKind::States => Literal::States(value.split(',').fold(States::default(), |states, state| match state {
            "NEW" => States { new: true, ..states },
            "ESTABLISHED" => States { established: true, ..states },
            "RELATED" => States { related: true, ..states },
            "INVALID" => States { invalid: true, ..states },
            "NONE" => States { none: true, ..states },
            other => panic!("no state: {other}"),
        })),
        ValueKind::SetDirections => {
            let one = |word| if word == "src" { SetDirection::Source } else { SetDirection::Destination };
            Literal::SetDirections(value.split(',').map(one).collect())
        }
        ValueKind::SetName | ValueKind::Comment => Literal::Text(value.replace('_', " ").into()),
    }
}

pub(super) fn guest(name: &str, treatment: Treatment) -> GuestPolicy {
    GuestPolicy { device: device(name), mac: MAC, owner: Some(Arc::from("guest")), treatment, learned: None, place: span(1) }
}

/// What becomes of one guest `vnet0` with these rules (see [`rules`]).
pub(super) fn compile_guest(text: &str, quirks: Quirks) -> Compiled {
    let guests = vec![guest("vnet0", Treatment::Filtered(rules(text))).into()];
    compile(&Resolved { guests, ..Resolved::default() }, quirks, Layout::default())
}

/// The rules of `vnet0`, which has no fault.
pub(super) fn rules_of(text: &str, quirks: Quirks) -> ObjectRules {
    let mut compiled = compile_guest(text, quirks);
    assert_eq!(compiled.held, [], "held");
    let rules = compiled.objects.remove(&Object::Interface(device("vnet0"))).expect("compiled or held");
    ObjectRules::clone(&rules)
}

/// The code and place of the fault that holds `vnet0`, the same in both quirks.
pub(super) fn fault_of(text: &str) -> (&'static str, u32) {
    let [fixed, libvirt] = [Quirks::Fixed, Quirks::Libvirt].map(|quirks| fault_in(text, quirks));
    assert_eq!(fixed, libvirt, "the quirks differ");
    fixed
}

/// The code and place of the fault that holds `vnet0`.
pub(super) fn fault_in(text: &str, quirks: Quirks) -> (&'static str, u32) {
    let compiled = compile_guest(text, quirks);
    assert!(compiled.objects.is_empty(), "a held guest has no rules");
    let [held] = &compiled.held[..] else { panic!("held: {:?}", compiled.held) };
    assert!(compiled.diagnostics.iter().any(|diagnostic| diagnostic.code == held.code), "held, but not said");
    (held.code, held.span.start)
}

/// The codes of all that is said about `vnet0`.
pub(super) fn remarks_on(text: &str, quirks: Quirks) -> Vec<&'static str> {
    compile_guest(text, quirks).diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

/// Compares everything that an object wants, chain by chain, with captured text.
///
/// A line `[iptables]`, `[ip6tables]` or `[ebtables]` begins a family and `*TABLE` a table; until then it is nat for ebtables, else filter.
/// Empty chains are not compared: captures do not show them.
#[track_caller]
pub(super) fn assert_golden(rules: &ObjectRules, golden: &str) {
    let wanted: BTreeMap<ChainId, Vec<Rule>> = rules
        .blocks()
        .filter(|(_, rules)| !rules.is_empty())
        .map(|(id, rules)| (id.clone(), rules.iter().map(|placed| placed.rule.clone()).collect()))
        .collect();
    let golden = parse_golden(golden);
    assert!(wanted == golden, "compiled:\n{}\ngolden:\n{}", show(&wanted), show(&golden));
}

fn parse_golden(text: &str) -> BTreeMap<ChainId, Vec<Rule>> {
    let mut chains: BTreeMap<ChainId, Vec<Rule>> = BTreeMap::new();
    let (mut family, mut table) = (Family::Ipv4, Table::Filter);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line {
            "[iptables]" => (family, table) = (Family::Ipv4, Table::Filter),
            "[ip6tables]" => (family, table) = (Family::Ipv6, Table::Filter),
            "[ebtables]" => (family, table) = (Family::Bridge, Table::Nat),
            _ if line.starts_with('*') => table = Table::from_name(&line[1..]).expect("a table"),
            _ => {
                let (chain, words) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')).expect("-A CHAIN RULE");
                let LiveRule::Known(rule) = save::parse_rule(family, words) else { panic!("not understood: {line}") };
                chains.entry(ChainId { family, table, chain: ChainName::new(chain) }).or_default().push(rule);
            }
        }
    }
    chains
}

fn show(chains: &BTreeMap<ChainId, Vec<Rule>>) -> String {
    let mut text = String::new();
    for (id, rules) in chains {
        for rule in rules {
            write!(text, "{} {} -A {} ", id.family, id.table, id.chain).expect("writing to a string");
            words::rule(id.family, rule, &mut text);
            text.push('\n');
        }
    }
    text
}
