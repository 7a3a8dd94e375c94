//! Documents built by hand, and what they resolve to, as short text.

mod document;
mod includes;
mod interface;
mod network;
mod scale;
mod value;
mod variables;

use std::cell::Cell;
use std::sync::Arc;

use super::{GuestPolicy, Link, LinkKind, PolicyRule, Resolved, Treatment, resolve};
use crate::addr::{DeviceName, Mac};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::Quirks;
use crate::model::filter::{
    Access, Action, Attribute, AttributeName, Chain, Direction, Element, Entry, Filter, Literal, Parameter, Protocol, Reference, Rule,
    Value,
};
use crate::model::interface::{Document, Interface};
use crate::model::learned::{Learned, Method};
use crate::parse::{Broken, BrokenKind, Parsed};
use crate::source::{FileId, Span, Spanned};

const MAC: &str = "52:54:00:56:44:32";

thread_local! {
    static NEXT: Cell<u32> = const { Cell::new(0) };
}

/// A place that no other value of this test has, after all places before it.
fn span() -> Span {
    let start = NEXT.replace(NEXT.get() + 1);
    Span { file: FileId(0), start, end: start + 1 }
}

fn here<T>(value: T) -> Spanned<T> {
    Spanned::new(value, span())
}

fn device(name: &str) -> DeviceName {
    DeviceName::new(name).expect("a device name")
}

fn mac(text: &str) -> Mac {
    Mac::parse(text).expect("an Ethernet address")
}

fn filter(name: &str, entries: Vec<Entry>) -> Filter {
    chained(name, "root", 0, entries)
}

fn chained(name: &str, chain: &str, priority: i16, entries: Vec<Entry>) -> Filter {
    Filter { name: here(name.into()), uuid: None, chain: Chain { name: chain.into(), priority }, entries, span: span() }
}

/// An outgoing drop with priority 500.
fn rule(protocol: Protocol, attributes: Vec<Attribute>) -> Entry {
    acting(Action::Drop, Direction::Out, 500, protocol, attributes)
}

fn acting(action: Action, direction: Direction, priority: i16, protocol: Protocol, attributes: Vec<Attribute>) -> Entry {
    Entry::Rule(Arc::new(Rule {
        action,
        direction,
        priority,
        state_match: true,
        protocol,
        attributes,
        overridden: Vec::new(),
        span: span(),
    }))
}

fn include(name: &str, parameters: &[(&str, &str)]) -> Entry {
    Entry::Reference(reference(name, parameters))
}

fn reference(name: &str, parameters: &[(&str, &str)]) -> Reference {
    let parameters =
        parameters.iter().map(|(name, value)| Parameter { name: here((*name).into()), value: here((*value).into()) }).collect();
    Reference { filter: here(name.into()), parameters, span: span() }
}

/// An attribute with a literal value.
fn lit(name: AttributeName, value: Literal) -> Attribute {
    Attribute { name, value: Value::Literal(value), negated: false, span: span() }
}

/// An attribute with `$NAME`, `$NAME[@n]` or `$NAME[n]`, given without the dollar.
fn var(name: AttributeName, access: &str) -> Attribute {
    let (variable, index) = access.trim_end_matches(']').split_once('[').unwrap_or((access, "@0"));
    let element = match index.strip_prefix('@') {
        Some(number) => Element::Iterated(number.parse().expect("a number")),
        None => Element::Fixed(index.parse().expect("a number")),
    };
    let access = Access { name: variable.into(), element };
    Attribute { name, value: Value::Variable(access), negated: false, span: span() }
}

fn tap(name: &str, filter: &str, parameters: &[(&str, &str)]) -> Interface {
    Interface {
        document: Document::Interface,
        owner: None,
        owner_uuid: None,
        device: Some(here(device(name))),
        mac: Some(here(mac(MAC))),
        network: None,
        filter: Some(reference(filter, parameters)),
        addresses: Vec::new(),
        span: span(),
    }
}

