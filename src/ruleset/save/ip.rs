//! One rule as `iptables-save` or `ip6tables-save` prints it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::name;
use super::token::Tokens;
use crate::addr::{DeviceName, Mac, PortRange};
use crate::ruleset::normal::{self, transport_module};
use crate::ruleset::rule::{
    ConnectionDirection, ConnectionLimit, ConnectionStates, IcmpType, Invertible, IpMatch, IpRule, IpTarget, SetMatch, TcpFlags,
};
use crate::ruleset::{ChainName, Family};

/// Reads the text after `-A CHAIN `; `None` when anything in it is not modelled.
pub(super) fn rule(family: Family, text: &str) -> Option<IpRule> {
    let mut tokens = Tokens::new(text);
    let mut reader = Reader { family, rule: IpRule::new(IpTarget::Accept), target: None, module: None, transport: None, limit: None };
    while !tokens.is_done() {
        let word = tokens.plain()?;
        if word == "!" {
            let word = tokens.plain()?;
            reader.option(word, true, &mut tokens)?;
        } else {
            reader.option(word, false, &mut tokens)?;
        }
    }
    reader.finish()
}

/// A rule while its words are read.
struct Reader<'a> {
    family: Family,
    rule: IpRule,
    target: Option<IpTarget>,
    /// The module that was loaded last: options belong to it.
    module: Option<Module<'a>>,
    /// The protocol's own module, if it was loaded.
    transport: Option<&'a str>,
    limit: Option<ConnectionLimit>,
}

#[derive(Clone, Copy)]
struct Module<'a> {
    name: &'a str,
    /// An extension without a single option would be one that we misread.
    used: bool,
}

impl<'a> Reader<'a> {
    fn option(&mut self, word: &str, inverted: bool, tokens: &mut Tokens<'a>) -> Option<()> {
        match word {
            "-s" => fill(&mut self.rule.source, Invertible::new(inverted, net(self.family, tokens.plain()?)?)),
            "-d" => fill(&mut self.rule.destination, Invertible::new(inverted, net(self.family, tokens.plain()?)?)),
            "-i" => fill(&mut self.rule.in_device, Invertible::new(inverted, DeviceName::new(tokens.plain()?)?)),
            "-o" => fill(&mut self.rule.out_device, Invertible::new(inverted, DeviceName::new(tokens.plain()?)?)),
            "-p" => fill(&mut self.rule.protocol, Invertible::new(inverted, name::protocol(tokens.plain()?)?)),
            "-m" if !inverted => self.load(tokens.plain()?),
            "-j" if !inverted => {
                let target = jump(self.family, tokens)?;
                fill(&mut self.target, target)
            }
            "-g" if !inverted => fill(&mut self.target, IpTarget::Goto(ChainName::new(&tokens.value()?))),
            _ => self.module_option(word, inverted, tokens),
        }
    }

    /// Begins `-m MODULE`.
    fn load(&mut self, name: &'a str) -> Option<()> {
        if self.module.is_some_and(|module| !module.used) {
            return None;
        }
        let transport = matches!(name, "tcp" | "udp" | "sctp" | "esp" | "ah");
        if transport {
            self.transport = Some(name);
            self.rule.matches.push(IpMatch::Transport);
        }
        self.module = Some(Module { name, used: transport });
        Some(())
    }

