//! The loop over quick-xml's events that builds the tree.
//!
//! quick-xml only finds where tags, texts, comments and sections end; everything it could judge is judged here, since its
//! own checks are fewer than XML 1.0 asks for and its messages have no place.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::errors::{IllFormedError, SyntaxError};
use quick_xml::events::Event;

use super::character::{is_blank, is_name, normalize_lines};
use super::tag::{MAX_FAULTS, Page, forbidden_character, read_attributes, read_reference};
use super::{Attribute, Document, Element, Node, Text};
use crate::diagnostic::Diagnostic;
use crate::source::{FileId, Span};

/// Bytes of a file; a real domain has some 10 kB, all stock filters together 14 kB.
const MAX_BYTES: usize = 2 << 20;
/// Elements inside each other. Domains are about eight deep, but libvirt writes one `<backingStore>` into another for
/// every snapshot of a disk, 200 at most.
const MAX_DEPTH: usize = 256;
/// Elements of a file, with their attributes. Only what says next to nothing, over and over, has more in 2 MiB.
const MAX_NODES: usize = 200_000;

/// U+FEFF, which some editors put before the first character.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads one file's text. Never fails: what is wrong is in [`Document::faults`].
pub fn read(text: &str, file: FileId) -> Document<'_> {
    if text.len() > MAX_BYTES {
        let message = format!("a file may have {MAX_BYTES} bytes, this one has {}", text.len());
        let span = Span { file, start: 0, end: 0 };
        return Document { root: None, faults: vec![Diagnostic::error("xml-too-large", message, span, "too large")] };
    }
    let page = Page { file, text };
    let mut tree = Tree { page, open: Vec::new(), root: None, nodes: 0, text: TextPart::None, faults: Vec::new() };
    tree.faults.extend(forbidden_character(page));
    if let Err(fault) = tree.read_events() {
        tree.faults.push(fault);
        tree.close_all();
    }
    tree.faults.sort_by_key(|fault| fault.span().start);
    Document { root: tree.root, faults: tree.faults }
}

/// The tree as far as it is read.
struct Tree<'a> {
    page: Page<'a>,
    /// The elements whose end tag has not come yet, the outermost first.
    open: Vec<Element<'a>>,
    root: Option<Element<'a>>,
    nodes: usize,
    /// What the last node of the innermost open element is.
    text: TextPart,
    faults: Vec<Diagnostic>,
}

/// The parts of a text that get a node each; every run of characters having one, a file of references would fill memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextPart {
    /// No text.
    None,
    /// Blanks before anything that can be seen.
    Blank,
    /// The first run that can be seen: where text is not expected, it is the place that is shown.
    Visible,
    /// All that follows.
    Rest,
}

/// An error ends the reading; what can be read past is pushed to the faults instead.
type Step = Result<(), Diagnostic>;

impl<'a> Tree<'a> {
    /// Reads to the end of the text, or to the fault behind which nothing can be told apart.
    fn read_events(&mut self) -> Step {
        // The mark is cut off by hand: quick-xml skips it without counting its bytes.
        let base = if self.page.text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
        let body = &self.page.text[base..];
        if body.starts_with(BYTE_ORDER_MARK) {
            return Err(Diagnostic::error("xml-text-outside-root", "a second byte order mark", self.page.character(base), "remove it"));
        }
        let mut reader = Reader::from_str(body);
        // Tags are matched here, with both places at hand.
        reader.config_mut().check_end_names = false;
        reader.config_mut().allow_unmatched_ends = true;
        // A lone `&` then stays in the text, where reading can go on behind it.
        reader.config_mut().allow_dangling_amp = true;
        loop {
            let start = base + position(reader.buffer_position());
            let event = reader.read_event().map_err(|error| self.syntax(base + position(reader.error_position()), &error))?;
            let end = base + position(reader.buffer_position());
            self.judge_number_of_faults(start)?;
            match event {
                Event::Eof => return self.finish(),
                Event::Decl(_) => self.declaration(start, end, base)?,
                Event::DocType(_) => return Err(self.doctype(start, end)),
                Event::PI(instruction) => self.instruction(instruction.target(), start)?,
                Event::Comment(_) => self.comment(start, end),
                Event::Start(_) => self.start_tag(start, end, TagEnd::Open)?,
                Event::Empty(_) => self.start_tag(start, end, TagEnd::Closed)?,
                Event::End(_) => self.end_tag(start, end)?,
                Event::Text(_) => self.text(start, end)?,
                Event::CData(_) => self.cdata(start, end)?,
                Event::GeneralRef(_) => self.reference(start, end)?,
            }
        }
    }

