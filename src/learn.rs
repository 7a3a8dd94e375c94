//! The addresses that guests use, off the wire: from the frames on their taps to what the rules may take for theirs.
//!
//! Reference: nwfilter.md section 5. [`frame`], [`dhcp`] and [`dhcpv6`] decode bytes, [`judge`] says what one frame is evidence of,
//! [`learner`] keeps what follows from all of them: pure functions over values, time among them. [`capture`] listens on the taps and
//! [`tap`] knows which there are.

pub mod capture;
pub mod dhcp;
pub mod dhcpv6;
#[cfg(test)]
mod example;
pub mod filter;
pub mod frame;
pub mod judge;
pub mod learner;
pub mod limit;
pub mod tap;
