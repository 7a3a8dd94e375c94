//! The words of an iptables or ip6tables rule, in the order in which the tools print them.

use std::fmt::{self, Display, Write as _};

use super::{ProtocolName, quoted};
use crate::addr::PortRange;
use crate::ruleset::Family;
use crate::ruleset::normal::transport_module;
use crate::ruleset::rule::{
    ConnectionDirection, ConnectionLimit, ConnectionStates, IcmpType, Invertible, IpMatch, IpRule, IpTarget, SetMatch,
};

/// Appends the rule.
pub(super) fn write(family: Family, rule: &IpRule, out: &mut String) {
    put(rule.source.as_ref(), "-s", out);
    put(rule.destination.as_ref(), "-d", out);
    put(rule.in_device.as_ref(), "-i", out);
    put(rule.out_device.as_ref(), "-o", out);
    if let Some(protocol) = &rule.protocol {
        put_as(protocol, "-p", out, |number| ProtocolName(*number));
    }
    let transport = transport_module(rule.protocol.filter(|protocol| !protocol.inverted).map(|protocol| protocol.value));
    let mut previous = None;
    for entry in &rule.matches {
        let module = module(family, entry).or(transport);
        if let Some(module) = module.filter(|_| module != previous || stands_alone(entry)) {
            space(out);
            out.push_str("-m ");
            out.push_str(module);
        }
        previous = module;
        write_match(family, entry, out);
    }
    write_target(family, &rule.target, out);
}

/// Matches that libvirt gives a `-m` of their own though the one before has the same module; the tools print it as they were told.
fn stands_alone(entry: &IpMatch) -> bool {
    matches!(entry, IpMatch::SourceRange(_) | IpMatch::DestinationRange(_) | IpMatch::ConnectionDirection(_))
}

/// The module of a match; `None` for those of the rule's own protocol.
fn module(family: Family, entry: &IpMatch) -> Option<&'static str> {
    match entry {
        IpMatch::PhysdevIn(_) | IpMatch::PhysdevOut(_) | IpMatch::PhysdevIsBridged(_) => Some("physdev"),
        IpMatch::MacSource(_) => Some("mac"),
        IpMatch::SourceRange(_) | IpMatch::DestinationRange(_) => Some("iprange"),
        IpMatch::Dscp(_) => Some("dscp"),
        IpMatch::Transport | IpMatch::TcpFlags(_) | IpMatch::SourcePort(_) | IpMatch::DestinationPort(_) | IpMatch::TcpOption(_) => None,
        IpMatch::IcmpType(_) if family == Family::Ipv6 => Some("icmp6"),
        IpMatch::IcmpType(_) => Some("icmp"),
        IpMatch::ConnectionState(_) | IpMatch::ConnectionDirection(_) => Some("conntrack"),
        IpMatch::State(_) => Some("state"),
        IpMatch::Set(_) => Some("set"),
        IpMatch::ConnectionLimit(_) => Some("connlimit"),
        IpMatch::Comment(_) => Some("comment"),
    }
}

fn write_match(family: Family, entry: &IpMatch, out: &mut String) {
    match entry {
        IpMatch::PhysdevIn(device) => put(Some(device), "--physdev-in", out),
        IpMatch::PhysdevOut(device) => put(Some(device), "--physdev-out", out),
        IpMatch::PhysdevIsBridged(bridged) => option(bridged.inverted, "--physdev-is-bridged", out),
        IpMatch::MacSource(mac) => put(Some(mac), "--mac-source", out),
        IpMatch::SourceRange(range) => put_as(range, "--src-range", out, |(first, last)| Pair(*first, '-', *last)),
        IpMatch::DestinationRange(range) => put_as(range, "--dst-range", out, |(first, last)| Pair(*first, '-', *last)),
        IpMatch::Dscp(dscp) => put(Some(dscp), "--dscp", out),
        IpMatch::Transport => {}
        IpMatch::TcpFlags(flags) => {
            put_as(flags, "--tcp-flags", out, |flags| Pair(FlagNames(flags.mask), ' ', FlagNames(flags.set)));
        }
        IpMatch::SourcePort(ports) => put_as(ports, "--sport", out, |ports| Ports(*ports, ':')),
        IpMatch::DestinationPort(ports) => put_as(ports, "--dport", out, |ports| Ports(*ports, ':')),
        IpMatch::TcpOption(number) => put(Some(number), "--tcp-option", out),
        IpMatch::IcmpType(icmp) if family == Family::Ipv6 => put(Some(icmp), "--icmpv6-type", out),
        IpMatch::IcmpType(icmp) => put(Some(icmp), "--icmp-type", out),
        IpMatch::ConnectionState(states) => put(Some(states), "--ctstate", out),
        IpMatch::State(states) => put(Some(states), "--state", out),
        IpMatch::ConnectionDirection(ConnectionDirection::Original) => option(false, "--ctdir ORIGINAL", out),
        IpMatch::ConnectionDirection(ConnectionDirection::Reply) => option(false, "--ctdir REPLY", out),
        IpMatch::Set(set) => write_set(set, out),
        IpMatch::ConnectionLimit(limit) => write_limit(*limit, out),
        IpMatch::Comment(text) => {
            option(false, "--comment ", out);
            quoted(text, out);
        }
    }
}

