//! Attributes that say something about another attribute, and nothing without it.
//!
//! Reference: nwfilter.md 2.4 and 2.8. libvirt passes over them in silence, which leaves a match out.

use super::filter::{AttributeName as Name, Layer, Protocol, Rule};

/// Every such attribute with the one that it belongs to.
const BASES: [(Name, Name); 22] = [
    (Name::SrcMacMask, Name::SrcMacAddr),
    (Name::DstMacMask, Name::DstMacAddr),
    (Name::RootPriorityHi, Name::RootPriority),
    (Name::RootAddressMask, Name::RootAddress),
    (Name::RootCostHi, Name::RootCost),
    (Name::SenderPriorityHi, Name::SenderPriority),
    (Name::SenderAddressMask, Name::SenderAddress),
    (Name::StpPortHi, Name::StpPort),
    (Name::AgeHi, Name::Age),
    (Name::MaxAgeHi, Name::MaxAge),
    (Name::HelloTimeHi, Name::HelloTime),
    (Name::ForwardDelayHi, Name::ForwardDelay),
    (Name::ArpSrcIpMask, Name::ArpSrcIpAddr),
    (Name::ArpDstIpMask, Name::ArpDstIpAddr),
    (Name::SrcIpMask, Name::SrcIpAddr),
    (Name::DstIpMask, Name::DstIpAddr),
    (Name::SrcIpTo, Name::SrcIpFrom),
    (Name::DstIpTo, Name::DstIpFrom),
    (Name::SrcPortEnd, Name::SrcPortStart),
    (Name::DstPortEnd, Name::DstPortStart),
    (Name::IpSetFlags, Name::IpSet),
    (Name::Code, Name::Type),
];

/// The attribute that this one belongs to under this protocol.
pub fn base(protocol: Protocol, name: Name) -> Option<Name> {
    // A code of layer-2 `ipv6` is a match of its own.
    if name == Name::Code && protocol.layer() == Layer::Link {
        return None;
    }
    BASES.iter().find(|(dependent, _)| *dependent == name).map(|&(_, base)| base)
}

impl Rule {
    /// True when the rule has this attribute.
    pub fn has(&self, name: Name) -> bool {
        self.attributes.iter().any(|attribute| attribute.name == name)
    }

    /// The attribute that this one belongs to, if the rule lacks it.
    pub fn missing_base(&self, name: Name) -> Option<Name> {
        base(self.protocol, name).filter(|&base| !self.has(base))
    }
}
