//! Networks of all files to the policies of those that are active.
//!
//! Reference: networks.md 2.4 (clashes) and 2.5. Status documents win over definitions; whatever else claims a name, a UUID or a
//! bridge twice is refused at both places. Addresses that overlap between networks are no clash, as in libvirt.

use std::collections::BTreeSet;

use super::NetworkPolicy;
use super::finding::{Findings, groups};
use crate::diagnostic::Diagnostic;
use crate::model::Object;
use crate::model::network::{Document, Forward, Network};
use crate::parse::Parsed;
use crate::source::Span;

/// The networks that count: superseded definitions and inactive networks are gone, clashes are held.
///
/// External networks are still among them, because their bridges matter to whoever looks for taps.
pub(super) fn settle<'a>(documents: &[&'a Parsed], findings: &mut Findings) -> Vec<&'a Network> {
    let mut networks: Vec<&Network> = documents.iter().flat_map(|document| &document.networks).collect();
    networks.sort_by_key(|network| network.span);
    let networks = drop_superseded(networks);
    refuse_shared_names(&networks, findings);
    refuse_shared_uuids(&networks, findings);
    let active = drop_inactive(networks, findings);
    refuse_shared_bridges(&active, findings);
    active
}

/// The policies of the networks that have rules of their own and are not held, by name.
pub(super) fn policies(networks: &[&Network], findings: &Findings) -> Vec<NetworkPolicy> {
    let mut policies: Vec<NetworkPolicy> = networks
        .iter()
        .filter(|network| network.forward != Forward::External && !findings.is_held(&object(network)))
        .filter_map(|network| policy(network))
        .collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    policies
}

/// `None` only without a bridge, which the parser refuses in every mode that gets here.
fn policy(network: &Network) -> Option<NetworkPolicy> {
    Some(NetworkPolicy {
        name: network.name.value.as_str().into(),
        bridge: network.bridge.as_ref()?.value.clone(),
        forward: network.forward.clone(),
        ipv6: network.ipv6,
        addresses: network.addresses.clone(),
        place: network.span,
    })
}

/// A network as an object.
pub(super) fn object(network: &Network) -> Object {
    Object::Network(network.name.value.clone())
}

/// A running network is what its status says, not what its definition will make of it at the next start.
fn drop_superseded(networks: Vec<&Network>) -> Vec<&Network> {
    let running: BTreeSet<_> = networks
        .iter()
        .filter(|network| network.document == Document::Status)
        .filter_map(|network| network.uuid.map(|uuid| uuid.value))
        .collect();
    networks
        .into_iter()
        .filter(|network| network.document == Document::Status || network.uuid.is_none_or(|uuid| !running.contains(&uuid.value)))
        .collect()
}

/// Where status documents are given at all, a definition without one is a network that does not run.
fn drop_inactive<'a>(networks: Vec<&'a Network>, findings: &mut Findings) -> Vec<&'a Network> {
    let Some(status) = networks.iter().find(|network| network.document == Document::Status).map(|network| network.span) else {
        return networks;
    };
    let (active, inactive): (Vec<_>, Vec<_>) = networks.into_iter().partition(|network| network.document == Document::Status);
    for network in inactive {
        if !findings.is_held(&object(network)) {
            findings.report(inactive_network(network, status));
        }
    }
    active
}

fn refuse_shared_names(networks: &[&Network], findings: &mut Findings) {
    for group in groups(networks, |network| Some(&network.name.value)) {
        for again in &group[1..] {
            let message = format!("network `{}` is defined twice", again.name.value);
            let fault = Diagnostic::error("duplicate-network", message, again.name.span, "defined again here")
                .also(group[0].name.span, "first defined here")
                .help(duplicate_help(group[0], again));
            findings.refuse([object(again)], fault);
        }
    }
}

fn refuse_shared_uuids(networks: &[&Network], findings: &mut Findings) {
    for group in groups(networks, |network| network.uuid.map(|uuid| uuid.value)) {
        let first = group[0];
        // Networks of one name have been refused already.
        for again in group[1..].iter().filter(|network| network.name.value != first.name.value) {
            let message = format!("networks `{}` and `{}` have the same UUID", first.name.value, again.name.value);
            let fault = Diagnostic::error("duplicate-network-uuid", message, uuid_span(again), "used again here")
                .also(uuid_span(first), "first used here")
                .help("give one of the two a UUID of its own, or remove its file");
            findings.refuse([object(first), object(again)], fault);
        }
    }
}

fn refuse_shared_bridges(networks: &[&Network], findings: &mut Findings) {
    let own: Vec<&Network> = networks.iter().copied().filter(|network| network.forward != Forward::External).collect();
    for group in groups(&own, |network| network.bridge.as_ref().map(|bridge| &bridge.value)) {
        let first = group[0];
        for again in group[1..].iter().filter(|network| network.name.value != first.name.value) {
            let bridge = again.bridge.as_ref().expect("grouped by its bridge");
            let message = format!("networks `{}` and `{}` have the same bridge `{}`", first.name.value, again.name.value, bridge.value);
            let fault = Diagnostic::error("duplicate-bridge", message, bridge.span, "used again here")
                .also(first.bridge.as_ref().expect("grouped by its bridge").span, "first used here")
                .help("give every network a bridge of its own");
            findings.refuse([object(first), object(again)], fault);
        }
    }
}

fn uuid_span(network: &Network) -> Span {
    network.uuid.map_or(network.span, |uuid| uuid.span)
}

fn duplicate_help(first: &Network, again: &Network) -> &'static str {
    if first.document == again.document {
        return "remove one of the two files, or give its network another name";
    }
    "a status document supersedes the definition with its UUID: give both the same `<uuid>`"
}

fn inactive_network(network: &Network, status: Span) -> Diagnostic {
    let message = format!("network `{}` is not running and has no rules", network.name.value);
    Diagnostic::note("inactive-network", message, network.name.span, "no status document is about this network")
        .also(status, "status documents are given, for example this one")
        .help("start the network, or leave the directory of status documents out of the state")
}
