//! The integration tests, one binary: each module holds the cases of one behaviour.

mod invalid;
mod packet;
mod plan_laws;
mod round_trip;
mod strategy;
