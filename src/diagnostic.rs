//! What is wrong with a user's file, as a value: a code that never changes, a message, places, and how to mend it.
//!
//! Building a diagnostic is pure; [`render`] turns it into the text that people see, carets included, and [`short`] into one line.

mod report;
pub mod visible;

use crate::source::Span;

pub use report::{render, short};

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object it is about is refused and held.
    Error,
    /// Accepted, but hardly what the author meant; `--strict` makes it an error.
    Warning,
    /// Worth knowing: for example, where `fixed` and `libvirt` quirks differ.
    Note,
}

impl Severity {
    /// The word that people and machines read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A number of things in words: `1 rule`, `2 rules`.
pub fn several(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The first three of a list, and how many more there are: `a, b, c and 4 more`.
pub fn few<T: std::fmt::Display>(mut names: impl ExactSizeIterator<Item = T>) -> String {
    let shown = names.by_ref().take(3).map(|name| name.to_string()).collect::<Vec<_>>().join(", ");
    if names.len() > 0 { format!("{shown} and {} more", names.len()) } else { shown }
}

/// Bytes of a text in a diagnostic; what a user wrote may be megabytes long, and one fault may concern every guest of a host.
const MAX_TEXT: usize = 1_000;

/// One fault, or one remark, about what a user wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// Stable, kebab-case, unique per kind of fault; scripts may rely on it.
    pub code: &'static str,
    /// One lower-case sentence without a full stop; user text in backticks.
    pub message: String,
    /// The places, the first one primary; every label says what was expected there or what stands there.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub help: Option<String>,
}

/// A place with a few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where; the smallest span that shows the fault.
    pub span: Span,
    /// What was expected, or what this place has to do with it; may be empty.
    pub text: String,
}

/// How [`render`] spells its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// No escape codes.
    Plain,
    /// ANSI colours.
    Colored,
}

impl Diagnostic {
    /// A fault at `span`, where `expected` says what should stand there.
    pub fn error(code: &'static str, message: impl Into<String>, span: Span, expected: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message, span, expected)
    }

    /// Like [`Diagnostic::error`], for what is accepted but suspicious.
    pub fn warning(code: &'static str, message: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message, span, label)
    }

    /// Like [`Diagnostic::error`], for what is merely worth knowing.
    pub fn note(code: &'static str, message: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message, span, label)
    }

    fn new(severity: Severity, code: &'static str, message: impl Into<String>, span: Span, label: impl Into<String>) -> Self {
        let labels = vec![Label { span, text: bounded(label.into()) }];
        Self { severity, code, message: bounded(message.into()), labels, help: None }
    }

    /// Adds a second place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: bounded(text.into()) });
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(bounded(text.into()));
        self
    }

    /// True when the object that it is about must be refused.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The primary place.
    pub fn span(&self) -> Span {
        self.labels[0].span
    }
}

/// The text, or its beginning.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push_str("...");
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileId;

    #[test]
    fn of_a_long_list_the_first_are_named() {
        let names = ["a", "b", "c", "d", "e"];
        assert_eq!(few(names[..0].iter()), "");
        assert_eq!(few(names[..3].iter()), "a, b, c");
        assert_eq!(few(names.iter()), "a, b, c and 2 more");
    }

    #[test]
    fn a_text_of_any_length_is_cut_between_two_characters() {
        let span = Span { file: FileId(0), start: 0, end: 0 };
        let diagnostic = Diagnostic::error("some-fault", "x".to_owned() + &"ä".repeat(MAX_TEXT), span, "").help("h".repeat(MAX_TEXT));
        assert_eq!(diagnostic.message, format!("x{}...", "ä".repeat(499)));
        assert_eq!(diagnostic.help.map(|help| help.len()), Some(MAX_TEXT));
    }
}
