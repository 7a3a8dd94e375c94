//! The pages in Markdown, as the tests read them: headings, blocks of code, tables, comments and links, in their order.

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// The repository.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Something of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Its level from 1, and its words.
    Heading(usize, String),
    /// A block of code: what stands behind the fence, and its text.
    Code(String, String),
    /// The rows of a table, the names of its columns first.
    Table(Vec<Vec<String>>),
    /// HTML, comments among it.
    Html(String),
    /// Where a link or a picture leads.
    Link(String),
}

/// A part and the line, from 1, in which it begins.
pub type Placed = (usize, Part);

/// Every page that is committed, by its path from the repository's root, in order.
pub fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut directories = vec![PathBuf::from(ROOT)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("the sources can be read") {
            let path = entry.expect("the sources can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !name.starts_with('.') && !["target", "corpus", "artifacts"].contains(&name) {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.strip_prefix(ROOT).expect("it is below the root").to_owned());
            }
        }
    }
    pages.sort();
    pages
}

/// The parts of a page.
pub fn parts(page: &Path) -> Vec<Placed> {
    let text = fs::read_to_string(Path::new(ROOT).join(page)).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let mut parts: Vec<Placed> = Vec::new();
    let mut words = String::new();
    let mut code = None;
    let mut table: Vec<Vec<String>> = Vec::new();
    for (event, range) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
        let line = text[..range.start].matches('\n').count() + 1;
        match event {
            Event::Start(Tag::Heading { .. } | Tag::TableCell) => words.clear(),
            Event::Start(Tag::CodeBlock(kind)) => {
                words.clear();
                code = Some(match kind {
                    CodeBlockKind::Fenced(info) => info.into_string(),
                    CodeBlockKind::Indented => String::new(),
                });
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                parts.push((line, Part::Link(dest_url.into_string())));
            }
            Event::Start(Tag::Table(_)) => table.clear(),
            Event::Start(Tag::TableHead | Tag::TableRow) => table.push(Vec::new()),
            Event::Text(text) | Event::Code(text) => words.push_str(&text),
            Event::Html(text) | Event::InlineHtml(text) => match parts.last_mut() {
                Some((_, Part::Html(before))) if before.starts_with("<!--") && !before.contains("-->") => before.push_str(&text),
                _ => parts.push((line, Part::Html(text.into_string()))),
            },
            Event::End(TagEnd::Heading(level)) => parts.push((line, Part::Heading(level as usize, words.trim().to_owned()))),
            Event::End(TagEnd::CodeBlock) => {
                parts.push((line, Part::Code(code.take().expect("a block begins before it ends"), std::mem::take(&mut words))));
            }
            Event::End(TagEnd::TableCell) => {
                table.last_mut().expect("a cell is in a row").push(words.trim().to_owned());
            }
            Event::End(TagEnd::Table) => parts.push((line, Part::Table(std::mem::take(&mut table)))),
            _ => {}
        }
    }
    parts
}

/// The name by which a heading is linked to, as mdBook and code hosts make it.
pub fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|letter| letter.is_alphanumeric() || "-_ ".contains(*letter)).collect::<String>();
    kept.replace(' ', "-")
}
