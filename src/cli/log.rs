//! Where the daemon's log goes and how it is spelled: text for people, JSON or journald's fields for machines.
//!
//! The events are the same everywhere. What an event is about (`object`, `family`, `table`, `chain`, `place`, `writer`, `pid`) is in its fields; its message says
//! it too, in words, so the text form leaves those fields out.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use tracing::field::{Field, Visit};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::name::LogName;
use crate::diagnostic::Style;
use crate::diagnostic::visible::{visible_json, visible_lines};
use crate::output::Output;

/// In front of our fields in the journal: `journalctl BRIDGEWARD_OBJECT='interface vnet0'`.
const PREFIX: &str = "BRIDGEWARD";

/// Fields that the message tells in words.
const IN_WORDS: [&str; 7] = ["object", "family", "table", "chain", "place", "writer", "pid"];

/// Starts the log. `verbose` counts the `-v`; `RUST_LOG` has the last word.
///
/// # Errors
/// When `RUST_LOG` cannot be read.
pub fn start(form: LogName, verbose: u8, output: Output) -> anyhow::Result<()> {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env().context("RUST_LOG")?;
    let stderr = || tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let text = || stderr().with_ansi(output.messages == Style::Colored).fmt_fields(Words).boxed();
    let (layer, missing) = match form {
        LogName::Text => (text(), None),
        LogName::Json => {
            (stderr().with_writer(|| JsonLines).json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(), None)
        }
        LogName::Auto if !stderr_is_the_journal() => (text(), None),
        LogName::Auto | LogName::Journald => match tracing_journald::layer() {
            Ok(journal) => (journal.with_field_prefix(Some(PREFIX.into())).with_priority_mappings(priorities()).boxed(), None),
            Err(error) => (text(), Some(error)),
        },
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    if let Some(error) = missing {
        tracing::warn!(%error, "journald cannot be reached: the log is text on stderr");
    }
    Ok(())
}

/// As in syslog: what is worth a look is a notice or more, and what happens every day is not.
fn priorities() -> PriorityMappings {
    PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() }
}

/// Whether stderr is the stream that systemd connected to the journal; it says which in `JOURNAL_STREAM`, as `DEVICE:INODE`. A shell behind the service
/// inherits the variable and not the stream.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Message and fields as `message cause=start took=3ms`.
struct Words;

impl<'w> FormatFields<'w> for Words {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, empty: true, outcome: Ok(()) };
        fields.record(&mut line);
        line.outcome
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    empty: bool,
    outcome: fmt::Result,
}

/// The lines of JSON of the log, visible.
struct JsonLines;

impl io::Write for JsonLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The layer hands over whole lines.
        io::stderr().lock().write_all(visible_json(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.outcome.is_err() || IN_WORDS.contains(&field.name()) {
            return;
        }
        // What a user wrote begins no line that looks like one of ours.
        let value = format!("{value:?}");
        let value = visible_lines(&value).replace('\n', "\n    ");
        let gap = if self.empty { "" } else { " " };
        self.empty = false;
        self.outcome = match field.name() {
            "message" => write!(self.writer, "{gap}{value}"),
            name => write!(self.writer, "{gap}{name}={value}"),
        };
    }
}
