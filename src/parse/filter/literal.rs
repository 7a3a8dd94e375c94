//! Literal values of protocol attributes: text in, a typed [`Literal`] out, in libvirt's grammar for each [`ValueKind`].
//!
//! Reference: nwfilter.md 2.2 and 2.6, each grammar tried on libvirtd 9.0. What libvirt alone would accept is marked with a
//! [`Laxity`]; whether that is an error is the caller's business. Variables never get here.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::laxity::Laxity;
use super::words;
use crate::addr::Mac;
use crate::model::attribute::ValueKind;
use crate::model::filter::{Literal, SetDirection};
use crate::parse::value::{is_c_blank, parse_classic_ipv4, prefix_of_ipv4_mask, prefix_of_ipv6_mask};

/// A value and what is questionable about how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading<T> {
    /// What libvirt reads.
    pub(super) value: T,
    /// Why a careful reader would not.
    pub(super) laxity: Option<Laxity>,
}

/// Why a text is no value at all, in either quirks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The diagnostic's code.
    pub(super) code: &'static str,
    /// Its label.
    pub(super) expected: String,
    /// Its help.
    pub(super) help: Option<String>,
    /// The words that it may have been meant for: to look for the nearest costs time, so the report does that while it is worth it.
    pub(super) words: &'static [(&'static str, u32)],
}

/// Reads `text` as a value of this kind.
pub(super) fn read(kind: ValueKind, text: &str) -> Result<Reading<Literal>, Refusal> {
    match kind {
        ValueKind::Number { min, max } => read_number(text, min, max),
        ValueKind::Decimal => read_decimal(text),
        ValueKind::EtherType { min } => read_ethernet_type(text, min),
        ValueKind::ArpOpcode => match words::arp_opcode(text) {
            Some(opcode) => Ok(exact(Literal::Number(opcode))),
            None => read_number(text, 0, 65_535).map_err(|refusal| refusal.if_no_number(words::unknown_arp_opcode)),
        },
        ValueKind::IpProtocol => match words::ip_protocol(text) {
            Some(protocol) => Ok(exact(Literal::Number(protocol))),
            None => read_number(text, 0, 255).map_err(|refusal| refusal.if_no_number(words::unknown_ip_protocol)),
        },
        ValueKind::Mac => read_mac(text).map(|reading| reading.map(Literal::Mac)),
        ValueKind::MacMask => read_mac_mask(text),
        ValueKind::Ipv4 => read_ipv4(text).map(|reading| reading.map(Literal::Ipv4)).ok_or_else(|| {
            Refusal::new("invalid-ipv4-address", "expected four decimal numbers separated by `.`")
                .help("a mask goes into an attribute of its own, and names are not looked up")
        }),
        ValueKind::Ipv4Mask => read_ipv4_mask(text),
        ValueKind::Ipv6 => read_ipv6(text),
        ValueKind::Ipv6Mask => read_ipv6_mask(text),
        ValueKind::Flag => Ok(read_flag(text)),
        ValueKind::TcpFlags => words::tcp_flags(text).map(exact),
        ValueKind::States => words::states(text).map(exact),
        ValueKind::SetName => read_set_name(text),
        ValueKind::SetDirections => read_set_directions(text),
        ValueKind::Comment => read_comment(text),
    }
}

/// Whether a number was written with a minus sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// No sign, or `+`.
    Positive,
    /// `-`: the number is its complement in 32 bits.
    Negative,
}

/// A number as the C library's `strtoul` and libvirt's check of its width make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsigned {
    /// The number.
    pub(super) value: u32,
    /// How it was written.
    pub(super) sign: Sign,
    /// Whether blanks or a plus sign stand before its digits.
    pub(super) padded: bool,
}

/// Reads blanks, a sign, for radix 16 perhaps `0x`, and digits up to the end of the text.
pub(super) fn unsigned(text: &str, radix: u32) -> Option<Unsigned> {
    let whole = text;
    let text = skip_blanks(text);
    let padded = text.len() < whole.len() || text.starts_with('+');
    let (sign, text) = match text.as_bytes().first()? {
        b'-' => (Sign::Negative, &text[1..]),
        b'+' => (Sign::Positive, &text[1..]),
        _ => (Sign::Positive, text),
    };
    let digits = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] if radix == 16 => &text[2..],
        _ => text,
    };
    // `from_str_radix` takes a sign of its own, which would be a second one here.
    let plain = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    let magnitude = if plain { u32::from_str_radix(digits, radix).ok()? } else { return None };
    let value = if sign == Sign::Negative { magnitude.wrapping_neg() } else { magnitude };
    Some(Unsigned { value, sign, padded })
}

/// The text after its leading blanks.
pub(super) fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches(is_c_blank)
}

