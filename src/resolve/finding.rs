//! What resolving finds: diagnostics, and the objects they keep out of the policy.
//!
//! Steps report here and go on, so that one pass shows every fault. The order in which they report does not matter:
//! the result is sorted by place and rid of repetitions (a fault in a shared filter is found once a guest).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Held;
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::Object;
use crate::parse::{Broken, BrokenKind, Parsed};

/// Everything found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    diagnostics: Vec<Diagnostic>,
    held: BTreeMap<Object, Held>,
}

impl Findings {
    /// Starts with what the parser found broken.
    pub(super) fn of_broken(documents: &[&Parsed]) -> Self {
        let mut findings = Self::default();
        for document in documents {
            let mut errors: Vec<&Diagnostic> =
                document.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).collect();
            // Searched for every broken object: a file may hold tens of thousands of them.
            errors.sort_by_key(|error| error.span());
            for broken in &document.broken {
                if let BrokenKind::Object(object) = &broken.what {
                    findings.keep(held_by_parser(object, broken, &errors));
                }
            }
        }
        findings
    }

    /// Notes a remark that refuses nothing.
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Keeps `object` out of the policy because of `fault`, which has been or will be reported.
    pub(super) fn hold(&mut self, object: Object, fault: &Diagnostic) {
        self.keep(Held { object, span: fault.span(), code: fault.code, message: fault.message.clone() });
    }

    /// Reports an error and holds the objects that it spoils.
    pub(super) fn refuse(&mut self, objects: impl IntoIterator<Item = Object>, fault: Diagnostic) {
        for object in objects {
            self.hold(object, &fault);
        }
        self.report(fault);
    }

    /// True for an object that some fault keeps out.
    pub(super) fn is_held(&self, object: &Object) -> bool {
        self.held.contains_key(object)
    }

    /// How much was found so far: the same before and after a step that found nothing.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.diagnostics.len(), self.held.len())
    }

    /// The held objects in order, and the diagnostics by place, each once.
    pub(super) fn finish(self) -> (Vec<Held>, Vec<Diagnostic>) {
        let mut diagnostics = self.diagnostics;
        diagnostics.sort_by(by_place);
        diagnostics.dedup();
        (self.held.into_values().collect(), diagnostics)
    }

    /// Of several faults told of one object the first by place is kept, whichever was found first.
    fn keep(&mut self, held: Held) {
        let key = |held: &Held| (held.span, held.code);
        match self.held.get(&held.object) {
            Some(known) if (key(known), &known.message) <= (key(&held), &held.message) => {}
            _ => {
                self.held.insert(held.object.clone(), held);
            }
        }
    }
}

/// Groups of two or more items that share a key, by key; items without a key are in none.
pub(super) fn groups<T: Copy, K: Ord>(items: &[T], key: impl Fn(T) -> Option<K>) -> Vec<Vec<T>> {
    let mut by_key: BTreeMap<K, Vec<T>> = BTreeMap::new();
    for &item in items {
        if let Some(key) = key(item) {
            by_key.entry(key).or_default().push(item);
        }
    }
    by_key.into_values().filter(|group| group.len() > 1).collect()
}

/// Places first, then whatever else tells two diagnostics apart, so that repetitions end up side by side.
fn by_place(a: &Diagnostic, b: &Diagnostic) -> Ordering {
    let places = |diagnostic: &Diagnostic| diagnostic.labels.iter().map(|label| label.span).collect::<Vec<_>>();
    let rest = |diagnostic: &Diagnostic| (diagnostic.severity, diagnostic.code);
    a.span()
        .cmp(&b.span())
        .then_with(|| places(a).cmp(&places(b)))
        .then_with(|| rest(a).cmp(&rest(b)))
        .then_with(|| a.message.cmp(&b.message))
}

/// A broken object with the first error of its file from its own start on: that is the one that broke it. `errors` are sorted by place.
fn held_by_parser(object: &Object, broken: &Broken, errors: &[&Diagnostic]) -> Held {
    let from = errors.partition_point(|error| error.span() < broken.span);
    let cause = errors.get(from).or_else(|| errors.first());
    Held {
        object: object.clone(),
        span: cause.map_or(broken.span, |error| error.span()),
        code: cause.map_or("broken-document", |error| error.code),
        message: cause.map_or_else(|| format!("the definition of {object} is broken"), |error| error.message.clone()),
    }
}
