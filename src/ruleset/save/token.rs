//! The words of a saved rule, as slices of its text.

use std::borrow::Cow;

/// Splits a rule at its blanks; what stands in double quotes is one word.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    /// Where the next word, or the blank before it, begins.
    position: usize,
}

/// One word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// As it stands; only these can be options.
    Plain(&'a str),
    /// What stands between the quotes, its backslashes still there.
    Quoted(&'a str),
}

impl<'a> Tokens<'a> {
    /// The words of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    /// The next word, if it does not stand in quotes.
    pub(super) fn plain(&mut self) -> Option<&'a str> {
        match self.next()? {
            Token::Plain(word) => Some(word),
            Token::Quoted(_) => None,
        }
    }

    /// True when only blanks are left.
    pub(super) fn is_done(&self) -> bool {
        self.text[self.position..].bytes().all(|byte| byte == b' ')
    }

    /// The next word, whatever it looks like.
    pub(super) fn value(&mut self) -> Option<Cow<'a, str>> {
        Some(match self.next()? {
            Token::Plain(word) => Cow::Borrowed(word),
            Token::Quoted(word) => unescape(word),
        })
    }

    /// Steps over the next word if it is `word`.
    pub(super) fn accept(&mut self, word: &str) -> bool {
        let mut ahead = self.clone();
        let same = ahead.next() == Some(Token::Plain(word));
        if same {
            *self = ahead;
        }
        same
    }

    /// Reads `NAME FLAGS` of a set match, where `flags` accepts the flags; a name with blanks is printed without quotes (1.8.9), so the
    /// name ends where flags follow it and after them an option, or nothing.
    pub(super) fn name_and<T>(&mut self, flags: impl Fn(&str) -> Option<T>) -> Option<(Cow<'a, str>, T)> {
        let start = self.position + 1;
        if let Token::Quoted(name) = self.next()? {
            let name = unescape(name);
            return Some((name, flags(self.plain()?)?));
        }
        loop {
            let end = self.position;
            let found = flags(self.plain()?).filter(|_| self.at_option());
            if let Some(found) = found {
                return Some((Cow::Borrowed(self.text.get(start..end)?), found));
            }
        }
    }

    fn at_option(&self) -> bool {
        let rest = self.text[self.position..].trim_start();
        rest.is_empty() || rest.starts_with(['-', '!'])
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.text.as_bytes();
        let mut start = self.position;
        while bytes.get(start) == Some(&b' ') {
            start += 1;
        }
        if start == bytes.len() {
            self.position = start;
            return None;
        }
        if bytes[start] == b'"' {
            let end = start + 1 + closing_quote(&bytes[start + 1..])?;
            self.position = end + 1;
            return Some(Token::Quoted(&self.text[start + 1..end]));
        }
        let end = bytes[start..].iter().position(|&byte| byte == b' ').map_or(bytes.len(), |length| start + length);
        self.position = end;
        Some(Token::Plain(&self.text[start..end]))
    }
}

/// How many bytes stand before the quote that is not escaped.
fn closing_quote(bytes: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(index),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        out.extend(if char == '\\' { chars.next() } else { Some(char) });
    }
    Cow::Owned(out)
}
