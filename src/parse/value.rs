//! The grammars of single values that several documents share: numbers, addresses, names, yes and no.
//!
//! Each function is one grammar, as libvirt's parser has it (networks.md 2.1, nwfilter.md 2.2); the `read_` functions add
//! the diagnostic. Where libvirt reads old spellings in a way that surprises, the caller's [`Quirks`] decide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uuid::Uuid;

use super::visit::{MAX_REMARKS, with_suggestion};
use super::xml::Attribute;
use crate::addr::{DeviceName, Mac};
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::source::{Span, Spanned};

/// An IP address as it was spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IpSpelling {
    /// Dotted quad without leading zeros, or any RFC 4291 form without a zone.
    Plain(IpAddr),
    /// A spelling that only the classic parser reads: fewer than four parts, octal or hexadecimal ones.
    Classic(Ipv4Addr),
}

/// Bytes of a name or of a parameter's value. Each stands in messages and keys of every guest that it concerns; libvirt names files by most of them.
pub(crate) const MAX_NAME: usize = 255;

/// Whether a name or a parameter's value is short enough; reports one that is not.
pub(crate) fn is_short_enough(text: &str, span: Span, diagnostics: &mut Vec<Diagnostic>) -> bool {
    let is_short = text.len() <= MAX_NAME;
    if !is_short {
        let message = format!("a name or value of {} bytes", text.len());
        diagnostics.push(Diagnostic::error("name-too-long", message, span, format!("expected at most {MAX_NAME} bytes")));
    }
    is_short
}

/// What the C library calls a blank (`isspace`).
pub(crate) fn is_c_blank(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// An unsigned decimal number: leading blanks and zeros are fine, a sign, other digits or anything behind it are not.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let digits = text.trim_start_matches(is_c_blank);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// The classic IPv4 parser (`inet_aton`): one to four parts, each decimal, octal (`0`) or hexadecimal (`0x`), the last one
/// filling all bytes that are left. No blanks.
pub(crate) fn parse_classic_ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(parse_classic_part).collect::<Option<_>>()?;
    let (&last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|&part| part > 255) {
        return None;
    }
    let free_bits = 32 - 8 * leading.len();
    if u64::from(last) >= 1 << free_bits {
        return None;
    }
    let high = leading.iter().zip([24, 16, 8]).fold(0, |bits, (&part, shift)| bits | part << shift);
    Some(Ipv4Addr::from_bits(high | last))
}

fn parse_classic_part(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if plain { u32::from_str_radix(digits, radix).ok() } else { None }
}

/// An address of either family, with a note of how it was spelled.
pub(crate) fn parse_ip(text: &str) -> Option<IpSpelling> {
    match text.parse() {
        Ok(address) => Some(IpSpelling::Plain(address)),
        Err(_) => parse_classic_ipv4(text).map(IpSpelling::Classic),
    }
}

/// 32 hexadecimal digits of any case; dashes and blanks may stand before each byte, blanks behind the last one.
///
/// [`Uuid::parse_str`] knows other forms (braces, `urn:`) and not these blanks.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    let mut bytes = [0; 16];
    let mut rest = text.trim_end_matches(is_c_blank);
    for byte in &mut bytes {
        let pair = rest.trim_start_matches(|c| c == '-' || is_c_blank(c));
        let digits = pair.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
        rest = &pair[2..];
    }
    rest.is_empty().then(|| Uuid::from_bytes(bytes))
}

/// The number of leading ones of an IPv4 mask; `None` when ones follow a zero.
pub(crate) fn prefix_of_ipv4_mask(mask: Ipv4Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    let contiguous = mask.to_bits().count_ones() == ones;
    if contiguous { u8::try_from(ones).ok() } else { None }
}

/// The number of leading ones of an IPv6 mask; `None` when ones follow a zero.
pub(crate) fn prefix_of_ipv6_mask(mask: Ipv6Addr) -> Option<u8> {
    let ones = mask.to_bits().leading_ones();
    let contiguous = mask.to_bits().count_ones() == ones;
    if contiguous { u8::try_from(ones).ok() } else { None }
}

