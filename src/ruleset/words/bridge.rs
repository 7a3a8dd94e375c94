//! The words of an ebtables rule, in the order in which `ebtables-save` prints them.

use std::fmt::{self, Display, Write as _};

use super::{ProtocolName, quoted};
use crate::addr::{Mac, PortRange};
use crate::ruleset::rule::{BridgeMatch, BridgeRule, BridgeTarget, EtherType, Invertible, MacNet, Range};

/// Appends the rule.
pub(super) fn write(rule: &BridgeRule, out: &mut String) {
    if let Some(device) = &rule.in_device {
        put("-i", device, out);
    }
    if let Some(device) = &rule.out_device {
        put("-o", device, out);
    }
    if let Some(protocol) = &rule.protocol {
        put("-p", protocol, out);
    }
    if let Some(source) = &rule.source {
        put("-s", source, out);
    }
    if let Some(destination) = &rule.destination {
        put("-d", destination, out);
    }
    for entry in &rule.matches {
        write_match(entry, out);
    }
    let verdict = match &rule.target {
        BridgeTarget::Accept => "ACCEPT",
        BridgeTarget::Drop => "DROP",
        BridgeTarget::Continue => "CONTINUE",
        BridgeTarget::Return => "RETURN",
        BridgeTarget::Jump(chain) => {
            out.push_str("-j ");
            return quoted(chain.as_str(), out);
        }
    };
    out.push_str("-j ");
    out.push_str(verdict);
}

fn write_match(entry: &BridgeMatch, out: &mut String) {
    match entry {
        BridgeMatch::VlanId(id) => put("--vlan-id", id, out),
        BridgeMatch::VlanPriority(priority) => put("--vlan-prio", priority, out),
        // ebtables reads this one option as hexadecimal, with or without `0x`.
        BridgeMatch::VlanEncap(encap) => put_as("--vlan-encap", encap, Hex, out),
        BridgeMatch::ArpOpcode(opcode) => put("--arp-op", opcode, out),
        BridgeMatch::ArpHardwareType(hardware) => put("--arp-htype", hardware, out),
        BridgeMatch::ArpProtocolType(protocol) => put_as("--arp-ptype", protocol, Hex, out),
        BridgeMatch::ArpIpSource(net) => put("--arp-ip-src", net, out),
        BridgeMatch::ArpIpDestination(net) => put("--arp-ip-dst", net, out),
        BridgeMatch::ArpMacSource(net) => put("--arp-mac-src", net, out),
        BridgeMatch::ArpMacDestination(net) => put("--arp-mac-dst", net, out),
        // The one `!` that stands before its option: there is no value to stand before.
        BridgeMatch::ArpGratuitous(wanted) => out.push_str(if wanted.inverted { "! --arp-gratuitous " } else { "--arp-gratuitous " }),
        BridgeMatch::IpSource(net) => put("--ip-src", net, out),
        BridgeMatch::IpDestination(net) => put("--ip-dst", net, out),
        BridgeMatch::IpTos(octet) => put_as("--ip-tos", octet, |octet| Hex(octet.into()), out),
        BridgeMatch::IpProtocol(protocol) => put_as("--ip-proto", protocol, ProtocolName, out),
        BridgeMatch::IpSourcePort(ports) => put_as("--ip-sport", ports, Span::from, out),
        BridgeMatch::IpDestinationPort(ports) => put_as("--ip-dport", ports, Span::from, out),
        BridgeMatch::Ip6Source(net) => put("--ip6-src", net, out),
        BridgeMatch::Ip6Destination(net) => put("--ip6-dst", net, out),
        BridgeMatch::Ip6Protocol(protocol) => put_as("--ip6-proto", protocol, ProtocolName, out),
        BridgeMatch::Ip6SourcePort(ports) => put_as("--ip6-sport", ports, Span::from, out),
        BridgeMatch::Ip6DestinationPort(ports) => put_as("--ip6-dport", ports, Span::from, out),
        BridgeMatch::Ip6IcmpType(icmp) => put_as("--ip6-icmp-type", icmp, |(types, codes)| TypesAndCodes(types, codes), out),
        BridgeMatch::StpType(number) => put("--stp-type", number, out),
        BridgeMatch::StpFlags(flags) => put("--stp-flags", flags, out),
        BridgeMatch::StpRootPriority(range) => put_as("--stp-root-prio", range, Span::from, out),
        BridgeMatch::StpRootAddress(net) => put("--stp-root-addr", net, out),
        BridgeMatch::StpRootCost(range) => put_as("--stp-root-cost", range, Span::from, out),
        BridgeMatch::StpSenderPriority(range) => put_as("--stp-sender-prio", range, Span::from, out),
        BridgeMatch::StpSenderAddress(net) => put("--stp-sender-addr", net, out),
        BridgeMatch::StpPort(range) => put_as("--stp-port", range, Span::from, out),
        BridgeMatch::StpMessageAge(range) => put_as("--stp-msg-age", range, Span::from, out),
        BridgeMatch::StpMaxAge(range) => put_as("--stp-max-age", range, Span::from, out),
        BridgeMatch::StpHelloTime(range) => put_as("--stp-hello-time", range, Span::from, out),
        BridgeMatch::StpForwardDelay(range) => put_as("--stp-forward-delay", range, Span::from, out),
    }
}

/// `OPTION [!] VALUE `: ebtables prints the `!` after the option.
fn put<T: Display>(name: &str, value: &Invertible<T>, out: &mut String) {
    let sign = if value.inverted { "! " } else { "" };
    write!(out, "{name} {sign}{} ", value.value).expect("a String takes everything");
}

/// `OPTION [!] VALUE `, the value in another form than its own.
fn put_as<T: Copy, D: Display>(name: &str, value: &Invertible<T>, form: impl FnOnce(T) -> D, out: &mut String) {
    put(name, &Invertible::new(value.inverted, form(value.value)), out);
}

/// A number that its option wants in hexadecimal.
struct Hex(u16);

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A range that is written `1:2`, or as one number.
struct Span<N>(N, N);

impl<N> From<Range<N>> for Span<N> {
    fn from(range: Range<N>) -> Self {
        Self(range.first, range.last)
    }
}

impl From<PortRange> for Span<u16> {
    fn from(ports: PortRange) -> Self {
        Self(ports.first, ports.last)
    }
}

impl<N: Display + PartialEq> Display for Span<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 { self.0.fmt(f) } else { write!(f, "{}:{}", self.0, self.1) }
    }
}

/// `TYPES/CODES` of ICMPv6, always in full.
struct TypesAndCodes(Range<u8>, Range<u8>);

impl Display for TypesAndCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}:{}", self.0.first, self.0.last, self.1.first, self.1.last)
    }
}

impl Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(number) => write!(f, "{number:#06x}"),
            Self::Length => f.write_str("0x0600"),
        }
    }
}

impl Display for MacNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if self.mask == Mac::BROADCAST { Ok(()) } else { write!(f, "/{}", self.mask) }
    }
}
