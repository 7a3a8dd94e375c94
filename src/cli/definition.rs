//! What the state defines under a name, and who uses it: what the verbs of filters and networks have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::diagnostic::few;
use crate::diagnostic::visible::visible;
use crate::model::Object;
use crate::model::filter::{Entry, Filter};
use crate::model::interface::Interface;
use crate::model::network::{Document, Network};
use crate::output::Output;
use crate::parse::{BrokenKind, Parsed};
use crate::reconcile::compute::Documents;
use crate::source::{Sources, Span};

/// What can be defined, undefined and edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `<filter>`
    Filter,
    /// `<network>`
    Network,
}

/// One definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition<'a> {
    /// Its name; not unique where files contradict each other.
    pub name: &'a str,
    /// Its UUID.
    pub uuid: Option<Uuid>,
    /// Where it is written.
    pub span: Span,
    /// Whether it can be used.
    pub standing: Standing,
}

/// What can be made of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is sound.
    Sound,
    /// Its file is at fault.
    Broken,
    /// A file that tells how it runs, which libvirtd keeps: nothing here may write it.
    Status,
}

/// Who names a definition.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Users<'a> {
    /// Filters that include it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<BTreeSet<&'a str>>,
    /// Interfaces that are bound to it or plugged into it.
    pub interfaces: BTreeSet<&'a str>,
}

/// A place, for machines.
#[derive(Debug, Clone, Serialize)]
pub struct Place {
    path: String,
    line: u32,
    column: u32,
}

impl Kind {
    /// What it is called, which is also its root element.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Network => "network",
        }
    }

    /// The folder of a state directory that new ones go to.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Filter => "filters",
            Self::Network => "networks",
        }
    }

    /// What the files define, in the order of their places; stock filters are not among it.
    pub fn definitions(self, documents: &[Arc<Parsed>]) -> Vec<Definition<'_>> {
        let mut found: Vec<Definition> = documents.iter().flat_map(|parsed| self.in_file(parsed)).collect();
        found.sort_by_key(|definition| definition.span);
        found
    }

    fn in_file(self, parsed: &Parsed) -> Vec<Definition<'_>> {
        let broken = parsed.broken.iter().filter_map(|broken| {
            let name = match (self, &broken.what) {
                (Self::Filter, BrokenKind::Filter(name)) => &**name,
                (Self::Network, BrokenKind::Object(Object::Network(name))) => name.as_str(),
                _ => return None,
            };
            Some(Definition { name, uuid: None, span: broken.span, standing: Standing::Broken })
        });
        let sound: Vec<Definition> = match self {
            Self::Filter => parsed.filters.iter().map(of_filter).collect(),
            Self::Network => parsed.networks.iter().map(of_network).collect(),
        };
        sound.into_iter().chain(broken).collect()
    }

    /// Who names each definition.
    pub fn users(self, documents: &Documents) -> BTreeMap<&str, Users<'_>> {
        match self {
            Self::Filter => filter_users(documents),
            Self::Network => network_users(documents),
        }
    }
}

fn of_filter(filter: &Filter) -> Definition<'_> {
    let uuid = filter.uuid.map(|uuid| uuid.value);
    Definition { name: &filter.name.value, uuid, span: filter.span, standing: Standing::Sound }
}

fn of_network(network: &Network) -> Definition<'_> {
    let standing = if network.document == Document::Status { Standing::Status } else { Standing::Sound };
    Definition { name: &network.name.value, uuid: network.uuid.map(|uuid| uuid.value), span: network.span, standing }
}

fn filter_users(documents: &Documents) -> BTreeMap<&str, Users<'_>> {
    let mut users: BTreeMap<&str, Users> = BTreeMap::new();
    for filter in documents.parsed.iter().flat_map(|parsed| &parsed.filters).chain(&documents.stock) {
        for entry in &filter.entries {
            if let Entry::Reference(reference) = entry {
                let of = users.entry(&reference.filter.value).or_default();
                of.filters.get_or_insert_default().insert(&filter.name.value);
            }
        }
    }
    for interface in documents.parsed.iter().flat_map(|parsed| &parsed.interfaces) {
        if let Some(reference) = &interface.filter {
            users.entry(&reference.filter.value).or_default().interfaces.insert(interface_name(interface));
        }
    }
    for users in users.values_mut() {
        users.filters.get_or_insert_default();
    }
    users
}

fn network_users(documents: &Documents) -> BTreeMap<&str, Users<'_>> {
    let mut users: BTreeMap<&str, Users> = BTreeMap::new();
    for interface in documents.parsed.iter().flat_map(|parsed| &parsed.interfaces) {
        if let Some(network) = &interface.network {
            users.entry(&network.value).or_default().interfaces.insert(interface_name(interface));
        }
    }
    users
}

/// The device where it is known, else the guest.
pub fn interface_name(interface: &Interface) -> &str {
    let device = interface.device.as_ref().map(|device| device.value.as_str());
    device.or(interface.owner.as_deref()).unwrap_or("?")
}

impl Users<'_> {
    /// `filters a, b, c and 4 more; interface vnet0`; empty when there are none.
    pub fn text(&self) -> String {
        let filters = self.filters.as_ref().and_then(|filters| named("filter", filters));
        [filters, named("interface", &self.interfaces)].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

fn named(kind: &str, names: &BTreeSet<&str>) -> Option<String> {
    let plural = if names.len() == 1 { "" } else { "s" };
    (!names.is_empty()).then(|| format!("{kind}{plural} {}", few(names.iter())))
}

/// Where a span begins, for machines.
pub fn place(span: Span, sources: &Sources) -> Place {
    let position = sources.position(span);
    Place { path: position.path.to_string(), line: position.line, column: position.column }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", visible(&self.path), self.line)
    }
}

/// The file's text as it is, with a comment that says where it is.
pub fn xml(span: Span, sources: &Sources) -> String {
    let position = sources.position(span);
    let path = if position.path.starts_with("<stock>/") { "<stock>".to_owned() } else { position.to_string() };
    // Two dashes would end the comment.
    let comment = format!("<!-- {} -->\n", path.replace("--", "- -").trim_end_matches('-'));
    let text = &*sources.file(span.file).text;
    // Nothing may stand before an XML declaration.
    let declaration = if text.starts_with("<?xml") { text.find("?>").map_or(0, |at| at + 2) } else { 0 };
    let (declaration, rest) = text.split_at(declaration);
    let line_end = if declaration.is_empty() { "" } else { "\n" };
    format!("{declaration}{line_end}{comment}{}\n", rest.trim())
}

/// Says that there is no such thing, with the nearest name.
pub fn explain_absence<'a>(output: Output, noun: &str, name: &str, names: impl IntoIterator<Item = &'a str>) {
    let suggestion = crate::parse::visit::nearest(name, names);
    let suggestion = suggestion.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    output.error(&format!("there is no {noun} `{name}`{suggestion}"));
}

/// Shows what is wrong with the file of a broken definition.
pub fn explain_fault(output: Output, documents: &Documents, broken: Span) {
    let of_file = documents.parsed.iter().flat_map(|parsed| &parsed.diagnostics).filter(|fault| fault.span().file == broken.file);
    let faults: Vec<_> = of_file.cloned().collect();
    output.diagnostics(&faults, &documents.sources, crate::diagnostic::Severity::Warning);
}
