//! A diagnostic as text: with the source lines and carets, or on one line.
//!
//! Takes the diagnostic and the files that its labels point into. The output is bounded whatever the input: long lines are
//! cut around the label, lines between labels are left out, and control characters never reach a terminal.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use super::visible::{is_unruly, visible};
use super::{Diagnostic, Label, Severity, Style};
use crate::source::{FileId, Sources};

/// Columns of the output; a fixed number, so that the text does not depend on the terminal.
const WIDTH: usize = 140;
/// Characters of a message that people are shown.
const MAX_MESSAGE: usize = 400;
/// Bytes of a line that labels of one window may span; beyond its width the renderer would print the whole line.
const MAX_COLUMNS: usize = 100;
/// Bytes of lines that are shown; the renderer looks at all of them, however few it prints, and a hostile file is one line with many faults.
const MAX_EXCERPT: usize = 16 << 10;
/// Lines that labels of one window may span, those in between being folded.
const MAX_LINES: u32 = 50;

/// The diagnostic as people read it: `error[code]: message`, `--> file:line:column`, the line, carets, help.
///
/// Several labels may point into several files; the first one is marked as the cause. Ends with a newline.
pub fn render(diagnostic: &Diagnostic, sources: &Sources, style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Colored => Renderer::styled(),
    };
    let windows = windows(diagnostic, sources);
    let title = level(diagnostic.severity).primary_title(one_line(&diagnostic.message)).id(diagnostic.code);
    let mut group = Group::with_title(title);
    for window in &windows {
        group = if window.bytes.len() <= MAX_EXCERPT { group.element(window.snippet()) } else { group.elements(window.places()) };
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(one_line(help)));
    }
    let mut text = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH).render(&[group]);
    text.push('\n');
    text
}

/// The diagnostic on one line: `path:line:column: error[code]: message`, without a newline.
pub fn short(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let word = diagnostic.severity.as_str();
    let place = sources.position(diagnostic.span()).to_string();
    format!("{}: {word}[{}]: {}", one_line(&place), diagnostic.code, one_line(&diagnostic.message))
}

/// annotate-snippets' word and colour for a severity.
fn level(severity: Severity) -> Level<'static> {
    match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    }
}

/// Text of ours around text of a user's: what could act on a terminal becomes an escape, so that it stays on its line and in its colour.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(MAX_MESSAGE).collect();
    if line.len() < text.len() {
        line.push_str("...");
    }
    visible(&line).into_owned()
}

/// A few neighbouring lines of one file with the labels in them.
struct Window<'a> {
    file: FileId,
    path: &'a str,
    text: &'a str,
    /// Lines, from 0.
    lines: Range<u32>,
    /// Bytes from a line's start.
    columns: Range<usize>,
    marks: Vec<Mark<'a>>,
    /// The bytes of `text` that are shown.
    bytes: Range<usize>,
}

/// One label, cut to the line that it begins on.
struct Mark<'a> {
    bytes: Range<usize>,
    label: &'a Label,
    kind: AnnotationKind,
}

/// The labels in windows: those that lie near each other share one.
fn windows<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Vec<Window<'a>> {
    let mut windows: Vec<Window<'a>> = Vec::new();
    for (at, label) in diagnostic.labels.iter().enumerate() {
        let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let single = Window::around(label, kind, sources);
        match windows.iter_mut().find(|window| window.is_near(&single)) {
            Some(window) => window.absorb(single),
            None => windows.push(single),
        }
    }
    windows
}

impl<'a> Window<'a> {
    /// The line on which a label begins; a label over several lines is cut to it.
    fn around(label: &'a Label, kind: AnnotationKind, sources: &'a Sources) -> Self {
        let file = sources.file(label.span.file);
        let bytes = file.clamp(label.span);
        let line = file.line_of(bytes.start);
        let line_bytes = file.line_bytes(line);
        let end = file.text.floor_char_boundary(bytes.end.min(line_bytes.end).min(bytes.start + MAX_COLUMNS)).max(bytes.start);
        let columns = bytes.start - line_bytes.start..end - line_bytes.start;
        let marks = vec![Mark { bytes: bytes.start..end, label, kind }];
        Self { file: label.span.file, path: &file.path, text: &file.text, lines: line..line + 1, columns, marks, bytes: line_bytes }
    }

