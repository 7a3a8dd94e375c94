//! Random rules that the tools accept, over the whole typed space; always in normal form.
//!
//! What is left out, the tools refuse (a protocol's options without that protocol, `! -p 0`, an inverted `/0` with nf_tables) or cannot
//! say back: `! --sport 0:65535` of tcp and udp and `--tcp-flags NONE SYN` match nothing, yet iptables-nft 1.8.9 prints both as no match;
//! ebtables prints the Ethernet type 0x600 and its negation as `Length`, and the kernel forgets a VLAN priority beside an id other than 0.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bridgeward::addr::{DeviceName, Mac, PortRange};
use bridgeward::ruleset::rule::{
    BridgeMatch, BridgeRule, BridgeTarget, ConnectionDirection, ConnectionLimit, ConnectionStates, EtherType, IcmpType, Invertible,
    IpMatch, IpRule, IpTarget, MacNet, Range, SetMatch, TcpFlags,
};
use bridgeward::ruleset::{ChainName, Family, normal};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// The chain that every generated jump leads to.
pub const TARGET_CHAIN: &str = "FO-target";

/// The sets that generated rules name; they must exist in the namespace.
pub const SETS: [&str; 3] = ["plain", "two words", "a.b:c-d+e_F"];

/// A rule of iptables or ip6tables.
pub fn ip_rule(family: Family) -> BoxedStrategy<IpRule> {
    let general = (of(invertible(ip_net(family))), of(invertible(ip_net(family))), of(invertible(device())), of(invertible(device())));
    let rule = (general, ip_protocol(family), ip_matches(family)).prop_flat_map(move |(general, (protocol, transport), matches)| {
        let (source, destination, in_device, out_device) = general;
        let matches: Vec<_> = transport.into_iter().chain(matches).collect();
        let ported = protocol.is_some_and(|protocol| !protocol.inverted && matches!(protocol.value, 6 | 17 | 132));
        ip_target(family, ported).prop_map(move |target| {
            let (source, destination) = (source, destination);
            let (in_device, out_device) = (in_device.clone(), out_device.clone());
            normal::ip_rule(family, IpRule { source, destination, in_device, out_device, protocol, matches: matches.clone(), target })
        })
    });
    rule.boxed()
}

/// A rule of ebtables.
pub fn bridge_rule() -> BoxedStrategy<BridgeRule> {
    let devices = (of(invertible(device())), of(invertible(device())));
    let macs = (of(invertible(mac_net(1))), of(invertible(mac_net(1))));
    let rule = (devices, macs, bridge_matches(), bridge_target()).prop_map(|(devices, (source, destination), (kind, matches), target)| {
        let (protocol, destination) = match kind {
            Kind::Protocol(protocol) => (protocol, destination),
            Kind::SpanningTree => (None, Some(Invertible::is(MacNet::host(Mac::BRIDGE_GROUP)))),
        };
        let (in_device, out_device) = devices;
        normal::bridge_rule(BridgeRule { in_device, out_device, protocol, source, destination, matches, target })
    });
    rule.boxed()
}

fn invertible<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = T> + 'static) -> BoxedStrategy<Invertible<T>> {
    (any::<bool>(), value).prop_map(|(inverted, value)| Invertible::new(inverted, value)).boxed()
}

fn device() -> impl Strategy<Value = DeviceName> {
    "[A-Za-z0-9_.][A-Za-z0-9_.-]{0,14}".prop_filter_map("the kernel keeps these two", |name| DeviceName::new(&name))
}

fn mac() -> impl Strategy<Value = Mac> {
    prop_oneof![4 => any::<[u8; 6]>().prop_map(Mac), 1 => Just(Mac::BROADCAST), 1 => Just(Mac::BRIDGE_GROUP)]
}

/// An address under a mask that has at least `bits` bits.
fn mac_net(bits: u32) -> impl Strategy<Value = MacNet> {
    let mask = prop_oneof![
        3 => Just(Mac::BROADCAST),
        1 => Just(Mac([1, 0, 0, 0, 0, 0])),
        2 => any::<[u8; 6]>().prop_map(Mac),
        1 => Just(Mac([0; 6])),
    ];
    let mask =
        mask.prop_filter("ebtables refuses an empty mask", move |mask| mask.0.iter().map(|byte| byte.count_ones()).sum::<u32>() >= bits);
    (mac(), mask).prop_map(|(address, mask)| MacNet::new(address, mask))
}

fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::Ipv6 => {
            prop_oneof![any::<u128>(), (0..=u128::from(u64::MAX)), Just(0)].prop_map(|bits| Ipv6Addr::from(bits).into()).boxed()
        }
        Family::Ipv4 | Family::Bridge => any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()).boxed(),
    }
}

/// A network; never `/0`, whose negation nf_tables refuses.
fn ip_net(family: Family) -> impl Strategy<Value = IpNet> {
    let longest = if family == Family::Ipv6 { 128u8 } else { 32 };
    (address(family), prop_oneof![1..=longest, Just(longest)]).prop_map(|(address, prefix)| IpNet::new(address, prefix).expect("in range"))
}

fn port_range() -> impl Strategy<Value = PortRange> {
    prop_oneof![
        any::<u16>().prop_map(PortRange::single),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) }),
        Just(PortRange::ALL),
    ]
}

/// Ports of tcp and udp, where the negation of all ports is lost by the tools.
fn plain_ports() -> impl Strategy<Value = Invertible<PortRange>> {
    invertible(port_range()).prop_filter("printed as no match", |ports| !(ports.inverted && ports.value == PortRange::ALL))
}

type Protocol = Option<Invertible<u8>>;

/// A protocol and the matches of its own module.
fn ip_protocol(family: Family) -> BoxedStrategy<(Protocol, Vec<IpMatch>)> {
    let is = |number| Some(Invertible::is(number));
    let flags = invertible((prop_oneof![1 => Just(0u8), 9 => 1..64u8], 0u8..64).prop_map(|(mask, set)| TcpFlags { mask, set }));
    let flags = flags.prop_filter("printed as no match", |flags| flags.value.mask != 0 || (flags.value.set != 0) == flags.inverted);
    let tcp = (
        any::<bool>().prop_map(|bare| bare.then_some(IpMatch::Transport)),
        of(flags.prop_map(IpMatch::TcpFlags)),
        of(plain_ports().prop_map(IpMatch::SourcePort)),
        of(plain_ports().prop_map(IpMatch::DestinationPort)),
        of(invertible(1u8..).prop_map(IpMatch::TcpOption)),
    );
    let tcp = tcp.prop_map(move |(a, b, c, d, e)| (is(6), [a, b, c, d, e].into_iter().flatten().collect::<Vec<_>>()));
    // iptables takes a descending range for udp alone.
    let any_range = || prop_oneof![3 => plain_ports(), 1 => invertible((any::<u16>(), any::<u16>()).prop_map(|(first, last)| PortRange { first, last }))];
    let udp = (of(any_range().prop_map(IpMatch::SourcePort)), of(any_range().prop_map(IpMatch::DestinationPort)));
    let udp = udp.prop_map(move |(a, b)| (is(17), [a, b].into_iter().flatten().collect()));
    let sctp =
        (of(invertible(port_range()).prop_map(IpMatch::SourcePort)), of(invertible(port_range()).prop_map(IpMatch::DestinationPort)));
    let sctp = sctp.prop_map(move |(a, b)| (is(132), [a, b].into_iter().flatten().collect()));
    let bare = select(vec![6, 17, 132, 50, 51]).prop_map(move |number| (is(number), vec![IpMatch::Transport]));
    let icmp_number = if family == Family::Ipv6 { 58 } else { 1 };
    let icmp = invertible((any::<u8>(), of(any::<u8>())).prop_map(|(number, code)| IcmpType::Type(number, code)));
    let icmp = icmp.prop_map(move |icmp| (is(icmp_number), vec![IpMatch::IcmpType(icmp)]));
    let other = of(invertible(1u8..)).prop_map(|protocol| (protocol, Vec::new()));
    prop_oneof![3 => tcp, 2 => udp, 1 => sctp, 1 => bare, 2 => icmp, 2 => other].boxed()
}

