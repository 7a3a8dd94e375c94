//! `<filter>` documents to the model.

use super::Parsed;
use super::xml::Element;
use crate::model::Quirks;

/// Reads a `<filter>`: adds it to [`Parsed::filters`], or to [`Parsed::broken`] with what is wrong in [`Parsed::diagnostics`].
pub(super) fn parse_filter(root: &Element<'_>, quirks: Quirks, parsed: &mut Parsed) {
    let _ = (root, quirks, parsed);
}

/// Adds what a `<filter>` that is not well-formed meant to define to [`Parsed::broken`].
pub(super) fn recover_filter(root: &Element<'_>, parsed: &mut Parsed) {
    let _ = (root, parsed);
}