    fn module_option(&mut self, word: &str, inverted: bool, tokens: &mut Tokens<'a>) -> Option<()> {
        let module = self.module.as_mut()?;
        module.used = true;
        let entry = match (module.name, word) {
            ("physdev", "--physdev-in") => IpMatch::PhysdevIn(Invertible::new(inverted, DeviceName::new(tokens.plain()?)?)),
            ("physdev", "--physdev-out") => IpMatch::PhysdevOut(Invertible::new(inverted, DeviceName::new(tokens.plain()?)?)),
            ("physdev", "--physdev-is-bridged") => IpMatch::PhysdevIsBridged(Invertible::new(inverted, ())),
            ("mac", "--mac-source") => IpMatch::MacSource(Invertible::new(inverted, Mac::parse(tokens.plain()?)?)),
            ("iprange", "--src-range") => IpMatch::SourceRange(Invertible::new(inverted, address_range(self.family, tokens.plain()?)?)),
            ("iprange", "--dst-range") => {
                IpMatch::DestinationRange(Invertible::new(inverted, address_range(self.family, tokens.plain()?)?))
            }
            ("dscp", "--dscp") => IpMatch::Dscp(Invertible::new(inverted, name::number(tokens.plain()?)?)),
            ("tcp", "--tcp-flags") => {
                let (mask, set) = (tcp_flags(tokens.plain()?)?, tcp_flags(tokens.plain()?)?);
                IpMatch::TcpFlags(Invertible::new(inverted, TcpFlags { mask, set }))
            }
            ("tcp" | "udp" | "sctp", "--sport") => IpMatch::SourcePort(Invertible::new(inverted, ports(tokens.plain()?, ':')?)),
            ("tcp" | "udp" | "sctp", "--dport") => IpMatch::DestinationPort(Invertible::new(inverted, ports(tokens.plain()?, ':')?)),
            ("tcp", "--tcp-option") => IpMatch::TcpOption(Invertible::new(inverted, name::number(tokens.plain()?)?)),
            ("icmp", "--icmp-type") | ("icmp6", "--icmpv6-type") => {
                IpMatch::IcmpType(Invertible::new(inverted, icmp_type(tokens.plain()?)?))
            }
            ("conntrack", "--ctstate") => IpMatch::ConnectionState(Invertible::new(inverted, connection_states(tokens.plain()?)?)),
            ("state", "--state") => IpMatch::State(Invertible::new(inverted, connection_states(tokens.plain()?)?)),
            ("conntrack", "--ctdir") if !inverted => IpMatch::ConnectionDirection(direction(tokens.plain()?)?),
            ("set", "--match-set") => IpMatch::Set(Invertible::new(inverted, set(tokens)?)),
            ("comment", "--comment") if !inverted => IpMatch::Comment(comment(tokens)?),
            ("connlimit", _) => return self.limit_option(word, inverted, tokens),
            _ => return None,
        };
        self.rule.matches.push(entry);
        Some(())
    }

    /// `--connlimit-above` or `--connlimit-upto` comes first; the others change what it stands for by itself.
    fn limit_option(&mut self, word: &str, inverted: bool, tokens: &mut Tokens<'a>) -> Option<()> {
        if matches!(word, "--connlimit-above" | "--connlimit-upto") {
            let above = (word == "--connlimit-above") != inverted;
            let prefix = if self.family == Family::Ipv6 { 128 } else { 32 };
            let connections = name::number(tokens.plain()?)?;
            return fill(&mut self.limit, ConnectionLimit { above, connections, prefix, by_source: true });
        }
        let limit = self.limit.as_mut().filter(|_| !inverted)?;
        match word {
            "--connlimit-mask" => limit.prefix = name::number(tokens.plain()?)?,
            "--connlimit-saddr" => limit.by_source = true,
            "--connlimit-daddr" => limit.by_source = false,
            _ => return None,
        }
        Some(())
    }

    fn finish(mut self) -> Option<IpRule> {
        let protocol = self.rule.protocol.filter(|protocol| !protocol.inverted).map(|protocol| protocol.value);
        // The model names a transport module after the protocol; any other one would be lost.
        if self.module.is_some_and(|module| !module.used) || self.transport.is_some_and(|name| transport_module(protocol) != Some(name)) {
            return None;
        }
        self.rule.matches.extend(self.limit.map(IpMatch::ConnectionLimit));
        self.rule.target = self.target?;
        let rule = normal::ip_rule(self.family, self.rule);
        // Two matches of one kind are both tested by the kernel; the model has room for one.
        let kinds_differ = rule.matches.windows(2).all(|pair| std::mem::discriminant(&pair[0]) != std::mem::discriminant(&pair[1]));
        kinds_differ.then_some(rule)
    }
}

/// Reads what follows `-j`: a verdict or target with its options, or a chain.
fn jump(family: Family, tokens: &mut Tokens<'_>) -> Option<IpTarget> {
    let name = tokens.value()?;
    Some(match &*name {
        "ACCEPT" => IpTarget::Accept,
        "DROP" => IpTarget::Drop,
        "RETURN" => IpTarget::Return,
        "REJECT" => {
            let default = if family == Family::Ipv6 { "icmp6-port-unreachable" } else { "icmp-port-unreachable" };
            if tokens.accept("--reject-with") && tokens.plain()? != default {
                return None;
            }
            IpTarget::Reject
        }
        "MASQUERADE" if tokens.accept("--to-ports") => IpTarget::Masquerade(Some(ports(tokens.plain()?, '-')?)),
        "MASQUERADE" => IpTarget::Masquerade(None),
        "SNAT" if tokens.accept("--to-source") => source_nat(tokens.plain()?)?,
        "CHECKSUM" if tokens.accept("--checksum-fill") => IpTarget::ChecksumFill,
        "SNAT" | "CHECKSUM" => return None,
        chain => IpTarget::Jump(ChainName::new(chain)),
    })
}

