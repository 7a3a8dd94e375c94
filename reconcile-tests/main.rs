//! The integration tests, one binary: each module holds the cases of one behaviour.

mod namespace;
mod system_tools;
