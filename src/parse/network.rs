//! `<network>` and `<networkstatus>` documents to the model.

use super::Parsed;
use super::xml::Element;
use crate::model::Quirks;

/// Reads a network: adds it to [`Parsed::networks`], or to [`Parsed::broken`] with what is wrong in [`Parsed::diagnostics`].
pub(super) fn parse_network(root: &Element<'_>, quirks: Quirks, parsed: &mut Parsed) {
    let _ = (root, quirks, parsed);
}

/// Adds what a network that is not well-formed meant to define to [`Parsed::broken`].
pub(super) fn recover_network(root: &Element<'_>, parsed: &mut Parsed) {
    let _ = (root, parsed);
}
