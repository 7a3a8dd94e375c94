//! Text that users wrote, so that it can be shown: nothing in it moves a cursor, changes a colour, ends a line or turns the direction of what is read.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

/// Whether a character would act on what is shown around it: a control character (C0, DEL and C1), a line or paragraph separator, or one of those that Unicode
/// has for the direction of text, with which a line can be made to read as another one (UAX 9, "Trojan Source").
pub fn is_unruly(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text with unruly characters as escapes, `\u{9b}`; line ends too.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_unruly)
}

/// As [`visible`] for text of many lines: line ends and tabs are left alone.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_unruly(letter) && !matches!(letter, '\n' | '\t'))
}

/// As [`visible_lines`] for text that is coloured: `ESC` is left alone as well, so what users wrote must have been made visible before.
pub fn visible_coloured(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_unruly(letter) && !matches!(letter, '\n' | '\t' | '\x1b'))
}

/// A document as JSON for people and programs: indented, with a newline at its end, and [visible](visible_json).
pub fn json(document: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(document).expect("strings, numbers and lists have a JSON form");
    visible_json(&text).into_owned() + "\n"
}

/// The same JSON document with unruly characters in JSON's own escapes, `\u009b`. What a serializer wrote has them only within strings, but for line ends.
pub fn visible_json(text: &str) -> Cow<'_, str> {
    if !text.contains(|letter| is_unruly(letter) && letter != '\n') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_unruly(letter) && letter != '\n' {
            // None of them lies beyond the first plane.
            write!(shown, "\\u{:04x}", u32::from(letter)).expect("a string takes everything");
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

fn escaped(text: &str, is_hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_hidden(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped_and_everything_else_is_left() {
        assert_eq!(visible("a\u{1b}[2J\u{9b}\u{7f}\n\u{202e}\u{2066}\u{2028}"), r"a\u{1b}[2J\u{9b}\u{7f}\n\u{202e}\u{2066}\u{2028}");
        assert!(matches!(visible("caf\u{e9} \u{1f600} \u{5d0}"), Cow::Borrowed(_)));
        assert_eq!(visible_lines("a\n\tb\u{1b}\u{9b}"), "a\n\tb\\u{1b}\\u{9b}");
        assert_eq!(visible_coloured("\x1b[1ma\u{9b}\n"), "\x1b[1ma\\u{9b}\n");
    }

    #[test]
    fn json_stays_the_same_document() {
        let document = serde_json::json!({ "name": "a\u{1b}\u{9b}\u{7f}\u{202e}\u{feff}\n", "caf\u{e9}": ["\u{1f600}"] });
        let shown = json(&document);
        assert!(!shown.contains(|letter| is_unruly(letter) && letter != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("it is JSON"), document);
    }
}
