//! A rule as a typed value, for iptables and ip6tables ([`IpRule`]) and for ebtables ([`BridgeRule`]).
//!
//! The fields are open, as the compiler fills them in one by one; what leaves it, and what [`super::save`] reads, has been through
//! [`super::normal`], and only such values may be compared.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ChainName;
use crate::addr::{DeviceName, Mac, PortRange};

/// A rule of either kind; a clone shares it, since one rule is wanted, planned, written and on record at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// iptables or ip6tables; which of the two, the table says.
    Ip(Arc<IpRule>),
    /// ebtables
    Bridge(Arc<BridgeRule>),
}

/// A value that must match, or with `!` must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Invertible<T> {
    /// True for `!`.
    pub inverted: bool,
    /// What is compared.
    pub value: T,
}

/// A rule of iptables or ip6tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRule {
    /// `-s`, host bits cleared; `None` for any address.
    pub source: Option<Invertible<IpNet>>,
    /// `-d`
    pub destination: Option<Invertible<IpNet>>,
    /// `-i`
    pub in_device: Option<Invertible<DeviceName>>,
    /// `-o`
    pub out_device: Option<Invertible<DeviceName>>,
    /// `-p` by number; `None` for all.
    pub protocol: Option<Invertible<u8>>,
    /// Sorted but for the two ranges of addresses, which keep their order; no two of one kind.
    pub matches: Vec<IpMatch>,
    /// `-j` or `-g`
    pub target: IpTarget,
}

/// One match of an iptables rule. The order of the variants is the order in normal form and in our restore input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpMatch {
    /// `-m physdev --physdev-in`
    PhysdevIn(Invertible<DeviceName>),
    /// `-m physdev --physdev-out`
    PhysdevOut(Invertible<DeviceName>),
    /// `-m physdev --physdev-is-bridged`
    PhysdevIsBridged(Invertible<()>),
    /// `-m mac --mac-source`
    MacSource(Invertible<Mac>),
    /// `-m iprange --src-range`
    SourceRange(Invertible<(IpAddr, IpAddr)>),
    /// `-m iprange --dst-range`
    DestinationRange(Invertible<(IpAddr, IpAddr)>),
    /// `-m dscp --dscp`, 0 to 63
    Dscp(Invertible<u8>),
    /// `-m tcp`, `-m udp`, ... named after the protocol, without any option of its own
    Transport,
    /// `-m tcp --tcp-flags`
    TcpFlags(Invertible<TcpFlags>),
    /// `--sport`
    SourcePort(Invertible<PortRange>),
    /// `--dport`
    DestinationPort(Invertible<PortRange>),
    /// `-m tcp --tcp-option`
    TcpOption(Invertible<u8>),
    /// `-m icmp --icmp-type` or `-m icmp6 --icmpv6-type`
    IcmpType(Invertible<IcmpType>),
    /// `-m conntrack --ctstate`
    ConnectionState(Invertible<ConnectionStates>),
    /// `-m state --state`: the same question in the words of its predecessor, which the kernel remembers; never `SNAT` or
    /// `DNAT`
    State(Invertible<ConnectionStates>),
    /// `-m conntrack --ctdir`
    ConnectionDirection(ConnectionDirection),
    /// `-m set --match-set`
    Set(Invertible<SetMatch>),
    /// `-m connlimit`
    ConnectionLimit(ConnectionLimit),
    /// `-m comment --comment`, at most 255 bytes
    Comment(Arc<str>),
}

/// `--tcp-flags MASK SET`: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpFlags {
    /// The flags looked at.
    pub mask: u8,
    /// Those that must be set.
    pub set: u8,
}

/// An ICMP or ICMPv6 type, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IcmpType {
    /// Any: what iptables makes of IPv4 type 255.
    Any,
    /// One type with one code, or with all.
    Type(u8, Option<u8>),
}

/// A set of conntrack states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[allow(missing_docs, reason = "the names are the tools' own")]
#[allow(clippy::struct_excessive_bools, reason = "a set of seven named bits, printed one by one")]
pub struct ConnectionStates {
    pub invalid: bool,
    pub new: bool,
    pub related: bool,
    pub established: bool,
    pub untracked: bool,
    pub snat: bool,
    pub dnat: bool,
}

