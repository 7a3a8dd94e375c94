//! One element being read: what its reader asks for is known, and what nobody asked for is reported.
//!
//! Asking for a name makes it part of the element's vocabulary, so the vocabulary cannot drift from what is really read.
//! Names with a namespace prefix belong to somebody else and are passed over without a word.

use super::xml::{Attribute, Element, Node, Text, character};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// A reading of one element; [`Visit::finish`] ends it.
#[must_use = "without `finish` unknown names go unreported"]
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    element: &'a Element<'a>,
    attributes: Vec<&'static str>,
    children: Vec<(&'static str, Occurs)>,
    text: Known,
    elements: Known,
}

/// How often an element may stand in its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occurs {
    /// The first counts; others are reported.
    Once,
    /// Any number.
    Often,
}

/// Whether somebody asked for all of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Asked,
    NotAsked,
}

impl<'a> Visit<'a> {
    /// Begins to read `element`.
    pub(crate) fn new(element: &'a Element<'a>) -> Self {
        Self { element, attributes: Vec::new(), children: Vec::new(), text: Known::NotAsked, elements: Known::NotAsked }
    }

    /// The element itself, for its name and places.
    pub(crate) fn element(&self) -> &'a Element<'a> {
        self.element
    }

    /// The attribute of this name.
    pub(crate) fn attribute(&mut self, name: &'static str) -> Option<&'a Attribute<'a>> {
        self.attributes.push(name);
        self.element.attribute(name)
    }

    /// The attribute of this name unless its value is empty, which libvirt reads as absent in many places.
    pub(crate) fn filled_attribute(&mut self, name: &'static str) -> Option<&'a Attribute<'a>> {
        self.attribute(name).filter(|attribute| !attribute.value.is_empty())
    }

    /// The first child of this name; further ones are reported by [`Visit::finish`].
    pub(crate) fn child(&mut self, name: &'static str) -> Option<&'a Element<'a>> {
        self.children.push((name, Occurs::Once));
        self.element.child(name)
    }

    /// All children of this name, in order.
    pub(crate) fn children(&mut self, name: &'static str) -> impl Iterator<Item = &'a Element<'a>> + use<'a> {
        self.children_among(&[name])
    }

    /// All children whose name is one of `names`, in order: for lists that mix kinds.
    pub(crate) fn children_among(&mut self, names: &[&'static str]) -> impl Iterator<Item = &'a Element<'a>> + use<'a> {
        self.children.extend(names.iter().map(|&name| (name, Occurs::Often)));
        let names = names.to_vec();
        self.element.elements().filter(move |element| names.contains(&element.name))
    }

    /// Every child without a prefix, in order, whatever its name: the caller judges unknown ones itself.
    pub(crate) fn all_children(&mut self) -> impl Iterator<Item = &'a Element<'a>> + use<'a> {
        self.elements = Known::Asked;
        self.element.elements().filter(|element| !element.is_foreign())
    }

    /// Every attribute without a prefix, in order, whatever its name: the caller judges unknown ones itself.
    ///
    /// Asking again for one by name is harmless.
    pub(crate) fn all_attributes(&mut self) -> impl Iterator<Item = &'a Attribute<'a>> + use<'a> {
        self.attributes.push(ANY);
        self.element.attributes.iter().filter(|attribute| !attribute.is_foreign())
    }

    /// The element's own text, see [`Element::text`].
    pub(crate) fn text(&mut self) -> Text<'a> {
        self.text = Known::Asked;
        self.element.text()
    }

    /// Makes names known that decide nothing here, whatever stands in them.
    pub(crate) fn ignore(&mut self, attributes: &[&'static str], children: &[&'static str]) {
        self.attributes.extend(attributes);
        self.children.extend(children.iter().map(|&name| (name, Occurs::Often)));
    }

    /// Reports everything that nobody asked for, and repeated singletons; nothing in a file that has far too many remarks already.
    pub(crate) fn finish(self, diagnostics: &mut Vec<Diagnostic>) {
        if diagnostics.len() >= MAX_REMARKS {
            return;
        }
        self.report_attributes(diagnostics);
        self.report_elements(diagnostics);
        self.report_text(diagnostics);
    }

