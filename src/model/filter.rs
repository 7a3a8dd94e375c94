//! A `<filter>` document: rules and references in document order.
//!
//! Reference: nwfilter.md sections 1, 2 and 4.1. A rule's protocol element is a list of attributes from one table
//! ([`super::attribute`]), not a struct per protocol: twenty protocols share some fifty attributes, and every later
//! step (variables, compile, lint) walks them the same way.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use uuid::Uuid;

use crate::addr::Mac;
use crate::source::{Span, Spanned};

/// One network filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `filter/@name`, not empty.
    pub name: Spanned<Arc<str>>,
    /// `<uuid>`.
    pub uuid: Option<Spanned<Uuid>>,
    /// `filter/@chain` and `@priority` with their defaults.
    pub chain: Chain,
    /// `<rule>` and `<filterref>` in document order.
    pub entries: Vec<Entry>,
    /// The `<filter>` start tag.
    pub span: Span,
}

/// The chain that a filter's rules live in (nwfilter.md 1.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// `root`, or a name of at most 12 characters that begins with mac, vlan, stp, arp, rarp, ipv4 or ipv6.
    pub name: Arc<str>,
    /// -1000 to 1000.
    pub priority: i16,
}

/// A child of `<filter>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `<rule>`.
    Rule(Arc<Rule>),
    /// `<filterref>`.
    Reference(Reference),
}

/// `<filterref filter='..'>` with its `<parameter>`s, in a filter, an interface or a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `filterref/@filter`.
    pub filter: Spanned<Arc<str>>,
    /// Valid parameters in document order; a name that repeats makes a list.
    pub parameters: Vec<Parameter>,
    /// The `<filterref>` start tag.
    pub span: Span,
}

/// `<parameter name='..' value='..'/>`: the name of `[A-Za-z0-9_]`, the value of `[A-Za-z0-9_.:]`, neither empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The variable it gives a value to.
    pub name: Spanned<Arc<str>>,
    /// One element of the variable's list.
    pub value: Spanned<Arc<str>>,
}

/// `<rule>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `rule/@action`.
    pub action: Action,
    /// `rule/@direction`, seen from the guest.
    pub direction: Direction,
    /// `rule/@priority`, -1000 to 1000, default 500.
    pub priority: i16,
    /// False for `statematch='0'` or `'false'`.
    pub state_match: bool,
    /// The protocol element's name.
    pub protocol: Protocol,
    /// The attributes of all its same-named protocol elements, merged (nwfilter.md 1.4): unique names, later values winning, `state` or-ed. Element by element and within one in the order of the table: the order in which
    /// libvirt looks for variables (4.4).
    pub attributes: Vec<Attribute>,
    /// Variables of attributes that a later element gave again, with their places. They decide nothing, but libvirt wants a value for each and
    /// repeats the rule for every element of their lists.
    pub overridden: Vec<(Access, Span)>,
    /// The `<rule>` start tag.
    pub span: Span,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// `accept`
    Accept,
    /// `drop`
    Drop,
    /// `reject`
    Reject,
    /// `return`
    Return,
    /// `continue`
    Continue,
}

/// Which traffic a rule judges, seen from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the guest.
    In,
    /// From the guest.
    Out,
    /// Both.
    InOut,
}

/// The protocol element of a rule (nwfilter.md 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the XML's own")]
pub enum Protocol {
    /// No protocol element: every frame.
    None,
    Mac,
    Vlan,
    Stp,
    Arp,
    Rarp,
    /// `<ip>`, layer 2.
    Ip,
    /// `<ipv6>`, layer 2.
    Ipv6,
    Tcp,
    Udp,
    UdpLite,
    Esp,
    Ah,
    Sctp,
    Icmp,
    Igmp,
    All,
    TcpIpv6,
    UdpIpv6,
    UdpLiteIpv6,
    EspIpv6,
    AhIpv6,
    SctpIpv6,
    Icmpv6,
    AllIpv6,
}

/// Where a protocol's rules end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// ebtables.
    Link,
    /// iptables.
    Ipv4,
    /// ip6tables.
    Ipv6,
}

