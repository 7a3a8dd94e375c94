//! Guest interfaces: `<interface>` (alone, or in a `<domain>` or `<domstatus>`) and `<filterbinding>`.
//!
//! Reference: nwfilter.md section 7; design section 3. One document of a domain yields one [`Interface`] per `<interface>`.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::addr::{DeviceName, Mac};
use crate::model::filter::Reference;
use crate::source::{Span, Spanned};

/// One guest interface with the filter it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// What kind of document it came from.
    pub document: Document,
    /// The guest's name, where the document has it.
    pub owner: Option<Arc<str>>,
    /// The guest's UUID, where the document has it; pairs a domain with its status document.
    pub owner_uuid: Option<Uuid>,
    /// `target/@dev` or `portdev/@name`, taken literally; without one the interface is matched to a tap by its MAC.
    pub device: Option<Spanned<DeviceName>>,
    /// `mac/@address`.
    pub mac: Option<Spanned<Mac>>,
    /// `source/@network`: the virtual network it is plugged into.
    pub network: Option<Spanned<Arc<str>>>,
    /// The first `<filterref>`; without one the interface has no rules.
    pub filter: Option<Reference>,
    /// `<ip address='..'/>`: gives `IP` and `IPV6` in `fixed` quirks unless a parameter does.
    pub addresses: Vec<Spanned<IpAddr>>,
    /// The `<interface>` or `<filterbinding>` start tag.
    pub span: Span,
}

/// Which document an interface was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// `<interface>` as a root element.
    Interface,
    /// `<domain>`.
    Domain,
    /// `<domstatus>`: a running guest; supersedes the domain with its UUID.
    DomainStatus,
    /// `<filterbinding>`.
    Binding,
    /// `<filterbindingstatus>`.
    BindingStatus,
}
