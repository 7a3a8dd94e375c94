//! Model to policy: references followed, variables bound, iterators expanded.
//!
//! What goes in are the documents of all files; what comes out says what every network and guest may do, without knowing
//! how any tool spells it. An object with a fault is not in the policy but among the held. `network` and `interface` decide
//! which documents count, `includes` follows references between filters, `variables` and `value` bind and type what
//! rules leave open, `guest` puts it together for one interface. [`order`] and [`lint`] look at the result.

mod budget;
mod finding;
mod guest;
mod includes;
mod interface;
pub mod lint;
mod memo;
mod network;
pub mod order;
mod value;
mod variables;

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::addr::{DeviceName, Mac};
use crate::diagnostic::Diagnostic;
use crate::model::filter::{Action, AttributeName, Chain, Direction, Filter, Literal, Protocol};
use crate::model::learned::{Claimant, Learned};
use crate::model::network::{Forward, NetworkAddress};
use crate::model::{Object, Quirks};
use crate::parse::{BrokenKind, Parsed};
use crate::source::Span;

use finding::Findings;
use includes::Library;
pub use memo::Memo;

/// What every network and guest may do.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// Networks with a bridge of their own, by name.
    pub networks: Vec<NetworkPolicy>,
    /// Guest interfaces that have a filter, by device. Shared with the [`Memo`] of the next pass.
    pub guests: Vec<Arc<GuestPolicy>>,
    /// Objects that a fault keeps out of the policy.
    pub held: Vec<Held>,
    /// True while some file is broken: then nothing may be deleted on the ground of being absent.
    pub incomplete: bool,
    /// Objects that a sound file defines and that have no rules: they are not absent. Without those that a broken file may define as well.
    pub unruled: BTreeSet<Object>,
    /// The last five bytes of the addresses by which interfaces are matched to their taps: no other device matters.
    pub sought: BTreeSet<[u8; 5]>,
    /// Everything found on the way, parse diagnostics not included.
    pub diagnostics: Vec<Diagnostic>,
}

/// An object whose definition is at fault: its last good rules stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub object: Object,
    /// Where the fault is.
    pub span: Span,
    /// The code of the diagnostic that says why.
    pub code: &'static str,
    /// Its message.
    pub message: String,
}

/// One virtual network that may have rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// `<name>`.
    pub name: Arc<str>,
    /// The bridge.
    pub bridge: DeviceName,
    /// Never [`Forward::External`].
    pub forward: Forward,
    /// `network/@ipv6='yes'`.
    pub ipv6: bool,
    /// Every `<ip>`, in document order.
    pub addresses: Vec<NetworkAddress>,
    /// The `<network>` start tag.
    pub place: Span,
}

/// One guest interface with its filter tree flattened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPolicy {
    /// The host-side device.
    pub device: DeviceName,
    /// The guest's Ethernet address.
    pub mac: Mac,
    /// The guest's name, where a document has it.
    pub owner: Option<Arc<str>>,
    /// What its traffic goes through.
    pub treatment: Treatment,
    /// How the addresses in its rules were learned; `None` where files give all of them, or none has been learned yet.
    pub learned: Option<Learning>,
    /// The `<interface>` or `<filterbinding>` start tag.
    pub place: Span,
}

/// What a guest's traffic goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treatment {
    /// The filter's rules, in collection order (nwfilter.md 3.3 step 1), iterators expanded in place.
    Filtered(Vec<Arc<PolicyRule>>),
    /// The interim rules while `IP` is not known (nwfilter.md section 5).
    Learning(Learning),
}

/// What has to be learned, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learning {
    /// Whose the addresses are; says how they are learned.
    pub claimant: Claimant,
    /// Which addresses its filters use.
    pub families: Families,
}

/// Which kinds of addresses are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// `$IP` alone.
    Ipv4,
    /// `$IPV6` alone.
    Ipv6,
    /// Either.
    Both,
}

/// One rule of a guest with every value known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// The chain of the filter that it stands in.
    pub chain: Chain,
    /// -1000 to 1000, as written.
    pub priority: i16,
    /// What it does.
    pub action: Action,
    /// Which traffic it judges.
    pub direction: Direction,
    /// `statematch`.
    pub state_match: bool,
    /// What it matches on.
    pub protocol: Protocol,
    /// What must hold; unique names.
    pub conditions: Vec<Condition>,
    /// The `<rule>` start tag.
    pub place: Span,
}

/// One attribute with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which attribute.
    pub name: AttributeName,
    /// Its value.
    pub value: Literal,
    /// `match='no'` on its own element.
    pub negated: bool,
    /// Whether a variable gave the value: libvirt treats some attributes differently then (nwfilter.md 4.2 and row 8 of section 8).
    pub from_variable: bool,
    /// The attribute's value in the XML.
    pub span: Span,
}

/// A network device of this host, for interfaces that name no target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub device: DeviceName,
    /// Its own Ethernet address; a tap's last five bytes equal its guest's.
    pub mac: Mac,
    /// What it is, as far as that matters here.
    pub kind: LinkKind,
}

