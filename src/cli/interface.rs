//! `interface list` and `interface show`: the guest interfaces of the state, what guards them, and what their live rules have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::Exit;
use super::definition::{self, Place, place};
use super::options::{Format, InterfaceShow, List};
use super::settings::{Settings, block_on};
use super::table::{cell, table};
use crate::addr::{DeviceName, Mac};
use crate::backend::counters::{self, Counters};
use crate::diagnostic::visible;
use crate::model::interface::Interface;
use crate::model::learned::{Finding, Learned, Source, Until};
use crate::model::{Object, Quirks};
use crate::reconcile::compute::{self, Computed, Documents};
use crate::resolve::{Held, Treatment};
use crate::ruleset::ChainId;
use crate::source::Span;

/// Version 1 of `interface list --format json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    v: u32,
    interfaces: Vec<Row<'a>>,
}

/// Version 1 of `interface show --format json`.
#[derive(Debug, Serialize)]
struct Detail<'a> {
    v: u32,
    interface: &'a Row<'a>,
    chains: Vec<ChainRow>,
}

/// One interface: of several documents about it, the one that counts.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    /// `null` for an interface that is on no device.
    pub device: Option<String>,
    /// Its name.
    pub guest: Option<&'a str>,
    /// As the guest has it.
    pub mac: Option<String>,
    filter: Option<&'a str>,
    parameters: Vec<Parameter<'a>>,
    /// Those that the file gives.
    pub addresses: Vec<String>,
    /// Those that no file gives.
    learned: Vec<LearnedAddress>,
    /// By name.
    pub network: Option<&'a str>,
    state: State,
    /// Why it is held; else `null`.
    reason: Option<&'a str>,
    place: Place,
    /// The element that counts.
    #[serde(skip)]
    pub span: Span,
}

/// One value of one variable; a name that repeats makes a list.
#[derive(Debug, Clone, Copy, Serialize)]
struct Parameter<'a> {
    name: &'a str,
    value: &'a str,
}

/// An address that was learned.
#[derive(Debug, Serialize)]
struct LearnedAddress {
    address: String,
    /// The DHCP server that gave it; `null` for one that the guest used.
    server: Option<String>,
    /// Its end in seconds since 1970; `null` for one without.
    until: Option<u64>,
}

/// How an interface stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// Its filter's rules are wanted.
    Filtered,
    /// The interim rules are wanted until its address is known.
    Learning,
    /// Its definition is at fault: its last good rules stay, or it is closed.
    Held,
    /// It has no filter, and no rules.
    Unfiltered,
    /// It is on no device of this host, and has no rules.
    NoDevice,
}

/// One chain of an interface.
#[derive(Debug, Serialize)]
struct ChainRow {
    family: &'static str,
    table: &'static str,
    chain: String,
    /// Rules that the state wants in it.
    rules: usize,
    /// `null` when the kernel has no such chain or could not be asked.
    packets: Option<u64>,
    bytes: Option<u64>,
}

/// Lists every interface by device.
pub fn list(settings: &Settings, options: &List) -> anyhow::Result<Exit> {
    let (documents, computed, learned) = read(settings)?;
    let rows = rows(&documents, &computed, &learned, settings.config.quirks);
    let held = rows.iter().any(|row| row.state == State::Held);
    let text = match options.format {
        Format::Text => table(["DEVICE", "GUEST", "FILTER", "MAC", "ADDRESSES", "STATE", "WHERE"], rows.iter().map(cells)),
        Format::Json => visible::json(&Document { v: 1, interfaces: rows }),
    };
    settings.output.data(&text)?;
    Ok(if held { Exit::Attention } else { Exit::Done })
}

/// Prints all there is to know about one interface.
pub fn show(settings: &Settings, options: &InterfaceShow) -> anyhow::Result<Exit> {
    let (documents, computed, learned) = read(settings)?;
    let rows = rows(&documents, &computed, &learned, settings.config.quirks);
    let Some(row) = rows.iter().find(|row| row.device.as_deref() == Some(&*options.device)) else {
        let devices = rows.iter().filter_map(|row| row.device.as_deref());
        definition::explain_absence(settings.output, "interface", &options.device, devices);
        return Ok(Exit::Attention);
    };
    let chains = chains(settings, &computed, &options.device);
    let text = match options.format {
        Format::Text => detail(row, &chains),
        Format::Json => visible::json(&Detail { v: 1, interface: row, chains }),
    };
    settings.output.data(&text)?;
    Ok(if row.state == State::Held { Exit::Attention } else { Exit::Done })
}

