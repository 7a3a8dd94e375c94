//! What is right and yet hardly meant: remarks on the whole state that refuse nothing.
//!
//! What goes in are the documents and what they resolved to; what comes out are warnings, and notes where a reasonable person may have
//! meant it. Only what is sure is said. `check` asks for it; passes that change rules do not, because comparing rules with each other
//! costs more than everything else that is done with them, and changes nothing.
//!
//! * `duplicate-mac`, `duplicate-address`, `address-outside-network`, `overlapping-subnets`: [`address`].
//! * `rule-never-matches`, `unreachable-rule`, `late-mac-check`: [`reach`], on the sets of [`frames`].
//! * `unfiltered-guest`, and `unused-filter`, which is a note: a library of filters for guests to come is no mistake.
//! * `routed-past-filter`, a note: [`routed`].

mod address;
mod frames;
mod reach;
mod routed;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use super::Resolved;
use crate::diagnostic::Diagnostic;
use crate::model::filter::{Entry, Filter};
use crate::model::interface::Interface;
use crate::model::{Object, Quirks};
use crate::parse::Parsed;
use crate::source::{FileId, Span};

/// How many remarks of one kind are shown.
const SHOWN: usize = 100;

/// Everything there is to remark, by place; the order of `documents` does not matter.
pub fn lint(documents: &[impl Borrow<Parsed>], stock: &[Filter], resolved: &Resolved, quirks: Quirks) -> Vec<Diagnostic> {
    let documents: Vec<&Parsed> = documents.iter().map(Borrow::borrow).collect();
    let mut interfaces: Vec<&Interface> = documents.iter().flat_map(|document| &document.interfaces).collect();
    interfaces.sort_by_key(|interface| interface.span);
    let mut remarks = Remarks::default();
    address::duplicates(&interfaces, &mut remarks);
    address::outside_networks(&placeable(&interfaces, resolved), &resolved.networks, &mut remarks);
    address::overlaps(&resolved.networks, &mut remarks);
    unfiltered_guests(&interfaces, &mut remarks);
    routed::unmet_drops(&interfaces, resolved, &mut remarks);
    // What a broken file uses is not known.
    if !resolved.incomplete {
        unused_filters(&documents, stock, &interfaces, &mut remarks);
    }
    let stock_files: BTreeSet<FileId> = stock.iter().map(|filter| filter.span.file).collect();
    let mut survey = reach::Survey::new(&stock_files, quirks);
    for guest in &resolved.guests {
        survey.add(guest);
    }
    survey.finish(&mut remarks);
    remarks.finish()
}

/// Remarks while they are made: hostile files make as many as they have rules, so those beyond the limit are only counted.
#[derive(Default)]
struct Remarks {
    by_code: BTreeMap<&'static str, Kind>,
}

/// The remarks of one code.
#[derive(Default)]
struct Kind {
    made: usize,
    /// The first by place, of equal ones by when they were made: those that are shown, and one more, where "not shown" is said.
    first: BTreeMap<(Span, usize), Diagnostic>,
}

impl Remarks {
    /// Makes a remark, unless enough of its kind are known that come before it.
    fn add(&mut self, code: &'static str, place: Span, make: impl FnOnce(&'static str) -> Diagnostic) {
        let kind = self.by_code.entry(code).or_default();
        let key = (place, kind.made);
        kind.made += 1;
        if kind.first.len() <= SHOWN || kind.first.last_key_value().is_some_and(|(last, _)| key < *last) {
            kind.first.insert(key, make(code));
        }
        if kind.first.len() > SHOWN + 1 {
            kind.first.pop_last();
        }
    }

    /// The first of every kind, by place; where more begin, how many there are.
    fn finish(self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for (code, kind) in self.by_code {
            for (at, diagnostic) in kind.first.into_values().enumerate() {
                let place = diagnostic.span();
                let shown = if at < SHOWN {
                    diagnostic
                } else {
                    let message = format!("{} more remarks `{code}` are not shown", kind.made - SHOWN);
                    let more = Diagnostic::warning("more-remarks", message, place, "the first of them");
                    Diagnostic { severity: diagnostic.severity, ..more }
                };
                found.push((place, code, shown));
            }
        }
        found.sort_by_key(|&(place, code, _)| (place, code));
        found.into_iter().map(|(.., diagnostic)| diagnostic).collect()
    }
}

/// The interfaces of which can be told where their addresses should be: while some network is not known, those that name theirs.
fn placeable<'a>(interfaces: &[&'a Interface], resolved: &Resolved) -> Vec<&'a Interface> {
    let all_known = !resolved.incomplete && resolved.held.iter().all(|held| matches!(held.object, Object::Interface(_)));
    interfaces.iter().copied().filter(|interface| all_known || interface.network.is_some()).collect()
}

/// Filters of files that no interface uses, not even through other filters.
fn unused_filters(documents: &[&Parsed], stock: &[Filter], interfaces: &[&Interface], remarks: &mut Remarks) {
    let own = || documents.iter().flat_map(|document| &document.filters);
    // A file's filter stands before a stock filter of its name.
    let by_name: BTreeMap<&str, &Filter> = stock.iter().chain(own()).map(|filter| (&*filter.name.value, filter)).collect();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> =
        interfaces.iter().filter_map(|interface| interface.filter.as_ref()).map(|reference| &*reference.filter.value).collect();
    while let Some(name) = open.pop() {
        if used.insert(name) {
            open.extend(by_name.get(name).into_iter().flat_map(|filter| references(filter)));
        }
    }
    for filter in own().filter(|filter| !used.contains(&*filter.name.value)) {
        remarks.add("unused-filter", filter.name.span, |code| {
            let message = format!("filter `{}` is not used", filter.name.value);
            Diagnostic::note(code, message, filter.name.span, "no interface has it, or a filter that includes it")
                .help("name it in the `<filterref>` of an interface, or remove the file")
        });
    }
}

fn references(filter: &Filter) -> impl Iterator<Item = &str> {
    filter.entries.iter().filter_map(|entry| match entry {
        Entry::Reference(reference) => Some(&*reference.filter.value),
        Entry::Rule(_) => None,
    })
}

/// Guests without a filter on a network where other guests have one.
fn unfiltered_guests(interfaces: &[&Interface], remarks: &mut Remarks) {
    let mut filtered: BTreeMap<&str, Span> = BTreeMap::new();
    let mut devices = BTreeSet::new();
    let mut macs = BTreeSet::new();
    for interface in interfaces {
        let Some(filter) = &interface.filter else { continue };
        devices.extend(interface.device.as_ref().map(|device| &device.value));
        macs.extend(interface.mac.map(|mac| mac.value));
        if let Some(network) = &interface.network {
            filtered.entry(&network.value).or_insert(filter.span);
        }
    }
    for interface in interfaces.iter().filter(|interface| interface.filter.is_none()) {
        let Some(network) = &interface.network else { continue };
        let Some(&other) = filtered.get(&*network.value) else { continue };
        // Another document about the same interface may give it its filter.
        let bound = interface.device.as_ref().is_some_and(|device| devices.contains(&device.value))
            || interface.mac.is_some_and(|mac| macs.contains(&mac.value));
        if !bound {
            remarks.add("unfiltered-guest", interface.span, |code| {
                let message = format!("a guest on network `{}` has no filter, others have one", network.value);
                Diagnostic::warning(code, message, interface.span, "expected a `<filterref>` in here")
                    .also(other, "for example this guest is filtered")
                    .help("add `<filterref filter='...'/>`; it may send with any address until then")
            });
        }
    }
}

#[cfg(test)]
mod tests;
