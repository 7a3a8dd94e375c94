//! A page of the guide in, the body of a manual page out: what is in docs/ once need not be written again in roff.
//!
//! Headings of the second level become sections; the first heading, which names the page, is left out. A table's row becomes a tagged paragraph: its first cell is
//! the tag. Of a link, the text stays.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Appends the page to `out`.
pub fn write(text: &str, out: &mut Roff) {
    let mut page = Page { out, line: Vec::new(), cells: Vec::new(), style: roman, code: false, depth: 0 };
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        page.take(event);
    }
}

struct Page<'out> {
    out: &'out mut Roff,
    /// What was read of the current heading, paragraph or cell.
    line: Vec<Inline>,
    /// The cells of the current row before the current one.
    cells: Vec<Vec<Inline>>,
    style: fn(String) -> Inline,
    /// Inside a code block.
    code: bool,
    /// How many lists the text is in.
    depth: usize,
}

impl Page<'_> {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) if self.code => {
                for line in text.lines() {
                    self.out.text([roman(line)]);
                }
            }
            Event::Text(text) => self.line.push((self.style)(text.into_string())),
            Event::Code(text) => self.line.push(bold(text.into_string())),
            Event::SoftBreak => self.line.push(roman(" ")),
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            // Comments to whoever edits the page, and rules between sections.
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::CodeBlock(_) => {
                self.code = true;
                self.out.control("PP", []).control("RS", ["4"]).control("nf", []);
            }
            Tag::List(_) => self.depth += 1,
            Tag::Item => drop(self.out.control("IP", ["\\(bu", "2"])),
            Tag::Paragraph if self.depth == 0 => drop(self.out.control("PP", [])),
            Tag::Emphasis => self.style = italic,
            Tag::Strong => self.style = bold,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let title = self.line.drain(..).fold(String::new(), |all, inline| all + words(&inline));
                match level {
                    HeadingLevel::H1 => {}
                    HeadingLevel::H2 => drop(self.out.control("SH", [title.to_uppercase().as_str()])),
                    _ => drop(self.out.control("SS", [title.as_str()])),
                }
            }
            TagEnd::CodeBlock => {
                self.code = false;
                self.out.control("fi", []).control("RE", []);
            }
            TagEnd::List(_) => self.depth -= 1,
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::TableCell => self.cells.push(std::mem::take(&mut self.line)),
            // The names of columns; the manual page has none.
            TagEnd::TableHead => self.cells.clear(),
            TagEnd::TableRow => self.row(),
            TagEnd::Emphasis | TagEnd::Strong => self.style = roman,
            _ => {}
        }
    }

    fn row(&mut self) {
        let mut cells = self.cells.drain(..);
        self.out.control("TP", []).text(cells.next().unwrap_or_default());
        let rest: Vec<Vec<Inline>> = cells.filter(|cell| !cell.is_empty()).collect();
        self.out.text(rest.join(&roman("; ")));
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.out.text(std::mem::take(&mut self.line));
        }
    }
}

fn words(inline: &Inline) -> &str {
    match inline {
        Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text,
        Inline::LineBreak => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_page_has_its_form() {
        let text = "# Title\n\nIt *is* `so`,\nsee [there](there.md).\n\n## Part one\n\n| key | |\n|---|---|\n| `a` | first |\n\n- one\n- two\n\n```xml\n<a/>\n  .b\n```\n";
        let mut page = Roff::new();
        write(text, &mut page);
        assert_eq!(
            page.to_roff(),
            ".PP\nIt \\fIis\\fR \\fBso\\fR, see there.\n.SH \"PART ONE\"\n.TP\n\\fBa\\fR\nfirst\n.IP \\(bu 2\none\n.IP \\(bu 2\ntwo\n.PP\n.RS 4\n.nf\n<a/>\n  .b\n.fi\n.RE\n"
        );
    }
}
