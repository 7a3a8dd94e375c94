//! Every kind of value with texts that are good, questionable and bad; what libvirtd 9.0 made of each decided which is which.

use super::*;
use crate::model::attribute::ValueKind as K;
use crate::model::filter::States;

const U8: K = K::Number { min: 0, max: 255 };
const U32: K = K::Number { min: 0, max: u32::MAX };
const ETHER: K = K::EtherType { min: 1536 };

#[track_caller]
fn good(kind: K, text: &str, value: Literal) {
    assert_eq!(read(kind, text), Ok(Reading { value, laxity: None }), "{text:?}");
}

#[track_caller]
fn lax(kind: K, text: &str, value: Literal, laxity: Laxity) {
    assert_eq!(read(kind, text), Ok(Reading { value, laxity: Some(laxity) }), "{text:?}");
}

#[track_caller]
fn bad(kind: K, text: &str, code: &str) {
    assert_eq!(read(kind, text).err().map(|refusal| refusal.code), Some(code), "{text:?}");
}

fn number(value: u32) -> Literal {
    Literal::Number(value)
}

fn v4(text: &str) -> Literal {
    Literal::Ipv4(text.parse().expect("the test's own address"))
}

fn v6(text: &str) -> Literal {
    Literal::Ipv6(text.parse().expect("the test's own address"))
}

fn mac(text: &str) -> Literal {
    Literal::Mac(Mac::parse(text).expect("the test's own address"))
}

#[test]
fn numbers_are_decimal_or_hexadecimal() {
    for (text, value) in [("0", 0), ("010", 10), ("800", 800), (" 5", 5), ("\t+5", 5), ("0x1f", 31), ("0X1F", 31), (" +0x1f", 31)] {
        good(U32, text, number(value));
    }
    good(U32, "4294967295", number(u32::MAX));
    for text in ["", " ", "5 ", "0x", "x1", "- 1", "--5", "+-5", "0x-1", "1.5", "http", "4294967296", "5\u{0}", "٥"] {
        bad(U32, text, "invalid-number");
    }
}

#[test]
fn numbers_stay_in_their_range() {
    good(U8, "255", number(255));
    bad(U8, "256", "number-out-of-range");
    bad(U8, "0x100", "number-out-of-range");
    bad(U8, "300", "number-out-of-range");
    bad(K::Number { min: 0, max: 4094 }, "4095", "number-out-of-range");
    bad(K::Number { min: 0, max: 63 }, "64", "number-out-of-range");
    bad(K::Number { min: 0, max: 65_535 }, "65536", "number-out-of-range");
}

#[test]
fn hexadecimal_without_its_prefix_is_questionable() {
    lax(U32, "abc", number(0xabc), Laxity::BareHex(0xabc));
    lax(U8, "1f", number(0x1f), Laxity::BareHex(0x1f));
    lax(ETHER, "abc", number(0xabc), Laxity::BareHex(0xabc));
    bad(U8, "abc", "number-out-of-range");
}

#[test]
fn negative_numbers_wrap_and_are_questionable() {
    lax(U32, "-1", number(u32::MAX), Laxity::NegativeNumber(u32::MAX));
    lax(U32, "-0x1", number(u32::MAX), Laxity::NegativeNumber(u32::MAX));
    lax(U8, "-4294967295", number(1), Laxity::NegativeNumber(1));
    bad(U8, "-1", "number-out-of-range");
}

#[test]
fn decimal_numbers_have_no_other_notation() {
    good(K::Decimal, "65535", number(65_535));
    good(K::Decimal, " 007", number(7));
    bad(K::Decimal, "0x5", "invalid-number");
    bad(K::Decimal, "abc", "invalid-number");
    bad(K::Decimal, "", "invalid-number");
    bad(K::Decimal, "65536", "number-out-of-range");
    lax(K::Decimal, "-4294967295", number(1), Laxity::NegativeNumber(1));
}

#[test]
fn ethernet_types_have_names() {
    for (text, value) in
        [("arp", 0x806), ("RARP", 0x8035), ("ipv4", 0x800), ("IPv6", 0x86dd), ("vlan", 0x8100), ("0x88cc", 0x88cc), ("1536", 1536)]
    {
        good(ETHER, text, number(value));
    }
    good(K::EtherType { min: 60 }, "60", number(60));
    for text in ["1535", "65536", "0x5ff"] {
        bad(ETHER, text, "number-out-of-range");
    }
    bad(K::EtherType { min: 60 }, "59", "number-out-of-range");
    for text in ["", "arpx", "ip", " arp"] {
        bad(ETHER, text, "unknown-ethernet-type");
    }
}