    /// Whether both fit into one excerpt without being cut or folded beyond use.
    fn is_near(&self, other: &Self) -> bool {
        self.file == other.file
            && join(&self.bytes, &other.bytes).len() <= MAX_EXCERPT
            && join(&self.lines, &other.lines).len() <= MAX_LINES as usize
            && join(&self.columns, &other.columns).len() <= MAX_COLUMNS
    }

    /// Widens this window to hold the other one too.
    fn absorb(&mut self, other: Self) {
        self.lines = join(&self.lines, &other.lines);
        self.columns = join(&self.columns, &other.columns);
        self.bytes = join(&self.bytes, &other.bytes);
        self.marks.extend(other.marks);
    }

    /// The labels alone, for lines too long to show.
    fn places(&self) -> Vec<Element<'a>> {
        let place = |mark: &Mark<'a>| {
            let column = self.text[self.bytes.start..mark.bytes.start].chars().count() + 1;
            let place = Origin::path(one_line(self.path)).line(self.lines.start as usize + 1).char_column(column);
            let label = Some(&mark.label.text).filter(|text| !text.is_empty());
            std::iter::once(place.into()).chain(label.map(|text| Level::NOTE.message(one_line(text)).into())).collect::<Vec<_>>()
        };
        self.marks.iter().flat_map(place).collect()
    }

    /// The lines and labels for the renderer, which counts bytes from the first line shown.
    fn snippet(&self) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let base = self.bytes.start;
        let marks = self.marks.iter().map(|mark| {
            let annotation = mark.kind.span(mark.bytes.start - base..mark.bytes.end - base);
            if mark.label.text.is_empty() { annotation } else { annotation.label(one_line(&mark.label.text)) }
        });
        Snippet::source(tame(&self.text[self.bytes.clone()]))
            .path(one_line(self.path))
            .line_start(self.lines.start as usize + 1)
            .annotations(marks)
    }
}

