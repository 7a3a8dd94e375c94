//! `check`: every fault of every file, and nothing else.

use serde::Serialize;

use super::Exit;
use super::options::{Check, Format};
use super::settings::{Settings, block_on};
use crate::diagnostic::{Diagnostic, Severity};
use crate::reconcile::compute::Computed;
use crate::source::Sources;

/// Version 1 of `check --format json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    v: u32,
    files: usize,
    networks: usize,
    filters: usize,
    interfaces: usize,
    diagnostics: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    severity: &'static str,
    code: &'static str,
    message: &'a str,
    places: Vec<Place<'a>>,
    help: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    file: String,
    line: u32,
    column: u32,
    label: &'a str,
}

pub fn check(settings: &Settings, options: &Check) -> anyhow::Result<Exit> {
    let paths = if options.paths.is_empty() { &settings.config.state } else { &options.paths };
    let computed = block_on(settings.check(paths))?;
    match options.format {
        Format::Text => {
            settings.show(&computed);
            settings.output.data(&summary(&computed))?;
        }
        Format::Json => settings.output.data(&format!("{}\n", serde_json::to_string_pretty(&document(&computed))?))?,
    }
    Ok(if computed.has_errors() { Exit::Attention } else { Exit::Done })
}

fn summary(computed: &Computed) -> String {
    let count = |severity| computed.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let counts = computed.counts;
    format!(
        "{} files: {} networks, {} filters, {} interfaces; {} errors, {} warnings, {} notes\n",
        counts.files,
        counts.networks,
        counts.filters,
        counts.interfaces,
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note)
    )
}

fn document(computed: &Computed) -> Document<'_> {
    let counts = computed.counts;
    let diagnostics = computed.diagnostics.iter().map(|diagnostic| entry(diagnostic, &computed.sources)).collect();
    Document { v: 1, files: counts.files, networks: counts.networks, filters: counts.filters, interfaces: counts.interfaces, diagnostics }
}

fn entry<'a>(diagnostic: &'a Diagnostic, sources: &Sources) -> Entry<'a> {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let places = diagnostic.labels.iter().map(|label| {
        let position = sources.position(label.span);
        Place { file: position.path.to_string(), line: position.line, column: position.column, label: &label.text }
    });
    Entry { severity, code: diagnostic.code, message: &diagnostic.message, places: places.collect(), help: diagnostic.help.as_deref() }
}
