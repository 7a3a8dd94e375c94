//! `filter list` and `filter show`: the filters that the state and the program itself define, as a list, as XML and as pictures.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Exit;
use super::definition::{self, Kind, Place, Standing, Users, place};
use super::graph;
use super::options::{FilterShow, Format, List};
use super::settings::Settings;
use super::table::table;
use crate::diagnostic::visible;
use crate::graph as picture;
use crate::model::filter::Filter;
use crate::reconcile::compute::Documents;

/// Version 1 of `filter list --format json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    v: u32,
    filters: Vec<Row<'a>>,
}

/// One filter.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    uuid: Option<String>,
    /// `null` for a broken filter.
    chain: Option<&'a str>,
    priority: Option<i16>,
    place: Place,
    stock: bool,
    broken: bool,
    used_by: Users<'a>,
}

/// Lists every filter by name.
pub fn list(settings: &Settings, options: &List) -> anyhow::Result<Exit> {
    let documents = settings.read()?;
    let rows = rows(&documents);
    let broken = rows.iter().any(|row| row.broken);
    let text = match options.format {
        Format::Text => table(["NAME", "UUID", "WHERE", "USED BY"], rows.iter().map(cells)),
        Format::Json => visible::json(&Document { v: 1, filters: rows }),
    };
    settings.output.data(&text)?;
    Ok(if broken { Exit::Attention } else { Exit::Done })
}

/// Prints one filter.
pub fn show(settings: &Settings, options: &FilterShow) -> anyhow::Result<Exit> {
    let documents = settings.read()?;
    let filters = by_name(&documents);
    let broken =
        Kind::Filter.definitions(&documents.parsed).into_iter().find(|one| one.name == options.name && one.standing == Standing::Broken);
    if let Some(broken) = broken {
        definition::explain_fault(settings.output, &documents, broken.span);
        return Ok(Exit::Attention);
    }
    let Some(filter) = filters.get(&*options.name) else {
        definition::explain_absence(settings.output, "filter", &options.name, filters.keys().copied());
        return Ok(Exit::Attention);
    };
    let text = match options.graph {
        None => definition::xml(filter.span, &documents.sources),
        Some(notation) => graph::text(&picture::filter::draw(filter, &filters, &documents.sources), notation),
    };
    settings.output.data(&text)?;
    Ok(Exit::Done)
}

/// Filters by name: those of files, the first by place where several claim a name, before stock filters.
pub fn by_name(documents: &Documents) -> picture::filter::Filters<'_> {
    let mut filters = BTreeMap::new();
    for filter in own(documents).into_iter().chain(&documents.stock) {
        filters.entry(&*filter.name.value).or_insert(filter);
    }
    filters
}

fn own(documents: &Documents) -> Vec<&Filter> {
    let mut own: Vec<&Filter> = documents.parsed.iter().flat_map(|parsed| &parsed.filters).collect();
    own.sort_by_key(|filter| filter.span);
    own
}

/// Every definition, also two of one name, and broken ones.
fn rows<'a>(documents: &'a Documents) -> Vec<Row<'a>> {
    let users = Kind::Filter.users(documents);
    let used_by = |name: &'a str| users.get(name).cloned().unwrap_or_else(|| Users { filters: Some(BTreeSet::new()), ..Users::default() });
    let definitions = Kind::Filter.definitions(&documents.parsed);
    let taken: BTreeSet<&str> = definitions.iter().map(|definition| definition.name).collect();
    let whole = |filter: &'a Filter| whole(filter, documents, used_by(&filter.name.value));
    let mut rows: Vec<Row> = own(documents).into_iter().map(whole).collect();
    let stock = documents.stock.iter().filter(|filter| !taken.contains(&*filter.name.value));
    rows.extend(stock.map(|filter| Row { stock: true, ..whole(filter) }));
    let broken = definitions.iter().filter(|definition| definition.standing == Standing::Broken);
    rows.extend(broken.map(|broken| Row {
        name: broken.name,
        uuid: None,
        chain: None,
        priority: None,
        place: place(broken.span, &documents.sources),
        stock: false,
        broken: true,
        used_by: used_by(broken.name),
    }));
    rows.sort_by(|one, other| one.name.cmp(other.name));
    rows
}

fn whole<'a>(filter: &'a Filter, documents: &Documents, used_by: Users<'a>) -> Row<'a> {
    Row {
        name: &filter.name.value,
        uuid: filter.uuid.map(|uuid| uuid.value.to_string()),
        chain: Some(&filter.chain.name),
        priority: Some(filter.chain.priority),
        place: place(filter.name.span, &documents.sources),
        stock: false,
        broken: false,
        used_by,
    }
}

fn cells(row: &Row<'_>) -> [String; 4] {
    let place = match (row.stock, row.broken) {
        (true, _) => "<stock>".to_owned(),
        (false, true) => format!("{} (broken)", row.place),
        (false, false) => row.place.to_string(),
    };
    [row.name.to_owned(), row.uuid.clone().unwrap_or_default(), place, row.used_by.text()]
}
