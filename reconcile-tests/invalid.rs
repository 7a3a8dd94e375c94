//! The invalid corpus: `invalid/<fault>.xml` beside the diagnostics that people see for it.
//!
//! A file whose name ends in `-libvirt-quirks.xml` is read with those quirks, all others with `fixed` ones. After a change
//! of wording run the tests once with `UPDATE_EXPECTED=1` and review the difference like code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bridgeward::diagnostic::{Diagnostic, Style, render};
use bridgeward::model::Quirks;
use bridgeward::parse::{Parsed, parse};
use bridgeward::source::Sources;

const MANIFEST_DIR: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_faulty_file_is_refused_with_the_expected_diagnostics() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut differences = Vec::new();
    for path in corpus("xml") {
        let shown = diagnose(&path);
        let expected_path = path.with_extension("txt");
        if update {
            fs::write(&expected_path, &shown).expect("the corpus can be written");
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if shown != expected {
            differences.push(format!("{}\n--- expected\n{expected}\n--- shown\n{shown}", path.display()));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn no_expectation_is_left_without_its_file() {
    let orphans: Vec<_> = corpus("txt").into_iter().filter(|path| !path.with_extension("xml").exists()).collect();
    assert!(orphans.is_empty(), "{orphans:?}");
}

#[test]
fn every_error_of_form_and_of_networks_has_a_file() {
    let texts: String = corpus("txt").iter().map(|path| fs::read_to_string(path).expect("the corpus can be read")).collect();
    let mut sources = vec![source("parse/network.rs"), source("parse/value.rs"), source("parse/xml.rs"), source("parse.rs")];
    sources.extend(list(&src().join("parse/network"), "rs"));
    sources.extend(list(&src().join("parse/xml"), "rs"));
    let codes: BTreeSet<String> = sources
        .iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .flat_map(|path| error_codes(&fs::read_to_string(path).expect("the sources can be read")))
        .collect();
    assert!(codes.len() > 40, "the sources are no longer understood: {codes:?}");
    let missing: Vec<_> = codes.iter().filter(|code| !texts.contains(&format!("error[{code}]"))).collect();
    // A file of 2 MiB, or of 200,000 elements, or of 100 faults, is not worth keeping; the parser's own tests make them.
    assert_eq!(missing, ["too-many-addresses", "xml-too-large", "xml-too-many-elements", "xml-too-many-faults"]);
}

#[test]
fn every_error_of_filters_and_interfaces_has_a_file() {
    let texts: String = corpus("txt").iter().map(|path| fs::read_to_string(path).expect("the corpus can be read")).collect();
    let mut sources = vec![source("parse/filter.rs"), source("parse/interface.rs")];
    sources.extend(list(&src().join("parse/filter"), "rs"));
    sources.extend(list(&src().join("parse/interface"), "rs"));
    let codes: BTreeSet<String> = sources
        .iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .map(|path| fs::read_to_string(path).expect("the sources can be read"))
        .flat_map(|text| ["Diagnostic::error(", "Refusal::new(", "fault(", "refuse("].map(|call| codes_after(call, &text)))
        .flatten()
        .collect();
    assert!(codes.len() > 40, "the sources are no longer understood: {codes:?}");
    let missing: Vec<_> = codes.iter().filter(|code| !texts.contains(&format!("error[{code}]"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// All that is said about one file, which must be refused.
fn diagnose(path: &Path) -> String {
    let name = path.file_name().expect("the corpus holds files").to_string_lossy().into_owned();
    let quirks = if name.ends_with("-libvirt-quirks.xml") { Quirks::Libvirt } else { Quirks::Fixed };
    let mut sources = Sources::default();
    let file = sources.add(name.as_str(), fs::read_to_string(path).expect("the corpus is UTF-8"));
    let Parsed { networks, filters, interfaces, broken, diagnostics } = parse(&sources, file, quirks);
    assert!(diagnostics.iter().any(Diagnostic::is_error), "{name} is accepted");
    assert!(!broken.is_empty(), "{name} is refused, but nothing is named as broken");
    if name.starts_with("network-") || name.starts_with("xml-") {
        assert!(networks.is_empty() && filters.is_empty() && interfaces.is_empty(), "{name} is refused and defines something");
    }
    let shown: Vec<String> = diagnostics.iter().map(|diagnostic| render(diagnostic, &sources, Style::Plain)).collect();
    shown.join("\n")
}

/// The first argument of every `Diagnostic::error` and of every other call with an error's code in front.
fn error_codes(source: &str) -> Vec<String> {
    ["Diagnostic::error(", ".fault("].iter().flat_map(|call| codes_after(call, source)).collect()
}

/// The first argument of every call written like this, where it is a text.
fn codes_after(call: &str, source: &str) -> Vec<String> {
    let calls = source.split(call).skip(1);
    calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split_once('"')).map(|(code, _)| code.to_owned()).collect()
}

fn corpus(extension: &str) -> Vec<PathBuf> {
    list(&Path::new(MANIFEST_DIR).join("reconcile-tests/invalid"), extension)
}

fn src() -> PathBuf {
    Path::new(MANIFEST_DIR).join("src")
}

fn source(path: &str) -> PathBuf {
    src().join(path)
}

fn list(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory exists");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}
