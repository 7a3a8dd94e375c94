//! The one table of protocol attributes: which protocol element knows which attribute, and what its value may be.
//!
//! Reference: nwfilter.md 2.2, 2.4 and 2.6. The order of each list is the order in which libvirt looks for variables (4.4), which
//! decides how iterators multiply.

use super::filter::{AttributeName, Layer, Protocol};

/// One attribute of one protocol element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeSpec {
    /// How the program calls it.
    pub name: AttributeName,
    /// How the XML calls it.
    pub xml: &'static str,
    /// What its value may be.
    pub kind: ValueKind,
}

/// The type of an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Decimal or hexadecimal, inclusive bounds.
    Number {
        /// Lowest.
        min: u32,
        /// Highest.
        max: u32,
    },
    /// Decimal only, 0 to 65535.
    Decimal,
    /// Like [`ValueKind::Number`], or the name of an Ethernet type.
    EtherType {
        /// Lowest: 1536 for `protocolid`, 60 for `encap-protocol`.
        min: u32,
    },
    /// 0 to 65535, or the name of an ARP opcode.
    ArpOpcode,
    /// 0 to 255, or the name of an IP protocol.
    IpProtocol,
    /// An Ethernet address.
    Mac,
    /// Ones, then zeros.
    MacMask,
    /// An IPv4 address.
    Ipv4,
    /// 0 to 32, or a contiguous dotted mask.
    Ipv4Mask,
    /// An IPv6 address.
    Ipv6,
    /// 0 to 128, or a contiguous mask in IPv6 form.
    Ipv6Mask,
    /// `true`, `1`, `yes`; everything else is false.
    Flag,
    /// `MASK/FLAGS`
    TcpFlags,
    /// A list of connection states.
    States,
    /// Up to 31 characters of `A-Z a-z 0-9 _ . : - +` and blank.
    SetName,
    /// One to six of `src`, `dst`.
    SetDirections,
    /// Up to 256 bytes.
    Comment,
}

/// The words of `opcode` of `arp` and `rarp`, which ebtables has too.
pub const ARP_OPCODES: [(&str, u32); 9] = [
    ("Request", 1),
    ("Reply", 2),
    ("Request_Reverse", 3),
    ("Reply_Reverse", 4),
    ("DRARP_Request", 5),
    ("DRARP_Reply", 6),
    ("DRARP_Error", 7),
    ("InARP_Request", 8),
    ("ARP_NAK", 9),
];

/// The words of `protocol` of layer-2 `ip` and `ipv6`; not the names of `/etc/protocols`, which vary.
pub const IP_PROTOCOLS: [(&str, u32); 9] =
    [("tcp", 6), ("udp", 17), ("udplite", 136), ("esp", 50), ("ah", 51), ("icmp", 1), ("igmp", 2), ("sctp", 132), ("icmpv6", 58)];

use AttributeName as A;
use ValueKind as K;

const U8: K = K::Number { min: 0, max: 255 };
const U16: K = K::Number { min: 0, max: 65_535 };
const U32: K = K::Number { min: 0, max: u32::MAX };
const DSCP: K = K::Number { min: 0, max: 63 };

const fn spec(name: AttributeName, xml: &'static str, kind: ValueKind) -> AttributeSpec {
    AttributeSpec { name, xml, kind }
}

const COMMENT: AttributeSpec = spec(A::Comment, "comment", K::Comment);

macro_rules! ethernet {
    ($($rest:expr),* $(,)?) => {
        &[
            spec(A::SrcMacAddr, "srcmacaddr", K::Mac),
            spec(A::SrcMacMask, "srcmacmask", K::MacMask),
            spec(A::DstMacAddr, "dstmacaddr", K::Mac),
            spec(A::DstMacMask, "dstmacmask", K::MacMask),
            $($rest,)*
            COMMENT,
        ]
    };
}

macro_rules! layer3 {
    ($address:expr, $mask:expr $(, $rest:expr)* $(,)?) => {
        &[
            spec(A::SrcMacAddr, "srcmacaddr", K::Mac),
            spec(A::SrcIpAddr, "srcipaddr", $address),
            spec(A::SrcIpMask, "srcipmask", $mask),
            spec(A::DstIpAddr, "dstipaddr", $address),
            spec(A::DstIpMask, "dstipmask", $mask),
            spec(A::SrcIpFrom, "srcipfrom", $address),
            spec(A::SrcIpTo, "srcipto", $address),
            spec(A::DstIpFrom, "dstipfrom", $address),
            spec(A::DstIpTo, "dstipto", $address),
            spec(A::Dscp, "dscp", DSCP),
            spec(A::ConnLimitAbove, "connlimit-above", K::Decimal),
            spec(A::State, "state", K::States),
            spec(A::IpSet, "ipset", K::SetName),
            spec(A::IpSetFlags, "ipsetflags", K::SetDirections),
            $($rest,)*
            COMMENT,
        ]
    };
}

