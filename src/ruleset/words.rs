//! Typed rules out, in the words that `*-restore` reads; the only place where a rule becomes text.
//!
//! Ethernet types and ICMP types are written as numbers, and of IP protocols only those by name that the tools know by heart, so the words
//! mean the same on a host without `/etc/protocols` or `/etc/ethertypes`. Nothing that a value contains can end its word, its line or start an option: free text stands in double quotes with
//! `"` and `\` escaped, and a line break or NUL, which no rule in normal form has, becomes a blank.

mod bridge;
mod ip;

use std::fmt;

use super::Family;
use super::rule::Rule;

/// Everything after `-A CHAIN `, quoted so that the tool reads back exactly this rule; never contains a line break.
pub fn rule(family: Family, rule: &Rule, out: &mut String) {
    match rule {
        Rule::Ip(rule) => ip::write(family, rule, out),
        Rule::Bridge(rule) => bridge::write(rule, out),
    }
}

/// An IP protocol by the name that is built into the tools (xtables 1.8.9), else by number.
struct ProtocolName(u8);

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "icmp",
            6 => "tcp",
            17 => "udp",
            50 => "esp",
            51 => "ah",
            58 => "ipv6-icmp",
            132 => "sctp",
            136 => "udplite",
            number => return write!(f, "{number}"),
        };
        f.write_str(name)
    }
}

/// One word of free text, in quotes unless it is plain.
fn quoted(text: &str, out: &mut String) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !text.is_empty() && text.bytes().all(plain) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\n' | '\r' | '\0' => out.push(' '),
            _ => out.push(char),
        }
    }
    out.push('"');
}