/// Matches that go with every protocol.
fn ip_matches(family: Family) -> BoxedStrategy<Vec<IpMatch>> {
    let longest = if family == Family::Ipv6 { 128u8 } else { 32 };
    let physdev = (
        of(invertible(device()).prop_map(IpMatch::PhysdevIn)),
        of(invertible(device()).prop_map(IpMatch::PhysdevOut)),
        of(invertible(Just(())).prop_map(IpMatch::PhysdevIsBridged)),
    );
    let addresses = (
        of(invertible(mac()).prop_map(IpMatch::MacSource)),
        of(invertible((address(family), address(family))).prop_map(IpMatch::SourceRange)),
        of(invertible((address(family), address(family))).prop_map(IpMatch::DestinationRange)),
        of(invertible(0u8..64).prop_map(IpMatch::Dscp)),
    );
    let states = (1u8..128).prop_map(|bits| ConnectionStates {
        invalid: bits & 1 != 0,
        new: bits & 2 != 0,
        related: bits & 4 != 0,
        established: bits & 8 != 0,
        untracked: bits & 16 != 0,
        snat: bits & 32 != 0,
        dnat: bits & 64 != 0,
    });
    let old_states = (1u8..32).prop_map(|bits| ConnectionStates {
        invalid: bits & 1 != 0,
        new: bits & 2 != 0,
        related: bits & 4 != 0,
        established: bits & 8 != 0,
        untracked: bits & 16 != 0,
        ..ConnectionStates::default()
    });
    let set = (select(SETS.to_vec()), vec(any::<bool>(), 1..=6)).prop_map(|(name, source)| SetMatch { name: name.into(), source });
    let limit = (any::<bool>(), any::<u32>(), 0u8..=longest, any::<bool>())
        .prop_map(|(above, connections, prefix, by_source)| ConnectionLimit { above, connections, prefix, by_source });
    let direction = select(vec![ConnectionDirection::Original, ConnectionDirection::Reply]);
    let others = (
        of(invertible(states).prop_map(IpMatch::ConnectionState)),
        of(direction.prop_map(IpMatch::ConnectionDirection)),
        of(invertible(old_states).prop_map(IpMatch::State)),
        of(invertible(set).prop_map(IpMatch::Set)),
        of(limit.prop_map(IpMatch::ConnectionLimit)),
        of(comment().prop_map(|text| IpMatch::Comment(text.into()))),
    );
    // A few at a time: with all of them at once a failure says little.
    (physdev, addresses, others)
        .prop_map(|((a, b, c), (d, e, f, g), (h, i, j, k, l, m))| {
            [a, b, c, d, e, f, g, h, i, j, k, l, m].into_iter().flatten().collect::<Vec<_>>()
        })
        .prop_flat_map(|matches| {
            let most = matches.len().min(4);
            (subsequence(matches, 0..=most), any::<bool>())
        })
        // Only the ranges of addresses keep an order of their own.
        .prop_map(|(matches, reversed)| if reversed { matches.into_iter().rev().collect() } else { matches })
        .boxed()
}

/// Text with everything that could end a word, a line or a quotation.
pub fn comment() -> impl Strategy<Value = String> {
    let nasty =
        select(vec!['"', '\\', '\'', '$', '`', ';', '-', '!', ' ', '\t', '#', '\u{7f}', '\u{1b}', 'é', '\u{80}', '\u{1f525}', '\n']);
    let char = prop_oneof![2 => nasty, 2 => proptest::char::range('a', 'z'), 1 => any::<char>()];
    prop_oneof![
        4 => vec(char, 0..40).prop_map(|chars| chars.into_iter().collect()),
        1 => Just("x".repeat(300)),
        1 => select(vec!["-j", "--comment", "!", "-j DROP", "a -j ACCEPT", "\"", "\\"]).prop_map(str::to_owned),
    ]
}

/// A target; those with ports only beside a protocol that has some.
fn ip_target(family: Family, ported: bool) -> BoxedStrategy<IpTarget> {
    let ports = move || of(port_range()).prop_map(move |ports| ports.filter(|_| ported));
    let plain = select(vec![
        IpTarget::Accept,
        IpTarget::Drop,
        IpTarget::Return,
        IpTarget::Reject,
        IpTarget::Jump(ChainName::new(TARGET_CHAIN)),
        IpTarget::Goto(ChainName::new(TARGET_CHAIN)),
        IpTarget::ChecksumFill,
    ]);
    let masquerade = ports().prop_map(IpTarget::Masquerade);
    let snat = (any::<u32>(), any::<u32>(), ports()).prop_map(|(a, b, ports)| {
        let (first, last) = (Ipv4Addr::from(a.min(b)), Ipv4Addr::from(a.max(b)));
        IpTarget::SourceNat { first, last, ports }
    });
    if family == Family::Ipv6 {
        prop_oneof![7 => plain, 1 => masquerade].boxed()
    } else {
        prop_oneof![7 => plain, 1 => masquerade, 2 => snat].boxed()
    }
}