/// Reads `FIRST[-LAST][:PORTS]`.
fn source_nat(value: &str) -> Option<IpTarget> {
    let (addresses, ranged_ports) = match value.split_once(':') {
        Some((addresses, text)) => (addresses, Some(ports(text, '-')?)),
        None => (value, None),
    };
    let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
    Some(IpTarget::SourceNat { first: first.parse().ok()?, last: last.parse().ok()?, ports: ranged_ports })
}

/// Sets what may be given once.
fn fill<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.is_none().then(|| *slot = Some(value))
}

fn address(family: Family, text: &str) -> Option<IpAddr> {
    match family {
        Family::Ipv6 => text.parse().ok().map(IpAddr::V6),
        Family::Ipv4 | Family::Bridge => text.parse().ok().map(IpAddr::V4),
    }
}

fn net(family: Family, text: &str) -> Option<IpNet> {
    match text.split_once('/') {
        Some((base, prefix)) => IpNet::new(address(family, base)?, name::number(prefix)?).ok(),
        None => address(family, text).map(IpNet::from),
    }
}

fn address_range(family: Family, text: &str) -> Option<(IpAddr, IpAddr)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((address(family, first)?, address(family, last)?))
}

fn ports(text: &str, separator: char) -> Option<PortRange> {
    match text.split_once(separator) {
        Some((first, last)) => Some(PortRange { first: name::number(first)?, last: name::number(last)? }),
        None => name::number(text).map(PortRange::single),
    }
}

/// A comment; not one with a line break, which in normal form would look like one with a blank.
fn comment(tokens: &mut Tokens<'_>) -> Option<Arc<str>> {
    let text = tokens.value()?;
    (!text.contains(normal::ends_line)).then(|| text.into())
}

fn tcp_flags(text: &str) -> Option<u8> {
    let mut flags = 0;
    for name in text.split(',') {
        flags |= match name {
            "NONE" => 0,
            "ALL" => 0x3f,
            "FIN" => 1,
            "SYN" => 2,
            "RST" => 4,
            "PSH" => 8,
            "ACK" => 16,
            "URG" => 32,
            _ => return None,
        };
    }
    Some(flags)
}

fn icmp_type(text: &str) -> Option<IcmpType> {
    if text == "any" {
        return Some(IcmpType::Any);
    }
    match text.split_once('/') {
        Some((number, code)) => Some(IcmpType::Type(name::number(number)?, Some(name::number(code)?))),
        None => Some(IcmpType::Type(name::number(text)?, None)),
    }
}

fn connection_states(text: &str) -> Option<ConnectionStates> {
    let mut states = ConnectionStates::default();
    for name in text.split(',') {
        *match name {
            "INVALID" => &mut states.invalid,
            "NEW" => &mut states.new,
            "RELATED" => &mut states.related,
            "ESTABLISHED" => &mut states.established,
            "UNTRACKED" => &mut states.untracked,
            "SNAT" => &mut states.snat,
            "DNAT" => &mut states.dnat,
            _ => return None,
        } = true;
    }
    Some(states)
}

fn direction(text: &str) -> Option<ConnectionDirection> {
    match text {
        "ORIGINAL" => Some(ConnectionDirection::Original),
        "REPLY" => Some(ConnectionDirection::Reply),
        _ => None,
    }
}

fn set(tokens: &mut Tokens<'_>) -> Option<SetMatch> {
    let (name, source) = tokens.name_and(set_flags)?;
    Some(SetMatch { name: name.into(), source })
}

fn set_flags(text: &str) -> Option<Vec<bool>> {
    let flag = |word: &str| match word {
        "src" => Some(true),
        "dst" => Some(false),
        _ => None,
    };
    text.split(',').map(flag).collect::<Option<Vec<_>>>().filter(|flags| flags.len() <= 6)
}
