//! `network list` and `network show`: the networks that the state defines, as a list and as XML.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Exit;
use super::definition::{self, Definition, Kind, Place, Standing, Users, place};
use super::options::{Format, List, NetworkShow};
use super::settings::Settings;
use super::table::table;
use crate::diagnostic::{few, visible};
use crate::model::network::{Forward, Network};
use crate::reconcile::compute::Documents;
use crate::source::Span;

/// Version 1 of `network list --format json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    v: u32,
    networks: Vec<Row<'a>>,
}

/// One document about a network: a running network of libvirt has two.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    uuid: Option<String>,
    /// `null` for a broken network.
    mode: Option<&'static str>,
    bridge: Option<&'a str>,
    addresses: Vec<String>,
    place: Place,
    /// True for a status document of libvirt.
    status: bool,
    broken: bool,
    used_by: Users<'a>,
}

/// Lists every network by name.
pub fn list(settings: &Settings, options: &List) -> anyhow::Result<Exit> {
    let documents = settings.read()?;
    let rows = rows(&documents);
    let broken = rows.iter().any(|row| row.broken);
    let text = match options.format {
        Format::Text => table(["NAME", "UUID", "MODE", "BRIDGE", "ADDRESSES", "WHERE", "USED BY"], rows.iter().map(cells)),
        Format::Json => visible::json(&Document { v: 1, networks: rows }),
    };
    settings.output.data(&text)?;
    Ok(if broken { Exit::Attention } else { Exit::Done })
}

/// Prints one network: its definition, and its status document only where there is nothing else.
pub fn show(settings: &Settings, options: &NetworkShow) -> anyhow::Result<Exit> {
    let documents = settings.read()?;
    let definitions = Kind::Network.definitions(&documents.parsed);
    let named = definitions.iter().filter(|definition| definition.name == options.name);
    match named.min_by_key(|definition| (definition.standing == Standing::Status, definition.span)) {
        None => {
            let names = definitions.iter().map(|definition| definition.name);
            definition::explain_absence(settings.output, "network", &options.name, names);
            Ok(Exit::Attention)
        }
        Some(Definition { span, standing: Standing::Broken, .. }) => {
            definition::explain_fault(settings.output, &documents, *span);
            Ok(Exit::Attention)
        }
        Some(Definition { span, .. }) => {
            settings.output.data(&definition::xml(*span, &documents.sources))?;
            Ok(Exit::Done)
        }
    }
}

fn rows(documents: &Documents) -> Vec<Row<'_>> {
    let users = Kind::Network.users(documents);
    let networks: BTreeMap<Span, &Network> =
        documents.parsed.iter().flat_map(|parsed| &parsed.networks).map(|network| (network.span, network)).collect();
    let mut definitions = Kind::Network.definitions(&documents.parsed);
    definitions.sort_by_key(|definition| (definition.name, definition.span));
    let rows = definitions.into_iter().map(|definition| {
        let network = networks.get(&definition.span).copied();
        Row {
            name: definition.name,
            uuid: definition.uuid.map(|uuid| uuid.to_string()),
            mode: network.map(|network| mode(&network.forward)),
            bridge: network.and_then(|network| Some(network.bridge.as_ref()?.value.as_str())),
            addresses: network.into_iter().flat_map(|network| &network.addresses).map(|one| one.address.to_string()).collect(),
            place: place(definition.span, &documents.sources),
            status: definition.standing == Standing::Status,
            broken: definition.standing == Standing::Broken,
            used_by: users.get(definition.name).cloned().unwrap_or_default(),
        }
    });
    rows.collect()
}

/// The word of `forward/@mode`; of what is somebody else's bridge there are several.
fn mode(forward: &Forward) -> &'static str {
    match forward {
        Forward::Isolated => "isolated",
        Forward::Nat(_) => "nat",
        Forward::Route { .. } => "route",
        Forward::Open { .. } => "open",
        Forward::External => "external",
    }
}

fn cells(row: &Row<'_>) -> [String; 7] {
    let remark = match (row.broken, row.status) {
        (true, _) => " (broken)",
        (false, true) => " (status)",
        (false, false) => "",
    };
    [
        row.name.to_owned(),
        row.uuid.clone().unwrap_or_default(),
        row.mode.unwrap_or_default().to_owned(),
        row.bridge.unwrap_or_default().to_owned(),
        few(row.addresses.iter()),
        format!("{}{remark}", row.place),
        row.used_by.text(),
    ]
}
