//! What the program says: data on stdout, messages on stderr, colour only where it is wanted.
//!
//! A reader that closes the pipe early (`| head`) is success, not an error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use crate::diagnostic::visible::{visible_coloured, visible_lines};
use crate::diagnostic::{self, Diagnostic, Severity, Style};
use crate::source::Sources;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Text in which nothing can turn against who reads it.
fn shown(text: &str, style: Style) -> Cow<'_, str> {
    match style {
        Style::Plain => visible_lines(text),
        Style::Colored => visible_coloured(text),
    }
}

/// The two streams and how they are coloured.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// For data on stdout.
    pub data: Style,
    /// For messages on stderr.
    pub messages: Style,
    /// Whether stdout is a terminal.
    pub is_terminal: bool,
}

impl Output {
    /// Decides once, from the option, the environment's `NO_COLOR` and what the streams are.
    pub fn new(color: Color, no_color: bool) -> Self {
        let style = |terminal: bool| match color {
            Color::Always => Style::Colored,
            Color::Auto if terminal && !no_color => Style::Colored,
            Color::Auto | Color::Never => Style::Plain,
        };
        let is_terminal = io::stdout().is_terminal();
        Self { data: style(is_terminal), messages: style(io::stderr().is_terminal()), is_terminal }
    }

    /// Writes text for people, [visible](crate::diagnostic::visible); a reader that has gone away is success.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub fn text(self, text: &str) -> io::Result<()> {
        self.data_wanted(&self.shown(text)).map(drop)
    }

    /// Text for stdout in which nothing can turn against who reads it.
    pub fn shown(self, text: &str) -> Cow<'_, str> {
        shown(text, self.data)
    }

    /// Writes data, byte for byte unless it goes to a terminal; a reader that has gone away is success.
    ///
    /// # Errors
    /// Any other failure to write, such as a full disk.
    pub fn data(self, text: &str) -> io::Result<()> {
        let text = if self.is_terminal { self.shown(text) } else { Cow::Borrowed(text) };
        self.data_wanted(&text).map(drop)
    }

    /// Writes data byte for byte, even to a terminal; false when the reader has gone away and wants no more.
    ///
    /// # Errors
    /// As [`Output::data`].
    pub fn data_wanted(self, text: &str) -> io::Result<bool> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }

    /// Writes one message. Nothing is left to do when stderr itself is gone.
    pub fn message(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", shown(text, self.messages));
    }

    /// Writes an `error:` line, with what to do about it where that is known.
    pub fn error(self, text: &str) {
        let word = if self.messages == Style::Colored { "\x1b[1;31merror\x1b[0m" } else { "error" };
        self.message(&format!("{word}: {text}"));
    }

    /// Writes diagnostics file by file in the order of their lines; what matters less than `least` is left out.
    pub fn diagnostics(self, diagnostics: &[Diagnostic], sources: &Sources, least: Severity) {
        let mut shown: Vec<_> = diagnostics.iter().filter(|diagnostic| diagnostic.severity <= least).collect();
        shown.sort_by_cached_key(|diagnostic| (sources.position(diagnostic.span()), diagnostic.severity));
        for diagnostic in shown {
            self.message(&diagnostic::render(diagnostic, sources, self.messages));
        }
    }
}
