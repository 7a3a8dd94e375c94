//! `check`: every fault of every file, and nothing else.

use std::mem::ManuallyDrop;

use serde::Serialize;

use super::Exit;
use super::options::{Check, Format};
use super::settings::{Settings, block_on};
use crate::diagnostic::{Diagnostic, Severity, several, visible};
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
    path: String,
    line: u32,
    column: u32,
    label: &'a str,
}

pub fn check(settings: &Settings, options: &Check) -> anyhow::Result<Exit> {
    let paths = if options.paths.is_empty() { &settings.config.state } else { &options.paths };
    // The program ends here: giving back the rules of a large state one by one would take as long as a quarter of all else.
    let computed = ManuallyDrop::new(block_on(settings.check(paths))?);
    match options.format {
        Format::Text => {
            settings.show(&computed);
            settings.show_empty(&computed, paths);
            settings.output.text(&summary(&computed, settings.least))?;
        }
        Format::Json => settings.output.data(&visible::json(&document(&computed)))?,
    }
    Ok(if computed.has_errors() { Exit::Attention } else { Exit::Done })
}

/// One line; kinds of remarks that are less than `least` are counted only.
fn summary(computed: &Computed, least: Severity) -> String {
    let counts = computed.counts;
    let told = [Severity::Error, Severity::Warning, Severity::Note].map(|severity| {
        let number = computed.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        let hidden = if severity > least && number > 0 { " (shown with -v)" } else { "" };
        several(number, severity.as_str()) + hidden
    });
    format!(
        "{}: {}, {}, {}; {}\n",
        several(counts.files, "file"),
        several(counts.networks, "network"),
        several(counts.filters, "filter"),
        several(counts.interfaces, "interface"),
        told.join(", ")
    )
}

fn document(computed: &Computed) -> Document<'_> {
    let counts = computed.counts;
    let diagnostics = computed.diagnostics.iter().map(|diagnostic| entry(diagnostic, &computed.sources)).collect();
    Document { v: 1, files: counts.files, networks: counts.networks, filters: counts.filters, interfaces: counts.interfaces, diagnostics }
}

fn entry<'a>(diagnostic: &'a Diagnostic, sources: &Sources) -> Entry<'a> {
    let places = diagnostic.labels.iter().map(|label| {
        let position = sources.position(label.span);
        Place { path: position.path.to_string(), line: position.line, column: position.column, label: &label.text }
    });
    Entry {
        severity: diagnostic.severity.as_str(),
        code: diagnostic.code,
        message: &diagnostic.message,
        places: places.collect(),
        help: diagnostic.help.as_deref(),
    }
}