/// An address of either family at `span`; old IPv4 spellings as [`accept_classic`] has it.
pub(crate) fn read_ip(text: &str, span: Span, quirks: Quirks, diagnostics: &mut Vec<Diagnostic>) -> Option<IpAddr> {
    match parse_ip(text) {
        Some(IpSpelling::Plain(address)) => Some(address),
        Some(IpSpelling::Classic(address)) => accept_classic(text, address, span, quirks, diagnostics).map(IpAddr::V4),
        None => {
            let message = format!("`{text}` is not an IP address");
            let fault = Diagnostic::error("invalid-address", message, span, "expected a numeric IPv4 or IPv6 address");
            let with_prefix = text.split_once('/').is_some_and(|(address, _)| parse_ip(address).is_some());
            diagnostics.push(if with_prefix {
                fault.help("write the address alone; its length goes into the attribute `prefix`")
            } else {
                fault
            });
            None
        }
    }
}

/// Decides about an IPv4 address in an old spelling: refused in `fixed` quirks, read like libvirt with a warning in `libvirt` quirks.
pub(crate) fn accept_classic(
    text: &str,
    address: Ipv4Addr,
    span: Span,
    quirks: Quirks,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Ipv4Addr> {
    let message = format!("`{text}` is an ambiguous IPv4 address");
    let label = format!("libvirt reads this as `{address}`");
    let help = "write four decimal numbers without leading zeros";
    match quirks {
        Quirks::Fixed => {
            diagnostics.push(Diagnostic::error("ambiguous-ipv4-address", message, span, label).help(help));
            None
        }
        Quirks::Libvirt => {
            if diagnostics.len() < MAX_REMARKS {
                diagnostics.push(Diagnostic::warning("ambiguous-ipv4-address", message, span, label).help(help));
            }
            Some(address)
        }
    }
}

/// The name of a host device, checked for every tool (see [`DeviceName`]).
pub(crate) fn read_device(attribute: &Attribute<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<DeviceName>> {
    let device = DeviceName::new(&attribute.value);
    if device.is_none() {
        diagnostics.push(invalid_device(&attribute.value, attribute.value_span));
    }
    device.map(|device| Spanned::new(device, attribute.value_span))
}

fn invalid_device(text: &str, span: Span) -> Diagnostic {
    let fault = Diagnostic::error(
        "invalid-device-name",
        format!("`{text}` is not a device name that the tools read literally"),
        span,
        "expected 1 to 15 letters, digits, `_`, `.` or `-`, no `-` first",
    );
    if text.ends_with('+') {
        return fault.help("iptables reads a trailing `+` as a wildcard; rename the device");
    }
    if text.contains('%') {
        return fault.help("write the concrete name; bridgeward makes no devices and cannot number them");
    }
    fault
}

/// An Ethernet address.
pub(crate) fn read_mac(attribute: &Attribute<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Spanned<Mac>> {
    // libvirt tolerates blanks behind the last group (nwfilter.md 2.2).
    let mac = Mac::parse(attribute.value.trim_end_matches(is_c_blank));
    if mac.is_none() {
        let message = format!("`{}` is not an Ethernet address", attribute.value);
        let expected = "expected six groups of two hexadecimal digits, separated by `:`";
        diagnostics.push(Diagnostic::error("invalid-mac-address", message, attribute.value_span, expected));
    }
    mac.map(|mac| Spanned::new(mac, attribute.value_span))
}

/// One word of a fixed vocabulary; exact, case counts, no blanks around.
pub(crate) fn read_keyword<T: Copy>(
    attribute: &Attribute<'_>,
    vocabulary: &[(&'static str, T)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    let known = vocabulary.iter().find(|(word, _)| *word == attribute.value).map(|&(_, value)| value);
    if known.is_none() {
        let words: Vec<String> = vocabulary.iter().map(|(word, _)| format!("`{word}`")).collect();
        let message = format!("`{}` is not a value of `{}`", attribute.value, attribute.name);
        let expected = format!("expected {}", either(&words));
        let fault = Diagnostic::error("invalid-keyword", message, attribute.value_span, expected);
        // In a file that has far too many already, each suggestion costs time.
        let is_helped = diagnostics.len() < MAX_REMARKS;
        let words = vocabulary.iter().map(|&(word, _)| word);
        diagnostics.push(if is_helped { with_suggestion(fault, &attribute.value, words) } else { fault });
    }
    known
}

/// Joins words as in "a, b or c".
fn either(words: &[String]) -> String {
    match words.split_last() {
        Some((last, leading)) if !leading.is_empty() => format!("{} or {last}", leading.join(", ")),
        _ => words.concat(),
    }
}

/// The two words of a flag, for [`read_keyword`].
pub(crate) const YES_NO: [(&str, bool); 2] = [("yes", true), ("no", false)];

/// An unsigned decimal number (see [`parse_decimal`]) of at most `max`.
pub(crate) fn read_decimal(attribute: &Attribute<'_>, max: u64, diagnostics: &mut Vec<Diagnostic>) -> Option<u64> {
    let number = parse_decimal(&attribute.value).filter(|&number| number <= max);
    if number.is_none() {
        let message = format!("`{}` is not a number that `{}` can have", attribute.value, attribute.name);
        let expected = format!("expected a decimal number from 0 to {max}");
        diagnostics.push(Diagnostic::error("invalid-number", message, attribute.value_span, expected));
    }
    number
}

/// The attribute, or a diagnostic at the element's name where it is missing.
pub(crate) fn require<'a>(
    attribute: Option<&'a Attribute<'a>>,
    name: &str,
    element: &super::xml::Element<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<&'a Attribute<'a>> {
    if attribute.is_none() {
        let message = format!("`<{}>` has no `{name}`", element.name);
        let expected = format!("expected an attribute `{name}`");
        diagnostics.push(Diagnostic::error("missing-attribute", message, element.name_span, expected));
    }
    attribute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_take_leading_blanks_and_zeros_only() {
        assert_eq!(parse_decimal(" \t\n24"), Some(24));
        assert_eq!(parse_decimal("007"), Some(7));
        for text in ["", " ", "+1", "-1", "0x18", "1.5", "24 ", "99999999999999999999"] {
            assert_eq!(parse_decimal(text), None, "{text:?}");
        }
    }

    #[test]
    fn classic_addresses_read_as_the_c_library_does() {
        let read = |text: &str| parse_classic_ipv4(text).map(|address| address.to_string());
        for (text, address) in [
            ("192.168.6", "192.168.0.6"),
            ("192.168.006.010", "192.168.6.8"),
            ("3232237063", "192.168.6.7"),
            ("0x0a.1.1.1", "10.1.1.1"),
            ("010.1.1.1", "8.1.1.1"),
            ("10.1", "10.0.0.1"),
            ("0", "0.0.0.0"),
            ("255.16777215", "255.255.255.255"),
        ] {
            assert_eq!(read(text).as_deref(), Some(address), "{text}");
        }
        for text in ["", ".", "1.", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "08.1.1.1", "0x", "4294967296", " 1.2.3.4", "1.2.3.4 ", "-1"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn plain_spellings_are_told_from_classic_ones() {
        assert_eq!(parse_ip("10.0.0.1"), Some(IpSpelling::Plain(IpAddr::from([10, 0, 0, 1]))));
        assert_eq!(parse_ip("10.0.0.01"), Some(IpSpelling::Classic(Ipv4Addr::new(10, 0, 0, 1))));
        assert!(matches!(parse_ip("FD00::1"), Some(IpSpelling::Plain(IpAddr::V6(_)))));
        for text in ["fe80::1%lo", "localhost", "[::1]", "10.0.0.1/24"] {
            assert_eq!(parse_ip(text), None, "{text}");
        }
    }

    #[test]
    fn uuids_may_lack_dashes_and_have_blanks_around() {
        let dashed = "c79af8f0-b9d9-4f5a-9b2e-3f7c3a5d5b01";
        let expected = Uuid::parse_str(dashed).ok();
        assert_eq!(parse_uuid(dashed), expected);
        assert_eq!(parse_uuid(" C79AF8F0B9D94F5A9B2E3F7C3A5D5B01\n"), expected);
        assert_eq!(parse_uuid("-c79af8f0--b9d9 4f5a9b2e3f7c3a5d5b01"), expected);
        for text in [
            "",
            "{c79af8f0-b9d9-4f5a-9b2e-3f7c3a5d5b01}",
            "c79af8f0",
            "c79af8f0-b9d9-4f5a-9b2e-3f7c3a5d5b0",
            "c-79af8f0b9d94f5a9b2e3f7c3a5d5b01",
            "c79af8f0b9d94f5a9b2e3f7c3a5d5b01-",
            "\u{e9}\u{e9}",
        ] {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn masks_have_ones_first() {
        assert_eq!(prefix_of_ipv4_mask(Ipv4Addr::new(255, 255, 240, 0)), Some(20));
        assert_eq!(prefix_of_ipv4_mask(Ipv4Addr::UNSPECIFIED), Some(0));
        assert_eq!(prefix_of_ipv4_mask(Ipv4Addr::new(255, 0, 255, 0)), None);
        assert_eq!(prefix_of_ipv6_mask(Ipv6Addr::new(0xffff, 0xfff0, 0, 0, 0, 0, 0, 0)), Some(28));
        assert_eq!(prefix_of_ipv6_mask(Ipv6Addr::LOCALHOST), None);
    }
}