/// `--ctdir`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the tools' own")]
pub enum ConnectionDirection {
    Original,
    Reply,
}

/// `--match-set NAME src,dst`
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetMatch {
    /// The set's name, 1 to 31 bytes.
    pub name: Arc<str>,
    /// One to six; true for `src`.
    pub source: Vec<bool>,
}

/// `-m connlimit`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionLimit {
    /// True for `--connlimit-above`, false for `--connlimit-upto`.
    pub above: bool,
    /// The number of connections.
    pub connections: u32,
    /// `--connlimit-mask`: 32 or 128 unless somebody else wrote the rule.
    pub prefix: u8,
    /// False for `--connlimit-daddr`.
    pub by_source: bool,
}

/// What an iptables rule does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpTarget {
    /// `-j ACCEPT`
    Accept,
    /// `-j DROP`
    Drop,
    /// `-j RETURN`
    Return,
    /// `-j REJECT` with its default type of the family: `icmp-port-unreachable` or `icmp6-port-unreachable`
    Reject,
    /// `-j CHAIN`
    Jump(ChainName),
    /// `-g CHAIN`
    Goto(ChainName),
    /// `-j MASQUERADE [--to-ports]`
    Masquerade(Option<PortRange>),
    /// `-j SNAT --to-source FIRST[-LAST][:PORTS]`
    SourceNat {
        /// First address.
        first: Ipv4Addr,
        /// Last address; equal to the first for one.
        last: Ipv4Addr,
        /// Ports.
        ports: Option<PortRange>,
    },
    /// `-j CHECKSUM --checksum-fill`
    ChecksumFill,
}

/// A rule of ebtables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BridgeRule {
    /// `-i`
    pub in_device: Option<Invertible<DeviceName>>,
    /// `-o`
    pub out_device: Option<Invertible<DeviceName>>,
    /// `-p`
    pub protocol: Option<Invertible<EtherType>>,
    /// `-s`
    pub source: Option<Invertible<MacNet>>,
    /// `-d`
    pub destination: Option<Invertible<MacNet>>,
    /// Sorted, no two of one kind.
    pub matches: Vec<BridgeMatch>,
    /// `-j`
    pub target: BridgeTarget,
}

/// `-p` of ebtables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EtherType {
    /// An Ethernet type, 0x601 to 0xffff.
    Type(u16),
    /// What ebtables 1.8.9 shows as `Length`: type 0x600, or 802.3 frames, which nobody can tell apart. Written as the type, since no filter
    /// can mean the frames.
    Length,
}

/// An Ethernet address under a mask, host bits cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacNet {
    /// The address.
    pub address: Mac,
    /// All ones for one address.
    pub mask: Mac,
}

/// An inclusive range of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range<N> {
    /// Lowest.
    pub first: N,
    /// Highest.
    pub last: N,
}

