//! A plan for machines.