/// The name of an attribute of a protocol element. One name may mean different types under different protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the XML's own")]
pub enum AttributeName {
    SrcMacAddr,
    SrcMacMask,
    DstMacAddr,
    DstMacMask,
    ProtocolId,
    VlanId,
    EncapProtocol,
    // stp
    StpType,
    StpFlags,
    RootPriority,
    RootPriorityHi,
    RootAddress,
    RootAddressMask,
    RootCost,
    RootCostHi,
    SenderPriority,
    SenderPriorityHi,
    SenderAddress,
    SenderAddressMask,
    StpPort,
    StpPortHi,
    Age,
    AgeHi,
    MaxAge,
    MaxAgeHi,
    HelloTime,
    HelloTimeHi,
    ForwardDelay,
    ForwardDelayHi,
    // arp and rarp
    HwType,
    ProtocolType,
    Opcode,
    ArpSrcMacAddr,
    ArpDstMacAddr,
    ArpSrcIpAddr,
    ArpSrcIpMask,
    ArpDstIpAddr,
    ArpDstIpMask,
    Gratuitous,
    // ip, ipv6 and everything of layer 3
    SrcIpAddr,
    SrcIpMask,
    DstIpAddr,
    DstIpMask,
    SrcIpFrom,
    SrcIpTo,
    DstIpFrom,
    DstIpTo,
    IpProtocol,
    SrcPortStart,
    SrcPortEnd,
    DstPortStart,
    DstPortEnd,
    Dscp,
    /// ICMP type and code; ranges on layer-2 `ipv6` only.
    Type,
    TypeEnd,
    Code,
    CodeEnd,
    TcpFlags,
    TcpOption,
    State,
    ConnLimitAbove,
    IpSet,
    IpSetFlags,
    Comment,
}

/// One attribute of a rule's protocol element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Which.
    pub name: AttributeName,
    /// Its literal value, or the variable that gives it.
    pub value: Value,
    /// True when its own element says `match='no'`. libvirt's inheritance of this flag (nwfilter.md 2.3) is applied by compile.
    pub negated: bool,
    /// The attribute's value, without the quotes.
    pub span: Span,
}

/// A literal or a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Written out.
    Literal(Literal),
    /// `$NAME`, `$NAME[@n]`, `$NAME[n]`.
    Variable(Access),
}

/// A reference to a variable (nwfilter.md 4.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// The variable's name, case-sensitive.
    pub name: Arc<str>,
    /// Which of its elements.
    pub element: Element,
}

/// Which element of a variable's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// All, walked by this iterator (0 to 1000); `$NAME` is iterator 0.
    Iterated(u16),
    /// This one, counted from 0.
    Fixed(u32),
}

/// A typed value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Literal {
    /// U8, U16 and U32 attributes, protocol ids, opcodes and IP protocols among them.
    Number(u32),
    /// An Ethernet address, or a mask of one.
    Mac(Mac),
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// An address mask as the number of its leading ones.
    Prefix(u8),
    /// A range that only a variable can bring (`80:90` for a start port): first and last.
    Range(u16, u16),
    /// `gratuitous`.
    Flag(bool),
    /// `flags`: mask, then the bits that must be set (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32).
    TcpFlags(u8, u8),
    /// `state`.
    States(States),
    /// `ipsetflags`: one to six directions.
    SetDirections(Vec<SetDirection>),
    /// `comment`, `ipset`.
    Text(Arc<str>),
}

/// A set of connection states; empty with `none` false means that no state was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[allow(missing_docs, reason = "the names are the XML's own")]
#[expect(clippy::struct_excessive_bools, reason = "a set of five named bits, asked for one by one")]
pub struct States {
    pub new: bool,
    pub established: bool,
    pub related: bool,
    pub invalid: bool,
    /// `NONE`: overrides all others.
    pub none: bool,
}

/// One element of `ipsetflags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetDirection {
    /// `src`
    Source,
    /// `dst`
    Destination,
}

impl States {
    /// Every state of either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            new: self.new || other.new,
            established: self.established || other.established,
            related: self.related || other.related,
            invalid: self.invalid || other.invalid,
            none: self.none || other.none,
        }
    }
}
