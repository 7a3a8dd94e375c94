//! The integration tests, one binary: each module holds the cases of one behaviour.
//!
//! Most start the real program, or the real tools, in network namespaces of their own, with the real kernel, so they need root.

mod architecture;
mod cases_fixed;
mod classic;
mod classic_laws;
mod cli;
mod conformance;
mod convergence;
mod demo;
mod documents;
mod drift;
mod enforcement;
mod fixture;
mod foreign;
mod invalid;
mod kill;
mod learning;
mod libvirt_beside;
mod lint;
mod modes;
mod monitor;
mod namespace;
mod packet;
mod plan_cases;
mod plan_laws;
mod plan_real;
mod quirks;
mod refusals;
mod restrained;
mod round_trip;
mod rules;
mod run_daemon;
mod schemas;
mod service_manager;
mod status;
mod strategy;
mod system_tools;
mod trial;
mod verbs;
mod world;
