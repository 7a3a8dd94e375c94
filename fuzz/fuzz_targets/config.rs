//! Any text as `bridgeward.toml`: a configuration, or a fault that can be shown at its place.
#![no_main]

use bridgeward::config;
use bridgeward::diagnostic::{Style, render};
use bridgeward::source::Sources;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut sources = Sources::default();
    let file = sources.add("bridgeward.toml", text);
    if let Err(fault) = config::parse(&sources, file) {
        assert!(!render(&fault, &sources, Style::Plain).is_empty());
    }
});
