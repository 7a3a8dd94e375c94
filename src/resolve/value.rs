//! The text of a variable to the typed value of an attribute.
//!
//! libvirt pastes a variable's text into the command of the tool, so what it means is what the tool reads at that place, not what
//! the XML would mean if it stood there: `800` after `-p` of ebtables is 0x800. [`read`] follows the tools (iptables, ip6tables
//! and ebtables 1.8.9, tried one option at a time), and refuses what they refuse. In `fixed` quirks it also refuses what a
//! literal of the same attribute could not mean, and what the two would read differently. Names that the tools look
//! up in the system's databases (hosts, services, most protocols) are refused in both: the same files must mean the same rules on every host.
//! So are numbers that a tool would cut to fit, but for `--vlan-encap`, where libvirt's own literals depend on it (row 8 of nwfilter.md section 8).

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::addr::Mac;
use crate::model::Quirks;
use crate::model::attribute::{ARP_OPCODES, AttributeSpec, IP_PROTOCOLS, ValueKind};
use crate::model::filter::{AttributeName, Layer, Literal, Protocol, Rule, SetDirection};

/// Why a text is no value: what was expected in its place, and perhaps how to write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For the label.
    pub expected: Cow<'static, str>,
    /// For the help.
    pub help: Option<&'static str>,
}

/// How a tool reads a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// Digits; a leading zero means nothing.
    Decimal,
    /// Hex, with or without `0x`.
    Hex,
    /// As in C: `0x` is hex, a leading zero octal.
    C,
}

/// The names that ebtables has for Ethernet types and that the XML has too; `vlan` is the XML's alone.
const ETHER_TYPES: [(&str, u32); 6] =
    [("arp", 0x806), ("rarp", 0x8035), ("ip", 0x800), ("ipv4", 0x800), ("ipv6", 0x86dd), ("802_1Q", 0x8100)];

/// Reads the text that a variable puts in place of an attribute, unless libvirt puts it into no command; `None` where it makes no condition.
///
/// # Errors
/// When the tool would refuse the text, or `fixed` quirks do.
pub(super) fn bind(text: &str, rule: &Rule, spec: &AttributeSpec, quirks: Quirks) -> Result<Option<Literal>, Refusal> {
    if quirks == Quirks::Fixed || !is_passed_over(rule, spec.name) {
        return read(text, rule, spec, quirks);
    }
    // That a set has directions counts even where they are not looked at.
    Ok((spec.kind == ValueKind::SetDirections).then(|| Literal::SetDirections(Vec::new())))
}

/// Reads the text that a variable puts in place of an attribute; `None` where a variable makes no condition at all.
///
/// # Errors
/// When the tool would refuse the text, or `fixed` quirks do.
pub(super) fn read(text: &str, rule: &Rule, spec: &AttributeSpec, quirks: Quirks) -> Result<Option<Literal>, Refusal> {
    let value = match spec.kind {
        // Where variables do not work (nwfilter.md 4.2), libvirt acts as if nothing had been written, and `fixed` never lets a rule widen.
        ValueKind::Comment | ValueKind::States | ValueKind::Flag | ValueKind::TcpFlags if quirks == Quirks::Fixed => {
            return Err(Refusal::new("expected no variable here"));
        }
        ValueKind::Comment if rule.protocol.layer() != Layer::Link => return Err(Refusal::new("expected no variable here")),
        ValueKind::Comment | ValueKind::States | ValueKind::Flag => return Ok(None),
        ValueKind::TcpFlags => Literal::TcpFlags(0, 0),
        ValueKind::Number { .. } if is_port(spec.name) => port(text, rule, spec.name, quirks)?,
        ValueKind::Number { .. } | ValueKind::Decimal | ValueKind::EtherType { .. } | ValueKind::ArpOpcode | ValueKind::IpProtocol => {
            Literal::Number(word(text, spec, quirks).map_or_else(|| number(text, rule.protocol, spec, quirks), Ok)?)
        }
        ValueKind::Mac => Literal::Mac(mac(text, rule.protocol, quirks)?),
        ValueKind::MacMask => Literal::Mac(mac_mask(text, quirks)?),
        ValueKind::Ipv4 => Literal::Ipv4(ipv4(text, quirks)?),
        ValueKind::Ipv4Mask => Literal::Prefix(ipv4_prefix(text, quirks)?),
        ValueKind::Ipv6 => Literal::Ipv6(ipv6(text)?),
        ValueKind::Ipv6Mask => Literal::Prefix(ipv6_prefix(text, quirks)?),
        ValueKind::SetName => set_name(text)?,
        ValueKind::SetDirections => set_direction(text)?,
    };
    Ok(Some(value))
}

