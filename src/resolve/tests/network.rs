//! Which networks count, and which clash (networks.md 2.4 and 2.5).

use uuid::Uuid;

use super::*;
use crate::model::Object;
use crate::model::network::{Document as Kind, Forward, Network};

fn network(name: &str, uuid: u128, bridge: &str) -> Network {
    Network {
        name: here(name.to_owned()),
        uuid: (uuid > 0).then(|| here(Uuid::from_u128(uuid))),
        document: Kind::Definition,
        bridge: Some(here(device(bridge))),
        forward: Forward::Isolated,
        ipv6: false,
        addresses: Vec::new(),
        span: span(),
    }
}

fn status(name: &str, uuid: u128, bridge: &str) -> Network {
    Network { document: Kind::Status, ..network(name, uuid, bridge) }
}

fn settle(networks: Vec<Network>) -> Resolved {
    fixed(&networks.into_iter().map(|network| Parsed { networks: vec![network], ..Parsed::default() }).collect::<Vec<_>>())
}

fn names(resolved: &Resolved) -> Vec<&str> {
    resolved.networks.iter().map(|network| &*network.name).collect()
}

fn held_networks(resolved: &Resolved) -> Vec<String> {
    resolved.held.iter().map(|held| held.object.to_string()).collect()
}

#[test]
fn networks_are_policies_by_name() {
    let resolved = settle(vec![network("lab", 1, "virbr1"), network("dmz", 2, "virbr2")]);
    assert_eq!(names(&resolved), ["dmz", "lab"]);
    assert_eq!(codes(&resolved), Vec::<&str>::new());
    assert!(!resolved.incomplete);
}

#[test]
fn open_networks_stay_and_external_ones_go() {
    let with = |name, forward| Network { forward, ..network(name, 0, name) };
    assert_eq!(names(&settle(vec![with("open", Forward::Open { span: span() }), with("ext", Forward::External)])), ["open"]);
}

#[test]
fn two_files_of_one_name_are_refused_at_both_places() {
    let pair = vec![network("lab", 1, "virbr1"), network("lab", 2, "virbr2")];
    let places = [pair[1].name.span, pair[0].name.span];
    let resolved = settle(pair);
    assert_eq!(codes(&resolved), ["duplicate-network"]);
    assert_eq!(resolved.diagnostics[0].labels.iter().map(|label| label.span).collect::<Vec<_>>(), places);
    assert_eq!(held_networks(&resolved), ["network `lab`"]);
    assert!(resolved.networks.is_empty());
}

#[test]
fn names_are_not_trimmed() {
    assert_eq!(names(&settle(vec![network("lab", 1, "virbr1"), network("lab ", 2, "virbr2")])), ["lab", "lab "]);
}

#[test]
fn one_uuid_under_two_names_holds_both() {
    let resolved = settle(vec![network("a", 1, "virbr1"), network("b", 1, "virbr2"), network("c", 3, "virbr3")]);
    assert_eq!(codes(&resolved), ["duplicate-network-uuid"]);
    assert_eq!(held_networks(&resolved), ["network `a`", "network `b`"]);
    assert_eq!(names(&resolved), ["c"]);
}

#[test]
fn one_bridge_under_two_networks_holds_both() {
    let resolved = settle(vec![network("a", 1, "virbr1"), network("b", 2, "virbr1")]);
    assert_eq!(codes(&resolved), ["duplicate-bridge"]);
    assert_eq!(held_networks(&resolved), ["network `a`", "network `b`"]);
}

#[test]
fn external_networks_may_share_a_bridge() {
    let external = |name| Network { forward: Forward::External, ..network(name, 0, "br0") };
    assert_eq!(codes(&settle(vec![external("a"), external("b")])), Vec::<&str>::new());
}

#[test]
fn a_status_document_supersedes_the_definition_with_its_uuid() {
    let resolved = settle(vec![network("lab", 1, "virbr1"), status("lab", 1, "virbr7")]);
    assert_eq!(codes(&resolved), Vec::<&str>::new());
    assert_eq!(resolved.networks[0].bridge.as_str(), "virbr7");
}

#[test]
fn a_status_document_with_another_uuid_is_a_clash() {
    let resolved = settle(vec![network("lab", 1, "virbr1"), status("lab", 2, "virbr1")]);
    assert_eq!(codes(&resolved), ["duplicate-network"]);
    assert!(resolved.networks.is_empty());
}

#[test]
fn where_a_status_document_is_given_networks_without_one_are_inactive() {
    let resolved = settle(vec![network("off", 2, "virbr1"), status("lab", 1, "virbr1")]);
    assert_eq!(names(&resolved), ["lab"]);
    assert_eq!(codes(&resolved), ["inactive-network"]);
    assert_eq!(resolved.diagnostics[0].severity, Severity::Note);
    assert!(resolved.held.is_empty());
}

#[test]
fn a_broken_network_is_held_with_the_error_that_broke_it() {
    let mut document = broken(BrokenKind::Object(Object::Network("lab".into())));
    document.diagnostics = vec![
        Diagnostic::warning("unknown-attribute", "an attribute", span(), ""),
        Diagnostic::error("bad-prefix", "a prefix of `99`", span(), "expected 0 to 32"),
    ];
    let good = Parsed { networks: vec![network("lab", 1, "virbr1"), network("dmz", 2, "virbr2")], ..Parsed::default() };
    let resolved = fixed(&[document, good]);
    assert!(resolved.incomplete);
    assert_eq!(held(&resolved), [("network `lab`".to_owned(), "bad-prefix")]);
    assert_eq!(names(&resolved), ["dmz"]);
}

#[test]
fn a_file_of_which_nothing_could_be_told_makes_the_policy_incomplete() {
    let resolved = fixed(&[broken(BrokenKind::Unknown)]);
    assert!(resolved.incomplete);
    assert!(resolved.held.is_empty());
}

#[test]
fn a_network_that_became_external_has_no_rules_unless_a_broken_file_may_define_it() {
    let external = || Parsed { networks: vec![Network { forward: Forward::External, ..network("lab", 1, "br0") }], ..Parsed::default() };
    let unruled = |what| fixed(&[external(), broken(what)]).unruled.len();
    assert_eq!(unruled(BrokenKind::Filter("web".into())), 1);
    assert_eq!(unruled(BrokenKind::Object(Object::Interface(device("vnet0")))), 1);
    assert_eq!(unruled(BrokenKind::Object(Object::Network("lab".into()))), 0);
    assert_eq!(unruled(BrokenKind::Object(Object::Network("dmz".into()))), 0, "its status may have this one's UUID");
    assert_eq!(unruled(BrokenKind::Unknown), 0);
}

#[test]
fn a_bridge_is_no_guests_device() {
    let documents = [
        Parsed { networks: vec![network("lab", 1, "virbr1")], ..Parsed::default() },
        filters(vec![filter("f", Vec::new())]),
        interfaces(vec![tap("virbr1", "f", &[])]),
    ];
    let resolved = fixed(&documents);
    assert_eq!(codes(&resolved), ["bridge-as-tap"]);
    assert_eq!(held_networks(&resolved), ["network `lab`", "interface `virbr1`"]);
    assert!(resolved.networks.is_empty() && resolved.guests.is_empty());
}