fn filters(filters: Vec<Filter>) -> Parsed {
    Parsed { filters, ..Parsed::default() }
}

fn interfaces(interfaces: Vec<Interface>) -> Parsed {
    Parsed { interfaces, ..Parsed::default() }
}

fn broken(what: BrokenKind) -> Parsed {
    Parsed { broken: vec![Broken { what, span: span() }], ..Parsed::default() }
}

fn fixed(documents: &[Parsed]) -> Resolved {
    resolve(documents, &[], &[], &Learned::default(), Quirks::Fixed)
}

fn link(name: &str, address: &str) -> Link {
    Link { device: device(name), mac: mac(address), kind: LinkKind::Other }
}

/// `vnet0` bound to the first of these filters.
fn bind(all: Vec<Filter>, parameters: &[(&str, &str)]) -> Resolved {
    bind_with(Quirks::Fixed, all, parameters)
}

fn bind_with(quirks: Quirks, all: Vec<Filter>, parameters: &[(&str, &str)]) -> Resolved {
    let top = all[0].name.value.to_string();
    resolve(&[filters(all), interfaces(vec![tap("vnet0", &top, parameters)])], &[], &[], &Learned::default(), quirks)
}

/// The rules of the only guest, one line each.
fn rules(resolved: &Resolved) -> Vec<String> {
    assert_eq!(codes(resolved), Vec::<&str>::new(), "{:#?}", resolved.diagnostics);
    let [guest] = &resolved.guests[..] else { panic!("expected one guest: {resolved:#?}") };
    guest_rules(guest)
}

fn guest_rules(guest: &GuestPolicy) -> Vec<String> {
    let Treatment::Filtered(rules) = &guest.treatment else { panic!("expected rules: {guest:#?}") };
    rules.iter().map(|rule| show(rule)).collect()
}

fn learning(resolved: &Resolved) -> &Method {
    assert_eq!(codes(resolved), Vec::<&str>::new(), "{:#?}", resolved.diagnostics);
    match &resolved.guests.iter().map(|guest| &guest.treatment).collect::<Vec<_>>()[..] {
        [Treatment::Learning(learning)] => &learning.claimant.method,
        other => panic!("expected a guest that learns: {other:#?}"),
    }
}

/// `CHAIN ACTION DIRECTION attribute=value ...`
fn show(rule: &PolicyRule) -> String {
    let mut text = format!("{} {:?} {:?}", rule.chain.name, rule.action, rule.direction).to_lowercase();
    for condition in &rule.conditions {
        let spec = rule.protocol.attribute(condition.name).expect("an attribute of its protocol");
        let value = match &condition.value {
            Literal::Number(number) => number.to_string(),
            Literal::Mac(mac) => mac.to_string(),
            Literal::Ipv4(address) => address.to_string(),
            Literal::Ipv6(address) => address.to_string(),
            Literal::Prefix(length) => format!("/{length}"),
            Literal::Range(first, last) => format!("{first}:{last}"),
            Literal::Text(text) => text.to_string(),
            other => format!("{other:?}"),
        };
        text.push_str(&[" ", if condition.negated { "!" } else { "" }, spec.xml, "=", &value].concat());
    }
    text
}

/// The codes of all diagnostics, in order.
fn codes(resolved: &Resolved) -> Vec<&'static str> {
    resolved.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

/// The held objects with the code that holds each, in order.
fn held(resolved: &Resolved) -> Vec<(String, &'static str)> {
    resolved.held.iter().map(|held| (held.object.to_string(), held.code)).collect()
}

/// The only diagnostic, which holds `vnet0`.
fn fault(resolved: &Resolved) -> &Diagnostic {
    let [diagnostic] = &resolved.diagnostics[..] else { panic!("expected one diagnostic: {:#?}", resolved.diagnostics) };
    assert_eq!(diagnostic.severity, Severity::Error);
    assert_eq!(held(resolved), [("interface `vnet0`".to_owned(), diagnostic.code)]);
    assert!(resolved.guests.is_empty());
    diagnostic
}