/// One match of an ebtables rule. The order of the variants is the order in normal form and in our restore input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BridgeMatch {
    /// `--vlan-id`, 0 to 4094
    VlanId(Invertible<u16>),
    /// `--vlan-prio`, 0 to 7; the kernel forgets it beside an id other than 0
    VlanPriority(Invertible<u8>),
    /// `--vlan-encap`
    VlanEncap(Invertible<u16>),
    /// `--arp-op`
    ArpOpcode(Invertible<u16>),
    /// `--arp-htype`
    ArpHardwareType(Invertible<u16>),
    /// `--arp-ptype`
    ArpProtocolType(Invertible<u16>),
    /// `--arp-ip-src`
    ArpIpSource(Invertible<Ipv4Net>),
    /// `--arp-ip-dst`
    ArpIpDestination(Invertible<Ipv4Net>),
    /// `--arp-mac-src`
    ArpMacSource(Invertible<MacNet>),
    /// `--arp-mac-dst`
    ArpMacDestination(Invertible<MacNet>),
    /// `--arp-gratuitous`
    ArpGratuitous(Invertible<()>),
    /// `--ip-src`
    IpSource(Invertible<Ipv4Net>),
    /// `--ip-dst`
    IpDestination(Invertible<Ipv4Net>),
    /// `--ip-tos`: the whole octet
    IpTos(Invertible<u8>),
    /// `--ip-proto`
    IpProtocol(Invertible<u8>),
    /// `--ip-sport`
    IpSourcePort(Invertible<PortRange>),
    /// `--ip-dport`
    IpDestinationPort(Invertible<PortRange>),
    /// `--ip6-src`
    Ip6Source(Invertible<Ipv6Net>),
    /// `--ip6-dst`
    Ip6Destination(Invertible<Ipv6Net>),
    /// `--ip6-proto`
    Ip6Protocol(Invertible<u8>),
    /// `--ip6-sport`
    Ip6SourcePort(Invertible<PortRange>),
    /// `--ip6-dport`
    Ip6DestinationPort(Invertible<PortRange>),
    /// `--ip6-icmp-type`: types and codes
    Ip6IcmpType(Invertible<(Range<u8>, Range<u8>)>),
    /// `--stp-type`
    StpType(Invertible<u8>),
    /// `--stp-flags`
    StpFlags(Invertible<u8>),
    /// `--stp-root-prio`
    StpRootPriority(Invertible<Range<u16>>),
    /// `--stp-root-addr`
    StpRootAddress(Invertible<MacNet>),
    /// `--stp-root-cost`
    StpRootCost(Invertible<Range<u32>>),
    /// `--stp-sender-prio`
    StpSenderPriority(Invertible<Range<u16>>),
    /// `--stp-sender-addr`
    StpSenderAddress(Invertible<MacNet>),
    /// `--stp-port`
    StpPort(Invertible<Range<u16>>),
    /// `--stp-msg-age`
    StpMessageAge(Invertible<Range<u16>>),
    /// `--stp-max-age`
    StpMaxAge(Invertible<Range<u16>>),
    /// `--stp-hello-time`
    StpHelloTime(Invertible<Range<u16>>),
    /// `--stp-forward-delay`
    StpForwardDelay(Invertible<Range<u16>>),
}

/// What an ebtables rule does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BridgeTarget {
    /// `-j ACCEPT`
    Accept,
    /// `-j DROP`
    Drop,
    /// `-j CONTINUE`
    Continue,
    /// `-j RETURN`
    Return,
    /// `-j CHAIN`
    Jump(ChainName),
}

impl<T> Invertible<T> {
    /// Must match.
    pub fn is(value: T) -> Self {
        Self { inverted: false, value }
    }

    /// Must match, or must not when `inverted`.
    pub fn new(inverted: bool, value: T) -> Self {
        Self { inverted, value }
    }
}

impl Rule {
    /// The chain that it jumps or goes to.
    pub fn destination(&self) -> Option<&ChainName> {
        match self {
            Self::Ip(rule) => match &rule.target {
                IpTarget::Jump(chain) | IpTarget::Goto(chain) => Some(chain),
                _ => None,
            },
            Self::Bridge(rule) => match &rule.target {
                BridgeTarget::Jump(chain) => Some(chain),
                _ => None,
            },
        }
    }
}

impl From<IpRule> for Rule {
    fn from(rule: IpRule) -> Self {
        Self::Ip(Arc::new(rule))
    }
}

impl From<BridgeRule> for Rule {
    fn from(rule: BridgeRule) -> Self {
        Self::Bridge(Arc::new(rule))
    }
}

impl IpRule {
    /// A rule that matches every packet.
    pub fn new(target: IpTarget) -> Self {
        Self { source: None, destination: None, in_device: None, out_device: None, protocol: None, matches: Vec::new(), target }
    }
}

impl BridgeRule {
    /// A rule that matches every frame.
    pub fn new(target: BridgeTarget) -> Self {
        Self { in_device: None, out_device: None, protocol: None, source: None, destination: None, matches: Vec::new(), target }
    }
}

impl MacNet {
    /// One address.
    pub fn host(address: Mac) -> Self {
        Self { address, mask: Mac::BROADCAST }
    }

    /// An address under a mask; its host bits are cleared.
    pub fn new(address: Mac, mask: Mac) -> Self {
        let mut bytes = address.0;
        for (byte, mask) in bytes.iter_mut().zip(mask.0) {
            *byte &= mask;
        }
        Self { address: Mac(bytes), mask }
    }
}