#[test]
fn a_forgotten_hexadecimal_prefix_of_an_ethernet_type_is_named() {
    let refusal = read(ETHER, "806").expect_err("806 is below 1536");
    assert_eq!((refusal.code, refusal.help.as_deref()), ("number-out-of-range", Some("did you mean `0x806`?")));
    let refusal = read(ETHER, "ipv5").expect_err("there is no such word");
    assert_eq!(refusal.help.as_deref(), Some("did you mean `ipv4`?"));
}

#[test]
fn arp_opcodes_have_names() {
    for (text, value) in [("Request", 1), ("reply", 2), ("Request_Reverse", 3), ("ARP_NAK", 9), ("10", 10), ("65535", 65_535), ("0x2", 2)] {
        good(K::ArpOpcode, text, number(value));
    }
    for text in ["", "Requests", "request reverse"] {
        bad(K::ArpOpcode, text, "unknown-arp-opcode");
    }
    bad(K::ArpOpcode, "65536", "number-out-of-range");
}

#[test]
fn ip_protocols_have_names() {
    for (text, value) in [("tcp", 6), ("UDP", 17), ("udplite", 136), ("icmpv6", 58), ("255", 255), ("0x6", 6)] {
        good(K::IpProtocol, text, number(value));
    }
    for text in ["", "dccp", "ipv6-icmp"] {
        bad(K::IpProtocol, text, "unknown-ip-protocol");
    }
    bad(K::IpProtocol, "256", "number-out-of-range");
}

#[test]
fn ethernet_addresses_have_six_groups() {
    good(K::Mac, "52:54:00:AB:cd:01", mac("52:54:00:ab:cd:01"));
    good(K::Mac, "5:4:0:0:0:1", mac("05:04:00:00:00:01"));
    good(K::Mac, "52:54:00:00:00:01 ", mac("52:54:00:00:00:01"));
    lax(K::Mac, "52:54:00:00:00:01 x", mac("52:54:00:00:00:01"), Laxity::TextAfterMac);
    for text in [
        "",
        " 52:54:00:00:00:01",
        "52:54:00:00:00:01:",
        "52:54:00:00:00",
        "52-54-00-00-00-01",
        "5254.0000.0001",
        "052:54:0:0:0:1",
        "0x:1:1:1:1:1",
    ] {
        bad(K::Mac, text, "invalid-mac-address");
    }
}

#[test]
fn mac_masks_have_ones_first() {
    for text in ["ff:ff:ff:00:00:00", "ff:ff:f0:0:0:0", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
        good(K::MacMask, text, mac(text));
    }
    for text in ["01:00:00:00:00:00", "ff:00:ff:00:00:00", "24", ""] {
        bad(K::MacMask, text, "invalid-mac-mask");
    }
}

#[test]
fn ipv4_addresses_are_dotted_quads() {
    good(K::Ipv4, "10.1.2.3", v4("10.1.2.3"));
    for (text, address) in [("10.1", "10.0.0.1"), ("010.1.1.1", "8.1.1.1"), ("0x0a.1.1.1", "10.1.1.1"), ("3232237063", "192.168.6.7")] {
        let Literal::Ipv4(read) = v4(address) else { unreachable!("`v4` makes nothing else") };
        lax(K::Ipv4, text, v4(address), Laxity::ClassicIpv4(read));
    }
    for text in ["", "10.1.1.256", "10.1.1.1 ", " 10.1.1.1", "10.1.1.1/24", "::1", "localhost", "10..1", "08.1.1.1"] {
        bad(K::Ipv4, text, "invalid-ipv4-address");
    }
}

#[test]
fn ipv4_masks_are_prefixes_or_contiguous() {
    for (text, prefix) in [("0", 0), ("24", 24), ("024", 24), (" +24", 24), ("32", 32), ("255.255.240.0", 20), ("0.0.0.0", 0)] {
        good(K::Ipv4Mask, text, Literal::Prefix(prefix));
    }
    lax(K::Ipv4Mask, "0xffffff00", Literal::Prefix(24), Laxity::ClassicIpv4(Ipv4Addr::new(255, 255, 255, 0)));
    lax(K::Ipv4Mask, "0377.0.0.0", Literal::Prefix(8), Laxity::ClassicIpv4(Ipv4Addr::new(255, 0, 0, 0)));
    lax(K::Ipv4Mask, "-0", Literal::Prefix(0), Laxity::NegativeNumber(0));
    for text in ["", "33", "-1", "0x18", "18 ", "255.0.255.0", "255.255", "ffff::"] {
        bad(K::Ipv4Mask, text, "invalid-ipv4-mask");
    }
}

