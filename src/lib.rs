//! bridgeward: virtual-network XML in, exactly those firewall rules in the kernel, kept there.
//!
//! The modules below are layers, listed from the bottom up; a module imports only from modules above it in
//! this list (`reconcile-tests/architecture.rs` enforces that). Everything up to and including [`plan`] is the pure core:
//! values in, values out, no files, clocks, processes or async. From [`backend`] on the shell begins.

pub mod addr;
pub mod source;

pub mod diagnostic;

pub mod model;

pub mod stock;

pub mod parse;

pub mod resolve;

pub mod graph;

pub mod ruleset;

pub mod compile;

pub mod plan;

pub mod backend;
pub mod config;
pub mod load;
pub mod output;
pub mod state_file;
pub mod store;

pub mod reconcile;

pub mod learn;
pub mod monitor;
pub mod watch;

pub mod daemon;

pub mod cli;
