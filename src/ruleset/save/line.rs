//! The lines of `*-save` text and what each is for.

use crate::ruleset::Family;

/// The lines of a text with their numbers, from 1.
///
/// iptables prints a line break in a comment as it is, so a line goes on while a quotation is open; cut at the break, the rest of the
/// comment could pass for a rule of its own. ebtables has no comments, and does not escape the quotes in what it quotes.
pub(super) struct Lines<'a> {
    family: Family,
    rest: &'a str,
    next_number: usize,
}

/// What a line of `*-save` is for.
pub(super) enum Line<'a> {
    /// `*NAME`
    Table(&'a str),
    /// A chain or a rule.
    Content(&'a str),
    /// The table is complete.
    End,
    /// Nothing to know.
    Note,
    /// ``# Table `x' is incompatible, use 'nft' tool.``, with which iptables-nft-save 1.8.9 passes over a table and still succeeds.
    Unreadable(&'a str),
}

impl<'a> Lines<'a> {
    /// The lines of `text`.
    pub(super) fn new(family: Family, text: &'a str) -> Self {
        Self { family, rest: text, next_number: 1 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, Line<'a>);

    fn next(&mut self) -> Option<(usize, Line<'a>)> {
        if self.rest.is_empty() {
            return None;
        }
        let mut end = self.rest.find('\n').unwrap_or(self.rest.len());
        let number = self.next_number;
        self.next_number += 1;
        if self.family != Family::Bridge && self.rest[..end].contains('"') {
            end = end_outside_quotes(self.rest);
            self.next_number += self.rest[..end].matches('\n').count();
        }
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or("");
        Some((number, Line::new(self.family, line)))
    }
}

impl<'a> Line<'a> {
    fn new(family: Family, line: &'a str) -> Self {
        // ebtables-nft ends a table with `# Completed` alone, ebtables-legacy with an empty line.
        let ends_bridge_table = family == Family::Bridge && (line.is_empty() || line.starts_with("# Completed"));
        match line.as_bytes().first() {
            _ if ends_bridge_table || line == "COMMIT" => Self::End,
            Some(b'*') => Self::Table(line[1..].trim_end()),
            Some(b'#') if line.contains("is incompatible, use 'nft' tool") => Self::Unreadable(line[1..].trim()),
            None | Some(b'#') => Self::Note,
            Some(_) => Self::Content(line),
        }
    }
}

/// Where the first line ends if line breaks in quotations do not count; at the end of the text if one stays open.
fn end_outside_quotes(text: &str) -> usize {
    let (mut quoted, mut escaped, mut previous) = (false, false, b' ');
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quoted => quoted = false,
            b'"' if previous == b' ' => quoted = true,
            b'\n' if !quoted => return index,
            _ => {}
        }
        previous = byte;
    }
    text.len()
}