/// The smallest range that holds both.
fn join<T: Ord + Copy>(a: &Range<T>, b: &Range<T>) -> Range<T> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// Source text whose every byte keeps its place, without the unruly characters that the renderer may let through; it shows those of one byte itself.
fn tame(text: &str) -> String {
    text.chars()
        .map(|letter| match letter.len_utf8() {
            2 if is_unruly(letter) => '\u{bf}',
            3 if is_unruly(letter) => char::REPLACEMENT_CHARACTER,
            _ => letter,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    fn sources(text: &str) -> (Sources, FileId) {
        let mut sources = Sources::default();
        let file = sources.add("state/a.xml", text);
        (sources, file)
    }

    /// A fault at the first place of `part` in the text.
    fn fault_at(sources: &Sources, file: FileId, part: &str) -> Diagnostic {
        Diagnostic::error("some-fault", "a fault", span_of(sources, file, part), "here")
    }

    fn span_of(sources: &Sources, file: FileId, part: &str) -> Span {
        let start = sources.file(file).text.find(part).expect("the part is in the text");
        let offset = |at: usize| u32::try_from(at).expect("tests are short");
        Span { file, start: offset(start), end: offset(start + part.len()) }
    }

    #[test]
    fn a_fault_shows_its_line_with_carets_and_help() {
        let (sources, file) = sources("<a>\n  <b c='d'/>\n</a>\n");
        let fault = fault_at(&sources, file, "d").help("write `e`");
        assert_eq!(
            render(&fault, &sources, Style::Plain),
            "error[some-fault]: a fault\n \
             --> state/a.xml:2:9\n  \
               |\n\
             2 |   <b c='d'/>\n  \
               |         ^ here\n  \
               |\n  \
               = help: write `e`\n"
        );
        assert_eq!(short(&fault, &sources), "state/a.xml:2:9: error[some-fault]: a fault");
    }

    #[test]
    fn an_empty_span_gets_one_caret() {
        let (sources, file) = sources("<b c=''/>");
        let mut fault = fault_at(&sources, file, "''");
        fault.labels[0].span.start += 1;
        fault.labels[0].span.end = fault.labels[0].span.start;
        assert!(render(&fault, &sources, Style::Plain).contains("\n  |       ^ here\n"), "{}", render(&fault, &sources, Style::Plain));
    }

    #[test]
    fn labels_may_lie_in_several_files() {
        let (mut sources, first) = sources("<a/>");
        let second = sources.add("state/b.xml", "<b/>");
        let fault = fault_at(&sources, first, "a").also(span_of(&sources, second, "b"), "and here");
        let text = render(&fault, &sources, Style::Plain);
        assert!(text.contains("--> state/a.xml:1:2\n"), "{text}");
        assert!(text.contains("::: state/b.xml:1:2\n"), "{text}");
        assert!(text.contains("^ here"), "{text}");
        assert!(text.contains("- and here"), "{text}");
    }

    #[test]
    fn columns_count_characters_after_tabs_and_wide_letters() {
        let (sources, file) = sources("\t<\u{e9}\u{4e2d} d='x'/>\r\n");
        let fault = fault_at(&sources, file, "x");
        let text = render(&fault, &sources, Style::Plain);
        assert!(text.contains("state/a.xml:1:9\n"), "{text}");
        assert!(short(&fault, &sources).starts_with("state/a.xml:1:9: "));
        assert!(!text.contains('\r') && !text.contains('\u{240d}'), "{text:?}");
    }

    #[test]
    fn long_lines_and_far_labels_stay_bounded() {
        let text = format!("<a b='{}' c='y'/>\n{}<z/>", "\u{e9}".repeat(50_000), "\n".repeat(50_000));
        let (sources, file) = sources(&text);
        let fault = fault_at(&sources, file, "y").also(span_of(&sources, file, "a"), "first").also(span_of(&sources, file, "z"), "last");
        let shown = render(&fault, &sources, Style::Plain);
        assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
        assert!(shown.lines().count() < 25, "{shown}");
        let mut whole = fault_at(&sources, file, "a");
        whole.labels[0].span.end = u32::MAX;
        whole.message = "m".repeat(100_000);
        assert!(render(&whole, &sources, Style::Plain).len() < 2_000);
        assert!(short(&whole, &sources).len() < 1_000);
    }

    #[test]
    fn lines_that_take_long_to_show_are_named_only() {
        let (sources, file) = sources(&format!("<\u{e9}>{}<b/>", " ".repeat(MAX_EXCERPT)));
        let fault = fault_at(&sources, file, "b").also(span_of(&sources, file, "\u{e9}"), "first").help("write `c`");
        let text = "error[some-fault]: a fault\n--> state/a.xml:1:16389\n = note: here\n::: state/a.xml:1:2\n = note: first\n \
                    = help: write `c`\n";
        assert_eq!(render(&fault, &sources, Style::Plain), text);
    }

    #[test]
    fn spans_past_the_end_or_inside_a_character_are_moved_to_the_text() {
        let (sources, file) = sources("<\u{e9}");
        for (start, end) in [(100, 200), (2, 2), (2, 100), (3, 1)] {
            let fault = Diagnostic::error("some-fault", "a fault", Span { file, start, end }, "here");
            assert!(render(&fault, &sources, Style::Plain).contains("^ here"), "{start}..{end}");
            assert!(short(&fault, &sources).contains("state/a.xml:1:"), "{start}..{end}");
        }
        let (empty, file) = self::sources("");
        let fault = Diagnostic::error("some-fault", "a fault", Span { file, start: 0, end: 0 }, "here");
        assert!(render(&fault, &empty, Style::Plain).contains("here"), "{}", render(&fault, &empty, Style::Plain));
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let (sources, file) = sources("<a b='\u{1b}[2J\u{9b}2J\u{202e}\u{2066}\u{61c}\u{2028}\u{7f}'/>");
        let mut fault = fault_at(&sources, file, "b");
        fault.message = "name `x\n\u{1b}[2J\u{9b}\u{202e}`".to_owned();
        let text = render(&fault, &sources, Style::Plain) + &short(&fault, &sources);
        assert!(!text.contains(|c: char| is_unruly(c) && c != '\n'), "{text:?}");
        assert!(short(&fault, &sources).lines().count() == 1);
    }

    #[test]
    fn only_the_coloured_style_has_escape_codes() {
        let (sources, file) = sources("<a/>");
        let fault = fault_at(&sources, file, "a");
        assert!(render(&fault, &sources, Style::Colored).contains('\u{1b}'));
        assert!(!render(&fault, &sources, Style::Plain).contains('\u{1b}'));
    }
}