    fn report_attributes(&self, diagnostics: &mut Vec<Diagnostic>) {
        if self.attributes.contains(&ANY) {
            return;
        }
        for attribute in self.element.attributes.iter().filter(|attribute| !attribute.is_foreign()) {
            if !self.attributes.contains(&attribute.name) {
                let message = format!("unknown attribute `{}` of `<{}>` is ignored", attribute.name, self.element.name);
                let warning = Diagnostic::warning("unknown-attribute", message, attribute.name_span, "not an attribute of this element");
                diagnostics.push(with_suggestion(warning, attribute.name, self.attributes.iter().copied()));
            }
        }
    }

    fn report_elements(&self, diagnostics: &mut Vec<Diagnostic>) {
        if self.elements == Known::Asked {
            return;
        }
        // The first child of each name that was asked for.
        let mut firsts = vec![None; self.children.len()];
        for child in self.element.elements().filter(|child| !child.is_foreign()) {
            if diagnostics.len() >= MAX_REMARKS {
                return;
            }
            let Some(at) = self.children.iter().position(|(name, _)| *name == child.name) else {
                diagnostics.push(self.unknown_element(child));
                continue;
            };
            match firsts[at] {
                Some(first) if self.children[at].1 == Occurs::Once => diagnostics.push(repeated_element(first, child)),
                Some(_) => {}
                None => firsts[at] = Some(child),
            }
        }
    }

    fn unknown_element(&self, child: &Element<'_>) -> Diagnostic {
        let message = format!("unknown element `<{}>` in `<{}>` is ignored", child.name, self.element.name);
        let warning = Diagnostic::warning("unknown-element", message, child.name_span, "not an element that may stand here");
        with_suggestion(warning, child.name, self.children.iter().map(|&(name, _)| name))
    }

    fn report_text(&self, diagnostics: &mut Vec<Diagnostic>) {
        if self.text == Known::Asked {
            return;
        }
        let texts = self.element.children.iter().filter_map(|node| if let Node::Text(text) = node { Some(text) } else { None });
        if let Some(stray) = texts.into_iter().find(|text| !text.value.chars().all(character::is_blank)) {
            let message = format!("text in `<{}>` is ignored", self.element.name);
            diagnostics.push(Diagnostic::warning("unexpected-text", message, visible(stray), "only elements may stand here"));
        }
    }
}

/// Diagnostics of one file after which warnings are no longer of use.
pub(crate) const MAX_REMARKS: usize = 1_000;
/// Diagnostics of one file after which errors are of no use either.
const MAX_DIAGNOSTICS: usize = 2_000;

/// Ends the reading of a list, which goes on at `next`, where so much is wrong with its file that the rest is of no use: true then. An error says so, and breaks what the
/// list is part of.
pub(crate) fn give_up_at(next: Span, diagnostics: &mut Vec<Diagnostic>) -> bool {
    let Some(beyond) = diagnostics.get(MAX_DIAGNOSTICS..) else { return false };
    if beyond.iter().all(|diagnostic| diagnostic.code != TOO_MANY_FAULTS) {
        let message = format!("{MAX_DIAGNOSTICS} faults are enough: the rest is not read");
        diagnostics.push(Diagnostic::error(TOO_MANY_FAULTS, message, next, "up to here"));
    }
    true
}

/// The code of the error that says that a file is not read further.
pub(crate) const TOO_MANY_FAULTS: &str = "too-many-faults";

/// Stands for "all attributes" in the list of those that were asked for; no XML name is empty.
const ANY: &str = "";

/// The place of a text without the blanks around, where no line end or reference moves it.
fn visible(text: &Text<'_>) -> Span {
    let (all, inner) = (&*text.value, text.value.trim_matches(character::is_blank));
    if all.len() != (text.span.end - text.span.start) as usize {
        return text.span;
    }
    let leading = all.len() - all.trim_start_matches(character::is_blank).len();
    let start = text.span.start + u32::try_from(leading).unwrap_or(0);
    Span { start, end: start + u32::try_from(inner.len()).unwrap_or(0), ..text.span }
}

fn repeated_element(first: &Element<'_>, again: &Element<'_>) -> Diagnostic {
    let message = format!("`<{}>` stands here a second time and is ignored", again.name);
    Diagnostic::warning("repeated-element", message, again.name_span, "only the first one counts")
        .also(first.name_span, "the first one")
        .help(format!("keep one `<{}>`", again.name))
}