/// What a bridge rule's matches need beside them.
#[derive(Debug, Clone)]
enum Kind {
    /// `-p`, or anything.
    Protocol(Option<Invertible<EtherType>>),
    /// The address of spanning tree.
    SpanningTree,
}

fn bridge_matches() -> BoxedStrategy<(Kind, Vec<BridgeMatch>)> {
    let number = |number| Kind::Protocol(Some(Invertible::is(EtherType::Type(number))));
    let ether_type = invertible((0x601..=u16::MAX).prop_map(EtherType::Type));
    let ether_type = prop_oneof![ether_type, Just(Invertible::is(EtherType::Length))];
    let other = of(ether_type).prop_map(|protocol| (Kind::Protocol(protocol), Vec::new()));
    prop_oneof![
        other,
        vlan_matches().prop_map(move |matches| (number(0x8100), matches)),
        (select(vec![0x806, 0x8035]), arp_matches()).prop_map(move |(protocol, matches)| (number(protocol), matches)),
        ip_bridge_matches().prop_map(move |matches| (number(0x800), matches)),
        ip6_bridge_matches().prop_map(move |matches| (number(0x86dd), matches)),
        stp_matches().prop_map(|matches| (Kind::SpanningTree, matches)),
    ]
    .boxed()
}

fn vlan_matches() -> BoxedStrategy<Vec<BridgeMatch>> {
    let id = prop_oneof![1 => Just(0u16), 2 => 0u16..4095];
    let id = of(invertible(id).prop_map(BridgeMatch::VlanId));
    let priority = of(invertible(0u8..8).prop_map(BridgeMatch::VlanPriority));
    let encap = of(invertible(60u16..).prop_map(BridgeMatch::VlanEncap));
    (id, priority, encap)
        .prop_map(|(id, priority, encap)| {
            let lost = matches!(id, Some(BridgeMatch::VlanId(id)) if id.value != 0);
            [id, priority.filter(|_| !lost), encap].into_iter().flatten().collect()
        })
        .boxed()
}

fn arp_matches() -> BoxedStrategy<Vec<BridgeMatch>> {
    let numbers = (
        of(invertible(any::<u16>()).prop_map(BridgeMatch::ArpHardwareType)),
        of(invertible(any::<u16>()).prop_map(BridgeMatch::ArpProtocolType)),
        of(invertible(prop_oneof![0u16..12, any::<u16>()]).prop_map(BridgeMatch::ArpOpcode)),
    );
    let addresses = (
        of(invertible(ipv4_net()).prop_map(BridgeMatch::ArpIpSource)),
        of(invertible(ipv4_net()).prop_map(BridgeMatch::ArpIpDestination)),
        of(invertible(mac_net(0)).prop_map(BridgeMatch::ArpMacSource)),
        of(invertible(mac_net(0)).prop_map(BridgeMatch::ArpMacDestination)),
        of(invertible(Just(())).prop_map(BridgeMatch::ArpGratuitous)),
    );
    (numbers, addresses).prop_map(|((a, b, c), (d, e, f, g, h))| [a, b, c, d, e, f, g, h].into_iter().flatten().collect()).boxed()
}

fn ip_bridge_matches() -> BoxedStrategy<Vec<BridgeMatch>> {
    let general = (
        of(invertible(ipv4_net()).prop_map(BridgeMatch::IpSource)),
        of(invertible(ipv4_net()).prop_map(BridgeMatch::IpDestination)),
        of(invertible(any::<u8>()).prop_map(BridgeMatch::IpTos)),
    );
    let ports = (
        of(invertible(port_range()).prop_map(BridgeMatch::IpSourcePort)),
        of(invertible(port_range()).prop_map(BridgeMatch::IpDestinationPort)),
    );
    let ported = (select(vec![6u8, 17, 33, 132]), ports)
        .prop_map(|(number, (a, b))| [Some(BridgeMatch::IpProtocol(Invertible::is(number))), a, b].into_iter().flatten().collect());
    let other = of(invertible(any::<u8>()).prop_map(BridgeMatch::IpProtocol)).prop_map(|protocol| protocol.into_iter().collect::<Vec<_>>());
    (general, prop_oneof![ported, other]).prop_map(|((a, b, c), rest)| [a, b, c].into_iter().flatten().chain(rest).collect()).boxed()
}