#[test]
fn ipv6_addresses_have_no_scope_and_no_brackets() {
    for (text, address) in [("FE80::A", "fe80::a"), ("::10.1.1.1", "::a01:101"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0")] {
        good(K::Ipv6, text, v6(address));
    }
    for text in ["", "[::1]", "fe80::1%lo", "::1 ", "1.2.3.4", "12345::", "1::2::3", "::010.1.1.1", "::1/64"] {
        bad(K::Ipv6, text, "invalid-ipv6-address");
    }
}

#[test]
fn ipv6_masks_are_prefixes_or_contiguous() {
    for (text, prefix) in [("0", 0), ("064", 64), (" 128", 128), ("ffff:ffff::", 32), ("::", 0)] {
        good(K::Ipv6Mask, text, Literal::Prefix(prefix));
    }
    for text in ["", "129", "ff0f::", "255.255.0.0", "-1", "/64"] {
        bad(K::Ipv6Mask, text, "invalid-ipv6-mask");
    }
}

#[test]
fn flags_that_are_neither_yes_nor_no_are_questionable() {
    for (text, flag) in [("true", true), ("1", true), ("yes", true), ("false", false), ("0", false), ("no", false)] {
        good(K::Flag, text, Literal::Flag(flag));
    }
    for text in ["True", "YES", "on", "", " yes"] {
        lax(K::Flag, text, Literal::Flag(false), Laxity::UnknownFlag);
    }
}

#[test]
fn tcp_flags_are_two_loose_lists() {
    for (text, mask, set) in [
        ("SYN/ACK", 2, 16),
        ("syn,ack/SYN", 18, 2),
        ("SYNACK/SYN", 18, 2),
        (" SYN , ACK / SYN ", 18, 2),
        (",SYN,,/", 2, 0),
        ("/", 0, 0),
        ("ALL/NONE", 63, 0),
        ("none,syn/all", 2, 63),
        ("FIN RST PSH URG/URG", 45, 32),
    ] {
        good(K::TcpFlags, text, Literal::TcpFlags(mask, set));
    }
    for text in ["", "SYN", "SYN/ACK/FIN", "SYN;ACK/SYN", "FIN|SYN/ACK", "bogus/SYN", "SY/N", "é/SYN"] {
        bad(K::TcpFlags, text, "invalid-tcp-flags");
    }
}

#[test]
fn states_are_a_loose_list() {
    let none = States::default();
    let fresh = States { new: true, ..none };
    for (text, states) in [
        ("NEW", fresh),
        ("new,established", States { established: true, ..fresh }),
        ("NEWRELATED", States { related: true, ..fresh }),
        (" ,NEW,,RELATED, ", States { related: true, ..fresh }),
        ("INVALID", States { invalid: true, ..none }),
        ("NONE,NEW", States { none: true, ..fresh }),
        ("", none),
        (" ", none),
    ] {
        good(K::States, text, Literal::States(states));
    }
    for text in ["bogus", "NEW;RELATED", "NEWER", "ÑEW"] {
        bad(K::States, text, "invalid-state");
    }
}

#[test]
fn set_names_have_up_to_31_plain_characters() {
    for text in ["a", "-a", "+a", "a.b_c:d-e", &"x".repeat(31)] {
        good(K::SetName, text, Literal::Text(text.into()));
    }
    lax(K::SetName, "a b", Literal::Text("a b".into()), Laxity::BlankInSetName);
    for text in ["", "a/b", "a,b", "a\nb", "a'b", "é", &"x".repeat(32)] {
        bad(K::SetName, text, "invalid-set-name");
    }
}

#[test]
fn set_directions_are_one_to_six_strict_words() {
    use SetDirection::{Destination, Source};
    good(K::SetDirections, "src", Literal::SetDirections(vec![Source]));
    good(K::SetDirections, "SRC,dst", Literal::SetDirections(vec![Source, Destination]));
    good(K::SetDirections, "dst,dst,dst,dst,dst,dst", Literal::SetDirections(vec![Destination; 6]));
    for text in ["", "src,", ",src", "src dst", "src, dst", " src", "both", "src,src,src,src,src,src,src"] {
        bad(K::SetDirections, text, "invalid-set-directions");
    }
}

#[test]
fn comments_are_one_line_of_at_most_255_bytes() {
    for text in ["", "tick `x` and $(y) \"q\" 'p' \\", &"x".repeat(255)] {
        good(K::Comment, text, Literal::Text(text.into()));
    }
    lax(K::Comment, &"x".repeat(256), Literal::Text("x".repeat(255).into()), Laxity::LongComment);
    // 254 bytes and a character of two: cut before it, never through it.
    let split = format!("{}é", "x".repeat(254));
    lax(K::Comment, &split, Literal::Text("x".repeat(254).into()), Laxity::LongComment);
    for text in ["a\nb", "a\rb", "a\tb", "a\u{0}b", "a\u{7f}b", "a\u{85}b"] {
        bad(K::Comment, text, "control-character-in-comment");
    }
}
