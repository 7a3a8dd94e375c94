//! Texts to rules: the pure half of a pass, in one call.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cache::Cache;
use crate::compile::{self, Compiled, Layout};
use crate::diagnostic::{Diagnostic, Severity};
use crate::load::Loaded;
use crate::model::filter::Filter;
use crate::model::learned::Learned;
use crate::model::{Object, Quirks};
use crate::parse::visit::TOO_MANY_FAULTS;
use crate::parse::{Broken, BrokenKind, Parsed};
use crate::resolve::{self, GuestPolicy, Link, Resolved, lint};
use crate::source::{FileId, Sources, Span};

/// How many diagnostics of one severity are told of one file.
const MOST_TOLD: usize = 100;

/// Everything that follows from the files alone.
#[derive(Debug, Clone, Default)]
pub struct Computed {
    /// The files, for places and carets.
    pub sources: Sources,
    /// How many files, networks, filters and interfaces were read.
    pub counts: Counts,
    /// All there is to say about the files.
    pub diagnostics: Vec<Diagnostic>,
    /// Where the definitions begin that are broken.
    pub broken: Vec<Span>,
    /// What every network and guest may do.
    pub resolved: Resolved,
    /// The rules of it.
    pub compiled: Compiled,
}

/// How much was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// State files.
    pub files: usize,
    /// Networks without an error.
    pub networks: usize,
    /// Filters without an error, stock filters not counted.
    pub filters: usize,
    /// Interfaces without an error.
    pub interfaces: usize,
}

/// How the files are to be read and spelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whose rules: the XML's or libvirt's.
    pub quirks: Quirks,
    /// Whether warnings are errors.
    pub strict: bool,
    /// How the rules of networks are spelled.
    pub layout: Layout,
}

/// The files, read: what everything else follows from.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// The files, for places and carets; stock filters among them.
    pub sources: Sources,
    /// How many files, networks, filters and interfaces were read.
    pub counts: Counts,
    /// What each file defines.
    pub parsed: Vec<Arc<Parsed>>,
    /// The built-in filters.
    pub stock: Vec<Filter>,
}

/// Parses every file.
pub fn read(loaded: &Loaded, reading: Reading) -> Documents {
    Cache::default().read(loaded, reading)
}

/// Parses, resolves and compiles. `learned` are the addresses that count now (see [`Learned::at`]).
pub fn compute(loaded: &Loaded, links: &[Link], learned: &Learned, reading: Reading) -> Computed {
    Cache::default().compute(loaded, links, learned, reading)
}

/// Like [`compute`], and remarks on what is right and yet hardly meant.
pub fn check(loaded: &Loaded, links: &[Link], learned: &Learned, reading: Reading) -> Computed {
    let documents = read(loaded, reading);
    let resolved = resolve::resolve(&documents.parsed, &documents.stock, links, learned, reading.quirks);
    let compiled = compile::compile(&resolved, reading.quirks, reading.layout);
    let remarks = lint::lint(&documents.parsed, &documents.stock, &resolved, reading.quirks);
    put_together(documents, resolved, compiled, &remarks, reading)
}

/// Everything that is to be said about the files, with what they mean.
pub(super) fn put_together(
    documents: Documents,
    resolved: Resolved,
    compiled: Compiled,
    remarks: &[Diagnostic],
    reading: Reading,
) -> Computed {
    let Documents { sources, counts, parsed, .. } = documents;
    let broken = parsed.iter().flat_map(|parsed| &parsed.broken).map(|broken| broken.span).collect();
    let of_files = parsed.iter().flat_map(|parsed| &parsed.diagnostics);
    let diagnostics = told(of_files.chain(&resolved.diagnostics).chain(&compiled.diagnostics).chain(remarks), reading.strict);
    Computed { sources, counts, diagnostics, broken, resolved, compiled }
}

