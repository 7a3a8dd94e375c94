//! Text to a strict tree: one XML file in, its elements with the bytes they came from and every fault of form out.
//!
//! quick-xml cuts the text into events; everything that it lets through and XML 1.0 does not is refused here, DTDs and
//! whatever is too large or too deep among it. Nothing is fetched, no entity is defined, names and values keep their place.
//! On a fault that ends the reading the tree holds what was read so far, so that names before the fault can be told.
//!
//! To read a tree into the model use `parse::visit::Visit`, which reports what nobody asked for.

pub(crate) mod character;
mod read;
mod tag;

use std::borrow::Cow;

use crate::diagnostic::Diagnostic;
use crate::source::Span;

pub use read::read;

/// What one file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<'a> {
    /// The root element; partial when there are faults, `None` when not even its start tag could be read.
    pub root: Option<Element<'a>>,
    /// Every fault of form, in document order; empty exactly when the text is well-formed and within the limits.
    pub faults: Vec<Diagnostic>,
}

/// An element, its start tag's place, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element<'a> {
    /// The name as written, prefix included.
    pub name: &'a str,
    /// The start tag, from `<` to `>`.
    pub span: Span,
    /// The name in the start tag.
    pub name_span: Span,
    /// Unique names, in the order of the text; namespace declarations among them.
    pub attributes: Vec<Attribute<'a>>,
    /// Elements and text in the order of the text; comments and processing instructions are left out.
    pub children: Vec<Node<'a>>,
}

/// An attribute with its value unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The name as written, prefix included.
    pub name: &'a str,
    /// The name's place.
    pub name_span: Span,
    /// The value, references resolved and white space normalised as XML 1.0 section 3.3.3 has it.
    pub value: Cow<'a, str>,
    /// The value's place without its quotes; empty for an empty value.
    pub value_span: Span,
}

/// What an element can contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node<'a> {
    /// Another element.
    Element(Element<'a>),
    /// Characters, references resolved. Between two elements there are three at most: blanks, the first run that can be seen, the rest.
    Text(Text<'a>),
}

/// Characters and their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a> {
    /// The characters, references resolved and line ends as `\n`.
    pub value: Cow<'a, str>,
    /// Their place.
    pub span: Span,
}

impl<'a> Element<'a> {
    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// The child elements, in order.
    pub fn elements(&self) -> impl Iterator<Item = &Element<'a>> {
        self.children.iter().filter_map(|node| if let Node::Element(element) = node { Some(element) } else { None })
    }

    /// The first child element of this name.
    pub fn child(&self, name: &str) -> Option<&Element<'a>> {
        self.elements().find(|element| element.name == name)
    }

    /// The element's own text, not trimmed, without that of its children; its place runs from the first to the last run.
    ///
    /// An element without text gives the empty text at the end of its start tag.
    pub fn text(&self) -> Text<'a> {
        let mut runs = self.children.iter().filter_map(|node| if let Node::Text(text) = node { Some(text) } else { None });
        let Some(first) = runs.next() else {
            return Text { value: Cow::Borrowed(""), span: Span { start: self.span.end, ..self.span } };
        };
        runs.fold(first.clone(), |mut all, run| {
            all.value.to_mut().push_str(&run.value);
            all.span.end = run.span.end;
            all
        })
    }

    /// True when the name has a namespace prefix: such elements belong to somebody else and are skipped.
    pub fn is_foreign(&self) -> bool {
        self.name.contains(':')
    }
}

impl Attribute<'_> {
    /// True for namespace declarations and names with a prefix, which no part of the model knows.
    pub fn is_foreign(&self) -> bool {
        self.name == "xmlns" || self.name.contains(':')
    }
}

#[cfg(test)]
mod tests;
