//! What the user wrote, as plain typed data with the place of everything that an error may have to point at.
//!
//! [`network`], [`filter`] and [`interface`] hold the documents, [`attribute`] the table of protocol attributes, [`learned`] the addresses
//! that no document gives; this file holds what they share. Nothing here follows a
//! reference or knows a default that depends on another file: that is [`crate::resolve`]'s.

pub mod attribute;
pub mod dependence;
pub mod filter;
pub mod interface;
pub mod learned;
pub mod network;

use crate::addr::DeviceName;
use crate::diagnostic::visible::visible;

/// What to do where libvirt 9.0 does something else than the XML says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quirks {
    /// The rule that the XML means, or an error where there is none.
    #[default]
    Fixed,
    /// libvirt 9.0 rule for rule, bugs included.
    Libvirt,
}

/// The thing that a set of rules belongs to: the unit that is held, closed, recorded and reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A virtual network, by its name.
    Network(String),
    /// A guest interface, by its host-side device.
    Interface(DeviceName),
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(name) => write!(f, "network `{}`", visible(name)),
            Self::Interface(device) => write!(f, "interface `{device}`"),
        }
    }
}
