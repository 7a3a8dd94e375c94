//! `filter`: the filters that the state and the program itself define, as a list, as XML and as pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::Exit;
use super::options::{FilterList, FilterShow, Format, GraphOption};
use super::settings::Settings;
use crate::diagnostic::Severity;
use crate::graph::{self, Notation};
use crate::model::filter::{Entry, Filter};
use crate::model::interface::Interface;
use crate::output::Output;
use crate::parse::BrokenKind;
use crate::reconcile::compute::Documents;
use crate::source::{Sources, Span};

/// How many users of a filter the text names.
const NAMED: usize = 3;

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

#[derive(Debug, Clone, Serialize)]
struct Place {
    file: String,
    line: u32,
    column: u32,
}

/// Who names a filter in a `<filterref>`.
#[derive(Debug, Clone, Default, Serialize)]
struct Users<'a> {
    filters: BTreeSet<&'a str>,
    interfaces: BTreeSet<&'a str>,
}

/// Lists every filter by name.
pub fn list(settings: &Settings, options: &FilterList) -> anyhow::Result<Exit> {
    let documents = settings.read()?;
    let rows = rows(&documents);
    let broken = rows.iter().any(|row| row.broken);
    let text = match options.format {
        Format::Text => table(&rows),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&Document { v: 1, filters: rows })?),
    };
    settings.output.data(&text)?;
    Ok(if broken { Exit::Attention } else { Exit::Done })
}

/// Prints one filter.
pub fn show(settings: &Settings, options: &FilterShow) -> anyhow::Result<Exit> {
    let documents = settings.read()?;
    let filters = by_name(&documents);
    let broken = broken_place(&documents, &options.name);
    let Some(filter) = filters.get(&*options.name).filter(|_| broken.is_none()) else {
        explain_absence(settings.output, &documents, &filters, &options.name, broken);
        return Ok(Exit::Attention);
    };
    let text = match options.graph {
        None => xml(filter, &documents.sources),
        Some(GraphOption::Dot) => graph::filter::draw(filter, &filters, &documents.sources).write(Notation::Dot),
        Some(GraphOption::Mermaid) => graph::filter::draw(filter, &filters, &documents.sources).write(Notation::Mermaid),
    };
    settings.output.data(&text)?;
    Ok(Exit::Done)
}

/// Filters by name: those of files, the first by place where several claim a name, before stock filters.
fn by_name(documents: &Documents) -> graph::filter::Filters<'_> {
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

/// Where a broken file means to define a filter.
fn broken_filters(documents: &Documents) -> impl Iterator<Item = (&str, Span)> {
    documents.parsed.iter().flat_map(|parsed| &parsed.broken).filter_map(|broken| match &broken.what {
        BrokenKind::Filter(name) => Some((&**name, broken.span)),
        BrokenKind::Object(_) | BrokenKind::Unknown => None,
    })
}

fn broken_place(documents: &Documents, name: &str) -> Option<Span> {
    broken_filters(documents).find(|(broken, _)| *broken == name).map(|(_, span)| span)
}

/// Every definition, also two of one name, and broken ones.
fn rows<'a>(documents: &'a Documents) -> Vec<Row<'a>> {
    let users = users(documents);
    let own = own(documents);
    let broken: Vec<(&'a str, Span)> = broken_filters(documents).collect();
    let taken: BTreeSet<&str> = own.iter().map(|filter| &*filter.name.value).chain(broken.iter().map(|&(name, _)| name)).collect();
    let stock = documents.stock.iter().filter(|filter| !taken.contains(&*filter.name.value));
    let used_by = |name| users.get(name).cloned().unwrap_or_default();
    let whole = |filter: &'a Filter| Row {
        name: &filter.name.value,
        uuid: filter.uuid.map(|uuid| uuid.value.to_string()),
        chain: Some(&filter.chain.name),
        priority: Some(filter.chain.priority),
        place: place(filter.name.span, documents),
        stock: false,
        broken: false,
        used_by: used_by(&*filter.name.value),
    };
    let in_pieces = |&(name, span): &(&'a str, Span)| Row {
        name,
        uuid: None,
        chain: None,
        priority: None,
        place: place(span, documents),
        stock: false,
        broken: true,
        used_by: used_by(name),
    };
    let mut rows: Vec<Row> = own.into_iter().map(whole).collect();
    rows.extend(stock.map(|filter| Row { stock: true, ..whole(filter) }));
    rows.extend(broken.iter().map(in_pieces));
    rows.sort_by(|one, other| one.name.cmp(other.name));
    rows
}

