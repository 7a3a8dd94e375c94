//! Characters, names and references as XML 1.0 (fifth edition) defines them.

use std::borrow::Cow;

/// XML white space (production 3): four ASCII characters, not Unicode's idea of blanks.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Production 2: what may stand in a document, as itself or as a character reference.
pub(super) fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Production 5, the colon included.
pub(super) fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(starts_name) && characters.all(continues_name)
}

/// Production 4.
fn starts_name(c: char) -> bool {
    matches!(c,
        ':' | '_' | 'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

/// Production 4a.
fn continues_name(c: char) -> bool {
    starts_name(c) || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

/// What is wrong with a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReferenceFault {
    /// `&` without a `;` behind a name or number.
    Unfinished,
    /// A name that is not one of the five; entities cannot be defined without a DTD.
    UnknownEntity,
    /// A number that is no character of XML.
    NotACharacter,
}

/// The character that a reference stands for; `body` is what stands between `&` and `;`.
pub(super) fn resolve_reference(body: &str) -> Result<char, ReferenceFault> {
    let number = match body.as_bytes() {
        [b'#', b'x', ..] => u32::from_str_radix(digits(&body[2..], 16)?, 16),
        [b'#', ..] => digits(&body[1..], 10)?.parse(),
        _ => return resolve_entity(body),
    };
    let character = number.ok().and_then(char::from_u32).ok_or(ReferenceFault::NotACharacter)?;
    if is_allowed(character) { Ok(character) } else { Err(ReferenceFault::NotACharacter) }
}

/// Checks that there are digits and nothing else: Rust's number parsers would take a sign.
fn digits(text: &str, radix: u32) -> Result<&str, ReferenceFault> {
    let good = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if good { Ok(text) } else { Err(ReferenceFault::NotACharacter) }
}

fn resolve_entity(name: &str) -> Result<char, ReferenceFault> {
    match name {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ if is_name(name) => Err(ReferenceFault::UnknownEntity),
        _ => Err(ReferenceFault::Unfinished),
    }
}

/// Line ends as `\n` (XML 1.0 section 2.11).
pub(super) fn normalize_lines(raw: &str) -> Cow<'_, str> {
    if raw.contains('\r') { Cow::Owned(raw.replace("\r\n", "\n").replace('\r', "\n")) } else { Cow::Borrowed(raw) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_or_refused_by_kind() {
        assert_eq!(resolve_reference("#10"), Ok('\n'));
        assert_eq!(resolve_reference("#x10FFFF"), Ok('\u{10ffff}'));
        assert_eq!(resolve_reference("quot"), Ok('"'));
        for body in ["#", "#x", "#+5", "#4", "#xD800", "#xFFFE", "#99999999999", "#X41"] {
            assert_eq!(resolve_reference(body), Err(ReferenceFault::NotACharacter), "{body}");
        }
        assert_eq!(resolve_reference("nbsp"), Err(ReferenceFault::UnknownEntity));
        for body in ["", " a", "a b", "1"] {
            assert_eq!(resolve_reference(body), Err(ReferenceFault::Unfinished), "{body}");
        }
    }

    #[test]
    fn names_follow_the_productions() {
        for name in ["a", "_", "dnsmasq:options", "\u{e9}t\u{e9}", "a-1.b"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "1a", "-a", "a b", "\u{319}a", "a\u{d7}", "\u{85}"] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn every_line_end_becomes_a_newline() {
        assert_eq!(normalize_lines("a\r\nb\rc\n\r\n"), "a\nb\nc\n\n");
        assert!(matches!(normalize_lines("a\nb"), Cow::Borrowed(_)));
    }
}