/// The files as read and as compiled.
///
/// # Errors
/// When the state cannot be read.
pub fn read(settings: &Settings) -> anyhow::Result<(Documents, Computed, Learned)> {
    let loaded = settings.load()?;
    let links = block_on(async { Ok(settings.links().await) })?;
    // Both number the same files in the same order, so a span of one is a span of the other.
    let learned = settings.learned();
    Ok((compute::read(&loaded, settings.reading()), compute::compute(&loaded, &links, &learned, settings.reading()), learned))
}

/// Every interface, by device.
pub fn rows<'a>(documents: &'a Documents, computed: &'a Computed, learned: &Learned, quirks: Quirks) -> Vec<Row<'a>> {
    let interfaces: Vec<&Interface> = documents.parsed.iter().flat_map(|parsed| &parsed.interfaces).collect();
    let row = |interface: &'a Interface, device: Option<String>, state| row(interface, device, state, documents, quirks);
    let by_place = by_place(documents);
    // Of several reasons that hold a device the last is told.
    let held: BTreeMap<&DeviceName, &Held> = computed.resolved.held.iter().chain(&computed.compiled.held).filter_map(of_device).collect();
    let guests = &computed.resolved.guests;
    let mut known: BTreeSet<&DeviceName> = guests.iter().map(|guest| &guest.device).chain(held.keys().copied()).collect();
    let mut rows: Vec<Row> = Vec::new();
    for guest in guests.iter().filter(|guest| !held.contains_key(&guest.device)) {
        let state = match guest.treatment {
            Treatment::Filtered(_) => State::Filtered,
            Treatment::Learning(_) => State::Learning,
        };
        let written = by_place.get(&guest.place).copied();
        let known = guest.learning().and_then(|learning| learned.0.get(&learning.claimant));
        rows.extend(written.map(|interface| Row {
            learned: known.map_or_else(Vec::new, |known| known.findings.iter().map(LearnedAddress::of).collect()),
            ..row(interface, Some(guest.device.to_string()), state)
        }));
    }
    let mut by_device: BTreeMap<&DeviceName, &Interface> = BTreeMap::new();
    for interface in &interfaces {
        if let Some(device) = &interface.device {
            by_device.entry(&device.value).or_insert(interface);
        }
    }
    for (device, held) in held {
        let written = by_device.get(device).copied();
        let mut row = written.map_or_else(|| unreadable(held.span, documents), |interface| row(interface, None, State::Held));
        (row.device, row.reason) = (Some(device.to_string()), Some(held.message.as_str()));
        rows.push(row);
    }
    let placed: BTreeSet<Span> = guests.iter().map(|guest| guest.place).collect();
    let told: BTreeSet<Mac> = guests.iter().map(|guest| guest.mac).collect();
    for interface in interfaces.into_iter().filter(|interface| !placed.contains(&interface.span)) {
        match &interface.device {
            Some(device) if !known.insert(&device.value) => {}
            Some(device) => rows.push(row(interface, Some(device.value.to_string()), State::Unfiltered)),
            // A domain's interface whose device another document names: the address tells.
            None if interface.mac.is_some_and(|mac| told.contains(&mac.value)) => {}
            None => rows.push(row(interface, None, State::NoDevice)),
        }
    }
    rows.sort_by(|one, other| (one.device.is_none(), &one.device).cmp(&(other.device.is_none(), &other.device)));
    rows
}

/// Interfaces that are sound by where they are written.
pub fn by_place(documents: &Documents) -> BTreeMap<Span, &Interface> {
    documents.parsed.iter().flat_map(|parsed| &parsed.interfaces).map(|interface| (interface.span, interface)).collect()
}

fn of_device(held: &Held) -> Option<(&DeviceName, &Held)> {
    if let Object::Interface(device) = &held.object { Some((device, held)) } else { None }
}

fn row<'a>(interface: &'a Interface, device: Option<String>, state: State, documents: &Documents, quirks: Quirks) -> Row<'a> {
    let parameters = interface.filter.iter().flat_map(|filter| &filter.parameters);
    let parameters: Vec<Parameter> =
        parameters.map(|parameter| Parameter { name: &parameter.name.value, value: &parameter.value.value }).collect();
    let given = |name: &str| -> Vec<String> {
        parameters.iter().filter(|parameter| parameter.name == name).map(|parameter| parameter.value.to_owned()).collect()
    };
    let of_family = |name: &str, is_v4: bool| match (given(name), quirks) {
        (given, Quirks::Fixed) if given.is_empty() => {
            interface.addresses.iter().filter(|one| one.value.is_ipv4() == is_v4).map(|one| one.value.to_string()).collect()
        }
        (given, _) => given,
    };
    Row {
        device,
        guest: interface.owner.as_deref(),
        mac: interface.mac.map(|mac| mac.value.to_string()),
        filter: interface.filter.as_ref().map(|filter| &*filter.filter.value),
        addresses: [of_family("IP", true), of_family("IPV6", false)].concat(),
        parameters,
        learned: Vec::new(),
        network: interface.network.as_ref().map(|network| &*network.value),
        state,
        reason: None,
        place: place(interface.span, &documents.sources),
        span: interface.span,
    }
}

