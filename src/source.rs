//! The text that users wrote: which file, which bytes, which line and column.
//!
//! Files enter as values (a name to show and their content); nothing here reads a disk.

use std::ops::Range;
use std::sync::Arc;

/// A file of one [`Sources`], by number. Numbers ascend with the order in which files were added and may have gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A half-open range of bytes in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file the bytes belong to.
    pub file: FileId,
    /// The first byte, counted from 0.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A value and the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spanned<T> {
    /// What was read.
    pub value: T,
    /// Where it was read.
    pub span: Span,
}

/// A place a person can go to: `path:line:column`, both counted from 1, the column in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file's name as the user gave it.
    pub path: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One file: its name as shown to people and its text.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// The path as shown to people; stock filters use `<stock>/NAME.xml`.
    pub path: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
    line_starts: Vec<u32>,
    /// How many characters begin before each multiple of [`STEP`] bytes; empty where every character is one byte.
    characters: Vec<u32>,
}

/// So many bytes are counted at most to tell a column: a line may be as long as its file and have a span in every other byte.
const STEP: usize = 1024;

/// All files of one pass, found by their [`FileId`].
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<(FileId, Arc<SourceFile>)>,
}

impl Sources {
    /// Adds a file and gives it the next number.
    pub fn add(&mut self, path: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> FileId {
        let id = self.files.last().map_or(FileId(0), |(last, _)| FileId(last.0 + 1));
        self.enter(id, Arc::new(SourceFile::new(path, text)));
        id
    }

    /// Adds a file under a number of the caller's choice, which is larger than all before it.
    pub fn enter(&mut self, id: FileId, file: Arc<SourceFile>) {
        debug_assert!(self.files.last().is_none_or(|(last, _)| *last < id), "numbers ascend");
        self.files.push((id, file));
    }

    /// The file of a number that it was added under.
    pub fn file(&self, id: FileId) -> &SourceFile {
        let at = self.files.binary_search_by_key(&id, |(known, _)| *known);
        &self.files[at.expect("a span points into a file of its own pass")].1
    }

    /// All files in the order they were added.
    pub fn files(&self) -> impl Iterator<Item = (FileId, &SourceFile)> {
        self.files.iter().map(|(id, file)| (*id, &**file))
    }

    /// The text under a span.
    pub fn text(&self, span: Span) -> &str {
        let file = self.file(span.file);
        &file.text[file.clamp(span)]
    }

    /// Where a span begins, for people.
    pub fn position(&self, span: Span) -> Position {
        let file = self.file(span.file);
        let start = file.clamp(span).start;
        let line = file.line_of(start);
        let column = file.characters_before(start) - file.characters_before(file.line_bytes(line).start) + 1;
        Position { path: Arc::clone(&file.path), line: line + 1, column }
    }
}

impl SourceFile {
    /// A file by its name and content.
    pub fn new(path: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let breaks = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| offset(at + 1));
        let line_starts = std::iter::once(0).chain(breaks).collect();
        let mut characters = Vec::new();
        if !text.is_ascii() {
            let mut count = 0;
            for step in text.as_bytes().chunks(STEP) {
                characters.push(count);
                count += begun(step);
            }
            characters.push(count);
        }
        Self { path: path.into(), text, line_starts, characters }
    }

    /// The bytes of a span, moved to whole characters of this text: a span is a value and may come from anywhere.
    pub fn clamp(&self, span: Span) -> Range<usize> {
        let start = self.text.floor_char_boundary(span.start as usize);
        let end = self.text.ceil_char_boundary((span.end as usize).min(self.text.len()));
        start..end.max(start)
    }

    /// The line, from 0, that holds the byte at `at`; the last line for what lies behind the end.
    pub fn line_of(&self, at: usize) -> u32 {
        offset(self.line_starts.partition_point(|&start| start as usize <= at).saturating_sub(1))
    }

    fn characters_before(&self, at: usize) -> u32 {
        let step = at / STEP;
        self.characters.get(step).map_or(offset(at), |before| before + begun(&self.text.as_bytes()[step * STEP..at]))
    }

    /// The bytes of a line, from 0, its line end left out.
    ///
    /// # Panics
    /// When the file has no such line.
    pub fn line_bytes(&self, line: u32) -> Range<usize> {
        let start = self.line_starts[line as usize] as usize;
        let end = self.line_starts.get(line as usize + 1).map_or(self.text.len(), |&next| next as usize - 1);
        let crlf = end > start && self.text[start..end].ends_with('\r');
        start..end - usize::from(crlf)
    }
}

/// How many characters begin in a part of UTF-8 text.
fn begun(bytes: &[u8]) -> u32 {
    offset(bytes.iter().filter(|&&byte| byte & 0b1100_0000 != 0b1000_0000).count())
}

/// Files are bounded far below 4 GiB before they get here.
fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("the loader bounds a file to 2 MiB")
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path, self.line, self.column)
    }
}

impl<T> Spanned<T> {
    /// Pairs a value with its place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let mut sources = Sources::default();
        let file = sources.add("a.xml", "ab\r\n\u{e9}x\n");
        let at = |start| sources.position(Span { file, start, end: start }).to_string();
        assert_eq!(at(0), "a.xml:1:1");
        assert_eq!(at(4), "a.xml:2:1");
        assert_eq!(at(6), "a.xml:2:2");
        assert_eq!(at(8), "a.xml:3:1");
        assert_eq!(at(999), "a.xml:3:1");
        assert_eq!(sources.text(Span { file, start: 4, end: 6 }), "\u{e9}");
    }

    #[test]
    fn columns_of_long_lines_are_those_that_one_counts() {
        let words = "a\u{e9}\u{20ac}\u{1f600}\u{301}b".repeat(400);
        let ascii = "ab\n".to_owned() + &"c".repeat(3 * STEP);
        for text in [format!("{words}\n{words}"), "\u{e9}".repeat(STEP), ascii] {
            let mut sources = Sources::default();
            let file = sources.add("a.xml", &*text);
            let (mut line, mut column) = (1, 1);
            for (at, letter) in text.char_indices().chain([(text.len(), ' ')]) {
                let start = offset(at);
                let position = sources.position(Span { file, start, end: start });
                assert_eq!((position.line, position.column), (line, column), "at {at}");
                (line, column) = if letter == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
        }
    }

    #[test]
    fn lines_end_before_their_line_end() {
        let mut sources = Sources::default();
        let file = sources.add("a.xml", "ab\r\n\r\nc");
        let file = sources.file(file);
        assert_eq!((0..3).map(|line| file.line_bytes(line)).collect::<Vec<_>>(), [0..2, 4..4, 6..7]);
        assert_eq!(file.line_of(5), 1);
    }
}
