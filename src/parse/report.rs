//! What is found while a document is read, under the quirks that decide what is refused.
//!
//! Readers always go on with the value libvirt would take, so that one run shows every fault; whether the document is good
//! is told at its end by [`Report::has_errors_since`].

use super::visit::{MAX_REMARKS, give_up_at, with_suggestion};
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::Quirks;
use crate::source::Span;

/// The diagnostics of one file while it is being read.
#[derive(Debug)]
pub(crate) struct Report<'d> {
    quirks: Quirks,
    diagnostics: &'d mut Vec<Diagnostic>,
}

/// A moment in a reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(usize);

impl<'d> Report<'d> {
    /// Appends to `diagnostics`.
    pub(crate) fn new(quirks: Quirks, diagnostics: &'d mut Vec<Diagnostic>) -> Self {
        Self { quirks, diagnostics }
    }

    /// The quirks that the file is read under.
    pub(crate) fn quirks(&self) -> Quirks {
        self.quirks
    }

    /// Adds a diagnostic as it is; in a file that has far too many already, errors only.
    pub(crate) fn add(&mut self, diagnostic: Diagnostic) {
        if diagnostic.severity == Severity::Error || !self.is_full() {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Adds what libvirt takes though it should not: an error in `fixed` quirks, a warning in `libvirt` quirks.
    pub(crate) fn add_lax(&mut self, mut diagnostic: Diagnostic) {
        diagnostic.severity = match self.quirks {
            Quirks::Fixed => Severity::Error,
            Quirks::Libvirt => Severity::Warning,
        };
        self.add(diagnostic);
    }

    /// Adds "did you mean" to a diagnostic, unless the file has far too many already: each one costs time.
    pub(crate) fn suggest<'n>(&self, diagnostic: Diagnostic, wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Diagnostic {
        if self.is_full() { diagnostic } else { with_suggestion(diagnostic, wrong, known) }
    }

    /// The list itself, for [`Visit::finish`](super::visit::Visit::finish).
    pub(crate) fn diagnostics(&mut self) -> &mut Vec<Diagnostic> {
        self.diagnostics
    }

    /// Now.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.diagnostics.len())
    }

    /// True when an error was added after `mark`.
    pub(crate) fn has_errors_since(&self, mark: Mark) -> bool {
        self.diagnostics[mark.0..].iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// See [`give_up_at`].
    pub(crate) fn give_up_at(&mut self, next: Span) -> bool {
        give_up_at(next, self.diagnostics)
    }

    fn is_full(&self) -> bool {
        self.diagnostics.len() >= MAX_REMARKS
    }
}