/// Reads an Ethernet address; libvirt stops at the first blank after it.
pub(super) fn read_mac(text: &str) -> Result<Reading<Mac>, Refusal> {
    let (address, rest) = text.split_once(is_c_blank).unwrap_or((text, ""));
    let value = Mac::parse(address)
        .ok_or_else(|| Refusal::new("invalid-mac-address", "expected six groups of two hexadecimal digits, separated by `:`"))?;
    let alone = rest.chars().all(is_c_blank);
    Ok(Reading { value, laxity: (!alone).then_some(Laxity::TextAfterMac) })
}

impl<T> Reading<T> {
    fn map<U>(self, into: impl FnOnce(T) -> U) -> Reading<U> {
        Reading { value: into(self.value), laxity: self.laxity }
    }
}

impl Refusal {
    pub(super) fn new(code: &'static str, expected: impl Into<String>) -> Self {
        Self { code, expected: expected.into(), help: None, words: &[] }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn words(mut self, words: &'static [(&'static str, u32)]) -> Self {
        self.words = words;
        self
    }

    /// Replaces a refusal of something that is no number at all, where words may stand for numbers.
    fn if_no_number(self, unknown: impl FnOnce() -> Self) -> Self {
        if self.code == INVALID_NUMBER { unknown() } else { self }
    }
}

/// The code for a text that is no number; kinds that know words replace it.
const INVALID_NUMBER: &str = "invalid-number";

/// A value that was written as it should be.
fn exact(value: Literal) -> Reading<Literal> {
    Reading { value, laxity: None }
}

/// Reads a number of either notation: what can be read as decimal is decimal, everything else hexadecimal.
fn read_any_number(text: &str) -> Option<Reading<u32>> {
    if let Some(number) = unsigned(text, 10) {
        return Some(Reading { value: number.value, laxity: doubt(number) });
    }
    let number = unsigned(text, 16)?;
    let prefixed = text.contains(['x', 'X']);
    let laxity = doubt(number).or((!prefixed).then_some(Laxity::BareHex(number.value)));
    Some(Reading { value: number.value, laxity })
}

/// The doubt about what stands before the digits.
fn doubt(number: Unsigned) -> Option<Laxity> {
    let padded = number.padded.then_some(Laxity::PaddedNumber(number.value));
    if number.sign == Sign::Negative { Some(Laxity::NegativeNumber(number.value)) } else { padded }
}

/// Reads a number of either notation within bounds.
fn read_number(text: &str, min: u32, max: u32) -> Result<Reading<Literal>, Refusal> {
    let expected = format!("expected a number from {min} to {max}, decimal or with `0x`");
    let Some(reading) = read_any_number(text) else {
        return Err(Refusal::new(INVALID_NUMBER, expected));
    };
    if !(min..=max).contains(&reading.value) {
        return Err(Refusal::new("number-out-of-range", expected));
    }
    Ok(reading.map(Literal::Number))
}

/// Reads `connlimit-above`, the one number without a hexadecimal notation.
fn read_decimal(text: &str) -> Result<Reading<Literal>, Refusal> {
    let expected = "expected a decimal number from 0 to 65535";
    match unsigned(text, 10) {
        None => Err(Refusal::new(INVALID_NUMBER, expected)),
        Some(number) if number.value > 65_535 => Err(Refusal::new("number-out-of-range", expected)),
        Some(number) => Ok(Reading { value: Literal::Number(number.value), laxity: doubt(number) }),
    }
}

/// Reads an Ethernet type: a word, or a number from `min`.
fn read_ethernet_type(text: &str, min: u32) -> Result<Reading<Literal>, Refusal> {
    if let Some(known) = words::ethernet_type(text) {
        return Ok(exact(Literal::Number(known)));
    }
    read_number(text, min, 65_535).map_err(|refusal| {
        // `806` is the decimal number, too small for an Ethernet type: most likely the `0x` was forgotten.
        match unsigned(text, 16).filter(|number| (min..=65_535).contains(&number.value)) {
            Some(number) => refusal.help(format!("did you mean `{:#x}`?", number.value)),
            None => refusal.if_no_number(|| words::unknown_ethernet_type(min)),
        }
    })
}

/// Reads a mask; its bits are ones, then zeros, wherever in a byte they change.
fn read_mac_mask(text: &str) -> Result<Reading<Literal>, Refusal> {
    let refusal = || Refusal::new("invalid-mac-mask", "expected a mask in the form of an Ethernet address, ones before zeros");
    let reading = read_mac(text).map_err(|_| refusal())?;
    let bits = reading.value.0.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
    let ones = (bits << 16).leading_ones();
    if bits.count_ones() != ones {
        return Err(refusal());
    }
    Ok(reading.map(Literal::Mac))
}

/// Reads a dotted quad, or with a doubt whatever else the classic parser takes.
fn read_ipv4(text: &str) -> Option<Reading<Ipv4Addr>> {
    if let Ok(value) = text.parse() {
        return Some(Reading { value, laxity: None });
    }
    parse_classic_ipv4(text).map(|value| Reading { value, laxity: Some(Laxity::ClassicIpv4(value)) })
}

