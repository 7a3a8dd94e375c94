//! Lists for people: columns that are as wide as they have to be, and nothing in them that could move a terminal's cursor.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::diagnostic::visible::visible;

/// A table with a heading; the last column is not padded.
pub fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines = vec![heading.map(str::to_owned)];
    lines.extend(rows.into_iter().map(|row| row.map(|text| cell(&text).into_owned())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_control_characters_are_shown() {
        let rows = [["a".to_owned(), "\u{1b}[2J".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "X"], rows), "NAME    X\na       \\u{1b}[2J\nlonger  -\n");
    }
}