    /// Ends the reading of what is hardly XML: each fault costs some hundred bytes.
    fn judge_number_of_faults(&self, at: usize) -> Step {
        if self.faults.len() < MAX_FAULTS {
            return Ok(());
        }
        Err(Diagnostic::error("xml-too-many-faults", "too many faults; the rest is not read", self.page.character(at), "up to here"))
    }

    /// At the end of the text exactly one root must have been opened and closed.
    fn finish(&mut self) -> Step {
        if let Some(element) = self.open.last() {
            let message = format!("`<{}>` is never closed", element.name);
            return Err(Diagnostic::error("xml-unclosed-element", message, element.name_span, "this element")
                .help(format!("add `</{}>`", element.name)));
        }
        if self.root.is_some() {
            return Ok(());
        }
        let span = self.page.character(self.page.text.len());
        Err(Diagnostic::error("xml-no-root", "the file holds no element", span, "expected an element such as `<network>`"))
    }

    /// Closes what is open at a fault, so that the partial tree hangs together.
    fn close_all(&mut self) {
        while let Some(element) = self.open.pop() {
            self.attach(element);
        }
    }

    /// Puts a closed element where it belongs. A second root never gets here.
    fn attach(&mut self, element: Element<'a>) {
        self.text = TextPart::None;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(Node::Element(element)),
            None => self.root = Some(element),
        }
    }

    /// `<a ..>` or `<a ../>`: quick-xml takes anything between the brackets.
    fn start_tag(&mut self, start: usize, end: usize, tag_end: TagEnd) -> Step {
        let inside = &self.page.text[start + 1..end - tag_end.length()];
        let name = &inside[..inside.find(is_blank).unwrap_or(inside.len())];
        let name_span = self.page.span(start + 1, start + 1 + name.len());
        self.admit(name, name_span)?;
        let (from, to) = (start + 1 + name.len(), end - tag_end.length());
        let attributes = match read_attributes(self.page, from, to, &mut self.faults) {
            Ok(attributes) => attributes,
            // Kept with the tag's name, so that the reader of a broken document still sees what it was about.
            Err(fault) => {
                self.faults.push(fault);
                Vec::new()
            }
        };
        self.nodes += 1 + attributes.len();
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} elements and attributes");
            return Err(Diagnostic::error("xml-too-many-elements", message, name_span, "one too many"));
        }
        let element = Element { name, span: self.page.span(start, end), name_span, attributes, children: Vec::new() };
        match tag_end {
            TagEnd::Open => {
                self.text = TextPart::None;
                self.open.push(element);
            }
            TagEnd::Closed => self.attach(element),
        }
        Ok(())
    }

    /// Decides whether an element of this name may begin here.
    fn admit(&mut self, name: &str, span: Span) -> Step {
        if !is_name(name) {
            return Err(Diagnostic::error("xml-invalid-name", format!("`{name}` is not the name of an element"), span, "expected a name"));
        }
        if let (Some(root), true) = (&self.root, self.open.is_empty()) {
            let message = format!("`<{name}>` stands behind the end of `<{}>`", root.name);
            return Err(Diagnostic::error("xml-second-root", message, span, "a file holds one root element")
                .also(root.name_span, "the root element")
                .help("put it into a file of its own"));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(Diagnostic::error("xml-too-deep", format!("elements are nested more than {MAX_DEPTH} deep"), span, "one too deep"));
        }
        Ok(())
    }

    /// `</a>`: must name the innermost open element.
    fn end_tag(&mut self, start: usize, end: usize) -> Step {
        let name = self.page.text[start + 2..end - 1].trim_end_matches(is_blank);
        let span = self.page.span(start + 2, start + 2 + name.len());
        let Some(element) = self.open.pop() else {
            return Err(Diagnostic::error("xml-mismatched-tag", format!("`</{name}>` closes nothing"), span, "no element is open here"));
        };
        let open = element.name;
        let open_span = element.name_span;
        self.attach(element);
        if name == open {
            return Ok(());
        }
        let message = format!("`</{name}>` where `<{open}>` is open");
        Err(Diagnostic::error("xml-mismatched-tag", message, span, format!("expected `</{open}>`")).also(open_span, "this element is open"))
    }

    /// Characters between tags. Outside the root only ASCII white space may stand: `trim` would let U+0085 pass.
    fn text(&mut self, start: usize, end: usize) -> Step {
        let raw = &self.page.text[start..end];
        if self.open.is_empty() {
            return match raw.find(|c| !is_blank(c)) {
                None => Ok(()),
                Some(at) => Err(self.outside_root(start + at)),
            };
        }
        if let Some(at) = raw.find("]]>") {
            let span = self.page.span(start + at, start + at + 3);
            let fault = Diagnostic::error("xml-cdata-end-in-text", "`]]>` in text", span, "not allowed here").help("write `]]&gt;`");
            self.faults.push(fault);
        }
        for (at, _) in raw.match_indices('&').take(MAX_FAULTS) {
            self.faults.extend(read_reference(self.page, start + at, "&").err());
        }
        self.append(normalize_lines(raw), start, end);
        Ok(())
    }

    /// `<![CDATA[..]]>`: text without references.
    fn cdata(&mut self, start: usize, end: usize) -> Step {
        if self.open.is_empty() {
            return Err(self.outside_root(start));
        }
        let (opening, closing) = ("<![CDATA[".len(), "]]>".len());
        self.append(normalize_lines(&self.page.text[start + opening..end - closing]), start, end);
        Ok(())
    }

    /// `&lt;` or `&#60;`: quick-xml gives it as an event of its own and does not judge which character it is.
    fn reference(&mut self, start: usize, end: usize) -> Step {
        if self.open.is_empty() {
            return Err(self.outside_root(start));
        }
        match read_reference(self.page, start, &self.page.text[start..end]) {
            Ok(c) => self.append(Cow::Owned(c.to_string()), start, end),
            Err(fault) => self.faults.push(fault),
        }
        Ok(())
    }

    fn append(&mut self, value: Cow<'a, str>, start: usize, end: usize) {
        let span = self.page.span(start, end);
        let Some(element) = self.open.last_mut() else { return };
        let before = self.text;
        self.text = match before {
            TextPart::None | TextPart::Blank if value.chars().all(is_blank) => TextPart::Blank,
            TextPart::None | TextPart::Blank => TextPart::Visible,
            TextPart::Visible | TextPart::Rest => TextPart::Rest,
        };
        match element.children.last_mut() {
            Some(Node::Text(text)) if before == self.text => {
                text.value.to_mut().push_str(&value);
                text.span.end = span.end;
            }
            _ => element.children.push(Node::Text(Text { value, span })),
        }
    }

    fn outside_root(&self, at: usize) -> Diagnostic {
        let place = self.page.character(at);
        Diagnostic::error("xml-text-outside-root", "text outside the root element", place, "only comments may stand here")
    }

    /// `<!-- .. -->`: skipped, but `--` inside would make other readers end it elsewhere.
    fn comment(&mut self, start: usize, end: usize) {
        let (opening, closing) = ("<!--".len(), "-->".len());
        // The body and the first dash of its end: a comment must not end in `--->` either.
        let body = &self.page.text[start + opening..=end - closing];
        if let Some(at) = body.find("--") {
            let from = start + opening + at;
            self.faults.push(Diagnostic::error("xml-comment", "`--` in a comment", self.page.span(from, from + 2), "not allowed here"));
        }
    }

    /// `<?a ..?>`: skipped; a second XML declaration in other letters is not one.
    fn instruction(&mut self, target: &str, start: usize) -> Step {
        if is_name(target) && !target.eq_ignore_ascii_case("xml") {
            return Ok(());
        }
        let span = self.page.span(start + 2, start + 2 + target.len());
        let message = format!("`{target}` is not the name of a processing instruction");
        Err(Diagnostic::error("xml-invalid-name", message, span, "expected a name other than `xml`"))
    }

    /// DTDs define entities and name files: refused whole.
    fn doctype(&self, start: usize, end: usize) -> Diagnostic {
        // The keyword is enough: an internal subset may be long.
        let span = self.page.span(start, end.min(start + "<!DOCTYPE".len()));
        Diagnostic::error("xml-doctype", "document type declarations are refused", span, "not accepted in any file")
            .help("remove the declaration and write entities out")
    }

    /// `<?xml ..?>`: only at the very beginning, where it may tell the encoding.
    fn declaration(&mut self, start: usize, end: usize, base: usize) -> Step {
        let span = self.page.span(start, end);
        if start != base {
            return Err(Diagnostic::error("xml-declaration", "the XML declaration does not stand first", span, "nothing may precede it")
                .help("remove it, or everything before it"));
        }
        let rename = |fault| Diagnostic { code: "xml-declaration", ..fault };
        let mut faults = Vec::new();
        let attributes = read_attributes(self.page, start + "<?xml".len(), end - "?>".len(), &mut faults).map_err(rename)?;
        self.faults.extend(faults.into_iter().map(rename));
        if let Some(fault) = self.judge_declaration(&attributes, span) {
            self.faults.push(fault);
        }
        Ok(())
    }

    /// The first thing that is wrong with the declaration's parts and their order (XML 1.0 production 23).
    fn judge_declaration(&self, attributes: &[Attribute<'_>], span: Span) -> Option<Diagnostic> {
        let fault = |place, expected: &str| Some(Diagnostic::error("xml-declaration", "faulty XML declaration", place, expected));
        // As written: references mean nothing before the document begins.
        let written = |attribute: &Attribute<'_>| &self.page.text[attribute.value_span.start as usize..attribute.value_span.end as usize];
        let Some((version, others)) = attributes.split_first() else {
            return fault(span, "expected `version='1.0'`");
        };
        if version.name != "version" || written(version) != "1.0" {
            return fault(span, "expected `version='1.0'` first");
        }
        let mut allowed = ["encoding", "standalone"].iter();
        for attribute in others {
            if !allowed.any(|name| *name == attribute.name) {
                return fault(attribute.name_span, "expected `encoding`, then `standalone`, each at most once");
            }
            if attribute.name == "encoding" && !self.is_encoding(written(attribute)) {
                return fault(attribute.value_span, "expected `UTF-8`");
            }
            if attribute.name == "standalone" && !matches!(written(attribute), "yes" | "no") {
                return fault(attribute.value_span, "expected `yes` or `no`");
            }
        }
        None
    }

    /// Whether the text, read as UTF-8, is what an editor for this encoding shows. Plain ASCII is the same in all that people use.
    fn is_encoding(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "utf-8" | "utf8" => true,
            "us-ascii" | "ascii" => self.page.text.is_ascii(),
            _ => (name.starts_with("iso-8859-") || name.starts_with("windows-125")) && self.page.text.is_ascii(),
        }
    }

    /// What quick-xml cannot cut, in our words and at the beginning of the piece.
    fn syntax(&self, at: usize, error: &quick_xml::Error) -> Diagnostic {
        let (message, label) = match error {
            quick_xml::Error::Syntax(SyntaxError::UnclosedComment) => ("a comment never ends", "expected `-->` behind it"),
            quick_xml::Error::Syntax(SyntaxError::UnclosedCData) => ("a CDATA section never ends", "expected `]]>` behind it"),
            quick_xml::Error::Syntax(SyntaxError::UnclosedPI | SyntaxError::UnclosedXmlDecl) => {
                ("a processing instruction never ends", "expected `?>` behind it")
            }
            quick_xml::Error::Syntax(SyntaxError::UnclosedDoctype) | quick_xml::Error::IllFormed(IllFormedError::MissingDoctypeName) => {
                ("document type declarations are refused", "not accepted in any file")
            }
            quick_xml::Error::Syntax(SyntaxError::UnclosedTag) => ("a tag never ends", "expected `>` behind it"),
            quick_xml::Error::Syntax(SyntaxError::UnclosedSingleQuotedAttributeValue | SyntaxError::UnclosedDoubleQuotedAttributeValue) => {
                ("the value of an attribute never ends", "expected a closing quote in this tag")
            }
            _ => ("neither a tag nor text", "expected a tag, a comment or `&lt;`"),
        };
        let at = self.page.text.floor_char_boundary(at);
        Diagnostic::error("xml-syntax", message, self.page.character(at), label)
    }
}

/// How a start tag ends.
#[derive(Clone, Copy)]
enum TagEnd {
    /// `>`
    Open,
    /// `/>`
    Closed,
}

impl TagEnd {
    fn length(self) -> usize {
        match self {
            Self::Open => 1,
            Self::Closed => 2,
        }
    }
}

/// quick-xml counts in `u64`.
fn position(at: u64) -> usize {
    usize::try_from(at).expect("`read` refuses files above 2 MiB")
}