const SRC_PORT_START: AttributeSpec = spec(A::SrcPortStart, "srcportstart", U16);
const SRC_PORT_END: AttributeSpec = spec(A::SrcPortEnd, "srcportend", U16);
const DST_PORT_START: AttributeSpec = spec(A::DstPortStart, "dstportstart", U16);
const DST_PORT_END: AttributeSpec = spec(A::DstPortEnd, "dstportend", U16);
const TYPE: AttributeSpec = spec(A::Type, "type", U8);
const CODE: AttributeSpec = spec(A::Code, "code", U8);
const OPTION: AttributeSpec = spec(A::TcpOption, "option", U8);
/// Known on `tcp`; on `tcp-ipv6` libvirt's parser ignores it and `fixed` quirks honour it (row 12).
const FLAGS: AttributeSpec = spec(A::TcpFlags, "flags", K::TcpFlags);

const STP: &[AttributeSpec] = &[
    spec(A::SrcMacAddr, "srcmacaddr", K::Mac),
    spec(A::SrcMacMask, "srcmacmask", K::MacMask),
    spec(A::StpType, "type", U8),
    spec(A::StpFlags, "flags", U8),
    spec(A::RootPriority, "root-priority", U16),
    spec(A::RootPriorityHi, "root-priority-hi", U16),
    spec(A::RootAddress, "root-address", K::Mac),
    spec(A::RootAddressMask, "root-address-mask", K::MacMask),
    spec(A::RootCost, "root-cost", U32),
    spec(A::RootCostHi, "root-cost-hi", U32),
    spec(A::SenderPriority, "sender-priority", U16),
    spec(A::SenderPriorityHi, "sender-priority-hi", U16),
    spec(A::SenderAddress, "sender-address", K::Mac),
    spec(A::SenderAddressMask, "sender-address-mask", K::MacMask),
    spec(A::StpPort, "port", U16),
    spec(A::StpPortHi, "port-hi", U16),
    spec(A::Age, "age", U16),
    spec(A::AgeHi, "age-hi", U16),
    spec(A::MaxAge, "max-age", U16),
    spec(A::MaxAgeHi, "max-age-hi", U16),
    spec(A::HelloTime, "hello-time", U16),
    spec(A::HelloTimeHi, "hello-time-hi", U16),
    spec(A::ForwardDelay, "forward-delay", U16),
    spec(A::ForwardDelayHi, "forward-delay-hi", U16),
    COMMENT,
];

const MAC: &[AttributeSpec] = ethernet![spec(A::ProtocolId, "protocolid", K::EtherType { min: 1536 })];
const VLAN: &[AttributeSpec] = ethernet![
    // libvirt takes 4095 too, which ebtables refuses.
    spec(A::VlanId, "vlanid", K::Number { min: 0, max: 4094 }),
    spec(A::EncapProtocol, "encap-protocol", K::EtherType { min: 60 })
];
const ARP: &[AttributeSpec] = ethernet![
    spec(A::HwType, "hwtype", U16),
    spec(A::ProtocolType, "protocoltype", U16),
    spec(A::Opcode, "opcode", K::ArpOpcode),
    spec(A::ArpSrcMacAddr, "arpsrcmacaddr", K::Mac),
    spec(A::ArpDstMacAddr, "arpdstmacaddr", K::Mac),
    spec(A::ArpSrcIpAddr, "arpsrcipaddr", K::Ipv4),
    spec(A::ArpSrcIpMask, "arpsrcipmask", K::Ipv4Mask),
    spec(A::ArpDstIpAddr, "arpdstipaddr", K::Ipv4),
    spec(A::ArpDstIpMask, "arpdstipmask", K::Ipv4Mask),
    spec(A::Gratuitous, "gratuitous", K::Flag),
];
const IP: &[AttributeSpec] = ethernet![
    spec(A::SrcIpAddr, "srcipaddr", K::Ipv4),
    spec(A::SrcIpMask, "srcipmask", K::Ipv4Mask),
    spec(A::DstIpAddr, "dstipaddr", K::Ipv4),
    spec(A::DstIpMask, "dstipmask", K::Ipv4Mask),
    spec(A::IpProtocol, "protocol", K::IpProtocol),
    SRC_PORT_START,
    SRC_PORT_END,
    DST_PORT_START,
    DST_PORT_END,
    spec(A::Dscp, "dscp", DSCP),
];
const IPV6: &[AttributeSpec] = ethernet![
    spec(A::SrcIpAddr, "srcipaddr", K::Ipv6),
    spec(A::SrcIpMask, "srcipmask", K::Ipv6Mask),
    spec(A::DstIpAddr, "dstipaddr", K::Ipv6),
    spec(A::DstIpMask, "dstipmask", K::Ipv6Mask),
    spec(A::IpProtocol, "protocol", K::IpProtocol),
    SRC_PORT_START,
    SRC_PORT_END,
    DST_PORT_START,
    DST_PORT_END,
    TYPE,
    spec(A::TypeEnd, "typeend", U8),
    CODE,
    spec(A::CodeEnd, "codeend", U8),
];
const TCP: &[AttributeSpec] = layer3![K::Ipv4, K::Ipv4Mask, SRC_PORT_START, SRC_PORT_END, DST_PORT_START, DST_PORT_END, OPTION, FLAGS];
const TCP_IPV6: &[AttributeSpec] = layer3![K::Ipv6, K::Ipv6Mask, SRC_PORT_START, SRC_PORT_END, DST_PORT_START, DST_PORT_END, OPTION, FLAGS];
const PORTS: &[AttributeSpec] = layer3![K::Ipv4, K::Ipv4Mask, SRC_PORT_START, SRC_PORT_END, DST_PORT_START, DST_PORT_END];
const PORTS_IPV6: &[AttributeSpec] = layer3![K::Ipv6, K::Ipv6Mask, SRC_PORT_START, SRC_PORT_END, DST_PORT_START, DST_PORT_END];
const PLAIN: &[AttributeSpec] = layer3![K::Ipv4, K::Ipv4Mask];
const PLAIN_IPV6: &[AttributeSpec] = layer3![K::Ipv6, K::Ipv6Mask];
const ICMP: &[AttributeSpec] = layer3![K::Ipv4, K::Ipv4Mask, TYPE, CODE];
const ICMPV6: &[AttributeSpec] = layer3![K::Ipv6, K::Ipv6Mask, TYPE, CODE];

