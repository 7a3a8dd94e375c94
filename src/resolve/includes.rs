//! Filters and what they include: every `<filterref>` followed once, for all guests together.
//!
//! Reference: nwfilter.md 1.5 and 3.3 step 1. What goes in are the filters of all files; what comes out is a [`Library`]
//! that knows of every filter whether its tree is whole, how many rules it has and how deep it is, and that can walk a whole tree.
//! Filters share subtrees, so a tree may be exponentially larger than its files: sizes are added up filter by filter, and a tree
//! that is too large is refused without being walked.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::finding::{Findings, groups};
use super::variables::{Bindings, PreparedRule, Scope};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::filter::{Entry, Filter, Reference};
use crate::parse::visit::with_suggestion;
use crate::parse::{BrokenKind, Parsed};
use crate::source::Span;

/// How many filters may stand one inside the other. Real trees are three or four deep.
pub(super) const DEPTH_LIMIT: u32 = 64;

/// How many rules a guest may have; `clean-traffic` has 17. Far beyond, no tool would load them in useful time.
pub(super) const RULE_LIMIT: u64 = 65_536;

/// How many missing filters, and how many missing variables, get a suggestion, and from how many names: comparing costs time, which hostile files must not command.
const SUGGESTION_LIMIT: u32 = 32;
const SUGGESTION_NAMES: usize = 10_000;

/// All filters by name, with what is wrong with them.
#[derive(Debug)]
pub(super) struct Library<'a> {
    names: BTreeMap<&'a str, Definition>,
    filters: Vec<Prepared<'a>>,
    /// How many filters that are missing still get a suggestion, and how many variables.
    filters_left: Cell<u32>,
    variables_left: Cell<u32>,
}

/// What a filter's name stands for.
#[derive(Debug, Clone)]
enum Definition {
    /// A filter, by its index.
    Whole(usize),
    /// Nothing usable: why.
    Faulty(Diagnostic),
}

/// One filter, ready to be walked for any number of guests.
#[derive(Debug)]
struct Prepared<'a> {
    filter: &'a Filter,
    entries: Vec<PreparedEntry<'a>>,
    /// How many rules its tree has before variables multiply them.
    rules: u64,
    /// How many filters stand one inside the other, itself included.
    depth: u32,
    /// What is wrong with its own references.
    faults: Vec<Diagnostic>,
    /// The first fault of its tree; a tree with a fault is never walked.
    spoiled: Option<Arc<Diagnostic>>,
}

#[derive(Debug)]
enum PreparedEntry<'a> {
    Rule(PreparedRule<'a>),
    Include { filter: usize, parameters: Bindings<'a> },
}

/// How far the depth-first search has come with a filter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    /// On the path, at this place of it.
    Open(usize),
    Done,
}