fn write_set(set: &Invertible<SetMatch>, out: &mut String) {
    option(set.inverted, "--match-set ", out);
    quoted(&set.value.name, out);
    for (position, source) in set.value.source.iter().enumerate() {
        out.push(if position == 0 { ' ' } else { ',' });
        out.push_str(if *source { "src" } else { "dst" });
    }
}

fn write_limit(limit: ConnectionLimit, out: &mut String) {
    option(false, if limit.above { "--connlimit-above" } else { "--connlimit-upto" }, out);
    let side = if limit.by_source { "saddr" } else { "daddr" };
    append(out, format_args!(" {} --connlimit-mask {} --connlimit-{side}", limit.connections, limit.prefix));
}

fn write_target(family: Family, target: &IpTarget, out: &mut String) {
    space(out);
    match target {
        IpTarget::Accept => out.push_str("-j ACCEPT"),
        IpTarget::Drop => out.push_str("-j DROP"),
        IpTarget::Return => out.push_str("-j RETURN"),
        IpTarget::Reject if family == Family::Ipv6 => out.push_str("-j REJECT --reject-with icmp6-port-unreachable"),
        IpTarget::Reject => out.push_str("-j REJECT --reject-with icmp-port-unreachable"),
        IpTarget::Jump(chain) => {
            out.push_str("-j ");
            quoted(chain.as_str(), out);
        }
        IpTarget::Goto(chain) => {
            out.push_str("-g ");
            quoted(chain.as_str(), out);
        }
        IpTarget::Masquerade(None) => out.push_str("-j MASQUERADE"),
        IpTarget::Masquerade(Some(ports)) => append(out, format_args!("-j MASQUERADE --to-ports {}", Ports(*ports, '-'))),
        IpTarget::SourceNat { first, last, ports } => {
            append(out, format_args!("-j SNAT --to-source {first}"));
            if first != last {
                append(out, format_args!("-{last}"));
            }
            if let Some(ports) = ports {
                append(out, format_args!(":{}", Ports(*ports, '-')));
            }
        }
        IpTarget::ChecksumFill => out.push_str("-j CHECKSUM --checksum-fill"),
    }
}

/// `[!] OPTION VALUE`, if there is a value.
fn put<T: Display>(value: Option<&Invertible<T>>, name: &str, out: &mut String) {
    let Some(value) = value else { return };
    option(value.inverted, name, out);
    append(out, format_args!(" {}", value.value));
}

/// `[!] OPTION VALUE`, the value in another form than its own.
fn put_as<T, D: Display>(value: &Invertible<T>, name: &str, out: &mut String, form: impl FnOnce(&T) -> D) {
    option(value.inverted, name, out);
    append(out, format_args!(" {}", form(&value.value)));
}

/// `[!] OPTION`: iptables wants the `!` before it.
fn option(inverted: bool, name: &str, out: &mut String) {
    space(out);
    if inverted {
        out.push_str("! ");
    }
    out.push_str(name);
}

fn space(out: &mut String) {
    if !out.is_empty() && !out.ends_with([' ', '\n']) {
        out.push(' ');
    }
}

fn append(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes everything");
}

/// Two values with a character between.
struct Pair<A, B>(A, char, B);

impl<A: Display, B: Display> Display for Pair<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.0, self.1, self.2)
    }
}

/// A range of ports with its separator, or the one port.
struct Ports(PortRange, char);

impl Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.first)?;
        if self.0.first != self.0.last {
            write!(f, "{}{}", self.1, self.0.last)?;
        }
        Ok(())
    }
}

/// The names of some TCP flags.
struct FlagNames(u8);

impl Display for FlagNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
        write_list(f, "NONE", names.into_iter().enumerate().map(|(bit, name)| (self.0 >> bit & 1 == 1, name)))
    }
}

impl Display for ConnectionStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.invalid, "INVALID"),
            (self.new, "NEW"),
            (self.related, "RELATED"),
            (self.established, "ESTABLISHED"),
            (self.untracked, "UNTRACKED"),
            (self.snat, "SNAT"),
            (self.dnat, "DNAT"),
        ];
        write_list(f, "NONE", names.into_iter())
    }
}

impl Display for IcmpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Type(number, None) => write!(f, "{number}"),
            Self::Type(number, Some(code)) => write!(f, "{number}/{code}"),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, empty: &str, names: impl Iterator<Item = (bool, &'static str)>) -> fmt::Result {
    let mut first = true;
    for (_, name) in names.filter(|(present, _)| *present) {
        if !first {
            f.write_str(",")?;
        }
        f.write_str(name)?;
        first = false;
    }
    if first { f.write_str(empty) } else { Ok(()) }
}