/// Reads a mask: what is no number up to 32 is tried as an address.
fn read_ipv4_mask(text: &str) -> Result<Reading<Literal>, Refusal> {
    if let Some(reading) = read_prefix(text, 32) {
        return Ok(reading);
    }
    let mask = read_ipv4(text).and_then(|mask| Some(Reading { value: prefix_of_ipv4_mask(mask.value)?, laxity: mask.laxity }));
    mask.map(|prefix| prefix.map(Literal::Prefix))
        .ok_or_else(|| Refusal::new("invalid-ipv4-mask", "expected 0 to 32, or a dotted mask with its ones before its zeros"))
}

/// Reads an address. libvirt takes a scope too, if the host has such a device; no tool can match it.
fn read_ipv6(text: &str) -> Result<Reading<Literal>, Refusal> {
    let address: Ipv6Addr = text.parse().map_err(|_| {
        Refusal::new("invalid-ipv6-address", "expected a numeric IPv6 address")
            .help("a mask goes into an attribute of its own; brackets and scopes (`%eth0`) cannot be matched")
    })?;
    Ok(exact(Literal::Ipv6(address)))
}

/// Reads a mask: what is no number up to 128 is tried as an address.
fn read_ipv6_mask(text: &str) -> Result<Reading<Literal>, Refusal> {
    if let Some(reading) = read_prefix(text, 128) {
        return Ok(reading);
    }
    let prefix = text.parse().ok().and_then(prefix_of_ipv6_mask);
    prefix.map(|prefix| exact(Literal::Prefix(prefix))).ok_or_else(|| {
        Refusal::new("invalid-ipv6-mask", "expected 0 to 128, or a mask in the form of an IPv6 address with its ones before its zeros")
    })
}

fn read_prefix(text: &str, max: u8) -> Option<Reading<Literal>> {
    let number = unsigned(text, 10)?;
    let prefix = u8::try_from(number.value).ok().filter(|&prefix| prefix <= max)?;
    Some(Reading { value: Literal::Prefix(prefix), laxity: doubt(number) })
}

/// Reads `gratuitous`; libvirt takes every word for something.
fn read_flag(text: &str) -> Reading<Literal> {
    match text {
        "true" | "1" | "yes" => exact(Literal::Flag(true)),
        "false" | "0" | "no" => exact(Literal::Flag(false)),
        _ => Reading { value: Literal::Flag(false), laxity: Some(Laxity::UnknownFlag) },
    }
}

/// Reads the name of a set; a leading `-` is fine, since iptables takes the word after `--match-set` for the name.
fn read_set_name(text: &str) -> Result<Reading<Literal>, Refusal> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-+ ".contains(&byte);
    // libvirt takes the empty name too, but there is no such set and iptables refuses the rule.
    if !(1..=31).contains(&text.len()) || !text.bytes().all(known) {
        return Err(Refusal::new("invalid-set-name", "expected 1 to 31 letters, digits, `_`, `.`, `:`, `-` or `+`"));
    }
    let laxity = text.contains(' ').then_some(Laxity::BlankInSetName);
    Ok(Reading { value: Literal::Text(text.into()), laxity })
}

/// Reads directions; unlike other lists, this one has commas only and no empty places.
fn read_set_directions(text: &str) -> Result<Reading<Literal>, Refusal> {
    let direction = |word: &str| match word {
        _ if word.eq_ignore_ascii_case("src") => Some(SetDirection::Source),
        _ if word.eq_ignore_ascii_case("dst") => Some(SetDirection::Destination),
        _ => None,
    };
    let directions: Option<Vec<_>> = text.split(',').map(direction).collect();
    directions
        .filter(|directions| directions.len() <= 6)
        .map(|directions| exact(Literal::SetDirections(directions)))
        .ok_or_else(|| Refusal::new("invalid-set-directions", "expected one to six of `src` and `dst`, separated by commas without blanks"))
}

/// The bytes that the kernel keeps of a comment; libvirt passes on 256, of which iptables cuts the last.
const COMMENT_BYTES: usize = 255;

/// Reads a comment, cut to what the kernel keeps (row 30 of section 8).
fn read_comment(text: &str) -> Result<Reading<Literal>, Refusal> {
    if text.chars().any(char::is_control) {
        // One rule is one line of restore input; a line end in a comment would begin another rule.
        return Err(Refusal::new("control-character-in-comment", "expected one line without tabs or other control characters"));
    }
    // Cut before a character that would lose its last bytes; libvirt leaves half of it.
    let kept = &text[..text.floor_char_boundary(COMMENT_BYTES)];
    let laxity = (kept.len() < text.len()).then_some(Laxity::LongComment);
    Ok(Reading { value: Literal::Text(kept.into()), laxity })
}

#[cfg(test)]
mod tests;