/// The first so many of every severity in every file, and how many were left out: one hostile file can have a fault in every other byte,
/// and telling of a fault takes time that the other files' rules wait for.
fn told<'d>(found: impl Iterator<Item = &'d Diagnostic>, strict: bool) -> Vec<Diagnostic> {
    let mut counts: BTreeMap<(FileId, Severity), usize> = BTreeMap::new();
    let mut hidden: BTreeMap<(FileId, Severity), (Span, usize)> = BTreeMap::new();
    let mut told = Vec::new();
    for diagnostic in found {
        let severity = if strict { escalated(diagnostic.severity) } else { diagnostic.severity };
        let kind = (diagnostic.span().file, severity);
        let count = counts.entry(kind).or_default();
        *count += 1;
        if *count <= MOST_TOLD || diagnostic.code == TOO_MANY_FAULTS {
            told.push(Diagnostic { severity, ..diagnostic.clone() });
        } else {
            hidden.entry(kind).or_insert((diagnostic.span(), 0)).1 += 1;
        }
    }
    for ((_, severity), (first, count)) in hidden {
        let message = format!("{count} more in the same file are not shown");
        told.push(Diagnostic { severity, ..Diagnostic::error("too-many-to-show", message, first, "the first of them") });
    }
    told
}

/// Makes the warnings of one file errors: then everything in the file is broken.
pub(super) fn strict(mut parsed: Parsed) -> Parsed {
    if parsed.diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Warning) {
        return parsed;
    }
    for diagnostic in &mut parsed.diagnostics {
        diagnostic.severity = escalated(diagnostic.severity);
    }
    let mut break_off = |what: BrokenKind, span: Span| parsed.broken.push(Broken { what, span });
    for network in parsed.networks.drain(..) {
        break_off(BrokenKind::Object(Object::Network(network.name.value)), network.span);
    }
    for filter in parsed.filters.drain(..) {
        break_off(BrokenKind::Filter(filter.name.value), filter.span);
    }
    for interface in parsed.interfaces.drain(..) {
        let what = interface.device.map_or(BrokenKind::Unknown, |device| BrokenKind::Object(Object::Interface(device.value)));
        break_off(what, interface.span);
    }
    parsed
}

fn escalated(severity: Severity) -> Severity {
    if severity == Severity::Warning { Severity::Error } else { severity }
}

impl Computed {
    /// True when something is refused.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The element that defines an object, where it is sound.
    pub fn definition(&self, object: &Object) -> Option<Span> {
        match object {
            // Networks and guests are sorted.
            Object::Network(name) => {
                let networks = &self.resolved.networks;
                let at = networks.binary_search_by(|network| (*network.name).cmp(name)).ok()?;
                Some(networks[at].place)
            }
            Object::Interface(_) => self.guest(object).map(|guest| guest.place),
        }
    }

    /// The policy of a guest interface that is sound.
    pub fn guest(&self, object: &Object) -> Option<&GuestPolicy> {
        let Object::Interface(device) = object else { return None };
        let guests = &self.resolved.guests;
        guests.binary_search_by(|guest| guest.device.cmp(device)).ok().map(|at| &*guests[at])
    }

    /// Tells one desired rule set from another; places do not count.
    pub fn fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        for (object, rules) in &self.compiled.objects {
            object.hash(&mut hasher);
            for (chain, placed) in rules.blocks() {
                chain.hash(&mut hasher);
                for rule in placed {
                    rule.rule.hash(&mut hasher);
                }
            }
        }
        for held in self.resolved.held.iter().chain(&self.compiled.held) {
            held.object.hash(&mut hasher);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_file_full_of_faults_a_part_is_told_and_of_others_all() {
        let fault = |file: u32| Diagnostic::error("some-fault", "a fault", Span { file: FileId(file), start: 0, end: 0 }, "");
        let mut found: Vec<Diagnostic> = (0..MOST_TOLD + 900).map(|_| fault(0)).collect();
        found.push(fault(1));
        let told = told(found.iter(), false);
        let of = |file: u32| told.iter().filter(move |told| told.span().file == FileId(file));
        assert_eq!((of(0).count(), of(1).count()), (MOST_TOLD + 1, 1));
        let last = of(0).next_back().map(|told| (told.code, told.severity, told.message.as_str()));
        assert_eq!(last, Some(("too-many-to-show", Severity::Error, "900 more in the same file are not shown")));
    }
}