fn ip6_bridge_matches() -> BoxedStrategy<Vec<BridgeMatch>> {
    let net = || (any::<u128>(), 0u8..=128).prop_map(|(bits, prefix)| Ipv6Net::new(bits.into(), prefix).expect("in range"));
    let addresses = (of(invertible(net()).prop_map(BridgeMatch::Ip6Source)), of(invertible(net()).prop_map(BridgeMatch::Ip6Destination)));
    let ports = (
        of(invertible(port_range()).prop_map(BridgeMatch::Ip6SourcePort)),
        of(invertible(port_range()).prop_map(BridgeMatch::Ip6DestinationPort)),
    );
    let protocol = |number| BridgeMatch::Ip6Protocol(Invertible::is(number));
    let ported = (select(vec![6u8, 17, 33, 132]), ports)
        .prop_map(move |(number, (a, b))| [Some(protocol(number)), a, b].into_iter().flatten().collect());
    let codes = prop_oneof![3 => range(0..9u8), 2 => Just(Range { first: 0, last: u8::MAX }), 1 => range(0..=u8::MAX)];
    let types = prop_oneof![2 => range(0..6u8), 2 => (128..140u8).prop_map(|number| Range { first: number, last: number }), 1 => range(0..=u8::MAX)];
    let icmp = invertible((types, codes)).prop_map(move |icmp| vec![protocol(58), BridgeMatch::Ip6IcmpType(icmp)]);
    let other =
        of(invertible(any::<u8>()).prop_map(BridgeMatch::Ip6Protocol)).prop_map(|protocol| protocol.into_iter().collect::<Vec<_>>());
    (addresses, prop_oneof![ported, icmp, other]).prop_map(|((a, b), rest)| [a, b].into_iter().flatten().chain(rest).collect()).boxed()
}

fn stp_matches() -> BoxedStrategy<Vec<BridgeMatch>> {
    let words = || invertible(range(0..=u16::MAX));
    let header = (
        of(invertible(prop_oneof![Just(0u8), Just(128), any::<u8>()]).prop_map(BridgeMatch::StpType)),
        of(invertible(prop_oneof![Just(1u8), Just(128), any::<u8>()]).prop_map(BridgeMatch::StpFlags)),
        of(words().prop_map(BridgeMatch::StpRootPriority)),
        of(invertible(mac_net(0)).prop_map(BridgeMatch::StpRootAddress)),
        of(invertible(range(0..=u32::MAX)).prop_map(BridgeMatch::StpRootCost)),
        of(words().prop_map(BridgeMatch::StpSenderPriority)),
        of(invertible(mac_net(0)).prop_map(BridgeMatch::StpSenderAddress)),
    );
    let timers = (
        of(words().prop_map(BridgeMatch::StpPort)),
        of(words().prop_map(BridgeMatch::StpMessageAge)),
        of(words().prop_map(BridgeMatch::StpMaxAge)),
        of(words().prop_map(BridgeMatch::StpHelloTime)),
        of(words().prop_map(BridgeMatch::StpForwardDelay)),
    );
    (header, timers)
        .prop_map(|((a, b, c, d, e, f, g), (h, i, j, k, l))| [a, b, c, d, e, f, g, h, i, j, k, l].into_iter().flatten().collect::<Vec<_>>())
        .prop_flat_map(|matches| {
            let most = matches.len();
            subsequence(matches, most.min(1)..=most)
        })
        .boxed()
}

fn ipv4_net() -> impl Strategy<Value = Ipv4Net> {
    (any::<u32>(), 0u8..=32).prop_map(|(bits, prefix)| Ipv4Net::new(bits.into(), prefix).expect("in range"))
}

fn range<N: Ord + Copy + std::fmt::Debug + 'static>(numbers: impl Strategy<Value = N> + Clone + 'static) -> BoxedStrategy<Range<N>> {
    (numbers.clone(), numbers).prop_map(|(a, b)| Range { first: a.min(b), last: a.max(b) }).boxed()
}

fn bridge_target() -> impl Strategy<Value = BridgeTarget> {
    select(vec![
        BridgeTarget::Accept,
        BridgeTarget::Drop,
        BridgeTarget::Continue,
        BridgeTarget::Return,
        BridgeTarget::Jump(ChainName::new(TARGET_CHAIN)),
    ])
}