/// Whether a device can be a guest's tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge: it may have taken its address from a tap that is its port, and is never one itself.
    Bridge,
    /// Any other device.
    Other,
}

/// Resolves the documents of all files; `links` are the devices that exist now, `learned` the addresses that count now. The order of
/// `documents` does not matter.
///
/// `stock` are the built-in filters: they stand behind those of files, so that a filter of the same name replaces one without a clash.
/// They are an argument of their own because nothing in a [`Parsed`] tells where it came from, and nothing else about it matters.
pub fn resolve(documents: &[impl Borrow<Parsed>], stock: &[Filter], links: &[Link], learned: &Learned, quirks: Quirks) -> Resolved {
    resolve_again(documents, stock, links, learned, quirks, &mut Memo::default())
}

/// As [`resolve`], with the same result; what `memo` has from an earlier call and still follows from the documents is not worked out again. Afterwards
/// it has this call's.
pub fn resolve_again(
    documents: &[impl Borrow<Parsed>],
    stock: &[Filter],
    links: &[Link],
    learned: &Learned,
    quirks: Quirks,
    memo: &mut Memo,
) -> Resolved {
    let documents: Vec<&Parsed> = documents.iter().map(Borrow::borrow).collect();
    let mut findings = Findings::of_broken(&documents);
    let library = Library::gather(&documents, stock, &mut findings);
    let networks = network::settle(&documents, &mut findings);
    let (taps, bare): (Vec<_>, Vec<_>) =
        interface::settle(&documents, &networks, links, &mut findings).into_iter().partition(|tap| tap.interface.filter.is_some());
    let guests = memo.guests(&taps, &library, learned, quirks, &mut findings);
    let used = taps.iter().filter_map(|tap| tap.interface.filter.as_ref()).map(|reference| &*reference.filter.value);
    library.report(used, &mut findings);
    let broken = Broken::among(&documents);
    let external = networks.iter().filter(|network| network.forward == Forward::External).map(|network| network::object(network));
    let unruled = external.chain(bare.into_iter().map(|tap| Object::Interface(tap.device)));
    // Whoever is held for what is found in here has a fault of its own.
    let unruled = unruled.filter(|object| !findings.is_held(object) && !broken.may_define(object)).collect();
    let networks = network::policies(&networks, &findings);
    let incomplete = documents.iter().any(|document| !document.broken.is_empty());
    let (held, diagnostics) = findings.finish();
    let sought = interface::sought(&documents);
    Resolved { networks, guests, held, incomplete, unruled, sought, diagnostics }
}

/// What the broken definitions of all files may be about.
struct Broken<'a> {
    /// Whether one may be about anything.
    unknown: bool,
    /// Whether one is about a network.
    network: bool,
    interfaces: HashSet<&'a DeviceName>,
}

impl<'a> Broken<'a> {
    fn among(documents: &[&'a Parsed]) -> Self {
        let mut all = Self { unknown: false, network: false, interfaces: HashSet::new() };
        for broken in documents.iter().flat_map(|document| &document.broken) {
            match &broken.what {
                BrokenKind::Unknown => all.unknown = true,
                BrokenKind::Filter(_) => {}
                BrokenKind::Object(Object::Network(_)) => all.network = true,
                BrokenKind::Object(Object::Interface(device)) => {
                    all.interfaces.insert(device);
                }
            }
        }
        all
    }

    /// Whether something broken may be the definition of an object that another file defines as well, and then counts instead of it or beside it.
    fn may_define(&self, object: &Object) -> bool {
        self.unknown
            || match object {
                // A status document counts instead of the network with its UUID, which is not known of a broken one.
                Object::Network(_) => self.network,
                Object::Interface(device) => self.interfaces.contains(device),
            }
    }
}

impl Resolved {
    /// The devices of `links` that an interface without a target may be matched to.
    pub fn candidates<'l>(&self, links: &'l [Link]) -> Vec<&'l Link> {
        links.iter().filter(|link| link.kind == LinkKind::Other && self.sought.contains(&link.mac.tail())).collect()
    }
}

impl Condition {
    /// The number in it; `None` for other kinds of values.
    pub fn number(&self) -> Option<u32> {
        if let Literal::Number(number) = self.value { Some(number) } else { None }
    }
}

impl GuestPolicy {
    /// What is learned for it, be it known already or not.
    pub fn learning(&self) -> Option<&Learning> {
        match &self.treatment {
            Treatment::Filtered(_) => self.learned.as_ref(),
            Treatment::Learning(learning) => Some(learning),
        }
    }
}

impl Families {
    /// Whether addresses of this kind are wanted.
    pub fn include(self, address: IpAddr) -> bool {
        match self {
            Self::Both => true,
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }
}

impl PolicyRule {
    /// The condition of this name, if the rule has it.
    pub fn condition(&self, name: AttributeName) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.name == name)
    }
}

#[cfg(test)]
mod tests;
