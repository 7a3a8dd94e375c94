//! The attributes of one start tag, or of the XML declaration, with their places.
//!
//! Takes the bytes between the name and the end of the tag. Stops at the first fault of syntax; faults of one value do not
//! end the tag.

use std::borrow::Cow;

use super::Attribute;
use super::character::{ReferenceFault, is_allowed, is_blank, is_name, resolve_reference};
use crate::diagnostic::Diagnostic;
use crate::source::{FileId, Span};

/// Attributes in one tag; libvirt's richest elements have fewer than 20.
const MAX_ATTRIBUTES: usize = 64;
/// Faults of form that are told of one file.
pub(super) const MAX_FAULTS: usize = 100;

/// The text of a file, for cutting spans out of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) file: FileId,
    pub(super) text: &'a str,
}

impl Page<'_> {
    /// The span of these bytes.
    pub(super) fn span(self, start: usize, end: usize) -> Span {
        let offset = |at: usize| u32::try_from(at).expect("`read` refuses files above 2 MiB");
        Span { file: self.file, start: offset(start), end: offset(end) }
    }

    /// The span of the character at `at`, empty at the end of the text.
    pub(super) fn character(self, at: usize) -> Span {
        let length = self.text[at..].chars().next().map_or(0, char::len_utf8);
        self.span(at, at + length)
    }

    fn place_of(self, part: &str, start: usize) -> Span {
        self.span(start, start + part.len())
    }
}

/// Reads the attributes in `start..end`; what is wrong goes to `faults`.
///
/// # Errors
/// The fault after which the rest of the tag cannot be told apart.
pub(super) fn read_attributes<'a>(
    page: Page<'a>,
    start: usize,
    end: usize,
    faults: &mut Vec<Diagnostic>,
) -> Result<Vec<Attribute<'a>>, Diagnostic> {
    let mut attributes: Vec<Attribute<'a>> = Vec::new();
    let mut cursor = Cursor { page, at: start, end };
    let mut read = 0;
    while let Some(attribute) = cursor.next_attribute(faults)? {
        // Repeated ones count too: each is a fault to tell.
        read += 1;
        if read > MAX_ATTRIBUTES {
            let message = format!("more than {MAX_ATTRIBUTES} attributes in one tag");
            return Err(Diagnostic::error("xml-too-many-attributes", message, attribute.name_span, "one too many"));
        }
        match attributes.iter().find(|earlier| earlier.name == attribute.name) {
            Some(earlier) => faults.push(duplicate(earlier, &attribute)),
            None => attributes.push(attribute),
        }
    }
    Ok(attributes)
}

fn duplicate(first: &Attribute<'_>, again: &Attribute<'_>) -> Diagnostic {
    let message = format!("attribute `{}` is given twice", again.name);
    Diagnostic::error("xml-duplicate-attribute", message, again.name_span, "an attribute may stand only once in a tag")
        .also(first.name_span, "the first one")
        .help("remove one of the two")
}

/// A place in the inside of a tag.
struct Cursor<'a> {
    page: Page<'a>,
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    /// What is not read yet.
    fn rest(&self) -> &'a str {
        &self.page.text[self.at..self.end]
    }

    /// Takes as much as `wanted` holds for.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !wanted(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    /// The next `name='value'`, or `None` at the end of the tag.
    fn next_attribute(&mut self, faults: &mut Vec<Diagnostic>) -> Result<Option<Attribute<'a>>, Diagnostic> {
        let blanks = self.take_while(is_blank);
        if self.rest().is_empty() {
            return Ok(None);
        }
        if blanks.is_empty() {
            return Err(self.fault("xml-attribute-syntax", "no blank before an attribute", "a blank"));
        }
        let name_start = self.at;
        let name = self.take_while(|c| !is_blank(c) && !matches!(c, '=' | '"' | '\'' | '<' | '>' | '/'));
        let name_span = self.page.place_of(name, name_start);
        if name.is_empty() {
            return Err(self.fault("xml-attribute-syntax", "an attribute has no name", "the name of an attribute"));
        }
        if !is_name(name) {
            let message = format!("`{name}` is not the name of an attribute");
            return Err(Diagnostic::error("xml-invalid-name", message, name_span, "a letter, then letters, digits, `-`, `_` or `.`"));
        }
        self.expect_equals(name)?;
        let (raw, value_span) = self.quoted(name)?;
        let value = unescape(self.page, raw, value_span, faults);
        Ok(Some(Attribute { name, name_span, value, value_span }))
    }

    /// `=` with optional white space around.
    fn expect_equals(&mut self, name: &str) -> Result<(), Diagnostic> {
        self.take_while(is_blank);
        if !self.rest().starts_with('=') {
            return Err(self.fault("xml-attribute-syntax", format!("attribute `{name}` has no value"), "`=` and a value in quotes"));
        }
        self.at += 1;
        self.take_while(is_blank);
        Ok(())
    }

    /// The text between the quotes and its place.
    fn quoted(&mut self, name: &str) -> Result<(&'a str, Span), Diagnostic> {
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            return Err(self.fault("xml-attribute-syntax", format!("the value of attribute `{name}` has no quotes"), "a quote"));
        };
        self.at += 1;
        let start = self.at;
        let raw = self.take_while(|c| c != quote);
        if self.rest().is_empty() {
            let message = format!("the value of attribute `{name}` has no closing quote");
            return Err(Diagnostic::error(
                "xml-attribute-syntax",
                message,
                self.page.place_of(raw, start),
                format!("a `{quote}` behind it"),
            ));
        }
        self.at += 1;
        Ok((raw, self.page.place_of(raw, start)))
    }

    /// A fault at the next character, or at the end of the tag.
    fn fault(&self, code: &'static str, message: impl Into<String>, expected: &str) -> Diagnostic {
        Diagnostic::error(code, message, self.page.character(self.at), format!("expected {expected}"))
    }
}

