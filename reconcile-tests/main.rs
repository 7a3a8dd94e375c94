//! The integration tests, one binary: each module holds the cases of one behaviour.
//!
//! They start the real program in network namespaces of their own, with the real tools and the real kernel, so they need root.

mod architecture;
mod conformance;
mod rules;
mod world;
