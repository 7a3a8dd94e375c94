//! Doorbells of the kernel: its rules changed, and who did it; its network devices changed, and which there are.
//!
//! Each listens on a socket of its own. When more happens than can be heard, that is said, and whoever listens looks at everything.

pub mod links;
pub mod rules;
pub mod transaction;