impl Protocol {
    /// Every protocol element, by the name it has in XML.
    pub const ELEMENTS: [(&'static str, Self); 24] = [
        ("mac", Self::Mac),
        ("vlan", Self::Vlan),
        ("stp", Self::Stp),
        ("arp", Self::Arp),
        ("rarp", Self::Rarp),
        ("ip", Self::Ip),
        ("ipv6", Self::Ipv6),
        ("tcp", Self::Tcp),
        ("udp", Self::Udp),
        ("udplite", Self::UdpLite),
        ("esp", Self::Esp),
        ("ah", Self::Ah),
        ("sctp", Self::Sctp),
        ("icmp", Self::Icmp),
        ("igmp", Self::Igmp),
        ("all", Self::All),
        ("tcp-ipv6", Self::TcpIpv6),
        ("udp-ipv6", Self::UdpIpv6),
        ("udplite-ipv6", Self::UdpLiteIpv6),
        ("esp-ipv6", Self::EspIpv6),
        ("ah-ipv6", Self::AhIpv6),
        ("sctp-ipv6", Self::SctpIpv6),
        ("icmpv6", Self::Icmpv6),
        ("all-ipv6", Self::AllIpv6),
    ];

    /// The protocol whose element has this name.
    pub fn named(element: &str) -> Option<Self> {
        Self::ELEMENTS.iter().find(|(name, _)| *name == element).map(|&(_, protocol)| protocol)
    }

    /// The attributes that this protocol's element knows, in the order in which variables are looked for.
    pub fn attributes(self) -> &'static [AttributeSpec] {
        match self {
            Self::None => &[],
            Self::Mac => MAC,
            Self::Vlan => VLAN,
            Self::Stp => STP,
            Self::Arp | Self::Rarp => ARP,
            Self::Ip => IP,
            Self::Ipv6 => IPV6,
            Self::Tcp => TCP,
            Self::Udp | Self::Sctp => PORTS,
            Self::TcpIpv6 => TCP_IPV6,
            Self::UdpIpv6 | Self::SctpIpv6 => PORTS_IPV6,
            Self::Icmp => ICMP,
            Self::Icmpv6 => ICMPV6,
            Self::UdpLite | Self::Esp | Self::Ah | Self::Igmp | Self::All => PLAIN,
            Self::UdpLiteIpv6 | Self::EspIpv6 | Self::AhIpv6 | Self::AllIpv6 => PLAIN_IPV6,
        }
    }

    /// The attribute of this name, as this protocol knows it.
    pub fn attribute(self, name: AttributeName) -> Option<&'static AttributeSpec> {
        self.attributes().iter().find(|spec| spec.name == name)
    }

    /// True when the element of some protocol knows an attribute of this name.
    pub fn any_knows(attribute: &str) -> bool {
        Self::ELEMENTS.iter().flat_map(|(_, protocol)| protocol.attributes()).any(|spec| spec.xml == attribute)
    }

    /// Which tool its rules go to.
    pub fn layer(self) -> Layer {
        match self {
            Self::None | Self::Mac | Self::Vlan | Self::Stp | Self::Arp | Self::Rarp | Self::Ip | Self::Ipv6 => Layer::Link,
            Self::Tcp | Self::Udp | Self::UdpLite | Self::Esp | Self::Ah | Self::Sctp | Self::Icmp | Self::Igmp | Self::All => Layer::Ipv4,
            Self::TcpIpv6
            | Self::UdpIpv6
            | Self::UdpLiteIpv6
            | Self::EspIpv6
            | Self::AhIpv6
            | Self::SctpIpv6
            | Self::Icmpv6
            | Self::AllIpv6 => Layer::Ipv6,
        }
    }
}