/// Whether libvirt puts this attribute into no command, so that no tool ever reads its text.
fn is_passed_over(rule: &Rule, name: AttributeName) -> bool {
    use AttributeName as A;
    let matches_sets = matches!(rule.protocol, Protocol::All | Protocol::AllIpv6);
    match name {
        A::SrcIpFrom | A::SrcIpTo if rule.has(A::SrcIpAddr) => true,
        A::DstIpFrom | A::DstIpTo if rule.has(A::DstIpAddr) => true,
        // Row 7
        A::IpSet => matches_sets != rule.has(A::IpSetFlags),
        A::IpSetFlags => !matches_sets || !rule.has(A::IpSet),
        _ => rule.missing_base(name).is_some(),
    }
}

/// An IPv4 address in four decimal parts. In libvirt quirks also as the tools read it: parts in C notation, and missing ones zero.
///
/// # Errors
/// When it is none.
pub(super) fn ipv4(text: &str, quirks: Quirks) -> Result<Ipv4Addr, Refusal> {
    let lax = || (quirks == Quirks::Libvirt).then(|| tool_ipv4(text)).flatten();
    text.parse().ok().or_else(lax).ok_or_else(|| Refusal {
        expected: "expected an IPv4 address".into(),
        help: Some("write all four parts in decimal, without leading zeros; names of hosts are not looked up"),
    })
}

/// The tools fill an address from the left (`10.1` is 10.1.0.0) and take one large number as 32 bits.
fn tool_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    let filled = octets.iter_mut().zip(&mut parts).all(|(octet, part)| match c_number(part).map(u8::try_from) {
        Some(Ok(value)) => {
            *octet = value;
            true
        }
        _ => false,
    });
    if filled && parts.next().is_none() {
        return Some(octets.into());
    }
    c_number(text).and_then(|number| u32::try_from(number).ok()).map(Ipv4Addr::from)
}

fn ipv6(text: &str) -> Result<Ipv6Addr, Refusal> {
    text.parse().map_err(|_| Refusal::new("expected an IPv6 address"))
}

fn ipv4_prefix(text: &str, quirks: Quirks) -> Result<u8, Refusal> {
    let dotted = text.parse::<Ipv4Addr>().ok().map(|mask| u128::from(mask.to_bits()) << 96);
    prefix(text, dotted, 32, quirks)
}

fn ipv6_prefix(text: &str, quirks: Quirks) -> Result<u8, Refusal> {
    let mask = text.parse::<Ipv6Addr>().ok().map(Ipv6Addr::to_bits);
    prefix(text, mask, 128, quirks)
}

/// The number of leading ones of a mask, given with its first bit topmost, or the number itself.
fn prefix(text: &str, mask: Option<u128>, most: u8, quirks: Quirks) -> Result<u8, Refusal> {
    let length = match mask {
        Some(bits) if bits.leading_ones() + bits.trailing_zeros() >= 128 => u8::try_from(bits.leading_ones()).ok(),
        Some(_) => None,
        None => digits(text, Notation::C, quirks)?.and_then(|number| u8::try_from(number).ok()),
    };
    length
        .filter(|&length| length <= most)
        .ok_or_else(|| Refusal::new(format!("expected a number from 0 to {most}, or a mask of ones and then zeros")))
}

/// The names stand for one address each, on ebtables only, and `fixed` takes none, as for literals.
fn mac(text: &str, protocol: Protocol, quirks: Quirks) -> Result<Mac, Refusal> {
    let by_name = || {
        let named = quirks == Quirks::Libvirt && protocol.layer() == Layer::Link;
        match text.to_ascii_lowercase().as_str() {
            "broadcast" if named => Some(Mac::BROADCAST),
            "bga" if named => Some(Mac::BRIDGE_GROUP),
            _ => None,
        }
    };
    Mac::parse(text).or_else(by_name).ok_or_else(|| Refusal::new("expected six groups of hex digits, `52:54:00:12:34:56`"))
}