fn place(span: Span, documents: &Documents) -> Place {
    let position = documents.sources.position(span);
    Place { file: position.path.to_string(), line: position.line, column: position.column }
}

fn users(documents: &Documents) -> BTreeMap<&str, Users<'_>> {
    let mut users: BTreeMap<&str, Users> = BTreeMap::new();
    for filter in own(documents).into_iter().chain(&documents.stock) {
        for entry in &filter.entries {
            if let Entry::Reference(reference) = entry {
                users.entry(&reference.filter.value).or_default().filters.insert(&filter.name.value);
            }
        }
    }
    for interface in documents.parsed.iter().flat_map(|parsed| &parsed.interfaces) {
        if let Some(reference) = &interface.filter {
            users.entry(&reference.filter.value).or_default().interfaces.insert(interface_name(interface));
        }
    }
    users
}

/// The device where it is known, else the guest.
fn interface_name(interface: &Interface) -> &str {
    let device = interface.device.as_ref().map(|device| device.value.as_str());
    device.or(interface.owner.as_deref()).unwrap_or("?")
}

fn table(rows: &[Row<'_>]) -> String {
    let cells: Vec<[String; 4]> = rows.iter().map(cells).collect();
    let header = ["NAME", "UUID", "WHERE", "USED BY"].map(str::to_owned);
    let mut widths = [0; 4];
    for line in cells.iter().chain([&header]) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for [name, uuid, place, users] in [&header].into_iter().chain(&cells) {
        let [first, second, third, _] = widths;
        let line = format!("{name:first$}  {uuid:second$}  {place:third$}  {users}");
        writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
    }
    text
}

fn cells(row: &Row<'_>) -> [String; 4] {
    let place = match (row.stock, row.broken) {
        (true, _) => "<stock>".to_owned(),
        (false, true) => format!("{}:{} (broken)", row.place.file, row.place.line),
        (false, false) => format!("{}:{}", row.place.file, row.place.line),
    };
    let Users { filters, interfaces } = &row.used_by;
    let users = [named("filter", filters), named("interface", interfaces)];
    let users: Vec<String> = users.into_iter().flatten().collect();
    let cells = [row.name.to_owned(), row.uuid.clone().unwrap_or_else(|| "-".to_owned()), place, users.join("; ")];
    cells.map(|cell| cell.chars().flat_map(visible).collect())
}

/// `filters a, b, c and 4 more`
fn named(kind: &str, names: &BTreeSet<&str>) -> Option<String> {
    let plural = if names.len() == 1 { "" } else { "s" };
    let shown: Vec<&str> = names.iter().copied().take(NAMED).collect();
    let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
    (!names.is_empty()).then(|| format!("{kind}{plural} {}{more}", shown.join(", ")))
}

/// Control characters never reach a terminal.
fn visible(letter: char) -> Vec<char> {
    if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }
}

/// The file's text as it is, with a comment that says where it is.
fn xml(filter: &Filter, sources: &Sources) -> String {
    let position = sources.position(filter.span);
    let path = if position.path.starts_with("<stock>/") { "<stock>".to_owned() } else { position.to_string() };
    // Two dashes would end the comment.
    let comment = format!("<!-- {} -->\n", path.replace("--", "- -").trim_end_matches('-'));
    let text = &*sources.file(filter.span.file).text;
    // Nothing may stand before an XML declaration.
    let declaration = if text.starts_with("<?xml") { text.find("?>").map_or(0, |at| at + 2) } else { 0 };
    let (declaration, rest) = text.split_at(declaration);
    let line_end = if declaration.is_empty() { "" } else { "\n" };
    format!("{declaration}{line_end}{comment}{}\n", rest.trim())
}

fn explain_absence(output: Output, documents: &Documents, filters: &graph::filter::Filters<'_>, name: &str, broken: Option<Span>) {
    let Some(broken) = broken else {
        let suggestion = crate::parse::visit::nearest(name, filters.keys().copied());
        let suggestion = suggestion.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return output.error(&format!("there is no filter `{name}`{suggestion}"));
    };
    let of_file = documents.parsed.iter().flat_map(|parsed| &parsed.diagnostics).filter(|fault| fault.span().file == broken.file);
    let faults: Vec<_> = of_file.cloned().collect();
    output.diagnostics(&faults, &documents.sources, Severity::Warning);
}
