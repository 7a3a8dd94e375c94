//! What is known of guests' addresses that no file gives: which, how they became known, and until when.
//!
//! Pure data. [`crate::resolve`] reads it beside the files, `learn` makes it from what is heard on the wire, `store` keeps it on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use uuid::Uuid;

use super::Quirks;
use crate::addr::{DeviceName, Mac};

/// So many addresses of one claimant are remembered, and no more: a guest with a forging server must not fill memory.
pub const MOST_ADDRESSES: usize = 16;

/// Whom learned addresses belong to. Everything in it that changes makes another claimant, for whom nothing has been learned.
///
/// The device is part of it only where nothing else tells two guests apart: libvirt gives a guest another `vnetN` at every start, and its
/// leases go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claimant {
    /// What tells it from another guest with the same Ethernet address.
    pub anchor: Anchor,
    /// The guest's Ethernet address.
    pub mac: Mac,
    /// The name in its `<filterref>`.
    pub filter: Arc<str>,
    /// How its addresses are learned.
    pub method: Method,
}

/// What a claimant hangs on besides its Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anchor {
    /// The UUID of the guest.
    Owner(Uuid),
    /// The device that its file names.
    Device(DeviceName),
    /// Nothing: the device was found by the Ethernet address.
    Address,
}

/// How addresses are learned (nwfilter.md 5.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// The first address that the guest uses.
    Any,
    /// What a DHCP server acknowledges; only these servers, if any are named.
    Dhcp(Vec<Ipv4Addr>),
}

/// One address that was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// The address; never unspecified, multicast, broadcast or link-local.
    pub address: IpAddr,
    /// How it became known.
    pub source: Source,
    /// Until when it counts.
    pub until: Until,
}

/// How an address became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The guest used it.
    Use,
    /// This server gave it to the guest.
    Lease(IpAddr),
}

/// The end of what was learned, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Until {
    /// It ends in this second.
    Second(u64),
    /// It does not end by itself.
    Forever,
}

/// What is known of one claimant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Knowledge {
    /// In the order in which they were learned; at most [`MOST_ADDRESSES`], no address twice.
    pub findings: Vec<Finding>,
    /// The first address since the daemon came up: the only one that `libvirt` quirks use, even when its lease has ended and another has
    /// not (row 34 of nwfilter.md section 8).
    pub first: Option<IpAddr>,
}

/// Everything that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Learned(pub BTreeMap<Claimant, Knowledge>);

impl Learned {
    /// What of it counts at a moment, given in seconds since 1970.
    #[must_use]
    pub fn at(&self, now: u64) -> Self {
        let known = self.0.iter().filter_map(|(claimant, knowledge)| {
            let findings: Vec<Finding> = knowledge.findings.iter().copied().filter(|finding| finding.until.is_after(now)).collect();
            (!findings.is_empty()).then(|| (claimant.clone(), Knowledge { findings, first: knowledge.first }))
        });
        Self(known.collect())
    }

    /// The addresses that a claimant may use, in the order in which they were learned.
    pub fn addresses(&self, claimant: &Claimant, quirks: Quirks) -> Vec<IpAddr> {
        self.0.get(claimant).map_or_else(Vec::new, |knowledge| knowledge.addresses(quirks))
    }
}

impl Knowledge {
    /// The addresses that may be used, in the order in which they were learned.
    pub fn addresses(&self, quirks: Quirks) -> Vec<IpAddr> {
        match (quirks, self.first) {
            (Quirks::Libvirt, Some(first)) if !self.findings.is_empty() => vec![first],
            _ => self.findings.iter().map(|finding| finding.address).collect(),
        }
    }
}

impl Until {
    /// Whether something that ends then still counts at `now`.
    pub fn is_after(self, now: u64) -> bool {
        match self {
            Self::Second(end) => end > now,
            Self::Forever => true,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Use => f.write_str("used by the guest"),
            Self::Lease(server) => write!(f, "leased by {server}"),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Dhcp(servers) => {
                f.write_str("dhcp")?;
                servers.iter().try_for_each(|server| write!(f, " {server}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(last: u8, until: Until) -> Finding {
        Finding { address: IpAddr::from([10, 0, 0, last]), source: Source::Use, until }
    }

    #[test]
    fn what_has_ended_does_not_count_and_a_claimant_without_anything_left_is_gone() {
        let claimant = Claimant { anchor: Anchor::Address, mac: Mac([2; 6]), filter: "f".into(), method: Method::Any };
        let findings = vec![finding(1, Until::Second(100)), finding(2, Until::Forever), finding(3, Until::Second(101))];
        let learned = Learned(BTreeMap::from([(claimant.clone(), Knowledge { findings, first: None })]));
        let last = |now| -> Vec<String> { learned.at(now).addresses(&claimant, Quirks::Fixed).iter().map(ToString::to_string).collect() };
        assert_eq!(last(99), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(last(100), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(last(101), ["10.0.0.2"]);
        let ending = Knowledge { findings: vec![finding(1, Until::Second(100))], first: None };
        assert!(Learned(BTreeMap::from([(claimant, ending)])).at(100).0.is_empty());
    }

    #[test]
    fn libvirt_uses_the_first_address_as_long_as_any_lease_is_left() {
        let first = Some(IpAddr::from([10, 0, 0, 1]));
        let knowledge = Knowledge { findings: vec![finding(2, Until::Forever)], first };
        assert_eq!(knowledge.addresses(Quirks::Libvirt), [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(knowledge.addresses(Quirks::Fixed), [IpAddr::from([10, 0, 0, 2])]);
        assert!(Knowledge { findings: Vec::new(), first }.addresses(Quirks::Libvirt).is_empty());
    }
}