impl<'a> Library<'a> {
    /// Gathers the filters of all files, the stock ones for names that no file defines, and checks every tree.
    pub(super) fn gather(documents: &[&'a Parsed], stock: &'a [Filter], findings: &mut Findings) -> Self {
        let [filters_left, variables_left] = [Cell::new(SUGGESTION_LIMIT), Cell::new(SUGGESTION_LIMIT)];
        let mut library = Self { names: BTreeMap::new(), filters: Vec::new(), filters_left, variables_left };
        library.add_broken(documents);
        let mut own: Vec<&Filter> = documents.iter().flat_map(|document| &document.filters).collect();
        own.sort_by_key(|filter| filter.span);
        library.add_duplicates(&own, findings);
        for filter in own.into_iter().chain(stock) {
            library.add(filter);
        }
        library.check_trees();
        library
    }

    /// The filter that an interface names, if its whole tree can be walked.
    ///
    /// # Errors
    /// The diagnostic to hold the guest with; it points at the interface when it is not one of the library's own.
    pub(super) fn find(&self, reference: &Reference) -> Result<usize, Arc<Diagnostic>> {
        match self.names.get(&*reference.filter.value) {
            None => Err(Arc::new(self.missing_filter(reference))),
            Some(Definition::Faulty(cause)) => Err(Arc::new(broken_filter(reference, cause))),
            Some(&Definition::Whole(filter)) => self.filters[filter].spoiled.clone().map_or(Ok(filter), Err),
        }
    }

    /// Walks a tree depth first in document order, handing over every rule with the variables it sees.
    ///
    /// A filter that is included twice is walked twice. Subtrees without rules are left out, which bounds the walk by
    /// rules times depth. Only for filters that [`Library::find`] gave out.
    pub(super) fn walk<'s>(
        &'s self,
        filter: usize,
        scope: &Scope<'_, 'a>,
        visit: &mut impl FnMut(&'s PreparedRule<'a>, &Scope<'_, 'a>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for entry in &self.filters[filter].entries {
            match entry {
                PreparedEntry::Rule(rule) => visit(rule, scope)?,
                PreparedEntry::Include { filter, parameters } => self.walk(*filter, &scope.include(parameters), visit)?,
            }
        }
        ControlFlow::Continue(())
    }

    /// Reports what is wrong with the filters themselves, once each: errors in trees that a guest uses, and loops anywhere.
    ///
    /// A filter that nobody uses may be incomplete, as in libvirt; that is a warning.
    pub(super) fn report(&self, used: impl IntoIterator<Item = &'a str>, findings: &mut Findings) {
        let reached = self.reach(used);
        for (index, prepared) in self.filters.iter().enumerate() {
            for fault in &prepared.faults {
                let mut fault = fault.clone();
                if !reached.contains(&index) && fault.code != LOOP {
                    fault.severity = Severity::Warning;
                }
                findings.report(fault);
            }
        }
    }

    /// The filters that can be walked, and for each its name.
    pub(super) fn whole(&self) -> impl Iterator<Item = (&'a str, &'a Filter)> {
        let usable = |definition: &Definition| if let Definition::Whole(at) = definition { Some(&self.filters[*at]) } else { None };
        let found = self.names.iter().filter_map(move |(name, definition)| Some((*name, usable(definition)?)));
        found.filter(|(_, prepared)| prepared.spoiled.is_none()).map(|(name, prepared)| (name, prepared.filter))
    }

    /// The names of the filters in one filter's tree, its own among them.
    pub(super) fn tree(&self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.reach([name]).into_iter().map(|filter| &*self.filters[filter].filter.name.value)
    }

    /// The filters in the trees of these names.
    fn reach(&self, used: impl IntoIterator<Item = &'a str>) -> BTreeSet<usize> {
        let index = |name: &str| match self.names.get(name) {
            Some(&Definition::Whole(filter)) => Some(filter),
            _ => None,
        };
        let mut reached = BTreeSet::new();
        let mut open: Vec<usize> = used.into_iter().filter_map(index).collect();
        while let Some(filter) = open.pop() {
            if reached.insert(filter) {
                open.extend(references(self.filters[filter].filter).filter_map(|reference| index(&reference.filter.value)));
            }
        }
        reached
    }

    fn add_broken(&mut self, documents: &[&'a Parsed]) {
        for broken in documents.iter().flat_map(|document| &document.broken) {
            if let BrokenKind::Filter(name) = &broken.what {
                let cause = Diagnostic::error("broken-filter", format!("filter `{name}` is broken"), broken.span, "broken here");
                // Of two broken files of one name the first by place is shown.
                match self.names.get(&**name) {
                    Some(Definition::Faulty(known)) if known.span() <= broken.span => {}
                    _ => {
                        self.names.insert(name, Definition::Faulty(cause));
                    }
                }
            }
        }
    }

    /// Refuses filters that share a name, and filters of different names that share a UUID.
    fn add_duplicates(&mut self, filters: &[&'a Filter], findings: &mut Findings) {
        for group in groups(filters, |filter| Some(&filter.name.value)) {
            for again in &group[1..] {
                let message = format!("filter `{}` is defined twice", again.name.value);
                let fault = Diagnostic::error("duplicate-filter", message, again.name.span, "defined again here")
                    .also(group[0].name.span, "first defined here")
                    .help("remove one of the two files, or give its filter another name");
                self.spoil(again, &fault);
                findings.report(fault);
            }
        }
        for group in groups(filters, |filter| filter.uuid.map(|uuid| uuid.value)) {
            let first = group[0];
            for again in group[1..].iter().filter(|filter| filter.name.value != first.name.value) {
                let message = format!("filters `{}` and `{}` have the same UUID", first.name.value, again.name.value);
                let place = |filter: &Filter| filter.uuid.map_or(filter.span, |uuid| uuid.span);
                let fault = Diagnostic::error("duplicate-filter-uuid", message, place(again), "used again here")
                    .also(place(first), "first used here")
                    .help("give one of the two a UUID of its own, or remove its file");
                self.spoil(first, &fault);
                self.spoil(again, &fault);
                findings.report(fault);
            }
        }
    }

    fn spoil(&mut self, filter: &'a Filter, fault: &Diagnostic) {
        self.names.entry(&filter.name.value).or_insert_with(|| Definition::Faulty(fault.clone()));
    }

    /// Adds a filter unless its name is taken: by a fault, or for a stock filter by a file's filter.
    fn add(&mut self, filter: &'a Filter) {
        if self.names.contains_key(&*filter.name.value) {
            return;
        }
        self.names.insert(&filter.name.value, Definition::Whole(self.filters.len()));
        self.filters.push(Prepared { filter, entries: Vec::new(), rules: 0, depth: 1, faults: Vec::new(), spoiled: None });
    }

    /// Finishes every filter after all that it includes, without recursion: a chain of filters may be as long as there are files.
    fn check_trees(&mut self) {
        let mut progress = vec![Progress::Waiting; self.filters.len()];
        for start in 0..self.filters.len() {
            if progress[start] == Progress::Waiting {
                self.check_tree(start, &mut progress);
            }
        }
    }

    fn check_tree(&mut self, start: usize, progress: &mut [Progress]) {
        progress[start] = Progress::Open(0);
        let mut path = vec![(start, 0)];
        while let Some(&mut (filter, ref mut next)) = path.last_mut() {
            let Some(entry) = self.filters[filter].filter.entries.get(*next) else {
                self.finish(filter);
                progress[filter] = Progress::Done;
                path.pop();
                continue;
            };
            let place = *next;
            *next += 1;
            let child = match entry {
                Entry::Reference(reference) => self.names.get(&*reference.filter.value),
                Entry::Rule(_) => None,
            };
            let Some(&Definition::Whole(child)) = child else { continue };
            match progress[child] {
                Progress::Waiting => {
                    progress[child] = Progress::Open(path.len());
                    path.push((child, 0));
                }
                // One loop of a filter is told: where every filter includes every other there are more loops than anybody can read.
                Progress::Open(_) if self.filters[filter].faults.iter().any(|fault| fault.code == LOOP) => {}
                Progress::Open(first) => {
                    let fault = self.filter_loop(&path[first..], entry_span(&self.filters[filter].filter.entries[place]));
                    self.filters[filter].faults.push(fault);
                }
                Progress::Done => {}
            }
        }
    }

    /// Adds up a filter whose includes are all finished, except those that close a loop: that fault is already noted.
    fn finish(&mut self, index: usize) {
        let filter = self.filters[index].filter;
        let mut entries = Vec::with_capacity(filter.entries.len());
        let (mut rules, mut depth) = (0_u64, 1_u32);
        let mut faults = Vec::new();
        let mut spoiled = None;
        for entry in &filter.entries {
            let reference = match entry {
                Entry::Rule(rule) => {
                    rules += 1;
                    entries.push(PreparedEntry::Rule(PreparedRule::new(rule, &filter.chain)));
                    continue;
                }
                Entry::Reference(reference) => reference,
            };
            match self.names.get(&*reference.filter.value) {
                None => faults.push(self.missing_filter(reference)),
                Some(Definition::Faulty(cause)) => faults.push(broken_filter(reference, cause)),
                Some(&Definition::Whole(child)) => {
                    let included = &self.filters[child];
                    rules = rules.saturating_add(included.rules);
                    depth = depth.max(included.depth.saturating_add(1));
                    spoiled = spoiled.or_else(|| included.spoiled.clone());
                    if included.rules > 0 {
                        entries.push(PreparedEntry::Include { filter: child, parameters: Bindings::of(&reference.parameters) });
                    }
                }
            }
        }
        // An included tree over a limit has said so itself.
        if spoiled.is_none() && depth > DEPTH_LIMIT {
            faults.push(too_deep(filter));
        }
        if spoiled.is_none() && rules > RULE_LIMIT {
            faults.push(too_large(filter, rules));
        }
        let prepared = &mut self.filters[index];
        prepared.faults.append(&mut faults);
        prepared.spoiled = prepared.faults.first().map(|fault| Arc::new(fault.clone())).or(spoiled);
        (prepared.entries, prepared.rules, prepared.depth) = (entries, rules, depth);
    }

    /// The filters of `members` in a circle; each comes with the number of the entry after the one that leads on.
    fn filter_loop(&self, members: &[(usize, usize)], closing: Span) -> Diagnostic {
        let filter = |at: usize| self.filters[members[at].0].filter;
        // A loop may go through every file there is.
        let left_out = SHOWN..members.len().saturating_sub(SHOWN).max(SHOWN);
        let shown = (0..members.len()).filter(|at| !left_out.contains(at));
        let mut way = String::new();
        for at in shown.clone() {
            if at == left_out.end && !left_out.is_empty() {
                way += "... -> ";
            }
            way.extend(["`", &*filter(at).name.value, "` -> "]);
        }
        let message = format!("filter `{0}` includes itself: {way}`{0}`", filter(0).name.value);
        let fault = Diagnostic::error(LOOP, message, closing, "this closes the loop").help("remove one of the references");
        shown.filter(|&at| at + 1 < members.len()).fold(fault, |fault, at| {
            fault.also(entry_span(&filter(at).entries[members[at].1 - 1]), format!("included by `{}` here", filter(at).name.value))
        })
    }

    fn missing_filter(&self, reference: &Reference) -> Diagnostic {
        let wanted = &reference.filter.value;
        let fault = Diagnostic::error(
            "missing-filter",
            format!("there is no filter `{wanted}`"),
            reference.filter.span,
            "expected the name of a filter",
        );
        suggest(&self.filters_left, fault, wanted, self.names.keys().copied())
    }

    /// Adds "did you mean" to a fault about a variable, if it is among the first that ask for it.
    pub(super) fn suggest_variable<'n>(&self, fault: Diagnostic, wrong: &str, known: impl Iterator<Item = &'n str>) -> Diagnostic {
        suggest(&self.variables_left, fault, wrong, known)
    }
}

fn suggest<'n>(left: &Cell<u32>, fault: Diagnostic, wrong: &str, known: impl Iterator<Item = &'n str>) -> Diagnostic {
    let Some(fewer) = left.get().checked_sub(1) else { return fault };
    left.set(fewer);
    with_suggestion(fault, wrong, known.take(SUGGESTION_NAMES))
}

const LOOP: &str = "filter-loop";

/// How many members of a loop are shown at each end of its way.
const SHOWN: usize = 8;

fn references(filter: &Filter) -> impl Iterator<Item = &Reference> {
    filter.entries.iter().filter_map(|entry| if let Entry::Reference(reference) = entry { Some(reference) } else { None })
}

fn entry_span(entry: &Entry) -> Span {
    match entry {
        Entry::Reference(reference) => reference.filter.span,
        Entry::Rule(rule) => rule.span,
    }
}

fn broken_filter(reference: &Reference, cause: &Diagnostic) -> Diagnostic {
    let message = format!("filter `{}` cannot be used", reference.filter.value);
    Diagnostic::error("broken-filter", message, reference.filter.span, "used here").also(cause.span(), cause.message.clone())
}

fn too_deep(filter: &Filter) -> Diagnostic {
    let message = format!("filter `{}` stands on more than {DEPTH_LIMIT} filters, one inside the other", filter.name.value);
    Diagnostic::error("filter-tree-too-deep", message, filter.name.span, format!("expected a tree of at most {DEPTH_LIMIT} levels"))
}

fn too_large(filter: &Filter, rules: u64) -> Diagnostic {
    let message = format!("the tree of filter `{}` has {rules} rules", filter.name.value);
    Diagnostic::error("filter-tree-too-large", message, filter.name.span, format!("expected at most {RULE_LIMIT} rules"))
        .help("filters that are included several times count every time")
}
