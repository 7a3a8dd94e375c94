//! Lists for people: columns that are as wide as they have to be, and nothing in them that could move a terminal's cursor.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::diagnostic::visible::visible;

/// How many letters of a cell are shown. A name may be as long as its file, and every row is padded to the longest; nor does
/// formatting take a width above 65,535 (Rust 1.87). The whole text is in the JSON form.
const CELL_LIMIT: usize = 200;

/// A table with a heading; the last column is not padded.
pub fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines = vec![heading.map(str::to_owned)];
    lines.extend(rows.into_iter().map(|row| row.map(|text| cell(&shortened(&text)).into_owned())));
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(widths).fold(String::new(), |mut padded, (cell, width)| {
            write!(padded, "{cell:width$}  ").expect("a string takes everything");
            padded
        });
        text.extend([padded.trim_end(), "\n"]);
    }
    text
}

/// The text as it can be shown; what is empty is a dash.
pub fn cell(text: &str) -> Cow<'_, str> {
    if text.is_empty() { Cow::Borrowed("-") } else { visible(text) }
}

fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(CELL_LIMIT) {
        Some((end, _)) => Cow::Owned(format!("{}\u{2026}", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_control_characters_are_shown() {
        let rows = [["a".to_owned(), "\u{1b}[2J".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "X"], rows), "NAME    X\na       \\u{1b}[2J\nlonger  -\n");
    }

    #[test]
    fn a_cell_of_any_length_is_cut() {
        let rows = [["\u{e9}".repeat(CELL_LIMIT), "a".to_owned()], ["\u{e9}".repeat(70_000), "b".to_owned()]];
        let shown = "\u{e9}".repeat(CELL_LIMIT);
        let heading = format!("NAME{}  X", " ".repeat(CELL_LIMIT + 1 - 4));
        assert_eq!(table(["NAME", "X"], rows), format!("{heading}\n{shown}   a\n{shown}\u{2026}  b\n"));
    }
}