/// The value of an attribute: references resolved, white space made blanks (XML 1.0 section 3.3.3).
fn unescape<'a>(page: Page<'a>, raw: &'a str, span: Span, faults: &mut Vec<Diagnostic>) -> Cow<'a, str> {
    if !raw.contains(['&', '<', '\t', '\r', '\n']) {
        return Cow::Borrowed(raw);
    }
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(c) = rest.chars().next().filter(|_| faults.len() < MAX_FAULTS) {
        let at = span.start as usize + raw.len() - rest.len();
        let taken = match c {
            '&' => reference(page, at, rest, &mut value, faults),
            '<' => {
                faults.push(raw_less_than(page.character(at)));
                1
            }
            '\t' | '\r' | '\n' => {
                value.push(' ');
                if rest.starts_with("\r\n") { 2 } else { 1 }
            }
            _ => {
                value.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    Cow::Owned(value)
}

/// Resolves the reference that `rest` starts with and says how many bytes it takes.
fn reference(page: Page<'_>, at: usize, rest: &str, value: &mut String, faults: &mut Vec<Diagnostic>) -> usize {
    let length = reference_length(rest);
    match read_reference(page, at, &rest[..length]) {
        Ok(c) => value.push(c),
        Err(fault) => faults.push(fault),
    }
    length
}

/// The bytes from `&` to `;`, or to where a reference cannot go on.
fn reference_length(rest: &str) -> usize {
    let stop = rest[1..].find(|c: char| c == ';' || c == '&' || c == '<' || is_blank(c)).map_or(rest.len(), |at| at + 1);
    if rest[stop..].starts_with(';') { stop + 1 } else { stop }
}

/// The character that `raw`, from `&` to `;`, stands for.
///
/// # Errors
/// The fault, at the whole reference.
pub(super) fn read_reference(page: Page<'_>, at: usize, raw: &str) -> Result<char, Diagnostic> {
    let body = raw.strip_prefix('&').and_then(|body| body.strip_suffix(';'));
    let fault = match body.map(resolve_reference) {
        Some(Ok(c)) => return Ok(c),
        Some(Err(fault)) => fault,
        None => ReferenceFault::Unfinished,
    };
    let span = page.place_of(raw, at);
    Err(match fault {
        ReferenceFault::Unfinished => {
            let place = page.span(at, at + 1);
            Diagnostic::error("xml-invalid-reference", "`&` does not begin a reference", place, "a name or number and `;` behind it")
                .help("write `&amp;` for the character itself")
        }
        ReferenceFault::UnknownEntity => Diagnostic::error(
            "xml-unknown-entity",
            format!("unknown entity `{raw}`"),
            span,
            "one of `&lt;`, `&gt;`, `&amp;`, `&apos;`, `&quot;`",
        )
        .help("write the character itself"),
        ReferenceFault::NotACharacter => Diagnostic::error(
            "xml-invalid-reference",
            format!("`{raw}` does not stand for a character of XML"),
            span,
            "`&#` and a decimal number, or `&#x` and a hexadecimal one",
        ),
    })
}

fn raw_less_than(span: Span) -> Diagnostic {
    Diagnostic::error("xml-less-than-in-value", "`<` in the value of an attribute", span, "not allowed here").help("write `&lt;`")
}

/// The first character that XML does not allow.
pub(super) fn forbidden_character(page: Page<'_>) -> Option<Diagnostic> {
    let (at, c) = page.text.char_indices().find(|&(_, c)| !is_allowed(c))?;
    let message = format!("the character U+{:04X} is not allowed in XML", u32::from(c));
    Some(Diagnostic::error("xml-invalid-character", message, page.character(at), "remove this character"))
}