/// ebtables takes any mask; a literal is ones, then zeros.
fn mac_mask(text: &str, quirks: Quirks) -> Result<Mac, Refusal> {
    let contiguous = |mask: &Mac| {
        let bits = mask.0.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte)) << 16;
        bits.leading_ones() + bits.trailing_zeros() >= 64
    };
    let expected = "expected a mask of ones and then zeros, `ff:ff:ff:00:00:00`";
    Mac::parse(text).filter(|mask| quirks == Quirks::Libvirt || contiguous(mask)).ok_or_else(|| Refusal::new(expected))
}

fn number(text: &str, protocol: Protocol, spec: &AttributeSpec, quirks: Quirks) -> Result<u32, Refusal> {
    let (least, most) = bounds(protocol, spec, quirks);
    let notation = notation(protocol, spec.name);
    let number = digits(text, notation, quirks)?;
    let number = number.map(|number| if quirks == Quirks::Libvirt { wrap(spec.name, number) } else { number });
    match number.and_then(|number| u32::try_from(number).ok()) {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Refusal {
            expected: match notation {
                Notation::Hex => format!("expected a hex number from {least:#x} to {most:#x}"),
                Notation::Decimal => format!("expected a decimal number from {least} to {most}"),
                Notation::C => format!("expected a number from {least} to {most}"),
            }
            .into(),
            help: Some("names are not looked up, except those that the attribute's own values have"),
        }),
    }
}

/// ebtables cuts `--vlan-encap` to 16 bits before it looks at it.
fn wrap(name: AttributeName, number: u64) -> u64 {
    if name == AttributeName::EncapProtocol { number & 0xffff } else { number }
}

/// What the tool takes, and in `fixed` quirks what a literal could say besides.
fn bounds(protocol: Protocol, spec: &AttributeSpec, quirks: Quirks) -> (u32, u32) {
    let literal = match spec.kind {
        ValueKind::Number { min, max } => (min, max),
        ValueKind::EtherType { min } => (min, 0xffff),
        ValueKind::IpProtocol => (0, 0xff),
        _ => (0, 0xffff),
    };
    match (spec.name, quirks) {
        (AttributeName::VlanId, _) => (0, 4094),
        (AttributeName::TcpOption, _) => (1, 255),
        // `--ip-tos` is the whole octet.
        (AttributeName::Dscp, Quirks::Libvirt) if protocol.layer() == Layer::Link => (0, 255),
        (AttributeName::ConnLimitAbove, Quirks::Libvirt) => (0, u32::MAX),
        _ => literal,
    }
}

fn notation(protocol: Protocol, name: AttributeName) -> Notation {
    use AttributeName as A;
    match name {
        A::ProtocolId | A::EncapProtocol | A::ProtocolType => Notation::Hex,
        A::StpType | A::StpFlags => Notation::C,
        A::VlanId | A::HwType | A::Opcode => Notation::Decimal,
        // The other numbers of `stp` are ranges to ebtables, which it reads in decimal.
        _ if protocol == Protocol::Stp => Notation::Decimal,
        // `-m udp` reads its ports on its own, unlike `-m tcp` and `-m sctp`.
        _ if is_port(name) && matches!(protocol, Protocol::Udp | Protocol::UdpIpv6) => Notation::Decimal,
        _ => Notation::C,
    }
}

/// A number in the tool's notation; `None` when it is none, or too large for any use.
///
/// # Errors
/// In `fixed` quirks, when a literal of the same text would be read differently.
fn digits(text: &str, notation: Notation, quirks: Quirks) -> Result<Option<u64>, Refusal> {
    if quirks == Quirks::Fixed {
        refuse_ambiguous(text, notation)?;
    }
    Ok(match notation {
        Notation::Decimal => radix(text, 10),
        Notation::Hex => radix(hex_digits(text).unwrap_or(text), 16),
        Notation::C => c_number(text),
    })
}

