//! The integration tests, one binary: each module holds the cases of one behaviour.

mod invalid;
mod namespace;
mod packet;
mod plan_laws;
mod plan_real;
mod round_trip;
mod strategy;
mod system_tools;