/// An interface of whose document only the device could be read.
fn unreadable<'a>(span: Span, documents: &Documents) -> Row<'a> {
    Row {
        device: None,
        guest: None,
        mac: None,
        filter: None,
        parameters: Vec::new(),
        addresses: Vec::new(),
        learned: Vec::new(),
        network: None,
        state: State::Held,
        reason: None,
        place: place(span, &documents.sources),
        span,
    }
}

/// The chains that the state wants for a device, with what the kernel's have seen.
fn chains(settings: &Settings, computed: &Computed, device: &str) -> Vec<ChainRow> {
    let wanted = computed.compiled.objects.iter().find(|(object, _)| matches!(object, Object::Interface(own) if own.as_str() == device));
    let Some((_, rules)) = wanted else { return Vec::new() };
    let live = block_on(async { Ok(counters::counters(&settings.system().await).await) });
    let live = live.unwrap_or_else(|error| Err(error.to_string())).unwrap_or_else(|reason| {
        settings.output.message(&format!("note: the counters cannot be read: {reason}"));
        BTreeMap::new()
    });
    let row = |(chain, rules): (&ChainId, &Vec<_>)| {
        let seen: Option<&Counters> = live.get(chain);
        ChainRow {
            family: chain.family.tool(),
            table: chain.table.as_str(),
            chain: chain.chain.to_string(),
            rules: rules.len(),
            packets: seen.map(|seen| seen.packets),
            bytes: seen.map(|seen| seen.bytes),
        }
    };
    rules.chains.iter().map(row).collect()
}

fn detail(row: &Row<'_>, chains: &[ChainRow]) -> String {
    let parameters = row.parameters.iter().map(|parameter| format!("{}={}", parameter.name, parameter.value));
    let filter = row.filter.map(str::to_owned).into_iter().chain(parameters).collect::<Vec<_>>().join(" ");
    let state = row.reason.map_or_else(|| row.state.word().to_owned(), |reason| format!("{}: {reason}", row.state.word()));
    let mut text = String::new();
    for (name, value) in [
        ("device", row.device.clone().unwrap_or_default()),
        ("guest", row.guest.unwrap_or_default().to_owned()),
        ("mac", row.mac.clone().unwrap_or_default()),
        ("filter", filter),
        ("addresses", row.all_addresses()),
        ("network", row.network.unwrap_or_default().to_owned()),
        ("state", state),
        ("where", row.place.to_string()),
    ] {
        writeln!(text, "{name:10}  {}", cell(&value)).expect("a string takes everything");
    }
    if !chains.is_empty() {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let cells = |row: &ChainRow| {
            let chain = format!("{} {} {}", row.family, row.table, row.chain);
            [chain, row.rules.to_string(), number(row.packets), number(row.bytes)]
        };
        text.push('\n');
        text += &table(["CHAIN", "RULES", "PACKETS", "BYTES"], chains.iter().map(cells));
    }
    text
}

fn cells(row: &Row<'_>) -> [String; 7] {
    [
        row.device.clone().unwrap_or_default(),
        row.guest.unwrap_or_default().to_owned(),
        row.filter.unwrap_or_default().to_owned(),
        row.mac.clone().unwrap_or_default(),
        row.all_addresses(),
        row.state.word().to_owned(),
        row.place.to_string(),
    ]
}

impl Row<'_> {
    /// Those that files give, and those that were learned.
    pub fn all_addresses(&self) -> String {
        let learned = self.learned.iter().map(|learned| format!("{} (learned)", learned.address));
        self.addresses.iter().cloned().chain(learned).collect::<Vec<_>>().join(", ")
    }
}

impl LearnedAddress {
    fn of(finding: &Finding) -> Self {
        Self {
            address: finding.address.to_string(),
            server: if let Source::Lease(server) = finding.source { Some(server.to_string()) } else { None },
            until: if let Until::Second(end) = finding.until { Some(end) } else { None },
        }
    }
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::Learning => "learning",
            Self::Held => "held",
            Self::Unfiltered => "unfiltered",
            Self::NoDevice => "no device",
        }
    }
}