fn refuse_ambiguous(text: &str, notation: Notation) -> Result<(), Refusal> {
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let bare_hex = hex_digits(text).is_none() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if notation == Notation::Hex && text.len() > 1 && bare_hex {
        let expected = "expected hex with `0x`: ebtables reads this as hex, the attribute's own values are decimal";
        return Err(Refusal { expected: expected.into(), help: Some("write `0x` and hex digits") });
    }
    if notation == Notation::C && all_digits && text.len() > 1 && text.starts_with('0') {
        let expected = "expected a number without leading zeros: the tool reads this as octal";
        return Err(Refusal { expected: expected.into(), help: Some("leave the leading zeros out") });
    }
    Ok(())
}

fn c_number(text: &str) -> Option<u64> {
    match (hex_digits(text), text.strip_prefix('0')) {
        (Some(hex), _) => radix(hex, 16),
        (None, Some(octal)) if !octal.is_empty() => radix(octal, 8),
        _ => radix(text, 10),
    }
}

fn hex_digits(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

/// Digits only: what the standard library would take besides, a sign, no parameter can hold but the check costs nothing.
fn radix(text: &str, radix: u32) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| u64::from_str_radix(text, radix).ok()).flatten()
}

/// One port, or for a port that begins a range also `80:90`, `80:` and `:90`.
fn port(text: &str, rule: &Rule, name: AttributeName, quirks: Quirks) -> Result<Literal, Refusal> {
    let notation = notation(rule.protocol, name);
    let one = |text: &str| digits(text, notation, quirks).map(|number| number.and_then(|number| u16::try_from(number).ok()));
    let Some((first, last)) = text.split_once(':') else {
        return one(text)?.map(|port| Literal::Number(port.into())).ok_or_else(|| Refusal {
            expected: "expected a port number from 0 to 65535".into(),
            help: Some("write a number in place of the name of a service"),
        });
    };
    let end = match name {
        AttributeName::SrcPortStart => Some(AttributeName::SrcPortEnd),
        AttributeName::DstPortStart => Some(AttributeName::DstPortEnd),
        _ => None,
    };
    // With an end of its own the command would hold two colons.
    if end.is_none_or(|end| rule.has(end)) {
        return Err(Refusal::new("expected one port: the rule gives both ends of the range"));
    }
    let bound = |text: &str, absent: u16| if text.is_empty() { Ok(Some(absent)) } else { one(text) };
    let (Some(first), Some(last)) = (bound(first, 0)?, bound(last, u16::MAX)?) else {
        return Err(Refusal::new("expected two port numbers from 0 to 65535, `80:90`"));
    };
    // Only `-m udp` takes a descending range, which then matches nothing.
    if first > last && (quirks == Quirks::Fixed || notation == Notation::C) {
        return Err(Refusal::new("expected the lower port first"));
    }
    Ok(Literal::Range(first, last))
}

fn is_port(name: AttributeName) -> bool {
    use AttributeName as A;
    matches!(name, A::SrcPortStart | A::SrcPortEnd | A::DstPortStart | A::DstPortEnd)
}

/// The number that a name stands for where the tool takes names that do not depend on the host; any case, as everywhere in the tools' own tables.
fn word(text: &str, spec: &AttributeSpec, quirks: Quirks) -> Option<u32> {
    let named = |names: &[(&str, u32)]| names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|&(_, number)| number);
    match spec.kind {
        ValueKind::EtherType { .. } => named(&ETHER_TYPES),
        // A literal `protocoltype` is a number.
        ValueKind::Number { .. } if spec.name == AttributeName::ProtocolType && quirks == Quirks::Libvirt => named(&ETHER_TYPES),
        ValueKind::ArpOpcode => named(&ARP_OPCODES),
        ValueKind::IpProtocol => named(&IP_PROTOCOLS),
        _ => None,
    }
}

fn set_name(text: &str) -> Result<Literal, Refusal> {
    if text.len() > 31 {
        return Err(Refusal::new("expected the name of a set, at most 31 characters"));
    }
    Ok(Literal::Text(Arc::from(text)))
}

/// A parameter cannot hold a comma, so it gives one direction.
fn set_direction(text: &str) -> Result<Literal, Refusal> {
    match text {
        "src" => Ok(Literal::SetDirections(vec![SetDirection::Source])),
        "dst" => Ok(Literal::SetDirections(vec![SetDirection::Destination])),
        _ => Err(Refusal::new("expected `src` or `dst`")),
    }
}

impl Refusal {
    fn new(expected: impl Into<Cow<'static, str>>) -> Self {
        Self { expected: expected.into(), help: None }
    }
}
