//! Typed rules out, in the words that `*-restore` reads; the only place where a rule becomes text.
//!
//! Ethernet types and ICMP types are written as numbers, and of IP protocols only those by name that the tools know by heart, so the words
//! mean the same on a host without `/etc/protocols` or `/etc/ethertypes`. Nothing that a value contains can end its word, its line or start
//! an option: free text stands in double quotes with `"` and `\` escaped, and a line break or NUL, which no rule in normal form has, becomes
//! a blank.

mod bridge;
mod ip;

use std::fmt;

use super::Family;
use super::normal::ends_line;
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
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'+');
    if !text.is_empty() && text.bytes().all(plain) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            _ if ends_line(char) => out.push(' '),
            _ => out.push(char),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::rule::{IpMatch, IpRule, IpTarget};

    fn commented(text: &str) -> String {
        let mut unchecked = IpRule::new(IpTarget::Drop);
        unchecked.matches = vec![IpMatch::Comment(text.into())];
        let mut out = String::from("-A X ");
        rule(Family::Ipv4, &unchecked.into(), &mut out);
        out
    }

    #[test]
    fn free_text_cannot_leave_its_word() {
        let cases = [
            ("plain-1.2_3:+", "plain-1.2_3:+"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("\" -j ACCEPT", "\"\\\" -j ACCEPT\""),
            ("ends in \\", "\"ends in \\\\\""),
            ("$(x) `y` ;", "\"$(x) `y` ;\""),
            ("a\nCOMMIT\r\0", "\"a COMMIT  \""),
            ("\u{7f}é\t", "\"\u{7f}é\t\""),
        ];
        for (text, word) in cases {
            assert_eq!(commented(text), format!("-A X -m comment --comment {word} -j DROP"));
        }
    }

    #[test]
    fn matches_of_one_module_share_it() {
        use crate::ruleset::rule::{ConnectionDirection, Invertible, TcpFlags};
        let mut unchecked = IpRule::new(IpTarget::Accept);
        unchecked.protocol = Some(Invertible::is(6));
        unchecked.matches = vec![
            IpMatch::PhysdevIsBridged(Invertible::new(true, ())),
            IpMatch::TcpFlags(Invertible::new(true, TcpFlags { mask: 0x3f, set: 0 })),
            IpMatch::TcpOption(Invertible::is(5)),
            IpMatch::ConnectionDirection(ConnectionDirection::Reply),
        ];
        let mut out = String::new();
        rule(Family::Ipv6, &unchecked.into(), &mut out);
        let expected = "-p tcp -m physdev ! --physdev-is-bridged -m tcp ! --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE --tcp-option 5 \
                        -m conntrack --ctdir REPLY -j ACCEPT";
        assert_eq!(out, expected);
    }
}
