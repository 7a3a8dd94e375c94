//! `<interface>`, `<domain>`, `<domstatus>`, `<filterbinding>` and `<filterbindingstatus>` documents to the model.

use super::Parsed;
use super::xml::Element;
use crate::model::Quirks;

/// Reads every interface of a document: adds them to [`Parsed::interfaces`], or to [`Parsed::broken`] with what is wrong in
/// [`Parsed::diagnostics`].
pub(super) fn parse_interfaces(root: &Element<'_>, quirks: Quirks, parsed: &mut Parsed) {
    let _ = (root, quirks, parsed);
}

/// Adds what a document that is not well-formed meant to define to [`Parsed::broken`].
pub(super) fn recover_interfaces(root: &Element<'_>, parsed: &mut Parsed) {
    let _ = (root, parsed);
}
