//! `graph`: the host as the state describes it, as a picture.

use super::Exit;
use super::definition;
use super::filter::by_name;
use super::interface::{self, read};
use super::options::{Graph, GraphOption};
use super::settings::Settings;
use crate::addr::DeviceName;
use crate::graph::host::{self, Guest, Host};
use crate::graph::{self, Notation};
use crate::model::Object;
use crate::model::learned::Learned;
use crate::model::network::{Document, Network};
use crate::reconcile::compute::{Computed, Documents};

/// Runs the command.
pub fn graph(settings: &Settings, options: &Graph) -> anyhow::Result<Exit> {
    let (documents, computed, learned) = read(settings)?;
    let host = host(&documents, &computed, &learned, settings);
    if let Some(unknown) = options.names.iter().find(|name| !is_known(&host, name)) {
        let networks = host.networks.iter().map(|network| network.name.value.as_str());
        let guests = host.guests.iter().flat_map(|guest| [Some(guest.device.as_str()), guest.owner]).flatten();
        definition::explain_absence(
            settings.output,
            "network, guest, interface or filter",
            unknown,
            networks.chain(guests).chain(host.filters.keys().copied()),
        );
        return Ok(Exit::Attention);
    }
    settings.output.data(&text(&host::draw(&host, &options.names), options.format))?;
    Ok(if computed.has_errors() { Exit::Attention } else { Exit::Done })
}

/// A picture in a notation.
pub fn text(picture: &graph::Graph, notation: GraphOption) -> String {
    picture.write(match notation {
        GraphOption::Dot => Notation::Dot,
        GraphOption::Mermaid => Notation::Mermaid,
        GraphOption::Svg => Notation::Svg,
    })
}

fn is_known(host: &Host<'_>, name: &str) -> bool {
    host.networks.iter().any(|network| network.name.value == name)
        || host.guests.iter().any(|guest| guest.device == name || guest.owner == Some(name))
        || host.filters.contains_key(name)
}

fn host<'a>(documents: &'a Documents, computed: &'a Computed, learned: &Learned, settings: &Settings) -> Host<'a> {
    let mut networks: Vec<&Network> = documents.parsed.iter().flat_map(|parsed| &parsed.networks).collect();
    // Of a running network's two documents the one that tells how it runs.
    networks.sort_by_key(|network| (&network.name.value, network.document != Document::Status, network.span));
    networks.dedup_by_key(|network| &network.name.value);
    let interfaces = interface::by_place(documents);
    let guests = interface::rows(documents, computed, learned, settings.config.quirks).into_iter().filter_map(|row| {
        let addresses = row.all_addresses();
        let device = row.device?;
        let written = interfaces.get(&row.span);
        let own = DeviceName::new(&device).and_then(|device| computed.compiled.objects.get(&Object::Interface(device)));
        let chains = own.into_iter().flat_map(|rules| rules.chains.keys());
        Some(Guest {
            owner: row.guest,
            network: row.network,
            filter: written.and_then(|interface| interface.filter.as_ref()),
            remarks: [row.mac.unwrap_or_default(), addresses].into_iter().filter(|text| !text.is_empty()).collect(),
            chains: chains.map(|chain| format!("{} {} {}", chain.family, chain.table, chain.chain)).collect(),
            device,
        })
    });
    Host { networks, guests: guests.collect(), filters: by_name(documents) }
}
