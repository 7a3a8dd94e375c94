//! The picture of a host: its networks, its guest interfaces with their chains, the filters, and what hangs on what.
//!
//! What goes in is what the state defines; what comes out may be narrowed to some names and what hangs on them. Filters that nobody
//! uses are left out unless they are asked for: the stock filters alone would fill a page.

use std::collections::{BTreeMap, BTreeSet};

use super::filter::Filters;
use super::{BoxId, Graph, Line};
use crate::model::filter::{Entry, Filter, Reference};
use crate::model::network::{Forward, Network};

/// How many chains of one interface are named.
const CHAIN_LIMIT: usize = 24;

/// What there is to draw.
#[derive(Debug, Clone, Default)]
pub struct Host<'a> {
    /// One entry per network.
    pub networks: Vec<&'a Network>,
    /// One entry per guest interface.
    pub guests: Vec<Guest<'a>>,
    /// Filters by name.
    pub filters: Filters<'a>,
}

/// One guest interface.
#[derive(Debug, Clone)]
pub struct Guest<'a> {
    /// Its host-side device.
    pub device: String,
    /// The guest's name.
    pub owner: Option<&'a str>,
    /// The network that it is plugged into, by name.
    pub network: Option<&'a str>,
    /// Its filter.
    pub filter: Option<&'a Reference>,
    /// What else there is to say, such as its addresses.
    pub remarks: Vec<String>,
    /// Its chains, as `TOOL TABLE CHAIN`.
    pub chains: Vec<String>,
}

/// Draws what has one of these names and what hangs together with it, or everything without names.
pub fn draw(host: &Host<'_>, names: &[String]) -> Graph {
    let mut graph = Graph::new("bridgeward");
    let is_named = |name: &str| names.iter().any(|wanted| wanted == name);
    let network_is_asked = |network: Option<&str>| network.is_some_and(is_named);
    let guests: Vec<&Guest> = host
        .guests
        .iter()
        .filter(|guest| {
            names.is_empty()
                || is_named(&guest.device)
                || guest.owner.is_some_and(is_named)
                || network_is_asked(guest.network)
                || guest.filter.is_some_and(|filter| is_named(&filter.filter.value))
        })
        .collect();
    let plugged: BTreeSet<&str> = guests.iter().filter_map(|guest| guest.network).collect();
    graph.begin_group("Networks");
    let mut networks = BTreeMap::new();
    for network in &host.networks {
        let name = network.name.value.as_str();
        if names.is_empty() || is_named(name) || plugged.contains(name) {
            networks.insert(name, graph.add_box(network_lines(network)));
        }
    }
    graph.begin_group("Guest interfaces and their chains");
    let boxes: Vec<BoxId> = guests.iter().map(|guest| graph.add_box(guest_lines(guest))).collect();
    graph.begin_group("Filters");
    let mut filters: BTreeMap<&str, BoxId> = BTreeMap::new();
    let asked = host.filters.keys().copied().filter(|name| is_named(name));
    let used = guests.iter().filter_map(|guest| guest.filter).map(|filter| &*filter.filter.value);
    for name in asked.chain(used) {
        draw_filter(&mut graph, name, &host.filters, &mut filters);
    }
    for (guest, &from) in guests.iter().zip(&boxes) {
        if let Some(&network) = guest.network.and_then(|network| networks.get(network)) {
            graph.add_arrow(network, from, Line::Solid, "");
        }
        if let Some(reference) = guest.filter {
            graph.add_arrow(from, filters[&*reference.filter.value], Line::Solid, "");
        }
    }
    graph.groups.retain(|group| !group.boxes.is_empty());
    graph
}

/// A filter and all that it includes, each once.
fn draw_filter<'a>(graph: &mut Graph, name: &'a str, all: &Filters<'a>, drawn: &mut BTreeMap<&'a str, BoxId>) {
    if drawn.contains_key(name) {
        return;
    }
    drawn.insert(name, graph.add_box(filter_lines(name, all.get(name).copied())));
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        let from = drawn[name];
        for reference in all.get(name).into_iter().flat_map(|filter| &filter.entries).filter_map(reference) {
            let included = &*reference.filter.value;
            if !drawn.contains_key(included) {
                drawn.insert(included, graph.add_box(filter_lines(included, all.get(included).copied())));
                open.push(included);
            }
            graph.add_arrow(from, drawn[included], Line::Dashed, "");
        }
    }
}

fn reference(entry: &Entry) -> Option<&Reference> {
    if let Entry::Reference(reference) = entry { Some(reference) } else { None }
}

fn network_lines(network: &Network) -> Vec<String> {
    let mode = match &network.forward {
        Forward::Isolated => "isolated".to_owned(),
        Forward::Nat(nat) => nat.device.as_ref().map_or("nat".to_owned(), |device| format!("nat to {}", device.value)),
        Forward::Route { device, .. } => device.as_ref().map_or("route".to_owned(), |device| format!("route to {}", device.value)),
        Forward::Open { .. } => "open: no rules".to_owned(),
        Forward::External => "somebody else's bridge: no rules".to_owned(),
    };
    let mut lines = vec![network.name.value.clone(), mode];
    lines.extend(network.bridge.as_ref().map(|bridge| format!("bridge {}", bridge.value)));
    lines.extend(network.addresses.iter().map(|address| address.address.to_string()));
    lines
}

fn guest_lines(guest: &Guest<'_>) -> Vec<String> {
    let name = guest.owner.map_or_else(|| guest.device.clone(), |owner| format!("{} ({owner})", guest.device));
    let mut lines = vec![name];
    lines.extend(guest.remarks.iter().cloned());
    if guest.filter.is_none() {
        lines.push("no filter: no rules".to_owned());
    }
    lines.extend(guest.chains.iter().take(CHAIN_LIMIT).cloned());
    if guest.chains.len() > CHAIN_LIMIT {
        lines.push(format!("and {} more chains", guest.chains.len() - CHAIN_LIMIT));
    }
    lines
}

fn filter_lines(name: &str, filter: Option<&Filter>) -> Vec<String> {
    let Some(filter) = filter else { return vec![name.to_owned(), "there is no such filter".to_owned()] };
    let rules = filter.entries.iter().filter(|entry| matches!(entry, Entry::Rule(_))).count();
    let chain = &filter.chain;
    vec![name.to_owned(), format!("chain {}, {}", chain.name, crate::diagnostic::several(rules, "rule"))]
}