/// Adds "did you mean" when some known name is near `wrong`.
pub(crate) fn with_suggestion<'n>(diagnostic: Diagnostic, wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Diagnostic {
    match nearest(wrong, known) {
        Some(name) => diagnostic.help(format!("did you mean `{name}`?")),
        None => diagnostic,
    }
}

/// The known name with the fewest edits from `wrong`, if a third of its letters or fewer differ; the first of equals.
pub(crate) fn nearest<'n>(wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Longer words are no typing errors; the bound keeps hostile names from costing time.
    if wrong.len() > 40 {
        return None;
    }
    let most = |name: &str| name.len().max(3) / 3;
    let (wrong, letters) = (wrong.to_ascii_lowercase(), wrong.chars().count());
    known
        .into_iter()
        // Every letter too many or too few is an edit.
        .filter(|name| !name.is_empty() && name.chars().count().abs_diff(letters) <= most(name))
        .map(|name| (edits(&wrong, &name.to_ascii_lowercase()), name))
        .filter(|&(distance, name)| distance <= most(name))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// The edit distance with neighbouring letters swapped counted as one edit (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for row in 1..=a.len() {
        let mut current = vec![row];
        for column in 1..=b.len() {
            let replaced = last[column - 1] + usize::from(a[row - 1] != b[column - 1]);
            let mut best = replaced.min(last[column] + 1).min(current[column - 1] + 1);
            if row > 1 && column > 1 && a[row - 1] == b[column - 2] && a[row - 2] == b[column - 1] {
                best = best.min(before_last[column - 2] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::xml;
    use crate::source::FileId;

    /// What is said about `text` when its reader asks for `known`, `once` and `often`.
    fn report(text: &str, read: impl Fn(&mut Visit<'_>)) -> Vec<(&'static str, String, Option<String>)> {
        let document = xml::read(text, FileId(0));
        let root = document.root.expect("tests are well-formed");
        let mut diagnostics = Vec::new();
        let mut visit = Visit::new(&root);
        read(&mut visit);
        visit.finish(&mut diagnostics);
        let under = |span: Span| text[span.start as usize..span.end as usize].to_owned();
        diagnostics.into_iter().map(|diagnostic| (diagnostic.code, under(diagnostic.span()), diagnostic.help)).collect()
    }

    #[test]
    fn what_was_asked_for_is_not_reported() {
        let said = report("<a b='1' c='2'>\n <d/> <e/><e/> <m/> </a>", |visit| {
            assert!(visit.attribute("b").is_some() && visit.attribute("z").is_none() && visit.child("d").is_some());
            assert_eq!(visit.children("e").count(), 2);
            visit.ignore(&["c"], &["m"]);
        });
        assert_eq!(said, []);
    }

    #[test]
    fn unknown_names_are_reported_with_the_nearest_known_one() {
        let said = report("<a adress='1'><frward/><xyzzy/></a>", |visit| {
            visit.attribute("address");
            visit.child("forward");
        });
        let help = |name: &str| Some(format!("did you mean `{name}`?"));
        let expected = [
            ("unknown-attribute", "adress".to_owned(), help("address")),
            ("unknown-element", "frward".to_owned(), help("forward")),
            ("unknown-element", "xyzzy".to_owned(), None),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn names_of_other_namespaces_are_passed_over() {
        let said = report("<a xmlns:d='urn:d' xmlns='urn:e' d:x='1'><d:options/></a>", |_| {});
        assert_eq!(said, []);
    }

    #[test]
    fn a_singleton_counts_once_and_text_nowhere() {
        let said = report("<a><b c='1'/> stray <b c='2'/></a>", |visit| {
            let first = visit.child("b").expect("it is there");
            assert_eq!(first.attribute("c").map(|c| &*c.value), Some("1"));
        });
        let codes: Vec<_> = said.iter().map(|(code, under, _)| (*code, under.as_str())).collect();
        assert_eq!(codes, [("repeated-element", "b"), ("unexpected-text", "stray")]);
    }

    #[test]
    fn swapped_letters_are_one_edit_and_far_words_no_suggestion() {
        assert_eq!(edits("dirction", "direction"), 1);
        assert_eq!(edits("ruote", "route"), 1);
        assert_eq!(nearest("IPv4", ["ipv6", "ipv4"]), Some("ipv4"));
        assert_eq!(nearest("banana", ["nat", "route"]), None);
        assert_eq!(nearest(&"a".repeat(100), ["nat"]), None);
    }
}
